package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sync/errgroup"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/dataset"
)

// A Finding is something wrong with a log.
type Finding struct {
	Name    string // the object it is about, or the log
	Problem string

	// Stray says that a crash may have left it behind: tiles that no checkpoint covers
	// yet, a signature without its checkpoint. It takes nothing from the log.
	Stray bool
}

// A Report is what [Reader.Verify] found.
type Report struct {
	Head        archive.Checkpoint // zero if no checkpoint is validly signed, which is a finding
	Last        time.Time          // of the newest entry; zero if it could not be read
	Checkpoints int                // that are signed and agree with the entries
	Intents     []Entry            // without a result: acts that died, or go on
	Findings    []Finding          // in the order they were found
}

// Sound reports whether every entry, hash and checkpoint is as it was written.
func (r Report) Sound() bool {
	return !slices.ContainsFunc(r.Findings, func(f Finding) bool { return !f.Stray })
}

// Verify reads the whole log and recomputes it: every entry, every hash, every
// checkpoint with its signature, older partial tiles too. Each of pins is a checkpoint
// known from elsewhere (a manifest, a certificate, an earlier visit) that the log must
// continue. What is wrong is a finding; the error says what could not be read. It fails
// with [ErrNoLog] if there is no checkpoint at all, as before the first publication.
func (r *Reader) Verify(ctx context.Context, pins ...archive.Checkpoint) (Report, error) {
	v := &verification{r: r, ctx: ctx, open: make(openIntents), tiles: make(map[place][]int), signatures: make(map[string][]string),
		docs: make(map[string][]byte), sums: make(map[string]dataset.Hash)}
	if err := v.run(pins); err != nil {
		return Report{}, fmt.Errorf("verify audit log %s: %w", r.s.log, err)
	}
	return v.report, nil
}

type verification struct {
	r      *Reader
	ctx    context.Context // of the one call that this value serves
	report Report

	there       map[place][]int     // widths of the tiles that are there
	tiles       map[place][]int     // and were not compared yet
	signatures  map[string][]string // names by folder
	checkpoints []stored
	named       int                     // objects that have a checkpoint's name
	docs        map[string][]byte       // checkpoints and signatures, whole
	sums        map[string]dataset.Hash // of tiles, whose bytes are not kept

	frontier frontier
	levels   [][]tlog.Hash // of each level the hashes of the tile that is being filled
	done     []int64       // of each level the number of tiles filled
	open     openIntents
	lost     []int64 // bundles whose entries could not be read
	doubtful []int64 // bundles that contradict the tile of their hashes
}

// A place is where tiles of several widths lie.
type place struct {
	level int
	n     int64
}

type stored struct {
	name string
	tree tlog.Tree
	text []byte
}

func (v *verification) find(name, format string, args ...any) {
	v.report.Findings = append(v.report.Findings, Finding{Name: name, Problem: fmt.Sprintf(format, args...)})
}

