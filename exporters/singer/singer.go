// Package singer exports through Singer taps: programs that print what a service holds
// as JSON messages (getting-started documents v0.3.0 of the Singer specification, with
// the ACTIVATE_VERSION and BATCH messages of its dialects).
//
// A tap runs as a subprocess in a process group and a private directory of its own, with
// a cleaned environment and a writable private copy of its configuration. If it changes
// that copy (rotated tokens) the change is kept in the state directory.
//
// All streams of a tap are one group, for a tap prints them mingled. Each Read runs the
// tap anew, without state, so that it gives everything: a tap offers no view that holds
// still. What makes a run incomplete, and never passes for an empty source:
//
//   - an exit code other than 0, a last line without its end, a line that is no message,
//     a RECORD before its SCHEMA, a STATE without value: an error that ends the sequence;
//   - exit 0 without a SCHEMA for a stream that was selected (a tap that does not know
//     how it was told to select does that): a gap for the stream, or an error if it
//     is so for all streams;
//   - fewer records than the tap's own metrics count, a table that is started again, a
//     column that the tap cannot read, two records of one key that differ, a batch in a
//     format or place that is not supported: gaps.
//
// To find records of one key, some 50 bytes a record are kept in memory while a Read lasts.
package singer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
)

// Group is the group that all streams of a tap are in.
const Group = "tap"

// Options say which tap is run, and how.
type Options struct {
	// Command is the tap and its fixed arguments. A name without a slash is looked up in
	// PATH.
	Command []string

	// Config is what the tap finds in its configuration file.
	Config map[string]any

	// Secrets are texts that must not appear in messages, besides those that Config has
	// under names that sound secret.
	Secrets []string

	// Properties passes the catalogue with --properties, as old taps want it, instead of
	// --catalog.
	Properties bool

	// Catalog is used instead of asking the tap with --discover, if it is not nil.
	Catalog []byte

	// Env names environment variables that are passed on, besides PATH, the locale, the
	// time zone and those that lead to certificates and proxies.
	Env []string

	// BatchDir is the directory in which files of BATCH messages may lie. Empty means the
	// tap's private working directory. Files are removed once they are read.
	BatchDir string

	// State is a private directory that outlives the view; empty if there is none.
	State string

	// Log gets the tap's log, escaped, without secrets and at most a MiB of it; nil
	// discards it.
	Log io.Writer

	DiscoverTimeout time.Duration // for --discover; 0 means 10 minutes
	IdleTimeout     time.Duration // without a byte from the tap while it is read; 0 means 30 minutes
	Timeout         time.Duration // for all of a read; 0 means 24 hours
	MaxLine         int           // bytes of a message; 0 means 64 MiB
}

func (o Options) withDefaults() Options {
	for _, d := range []struct {
		v *time.Duration
		d time.Duration
	}{{&o.DiscoverTimeout, 10 * time.Minute}, {&o.IdleTimeout, 30 * time.Minute}, {&o.Timeout, 24 * time.Hour}} {
		if *d.v <= 0 {
			*d.v = d.d
		}
	}
	if o.MaxLine <= 0 {
		o.MaxLine = 64 << 20
	}
	return o
}

// A view is one tap with its catalogue.
type view struct {
	o       Options
	dir     string // private, removed by Close
	config  *config
	catalog *catalog

	mu       sync.Mutex
	closed   bool
	running  sync.WaitGroup
	kept     error          // why a changed configuration could not be kept
	unknown  map[string]int // messages of unknown types, by type
	unasked  map[ignored]int
	states   int
	repeated map[string]int64
}

// An ignored is a kind of message about a stream that was not selected.
type ignored struct{ stream, kind string }

// Open asks the tap for its catalogue. The caller closes the view, which removes the
// tap's private directory.
func Open(ctx context.Context, o Options) (exporters.Exporter, error) {
	o = o.withDefaults()
	if len(o.Command) == 0 || o.Command[0] == "" {
		return nil, errors.New("singer: no tap is given")
	}
	dir, err := os.MkdirTemp("", "sallyport-tap-")
	if err != nil {
		return nil, fmt.Errorf("singer: %w", err)
	}
	v := &view{o: o, dir: dir, unknown: make(map[string]int), unasked: make(map[ignored]int), repeated: make(map[string]int64)}
	if err := v.discover(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("tap %s: %w", v.name(), err), v.Close())
	}
	return v, nil
}

// name is what messages call the tap.
func (v *view) name() string { return dataset.Escape(filepath.Base(v.o.Command[0])) }

