package bundle

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/dataset"
)

// What people sign about a service, by the folder in which it lies.
var (
	erasureSignatures = []string{"sallyport-erasure"}
	purgeSignatures   = []string{"sallyport-plan", "sallyport-approval", "sallyport-ledger", "sallyport-deletion"}
	holdSignatures    = []string{"sallyport-hold", "sallyport-release"}
)

// names is what public documents name, whatever their kind.
type names struct {
	Annex     dataset.Hash `json:"annex"`
	HashKey   dataset.Hash `json:"hash_key"`
	Manifest  dataset.Hash `json:"manifest"`
	Plan      dataset.Hash `json:"plan"`
	Predicate struct {
		Annex struct {
			SHA256 dataset.Hash `json:"sha256"`
		} `json:"annex"`
		Archive struct {
			Log *archive.Checkpoint `json:"log"`
		} `json:"archive"`
		Logs []archive.Checkpoint `json:"logs"`
	} `json:"predicate"`
}

// records adds what was said of the snapshot in public, with its sealed annexes: verdicts
// and certificates; what was purged on its proof; all holds and erasures of the service,
// because what they are about is sealed; and the checkpoints of audit logs that its
// manifest and certificates name.
func (b *bag) records(ctx context.Context) error {
	if err := b.checkpoint(ctx, b.s.Manifest.Log); err != nil {
		return err
	}
	for _, kind := range []struct{ folder, namespace string }{{"verified", "sallyport-verified"}, {"certificates", "sallyport-certificate"}} {
		for info, err := range b.list(ctx, kind.folder+"/"+string(b.s.Run)+"/") {
			if err != nil {
				return err
			}
			if err := b.record(ctx, info.Name, []string{kind.namespace}); err != nil {
				return err
			}
		}
	}
	for info, err := range b.list(ctx, "erasures/") {
		if err != nil {
			return err
		}
		if err := b.record(ctx, info.Name, erasureSignatures); err != nil {
			return err
		}
	}
	if err := b.purges(ctx); err != nil {
		return err
	}
	return b.holds(ctx)
}

// record adds a document that is signed under one of the namespaces, and its annexes.
func (b *bag) record(ctx context.Context, name string, namespaces []string) error {
	doc, err := b.named(ctx, name, maxControl)
	if err == nil {
		err = b.signedAs(ctx, name, namespaces, doc)
	}
	if err != nil {
		return b.optional(name, err)
	}
	return b.belongings(ctx, doc)
}

// signedAs adds a document that has a good signature under one of the namespaces.
func (b *bag) signedAs(ctx context.Context, name string, namespaces []string, doc []byte) (err error) {
	for _, ns := range namespaces {
		if err = b.signed(ctx, b.s.Service, name, ns, doc, time.Time{}); !isUntrusted(err) {
			return err
		}
	}
	return err
}

// belongings adds the annexes and checkpoints that a document names.
func (b *bag) belongings(ctx context.Context, doc []byte) error {
	var n names
	if err := json.Unmarshal(doc, &n); err != nil {
		return fmt.Errorf("document %s: %w", dataset.Sum(doc), err)
	}
	for _, h := range []dataset.Hash{n.Annex, n.HashKey, n.Predicate.Annex.SHA256} {
		if h.IsZero() {
			continue
		}
		name := archive.AnnexNameOf(b.s.Service, h)
		sealed, err := b.named(ctx, name, maxAnnex)
		if err == nil {
			err = b.put(name, sealed)
		}
		if err := b.optional(name, err); err != nil {
			return err
		}
	}
	for i := range n.Predicate.Logs {
		if err := b.checkpoint(ctx, &n.Predicate.Logs[i]); err != nil {
			return err
		}
	}
	return b.checkpoint(ctx, n.Predicate.Archive.Log)
}

// holds adds whatever lies among the holds of the service. What looks like none may be
// one, and to leave it out would let go what it holds.
func (b *bag) holds(ctx context.Context) error {
	for info, err := range b.list(ctx, "holds/") {
		if err != nil {
			return err
		}
		doc, err := b.read(ctx, info.Name, maxControl)
		if err != nil {
			return err
		}
		if want, got := archive.ParseName(info.Name).Hash, dataset.Sum(doc); got != want {
			err = &archive.DamageError{Name: info.Name, Want: want, Got: got, Size: int64(len(doc))}
		} else {
			err = b.signedAs(ctx, info.Name, holdSignatures, doc)
		}
		switch {
		case err == nil:
			err = b.belongings(ctx, doc)
		case isUntrusted(err):
			b.report.Doubtful = append(b.report.Doubtful, info.Name)
			err = b.withSignatures(ctx, b.s.Service, info.Name, doc)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// purges adds the plans that delete on the proof of this snapshot, and what was said of
// them.
func (b *bag) purges(ctx context.Context) error {
	about := map[string]names{}
	plans := map[dataset.Hash]bool{}
	for info, err := range b.list(ctx, "purges/") {
		if err != nil {
			return err
		}
		doc, err := b.named(ctx, info.Name, maxControl)
		var n names
		if err == nil && json.Unmarshal(doc, &n) == nil {
			about[info.Name] = n
			if n.Plan.IsZero() && n.Manifest == b.s.Hash {
				plans[archive.ParseName(info.Name).Hash] = true
			}
		} else if err := b.optional(info.Name, err); err != nil {
			return err
		}
	}
	for name, n := range about {
		if !plans[n.Plan] && !plans[archive.ParseName(name).Hash] {
			continue
		}
		if err := b.record(ctx, name, purgeSignatures); err != nil {
			return err
		}
	}
	return nil
}

// checkpoint adds a signed checkpoint of an audit log: who keeps the bag can later ask
// whether the log continues it.
func (b *bag) checkpoint(ctx context.Context, c *archive.Checkpoint) error {
	if c == nil {
		return nil
	}
	folder := "audit/" + c.Log + "/"
	name := fmt.Sprintf("%scheckpoints/%020d", folder, c.Size)
	text, err := b.read(ctx, name, maxSignature)
	if err == nil && !saysOf(text, c) {
		err = &archive.IntegrityError{Name: name, Err: errors.New("is not the checkpoint that is named")}
	}
	if err != nil {
		return b.optional(name, err)
	}
	good := false
	for info, err := range b.listAll(ctx, folder+"signatures/"+dataset.Sum(text).String()+"/") {
		if err != nil {
			return err
		}
		sig, err := b.read(ctx, info.Name, maxSignature)
		if err != nil {
			return b.optional(info.Name, err)
		}
		if _, err := b.a.Trust.Verify("sallyport-checkpoint", text, sig, time.Time{}); err != nil {
			b.leaveOut(info.Name)
			continue
		}
		good = true
		if err := b.put(info.Name, sig); err != nil {
			return err
		}
	}
	if !good {
		b.leaveOut(name)
		return nil
	}
	return b.put(name, text)
}

// saysOf reports whether the text of a checkpoint (c2sp.org/tlog-checkpoint) is of a size
// and root.
func saysOf(text []byte, c *archive.Checkpoint) bool {
	lines := bytes.Split(text, []byte{'\n'})
	return len(lines) > 2 && string(lines[1]) == strconv.FormatInt(c.Size, 10) &&
		string(lines[2]) == base64.StdEncoding.EncodeToString(c.Root[:])
}

// isUntrusted reports whether an error says that stored bytes are not what they should
// be, as opposed to that they could not be read.
func isUntrusted(err error) bool {
	var damage *archive.DamageError
	var integrity *archive.IntegrityError
	return errors.As(err, &damage) || errors.As(err, &integrity)
}
