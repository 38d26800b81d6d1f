package rest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters/rest/jinja"
	fixtures "github.com/dwp/sallyport/fixtures/rest"
)

// eight has a stream of eight slices, and another.
const eight = `
definitions:
  stream:
    type: DeclarativeStream
    retriever:
      requester: {type: HttpRequester, url_base: "{{ config['base'] }}", path: "{{ parameters['name'] }}/{{ stream_slice['n'] }}"}
      record_selector: {extractor: {field_path: []}}
      partition_router: {type: ListPartitionRouter, cursor_field: n, values: ["0", "1", "2", "3", "4", "5", "6", "7"]}
streams:
  - {$ref: "#/definitions/stream", $parameters: {name: a}}
  - {$ref: "#/definitions/stream", $parameters: {name: b}}
`

// TestSlicesAreReadAtOnceAndComeInTheirOrder: the first four requests are answered when
// all of them are there, the last first, which a reader of one slice at a time would not
// live to see.
func TestSlicesAreReadAtOnceAndComeInTheirOrder(t *testing.T) {
	t.Parallel()
	desk := fixtures.NewDesk(0)
	var mu sync.Mutex
	var arrived, answered []string
	turn := sync.NewCond(&mu)
	desk.Before = func(d *fixtures.Desk, n int, w http.ResponseWriter, r *http.Request) bool {
		defer context.AfterFunc(r.Context(), turn.Broadcast)() // whoever gave up is not waited for
		mu.Lock()
		defer mu.Unlock()
		arrived = append(arrived, r.URL.Path)
		turn.Broadcast()
		mine := int(r.URL.Path[len(r.URL.Path)-1] - '0')
		for mine < 4 && (len(arrived) < 4 || len(answered) < 3-mine) && r.Context().Err() == nil {
			turn.Wait()
		}
		answered = append(answered, r.URL.Path)
		turn.Broadcast()
		fmt.Fprintf(w, `[{"n":%d}]`, mine)
		return true
	}
	tr := startWith(t, []byte(eight), desk, map[string]any{"timeout": 30 * time.Second}, nil)
	r := tr.read(t, "a")
	if r.err != nil || len(r.gaps) > 0 || len(r.data) != 8 {
		t.Fatalf("%v %v, %d records", r.err, r.gaps, len(r.data))
	}
	for i, d := range r.data {
		if want := fmt.Sprintf(`{"n":%d,"_partition":{"n":%d}}`, i, i); d != want {
			t.Errorf("record %d is %s; want %s", i, d, want)
		}
	}
	if want := []string{"/a/3", "/a/2", "/a/1", "/a/0"}; !slices.Equal(answered[:4], want) {
		t.Errorf("answered %q first; want %q", answered[:4], want)
	}
}

func TestNoMoreRequestsAtOnceThanAllowed(t *testing.T) {
	t.Parallel()
	for limit, options := range map[int]map[string]any{3: {"concurrency": int64(3)}, 1: nil} {
		manifest := eight
		if options == nil {
			manifest += "concurrency_level: {type: ConcurrencyLevel, default_concurrency: \"{{ config['n'] }}\", max_concurrency: 1}\n"
		}
		desk := fixtures.NewDesk(0)
		var mu sync.Mutex
		now, most := 0, 0
		desk.Before = func(d *fixtures.Desk, n int, w http.ResponseWriter, r *http.Request) bool {
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			time.Sleep(time.Millisecond)
			mu.Lock()
			now--
			mu.Unlock()
			fmt.Fprint(w, `[{"x":1}]`)
			return true
		}
		tr := startWith(t, []byte(manifest), desk, options, map[string]any{"n": "9"})
		var g sync.WaitGroup
		for _, name := range []string{"a", "b"} {
			g.Go(func() {
				if r := tr.read(t, name); r.err != nil || len(r.data) != 8 {
					t.Errorf("%s: %v, %d records", name, r.err, len(r.data))
				}
			})
		}
		g.Wait()
		if most > limit {
			t.Errorf("%d requests at once; %d are allowed", most, limit)
		}
	}
}

