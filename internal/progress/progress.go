// Package progress shows how far long work has come: bars that are redrawn in place on a
// terminal, a plain line now and then elsewhere, JSON Lines for programs.
//
// Counting is cheap and never waits for the display: workers add to atomic counters, and
// one goroutine draws them at a fixed rate. A nil *[Display] and a nil *[Task] are ready
// to use and show nothing, so libraries take one without asking whether anybody looks.
//
// Names and log lines are printed as they are; whoever takes them from a source escapes
// them. Errors of the writer are ignored: work does not fail because nobody watches.
package progress

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dustin/go-humanize"
)

// A Mode says how a [Display] shows progress.
type Mode int

// The modes.
const (
	Off   Mode = iota // not at all; log lines are still printed
	Bars              // redrawn in place: for terminals
	Lines             // a line a task now and then
	JSON              // a Status a task now and then, one JSON object a line
)

// Options tune a Display. The zero Options are the ones to use.
type Options struct {
	Every time.Duration    // between two updates; 0 means 0.2 s for Bars, 1 s for JSON, 10 s for Lines
	Width func() int       // columns of the terminal; nil means 80
	Now   func() time.Time // nil means time.Now
}

// A Display shows tasks until it is closed. Its methods are safe for concurrent use.
type Display struct {
	mode  Mode
	width func() int
	now   func() time.Time
	stop  chan struct{}
	done  chan struct{}

	mu    sync.Mutex // guards what follows, and the writer
	w     io.Writer
	tasks []*Task // that go on
	drawn int     // lines of bars on the screen, the cursor below them
}

// New shows progress on w, which only the display writes to until Close.
func New(w io.Writer, mode Mode, o Options) *Display {
	d := &Display{mode: mode, width: o.Width, now: o.Now, w: w, stop: make(chan struct{}), done: make(chan struct{})}
	if d.now == nil {
		d.now = time.Now
	}
	if d.width == nil {
		d.width = func() int { return 80 }
	}
	every := o.Every
	if every <= 0 {
		every = map[Mode]time.Duration{Bars: 200 * time.Millisecond, JSON: time.Second, Lines: 10 * time.Second}[mode]
	}
	if mode == Off {
		close(d.done)
	} else {
		go d.loop(every)
	}
	return d
}

func (d *Display) loop(every time.Duration) {
	defer close(d.done)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-d.stop:
			return
		case <-tick.C:
			d.mu.Lock()
			d.update()
			d.mu.Unlock()
		}
	}
}

// Close ends the display and waits until nothing writes any more. Tasks that were not
// ended are forgotten; they may still be counted on. Close may be called once.
func (d *Display) Close() {
	if d == nil {
		return
	}
	close(d.stop)
	<-d.done
	d.mu.Lock()
	defer d.mu.Unlock()
	d.erase()
	d.tasks = nil
}

// Log prints a line, above the bars if there are any. In JSON mode it prints nothing:
// there the caller writes messages of its own, through [Display.Write].
func (d *Display) Log(line string) {
	if d == nil || d.mode == JSON {
		return
	}
	d.Write([]byte(line + "\n"))
}

