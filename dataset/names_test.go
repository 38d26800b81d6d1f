package dataset_test

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/fixtures/keys"
)

func TestOrdinaryKeysStayReadable(t *testing.T) {
	for _, k := range []string{"a", "2024/01/report_v1.2.pdf", "cases/0001/letter-3.docx", "user@example.org/x=1,y+2"} {
		if got := dataset.SafePath(k); got != k {
			t.Errorf("SafePath(%q) = %q", k, got)
		}
	}
}

func TestSafePathEncodesWhatFileSystemsMisread(t *testing.T) {
	long := strings.Repeat("x", 201)
	for _, c := range []struct{ key, want string }{
		{"", "~e"},
		{"/", "~e/~e"},
		{"a/", "a/~e"},
		{"//lead", "~e/~e/lead"},
		{".", "~2E"},
		{"..", "~2E~2E"},
		{"...", "~2E.~2E"},
		{"a/../b", "a/~2E~2E/b"},
		{"file.", "file~2E"},
		{"file ", "file~20"},
		{" lead", "~20lead"},
		{"-rf", "~2Drf"},
		{"~", "~7E"},
		{"a~d", "a~7Ed"},
		{"CON", "~43ON"},
		{"con.txt", "~63on.txt"},
		{"nul.tar.gz", "~6Eul.tar.gz"},
		{"LPT1.txt", "~4CPT1.txt"},
		{"COM", "COM"},
		{"COM10", "COM10"},
		{"console", "console"},
		{"con ", "con~20"},
		{"C:\\x", "C~3A~5Cx"},
		{"é", "~C3~A9"},
		{"\xff", "~FF"},
		{long[:200], long[:200]},
		{long, "~h" + dataset.Sum([]byte(long)).String()},
		{"a/" + long + "/b", "a/~h" + dataset.Sum([]byte(long)).String() + "/b"},
	} {
		if got := dataset.SafePath(c.key); got != c.want {
			t.Errorf("SafePath(%q) = %q; want %q", c.key, got, c.want)
		}
	}
}

// checkPath fails if path is not a harmless file name for key.
func checkPath(t rapid.TB, key, path string) {
	t.Helper()
	if !filepath.IsLocal(path) || len(path) > 3200 || strings.ContainsAny(path, "\\:*?\"<>| ") {
		t.Errorf("path of %.60q is not safe: %.200q", key, path)
	}
	for c := range strings.SplitSeq(path, "/") {
		if c == "" || len(c) > 202 || c[0] == '.' || c[0] == '-' || strings.HasSuffix(c, ".") {
			t.Errorf("path of %.60q has the component %q", key, c)
		}
	}
	for i := range len(path) {
		if path[i] <= ' ' || path[i] >= 0x7f {
			t.Errorf("path of %.60q holds byte %#x", key, path[i])
		}
	}
	back, err := dataset.KeyOfPath(path)
	if errors.Is(err, dataset.ErrHashed) {
		if !strings.Contains(path, "~h") {
			t.Errorf("path %q of %.60q counts as hashed", path, key)
		}
	} else if err != nil || back != key {
		t.Errorf("KeyOfPath(%.60q) = %q, %v; want %q", path, back, err, key)
	}
}

func TestAwkwardKeysHaveDistinctSafePaths(t *testing.T) {
	all := keys.Awkward()
	if len(all) < 150 {
		t.Fatalf("%d awkward keys; want at least 150", len(all))
	}
	seen := make(map[string]string)
	for _, k := range append(all, keys.TooLong(), "") {
		path := dataset.SafePath(k)
		checkPath(t, k, path)
		if other, ok := seen[path]; ok {
			t.Errorf("%q and %q have one path %q", k, other, path)
		}
		seen[path] = k
	}
}

// checkTree fails if the paths of the sorted keys cannot all be files below one root,
// or one of them is not injective.
func checkTree(t rapid.TB, sorted []string) {
	t.Helper()
	files, dirs := make(map[string]string), make(map[string]string)
	var p dataset.Paths
	for _, k := range sorted {
		path, err := p.Next(k)
		if err != nil {
			t.Fatalf("Next(%q): %v", k, err)
		}
		checkPath(t, k, path)
		if other, ok := files[path]; ok {
			t.Errorf("%q and %q have one path %q", k, other, path)
		}
		files[path] = k
		for i := range len(path) {
			if path[i] == '/' {
				dirs[path[:i]] = k
			}
		}
	}
	for d, k := range dirs {
		if other, ok := files[d]; ok {
			t.Errorf("%q is the file of %q and a directory of %q", d, other, k)
		}
	}
}

func TestPathsKeepFilesAndDirectoriesApart(t *testing.T) {
	checkTree(t, keys.Awkward())
	var deep []string // every prefix of a key of slashes is a key
	for n := range 1025 {
		deep = append(deep, strings.Repeat("/", n))
	}
	checkTree(t, deep)
}

