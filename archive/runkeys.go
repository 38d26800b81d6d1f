package archive

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
)

// A keyHalf is what a writer keeps of a run key. Nothing in it opens anything.
type keyHalf struct {
	Recipient string       `json:"recipient"`
	Statement dataset.Hash `json:"statement"`
	SealedTo  []string     `json:"sealed_to"` // as the statement says
	Run       RunID        `json:"run"`       // that made it
}

func (k keyHalf) id() dataset.Hash { return crypto.RecipientID(k.Recipient) }

// makeKeys creates the run keys, seals them to the managed recipients and forgets
// their secret halves. What earlier runs of the month may share with this one is not
// made again.
func (w *Writer) makeKeys(ctx context.Context) error {
	w.keys = w.monthKeys()
	var missing []Role
	for _, role := range []Role{DataRole, IndexRole} {
		if _, shared := w.keys[role]; !shared {
			missing = append(missing, role)
		}
	}
	made := make([]keyHalf, len(missing))
	g, gctx := errgroup.WithContext(ctx)
	for i, role := range missing {
		g.Go(func() (err error) {
			made[i], err = w.makeKey(gctx, role)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i, role := range missing {
		w.keys[role] = made[i]
	}
	return w.journal.begin(journalHead{Run: w.run, Started: At(w.started), Keys: w.keys})
}

func (w *Writer) makeKey(ctx context.Context, role Role) (keyHalf, error) {
	k, err := crypto.NewRunKey(w.o.PostQuantum)
	if err != nil {
		return keyHalf{}, err
	}
	defer k.Forget()
	to := w.sealTo(role)
	st, err := PutKey(ctx, w.a, w.o.Signer, w.o.Service, w.run, role, k, to)
	return keyHalf{k.Recipient, st, sortedRecipients(to), w.run}, err
}

// sealTo returns whom a run key is sealed to.
func (w *Writer) sealTo(role Role) *crypto.Sealer {
	if role == IndexRole && w.o.IndexRecipients != nil {
		return w.o.Recipients.Join(w.o.IndexRecipients)
	}
	return w.o.Recipients
}

// monthKeys returns the public halves of the keys with which the last snapshot of this
// host was written, if runs of a month share keys and it began in the same one.
//
// For keys the rule is that of packs: only what a commit seen in W2 names may be built
// upon, or a collector could be about to remove it. And a key that is sealed to others
// than today's recipients is not used any more.
func (w *Writer) monthKeys() map[Role]keyHalf {
	shared := map[Role]keyHalf{}
	if !w.o.MonthKeys || w.base.run == "" {
		return shared
	}
	head, ok := w.journal.head(w.base.run)
	if !ok || month(head.Started.Time) != month(w.started) {
		return shared
	}
	for role, k := range head.Keys {
		named, ok := w.base.keys[k.id()]
		if ok && named == (KeyRef{k.id(), k.Run, role, k.Statement}) && w.fits(role, k) {
			shared[role] = k
		}
	}
	return shared
}

func month(t time.Time) string { return t.UTC().Format("2006-01") }

// fits reports whether a key is of the kind that is asked for, and sealed to exactly
// today's recipients.
func (w *Writer) fits(role Role, k keyHalf) bool {
	return strings.HasPrefix(k.Recipient, "age1pq1") == w.o.PostQuantum && slices.Equal(k.SealedTo, sortedRecipients(w.sealTo(role)))
}

func (w *Writer) fit(keys map[Role]keyHalf) bool {
	return w.fits(DataRole, keys[DataRole]) && w.fits(IndexRole, keys[IndexRole])
}

// keyRef names a key for the manifest.
func (w *Writer) keyRef(id dataset.Hash) (KeyRef, bool) {
	for role, k := range w.keys {
		if k.id() == id {
			return KeyRef{ID: id, Run: k.Run, Role: role, Statement: k.Statement}, true
		}
	}
	ref, ok := w.base.keys[id]
	return ref, ok
}

// PutKey seals a run key and stores it with its signed statement, whose hash it
// returns.
func PutKey(ctx context.Context, a *Archive, signer *crypto.Signer, service string, run RunID, role Role, k *crypto.RunKey, to *crypto.Sealer) (dataset.Hash, error) {
	sealed, err := k.SealTo(to)
	if err != nil {
		return dataset.Hash{}, fmt.Errorf("seal run key: %w", err)
	}
	h := dataset.Sum(sealed)
	st := Statement{Format: statementFormat, Store: a.ID, Service: service, Run: run, Role: role,
		Recipient: k.Recipient, SealedTo: sortedRecipients(to), SHA256: h}
	doc, err := encode(st)
	if err != nil {
		return dataset.Hash{}, err
	}
	if err := createSame(ctx, a.Store, keyName(service, k.ID(), h), sealed); err != nil {
		return dataset.Hash{}, fmt.Errorf("store run key: %w", err)
	}
	sum := dataset.Sum(doc)
	return sum, PutSigned(ctx, a.Store, signer, service, StatementName(service, k.ID(), sum), nsKeys, doc)
}
