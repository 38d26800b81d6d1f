package singer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/internal/spool"
)

func (v *view) Read(ctx context.Context, q exporters.Query) iter.Seq2[dataset.Record, error] {
	return func(yield func(dataset.Record, error) bool) {
		err := v.read(ctx, q, yield)
		if err != nil && err != errStop {
			yield(dataset.Record{}, fmt.Errorf("tap %s: %w", v.name(), err))
		}
	}
}

// errStop says that whoever ranges over a sequence broke off.
var errStop = errors.New("stop")

func (v *view) read(ctx context.Context, q exporters.Query, yield func(dataset.Record, error) bool) error {
	if q.Range != (dataset.Range{}) || q.After != "" {
		return errors.New("a tap has neither ranges nor cursors")
	}
	r := newReader(ctx, v, yield)
	defer r.seen.Close()
	chosen := make(map[string]bool)
	for _, s := range q.Streams {
		i := slices.IndexFunc(v.catalog.entries, func(e catalogEntry) bool { return e.id == s.Name })
		if i < 0 {
			return fmt.Errorf("no stream %q: %w", dataset.Escape(s.Name), fs.ErrNotExist)
		}
		chosen[s.Name] = true
		r.streams[s.Name] = &stream{def: v.catalog.streams[i]}
	}
	if len(chosen) == 0 {
		return errors.New("a query without streams")
	}
	p, err := v.run(ctx, chosen)
	if err != nil {
		return err
	}
	if err := r.messages(p); err != nil {
		p.kill(errBroken)
		if werr := p.wait(); err != errStop && werr != errBroken && werr != err {
			return errors.Join(err, werr)
		}
		return err
	}
	if err := p.wait(); err != nil {
		return err
	}
	return r.judge(v.catalog, p.logs.recordCounts())
}

// run starts the tap with the chosen streams selected.
func (v *view) run(ctx context.Context, chosen map[string]bool) (*process, error) {
	v.mu.Lock()
	sel, err := v.catalog.selection(chosen)
	v.mu.Unlock()
	if err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(v.dir, "catalog-*.json")
	if err != nil {
		return nil, err
	}
	_, err = f.Write(sel)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	flag := "--catalog"
	if v.o.Properties {
		flag = "--properties"
	}
	return v.start(ctx, v.o.IdleTimeout, v.o.Timeout, flag, f.Name())
}

// A reader turns the messages of one run into records.
type reader struct {
	*view
	ctx     context.Context
	yield   func(dataset.Record, error) bool
	streams map[string]*stream // the chosen ones by name
	seen    *spool.Repeats     // of all streams; see stream.id
	compact []byte
	line    int64
}

// repeatsMemory is what recognising repeated records may take, for all streams of a run.
const repeatsMemory = 16 << 20

func newReader(ctx context.Context, v *view, yield func(dataset.Record, error) bool) *reader {
	return &reader{view: v, ctx: ctx, yield: yield, streams: make(map[string]*stream), seen: spool.NewRepeats("", repeatsMemory)}
}

// A stream is what is known of a stream during one run.
type stream struct {
	def       dataset.Stream
	schema    *dataset.Schema // from SCHEMA messages; nil before the first
	announce  bool            // the next record carries schema
	version   string          // lexeme of the table version that is being read
	restarted bool
	records   int64 // RECORD messages and lines of batches
	gaps      int   // about the whole stream, so far
}

// id makes a key one of this stream, among those of all streams.
func (s *stream) id(key string) string {
	return fmt.Sprintf("%d %s%s", len(s.def.Name), s.def.Name, key)
}

// messages reads the output of the tap to its end.
func (r *reader) messages(p *process) error {
	for line, err := range dataset.Lines(p.stdout, r.o.MaxLine) {
		if err != nil {
			if cause := context.Cause(p.ctx); cause != nil {
				return cause // the line was cut because the tap was ended
			}
			return err
		}
		if err := r.ctx.Err(); err != nil {
			return err
		}
		r.line++
		if err := r.message(line); err != nil {
			if err == errStop {
				return err
			}
			return fmt.Errorf("line %d: %w", r.line, err)
		}
	}
	return nil
}

