package config

import (
	"os"
	"path/filepath"
	"testing"
)

func TestTargetsThatAreASourceOrTheStoreCollide(t *testing.T) {
	c := &Config{Store: "s3://archive/prod?endpoint=https://s3.example", Services: map[string]*Service{
		"bucket":   {Exporter: "s3", With: With{Options: map[string]any{"bucket": "files", "endpoint": "https://s3.example"}}},
		"amazon":   {Exporter: "s3", With: With{Options: map[string]any{"bucket": "global", "region": "eu-west-2"}}},
		"folder":   {Exporter: "dir", With: With{Options: map[string]any{"path": "/srv/files"}}},
		"file":     {Exporter: "sqlite", With: With{Options: map[string]any{"url": "sqlite:/srv/cases.db"}}},
		"postgres": {Exporter: "postgres", With: With{Options: map[string]any{"url": "postgres://me@db.example/cases"}}},
		"mysql":    {Exporter: "mysql", With: With{Options: map[string]any{"url": "mysql://me@localhost/cases"}}},
	}}
	for to, want := range map[Location]bool{
		"s3://archive/prod/x?endpoint=https://s3.example":                            true,
		"s3://archive/other?endpoint=https://s3.example":                             false,
		"s3://files?endpoint=https://S3.example":                                     true,
		"s3://files/x?endpoint=https://other.example":                                false,
		"s3://global/x?endpoint=https://s3.eu-west-2.amazonaws.com&region=eu-west-2": true,
		"/srv/files":                             true,
		"/srv/files/sub":                         true,
		"/srv":                                   true,
		"dir:/srv/files":                         true,
		"/srv/other":                             false,
		"/srv/filesystem":                        false,
		"sqlite:/srv/cases.db":                   true,
		"sqlite:/srv/test.db":                    false,
		"postgres://other@db.example:5432/cases": true,
		"postgresql://db.example/cases":          true,
		"postgres://db.example/test":             false,
		"mysql://127.0.0.1:3306/cases":           true,
		"mysql://me@localhost/cases?timeout=1":   true,
		"postgres://localhost/cases":             false,
	} {
		if got := c.Collision(to, LeaveLinks); (got != "") != want {
			t.Errorf("%s: %q; collision %v", to, got, want)
		}
	}
}

func TestTargetsBehindLinksCollide(t *testing.T) {
	dir := FollowLinks(t.TempDir())
	source := filepath.Join(dir, "source")
	if err := os.Mkdir(source, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(source, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	c := &Config{Store: Location(filepath.Join(dir, "archive")), Services: map[string]*Service{
		"folder": {Exporter: "dir", With: With{Options: map[string]any{"path": source}}}}}
	to := Location(filepath.Join(dir, "link", "not", "there", "yet"))
	if c.Collision(to, LeaveLinks) != "" || c.Collision(to, FollowLinks) == "" {
		t.Errorf("as written: %q; links followed: %q", c.Collision(to, LeaveLinks), c.Collision(to, FollowLinks))
	}
}
