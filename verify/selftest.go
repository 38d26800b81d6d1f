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
	Fault string  `json:"fault"`
	Found Outcome `json:"found"`
	As    string  `json:"as"` // how the verifier reported it
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
	name string
	want reconcile.Status
	do   func(rs []dataset.Record) []dataset.Record
}

// recordFaults are planted on the restored side.
var recordFaults = []recordFault{
	{"a record dropped", reconcile.Missing, func(rs []dataset.Record) []dataset.Record { return slices.Delete(rs, 1, 2) }},
	{"a record altered", reconcile.Mismatch, func(rs []dataset.Record) []dataset.Record {
		rs[1].Data = alter(rs[1].Data)
		return rs
	}},
	{"a record duplicated", reconcile.Repeated, func(rs []dataset.Record) []dataset.Record { return append(rs, rs[1]) }},
	{"a record added", reconcile.Extra, func(rs []dataset.Record) []dataset.Record {
		r := rs[1]
		r.Key += "\x00planted"
		return append(rs, r)
	}},
	{"two records swapped", reconcile.Mismatch, func(rs []dataset.Record) []dataset.Record {
		rs[0].Data, rs[2].Data = alter(rs[2].Data), alter(rs[0].Data)
		rs[0].Blob, rs[2].Blob = rs[2].Blob, rs[0].Blob
		return rs
	}},
	{"the bytes of an object altered", reconcile.Mismatch, func(rs []dataset.Record) []dataset.Record {
		rs[1].Blob = &dataset.Blob{SHA256: dataset.Sum([]byte("planted"))}
		return rs
	}},
}

// alter adds a field to an object.
func alter(data []byte) []byte {
	if bytes.Equal(data, []byte("{}")) {
		return []byte(`{"planted fault":1}`)
	}
	return append(slices.Clone(data[:len(data)-1]), `,"planted fault":1}`...)
}

func plantRecord(ctx context.Context, s dataset.Stream, sample []dataset.Record, f recordFault) (Planted, error) {
	r, err := reconcile.New(s, "", time.Time{})
	if err != nil {
		return Planted{}, err
	}
	defer r.Close()
	err = errors.Join(
		r.Add(ctx, reconcile.Archived, sequence(sample)),
		r.Add(ctx, reconcile.Restored, sequence(f.do(slices.Clone(sample)))))
	if err != nil {
		return Planted{}, err
	}
	c, err := r.Compare(ctx)
	if err != nil {
		return Planted{}, err
	}
	p := Planted{Fault: f.name, Found: Fail}
	for _, d := range c.Differences {
		if d.Status == f.want || s.Keyless && d.Status.Bad() {
			p.Found, p.As = Pass, string(d.Status)
		}
	}
	return p, nil
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

// plantStored plants faults in a small archive of its own keys.
func plantStored(ctx context.Context, sample []dataset.Record) ([]Planted, error) {
	a, st, err := smallArchive(ctx, sample)
	if err != nil {
		return nil, fmt.Errorf("make an archive to damage: %w", err)
	}
	var pack, decision string
	for _, n := range st.Names() {
		switch archive.ParseName(n).Class {
		case archive.PackObject:
			pack = n
		case archive.DecisionObject:
			decision = n
		}
	}
	faults := []struct {
		name   string
		object string
		do     func(c *archivetest.Memory)
	}{
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
		{"a manifest altered", decision, func(c *archivetest.Memory) {
			c.Put(decision, bytes.Replace(c.Bytes(decision), []byte(`"sequence": 1`), []byte(`"sequence": 9`), 1))
		}},
	}
	planted := make([]Planted, 0, len(faults))
	for _, f := range faults {
		c := st.Clone()
		f.do(c)
		r, err := Check{Archive: &archive.Archive{Store: c, ID: a.ID, Trust: a.Trust}}.Run(ctx)
		if err != nil {
			return nil, err
		}
		p := Planted{Fault: f.name, Found: Fail}
		for _, found := range r.Findings {
			if f.object == "" || found.Object == f.object {
				p.Found, p.As = Pass, found.Detail
			}
		}
		planted = append(planted, p)
	}
	return planted, nil
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
	w, err := archive.Begin(ctx, a, archive.Options{Service: selfTestService, Exporter: "self-test", Classification: "OFFICIAL",
		Product: "sallyport", Signer: signer, Recipients: seal})
	if err != nil {
		return nil, nil, err
	}
	sw, err := w.Stream(dataset.Stream{Name: "sample"}, 1)
	if err != nil {
		return nil, nil, err
	}
	for _, r := range sample {
		if err := sw.Section(0).Entry(ctx, archive.Entry{Key: r.Key, Ordinal: r.Ordinal, Data: r.Data}); err != nil {
			return nil, nil, err
		}
	}
	_, err = w.Commit(ctx, archive.Summary{})
	return a, st, err
}
