package bundle_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/archive/bundle"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters/memory"
	"github.com/dwp/sallyport/fixtures"
)

// needTools skips a test that shows that stock tools suffice where they are missing.
func needTools(t *testing.T) {
	t.Helper()
	for _, tool := range []string{"sh", "age", "age-keygen", "zstd", "tar", "jq", "sha256sum", "ssh-keygen"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("restoring without Sallyport was not tested: %s is not installed", tool)
		}
	}
}

// shellBlocks returns the shell commands of a Markdown text.
func shellBlocks(t *testing.T, text string) string {
	t.Helper()
	var script strings.Builder
	for i, block := range strings.Split(text, "\n```sh\n") {
		if i == 0 {
			continue
		}
		commands, _, ok := strings.Cut(block, "\n```\n")
		if !ok {
			t.Fatal("a shell block has no end")
		}
		script.WriteString(commands + "\n")
	}
	if script.Len() == 0 {
		t.Fatal("there are no shell blocks")
	}
	return script.String()
}

// shell runs a script in a folder and returns what it prints.
func (w *world) shell(t *testing.T, folder, script string, env ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh")
	cmd.Dir, cmd.Stdin = folder, strings.NewReader(script)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "IDENTITY=" + w.identity, "SIGNERS=" + w.signers}, env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestRestoreTextRestoresEveryFileWithStockTools(t *testing.T) {
	t.Parallel()
	needTools(t)
	w := newWorld(t)
	w.csv = true
	s := w.export(t, withTables(awkward()))
	bag := filepath.Join(t.TempDir(), "bag")
	if _, err := bundle.Write(t.Context(), w.a, s, bag, bundle.Options{}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(bag + "/RESTORE.md")
	if err != nil {
		t.Fatal(err)
	}
	out, err := w.shell(t, bag, shellBlocks(t, string(text)))
	if err != nil {
		t.Fatalf("RESTORE.md: %v\n%s", err, out)
	}
	w.compareAwkward(t, s, bag+"/restored")
	followsStandard(t, bag+"/restored/datapackage.json")
	followsStandard(t, bag+"/restored/csv/datapackage.json")
	left, err := os.ReadFile(bag + "/restored/left-out.jsonl")
	if err != nil || bytes.Count(left, []byte{'\n'}) != 1 || !bytes.Contains(left, []byte(`"[2]"`)) {
		t.Errorf("left-out.jsonl = %q, %v; want the record with a field that its table does not have", left, err)
	}
}

func TestCommandThatRestoreTextGivesTakesAllItsSteps(t *testing.T) {
	t.Parallel()
	needTools(t)
	text, err := os.ReadFile("restore.md")
	if err != nil {
		t.Fatal(err)
	}
	const command = "sed -n '/^```sh$/,/^```$/{/^```/!p;}' RESTORE.md"
	if !bytes.Contains(text, []byte("\n    "+command+" >")) {
		t.Fatal("the text does not give the command")
	}
	folder := t.TempDir()
	writeFile(t, folder+"/RESTORE.md", text)
	out, err := new(world).shell(t, folder, command)
	if want := shellBlocks(t, string(text)); err != nil || out != want {
		t.Errorf("the command prints %d bytes; want %d (%v)", len(out), len(want), err)
	}
}

func TestSpecificationHasTheStepsOfRestoreText(t *testing.T) {
	t.Parallel()
	var steps [2]string
	for i, path := range []string{"restore.md", "../../docs/archive-format.md"} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		script := shellBlocks(t, string(text))
		from := strings.Index(script, "signed() {")
		if from < 0 {
			t.Fatalf("%s does not check signatures", path)
		}
		steps[i] = script[from:]
	}
	if steps[0] != steps[1] {
		t.Error("the commands of docs/archive-format.md are not those of RESTORE.md")
	}
}

func TestSpecificationRestoresFromTheStoreItself(t *testing.T) {
	t.Parallel()
	needTools(t)
	w := newWorld(t)
	w.export(t, awkward())
	s := w.export(t, awkward()) // some of its packs are another run's
	folder := t.TempDir()
	out, err := w.shell(t, folder, specification(t), "STORE="+w.store, "SERVICE=case-files", "RUN="+string(s.Run))
	if err != nil {
		t.Fatalf("the specification: %v\n%s", err, out)
	}
	w.compareAwkward(t, s, folder+"/restored")
}

