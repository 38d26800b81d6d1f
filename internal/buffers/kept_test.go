package buffers

import (
	"runtime"
	"testing"
)

// A buffer that was kept, lent again, given back and then forgotten is garbage.
func TestWhatIsForgottenIsNotHeld(t *testing.T) {
	const least = 1 << 20
	p := New(least, 4*least)
	p.Put(p.Get(2 * least)) // kept
	b := p.Get(2 * least)
	forgotten := make(chan bool, 1)
	runtime.AddCleanup(&b[0], func(struct{}) { forgotten <- true }, struct{}{})
	p.Get(4 * least) // with this one lent there is no room to keep the other
	p.Put(b)
	b = nil
	for range 10 {
		runtime.GC()
		select {
		case <-forgotten:
			return
		default:
		}
	}
	t.Error("a buffer that the pool does not count is still held by it")
	runtime.KeepAlive(p)
}
