package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/dwp/sallyport/archive"
)

// crashVariable is for tests: "7" kills this process with SIGKILL before its seventh
// operation on the store, "7+" after it. The operations are those of [archive.Store].
const crashVariable = "SALLYPORT_CRASH_AT"

// crashing returns st, or what the variable makes of it.
func crashing(st archive.Store) (archive.Store, error) {
	text := os.Getenv(crashVariable)
	if text == "" {
		return st, nil
	}
	number, after := strings.CutSuffix(text, "+")
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 1 {
		return nil, usage("it is for tests", "%s must be a number from 1, with + or without", crashVariable)
	}
	return &crashStore{Store: st, at: n, after: after}, nil
}

// A crashStore ends its process at an operation.
type crashStore struct {
	archive.Store
	at    int64
	after bool
	n     atomic.Int64
}

// step counts an operation, and dies if it is the one and its time has come.
func (c *crashStore) step() (done func()) {
	mine := c.n.Add(1) == c.at
	if mine && !c.after {
		die()
	}
	return func() {
		if mine {
			die()
		}
	}
}

func die() {
	fmt.Fprintln(os.Stderr, "sallyport: killed, as "+crashVariable+" asks")
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

// Create implements [archive.Store].
func (c *crashStore) Create(ctx context.Context, name string, data []byte) error {
	defer c.step()()
	return c.Store.Create(ctx, name, data)
}

// Open implements [archive.Store].
func (c *crashStore) Open(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	defer c.step()()
	return c.Store.Open(ctx, name, off, n)
}

// List implements [archive.Store].
func (c *crashStore) List(ctx context.Context, prefix string) iter.Seq2[archive.Info, error] {
	return func(yield func(archive.Info, error) bool) {
		defer c.step()()
		c.Store.List(ctx, prefix)(yield)
	}
}

// Probe implements [archive.Prober], as far as the store does.
func (c *crashStore) Probe(ctx context.Context) error {
	if p, ok := c.Store.(archive.Prober); ok {
		return p.Probe(ctx)
	}
	return nil
}

// Now implements [archive.Clock], as far as the store does.
func (c *crashStore) Now(ctx context.Context) (time.Time, error) {
	if clock, ok := c.Store.(archive.Clock); ok {
		return clock.Now(ctx)
	}
	return time.Time{}, errors.New("the store has no clock")
}