func TestPathsSuffixOnlyDirectoriesThatAreObjects(t *testing.T) {
	var p dataset.Paths
	for _, c := range []struct{ key, want string }{
		{"a", "a"}, {"a", "a"}, {"a!", "a~21"}, {"a-b", "a-b"}, {"a/", "a~d/~e"}, {"a//b", "a~d/~e~d/b"}, {"a/b", "a~d/b"}, {"a/b/c", "a~d/b~d/c"},
		{"a/bc/d", "a~d/bc/d"}, {"ab/c", "ab/c"}, {"b/c", "b/c"},
	} {
		if got, err := p.Next(c.key); got != c.want || err != nil {
			t.Errorf("Next(%q) = %q, %v; want %q", c.key, got, err, c.want)
		}
	}
	if got, err := p.Next("a"); err == nil {
		t.Errorf("Next took a key out of order: %q", got)
	}
	if got, err := p.Next("b/c/d"); got != "b/c~d/d" || err != nil {
		t.Errorf("after a refused key: Next = %q, %v", got, err)
	}
}

func TestPathsOfAnySetOfKeys(t *testing.T) {
	component := rapid.OneOf(rapid.StringN(0, 4, 8), rapid.SampledFrom([]string{"", "a", "A", ".", "..", "~", "~d", "a~d", "~e", "con", "a!", "\xff"}))
	rapid.Check(t, func(t *rapid.T) {
		set := make(map[string]bool)
		for _, k := range rapid.SliceOfN(rapid.SliceOfN(component, 1, 4), 0, 40).Draw(t, "keys") {
			set[strings.Join(k, "/")] = true
		}
		var sorted []string
		for k := range set {
			sorted = append(sorted, k)
		}
		slices.Sort(sorted)
		checkTree(t, sorted)
	})
}

func TestKeyOfPathRefusesWhatIsNeverWritten(t *testing.T) {
	for _, p := range []string{"", "/", "a/", "/a", "~", "~2", "~2e", "~41", "a b", "..", "a/../b", ".a", "-a", "con", "~e~e", "a~e", "a~d", "~h", "~h00", "~h" + strings.Repeat("0", 66), "~zz", "a\\b", "é", "~hg/~h" + strings.Repeat("0", 63)} {
		if k, err := dataset.KeyOfPath(p); err == nil || errors.Is(err, dataset.ErrHashed) {
			t.Errorf("KeyOfPath(%q) = %q, %v; want an error", p, k, err)
		}
	}
}

func FuzzSafePath(f *testing.F) {
	for _, k := range keys.Awkward() {
		f.Add(k)
	}
	f.Fuzz(func(t *testing.T, key string) {
		checkPath(t, key, dataset.SafePath(key))
		if back, err := dataset.KeyOfPath(key); err == nil {
			undirected := strings.ReplaceAll(key+"/", "~d/", "/")
			if dataset.SafePath(back)+"/" != undirected {
				t.Errorf("KeyOfPath took %q for %q", key, back)
			}
		}
	})
}

func TestEscapeShowsAllAndHidesNothing(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"plain text, ünïcode 日本 😀", "plain text, ünïcode 日本 😀"},
		{"\x1b[2J", `\x1b[2J`},
		{"a\nb\r\t\x00\x7f", `a\nb\r\t\x00\x7f`},
		{"\u0085\u009b31m", `\u0085\u009b31m`},
		{"\u202egnp.exe\u2066", `\u202egnp.exe\u2066`},
		{"a\u200bb\u200d\ufeff\u2028\u2029\u00a0", `a\u200bb\u200d\ufeff\u2028\u2029\u00a0`},
		{"\u3164\u034f\ufe0f\U000e0041", `\u3164\u034f\ufe0f\U000e0041`},
		{"\xff\xc3(", `\xff\xc3(`},
		{"\xed\xa0\x80", `\xed\xa0\x80`},
		{"\ufffd", "\ufffd"},
		{`a\b"c'`, `a\\b\"c'`},
	} {
		if got := dataset.Escape(c.text); got != c.want {
			t.Errorf("Escape(%q) = %s; want %s", c.text, got, c.want)
		}
	}
}

func FuzzEscape(f *testing.F) {
	for _, k := range keys.Awkward() {
		f.Add(k)
		f.Add(dataset.Escape(k))
	}
	f.Fuzz(func(t *testing.T, s string) {
		e := dataset.Escape(s)
		if back, err := dataset.Unescape(e); err != nil || back != s {
			t.Errorf("Unescape(Escape(%q)) = %q, %v", s, back, err)
		}
		for _, r := range e {
			if r < ' ' || 0x7f <= r && r < 0xa0 || 0x200b <= r && r <= 0x200f || 0x2028 <= r && r <= 0x202e || 0x2060 <= r && r <= 0x206f || r == 0xfeff {
				t.Errorf("Escape(%q) holds %U", s, r)
			}
		}
		if !utf8.ValidString(e) {
			t.Errorf("Escape(%q) is not UTF-8", s)
		}
		if u, err := dataset.Unescape(s); err == nil && dataset.Escape(u) != s {
			t.Errorf("Unescape took %q for %q", s, u)
		}
	})
}
