package spool

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
)

func TestShelfReturnsWhatWasPutUnderANumber(t *testing.T) {
	t.Parallel()
	s, err := NewShelf(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	text := func(i int) []byte { return bytes.Repeat(fmt.Appendf(nil, "%d ", i), i*100) }
	var g sync.WaitGroup
	for i := range 50 {
		g.Go(func() {
			n, err := s.Put(text(i))
			if err != nil {
				t.Error(err)
				return
			}
			for range 3 {
				if got, err := s.Get(n); err != nil || !bytes.Equal(got, text(i)) {
					t.Errorf("Get(%d) = %d bytes, %v; want %d", n, len(got), err, len(text(i)))
				}
			}
		})
	}
	g.Wait()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := s.Get(0); err == nil {
		t.Error("a closed shelf gave something")
	}
	if _, err := s.Put(nil); err == nil {
		t.Error("a closed shelf took something")
	}
}
