package progress

import (
	"bytes"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"
)

// A screen is a writer that can be read while others write.
type screen struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// A clock goes forward by a second each time it is asked.
func clock() func() time.Time {
	var mu sync.Mutex
	t := time.Unix(0, 0)
	return func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		t = t.Add(time.Second)
		return t
	}
}

func TestNilDisplayAndTaskShowNothing(t *testing.T) {
	var d *Display
	task := d.Task("x", "object")
	task.Expect(1, 1)
	task.Add(1, 1)
	task.End()
	d.Log("x")
	d.Close()
}

func TestStatusTellsRateAndTimeLeft(t *testing.T) {
	d := New(new(screen), Off, Options{Now: clock()})
	defer d.Close()
	task := d.Task("case-files", "object") // at second 1
	task.Expect(4000, 400<<20)
	task.Add(1000, 100<<20)
	s := task.status() // at second 2
	if s.ItemRate != 1000 || s.SecondsLeft != 3 {
		t.Errorf("%+v", s)
	}
	want := "case-files: 1,000 of 4,000 objects, 100 MiB of 400 MiB, 100 MiB/s, 3s left"
	if s.String() != want {
		t.Errorf("got  %s\nwant %s", s, want)
	}
}

func TestUnknownTotalsLeaveOutTheTimeLeft(t *testing.T) {
	d := New(new(screen), Off, Options{Now: clock()})
	defer d.Close()
	task := d.Task("cases", "record")
	task.Add(7, 0)
	if got, want := task.status().String(), "cases: 7 records, 7/s"; got != want {
		t.Errorf("got %q; want %q", got, want)
	}
}

func TestMoreDoneThanExpectedIsNotMoreThanAll(t *testing.T) {
	s := Status{Task: "x", Noun: "object", Items: 12, TotalItems: 10}
	if s.part() != 1 {
		t.Errorf("part = %v; want 1", s.part())
	}
	if got := s.String(); strings.Contains(got, "of") {
		t.Errorf("%q", got)
	}
}

func TestJSONModeWritesOneStatusALine(t *testing.T) {
	w := new(screen)
	d := New(w, JSON, Options{Every: time.Hour, Now: clock()})
	task := d.Task("a\nb", "object")
	task.Add(3, 5)
	d.Log("not in JSON mode")
	task.End()
	task.End()
	d.Close()
	lines := strings.Split(strings.TrimSuffix(w.String(), "\n"), "\n")
	if len(lines) != 1 {
		t.Fatalf("%d lines: %q", len(lines), lines)
	}
	var s Status
	if err := json.Unmarshal([]byte(lines[0]), &s); err != nil {
		t.Fatal(err)
	}
	if s.Type != "status" || s.Task != "a\nb" || s.Items != 3 || s.Bytes != 5 || !s.Done {
		t.Errorf("%+v", s)
	}
}

func TestLinesModeHasNoControlSequences(t *testing.T) {
	w := new(screen)
	d := New(w, Lines, Options{Every: time.Millisecond})
	task := d.Task("x", "object")
	for !strings.Contains(w.String(), "x: 0 objects") {
		time.Sleep(time.Millisecond)
	}
	d.Log("a line")
	task.End()
	d.Close()
	if got := w.String(); strings.Contains(got, "\x1b") || !strings.Contains(got, "a line\n") || !strings.Contains(got, "done in") {
		t.Errorf("%q", got)
	}
}

// emulate plays what was written on a terminal that knows CUU and ED.
func emulate(t *testing.T, out string) []string {
	lines := []string{""}
	for len(out) > 0 {
		if rest, ok := strings.CutPrefix(out, "\x1b["); ok {
			n := 0
			for rest[0] >= '0' && rest[0] <= '9' {
				n, rest = 10*n+int(rest[0]-'0'), rest[1:]
			}
			switch rest[0] {
			case 'A':
				if n >= len(lines) {
					t.Fatalf("the cursor goes up %d lines of %d", n, len(lines))
				}
				lines = lines[:len(lines)-n] // cleared by the J that follows
			case 'J':
				lines[len(lines)-1] = ""
			default:
				t.Fatalf("unknown sequence %q", rest[:1])
			}
			out = rest[1:]
			continue
		}
		if out[0] == '\n' {
			lines = append(lines, "")
		} else {
			lines[len(lines)-1] += out[:1]
		}
		out = out[1:]
	}
	return lines
}

func TestBarsLeaveOnlyWhatIsDone(t *testing.T) {
	w := new(screen)
	d := New(w, Bars, Options{Every: time.Millisecond, Width: func() int { return 60 }})
	a, b := d.Task("first", "object"), d.Task("second", "object")
	a.Expect(10, 0)
	a.Add(5, 0)
	for !strings.Contains(w.String(), "50%") {
		time.Sleep(time.Millisecond)
	}
	d.Log("something happened")
	a.End()
	b.End()
	d.Close()
	got := emulate(t, w.String())
	if len(got) != 4 || got[0] != "something happened" || !strings.HasPrefix(got[1], "first: 5 of 10 objects") ||
		!strings.HasPrefix(got[2], "second: 0 objects") || got[3] != "" {
		t.Errorf("the screen shows %q", got)
	}
}

func TestBarsFitTheScreen(t *testing.T) {
	w := new(screen)
	d := New(w, Bars, Options{Every: time.Hour, Width: func() int { return 40 }})
	for range 20 {
		d.Task(strings.Repeat("long name ", 10), "objects").Expect(1, 1)
	}
	d.Log("x")
	lines := emulate(t, w.String())
	if len(lines) != 1+maxBars+1+1 || lines[maxBars+1] != "... and 12 more" {
		t.Errorf("%d lines: %q", len(lines), lines)
	}
	for _, l := range lines {
		if n := len([]rune(l)); n > 39 {
			t.Errorf("%d columns: %q", n, l)
		}
	}
	d.Close()
}

func TestManyWorkersCountOnOneTask(t *testing.T) {
	d := New(new(screen), Bars, Options{Every: time.Millisecond})
	task := d.Task("x", "object")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			other := d.Task("y", "object")
			defer other.End()
			for range 1000 {
				task.Add(1, 2)
				other.Add(1, 0)
			}
		})
	}
	wg.Wait()
	if s := task.status(); s.Items != 8000 || s.Bytes != 16000 {
		t.Errorf("%+v", s)
	}
	task.End()
	d.Close()
}
