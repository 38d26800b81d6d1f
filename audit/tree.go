package audit

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/dataset"
)

// The layout is c2sp.org/tlog-tiles: tiles are 256 hashes wide.
const (
	tileHeight = 8
	tileWidth  = 1 << tileHeight
	entryLevel = -1 // the level of [tlog.Tile] that stands for entries

	namespace = "sallyport-checkpoint"
)

// A store is the part of an archive's store that belongs to one log.
type store struct {
	archive.Store
	id  dataset.ID
	log string
}

func (s store) folder() string { return "audit/" + s.log + "/" }

// origin is the first line of the log's checkpoints. It names the store too, so that
// the log of one store cannot be passed off as that of another.
func (s store) origin() string { return "sallyport/" + string(s.id) + "/" + s.log }

func (s store) checkpointName(size int64) string {
	return fmt.Sprintf("%scheckpoints/%020d", s.folder(), size)
}

// tileName returns where a tile lies.
func (s store) tileName(t tlog.Tile) string {
	level := strconv.Itoa(t.L)
	if t.L == entryLevel {
		level = "entries"
	}
	n := fmt.Sprintf("%03d", t.N%1000)
	for rest := t.N / 1000; rest > 0; rest /= 1000 {
		n = fmt.Sprintf("x%03d/%s", rest%1000, n)
	}
	name := s.folder() + "tile/" + level + "/" + n
	if t.W < tileWidth {
		name += ".p/" + strconv.Itoa(t.W)
	}
	return name
}

var tileForm = regexp.MustCompile(`^tile/(entries|[0-9]|[1-5][0-9]|6[0-3])/((?:x[0-9]{3}/){0,5}[0-9]{3})(?:\.p/([0-9]{1,3}))?$`)

// parseTile is the inverse of tileName.
func (s store) parseTile(name string) (tlog.Tile, bool) {
	rest, ok := strings.CutPrefix(name, s.folder())
	m := tileForm.FindStringSubmatch(rest)
	if !ok || m == nil {
		return tlog.Tile{}, false
	}
	t := tlog.Tile{H: tileHeight, L: entryLevel, W: tileWidth}
	if m[1] != "entries" {
		t.L, _ = strconv.Atoi(m[1])
	}
	t.N, _ = strconv.ParseInt(strings.NewReplacer("x", "", "/", "").Replace(m[2]), 10, 64)
	if m[3] != "" {
		t.W, _ = strconv.Atoi(m[3])
	}
	return t, t.W > 0 && t.W <= tileWidth && s.tileName(t) == name
}

// maxTile bounds what is read for one object: 256 entries of the longest kind.
const maxTile = tileWidth * (maxEntry + 2)

// read returns a whole object.
func (s store) read(ctx context.Context, name string) ([]byte, error) {
	r, err := s.Open(ctx, name, 0, -1)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	b, err := io.ReadAll(io.LimitReader(r, maxTile+1))
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(b) > maxTile {
		return nil, fmt.Errorf("read %s: longer than any object of a log", name)
	}
	return b, nil
}

// readTile reads a tile, or the part of the full one in its place.
func (s store) readTile(ctx context.Context, t tlog.Tile) ([]byte, error) {
	b, err := s.read(ctx, s.tileName(t))
	if errors.Is(err, fs.ErrNotExist) && t.W < tileWidth {
		full := t
		full.W = tileWidth
		if whole, ferr := s.read(ctx, s.tileName(full)); ferr == nil {
			return cutTile(t, whole)
		}
	}
	return b, err
}

// cutTile returns the part of a wider tile that is t.
func cutTile(t tlog.Tile, wider []byte) ([]byte, error) {
	if t.L != entryLevel {
		if len(wider) < t.W*tlog.HashSize {
			return nil, errors.New("tile is cut short")
		}
		return wider[:t.W*tlog.HashSize], nil
	}
	rest := wider
	for range t.W {
		_, next, err := cutEntry(rest)
		if err != nil {
			return nil, err
		}
		rest = next
	}
	return wider[:len(wider)-len(rest)], nil
}

// hashes reads the hashes of a tree, each proven to be in it.
func (s store) hashes(ctx context.Context, tree tlog.Tree) tlog.HashReader {
	return tlog.TileHashReader(tree, tileReader{ctx, s})
}

// tileReader is a [tlog.TileReader]. It lives for one operation, whose ctx it holds
// because the interface has none.
type tileReader struct {
	ctx context.Context
	s   store
}

