package main

import (
	"crypto/sha256"
	"fmt"
	"testing"
)

func TestDataSetsAreTheSameOnEveryMachine(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"B": "8 objects, 2048 MiB", "C": "2000 objects, 1384 MiB", "Q": "25000 objects, 208 MiB", "A": "100000 objects, 832 MiB",
	} {
		if d := newDataSet(name, 1); d.what != want {
			t.Errorf("data set %s is %s; want %s", name, d.what, want)
		}
	}
	d := newDataSet("Q", 0.001)
	h := sha256.New()
	for i := range d.sizes {
		if err := d.content(h, i, 0); err != nil {
			t.Fatal(err)
		}
	}
	const want = "0ce139ad76e146cd7d06d0d26ab53e5169bc752b115bcbb536602f74f9cd8f55"
	if got := fmt.Sprintf("%x", h.Sum(nil)); got != want {
		t.Errorf("the first objects of data set Q have sha256 %s; want %s", got, want)
	}
}

func TestChangedObjectsKeepTheirSize(t *testing.T) {
	t.Parallel()
	d := newDataSet("A", 0.0001)
	var sums [2][32]byte
	for generation := range sums {
		h := sha256.New()
		n := &counter{}
		if err := d.content(n, 3, generation); err != nil {
			t.Fatal(err)
		}
		if n.n != d.sizes[3] {
			t.Errorf("generation %d has %d bytes; want %d", generation, n.n, d.sizes[3])
		}
		if err := d.content(h, 3, generation); err != nil {
			t.Fatal(err)
		}
		h.Sum(sums[generation][:0])
	}
	if sums[0] == sums[1] {
		t.Error("an object that changed has the same bytes")
	}
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}
