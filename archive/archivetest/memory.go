// Package archivetest holds what tests of archives share: a store in memory that is
// suspicious of its callers and fails when told to, and the law that every store
// keeps.
package archivetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dwp/sallyport/archive"
)

// Errors that a Memory makes up.
var (
	ErrCut       = errors.New("the request was lost") // before it took effect
	ErrLostReply = errors.New("the reply was lost")   // after it took effect
	ErrStopped   = errors.New("the world has stopped")
)

// A Verdict says how an operation goes.
type Verdict int

// The verdicts.
const (
	Works     Verdict = iota
	Cut               // fails before it took effect
	LostReply         // takes effect and fails
	Stop              // stops the world before it took effect: every later operation fails too
	StopAfter         // stops the world after it took effect
)

// A Memory is an [archive.Remover] and [archive.Clock] in memory. The zero Memory is
// an empty store. It is safe for concurrent use.
type Memory struct {
	// Fault, if not nil, decides how the n-th operation goes; op is create, open, list
	// or remove. It is called under the store's lock.
	Fault func(n int, op, name string) Verdict

	// Time is the store's clock; nil means time.Now.
	Time func() time.Time

	mu      sync.Mutex
	objects map[string]object
	ops     int
	stopped bool
	misuse  []error
}

type object struct {
	data []byte
	time time.Time
}

// Misuse returns what callers did that no caller of a store may do.
func (m *Memory) Misuse() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return errors.Join(m.misuse...)
}

// Ops returns how many operations there were.
func (m *Memory) Ops() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ops
}

// Heal ends a stop: the store goes on as if the process had been started again.
func (m *Memory) Heal() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stopped, m.Fault = false, nil
}

// Clone returns a store with the same objects and no faults.
func (m *Memory) Clone() *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := &Memory{Time: m.Time, objects: map[string]object{}}
	for k, v := range m.objects {
		c.objects[k] = v
	}
	return c
}

// Names returns the names of all objects, sorted.
func (m *Memory) Names() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	names := make([]string, 0, len(m.objects))
	for n := range m.objects {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// Bytes returns what an object holds, nil if there is none. It is no operation.
func (m *Memory) Bytes(name string) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.objects[name].data
}

// Put sets an object as an attacker would: it may overwrite. Nil data deletes.
func (m *Memory) Put(name string, data []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.objects == nil {
		m.objects = map[string]object{}
	}
	if data == nil {
		delete(m.objects, name)
		return
	}
	m.objects[name] = object{data, m.objects[name].time}
}

// begin counts an operation and decides how it goes.
func (m *Memory) begin(ctx context.Context, op, name string) (Verdict, error) {
	if err := ctx.Err(); err != nil {
		return Stop, err
	}
	if m.stopped {
		return Stop, ErrStopped
	}
	m.ops++
	if name != "" && archive.ParseName(name).Class == archive.Junk && op == "create" {
		m.misuse = append(m.misuse, fmt.Errorf("%s of %q, which is no name of the format", op, name))
	}
	v := Works
	if m.Fault != nil {
		v = m.Fault(m.ops, op, name)
	}
	switch v {
	case Cut:
		return v, fmt.Errorf("%s %s: %w", op, name, ErrCut)
	case Stop:
		m.stopped = true
		return v, ErrStopped
	case StopAfter:
		m.stopped = true
	}
	return v, nil
}

// after turns a verdict into the error of an operation that took effect.
func after(v Verdict, op, name string) error {
	switch v {
	case LostReply:
		return fmt.Errorf("%s %s: %w", op, name, ErrLostReply)
	case StopAfter:
		return ErrStopped
	}
	return nil
}

func (m *Memory) now() time.Time {
	if m.Time != nil {
		return m.Time()
	}
	return time.Now()
}

// Create implements [archive.Store].
func (m *Memory) Create(ctx context.Context, name string, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, err := m.begin(ctx, "create", name)
	if err != nil {
		return err
	}
	if _, ok := m.objects[name]; ok {
		return &fs.PathError{Op: "create", Path: name, Err: fs.ErrExist}
	}
	if m.objects == nil {
		m.objects = map[string]object{}
	}
	m.objects[name] = object{bytes.Clone(data), m.now()}
	return after(v, "create", name)
}

// Open implements [archive.Store].
func (m *Memory) Open(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, err := m.begin(ctx, "open", name)
	if err != nil {
		return nil, err
	}
	o, ok := m.objects[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	data := o.data[min(off, int64(len(o.data))):]
	if n >= 0 {
		data = data[:min(n, int64(len(data)))]
	}
	return io.NopCloser(bytes.NewReader(data)), after(v, "open", name)
}

// List implements [archive.Store].
func (m *Memory) List(ctx context.Context, prefix string) iter.Seq2[archive.Info, error] {
	return func(yield func(archive.Info, error) bool) {
		infos, err := m.list(ctx, prefix)
		if err != nil {
			yield(archive.Info{}, err)
			return
		}
		for _, info := range infos {
			if !yield(info, nil) {
				return
			}
		}
	}
}

func (m *Memory) list(ctx context.Context, prefix string) ([]archive.Info, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, err := m.begin(ctx, "list", prefix)
	if err != nil {
		return nil, err
	}
	var infos []archive.Info
	for name, o := range m.objects {
		if strings.HasPrefix(name, prefix) {
			infos = append(infos, archive.Info{Name: name, Size: int64(len(o.data)), Time: o.time})
		}
	}
	slices.SortFunc(infos, func(a, b archive.Info) int { return strings.Compare(a.Name, b.Name) })
	return infos, after(v, "list", prefix)
}

// Remove implements [archive.Remover].
func (m *Memory) Remove(ctx context.Context, name, version string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, err := m.begin(ctx, "remove", name)
	if err != nil {
		return err
	}
	if _, ok := m.objects[name]; !ok {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	}
	delete(m.objects, name)
	return after(v, "remove", name)
}

// Now implements [archive.Clock].
func (m *Memory) Now(ctx context.Context) (time.Time, error) { return m.now(), ctx.Err() }
