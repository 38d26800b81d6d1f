package archive

import (
	"crypto/aes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/dwp/sallyport/dataset"
)

// specification is docs/archive-format.md, which these tests hold against the code.
func specification(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../docs/archive-format.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestSpecificationListsEveryGapCode(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "../dataset/gap.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	meaning := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && len(v.Values) == 1 && v.Comment != nil {
			if lit, ok := v.Values[0].(*ast.BasicLit); ok {
				meaning[strings.Trim(lit.Value, `"`)] = strings.TrimSpace(v.Comment.Text())
			}
		}
		return true
	})
	want := ""
	for _, code := range dataset.Codes {
		if meaning[string(code)] == "" {
			t.Errorf("dataset does not say what %s means", code)
		}
		want += fmt.Sprintf("| `%s` | %s |\n", code, meaning[string(code)])
	}
	if !strings.Contains(specification(t), "\n| code | meaning |\n|---|---|\n"+want+"\n") {
		t.Errorf("the table of gap codes should be\n%s", want)
	}
}

func TestSpecificationListsEveryMember(t *testing.T) {
	t.Parallel()
	spec := specification(t)
	for heading, v := range map[string]any{
		"### store.json\n": StoreDocument{}, "### Intent\n": Intent{}, "### Statement\n": Statement{},
		"| member of the head |": listHead{}, "| member of a pack |": PackRef{},
		"### Manifest\n": Manifest{}, "| member of `counts` |": Counts{}, "| member of a place |": MemberRef{},
		"| member of `lists` |": ListRef{}, "| member of `keys` |": KeyRef{}, "| member of `log` |": Checkpoint{}, "| member of `endpoints` |": dataset.Endpoint{},
		"### Abort\n": Abort{}, "### Expiry\n": Expiry{},
		"### Index lines\n": wireLine{}, "| member of `location` |": Location{}, "### Part tables\n": PartEntry{},
		"| member of a part's `csv` |": CSVPart{}, "| member of a resource's `csv` |": StreamCSV{}, "| member of a record left out |": LeftOutLine{},
		"### Gaps\n": GapLine{}, "### Second readings\n": SecondLine{},
		"## Descriptor\n": Descriptor{}, "| member of a resource |": Resource{}, "| member of a resource's `sallyport` |": StreamEntry{}, "| member of the package's `sallyport` |": Contents{},
		"| member of `stream` |": dataset.Stream{}, "| member of its `schema` |": dataset.Schema{}, "| member of a field |": dataset.Field{},
		"| member of a foreign key |": dataset.ForeignKey{}, "| member of an index |": dataset.Index{}, "| member of `facts` |": dataset.Facts{},
		"| member of a proof |": dataset.Proof{},
	} {
		_, rest, ok := strings.Cut(spec, "\n"+heading)
		if !ok {
			t.Errorf("the specification has no %q", heading)
			continue
		}
		var got []string
		inTable := strings.HasPrefix(heading, "|")
		for line := range strings.Lines(rest) {
			if strings.HasPrefix(line, "| `") {
				inTable = true
				got = append(got, strings.SplitN(line, "`", 3)[1])
			} else if inTable && !strings.HasPrefix(line, "|") && len(got) > 0 {
				break
			}
		}
		if want := members(reflect.TypeOf(v)); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: members %q; want %q", strings.TrimSpace(heading), got, want)
		}
	}
}

// members returns the JSON members of a struct in order.
func members(t reflect.Type) []string {
	var names []string
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if name != "" && name != "-" {
			names = append(names, name)
		}
	}
	return names
}

func TestSpecificationListsEveryNamespace(t *testing.T) {
	t.Parallel()
	spec := specification(t)
	for _, ns := range namespaces {
		if !strings.Contains(spec, "`"+ns+"`") {
			t.Errorf("the specification does not name %s", ns)
		}
	}
}

func TestWorkedExampleIsRight(t *testing.T) {
	t.Parallel()
	spec := specification(t)
	want := workedExample(t)
	if !strings.Contains(spec, "\n```text\n"+want+"```\n") {
		t.Errorf("the worked example should be\n%s", want)
	}
	store, err := os.ReadFile("../fixtures/golden/1/objects/store/store.json")
	if err != nil {
		t.Fatal(err)
	}
	if example := fmt.Sprintf("\n```json\n%s```\n", store); !strings.Contains(spec, example) || !strings.Contains(spec, dataset.Sum(store).String()) {
		t.Errorf("the example of store.json should be\n%s\n%s", example, dataset.Sum(store))
	}
	_, command, ok := strings.Cut(spec, "\n```console\n$ ")
	if !ok {
		t.Fatal("there is no command")
	}
	command, output, _ := strings.Cut(strings.SplitN(command, "\n```", 2)[0], "\n")
	for _, tool := range []string{"sh", "openssl", "head", "sha256sum"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("the command of the worked example was not tried: %s is not installed", tool)
		}
	}
	got, err := exec.CommandContext(t.Context(), "sh", "-c", command).CombinedOutput()
	if err != nil || strings.TrimSpace(string(got)) != output {
		t.Errorf("%s\nprints %s (%v); the text says %s", command, got, err, output)
	}
}

