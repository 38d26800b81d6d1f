package retention

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/verify"
)

// A KeyTest says who opens one run key.
type KeyTest struct {
	Key       archive.KeyRef  `json:"key"`
	Snapshots []archive.RunID `json:"snapshots"` // un-expired, that need it
	Opened    []string        `json:"opened"`    // names of the identities that opened it
	SealedTo  []string        `json:"sealed_to"` // by the signed statements
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
	keys, err := keysOf(ctx, a, service)
	if err != nil {
		return nil, err
	}
	tests := make([]KeyTest, 0, len(keys))
	for _, k := range keys {
		t := KeyTest{Key: k, Snapshots: []archive.RunID{}, Opened: []string{}}
		for _, d := range all.All {
			if slices.ContainsFunc(d.Manifest.Keys, func(o archive.KeyRef) bool { return o.ID == k.ID }) {
				t.Snapshots = append(t.Snapshots, d.Run)
			}
		}
		for _, id := range identities {
			switch _, err := a.OpenKey(ctx, service, k, id.Opener); {
			case err == nil:
				t.Opened = append(t.Opened, id.Name)
			case !errors.Is(err, crypto.ErrNoKey):
				return nil, fmt.Errorf("key %s with %s: %w", k.ID, id.Name, err)
			}
		}
		statements, err := a.Statements(ctx, service, k.ID)
		if err != nil {
			return nil, err
		}
		for _, s := range statements {
			t.SealedTo = append(t.SealedTo, s.SealedTo...)
		}
		slices.Sort(t.SealedTo)
		t.SealedTo = slices.Compact(t.SealedTo)
		tests = append(tests, t)
	}
	return tests, nil
}
