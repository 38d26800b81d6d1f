package retention_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/archive/archivetest"
	"github.com/dwp/sallyport/archive/dir"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/retention"
	"github.com/dwp/sallyport/verify"
)

// chain makes a chain of so many runs in the directory store at path. Each run is
// written into a store of its own, which holds nothing but the run before, and copied:
// otherwise the last of ten thousand would read ten thousand manifests first.
func (c *court) chain(t testing.TB, path string, runs int) {
	t.Helper()
	before := &archivetest.Memory{Time: c.now}
	copyObjects(t, c.on, before)
	root := before.Clone()
	for n := range runs {
		c.pass(time.Minute)
		c.state, c.a.Store = "", before
		d := c.exportRow(t, n)
		next := root.Clone()
		for _, name := range before.Names() {
			if p := archive.ParseName(name); p.Class == archive.StoreObject || p.Class == archive.SignatureObject && p.Service == "" {
				continue
			}
			data := before.Bytes(name)
			writeObject(t, path, name, data)
			if p := archive.ParseName(name); p.Run == d.Run || p.Document == d.Hash || p.Document == d.Manifest.Intent {
				next.Put(name, data)
			}
		}
		before = next
	}
	c.a.Store = c.on
}

// exportRow makes a snapshot of one row.
func (c *court) exportRow(t testing.TB, n int) *archive.Decision {
	t.Helper()
	run, err := archive.Begin(t.Context(), c.a, archive.Options{Service: service, Exporter: "memory", Classification: "OFFICIAL", Product: "test",
		Signer: c.signers["exporter"], Recipients: c.toAll, Now: c.now, PackSize: 64 << 10})
	check(t, err)
	s, err := run.Stream(dataset.Stream{Name: "rows"}, 1)
	check(t, err)
	check(t, s.Section(0).Record(t.Context(), fmt.Sprintf("[%d]", n), fmt.Appendf(nil, `{"n":%d}`, n)))
	d, err := run.Commit(t.Context(), archive.Summary{})
	check(t, err)
	return d
}

func copyObjects(t testing.TB, from archive.Store, to *archivetest.Memory) {
	t.Helper()
	for info, err := range from.List(t.Context(), "") {
		check(t, err)
		r, err := from.Open(t.Context(), info.Name, 0, -1)
		check(t, err)
		var b bytes.Buffer
		_, err = b.ReadFrom(r)
		check(t, errors.Join(err, r.Close()))
		to.Put(info.Name, b.Bytes())
	}
}

// writeObject writes an object without making it durable: nobody waits for the disk.
func writeObject(t testing.TB, path, name string, data []byte) {
	t.Helper()
	file := filepath.Join(path, filepath.FromSlash(name))
	check(t, os.MkdirAll(filepath.Dir(file), 0o700))
	check(t, os.WriteFile(file, data, 0o400))
}