func (v *verification) run(pins []archive.Checkpoint) error {
	if err := v.list(); err != nil {
		return err
	}
	v.there = maps.Clone(v.tiles)
	head, err := v.head()
	if errors.Is(err, ErrNoLog) && v.named > 0 {
		v.find(v.r.s.log, "has no checkpoint that is validly signed")
		head = tlog.Tree{N: v.extent()}
	} else if err != nil {
		return err
	} else {
		v.report.Head = v.r.s.checkpoint(head)
	}
	bySize := make(map[int64][]archive.Checkpoint)
	for _, p := range pins {
		bySize[p.Size] = append(bySize[p.Size], p)
		if p.Log != v.r.s.log {
			return fmt.Errorf("the known checkpoint is of log %q", p.Log)
		}
		if p.Size > head.N {
			v.find(v.r.s.log, "is rolled back: it had %d entries and has %d", p.Size, head.N)
		}
	}
	for at := int64(0); at < head.N; at += tileWidth {
		if err := v.bundle(tlog.Tile{H: tileHeight, L: entryLevel, N: at / tileWidth, W: int(min(tileWidth, head.N-at))}, bySize); err != nil {
			return err
		}
	}
	for level := range v.levels {
		v.compareHashes(level)
	}
	if err := v.blame(head); err != nil {
		return err
	}
	for _, c := range v.checkpoints { // those that leaf has not come to
		v.find(c.name, "is not validly signed")
		delete(v.signatures, v.r.signatures(c.text))
	}
	beyond := slices.SortedFunc(maps.Keys(v.tiles), func(a, b place) int {
		return cmp.Or(cmp.Compare(a.level, b.level), cmp.Compare(a.n, b.n))
	})
	for _, p := range beyond {
		for _, w := range v.tiles[p] {
			name := v.r.s.tileName(tlog.Tile{H: tileHeight, L: p.level, N: p.n, W: w})
			v.report.Findings = append(v.report.Findings, Finding{name, "lies beyond the newest checkpoint", true})
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(v.signatures)) {
		v.report.Findings = append(v.report.Findings, Finding{dir, "signs no checkpoint that is there", true})
	}
	v.report.Intents = v.open.list()
	return nil
}

// list sorts the objects of the log by what they are, and reads them.
func (v *verification) list() error {
	s := v.r.s
	var tiles, docs, checkpoints []string
	for info, err := range s.List(v.ctx, s.folder()) {
		if err != nil {
			return fmt.Errorf("list: %w", err)
		}
		folder, _, _ := strings.Cut(strings.TrimPrefix(info.Name, s.folder()), "/")
		tile, isTile := s.parseTile(info.Name)
		switch {
		case info.Marker:
			v.find(info.Name, "was deleted: the bucket has a delete marker, version %s", info.Version)
		case info.Later:
			v.find(info.Name, "was written again: version %s is not the first", info.Version)
		case isTile:
			p := place{tile.L, tile.N}
			v.tiles[p] = append(v.tiles[p], tile.W)
			tiles = append(tiles, info.Name)
		case folder == "signatures" && archive.ParseName(strings.TrimPrefix(info.Name, s.folder())).Class == archive.SignatureObject:
			dir := info.Name[:strings.LastIndexByte(info.Name, '/')+1]
			v.signatures[dir] = append(v.signatures[dir], info.Name)
			docs = append(docs, info.Name)
		case folder == "checkpoints":
			checkpoints = append(checkpoints, info.Name)
		default:
			v.find(info.Name, "is no name of a log's object")
		}
	}
	if err := v.readAll(tiles, func(name string, b []byte) { v.sums[name] = dataset.Sum(b) }); err != nil {
		return err
	}
	if err := v.readAll(slices.Concat(docs, checkpoints), func(name string, b []byte) { v.docs[name] = b }); err != nil {
		return err
	}
	for _, name := range docs {
		if dataset.Sum(v.docs[name]).String()+".sig" != path.Base(name) {
			v.find(name, "is damaged: its %d bytes have sha256 %s", len(v.docs[name]), dataset.Sum(v.docs[name]))
		}
	}
	v.named = len(checkpoints)
	for _, name := range checkpoints {
		tree, err := v.r.namedCheckpoint(name, v.docs[name])
		if err != nil {
			v.find(name, "%v", err)
			continue
		}
		v.checkpoints = append(v.checkpoints, stored{name, tree, v.docs[name]})
	}
	return nil
}

// readAll reads objects, many at once, and hands them on in any order, one by one.
func (v *verification) readAll(names []string, keep func(name string, b []byte)) error {
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(v.ctx)
	g.SetLimit(16) // waits for the store, not for us
	for _, name := range names {
		g.Go(func() error {
			b, err := v.r.s.read(ctx, name)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			keep(name, b)
			return nil
		})
	}
	return g.Wait()
}

// extent is how many entries lie there without a break.
func (v *verification) extent() int64 {
	for n := int64(0); ; n++ {
		if w := slices.Max(append([]int{0}, v.tiles[place{entryLevel, n}]...)); w < tileWidth {
			return n*tileWidth + int64(w)
		}
	}
}

// head returns the newest checkpoint that is signed.
func (v *verification) head() (tlog.Tree, error) {
	for i := len(v.checkpoints) - 1; i >= 0; i-- {
		err := v.signed(v.checkpoints[i], time.Time{})
		var bad *badError
		if err == nil {
			return v.checkpoints[i].tree, nil
		} else if !errors.As(err, &bad) {
			return tlog.Tree{}, err
		}
	}
	return tlog.Tree{}, ErrNoLog
}

// signed says why a checkpoint is not validly signed, in a badError.
func (v *verification) signed(c stored, at time.Time) error {
	sigs := make(map[string][]byte)
	for _, name := range v.signatures[v.r.signatures(c.text)] {
		sigs[name] = v.docs[name]
	}
	_, err := v.r.signedBy(sigs, c.text, at)
	return err
}

// blame says which objects are at fault where entries and hashes contradict each other, or
// entries are lost.
func (v *verification) blame(head tlog.Tree) error {
	accuse := func(level int, n int64, problem string) {
		for _, w := range v.there[place{level, n}] {
			v.find(v.r.s.tileName(tlog.Tile{H: tileHeight, L: level, N: n, W: w}), "%s", problem)
		}
	}
	if v.frontier.tree() != head { // else the entries are right
		for _, n := range v.doubtful {
			accuse(entryLevel, n, "does not have the hashes of its place in the log")
		}
	}
	for _, n := range v.lost {
		_, err := v.r.s.hashes(v.ctx, head).ReadHashes([]int64{tlog.StoredHashIndex(0, n*tileWidth)})
		if err != nil && v.ctx.Err() != nil {
			return err
		} else if err != nil {
			accuse(0, n, "is not proven to be in the log, and its entries are lost")
		}
	}
	return nil
}

// bundle checks one bundle of entries and what hangs on it.
func (v *verification) bundle(t tlog.Tile, pins map[int64][]archive.Checkpoint) error {
	s := v.r.s
	name := s.tileName(t)
	bundle, err := s.readTile(v.ctx, t)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	entries, serr := splitBundle(bundle)
	switch {
	case err != nil:
		v.find(name, "is missing")
	case serr != nil || len(entries) != t.W:
		v.find(name, "is not a bundle of %d entries", t.W)
	}
	if err != nil || serr != nil || len(entries) != t.W {
		return v.withoutEntries(t, pins)
	}
	for i, entry := range entries {
		v.entry(name, t.N*tileWidth+int64(i), entry)
		if err := v.leaf(tlog.RecordHash(entry), pins); err != nil {
			return err
		}
	}
	v.compare(place{entryLevel, t.N}, func(w int) []byte {
		if w > len(entries) {
			return nil
		}
		prefix, err := cutTile(tlog.Tile{L: entryLevel, W: w}, bundle)
		if err != nil {
			return nil
		}
		return prefix
	})
	return nil
}

// withoutEntries goes on with the hashes of entries that are lost, so that what is
// wrong with the others is found too.
func (v *verification) withoutEntries(t tlog.Tile, pins map[int64][]archive.Checkpoint) error {
	v.lost = append(v.lost, t.N)
	level0 := t
	level0.L = 0
	tile, err := v.r.s.readTile(v.ctx, level0)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	hashes := make([]tlog.Hash, t.W)
	for i := range min(t.W, len(tile)/tlog.HashSize) {
		copy(hashes[i][:], tile[i*tlog.HashSize:])
	}
	if err := v.narrower(t, hashes); err != nil {
		return err
	}
	for _, h := range hashes {
		if err := v.leaf(h, pins); err != nil {
			return err
		}
	}
	return nil
}

// narrower holds the narrower bundles in the place of a lost one against the hashes of
// their entries.
func (v *verification) narrower(lost tlog.Tile, hashes []tlog.Hash) error {
	p := place{entryLevel, lost.N}
	for _, w := range v.tiles[p] {
		if w >= lost.W {
			continue // found, or beyond the log
		}
		t := lost
		t.W = w
		name := v.r.s.tileName(t)
		bundle, err := v.r.s.read(v.ctx, name)
		if err != nil {
			return err
		}
		entries, err := splitBundle(bundle)
		if err != nil || len(entries) != w || !slices.EqualFunc(entries, hashes[:w], func(e []byte, h tlog.Hash) bool { return tlog.RecordHash(e) == h }) {
			v.find(name, "does not have the hashes of its place in the log")
		}
	}
	delete(v.tiles, p)
	return nil
}

// entry reads an event and pairs intents with results.
func (v *verification) entry(name string, index int64, entry []byte) {
	e, err := decodeEvent(v.r.s.log, entry)
	if err != nil {
		v.find(name, "entry %d: %v", index, err)
		return
	}
	v.report.Last = e.Time
	v.open.see(Entry{index, e, entry})
	if v.r.Visit != nil {
		v.r.Visit(Entry{index, e, entry})
	}
}

// leaf adds the hash of the next entry to the tree, and compares with the checkpoints
// and pins of the size it has then.
func (v *verification) leaf(h tlog.Hash, pins map[int64][]archive.Checkpoint) error {
	v.frontier.add(h)
	v.push(0, h)
	for _, p := range pins[v.frontier.n] {
		if p.Root != dataset.Hash(v.frontier.tree().Hash) {
			v.find(v.r.s.log, "does not continue the known checkpoint of %d entries", p.Size)
		}
	}
	for len(v.checkpoints) > 0 && v.checkpoints[0].tree.N == v.frontier.n {
		c := v.checkpoints[0]
		v.checkpoints = v.checkpoints[1:]
		err := v.signed(c, v.report.Last)
		delete(v.signatures, v.r.signatures(c.text))
		var bad *badError
		switch {
		case err != nil && !errors.As(err, &bad):
			return err
		case err != nil:
			v.find(c.name, "is not validly signed: %v", bad)
		case c.tree != v.frontier.tree():
			v.find(c.name, "is signed and contradicts the entries")
		default:
			v.report.Checkpoints++
			if c.tree.N < v.report.Head.Size { // whose tiles are looked at one by one
				v.complete(c.tree.N)
			}
		}
	}
	return nil
}

// complete finds the partial tiles that an older checkpoint was published with and that
// are not there. Full ones are missed where they are compared.
func (v *verification) complete(size int64) {
	for level, rest := entryLevel, size; rest > 0; level++ {
		if t := (tlog.Tile{H: tileHeight, L: level, N: rest / tileWidth, W: int(rest % tileWidth)}); t.W > 0 && !slices.Contains(v.there[place{level, t.N}], t.W) {
			v.find(v.r.s.tileName(t), "is missing")
		}
		if level != entryLevel {
			rest /= tileWidth
		}
	}
}

// push adds a hash to a level of tiles.
func (v *verification) push(level int, h tlog.Hash) {
	if level == len(v.levels) {
		v.levels, v.done = append(v.levels, nil), append(v.done, 0)
	}
	v.levels[level] = append(v.levels[level], h)
	if len(v.levels[level]) < tileWidth {
		return
	}
	v.compareHashes(level)
	var f frontier
	for _, h := range v.levels[level] {
		f.add(h)
	}
	v.levels[level] = v.levels[level][:0]
	v.done[level]++
	v.push(level+1, f.tree().Hash)
}

// compareHashes compares the tiles of a place with the hashes that belong there.
func (v *verification) compareHashes(level int) {
	var want []byte
	for _, h := range v.levels[level] {
		want = append(want, h[:]...)
	}
	if len(want) == 0 {
		return
	}
	p := place{level, v.done[level]}
	if w := len(v.levels[level]); !slices.Contains(v.tiles[p], w) && !slices.Contains(v.tiles[p], tileWidth) {
		v.find(v.r.s.tileName(tlog.Tile{H: tileHeight, L: level, N: p.n, W: w}), "is missing")
	}
	same := v.compare(p, func(w int) []byte {
		if w*tlog.HashSize > len(want) {
			return nil
		}
		return want[:w*tlog.HashSize]
	})
	if level == 0 && !same {
		v.doubtful = append(v.doubtful, p.n)
	}
}

// compare compares the tiles of every width in a place, and reports whether all are what
// they should be. Want returns what belongs there, nil for widths that the tree does not
// have yet: those stay, to be reported as stray.
func (v *verification) compare(p place, want func(width int) []byte) (same bool) {
	var beyond []int
	same = true
	for _, w := range v.tiles[p] {
		expected := want(w)
		if expected == nil {
			beyond = append(beyond, w)
			continue
		}
		name := v.r.s.tileName(tlog.Tile{H: tileHeight, L: p.level, N: p.n, W: w})
		if v.sums[name] != dataset.Sum(expected) {
			v.find(name, "is not what the entries make it")
			same = false
		}
	}
	if v.tiles[p] = beyond; len(beyond) == 0 {
		delete(v.tiles, p)
	}
	return same
}
