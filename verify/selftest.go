package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/archive/archivetest"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/reconcile"
)

// Planted is a fault that was planted in a copy, and whether the verifier found it.
type Planted struct {
	Fault string  `json:"fault" doc:"What was done to the copy."`
	Found Outcome `json:"found" doc:"Whether the verifier found it."`
	As    string  `json:"as" doc:"How the verifier reported it."`
}

// sampleSize is how many records of a snapshot faults are planted among.
const sampleSize = 200

// SelfTest plants faults in copies of a sample of a snapshot, and of a small archive
// made for the purpose, and sees whether the verifier finds them. It reads the
// snapshot and writes nowhere but in memory.
func SelfTest(ctx context.Context, s *archive.Snapshot) ([]Planted, error) {
	stream, sample, err := sampleOf(ctx, s)
	if err != nil {
		return nil, fmt.Errorf("take a sample: %w", err)
	}
	planted := []Planted{}
	for _, f := range recordFaults {
		p, err := plantRecord(ctx, stream, sample, f)
		if err != nil {
			return nil, err
		}
		planted = append(planted, p)
	}
	more, err := plantStored(ctx, sample)
	return append(planted, more...), err
}

// sampleOf takes the first records of the snapshot's largest stream, and makes some up
// where there are too few to swap.
func sampleOf(ctx context.Context, s *archive.Snapshot) (dataset.Stream, []dataset.Record, error) {
	var largest *archive.StreamEntry
	for i := range s.Descriptor.Resources {
		if e := &s.Descriptor.Resources[i].Sallyport; largest == nil || e.Records > largest.Records {
			largest = e
		}
	}
	stream := dataset.Stream{Name: "sample"}
	var sample []dataset.Record
	if largest != nil {
		stream = largest.Stream
		for r, err := range s.Records(ctx, largest) {
			if err != nil {
				return stream, nil, err
			}
			r.Data = slices.Clone(r.Data)
			if sample = append(sample, r); len(sample) == sampleSize {
				break
			}
		}
	}
	for i := 0; len(sample) < 5; i++ {
		sample = append(sample, dataset.Record{Stream: stream.Name, Key: fmt.Sprintf("made up %d", i), Data: fmt.Appendf(nil, `{"made up":%d}`, i)})
	}
	return stream, sample, nil
}

// A recordFault changes a copy of records.
type recordFault struct {
	name    string
	want    reconcile.Status
	prepare func(rs []dataset.Record) []dataset.Record // what both sides need first; may be nil
	do      func(rs []dataset.Record) []dataset.Record
	at      []int // records of the sample that are to be named, and no others
}

// recordFaults are planted on the restored side.
var recordFaults = []recordFault{
	{name: "a record dropped", want: reconcile.Missing, at: []int{1},
		do: func(rs []dataset.Record) []dataset.Record { return slices.Delete(rs, 1, 2) }},
	{name: "a record altered", want: reconcile.Mismatch, at: []int{1},
		do: func(rs []dataset.Record) []dataset.Record {
			rs[1].Data = alter(rs[1].Data)
			return rs
		}},
	{name: "a record duplicated", want: reconcile.Repeated, at: []int{1},
		do: func(rs []dataset.Record) []dataset.Record { return append(rs, rs[1]) }},
	{name: "a record added", want: reconcile.Extra, at: []int{-1},
		do: func(rs []dataset.Record) []dataset.Record {
			r := rs[1]
			r.Key += plantedKey
			return append(rs, r)
		}},
	{name: "two records swapped", want: reconcile.Mismatch, at: []int{0, 2},
		prepare: func(rs []dataset.Record) []dataset.Record {
			rs[0].Data = alter(rs[0].Data) // so that the two differ
			return rs
		},
		do: func(rs []dataset.Record) []dataset.Record {
			rs[0].Data, rs[2].Data = rs[2].Data, rs[0].Data
			rs[0].Blob, rs[2].Blob = rs[2].Blob, rs[0].Blob
			return rs
		}},
	{name: "the bytes of an object altered", want: reconcile.Mismatch, at: []int{1},
		do: func(rs []dataset.Record) []dataset.Record {
			rs[1].Blob = &dataset.Blob{SHA256: dataset.Sum([]byte("planted"))}
			return rs
		}},
	{name: "the metadata of a record changed", want: reconcile.Mismatch, at: []int{1},
		prepare: func(rs []dataset.Record) []dataset.Record {
			rs[1].Data = alter(rs[1].Data)
			return rs
		},
		do: func(rs []dataset.Record) []dataset.Record {
			rs[1].Data = bytes.Replace(rs[1].Data, []byte(plantedField+":1"), []byte(plantedField+":2"), 1)
			return rs
		}},
	{name: "an older version missing", want: reconcile.Missing, at: []int{1},
		prepare: func(rs []dataset.Record) []dataset.Record {
			newer := rs[1]
			newer.Ordinal += 1 << 20
			newer.Data = alter(newer.Data)
			return append(rs, newer)
		},
		do: func(rs []dataset.Record) []dataset.Record { return slices.Delete(rs, 1, 2) }},
}