// A rotation of all keys of an archive of 10,000 runs (a sample of them in make test), cut
// short once.
func TestRotationOfThousandsOfRunsIsResumedAndTouchesNoPack(t *testing.T) {
	t.Parallel()
	runs := 200
	switch {
	case os.Getenv("SALLYPORT_EXHAUSTIVE") != "":
		runs = 10_000
	case testing.Short():
		runs = 50
	}
	path := t.TempDir()
	st, err := dir.Open(path)
	check(t, err)
	t.Cleanup(func() { st.Close() })
	c := &court{clock: time.Now().UTC().Truncate(time.Second)}
	c.convene(t, st)
	c.chain(t, path, runs)
	before := packFiles(t, path)
	if len(before) < 2*runs {
		t.Fatalf("%d packs of %d runs", len(before), runs)
	}

	file, recipient, err := crypto.GenerateIdentity(false)
	check(t, err)
	identity := filepath.Join(t.TempDir(), "identity.age")
	check(t, os.WriteFile(identity, file, 0o600))
	next, err := crypto.ParseIdentities(file, identity)
	check(t, err)
	to, err := crypto.NewSealer(recipient)
	check(t, err)
	r := &retention.Rotation{Archive: c.a, Signer: c.signers["verifier"], Open: c.managed, Data: to, Log: c.log, Now: c.now}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := 0
	r.OnKey = func(dataset.Hash, bool) {
		if done++; done == runs/2 {
			cancel()
		}
	}
	began := time.Now()
	if _, err := r.Run(ctx, service); !errors.Is(err, context.Canceled) {
		t.Fatalf("a rotation was cut short: %v", err)
	}
	r.OnKey = nil
	out, err := r.Run(t.Context(), service)
	check(t, err)
	took := time.Since(began)
	if out.Keys != 2*runs || out.Resealed+out.Already != out.Keys || out.Already < runs/2 || out.Resealed == 0 {
		t.Errorf("rotated %+v of %d keys", out, 2*runs)
	}
	t.Logf("%d keys of %d runs were sealed anew in %.1f s, cut short once", out.Keys, runs, took.Seconds())

	began = time.Now()
	applied, err := apply(t, c.keeperDesk(), keepLast(2*runs))
	check(t, err)
	if len(applied.Superseded) != 2*runs {
		t.Errorf("%d replaced key files were removed; want %d", len(applied.Superseded), 2*runs)
	}
	t.Logf("%d key files that were replaced were removed in %.1f s", len(applied.Superseded), time.Since(began).Seconds())

	untouched(t, path, before)
	c.keyFilesOpenWith(t, next)
	all, err := c.a.Snapshots(t.Context(), service)
	check(t, err)
	sample := []*archive.Decision{all.All[0], all.All[runs/2], all.All[runs-1]}
	opensWithStockAge(t, path, identity, sample...)
	for _, d := range sample {
		s, err := c.a.Snapshot(t.Context(), service, d)
		check(t, err)
		if err := s.Unlock(t.Context(), c.managed); !errors.Is(err, crypto.ErrNoKey) {
			t.Errorf("the old identity opens %s: %v", d.Run, err)
		}
		check(t, s.Unlock(t.Context(), next))
	}
}

// packFiles returns the files of the packs by name.
func packFiles(t testing.TB, path string) map[string]os.FileInfo {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(path, service, "packs", "*", "*"))
	check(t, err)
	files := map[string]os.FileInfo{}
	for _, n := range names {
		files[n], err = os.Stat(n)
		check(t, err)
	}
	return files
}

// untouched fails the test unless the packs are the very files that they were.
func untouched(t testing.TB, path string, before map[string]os.FileInfo) {
	t.Helper()
	after := packFiles(t, path)
	if len(after) != len(before) {
		t.Errorf("there are %d packs; want %d", len(after), len(before))
	}
	for name, was := range before {
		if is := after[name]; is == nil || !os.SameFile(was, is) || !was.ModTime().Equal(is.ModTime()) || was.Size() != is.Size() {
			t.Errorf("%s was removed or written anew", name)
		}
	}
}

// keyFilesOpenWith fails the test unless next opens every sealed key in the store, and the
// managed identity of before none.
func (c *court) keyFilesOpenWith(t testing.TB, next *crypto.Opener) {
	t.Helper()
	n := 0
	for info, err := range c.on.List(t.Context(), service+"/keys/") {
		check(t, err)
		if archive.ParseName(info.Name).Class != archive.KeyObject {
			continue
		}
		n++
		sealed, err := c.a.Read(t.Context(), info.Name)
		check(t, err)
		if _, err := c.managed.Open(sealed); !errors.Is(err, crypto.ErrNoKey) {
			t.Errorf("the old identity opens %s: %v", info.Name, err)
		}
		if _, err := next.Open(sealed); err != nil {
			t.Errorf("the new identity does not open %s: %v", info.Name, err)
		}
	}
	if n == 0 {
		t.Error("there are no sealed keys")
	}
}

