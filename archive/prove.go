package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"

	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
)

const proofFormat = "sallyport-proof/1"

// A RecordProof shows one record of a snapshot to somebody who has no key and no
// archive: the record's line, its way to the root, and the signed manifest that states
// the root. It tells nothing of other records but how many there are.
type RecordProof struct {
	Format     string        `json:"format"`
	Stream     string        `json:"stream"`
	Line       string        `json:"line"` // without location, as the proof covers it
	Proof      dataset.Proof `json:"proof"`
	Manifest   string        `json:"manifest"`   // the document, byte for byte
	Signatures []string      `json:"signatures"` // of the manifest, armored
}

// Prove makes the proof of one record: the version with the given ordinal, or with -1
// the newest. It fails with [fs.ErrNotExist] if there is none.
func (s *Snapshot) Prove(ctx context.Context, e *StreamEntry, key string, ordinal int) (*RecordProof, error) {
	p := &RecordProof{Format: proofFormat, Stream: e.Stream.Name, Manifest: string(s.Doc)}
	var sums []dataset.PartSum
	at := -1
	for part, err := range s.Parts(ctx, e.Table) {
		if err != nil {
			return nil, err
		}
		sums = append(sums, dataset.PartSum{Root: part.Root, Count: uint64(part.Count)})
		if at >= 0 {
			continue
		}
		found, err := s.proveIn(ctx, e, &part, key, ordinal, p)
		if err != nil {
			return nil, err
		}
		if found {
			at = len(sums) - 1
		}
	}
	if at < 0 {
		return nil, fmt.Errorf("key %q in stream %q: %w", key, e.Stream.Name, fs.ErrNotExist)
	}
	var err error
	if p.Proof.Stream, err = dataset.ProveStream(each(sums), uint64(at)); err != nil {
		return nil, err
	}
	if err := s.proveStream(e, p); err != nil {
		return nil, err
	}
	sigs, err := s.a.Signatures(ctx, s.Service, s.Hash, nsManifest)
	for _, sig := range sigs {
		p.Signatures = append(p.Signatures, string(sig.Text))
	}
	return p, err
}

// proveIn looks for the record in one part, and proves it there.
func (s *Snapshot) proveIn(ctx context.Context, e *StreamEntry, part *PartEntry, key string, ordinal int, p *RecordProof) (bool, error) {
	if e.Stream.Blobs && (key < string(part.First) || key > string(part.Last)) {
		return false, nil
	}
	text, err := s.Lines(ctx, part)
	if err != nil {
		return false, err
	}
	index, i := -1, 0
	for r, err := range s.PartRecords(ctx, e, part, text) {
		if err != nil {
			return false, err
		}
		if r.Key == key && (ordinal < 0 || r.Ordinal == ordinal) {
			index = i
			break
		}
		i++
	}
	if index < 0 {
		return false, nil
	}
	var lines [][]byte
	for line := range bytes.Lines(text) {
		line = bytes.TrimSuffix(line, []byte{'\n'})
		if Enveloped(&e.Stream) {
			line = provenLine(nil, line)
		}
		lines = append(lines, line)
	}
	p.Line = string(lines[index])
	p.Proof.Blind, p.Proof.Part, err = dataset.ProvePart(part.Salt, each(lines), uint64(index))
	return true, err
}

// proveStream proves the stream in the snapshot.
func (s *Snapshot) proveStream(e *StreamEntry, p *RecordProof) error {
	var sums []dataset.StreamSum
	at := 0
	for i, r := range s.Descriptor.Resources {
		sums = append(sums, dataset.StreamSum{Name: r.Title, Root: r.Sallyport.Root})
		if r.Title == e.Stream.Name {
			at = i
		}
	}
	p.Proof.Name = dataset.Sum([]byte(e.Stream.Name))
	var err error
	p.Proof.Whole, err = dataset.ProveSnapshot(sums, uint64(at))
	return err
}

func each[T any](list []T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, v := range list {
			if !yield(v, nil) {
				return
			}
		}
	}
}

// Encode returns the proof as a document.
func (p *RecordProof) Encode() ([]byte, error) { return encode(p) }

// CheckProof checks a proof offline: it parses strictly, the manifest is signed by
// somebody whom trust allows to, and the line leads to the manifest's root. It fails
// with an [IntegrityError].
func CheckProof(doc []byte, trust *crypto.Verifier) (*RecordProof, *Manifest, crypto.Identity, error) {
	fail := func(err error) (*RecordProof, *Manifest, crypto.Identity, error) {
		return nil, nil, crypto.Identity{}, &IntegrityError{"proof", err}
	}
	var p RecordProof
	if err := decodeAs(doc, &p, &p.Format, proofFormat); err != nil {
		return fail(err)
	}
	m, err := ParseManifest([]byte(p.Manifest))
	if err != nil {
		return fail(err)
	}
	var who crypto.Identity
	bad := []error{errors.New("the manifest has no valid signature")}
	for _, sig := range p.Signatures {
		if who, err = trust.Verify(nsManifest, []byte(p.Manifest), []byte(sig), m.Ended.Time); err == nil {
			bad = nil
			break
		}
		bad = append(bad, err)
	}
	if bad != nil {
		return fail(errors.Join(bad...))
	}
	if p.Proof.Name != dataset.Sum([]byte(p.Stream)) {
		return fail(errors.New("names another stream than it proves"))
	}
	if p.Proof.Whole.Size != uint64(m.Counts.Streams) {
		return fail(errors.New("has another number of streams than the manifest"))
	}
	if err := p.Proof.Check([]byte(p.Line), m.Root); err != nil {
		return fail(err)
	}
	return &p, m, who, nil
}