// Write writes whole lines to the display's writer, above the bars if there are any.
// It never fails.
func (d *Display) Write(p []byte) (int, error) {
	if d == nil {
		return len(p), nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.erase()
	d.w.Write(p)
	d.draw()
	return len(p), nil
}

// A Task is one piece of work on a display. Its methods are safe for concurrent use.
type Task struct {
	d     *Display
	name  string
	noun  string
	start time.Time

	items, bytes           atomic.Int64
	totalItems, totalBytes atomic.Int64
	end                    sync.Once
}

// Task adds a task that counts things called noun (one of them: "object") and their
// bytes. The caller ends it.
func (d *Display) Task(name, noun string) *Task {
	if d == nil {
		return nil
	}
	t := &Task{d: d, name: name, noun: noun, start: d.now()}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tasks = append(d.tasks, t)
	return t
}

// Add counts work that is done.
func (t *Task) Add(items, bytes int64) {
	if t != nil {
		t.items.Add(items)
		t.bytes.Add(bytes)
	}
}

// Expect adds to how much work is known to be there. Without it there is no time left.
func (t *Task) Expect(items, bytes int64) {
	if t != nil {
		t.totalItems.Add(items)
		t.totalBytes.Add(bytes)
	}
}

// End ends the task and prints where it came to. A second End does nothing.
func (t *Task) End() {
	if t == nil {
		return
	}
	t.end.Do(func() {
		d := t.d
		d.mu.Lock()
		defer d.mu.Unlock()
		d.erase()
		d.tasks = slices.DeleteFunc(d.tasks, func(x *Task) bool { return x == t })
		s := t.status()
		s.Done = true
		d.print(s)
		d.draw()
	})
}

// A Status is how far a task has come. It is what JSON mode prints.
type Status struct {
	Type        string  `json:"message_type"` // "status"
	Task        string  `json:"task"`
	Noun        string  `json:"noun"`
	Items       int64   `json:"items"`
	Bytes       int64   `json:"bytes"`
	TotalItems  int64   `json:"total_items,omitempty"` // as far as known; 0: unknown
	TotalBytes  int64   `json:"total_bytes,omitempty"`
	Seconds     float64 `json:"seconds"`
	ItemRate    float64 `json:"items_per_second"` // mean since the start
	ByteRate    float64 `json:"bytes_per_second"`
	SecondsLeft float64 `json:"seconds_left,omitempty"` // 0: unknown
	Done        bool    `json:"done"`
}

func (t *Task) status() Status {
	s := Status{Type: "status", Task: t.name, Noun: t.noun, Items: t.items.Load(), Bytes: t.bytes.Load(),
		TotalItems: t.totalItems.Load(), TotalBytes: t.totalBytes.Load(), Seconds: t.d.now().Sub(t.start).Seconds()}
	if s.Seconds <= 0 {
		return s
	}
	s.ItemRate, s.ByteRate = float64(s.Items)/s.Seconds, float64(s.Bytes)/s.Seconds
	if part := s.part(); part > 0 && part < 1 {
		s.SecondsLeft = s.Seconds * (1 - part) / part
	}
	return s
}

// part is the share of the work that is done, by bytes where their number is known; 0 if
// nothing is known.
func (s Status) part() float64 {
	switch {
	case s.TotalBytes > 0:
		return min(1, float64(s.Bytes)/float64(s.TotalBytes))
	case s.TotalItems > 0:
		return min(1, float64(s.Items)/float64(s.TotalItems))
	}
	return 0
}

// String is the status as one line of text.
func (s Status) String() string {
	parts := []string{of(s.Items, s.TotalItems, func(n int64) string { return humanize.Comma(n) }) + " " + plural(max(s.Items, s.TotalItems), s.Noun)}
	if s.Bytes > 0 || s.TotalBytes > 0 {
		parts = append(parts, of(s.Bytes, s.TotalBytes, size))
		if s.ByteRate > 0 {
			parts = append(parts, size(int64(s.ByteRate))+"/s")
		}
	} else if s.ItemRate > 0 {
		parts = append(parts, humanize.Comma(int64(s.ItemRate))+"/s")
	}
	switch {
	case s.Done:
		parts = append(parts, "done in "+span(s.Seconds))
	case s.SecondsLeft > 0:
		parts = append(parts, span(s.SecondsLeft)+" left")
	}
	return s.Task + ": " + strings.Join(parts, ", ")
}

// plural is a noun as it stands behind a number.
func plural(n int64, noun string) string {
	if n == 1 || noun == "" {
		return noun
	}
	return noun + "s"
}

func size(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

func of(n, total int64, format func(int64) string) string {
	if total > n {
		return format(n) + " of " + format(total)
	}
	return format(n)
}

func span(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// update shows all tasks that go on. The caller holds mu.
func (d *Display) update() {
	if d.mode == Bars {
		d.erase()
		d.draw()
		return
	}
	for _, t := range d.tasks {
		d.print(t.status())
	}
}

// print writes one status on a line that stays. The caller holds mu and has erased.
func (d *Display) print(s Status) {
	switch d.mode {
	case Off:
	case JSON:
		if b, err := json.Marshal(s); err == nil { // numbers and texts
			d.w.Write(append(b, '\n'))
		}
	default:
		fmt.Fprintln(d.w, s)
	}
}
