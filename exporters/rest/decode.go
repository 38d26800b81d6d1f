package rest

import (
	"archive/zip"
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/htmlindex"

	"github.com/dwp/sallyport/exporters/rest/jinja"
)

// A decoder yields the elements of a body: the object, the elements of a list, lines,
// rows. What it cannot read is an error; nothing is left out.
type decoder struct {
	kind      string
	inner     *decoder
	delimiter byte
	encoding  string
	nulls     []string
	items     []string
	limit     int64 // bytes of one line, row or document
}

func (n node) decoder() *decoder {
	if n.d == nil {
		return &decoder{kind: "JsonDecoder"}
	}
	if !n.check() {
		return &decoder{kind: "JsonDecoder"}
	}
	d := &decoder{kind: n.typ(), delimiter: ',', encoding: n.d.Text("encoding"), nulls: n.texts("set_values_to_none")}
	if s, has := n.d.Get("delimiter"); has && s != nil {
		t := jinja.Str(s)
		if t == `\t` {
			t = "\t"
		}
		if len(t) != 1 {
			n.problem("delimiter", "is not one ASCII character")
			t = ","
		}
		d.delimiter = t[0]
	}
	if p := n.d.Text("items_path"); p != "" {
		d.items = strings.Split(p, ".")
	}
	if c, ok := n.child("decoder"); ok {
		d.inner = c.decoder()
	}
	if e := d.encoding; e != "" {
		if _, err := htmlindex.Get(strings.ReplaceAll(e, "utf-8-sig", "utf-8")); err != nil {
			n.problem("encoding", "%q is not supported", e)
		}
	}
	return d
}

// text returns r as UTF-8 without a byte order mark.
func (d *decoder) text(r io.Reader) (io.Reader, error) {
	if e := strings.ToLower(d.encoding); e != "" && e != "utf-8" && e != "utf8" && e != "utf-8-sig" {
		enc, err := htmlindex.Get(e)
		if err != nil {
			return nil, err
		}
		r = enc.NewDecoder().Reader(r)
	}
	b := bufio.NewReaderSize(r, 64<<10)
	if mark, err := b.Peek(3); err == nil && string(mark) == "\ufeff" {
		b.Discard(3)
	}
	return b, nil
}

// elements yields the elements of an answer.
func (d *decoder) elements(a *answer, limit int64) iter.Seq2[jinja.Value, error] {
	if d.kind != "JsonDecoder" {
		return d.records(bytes.NewReader(a.body), limit)
	}
	return func(yield func(jinja.Value, error) bool) {
		v, err := a.document()
		l, ok := v.(*jinja.List)
		if err != nil || !ok {
			yield(v, err)
			return
		}
		for _, e := range l.Items {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// records yields the elements of r.
func (d *decoder) records(r io.Reader, limit int64) iter.Seq2[jinja.Value, error] {
	return func(yield func(jinja.Value, error) bool) {
		if err := d.each(r, limit, func(v jinja.Value) bool { return yield(v, nil) }); err != nil && !errors.Is(err, errStopped) {
			yield(nil, err)
		}
	}
}

// errStopped says that the consumer wants no more.
var errStopped = errors.New("stopped")

func (d *decoder) each(r io.Reader, limit int64, yield func(jinja.Value) bool) error {
	switch d.kind {
	case "GzipDecoder":
		b := bufio.NewReader(r)
		if magic, err := b.Peek(2); err != nil || magic[0] != 0x1f || magic[1] != 0x8b {
			return d.inner.each(b, limit, yield) // some servers say gzip and mean its absence
		}
		raw := &countingReader{r: b}
		z, err := gzip.NewReader(raw)
		if err != nil {
			return fmt.Errorf("gzip: %w", err)
		}
		return d.inner.each(&boundedReader{r: z, left: limit, compressed: raw}, limit, yield)
	case "ZipfileDecoder":
		return d.zip(r, limit, yield)
	}
	t, err := d.text(r)
	if err != nil {
		return err
	}
	switch d.kind {
	case "CsvDecoder":
		return d.csv(t, yield)
	case "JsonlDecoder":
		return lines(t, limit, func(line []byte) error {
			v, err := jinja.ParseJSON(line)
			if err != nil {
				return err
			}
			if !yield(v) {
				return errStopped
			}
			return nil
		})
	case "IterableDecoder":
		return lines(t, limit, func(line []byte) error {
			if !utf8.Valid(line) {
				return errors.New("a line is not UTF-8")
			}
			if !yield(jinja.NewDict("record", string(line))) {
				return errStopped
			}
			return nil
		})
	}
	body, err := io.ReadAll(t)
	if err != nil {
		return err
	}
	if d.kind == "XmlDecoder" {
		v, err := parseXML(body)
		if err != nil {
			return fmt.Errorf("xml: %w", err)
		}
		if !yield(v) {
			return errStopped
		}
		return nil
	}
	v, err := jinja.ParseJSON(body)
	if err != nil {
		return err
	}
	if d.kind == "JsonItemsDecoder" {
		for _, k := range d.items {
			if k == "item" {
				continue
			}
			found := findKey(v, escapeGlob(k))
			if len(found) != 1 {
				return fmt.Errorf("the document has no %s", strings.Join(d.items, "."))
			}
			v = found[0].val
		}
	}
	if l, ok := v.(*jinja.List); ok {
		for _, e := range l.Items {
			if !yield(e) {
				return errStopped
			}
		}
		return nil
	}
	if !yield(v) {
		return errStopped
	}
	return nil
}

// zip reads every file of an archive, in its order.
func (d *decoder) zip(r io.Reader, limit int64, yield func(jinja.Value) bool) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return fmt.Errorf("zip: %w", err)
	}
	if len(z.File) > 10_000 {
		return fmt.Errorf("zip: %d files", len(z.File))
	}
	for _, f := range z.File {
		if f.FileInfo().IsDir() {
			continue
		}
		rc, err := f.Open()
		if err != nil {
			return fmt.Errorf("zip: %w", err)
		}
		err = d.inner.each(&boundedReader{r: rc, left: limit, compressed: &countingReader{n: int64(f.CompressedSize64)}}, limit, yield)
		if cerr := rc.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return fmt.Errorf("zip: %w", err)
		}
	}
	return nil
}

// lines calls fn with each line that is not empty; the slice is fn's to keep.
func lines(r io.Reader, limit int64, fn func([]byte) error) error {
	br := bufio.NewReaderSize(r, 64<<10)
	for {
		line, err := readLine(br, limit)
		if err != nil && err != io.EOF {
			return err
		}
		if l := bytes.TrimSpace(line); len(l) > 0 {
			if err := fn(l); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
	}
}

func readLine(br *bufio.Reader, limit int64) ([]byte, error) {
	var line []byte
	for {
		part, err := br.ReadSlice('\n')
		line = append(line, part...)
		if int64(len(line)) > limit {
			return nil, fmt.Errorf("a line: %w", errTooLarge)
		}
		if err != bufio.ErrBufferFull {
			return line, err
		}
	}
}
