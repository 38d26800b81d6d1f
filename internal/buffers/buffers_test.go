package buffers

import "testing"

func TestBufferThatCameBackIsLentAgain(t *testing.T) {
	t.Parallel()
	p := New(1<<10, 1<<20)
	b := p.Get(1500)
	if len(b) != 1500 || cap(b) != 2048 {
		t.Fatalf("len %d, cap %d; want 1500 and 2048", len(b), cap(b))
	}
	p.Put(b)
	if again := p.Get(2048); &again[0] != &b[0] {
		t.Error("a buffer of the size was kept and another one was made")
	}
}

func TestSmallBuffersTakeNoMoreThanTheyNeed(t *testing.T) {
	t.Parallel()
	p := New(1<<10, 1<<20)
	if b := p.Get(512); cap(b) != 512 {
		t.Errorf("a buffer for 512 bytes takes %d", cap(b))
	}
	if b := p.Get(513); cap(b) != 1<<10 {
		t.Errorf("a buffer for 513 bytes takes %d; want 1024", cap(b))
	}
}

func TestPoolKeepsNoMoreThanItMay(t *testing.T) {
	t.Parallel()
	p := New(1<<10, 8<<10)
	var lent [][]byte
	for range 16 {
		lent = append(lent, p.Get(1<<10))
	}
	for _, b := range lent {
		p.Put(b)
	}
	if p.kept > 8<<10 || p.lent != 0 {
		t.Errorf("%d bytes are kept, %d lent; want at most 8192 and none", p.kept, p.lent)
	}
	p.Get(8 << 10)
	if p.kept+p.lent > 8<<10 {
		t.Errorf("%d bytes are kept beside %d lent: smaller ones did not make room", p.kept, p.lent)
	}
}