func TestGoldenArchivesAreRestoredByStockTools(t *testing.T) {
	t.Parallel()
	needTools(t)
	all, err := fixtures.Archives()
	if err != nil {
		t.Fatal(err)
	}
	golden, err := filepath.Abs("../../fixtures/golden")
	if err != nil {
		t.Fatal(err)
	}
	script := specification(t)
	w := &world{signers: golden + "/keys/allowed_signers", identity: golden + "/keys/identity.txt"}
	if w.trust, err = fixtures.Trust(); err != nil {
		t.Fatal(err)
	}
	if w.open, err = fixtures.Identity("identity.txt"); err != nil {
		t.Fatal(err)
	}
	restored := 0
	for _, g := range all {
		if g.Expect.Identity != "identity.txt" {
			continue // post-quantum: beyond the age of this Debian
		}
		a, err := archive.Open(t.Context(), g.Store(), w.trust)
		if err != nil {
			t.Fatal(err)
		}
		runs, err := a.Snapshots(t.Context(), g.Expect.Service)
		if err != nil {
			t.Fatal(err)
		}
		s, err := a.Snapshot(t.Context(), g.Expect.Service, runs.All[len(runs.All)-1])
		if err == nil {
			err = s.Unlock(t.Context(), w.open)
		}
		if err != nil {
			t.Fatal(err)
		}
		folder := t.TempDir()
		out, err := w.shell(t, folder, script, "STORE="+filepath.Join(golden, g.Name, "store"), "SERVICE="+g.Expect.Service, "RUN="+string(s.Run))
		if err != nil {
			t.Errorf("%s: %v\n%s", g.Name, err, out)
			continue
		}
		compare(t, s, folder+"/restored")
		restored++
	}
	if restored == 0 {
		t.Error("there was no golden archive to restore")
	}
}

// specification returns the commands of docs/archive-format.md.
func specification(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/archive-format.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "\n## Reading an archive without Sallyport\n")
	if !ok {
		t.Fatal("the specification has no section about reading an archive without Sallyport")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	return shellBlocks(t, section)
}

// compareAwkward is compare for what awkward makes.
func (w *world) compareAwkward(t *testing.T, s *archive.Snapshot, folder string) {
	t.Helper()
	if err := s.Unlock(t.Context(), w.open); err != nil {
		t.Fatal(err)
	}
	if blobs := compare(t, s, folder); blobs < 300 {
		t.Errorf("only %d objects were compared", blobs)
	}
	gaps, err := os.ReadFile(folder + "/gaps.jsonl")
	if n := bytes.Count(gaps, []byte{'\n'}); err != nil || n != 1 || !bytes.Contains(gaps, []byte(`"broken"`)) {
		t.Errorf("gaps.jsonl = %q, %v", gaps, err)
	}
}

// compare holds a restored folder against an unlocked snapshot as this module reads it,
// and returns how many objects there are.
func compare(t *testing.T, s *archive.Snapshot, folder string) (blobs int) {
	t.Helper()
	want := map[string]bool{"datapackage.json": true, "gaps.jsonl": true, "second.jsonl": true, "sha256sums": true}
	for _, r := range s.Descriptor.Resources {
		want[r.Path[0]] = true
		lines, err := os.ReadFile(filepath.Join(folder, r.Path[0]))
		if err != nil {
			t.Fatal(err)
		}
		for part, err := range s.Parts(t.Context(), r.Sallyport.Table) {
			if err != nil {
				t.Fatal(err)
			}
			own, err := s.Lines(t.Context(), &part)
			if err != nil {
				t.Fatal(err)
			}
			rest, ok := bytes.CutPrefix(lines, own)
			if !ok {
				t.Fatalf("%s does not go on with part %s", r.Path[0], part.Part)
			}
			lines = rest
		}
		if len(lines) != 0 {
			t.Errorf("%s has %d bytes too many", r.Path[0], len(lines))
		}
		if r.Sallyport.CSV != nil {
			want["left-out.jsonl"], want["csv/datapackage.json"] = true, true
			want["csv/"+r.Name+".csv"], want["csv/"+r.Name+".csv-metadata.json"] = true, true
			compareCSV(t, s, &r.Sallyport, filepath.Join(folder, "csv", r.Name+".csv"))
		}
		for rec, err := range s.Records(t.Context(), &r.Sallyport) {
			if err != nil {
				t.Fatal(err)
			}
			if rec.Blob == nil {
				continue
			}
			path := "files/" + r.Name + "/" + rec.Blob.Archived.(*archive.Line).Path
			want[path] = true
			if err := sameBlob(t, filepath.Join(folder, path), rec); err != nil {
				t.Errorf("%q: %v", rec.Key, err)
			}
			blobs++
		}
	}
	got := map[string]bool{}
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			name, rerr := filepath.Rel(folder, path)
			got[name], err = true, rerr
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range got {
		if !want[name] {
			t.Errorf("%q should not be there", name)
		}
	}
	for name := range want {
		if !got[name] {
			t.Errorf("%q was not restored", name)
		}
	}
	return blobs
}

