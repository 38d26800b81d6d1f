package verify

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
)

// A Verification decrypts and decodes everything that a snapshot holds: every part is
// held against its hash and root, every line parsed, every blob against its hash, and
// every count against the descriptor and the manifest.
type Verification struct {
	Snapshot *archive.Snapshot          // unlocked
	Parallel int                        // blobs read at once; 0 means 8
	Progress func(records, bytes int64) // may be nil; called from any goroutine
}

// A VerifyReport says what a verification found.
type VerifyReport struct {
	Content  Outcome   `json:"content"`
	Findings []Finding `json:"findings"`
	Records  int64     `json:"records"`
	Blobs    int64     `json:"blobs"`
	Bytes    int64     `json:"bytes"` // of lines and blobs
	Parts    int64     `json:"parts"`
}

// A verifyRun is a verification that is going on.
type verifyRun struct {
	Verification
	mu  sync.Mutex
	out *VerifyReport
}

func (v *verifyRun) find(object, format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.out.Findings = append(v.out.Findings, Finding{object, fmt.Sprintf(format, args...)})
}

// Run verifies. Damage is a finding; an error means that it could not be found out.
func (v Verification) Run(ctx context.Context) (*VerifyReport, error) {
	r := &verifyRun{Verification: v, out: &VerifyReport{Findings: []Finding{}}}
	err := r.snapshot(ctx)
	switch {
	case len(r.out.Findings) > 0:
		r.out.Content = Fail
	case err != nil:
		r.out.Content = Unknown
	default:
		r.out.Content = Pass
	}
	return r.out, err
}

func (v *verifyRun) snapshot(ctx context.Context) error {
	s := v.Snapshot
	var root dataset.SnapshotRoot
	var counts archive.Counts
	for _, r := range s.Descriptor.Resources {
		if err := v.stream(ctx, &r.Sallyport); err != nil {
			if !v.damage(r.Title, err) {
				return err
			}
		}
		if err := root.Add(r.Title, r.Sallyport.Root); err != nil {
			v.find("descriptor", "%v", err)
		}
		counts.Streams++
		counts.Records += r.Sallyport.Records
		counts.Blobs += r.Sallyport.Blobs
		counts.BlobBytes += r.Sallyport.Bytes
		counts.Parts += r.Sallyport.Parts
	}
	if got := root.Root(); got != s.Manifest.Root {
		v.find("manifest", "the root of its streams is %s, it says %s", got, s.Manifest.Root)
	}
	m := s.Manifest.Counts
	if counts.Streams != m.Streams || counts.Records != m.Records || counts.Blobs != m.Blobs || counts.BlobBytes != m.BlobBytes || counts.Parts != m.Parts {
		v.find("manifest", "its counts are not those of the descriptor")
	}
	if err := v.leftOut(ctx); err != nil {
		return err
	}
	if err := v.gaps(ctx); err != nil {
		return err
	}
	return v.second(ctx)
}

// second makes sure that the ledger of second readings can be read.
func (v *verifyRun) second(ctx context.Context) error {
	for _, err := range v.Snapshot.Second(ctx) {
		if err != nil && !v.damage("second readings", err) {
			return err
		}
	}
	return nil
}

// gaps makes sure that the ledger of gaps has what the manifest counts.
func (v *verifyRun) gaps(ctx context.Context) error {
	counted := map[dataset.Code]int64{}
	for g, err := range v.Snapshot.Gaps(ctx) {
		if err != nil {
			if v.damage("gaps", err) {
				return nil
			}
			return err
		}
		counted[g.Code]++
	}
	for code, n := range v.Snapshot.Manifest.Gaps {
		if counted[code] != n {
			v.find("manifest", "it counts %d gaps of code %s, the ledger has %d", n, code, counted[code])
		}
	}
	if len(counted) != len(v.Snapshot.Manifest.Gaps) {
		v.find("manifest", "its gaps are not those of the ledger")
	}
	return nil
}