func (r tileReader) Height() int                     { return tileHeight }
func (r tileReader) SaveTiles([]tlog.Tile, [][]byte) {}

func (r tileReader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var out [][]byte
	for _, t := range tiles {
		b, err := r.s.readTile(r.ctx, t)
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

// entries reads the entries from one index up to another, which are the caller's to
// check against a tree of at least size.
func (s store) entries(ctx context.Context, from, to, size int64) ([][]byte, error) {
	var out [][]byte
	for n := from / tileWidth; n*tileWidth < to; n++ {
		t := tlog.Tile{H: tileHeight, L: entryLevel, N: n, W: int(min(tileWidth, size-n*tileWidth))}
		bundle, err := s.readTile(ctx, t)
		if err != nil {
			return nil, err
		}
		all, err := splitBundle(bundle)
		if err != nil || len(all) != t.W {
			return nil, fmt.Errorf("%s: %d entries; want %d", s.tileName(t), len(all), t.W)
		}
		lo, hi := max(from-n*tileWidth, 0), min(to-n*tileWidth, tileWidth)
		out = append(out, all[lo:hi]...)
	}
	return out, nil
}

// An entry in a bundle stands behind its length as a big-endian uint16.
func appendEntry(bundle, entry []byte) []byte {
	return append(binary.BigEndian.AppendUint16(bundle, uint16(len(entry))), entry...)
}

func cutEntry(bundle []byte) (entry, rest []byte, err error) {
	if len(bundle) < 2 || len(bundle)-2 < int(binary.BigEndian.Uint16(bundle)) {
		return nil, nil, errors.New("bundle is cut short")
	}
	n := 2 + int(binary.BigEndian.Uint16(bundle))
	return bundle[2:n:n], bundle[n:], nil
}

func splitBundle(bundle []byte) (entries [][]byte, err error) {
	for len(bundle) > 0 {
		var entry []byte
		if entry, bundle, err = cutEntry(bundle); err != nil {
			return nil, err
		}
		entries = append(entries, entry)
	}
	return entries, nil
}

// formatCheckpoint returns the text of a checkpoint (c2sp.org/tlog-checkpoint), which
// is what the signature beside it signs.
func (s store) formatCheckpoint(t tlog.Tree) []byte {
	return fmt.Appendf(nil, "%s\n%d\n%s\n", s.origin(), t.N, base64.StdEncoding.EncodeToString(t.Hash[:]))
}

// parseCheckpoint is the inverse of formatCheckpoint.
func (s store) parseCheckpoint(text []byte) (tlog.Tree, error) {
	lines := strings.Split(string(text), "\n")
	if len(lines) != 4 || lines[0] != s.origin() {
		return tlog.Tree{}, fmt.Errorf("not a checkpoint of %s", s.origin())
	}
	n, nerr := strconv.ParseInt(lines[1], 10, 64)
	h, herr := base64.StdEncoding.Strict().DecodeString(lines[2])
	if nerr != nil || herr != nil || n < 1 || len(h) != tlog.HashSize {
		return tlog.Tree{}, errors.New("malformed checkpoint")
	}
	t := tlog.Tree{N: n, Hash: tlog.Hash(h)}
	if string(s.formatCheckpoint(t)) != string(text) {
		return tlog.Tree{}, errors.New("checkpoint is not in canonical form")
	}
	return t, nil
}

func (s store) checkpoint(t tlog.Tree) archive.Checkpoint {
	return archive.Checkpoint{Log: s.log, Size: t.N, Root: dataset.Hash(t.Hash)}
}

// A frontier computes the hash of a growing tree (RFC 6962, section 2.1) in memory
// logarithmic in its size.
type frontier struct {
	n     int64
	roots []tlog.Hash // of the full subtrees, the largest first
}

func (f *frontier) add(leaf tlog.Hash) {
	f.roots = append(f.roots, leaf)
	for m := f.n; m&1 == 1; m >>= 1 {
		last := len(f.roots) - 1
		f.roots[last-1] = tlog.NodeHash(f.roots[last-1], f.roots[last])
		f.roots = f.roots[:last]
	}
	f.n++
}

func (f *frontier) tree() tlog.Tree {
	if f.n == 0 {
		return tlog.Tree{Hash: sha256.Sum256(nil)}
	}
	h := f.roots[len(f.roots)-1]
	for i := len(f.roots) - 2; i >= 0; i-- {
		h = tlog.NodeHash(f.roots[i], h)
	}
	return tlog.Tree{N: f.n, Hash: h}
}