// followsStandard holds a descriptor against the profile of Data Package 2.0, and looks
// for the files that it names.
func followsStandard(t *testing.T, path string) {
	t.Helper()
	read := func(path string) any {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		return doc
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("profile.json", read("../../dataset/testdata/datapackage-2.0.schema.json")); err != nil {
		t.Fatal(err)
	}
	profile, err := c.Compile("profile.json")
	if err != nil {
		t.Fatal(err)
	}
	doc := read(path)
	if err := profile.Validate(doc); err != nil {
		t.Errorf("%s: %v", path, err)
	}
	resources := doc.(map[string]any)["resources"].([]any)
	if len(resources) == 0 {
		t.Errorf("%s has no resources", path)
	}
	for _, r := range resources {
		for _, name := range r.(map[string]any)["path"].([]any) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), name.(string))); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
}

// withTables adds what CSV finds hard: names and texts with quotes and line ends, a table
// without rows, one of several parts, and a record that cannot be a row.
func withTables(src *memory.Source) *memory.Source {
	field := func(name string, typ dataset.Type) dataset.Field { return dataset.Field{Name: name, Type: typ} }
	def := dataset.Stream{Name: "Table \"1\"", Schema: &dataset.Schema{PrimaryKey: []string{"id"},
		Fields: []dataset.Field{field("id", dataset.Integer), field("a \"b\",\n'c'", dataset.String)}}}
	src.Add(def,
		dataset.Record{Key: "[1]", Data: []byte(`{"id":1,"a \"b\",\n'c'":"=1+1\r\n\"x\""}`)},
		dataset.Record{Key: "[2]", Data: []byte(`{"id":2,"unknown":true}`)},
		dataset.Record{Key: "[3]", Data: []byte(`{"id":3,"a \"b\",\n'c'":""}`)})
	src.Add(dataset.Stream{Name: "no rows", Schema: def.Schema})
	long := dataset.Stream{Name: "long", Schema: &dataset.Schema{PrimaryKey: []string{"id"}, Fields: []dataset.Field{field("id", dataset.Integer), field("text", dataset.String)}}}
	src.Generate(long, 300, func(i int) dataset.Record {
		return dataset.Record{Key: fmt.Sprintf("[%d]", i), Data: fmt.Appendf(nil, `{"id":%d,"text":"%s"}`, i, strings.Repeat("line\\n", 4000))}
	})
	return src
}

// compareCSV holds a restored CSV file against the records of its stream.
func compareCSV(t *testing.T, s *archive.Snapshot, e *archive.StreamEntry, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	table, err := e.CSVTable()
	if err != nil {
		t.Fatal(err)
	}
	r, err := dataset.NewCSVReader(f, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	left, rows := int64(0), int64(0)
	for rec, err := range s.Records(t.Context(), e) {
		if err != nil {
			t.Fatal(err)
		}
		want, _, err := table.Row(nil, rec.Data)
		if err != nil {
			left++
			continue
		}
		rows++
		if got, err := r.Read(nil); err != nil || !slices.Equal(got, want) {
			t.Fatalf("%s: row %d is %v, %v; want %v", path, rows, got, err, want)
		}
	}
	if _, err := r.Read(nil); err != io.EOF || rows != e.CSV.Rows || left != e.CSV.LeftOut {
		t.Errorf("%s: %d rows of %d, %d left out of %d, then %v", path, rows, e.CSV.Rows, left, e.CSV.LeftOut, err)
	}
}

func sameBlob(t *testing.T, path string, rec dataset.Record) error {
	got, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	r, err := rec.Blob.Open(t.Context(), 0, -1)
	if err != nil {
		return err
	}
	want, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%d bytes were restored that are not the %d archived ones", len(got), len(want))
	}
	return nil
}