func (v *view) discover(ctx context.Context) (err error) {
	if v.config, err = newConfig(v.o, v.dir); err != nil {
		return err
	}
	raw := v.o.Catalog
	if raw == nil {
		if raw, err = v.askCatalog(ctx); err != nil {
			return fmt.Errorf("discover: %w", err)
		}
	}
	v.catalog, err = parseCatalog(raw)
	return err
}

// maxCatalog bounds what a tap may answer to --discover.
const maxCatalog = 256 << 20

func (v *view) askCatalog(ctx context.Context) ([]byte, error) {
	p, err := v.start(ctx, 0, v.o.DiscoverTimeout, "--discover")
	if err != nil {
		return nil, err
	}
	raw, rerr := io.ReadAll(io.LimitReader(p.stdout, maxCatalog+1))
	if rerr == nil && len(raw) > maxCatalog {
		rerr = fmt.Errorf("catalogue of more than %d bytes", maxCatalog)
	}
	if rerr != nil {
		p.kill(rerr)
	}
	return raw, errors.Join(rerr, p.wait())
}

// start runs the tap with its configuration and more arguments.
func (v *view) start(ctx context.Context, idle, timeout time.Duration, args ...string) (*process, error) {
	v.mu.Lock()
	if v.closed {
		v.mu.Unlock()
		return nil, errors.New("view is closed")
	}
	v.running.Add(1)
	v.mu.Unlock()
	p, err := startProcess(ctx, v.o, v.dir, v.config.redact, idle, timeout, append([]string{"--config", v.config.file}, args...))
	if err != nil {
		v.running.Done()
		return nil, err
	}
	p.after = func() {
		err := v.config.keep()
		v.mu.Lock()
		v.kept = errors.Join(v.kept, err)
		v.mu.Unlock()
		v.running.Done()
	}
	return p, nil
}

func (v *view) Streams(ctx context.Context) ([]dataset.Stream, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return slices.Clone(v.catalog.streams), nil
}

func (v *view) Facts() dataset.Facts {
	v.mu.Lock()
	defer v.mu.Unlock()
	f := dataset.Facts{Notes: []string{
		"A Singer tap reads page by page and without a snapshot; deletions and changes during the run may or may not show.",
		"Whether the tap hides deleted, archived or draft records, only its own documentation says.",
	}}
	if v.states > 0 {
		f.Notes = append(f.Notes, fmt.Sprintf("The tap printed %d STATE messages, which were not used: each run is a full one.", v.states))
	}
	for _, s := range slices.Sorted(maps.Keys(v.repeated)) {
		f.Notes = append(f.Notes, fmt.Sprintf("Stream %s repeated %d records, equal in all fields, which were counted once.", dataset.Escape(s), v.repeated[s]))
	}
	for _, t := range slices.Sorted(maps.Keys(v.unknown)) {
		f.Ignored = append(f.Ignored, dataset.Ignored{Reason: "message of type " + dataset.Escape(t), Count: int64(v.unknown[t])})
	}
	byName := func(a, b ignored) int { return strings.Compare(a.stream+"\x00"+a.kind, b.stream+"\x00"+b.kind) }
	for _, i := range slices.SortedFunc(maps.Keys(v.unasked), byName) {
		f.Ignored = append(f.Ignored, dataset.Ignored{Stream: i.stream, Reason: i.kind + " message of a stream that was not selected", Count: int64(v.unasked[i])})
	}
	f.Filters = v.config.filters()
	return f
}

// Close waits for runs of the tap that are not over, and removes its directory. It fails
// if the tap changed its configuration and the change could not be kept.
func (v *view) Close() error {
	v.mu.Lock()
	if v.closed {
		v.mu.Unlock()
		return nil
	}
	v.closed = true
	v.mu.Unlock()
	v.running.Wait()
	v.config.wipe()
	return errors.Join(v.kept, os.RemoveAll(v.dir))
}

// filters returns what of the configuration limits what a tap exports, in words.
func (c *config) filters() []string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(c.current)) {
		if n := strings.ToLower(name); strings.Contains(n, "start_date") || strings.Contains(n, "end_date") || strings.HasPrefix(n, "filter") || n == "since" || n == "until" {
			b, err := json.Marshal(c.current[name])
			if err != nil {
				continue
			}
			all = append(all, c.redact(fmt.Sprintf("The tap is configured with %s %s.", name, b)))
		}
	}
	return all
}