// damage records what is wrong with stored bytes. It is false for errors that say
// nothing about them.
func (v *verifyRun) damage(what string, err error) bool {
	var damage *archive.DamageError
	var integrity *archive.IntegrityError
	switch {
	case errors.As(err, &damage):
		v.find(damage.Name, "%v (in %q)", err, what)
	case errors.As(err, &integrity):
		v.find(integrity.Name, "%v (in %q)", err, what)
	case errors.Is(err, context.Canceled), errors.Is(err, crypto.ErrNoKey), errors.Is(err, archive.ErrNotReadable):
		return false
	default:
		v.find(what, "%v", err)
	}
	return true
}

// stream verifies one stream, part by part in order and the blobs of a part in
// parallel.
func (v *verifyRun) stream(ctx context.Context, e *archive.StreamEntry) error {
	var root dataset.StreamRoot
	var got archive.StreamEntry
	csv := newCSVCheck(v, e)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(cmp.Or(v.Parallel, 8))
	err := func() error {
		for part, err := range v.Snapshot.Parts(gctx, e.Table) {
			if err != nil {
				return err
			}
			root.Add(part.Root, uint64(part.Count))
			got.Parts++
			got.Records += part.Count
			got.Blobs += part.Blobs
			got.Bytes += part.Content
			if err := v.part(gctx, e, &part, g, csv); err != nil && !v.damage("part "+part.Part, err) {
				return err
			}
		}
		return nil
	}()
	if err := errors.Join(err, g.Wait()); err != nil {
		return err
	}
	if got.Parts != e.Parts || got.Records != e.Records || got.Blobs != e.Blobs || got.Bytes != e.Bytes {
		v.find(e.Stream.Name, "%d records of %d, %d blobs of %d, %d bytes of %d, %d parts of %d",
			got.Records, e.Records, got.Blobs, e.Blobs, got.Bytes, e.Bytes, got.Parts, e.Parts)
	}
	csv.end()
	if r := root.Root(); r != e.Root {
		v.find(e.Stream.Name, "the root of its parts is %s, the descriptor says %s", r, e.Root)
	}
	return nil
}

// part verifies the lines of a part and starts to verify its blobs.
func (v *verifyRun) part(ctx context.Context, e *archive.StreamEntry, part *archive.PartEntry, g *errgroup.Group, csv *csvCheck) error {
	lines, err := v.Snapshot.Lines(ctx, part)
	if err != nil {
		return err
	}
	if err := part.CheckRoot(lines, archive.Enveloped(&e.Stream)); err != nil {
		v.find("part "+part.Part, "%v", err)
	}
	v.count(part.Count, part.Bytes, 0)
	v.mu.Lock()
	v.out.Parts++
	v.mu.Unlock()
	if !archive.Enveloped(&e.Stream) {
		for line := range bytes.Lines(lines) {
			if err := dataset.CheckObject(bytes.TrimSuffix(line, []byte{'\n'})); err != nil {
				return fmt.Errorf("part %s: %w", part.Part, err)
			}
		}
		return csv.part(ctx, part, lines)
	}
	blobs, bytes := int64(0), int64(0)
	for r, err := range v.Snapshot.PartRecords(ctx, e, part, lines) {
		if err != nil {
			return err
		}
		if r.Blob == nil {
			continue
		}
		blobs, bytes = blobs+1, bytes+r.Blob.Size
		g.Go(func() error { return v.blob(ctx, r) })
	}
	if blobs != part.Blobs || bytes != part.Content {
		v.find("part "+part.Part, "%d blobs of %d, %d bytes of %d", blobs, part.Blobs, bytes, part.Content)
	}
	return nil
}

// blob reads a blob, which holds itself against its hash at its end.
func (v *verifyRun) blob(ctx context.Context, r dataset.Record) error {
	body, err := r.Blob.Open(ctx, 0, -1)
	if err == nil {
		_, err = io.Copy(io.Discard, body)
		err = errors.Join(err, body.Close())
	}
	if err != nil {
		if ctx.Err() == nil && v.damage(r.Key, err) {
			return nil
		}
		return err
	}
	v.count(0, r.Blob.Size, 1)
	return nil
}

func (v *verifyRun) count(records, bytes, blobs int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.out.Records += records
	v.out.Bytes += bytes
	v.out.Blobs += blobs
	if v.Progress != nil {
		v.Progress(v.out.Records, v.out.Bytes)
	}
}
