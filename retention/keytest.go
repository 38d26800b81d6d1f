package retention

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/verify"
)

// A KeyTest says who opens one run key.
type KeyTest struct {
	Key       archive.KeyRef  `json:"key"`
	Snapshots []archive.RunID `json:"snapshots"`          // un-expired, that need it, in order
	Opened    []string        `json:"opened"`             // names of the identities that opened it
	SealedTo  []string        `json:"sealed_to"`          // whom the files that are there are sealed to, by the signed statements
	Problems  []string        `json:"problems,omitempty"` // files that are missing or damaged, and plug-ins that failed
}

// TestKeys tries every identity on every key that un-expired snapshots of a service need.
// What opens a key is proven by opening it; statements are only what somebody said.
func TestKeys(ctx context.Context, a *archive.Archive, service string, identities []verify.Identity) ([]KeyTest, error) {
	all, err := a.Snapshots(ctx, service)
	if err == nil && len(all.Bad) > 0 {
		err = errors.Join(all.Bad...)
	}
	if err != nil {
		return nil, err
	}
	keys, needed := keysNeeded(all.All)
	tests := make([]KeyTest, len(keys))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(keysAtOnce)
	if slices.ContainsFunc(identities, func(id verify.Identity) bool { return len(id.Opener.Recipients()) == 0 }) {
		g.SetLimit(1) // a plug-in's token answers one question at a time
	}
	for i, k := range keys {
		g.Go(func() (err error) {
			tests[i], err = testKey(gctx, a, service, k, identities)
			tests[i].Snapshots = needed[k.ID]
			return err
		})
	}
	return tests, g.Wait()
}

// keysNeeded returns the keys that snapshots need, each once, by id, and which need each.
func keysNeeded(all []*archive.Decision) ([]archive.KeyRef, map[dataset.Hash][]archive.RunID) {
	byID := map[dataset.Hash]archive.KeyRef{}
	needed := map[dataset.Hash][]archive.RunID{}
	for _, d := range all {
		for _, k := range d.Manifest.Keys {
			byID[k.ID] = k
			needed[k.ID] = append(needed[k.ID], d.Run)
		}
	}
	keys := make([]archive.KeyRef, 0, len(byID))
	for _, k := range byID {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b archive.KeyRef) int { return slices.Compare(a.ID[:], b.ID[:]) })
	return keys, needed
}

// testKey tries identities on all sealed files of one key.
func testKey(ctx context.Context, a *archive.Archive, service string, k archive.KeyRef, identities []verify.Identity) (KeyTest, error) {
	t := KeyTest{Key: k, Opened: []string{}, SealedTo: []string{}}
	sealed, err := sealedFiles(ctx, a, service, &t)
	if err != nil {
		return t, fmt.Errorf("key %s: %w", k.ID, err)
	}
	for _, id := range identities {
		var wrong error
		for _, file := range sealed {
			_, err := crypto.OpenRunKey(id.Opener, file, k.ID)
			if err == nil {
				t.Opened, wrong = append(t.Opened, id.Name), nil
				break
			}
			if !errors.Is(err, crypto.ErrNoKey) {
				wrong = err
			}
		}
		if wrong != nil {
			t.Problems = append(t.Problems, id.Name+": "+wrong.Error())
		}
	}
	statements, err := a.Statements(ctx, service, k.ID)
	if err != nil {
		return t, fmt.Errorf("key %s: %w", k.ID, err)
	}
	for _, s := range statements {
		if _, there := sealed[s.SHA256]; there {
			t.SealedTo = append(t.SealedTo, s.SealedTo...)
		}
	}
	slices.Sort(t.SealedTo)
	t.SealedTo = slices.Compact(t.SealedTo)
	return t, nil
}

// sealedFiles reads the sealed files of a key, and notes those that are no use.
func sealedFiles(ctx context.Context, a *archive.Archive, service string, t *KeyTest) (map[dataset.Hash][]byte, error) {
	sealed := map[dataset.Hash][]byte{}
	for info, err := range a.Store.List(ctx, service+"/keys/"+t.Key.ID.String()+"/") {
		if err != nil {
			return nil, fmt.Errorf("list: %w", err)
		}
		n := archive.ParseName(info.Name)
		if n.Class != archive.KeyObject || info.Later || info.Marker {
			continue
		}
		file, err := a.Read(ctx, info.Name)
		switch {
		case isJunk(err), errors.Is(err, fs.ErrNotExist):
			t.Problems = append(t.Problems, err.Error())
		case err != nil:
			return nil, err
		default:
			sealed[n.Hash] = file
		}
	}
	if len(sealed) == 0 {
		t.Problems = append(t.Problems, "none of its sealed files is there")
	}
	return sealed, nil
}

// A Reader says what one identity reads of the un-expired snapshots of a service.
type Reader struct {
	Identity string `json:"identity"`
	Contents int    `json:"contents"` // snapshots of which it opens every key
	Names    int    `json:"names"`    // further ones of which it opens the index: names, sizes and hashes, and no contents
	Nothing  int    `json:"nothing"`
}

// Readers sums up tests by identity.
func Readers(tests []KeyTest, identities []verify.Identity) []Reader {
	type missing struct{ data, index bool }
	list := make([]Reader, len(identities))
	for i, id := range identities {
		snapshots := map[archive.RunID]missing{}
		for _, t := range tests {
			opened := slices.Contains(t.Opened, id.Name)
			for _, r := range t.Snapshots {
				m := snapshots[r]
				m.data = m.data || !opened && t.Key.Role == archive.DataRole
				m.index = m.index || !opened && t.Key.Role == archive.IndexRole
				snapshots[r] = m
			}
		}
		list[i].Identity = id.Name
		for _, m := range snapshots {
			switch {
			case m.index:
				list[i].Nothing++
			case m.data:
				list[i].Names++
			default:
				list[i].Contents++
			}
		}
	}
	return list
}
