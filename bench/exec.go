package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// A measure is what one run of a job took. CPU and memory are those of the whole
// process tree, as the kernel tells whoever waits for it; memory is the peak of the
// largest process.
type measure struct {
	wall, cpu time.Duration
	rss       int64 // bytes
	size      int64 // bytes of the archive, where the job makes one
}

// A command is what is run and measured.
type command struct {
	argv []string
	env  []string // added to the environment
	dir  string
}

func (c command) run(ctx context.Context) (measure, error) {
	cmd := exec.CommandContext(ctx, c.argv[0], c.argv[1:]...)
	cmd.Env = append(os.Environ(), c.env...)
	cmd.Dir = c.dir
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	syscall.Sync() // what the last one left to be written is not this one's work
	start := time.Now()
	err := cmd.Run()
	m := measure{wall: time.Since(start)}
	if err != nil {
		return m, fmt.Errorf("%s: %w: %s", strings.Join(c.argv[:min(3, len(c.argv))], " "), err, tail(out.String()))
	}
	m.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	if u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		m.rss = u.Maxrss << 10 // Linux tells KiB
	}
	return m, nil
}

func tail(s string) string {
	if s = strings.TrimSpace(s); len(s) > 600 {
		s = "… " + s[len(s)-600:]
	}
	return s
}

// shell is a command line for sh, whose arguments are $1, $2, …
func shell(line string, args ...string) []string {
	return append([]string{"/bin/sh", "-c", line, "sh"}, args...)
}