// workedExample computes the example from the words of the specification, with nothing
// of this module but the encoders of lines, and holds it against this module.
func workedExample(t *testing.T) string {
	t.Helper()
	hello := []byte("hello\n")
	blob := Line{Key: "a", Data: []byte(`{"etag":"1"}`), HasBlob: true, Size: 6, SHA256: sha256.Sum256(hello), Path: "objects/a",
		Location: []Location{{Offset: 0, Length: 57, Member: "b/20260301T020000Z-aaaaaaaaaaaaaaaaaaaaaaaaaa-1/00000000", Size: 6}}}
	marker := Line{Key: "b", Ordinal: 1, Data: []byte(`{"delete_marker":true}`)}
	var lines [2]string
	for i, l := range []Line{blob, marker} {
		b, err := l.appendLine(nil)
		if err != nil {
			t.Fatal(err)
		}
		lines[i] = string(b)
	}
	before, _, _ := strings.Cut(lines[0], `,"location":`)
	covered := [2]string{before + "}", lines[1]}

	var salt dataset.PartKey
	for i := range salt {
		salt[i] = byte(i)
	}
	block, err := aes.NewCipher(salt[:])
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	say := func(label, format string, args ...any) {
		fmt.Fprintf(&out, "%-14s%s\n", label, fmt.Sprintf(format, args...))
	}
	hash := func(parts ...[]byte) []byte {
		h := sha256.New()
		for _, p := range parts {
			h.Write(p)
		}
		return h.Sum(nil)
	}
	say("salt", "%x", salt[:])
	var leaves [2][]byte
	for i := range lines {
		var index, r [16]byte
		binary.BigEndian.PutUint64(index[8:], uint64(i))
		block.Encrypt(r[:], index[:])
		leaves[i] = hash([]byte{0}, r[:], []byte(covered[i]))
		say(fmt.Sprintf("line %d", i), "%s", lines[i])
		say("  covered", "%s", covered[i])
		say(fmt.Sprintf("  r_%d", i), "%x", r)
		say("  leaf", "%x", leaves[i])
	}
	part := hash([]byte{1}, leaves[0], leaves[1])
	stream := hash([]byte{0}, part, binary.BigEndian.AppendUint64(nil, 2))
	snapshot := hash([]byte{0}, hash([]byte("letters")), stream)
	say("part root", "%x", part)
	say("stream root", "%x", stream)
	say("snapshot root", "%x (the stream's name is letters)", snapshot)
	say("seek table", "%x (one frame of 57 bytes that decodes to 2048)", seekTable([]frameInfo{{57, 2048}}))

	if got := partRoot(salt, []byte(lines[0]+"\n"+lines[1]+"\n"), true); string(got[:]) != string(part) {
		t.Errorf("this module computes the part root %s", got)
	}
	var sr dataset.StreamRoot
	sr.Add(dataset.Hash(part), 2)
	var all dataset.SnapshotRoot
	if err := all.Add("letters", sr.Root()); err != nil {
		t.Fatal(err)
	}
	if got := all.Root(); sr.Root() != dataset.Hash(stream) || got != dataset.Hash(snapshot) {
		t.Errorf("this module computes the roots %s and %s", sr.Root(), got)
	}
	if _, err := parseSeekTable(append(make([]byte, 57), seekTable([]frameInfo{{57, 2048}})...)); err != nil {
		t.Error(err)
	}
	if !json.Valid([]byte(covered[0])) {
		t.Error("what a leaf covers is no JSON")
	}
	return out.String()
}

func TestThreatModelRefersToTestsThatExist(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/threat-model.md")
	if err != nil {
		t.Fatal(err)
	}
	refs := regexp.MustCompile("`([a-z0-9/]+): (Test[A-Za-z0-9]+)`").FindAllStringSubmatch(string(text), -1)
	if len(refs) < 30 {
		t.Errorf("only %d promises refer to a test", len(refs))
	}
	for _, r := range refs {
		files, err := filepath.Glob("../" + r[1] + "/*_test.go")
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, f := range files {
			code, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			found = found || strings.Contains(string(code), "func "+r[2]+"(t ")
		}
		if !found {
			t.Errorf("there is no test %s in %s", r[2], r[1])
		}
	}
}