// opensWithStockAge reads the packs of snapshots with what a Linux distribution ships.
func opensWithStockAge(t testing.TB, path, identity string, snapshots ...*archive.Decision) {
	t.Helper()
	for _, tool := range []string{"age", "zstd", "tar"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%v; make deps installs it", err)
		}
	}
	for _, d := range snapshots {
		var script strings.Builder
		script.WriteString("set -eu; cd \"$1\"; keys=$2; identity=$3\n")
		for _, k := range d.Manifest.Keys {
			fmt.Fprintf(&script, "for f in keys/%s/*.age; do age -d -i \"$identity\" \"$f\" >>\"$keys\"; done\n", k.ID)
		}
		for _, l := range d.Manifest.Lists {
			fmt.Fprintf(&script, "for p in $(sed -n 's/^{\"sha256\":\"\\([0-9a-f]*\\)\".*/\\1/p' lists/%s); do age -d -i \"$keys\" packs/${p%%\"${p#??}\"}/$p | zstd -dc | tar -t; done\n", l.SHA256)
		}
		out, err := exec.CommandContext(t.Context(), "sh", "-c", script.String(), "sh", filepath.Join(path, service), filepath.Join(t.TempDir(), "run.keys"), identity).CombinedOutput()
		if err != nil || strings.Count(string(out), "p/") < 2 {
			t.Errorf("snapshot %s with stock age: %v\n%s", d.Run, err, out)
		}
	}
}

// Snapshots of before are sealed anew to post-quantum recipients; whoever has only the
// index identity goes on reading names.
func TestKeysAreRotatedToPostQuantumAndIndexRecipients(t *testing.T) {
	t.Parallel()
	c := newCourt(t)
	c.fill(3)
	s := c.export(t)
	hybrid := func() (*crypto.Opener, *crypto.Sealer) {
		file, recipient, err := crypto.GenerateIdentity(true)
		check(t, err)
		o, err := crypto.ParseIdentities(file, "identity")
		check(t, err)
		to, err := crypto.NewSealer(recipient)
		check(t, err)
		return o, to
	}
	next, data := hybrid()
	clerk, index := hybrid()
	r := &retention.Rotation{Archive: c.a, Signer: c.signers["verifier"], Open: c.managed, Data: data, Index: index, Log: c.log, Now: c.now}
	_, err := r.Run(t.Context(), service)
	check(t, err)
	_, err = apply(t, c.keeperDesk(), keepLast(9)) // removes the key files of before
	check(t, err)
	c.keyFilesOpenWithout(t, c.managed)
	identities := []verify.Identity{{Name: "old", Opener: c.managed}, {Name: "next", Opener: next}, {Name: "clerk", Opener: clerk}}
	tests, err := retention.TestKeys(t.Context(), c.a, service, identities)
	check(t, err)
	for _, k := range tests {
		want, sealed := []string{"next"}, data.Recipients()
		if k.Key.Role == archive.IndexRole {
			want, sealed = append(want, "clerk"), append(sealed, index.Recipients()...)
		}
		slices.Sort(sealed)
		if !slices.Equal(k.Opened, want) || !slices.Equal(k.SealedTo, sealed) || len(k.Problems) > 0 || !slices.Equal(k.Snapshots, []archive.RunID{s.Run}) {
			t.Errorf("%s key: %+v", k.Key.Role, k)
		}
	}
	want := []retention.Reader{{Identity: "old", Nothing: 1}, {Identity: "next", Contents: 1}, {Identity: "clerk", Names: 1}}
	if got := retention.Readers(tests, identities); !slices.Equal(got, want) {
		t.Errorf("readers %+v; want %+v", got, want)
	}
	// What is missing and what is damaged is named, and opens nothing.
	for _, k := range tests {
		for _, name := range c.store.Names() {
			if n := archive.ParseName(name); n.Class == archive.KeyObject && n.Key == k.Key.ID && k.Key.Role == archive.DataRole {
				c.store.Put(name, []byte("age-encryption.org/v1\n"))
			} else if n.Class == archive.KeyObject && n.Key == k.Key.ID {
				c.store.Put(name, nil)
			}
		}
	}
	tests, err = retention.TestKeys(t.Context(), c.a, service, identities)
	check(t, err)
	for _, k := range tests {
		if len(k.Opened) > 0 || len(k.Problems) == 0 || len(k.SealedTo) > 0 {
			t.Errorf("%s key without a whole file: %+v", k.Key.Role, k)
		}
	}
}

// keyFilesOpenWithout fails the test if an identity opens any sealed key.
func (c *court) keyFilesOpenWithout(t testing.TB, old *crypto.Opener) {
	t.Helper()
	for _, name := range c.store.Names() {
		if archive.ParseName(name).Class != archive.KeyObject {
			continue
		}
		if _, err := old.Open(c.store.Bytes(name)); !errors.Is(err, crypto.ErrNoKey) {
			t.Errorf("the old identity opens %s: %v", name, err)
		}
	}
}
