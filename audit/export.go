package audit

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/internal/durable"
)

// Export writes the log under a trusted checkpoint to an empty directory, in the
// standard layout of c2sp.org/tlog-tiles: checkpoint (a signed note), tile/..., and
// beside it the text and signature as stored, for
//
//	ssh-keygen -Y verify -n sallyport-checkpoint -I PRINCIPAL -f allowed_signers \
//	    -s checkpoint.txt.sig < checkpoint.txt
//
// The tiles are copied as they are; [Reader.Verify] says whether they are sound.
func (r *Reader) Export(ctx context.Context, head archive.Checkpoint, dir string) error {
	d, err := durable.Open(dir)
	if err != nil {
		return fmt.Errorf("export audit log %s: %w", r.s.log, err)
	}
	if err = r.export(ctx, treeOf(head), d); err != nil {
		err = fmt.Errorf("export audit log %s: %w", r.s.log, err)
	}
	return errors.Join(err, d.Close())
}

func (r *Reader) export(ctx context.Context, head tlog.Tree, d *durable.Dir) error {
	for _, t := range tlog.NewTiles(tileHeight, 0, head.N) {
		if err := r.exportTile(ctx, d, t); err != nil {
			return err
		}
		if t.L == 0 {
			t.L = entryLevel
			if err := r.exportTile(ctx, d, t); err != nil {
				return err
			}
		}
	}
	text := r.s.formatCheckpoint(head)
	sig, err := r.signature(ctx, text)
	if err != nil {
		return err
	}
	note, err := r.note(text, sig)
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		data []byte
	}{{"checkpoint.txt", text}, {"checkpoint.txt.sig", sig}, {"checkpoint", note}} {
		if err := d.Create(f.name, f.data); err != nil {
			return err
		}
	}
	return nil
}

func (r *Reader) exportTile(ctx context.Context, d *durable.Dir, t tlog.Tile) error {
	b, err := r.s.readTile(ctx, t)
	if err != nil {
		return err
	}
	return d.Create(strings.TrimPrefix(r.s.tileName(t), r.s.folder()), b)
}

// signature returns a valid signature over a checkpoint, armored.
func (r *Reader) signature(ctx context.Context, text []byte) ([]byte, error) {
	for info, err := range r.s.List(ctx, r.signatures(text)) {
		if err != nil {
			return nil, fmt.Errorf("list signatures: %w", err)
		}
		if info.Marker || info.Later {
			continue
		}
		sig, err := r.s.read(ctx, info.Name)
		if err != nil {
			return nil, err
		}
		if _, err := r.signedBy(map[string][]byte{info.Name: sig}, text, time.Time{}); err == nil {
			return sig, nil
		}
	}
	return nil, fmt.Errorf("signature of the checkpoint: %w", fs.ErrNotExist)
}

// note returns a checkpoint as a signed note (c2sp.org/signed-note). Its signature line
// is of the private type 0xff, named ssh-signature, and holds the SSH signature's bytes.
func (r *Reader) note(text, armored []byte) ([]byte, error) {
	lines := strings.Split(strings.TrimSuffix(string(armored), "\n"), "\n")
	if len(lines) < 3 {
		return nil, errors.New("malformed signature")
	}
	blob, err := base64.StdEncoding.DecodeString(strings.Join(lines[1:len(lines)-1], ""))
	if err != nil {
		return nil, fmt.Errorf("malformed signature: %w", err)
	}
	// The key is inside the SSH signature, so the id is of the name and type alone.
	id := sha256.Sum256([]byte(r.s.origin() + "\n\xffssh-signature"))
	line := base64.StdEncoding.EncodeToString(slices.Concat(id[:4], blob))
	return fmt.Appendf(nil, "%s\n\u2014 %s %s\n", text, r.s.origin(), line), nil
}
