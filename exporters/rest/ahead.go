package rest

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

// A task produces items: a slice of a stream, or a gap where one should be.
type task func(emit func(item) error) error

// aheadItems is how many items of a task wait until those before it are done.
const aheadItems = 100

// A queue holds what a task produced.
type queue struct {
	items chan item
	err   error // of the task; to be read when items is closed
}

// inOrder runs the tasks that produce hands over, n at once, and emits what they produce
// in the order in which they came, so that two readings of one source are alike. The first
// error in that order ends it all. When it returns, nothing runs any more.
func inOrder(ctx context.Context, n int, produce func(ctx context.Context, run func(task) error) error, emit func(item) error) error {
	if n <= 1 {
		return produce(ctx, func(t task) error { return t(emit) })
	}
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	queues := make(chan *queue, n-1) // and one is emptied
	var failed error
	all.Go(func() {
		defer close(queues)
		failed = rescued(func() error {
			return produce(ctx, func(t task) error {
				q := &queue{items: make(chan item, aheadItems)}
				select {
				case queues <- q:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
				all.Go(func() {
					defer close(q.items)
					q.err = rescued(func() error {
						return t(func(it item) error {
							select {
							case q.items <- it:
								return nil
							case <-ctx.Done():
								return context.Cause(ctx)
							}
						})
					})
				})
				return nil
			})
		})
	})
	for q := range queues {
		for it := range q.items {
			if err := emit(it); err != nil {
				return err
			}
		}
		if q.err != nil {
			return q.err
		}
	}
	return failed
}

// rescued turns a panic into an error: it happens where nobody else would see it.
func rescued(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the exporter panicked: %v\n%s", p, debug.Stack())
		}
	}()
	return f()
}

// A gate bounds the requests that are made at once, and holds them back from a service
// that asked for patience. It is safe for concurrent use.
type gate struct {
	slots chan struct{}

	mu    sync.Mutex
	until map[string]time.Time // by origin
}

func newGate(n int) *gate {
	return &gate{slots: make(chan struct{}, n), until: map[string]time.Time{}}
}

// enter waits for a free slot, which the caller leaves.
func (g *gate) enter(ctx context.Context) error {
	select {
	case g.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (g *gate) leave() { <-g.slots }

// hold keeps all requests from a service until a time.
func (g *gate) hold(origin string, until time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if until.After(g.until[origin]) {
		g.until[origin] = until
	}
}

// held says how long requests are to be kept from a service.
func (g *gate) held(origin string, now time.Time) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return max(0, g.until[origin].Sub(now))
}