func TestEveryPackIsAcceptedByStockTools(t *testing.T) {
	t.Parallel()
	needTools(t)
	w := newWorld(t)
	s := w.export(t, awkward())
	// Only the run keys open packs: opened here as RESTORE.md does.
	const script = `set -eu
for sealed in "$STORE"/case-files/keys/*/*.age; do age -d -i "$IDENTITY" "$sealed"; done >keys
n=0
for pack in "$STORE"/case-files/packs/*/*; do
	age -d -i keys -o pack.tar.zst "$pack"
	zstd -q -t pack.tar.zst
	zstd -q -d -f pack.tar.zst -o pack.tar
	tar -t -f pack.tar >names
	! grep -v -E '^(p/[0-9TZa-z-]+\.(jsonl?|csv)|b/[0-9TZa-z-]+/[0-9]{8})$' names
	n=$((n + 1))
done
echo $n`
	out, err := w.shell(t, t.TempDir(), script, "STORE="+w.store)
	if err != nil || strings.TrimSpace(out) != fmt.Sprint(len(s.Packs)) {
		t.Errorf("%d packs: %v\n%s", len(s.Packs), err, out)
	}
}

func TestRestoreTextStopsAtWhatIsNotAsSigned(t *testing.T) {
	t.Parallel()
	needTools(t)
	w, other := newWorld(t), newWorld(t)
	src := new(memory.Source)
	src.Add(dataset.Stream{Name: "objects", Blobs: true}, dataset.Record{Key: "a", Data: []byte(`{}`), Blob: memory.Bytes([]byte("a"))})
	src.Add(dataset.Stream{Name: "settings"}, dataset.Record{Key: "b", Data: []byte(`{}`)})
	s := w.export(t, src)
	bag := filepath.Join(t.TempDir(), "bag")
	if _, err := bundle.Write(t.Context(), w.a, s, bag, bundle.Options{}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(bag + "/RESTORE.md")
	if err != nil {
		t.Fatal(err)
	}
	script := shellBlocks(t, string(text))
	// Whoever can alter a bag can alter its unsigned manifests of checksums, too.
	_, unsigned, ok := strings.Cut(script, "signed() {")
	if !ok {
		t.Fatal("the text has no function signed")
	}
	prelude, _, _ := strings.Cut(script, "sha256sum --check")
	lenient := prelude + "signed() {" + unsigned

	damaged := func(pattern string) {
		t.Helper()
		names, err := filepath.Glob(filepath.Join(bag, "data", pattern))
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		data, err := os.ReadFile(names[0])
		if err != nil {
			t.Fatal(err)
		}
		whole := bytes.Clone(data)
		data[len(data)/2] ^= 1
		for _, b := range [][]byte{data, whole} {
			if err := os.Chmod(names[0], 0o600); err != nil {
				t.Fatal(err)
			}
			writeFile(t, names[0], b)
			if &b[0] == &whole[0] {
				return
			}
			out, err := w.shell(t, bag, lenient)
			if err == nil {
				t.Errorf("%s was altered, and the restore went on:\n%s", pattern, out)
			}
			if err := os.RemoveAll(bag + "/restored"); err != nil {
				t.Fatal(err)
			}
		}
	}
	damaged("store.json")
	damaged("case-files/decisions/*")
	damaged("case-files/lists/*")
	damaged("case-files/packs/*/*")
	damaged("case-files/keys/*/*.age")
	swapped := swapKeys(t, bag+"/data/case-files/keys")
	if out, err := w.shell(t, bag, lenient); err == nil || !strings.Contains(out, "opens none of its files") {
		t.Errorf("run keys were exchanged: %v\n%s", err, out)
	}
	swapped()
	if err := os.RemoveAll(bag + "/restored"); err != nil {
		t.Fatal(err)
	}
	if out, err := other.shell(t, bag, script); err == nil || !strings.Contains(out, "no signature that") {
		t.Errorf("a stranger's signature was accepted: %v\n%s", err, out)
	}
	if err := os.RemoveAll(bag + "/restored"); err != nil {
		t.Fatal(err)
	}
	if out, err := w.shell(t, bag, script, "IDENTITY="+other.identity); err == nil || !strings.Contains(out, "opens none of its files") {
		t.Errorf("another identity: %v\n%s", err, out)
	}
	if err := os.RemoveAll(bag + "/restored"); err != nil {
		t.Fatal(err)
	}
	if out, err := w.shell(t, bag, lenient); err != nil { // or all of the above failed for another reason
		t.Errorf("the whole bag: %v\n%s", err, out)
	}
}

// A hostile exporter signs whatever it likes. Its packs and lines are played by tools
// that add to what the real ones print.
func TestRestoreTextWritesNothingOutsideItsFolder(t *testing.T) {
	t.Parallel()
	needTools(t)
	w := newWorld(t)
	src := new(memory.Source)
	src.Add(dataset.Stream{Name: "objects", Blobs: true}, dataset.Record{Key: "a", Data: []byte(`{}`), Blob: memory.Bytes(nil)})
	s := w.export(t, src)
	bag := filepath.Join(t.TempDir(), "bag")
	if _, err := bundle.Write(t.Context(), w.a, s, bag, bundle.Options{}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(bag + "/RESTORE.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, evil := range map[string]struct{ tool, script string }{
		"path":            {"jq", `"$real" "$@" || exit; case "$*" in *work/lines) echo "$empty objects/../../../../../evil";; esac`},
		"absolute path":   {"jq", `"$real" "$@" || exit; case "$*" in *work/lines) echo "$empty /evil/x";; esac`},
		"option":          {"jq", `"$real" "$@" || exit; case "$*" in *work/lines) echo "$empty objects/-rf/x";; esac`},
		"resource":        {"jq", `"$real" "$@" || exit; case "$*" in *records*) echo "../../../evil 0";; esac`},
		"link in a pack":  {"zstd", `"$real" "$@" || exit; for out; do :; done; mkdir -p "$HOME/t/b"; ln -sfn / "$HOME/t/b/20260301T020000Z-a-1"; tar -r -f "$out" -C "$HOME/t" b/20260301T020000Z-a-1`},
		"linked file":     {"zstd", `"$real" "$@" || exit; for out; do :; done; mkdir -p "$HOME/t/b/z"; ln -sfn /etc/passwd "$HOME/t/b/z/00000000"; tar -r -f "$out" -C "$HOME/t" b/z/00000000`},
		"foreign in pack": {"zstd", `"$real" "$@" || exit; for out; do :; done; mkdir -p "$HOME/t"; : >"$HOME/t/evil"; tar -r -f "$out" -C "$HOME/t" evil`},
	} {
		real, err := exec.LookPath(evil.tool)
		if err != nil {
			t.Fatal(err)
		}
		tools := t.TempDir()
		wrapper := fmt.Sprintf("#!/bin/sh\nreal=%s empty=%s\n%s\n", real, dataset.Sum(nil), evil.script)
		if err := os.WriteFile(filepath.Join(tools, evil.tool), []byte(wrapper), 0o700); err != nil {
			t.Fatal(err)
		}
		out, err := w.shell(t, bag, shellBlocks(t, string(text)), "PATH="+tools+":"+os.Getenv("PATH"))
		if err == nil || !strings.Contains(out, "not what it should be") {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		if err := os.RemoveAll(bag + "/restored"); err != nil {
			t.Fatal(err)
		}
	}
}

// swapKeys exchanges the sealed files of two run keys, and returns what undoes it.
func swapKeys(t *testing.T, folder string) (undo func()) {
	t.Helper()
	names, err := filepath.Glob(folder + "/*/*.age")
	if err != nil || len(names) != 2 {
		t.Fatalf("%d sealed keys, %v", len(names), err)
	}
	swap := func() {
		for _, step := range [][2]string{{names[0], folder + "/x"}, {names[1], names[0]}, {folder + "/x", names[1]}} {
			if err := os.Rename(step[0], step[1]); err != nil {
				t.Fatal(err)
			}
		}
	}
	swap()
	return swap
}
