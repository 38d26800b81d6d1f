package archive

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"iter"
	"runtime"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
)

// bomb returns a zstd frame of few bytes that decodes to n zero bytes.
func bomb(n int) []byte {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		panic(err) // constant options
	}
	return enc.EncodeAll(make([]byte, n), nil)
}

// onePack is a store of one object, which does nothing else.
type onePack []byte

func (p onePack) Create(context.Context, string, []byte) error { return fs.ErrExist }

func (p onePack) Open(_ context.Context, _ string, off, n int64) (io.ReadCloser, error) {
	b := p[min(off, int64(len(p))):]
	if n >= 0 {
		b = b[:min(n, int64(len(b)))]
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

func (p onePack) List(context.Context, string) iter.Seq2[Info, error] {
	return func(func(Info, error) bool) {}
}

// hostileReader reads a pack that holds whatever its maker, who had the key and a
// signature, put there.
func hostileReader(t testing.TB, plain []byte) (*packReader, dataset.Hash) {
	t.Helper()
	key, err := crypto.NewRunKey(false)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := key.Sealer().Seal(plain)
	if err != nil {
		t.Fatal(err)
	}
	file, recipient, err := crypto.GenerateIdentity(false)
	if err != nil {
		t.Fatal(err)
	}
	managed, err := crypto.NewSealer(recipient)
	if err != nil {
		t.Fatal(err)
	}
	o, err := crypto.ParseIdentities(file, "identity")
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := key.SealTo(managed)
	if err != nil {
		t.Fatal(err)
	}
	opener, err := crypto.OpenRunKey(o, wrapped, key.ID())
	if err != nil {
		t.Fatal(err)
	}
	h := dataset.Sum(sealed)
	s := &Snapshot{Service: "s", a: &Archive{Store: onePack(sealed)}, openers: map[dataset.Hash]*crypto.Opener{key.ID(): opener},
		Packs: map[dataset.Hash]PackRef{h: {h, int64(len(sealed)), key.ID()}}}
	s.reader = newPackReader(s)
	return s.reader, h
}

// hostileFrames are zstd streams that no writer of ours makes (A18).
func hostileFrames() map[string][]byte {
	tar := appendMember(nil, "b/x/00000000", []byte("hello"))
	window := []byte{0x28, 0xB5, 0x2F, 0xFD, 0x00, 0xF8} // window descriptor: 2 TiB, no content size
	dictionary := []byte{0x28, 0xB5, 0x2F, 0xFD, 0x23, 0x01, 0x02, 0x03, 0x04, 0x05, 0x01, 0x00, 0x00}
	claims := append([]byte{0x28, 0xB5, 0x2F, 0xFD, 0xE0}, binary.LittleEndian.AppendUint64(nil, 1<<62)...)
	small, err := compress(nil, tar)
	if err != nil {
		panic(err) // a constant
	}
	empty, err := compress(nil, nil)
	if err != nil {
		panic(err)
	}
	return map[string][]byte{
		"a bomb of 1 GiB":                 bomb(1 << 30),
		"bombs one after the other":       bytes.Repeat(bomb(64<<20), 20),
		"a window of terabytes":           append(window, 0x01, 0, 0),
		"a dictionary":                    dictionary,
		"a size that is a lie":            append(claims, 0x01, 0, 0),
		"a flood of skippable frames":     append(bytes.Repeat(seekTable(nil), 1<<20), small...),
		"a flood of empty frames":         append(bytes.Repeat(empty, 1<<20), small...),
		"no zstd at all":                  bytes.Repeat([]byte("x"), 1<<20),
		"a frame that is cut":             small[:len(small)-3],
		"a frame with a broken checksum":  append(small[:len(small)-1:len(small)-1], small[len(small)-1]^1),
		"nothing":                         {},
		"a tar of ten thousand headers":   mustCompress(bytes.Repeat(appendTarHeader(nil, "b/y/00000000", 0), 4000)),
		"a member that claims to be long": mustCompress(appendTarHeader(nil, "b/x/00000000", 8<<30-1)),
	}
}

func mustCompress(raw []byte) []byte {
	z, err := compress(nil, raw)
	if err != nil {
		panic(err) // of a test
	}
	return z
}

func TestHostilePacksAreRefusedWithinBounds(t *testing.T) {
	for what, z := range hostileFrames() {
		if len(z) > PackSize-1<<20 {
			z = z[:PackSize-1<<20]
		}
		r, h := hostileReader(t, z)
		for _, whole := range []bool{true, false} {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			s, err := r.segment(t.Context(), h, Location{0, 0, max(int64(len(z)), 1), "b/x/00000000", 5}, whole)
			runtime.ReadMemStats(&after)
			if grown := int64(after.TotalAlloc - before.TotalAlloc); grown > 64<<20+4*int64(len(z)) {
				t.Errorf("%s: %d bytes were allocated for %d", what, grown, len(z))
			}
			if err == nil && string(s.data) != "hello" {
				t.Errorf("%s: read %q", what, s.data)
			}
			flood := what == "a flood of skippable frames" || what == "a flood of empty frames"
			if err == nil && !flood {
				t.Errorf("%s: accepted", what)
			}
		}
	}
}

// TestHostileTarMembersAreRefused has what A17 lists: nothing but plain members under
// our own names is ever seen by a reader of packs.
func TestHostileTarMembersAreRefused(t *testing.T) {
	header := func(change func(h []byte)) []byte {
		h := appendTarHeader(nil, "b/x/00000000", 5)
		change(h)
		var sum int
		copy(h[148:156], "        ")
		for _, c := range h {
			sum += int(c)
		}
		copy(h[148:], []byte{'0' + byte(sum>>15&7), '0' + byte(sum>>12&7), '0' + byte(sum>>9&7), '0' + byte(sum>>6&7), '0' + byte(sum>>3&7), '0' + byte(sum&7), 0, ' '})
		return append(append(h, "hello"...), make([]byte, tarBlock-5)...)
	}
	if _, err := findMember(header(func([]byte) {}), "b/x/00000000"); err != nil {
		t.Fatalf("the unchanged header: %v", err)
	}
	changes := map[string]func(h []byte){
		"a path that climbs":    func(h []byte) { copy(h, "../../../etc/passwd\x00") },
		"an absolute path":      func(h []byte) { copy(h, "/etc/passwd\x00") },
		"setuid":                func(h []byte) { copy(h[100:], "0004755\x00") },
		"an owner":              func(h []byte) { copy(h[108:], "0000001\x00") },
		"a time":                func(h []byte) { copy(h[136:], "00000000001\x00") },
		"a link name":           func(h []byte) { copy(h[157:], "/etc/passwd") },
		"a prefix":              func(h []byte) { copy(h[345:], "/etc") },
		"a size in base 256":    func(h []byte) { h[124] = 0x80 },
		"a negative size":       func(h []byte) { copy(h[124:], "-0000000005\x00") },
		"a name without an end": func(h []byte) { copy(h, bytes.Repeat([]byte("a"), 100)) },
		"an old magic":          func(h []byte) { copy(h[257:], "ustar  \x00") },
	}
	for _, typeflag := range "1234567xgLKSMV\x00" {
		changes["a member of type "+string(typeflag)] = func(h []byte) { h[156] = byte(typeflag) }
	}
	for what, change := range changes {
		for _, name := range []string{"b/x/00000000", "../../../etc/passwd", "/etc/passwd"} {
			if data, err := findMember(header(change), name); err == nil {
				t.Errorf("%s: read %q", what, data)
			}
		}
	}
}

func TestLocationsOutsideAPackAreRefused(t *testing.T) {
	z := mustCompress(appendMember(nil, "b/x/00000000", []byte("hello")))
	r, h := hostileReader(t, z)
	for _, loc := range []Location{
		{0, 1 << 62, 1 << 62, "b/x/00000000", 5}, {0, 1<<63 - 1, 1<<63 - 1, "b/x/00000000", 5}, {0, int64(len(z)), 1, "b/x/00000000", 5},
		{0, 0, int64(len(z)) + 1, "b/x/00000000", 5}, {0, -1, 5, "b/x/00000000", 5}, {0, 0, 0, "b/x/00000000", 5},
		{0, 1<<63 - 1, 1, "b/x/00000000", SegmentSize}, {0, 0, 1<<63 - 1, "b/x/00000000", SegmentSize},
	} {
		for _, whole := range []bool{false, true} {
			if _, err := r.segment(t.Context(), h, loc, whole); err == nil {
				t.Errorf("%+v: accepted", loc)
			}
		}
		if _, err := r.member(t.Context(), MemberRef{h, loc.Offset, loc.Length, loc.Member}, -1); err == nil {
			t.Errorf("%+v: accepted as a member", loc)
		}
	}
	if _, err := r.segment(t.Context(), dataset.Sum(nil), Location{0, 0, 1, "b/x/00000000", 5}, false); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a pack of no list: %v", err)
	}
}
