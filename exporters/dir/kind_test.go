package dir

import (
	"path/filepath"
	"testing"

	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/exportertest"
)

func TestURLsNameDirectories(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"dir:/a/b": "/a/b", "dir:a%20b": "a%20b", "file:///a%20b": "/a b", "file://localhost/a": "/a", "file:/a": "/a",
		"/plain/path": "/plain/path", "./rel": "./rel",
		"file://host/a": "", "file:///a?q": "", "dir:": "", "": "", "file:": "",
	} {
		got, err := Kind.FromURL(raw)
		if (err == nil) != (want != "") || err == nil && got["path"] != want {
			t.Errorf("%q names %v (%v); want %q", raw, got["path"], err, want)
		}
	}
}

func TestKindOpensSourceAndTarget(t *testing.T) {
	t.Parallel()
	if _, err := Kind.Open(t.Context(), exporters.Config{}); err == nil {
		t.Error("opened a directory without a path")
	}
	to := exporters.Config{Options: map[string]any{"path": filepath.Join(t.TempDir(), "d"), "format": "csv", "sync": false, "parallel": int64(2)}}
	dst, err := Kind.OpenTarget(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	if err := exportertest.CheckTarget(t.Context(), dst, view1(t, few())); err != nil {
		t.Error(err)
	}
	src, err := Kind.Open(t.Context(), exporters.Config{Options: map[string]any{"path": t.TempDir()}})
	if err != nil {
		t.Fatal(err)
	}
	src.Close()
}
