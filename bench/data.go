package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/dwp/sallyport/internal/s3conn"
)

// A dataSet is a list of objects that is the same on every machine.
type dataSet struct {
	name  string
	what  string
	sizes []int64
	mixed bool // every other object is random; else all are text
	words []string
}

// newDataSet returns one of the four data sets.
func newDataSet(name string, scale float64) dataSet {
	r := rand.New(rand.NewPCG(1, uint64(name[0])))
	count := func(n int) int { return max(1, int(float64(n)*scale)) }
	d := dataSet{name: name, words: vocabulary()}
	switch name {
	case "B":
		d.mixed = true
		for range 8 {
			d.sizes = append(d.sizes, int64(256<<20*scale))
		}
	case "C":
		d.mixed = true
		for range count(2000) { // median 250 KiB, mean about 750 KiB
			n := math.Exp(r.NormFloat64()*1.5 + math.Log(250<<10))
			d.sizes = append(d.sizes, min(max(int64(n), 1<<10), 20<<20))
		}
	case "Q", "A":
		for range count(map[string]int{"Q": 25_000, "A": 100_000}[name]) {
			d.sizes = append(d.sizes, 1<<10+r.Int64N(15<<10))
		}
	}
	d.what = fmt.Sprintf("%d objects, %.0f MiB", len(d.sizes), float64(d.bytes())/(1<<20))
	return d
}

func (d dataSet) bytes() (n int64) {
	for _, s := range d.sizes {
		n += s
	}
	return n
}

func (d dataSet) key(i int) string { return fmt.Sprintf("folder-%03d/object-%06d", i/500, i) }

// bucket is the name of the bucket that holds the data set.
func (d dataSet) bucket() string { return "set-" + string(d.name[0]|0x20) }

// content writes the i-th object. generation changes it.
func (d dataSet) content(w io.Writer, i, generation int) error {
	var seed [32]byte
	copy(seed[:], fmt.Sprintf("%s %d %d", d.name, i, generation))
	src := rand.NewChaCha8(seed)
	if d.mixed && i%2 == 1 {
		_, err := io.CopyN(w, src, d.sizes[i])
		return err
	}
	return d.text(w, rand.New(src), d.sizes[i])
}

// text writes n bytes of records such as services hold: words of uneven frequency,
// numbers, dates and names that repeat.
func (d dataSet) text(w io.Writer, r *rand.Rand, n int64) error {
	words := d.words
	b := make([]byte, 0, 64<<10)
	for n > 0 {
		b = append(b[:0], `{"id":`...)
		for len(b) < 32<<10 {
			b = strconv.AppendUint(b, r.Uint64N(1e9), 10)
			b = append(b, `,"opened":"2026-`...)
			b = append(b, words[r.IntN(12)]...)
			b = append(b, `","body":"`...)
			for range 20 + r.IntN(60) {
				at := r.Float64()
				b = append(append(b, words[int(at*at*at*float64(len(words)))]...), ' ')
			}
			b = append(b, "\"}\n{\"id\":"...)
		}
		m := min(n, int64(len(b)))
		if _, err := w.Write(b[:m]); err != nil {
			return err
		}
		n -= m
	}
	return nil
}

// vocabulary returns 6,000 words.
func vocabulary() []string {
	r := rand.New(rand.NewPCG(7, 7))
	words := make([]string, 6000)
	for i := range words {
		b := make([]byte, 2+r.IntN(9))
		for j := range b {
			b[j] = "etaoinshrdlucmfwypvbgkjqxz"[min(r.IntN(26), r.IntN(26))]
		}
		words[i] = string(b)
	}
	return words
}

// write makes the files of the data set below dir, unless they are there.
func (d dataSet) write(dir string) error {
	done := filepath.Join(dir, ".done")
	want, err := json.Marshal(d.sizes)
	if err != nil {
		return err
	}
	if have, err := os.ReadFile(done); err == nil && string(have) == string(want) {
		return nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	for i := range d.sizes {
		if err := d.file(filepath.Join(dir, "files", d.key(i)), i, 0); err != nil {
			return err
		}
	}
	return os.WriteFile(done, want, 0o600)
}

func (d dataSet) file(path string, i, generation int) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	if err := d.content(w, i, generation); err != nil {
		f.Close()
		return err
	}
	if err := w.Flush(); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// upload makes the bucket and puts the given objects into it.
func (d dataSet) upload(ctx context.Context, c *s3conn.Conn, objects []int, generation int) error {
	if generation == 0 {
		if _, _, err := c.Call(ctx, &s3conn.Request{Op: "create bucket", Method: http.MethodPut}, 1<<20); err != nil {
			return err
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for _, i := range objects {
		g.Go(func() error {
			_, _, err := c.Call(ctx, &s3conn.Request{Op: "put object", Method: http.MethodPut, Key: d.key(i), Size: d.sizes[i],
				Stream: func(context.Context) (io.ReadCloser, error) {
					r, w := io.Pipe()
					go func() { w.CloseWithError(d.content(w, i, generation)) }()
					return r, nil
				}}, 1<<20)
			return err
		})
	}
	return g.Wait()
}

func (d dataSet) all() []int {
	all := make([]int, len(d.sizes))
	for i := range all {
		all[i] = i
	}
	return all
}

// dirSize returns the bytes of all files below dir.
func dirSize(dir string) (n int64) {
	filepath.WalkDir(dir, func(_ string, e os.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if info, err := e.Info(); err == nil {
				n += info.Size()
			}
		}
		return nil
	})
	return n
}