// What planted records and fields are called: nothing that a source would have.
const (
	plantedKey   = "\x00planted"
	plantedField = `"planted fault"`
)

// alter adds a field to an object.
func alter(data []byte) []byte {
	if bytes.Equal(data, []byte("{}")) {
		return []byte(`{` + plantedField + `:1}`)
	}
	return append(slices.Clone(data[:len(data)-1]), `,`+plantedField+`:1}`...)
}

// plantRecord plants one fault, and sees whether it is named, and nothing else is. With
// do taken out nothing may be named.
func plantRecord(ctx context.Context, s dataset.Stream, sample []dataset.Record, f recordFault) (Planted, error) {
	left := slices.Clone(sample)
	if f.prepare != nil {
		left = f.prepare(left)
	}
	clean, err := differences(ctx, s, left, slices.Clone(left))
	if err != nil {
		return Planted{}, err
	}
	found, err := differences(ctx, s, left, f.do(slices.Clone(left)))
	if err != nil {
		return Planted{}, err
	}
	p := Planted{Fault: f.name, Found: Pass, As: string(f.want)}
	for _, i := range f.at {
		key := sample[1].Key + plantedKey
		if i >= 0 {
			key = sample[i].Key
		}
		if !slices.ContainsFunc(found, func(d reconcile.Difference) bool {
			return d.Key == key && (d.Status == f.want || s.Keyless && d.Status.Bad())
		}) {
			p.Found, p.As = Fail, "nothing of the kind"
		}
	}
	if len(clean) > 0 || len(found) != len(f.at) {
		p.Found, p.As = Fail, fmt.Sprintf("%d differences, of which %d without a fault", len(found), len(clean))
	}
	return p, nil
}

// differences compares two sequences as an archive and its restored copy.
func differences(ctx context.Context, s dataset.Stream, archived, restored []dataset.Record) ([]reconcile.Difference, error) {
	r, err := reconcile.New(s, "", time.Time{})
	if err != nil {
		return nil, err
	}
	defer r.Close()
	err = errors.Join(
		r.Add(ctx, reconcile.Archived, sequence(archived)),
		r.Add(ctx, reconcile.Restored, sequence(restored)))
	if err != nil {
		return nil, err
	}
	c, err := r.Compare(ctx)
	if err != nil {
		return nil, err
	}
	return c.Differences, nil
}

func sequence(rs []dataset.Record) iter.Seq2[dataset.Record, error] {
	return func(yield func(dataset.Record, error) bool) {
		for _, r := range rs {
			if !yield(r, nil) {
				return
			}
		}
	}
}

// A storedFault changes a copy of an archive.
type storedFault struct {
	name   string
	object string // that is to be named; empty means any
	do     func(c *archivetest.Memory)
}

// plantStored plants faults in a small archive of its own keys.
func plantStored(ctx context.Context, sample []dataset.Record) ([]Planted, error) {
	a, st, err := smallArchive(ctx, sample)
	if err != nil {
		return nil, fmt.Errorf("make an archive to damage: %w", err)
	}
	head, faults, err := storedFaults(ctx, a, st)
	if err != nil {
		return nil, err
	}
	planted := make([]Planted, 0, len(faults))
	for _, f := range faults {
		c := st.Clone()
		f.do(c)
		check := Check{Archive: &archive.Archive{Store: c, ID: a.ID, Trust: a.Trust}, Pins: map[string][]Pin{selfTestService: {head}}}
		r, err := check.Run(ctx)
		if err != nil {
			return nil, err
		}
		p := Planted{Fault: f.name, Found: Fail, As: "nothing of the kind"}
		for _, found := range r.Findings {
			if f.object == "" || found.Object == f.object {
				p.Found, p.As = Pass, found.Detail
			}
		}
		planted = append(planted, p)
	}
	return planted, nil
}

