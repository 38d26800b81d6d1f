package main

import (
	"context"
	"runtime"
	"runtime/debug"
)

func versionCommand() command {
	return command{
		name: "version", summary: "print the version, and what it was built from",
		run: func(_ context.Context, i *invocation) error { return printVersion(i.ui) },
	}
}

// A build says what a binary is, as the Go tool chain recorded it.
type build struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Modified bool   `json:"modified,omitempty"` // built from files that were not committed
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func thisBuild() build {
	b := build{Version: "unknown", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	b.Version = info.Main.Version
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

func printVersion(u *ui) error {
	b := thisBuild()
	u.result = b
	u.printf("sallyport %s %s %s\n", b.Version, b.Platform, b.Go)
	if b.Commit != "" {
		u.printf("commit %s\n", b.Commit)
	}
	if b.Modified {
		u.printf("built from files that were not committed\n")
	}
	return nil
}