// TestOneRateLimitHoldsAllRequestsBack: a Retry-After is meant for the whole service.
func TestOneRateLimitHoldsAllRequestsBack(t *testing.T) {
	t.Parallel()
	desk := fixtures.NewDesk(3)
	tr := start(t, "tickets.yaml", desk, nil, nil)
	u, err := parseURL(tr.view.config.Text("base") + "/tickets")
	if err != nil {
		t.Fatal(err)
	}
	tr.view.gate.hold(origin(u), tr.clock.now().Add(time.Minute))
	tr.view.gate.hold(origin(u), tr.clock.now().Add(time.Second)) // a shorter one changes nothing
	if r := tr.read(t, "pages"); r.err != nil || len(r.data) != 3 {
		t.Errorf("%v, %d records", r.err, len(r.data))
	}
	if want := []time.Duration{time.Minute}; !slices.Equal(tr.clock.waited, want) {
		t.Errorf("waited %v; want %v", tr.clock.waited, want)
	}
	var refused atomic.Bool
	desk.Before = func(d *fixtures.Desk, n int, w http.ResponseWriter, r *http.Request) bool {
		if refused.Swap(true) {
			return false
		}
		w.Header().Set("Retry-After", "100")
		w.WriteHeader(429)
		return true
	}
	before := tr.clock.now()
	if r := tr.read(t, "pages"); r.err != nil || len(r.data) != 3 {
		t.Errorf("%v, %d records", r.err, len(r.data))
	}
	if until := tr.view.gate.until[origin(u)]; until != before.Add(100*time.Second) {
		t.Errorf("requests are held until %v; want %v", until, before.Add(100*time.Second))
	}
}

func TestTasksEndInOrderWhateverTheyDo(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	gives := func(n int) task {
		return func(emit func(item) error) error {
			for i := range 3 * aheadItems {
				if err := emit(item{raw: jinja.Value(int64(n*1000 + i))}); err != nil {
					return err
				}
			}
			return nil
		}
	}
	for _, n := range []int{1, 2, 5} {
		for name, last := range map[string]task{
			"error": func(func(item) error) error { return boom },
			"panic": func(func(item) error) error { panic(boom) },
		} {
			if n == 1 && name == "panic" {
				continue // that is the caller's
			}
			var got []int64
			err := inOrder(t.Context(), n, func(ctx context.Context, run func(task) error) error {
				for _, tk := range []task{gives(0), gives(1), last, gives(3)} {
					if err := run(tk); err != nil {
						return err
					}
				}
				return nil
			}, func(it item) error {
				got = append(got, it.raw.(int64))
				return nil
			})
			if err == nil || !strings.Contains(err.Error(), "boom") || len(got) != 6*aheadItems || !slices.IsSorted(got) {
				t.Errorf("%d at once, %s: %v after %d items", n, name, err, len(got))
			}
		}
		taken := 0
		err := inOrder(t.Context(), n, func(ctx context.Context, run func(task) error) error {
			for i := 0; ; i++ { // as many as are taken
				if err := run(gives(i)); err != nil {
					return err
				}
			}
		}, func(it item) error {
			if taken++; taken == 4*aheadItems {
				return errStopped
			}
			return nil
		})
		if err != errStopped || taken != 4*aheadItems {
			t.Errorf("%d at once: %v after %d items", n, err, taken)
		}
		err = inOrder(t.Context(), n, func(ctx context.Context, run func(task) error) error { return boom }, nil)
		if err != boom {
			t.Errorf("%d at once: what produces tasks failed, and %v came", n, err)
		}
	}
}

// TestAGapOfAParentComesAtItsPlace: what cannot become a slice is between the slices.
func TestAGapOfAParentComesAtItsPlace(t *testing.T) {
	t.Parallel()
	desk := fixtures.NewDesk(0)
	desk.Before = func(d *fixtures.Desk, n int, w http.ResponseWriter, r *http.Request) bool {
		switch r.URL.Path {
		case "/login":
			fmt.Fprint(w, `{"token":"session-token"}`)
		case "/parents":
			if r.URL.Query().Get("page") == "" {
				fmt.Fprint(w, `[{"id":1},{"no":"id"},{"id":2}]`)
			} else {
				fmt.Fprint(w, `[]`)
			}
		default:
			fmt.Fprint(w, `[{"id":7}]`)
		}
		return true
	}
	tr := startWith(t, []byte(family), desk, nil, nil)
	r := tr.read(t, "sons")
	if r.err != nil || len(r.data) != 2 || len(r.gaps) != 1 || r.gaps[0].Code != dataset.Malformed {
		t.Errorf("%v %v %v", r.err, r.gaps, r.data)
	}
}