// storedFaults returns what to do to an archive of two snapshots, and its head.
func storedFaults(ctx context.Context, a *archive.Archive, st *archivetest.Memory) (head Pin, faults []storedFault, err error) {
	all, err := a.Snapshots(ctx, selfTestService)
	if err != nil {
		return head, nil, err
	}
	if len(all.All) != 2 || len(all.Heads) != 1 {
		return head, nil, fmt.Errorf("%d snapshots instead of two", len(all.All))
	}
	newest := all.Heads[0]
	head = Pin{newest.Hash, newest.Run, newest.Manifest.Sequence}
	decision := archive.DecisionName(selfTestService, newest.Run)
	var pack string
	for _, n := range st.Names() {
		if archive.ParseName(n).Class == archive.PackObject {
			pack = n
		}
	}
	return head, []storedFault{
		{"a bit of a pack flipped", pack, func(c *archivetest.Memory) {
			b := bytes.Clone(c.Bytes(pack))
			b[len(b)/2] ^= 1
			c.Put(pack, b)
		}},
		{"a pack deleted", pack, func(c *archivetest.Memory) { c.Put(pack, nil) }},
		{"a snapshot replayed as another service's", "", func(c *archivetest.Memory) {
			for _, n := range c.Names() {
				if rest, ok := strings.CutPrefix(n, selfTestService+"/"); ok {
					c.Put("replayed/"+rest, c.Bytes(n))
				}
			}
		}},
		{"an older snapshot replayed as the newest", "", func(c *archivetest.Memory) { c.Put(decision, nil) }},
		{"a manifest altered", decision, func(c *archivetest.Memory) {
			c.Put(decision, bytes.Replace(c.Bytes(decision), []byte(`"sequence": 2`), []byte(`"sequence": 9`), 1))
		}},
	}, nil
}

const selfTestService = "self-test"

// smallArchive writes records into an archive in memory under keys that are forgotten.
func smallArchive(ctx context.Context, sample []dataset.Record) (*archive.Archive, *archivetest.Memory, error) {
	st := new(archivetest.Memory)
	private, public, err := crypto.GenerateSigningKey("self-test")
	if err != nil {
		return nil, nil, err
	}
	signer, err := crypto.ParseSigner(private)
	if err != nil {
		return nil, nil, err
	}
	trust, err := crypto.ParseAllowedSigners([]byte(`self-test namespaces="sallyport-*" `+public), "self-test")
	if err != nil {
		return nil, nil, err
	}
	_, recipient, err := crypto.GenerateIdentity(false)
	if err != nil {
		return nil, nil, err
	}
	seal, err := crypto.NewSealer(recipient)
	if err != nil {
		return nil, nil, err
	}
	if _, err := archive.Init(ctx, st, signer, time.Now()); err != nil {
		return nil, nil, err
	}
	a, err := archive.Open(ctx, st, trust)
	if err != nil {
		return nil, nil, err
	}
	for range 2 {
		if err := smallSnapshot(ctx, a, signer, seal, sample); err != nil {
			return nil, nil, err
		}
	}
	return a, st, nil
}

// smallSnapshot writes records as one snapshot.
func smallSnapshot(ctx context.Context, a *archive.Archive, signer *crypto.Signer, seal *crypto.Sealer, sample []dataset.Record) error {
	w, err := archive.Begin(ctx, a, archive.Options{Service: selfTestService, Exporter: "self-test", Classification: "OFFICIAL",
		Product: "sallyport", Signer: signer, Recipients: seal})
	if err != nil {
		return err
	}
	sw, err := w.Stream(dataset.Stream{Name: "sample"}, 1)
	if err != nil {
		return err
	}
	for _, r := range sample {
		if err := sw.Section(0).Entry(ctx, archive.Entry{Key: r.Key, Ordinal: r.Ordinal, Data: r.Data}); err != nil {
			return err
		}
	}
	_, err = w.Commit(ctx, archive.Summary{})
	return err
}