// message handles one line. Members beyond those of the specification are permitted.
func (r *reader) message(line []byte) error {
	if err := dataset.CheckObject(line); err != nil {
		return fmt.Errorf("not a message: %w", err)
	}
	kind, ok := text(line, "type")
	if !ok {
		return errors.New("a message without type")
	}
	switch strings.ToUpper(kind) {
	case "SCHEMA":
		return r.schemaMessage(line)
	case "RECORD":
		return r.recordMessage(line)
	case "STATE":
		return r.stateMessage(line)
	case "ACTIVATE_VERSION":
		return r.versionMessage(line)
	case "BATCH":
		return r.batchMessage(line)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(kind) > 40 || len(r.unknown) >= 100 {
		kind = "(others)"
	}
	r.unknown[kind]++
	return nil
}

// streamOf returns the stream that a message is about, or nil if that was not selected.
// Some taps print the parents of what is selected, too: what nobody asked for is counted
// and passed over.
func (r *reader) streamOf(line []byte, kind string) (*stream, error) {
	name, ok := text(line, "stream")
	if !ok {
		return nil, fmt.Errorf("%s without a stream", kind)
	}
	i := r.catalog.find(name)
	if i < 0 {
		return nil, fmt.Errorf("%s of stream %q, which the catalogue does not have once", kind, dataset.Escape(name))
	}
	s := r.streams[r.catalog.entries[i].id]
	if s == nil && kind != "SCHEMA" {
		r.mu.Lock()
		r.unasked[ignored{r.catalog.entries[i].id, kind}]++
		r.mu.Unlock()
	}
	return s, nil
}

func (r *reader) schemaMessage(line []byte) error {
	s, err := r.streamOf(line, "SCHEMA")
	if s == nil || err != nil {
		return err
	}
	raw, ok := dataset.Lookup(line, "schema")
	if !ok {
		return fmt.Errorf("SCHEMA of stream %q without a schema", dataset.Escape(s.def.Name))
	}
	var key []string
	if k, ok := dataset.Lookup(line, "key_properties"); ok {
		if err := json.Unmarshal(k, &key); err != nil {
			return fmt.Errorf("SCHEMA of stream %q: key_properties: %w", dataset.Escape(s.def.Name), err)
		}
	}
	if planned := s.def.Schema.PrimaryKey; len(key) > 0 && len(planned) > 0 && !slices.Equal(key, planned) {
		return fmt.Errorf("SCHEMA of stream %q has key %q; the catalogue has %q", dataset.Escape(s.def.Name), key, planned)
	}
	schema, err := convertSchema(raw, s.def.Schema.PrimaryKey)
	if err != nil {
		return fmt.Errorf("SCHEMA of stream %q: %w", dataset.Escape(s.def.Name), err)
	}
	before := s.schema
	if before == nil {
		before = s.def.Schema
	}
	s.announce = s.announce || !slices.EqualFunc(before.Fields, schema.Fields, func(a, b dataset.Field) bool {
		return a.Name == b.Name && a.Type == b.Type && a.Lexical == b.Lexical
	})
	s.schema = schema
	return nil
}

func (r *reader) recordMessage(line []byte) error {
	s, err := r.streamOf(line, "RECORD")
	if s == nil || err != nil {
		return err
	}
	data, ok := dataset.Lookup(line, "record")
	if !ok {
		return fmt.Errorf("RECORD of stream %q without a record", dataset.Escape(s.def.Name))
	}
	if version, ok := dataset.Lookup(line, "version"); ok {
		if err := r.activate(s, version); err != nil {
			return err
		}
	}
	return r.record(s, data)
}

// record yields one record of s, unless it is one that came before.
func (r *reader) record(s *stream, data json.RawMessage) error {
	if s.schema == nil {
		return fmt.Errorf("RECORD of stream %q before its SCHEMA", dataset.Escape(s.def.Name))
	}
	if err := dataset.CheckObject(data); err != nil {
		return fmt.Errorf("RECORD of stream %q: %w", dataset.Escape(s.def.Name), err)
	}
	var err error
	if r.compact, err = dataset.Compact(r.compact[:0], data); err != nil {
		return fmt.Errorf("RECORD of stream %q: %w", dataset.Escape(s.def.Name), err)
	}
	s.records++
	canonical, err := dataset.Canonical(nil, r.compact)
	if err != nil {
		return err
	}
	rec := dataset.Record{Key: dataset.KeylessKey(canonical), Data: r.compact}
	if s.def.Keyless {
		if rec.Ordinal, err = r.seen.Count(s.id(rec.Key)); err != nil {
			return err
		}
		return r.give(s, rec)
	}
	key, missing, err := keyOf(r.compact, s.def.Schema.PrimaryKey)
	if err != nil {
		return err
	}
	if missing != "" {
		if rec.Ordinal, err = r.seen.Count(s.id(rec.Key)); err != nil {
			return err
		}
		return r.giveGap(s, rec, dataset.Malformed, fmt.Sprintf("a record without its key field %q", missing))
	}
	rec.Key = key
	before, same, err := r.seen.Record(s.id(key), canonical)
	switch {
	case err != nil:
		return err
	case same:
		r.mu.Lock()
		r.repeated[s.def.Name]++
		r.mu.Unlock()
		return nil
	case before:
		others, err := r.seen.Count(s.id(key))
		if err != nil {
			return err
		}
		rec.Ordinal = others + 1 // the first was 0
		return r.giveGap(s, rec, dataset.DuplicateKey, "another record of this key came before and is exported")
	}
	return r.give(s, rec)
}

// keyOf returns the key of a record, or the name of the field of the key that it lacks.
func keyOf(data []byte, fields []string) (key, missing string, err error) {
	var values []json.RawMessage
	for _, name := range fields {
		value, ok := dataset.Lookup(data, name)
		if !ok {
			return "", name, nil
		}
		values = append(values, value)
	}
	key, err = dataset.Key(values)
	return key, "", err
}

func (r *reader) give(s *stream, rec dataset.Record) error {
	rec.Stream = s.def.Name
	if s.announce {
		rec.Schema, s.announce = s.schema, false
	}
	if !r.yield(rec, nil) {
		return errStop
	}
	return nil
}

func (r *reader) giveGap(s *stream, rec dataset.Record, code dataset.Code, detail string) error {
	rec.Data = nil
	rec.Gap = &dataset.Gap{Stream: s.def.Name, Key: rec.Key, Ordinal: rec.Ordinal, Code: code, Detail: detail}
	return r.give(s, rec)
}

// streamGap yields a gap that is about a whole stream.
func (r *reader) streamGap(s *stream, code dataset.Code, detail string) error {
	s.gaps++
	return r.giveGap(s, dataset.Record{Ordinal: s.gaps - 1}, code, detail)
}

// stateMessage only checks: without its state a tap gives everything, which is what an
// export is for.
func (r *reader) stateMessage(line []byte) error {
	value, ok := dataset.Lookup(line, "value")
	if !ok || value[0] != '{' {
		return errors.New("STATE whose value is no object")
	}
	r.mu.Lock()
	r.states++
	r.mu.Unlock()
	return nil
}

func (r *reader) versionMessage(line []byte) error {
	s, err := r.streamOf(line, "ACTIVATE_VERSION")
	if s == nil || err != nil {
		return err
	}
	version, ok := dataset.Lookup(line, "version")
	if !ok {
		return fmt.Errorf("ACTIVATE_VERSION of stream %q without a version", dataset.Escape(s.def.Name))
	}
	return r.activate(s, version)
}

// activate minds the version of a table. The message comes before the records, after
// them or both. A second version in one run means that the tap began the table again, so
// that what came before is to be forgotten, and may hold what is gone.
func (r *reader) activate(s *stream, version json.RawMessage) error {
	switch v := string(version); {
	case v == "null" || v == s.version:
		return nil
	case s.version == "" && s.records == 0:
		s.version = v
		return nil
	case s.version == "":
		s.version = v // records without a version, activated after them
		return nil
	default:
		s.version = v
	}
	if s.restarted {
		return nil
	}
	s.restarted = true
	return r.streamGap(s, dataset.Unstable, "the tap began the table again during the run: records of two versions are mixed")
}

// judge looks at the whole of a run that ended well.
func (r *reader) judge(c *catalog, counted map[string]int64) error {
	silent := 0
	for _, s := range r.streams {
		if s.schema == nil {
			silent++
		}
	}
	if silent == len(r.streams) {
		hint := "--catalog; an old tap wants --properties"
		if r.o.Properties {
			hint = "--properties; a newer tap wants --catalog"
		}
		return fmt.Errorf("it ended with exit code 0 and gave no SCHEMA for any selected stream (the selection was passed with %s)", hint)
	}
	for i, e := range c.entries {
		s := r.streams[c.streams[i].Name]
		if s == nil {
			continue
		}
		if s.schema == nil {
			if err := r.streamGap(s, dataset.StreamFailed, "the tap ended with exit code 0 and gave no SCHEMA for this selected stream"); err != nil {
				return err
			}
			continue
		}
		if len(e.unsupported) > 0 {
			if err := r.streamGap(s, dataset.NotCaptured, "the tap cannot read "+strings.Join(e.unsupported, ", ")); err != nil {
				return err
			}
		}
		if n := max(counted[e.id], counted[e.name]); n > s.records {
			if err := r.streamGap(s, dataset.PossiblyCut, fmt.Sprintf("the tap's own metrics count %d records, and %d came", n, s.records)); err != nil {
				return err
			}
		}
	}
	return nil
}

// batchDir returns where files of BATCH messages may lie.
func (r *reader) batchDir() string {
	if r.o.BatchDir == "" {
		return r.dir
	}
	if abs, err := filepath.Abs(r.o.BatchDir); err == nil {
		return abs
	}
	return r.o.BatchDir
}
