package rest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"net/http"
	"testing"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/archive/archivetest"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/rest/jinja"
	"github.com/dwp/sallyport/internal/spool"
	"github.com/dwp/sallyport/transfer"
)

// benchPage is the answer that benchmarks take apart, a page of a thousand records.
func benchPage(records int) *answer {
	b := []byte{'['}
	for n := range records {
		if n > 0 {
			b = append(b, ',')
		}
		b = appendTicket(b, n)
	}
	return &answer{status: 200, body: append(b, ']')}
}

// pagesOf returns the stream of tickets.yaml that counts pages, and what reads it.
func pagesOf(b *testing.B) (*view, *stream, *simple) {
	v := viewOf(b, "http://127.0.0.1:1")
	all, err := v.all(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	for _, st := range all {
		if st.name == "pages" {
			return v, st, st.retriever.(*simple)
		}
	}
	b.Fatal("there is no stream pages")
	return nil, nil, nil
}

func recordsPerSecond(b *testing.B, n int) {
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkRead reads from a server that does nothing else, in the same process.
func BenchmarkRead(b *testing.B) {
	const records = 100_000
	v := viewOf(b, endless(b, records))
	for b.Loop() {
		n := 0
		for rec, err := range v.Read(b.Context(), exporters.Query{Streams: []dataset.Stream{{Name: "pages"}}}) {
			if err != nil {
				b.Fatal(err)
			}
			if rec.Gap == nil {
				n++
			}
		}
		if n != records {
			b.Fatalf("%d records", n)
		}
	}
	recordsPerSecond(b, records)
}

// BenchmarkGet is what BenchmarkRead could be at best: it gets the same pages and discards
// them.
func BenchmarkGet(b *testing.B) {
	const records = 100_000
	base := endless(b, records)
	for b.Loop() {
		for page := 1; page <= records/1000+1; page++ {
			resp, err := http.Get(base + "/tickets?page=" + itoa(page))
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, resp.Body); err != nil {
				b.Fatal(err)
			}
			resp.Body.Close()
		}
	}
	recordsPerSecond(b, records)
}

// BenchmarkDecode makes records for the archive of the bytes of an answer: parsed, taken
// out, keyed, looked for among those that came before.
func BenchmarkDecode(b *testing.B) {
	v, st, r := pagesOf(b)
	page := benchPage(1000)
	for b.Loop() {
		n := 0
		rd := &reader{v: v, st: st, records: true, seen: spool.NewRepeats("", repeatsMemory), yield: func(dataset.Record) error { n++; return nil }}
		raws, err := r.extract(v, st, v.scope(), &answer{status: 200, body: page.body})
		if err != nil {
			b.Fatal(err)
		}
		p := part{tally: &tally{}}
		for _, raw := range raws {
			if _, _, err := st.process(v, v.scope(), p, raw, func(it item) error { return rd.item(b.Context(), it) }); err != nil {
				b.Fatal(err)
			}
		}
		if rd.seen.Close(); n != 1000 {
			b.Fatalf("%d records", n)
		}
	}
	recordsPerSecond(b, 1000)
}

// BenchmarkEvaluate filters records by an expression and adds a field to each by another.
func BenchmarkEvaluate(b *testing.B) {
	v, st, r := pagesOf(b)
	raws, err := r.extract(v, st, v.scope(), benchPage(1000))
	if err != nil {
		b.Fatal(err)
	}
	n := node{b: newBuilder(loadCatalogue())}
	x := *st
	selector := *st.selector
	x.selector, selector.filter = &selector, n.compile("condition", "{{ record['amount'] > 1 and 'a' in record.tags }}", recordNames...)
	label := n.compile("value", "{{ record['id'] }}-{{ record.subject | upper }}", recordNames...)
	x.transforms = []transformation{func(s scope, d *jinja.Dict) error {
		t, err := s.with("record", d).text(label)
		d.Set("label", t)
		return err
	}}
	p := part{tally: &tally{}}
	for b.Loop() {
		for _, raw := range raws {
			if _, kept, err := x.process(v, v.scope(), p, raw, func(item) error { return nil }); err != nil || !kept {
				b.Fatal(kept, err)
			}
		}
	}
	recordsPerSecond(b, len(raws))
}

// made is a view whose records are made already.
type made struct{ records []dataset.Record }

func (m made) Streams(context.Context) ([]dataset.Stream, error) {
	return []dataset.Stream{{Name: "pages", Schema: &dataset.Schema{PrimaryKey: []string{"id"}}}}, nil
}

func (m made) Read(context.Context, exporters.Query) iter.Seq2[dataset.Record, error] {
	return func(yield func(dataset.Record, error) bool) {
		for _, r := range m.records {
			if !yield(r, nil) {
				return
			}
		}
	}
}

func (m made) Facts() dataset.Facts { return dataset.Facts{} }
func (m made) Close() error         { return nil }

// keys are what an archive needs to be written and read.
type keys struct {
	signer   *crypto.Signer
	trust    *crypto.Verifier
	seal     *crypto.Sealer
	identity *crypto.Opener
}

func newKeys(t testing.TB) keys {
	t.Helper()
	private, public, err := crypto.GenerateSigningKey("exporter")
	if err != nil {
		t.Fatal(err)
	}
	file, recipient, err := crypto.GenerateIdentity(false)
	if err != nil {
		t.Fatal(err)
	}
	var k keys
	var errs [4]error
	k.signer, errs[0] = crypto.ParseSigner(private)
	k.trust, errs[1] = crypto.ParseAllowedSigners([]byte(`exporter namespaces="sallyport-*" `+public), "allowed_signers")
	k.seal, errs[2] = crypto.NewSealer(recipient)
	k.identity, errs[3] = crypto.ParseIdentities(file, "identity")
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	return k
}

// archive makes an empty archive in memory.
func (k keys) archive(t testing.TB) *archive.Archive {
	t.Helper()
	store := new(archivetest.Memory)
	if _, err := archive.Init(t.Context(), store, k.signer, time.Now()); err != nil {
		t.Fatal(err)
	}
	a, err := archive.Open(t.Context(), store, k.trust)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (k keys) options(t testing.TB) archive.Options {
	return archive.Options{Service: "desk", Exporter: "rest", Classification: "OFFICIAL", Product: "test", Signer: k.signer, Recipients: k.seal, State: t.TempDir()}
}

// BenchmarkWrite archives records: roots, compression, encryption, packs, into memory.
func BenchmarkWrite(b *testing.B) {
	var m made
	for n := range 100_000 {
		key, err := dataset.Key([]json.RawMessage{json.RawMessage(itoa(n))})
		if err != nil {
			b.Fatal(err)
		}
		m.records = append(m.records, dataset.Record{Stream: "pages", Key: key, Data: appendTicket(nil, n)})
	}
	k := newKeys(b)
	for b.Loop() {
		a := k.archive(b)
		d, err := transfer.Export(b.Context(), transfer.Job{Archive: a, Open: func(context.Context) (exporters.Exporter, error) { return m, nil },
			Options: k.options(b)})
		if err != nil || d.Manifest.Counts.Records != int64(len(m.records)) {
			b.Fatal(d, err)
		}
	}
	recordsPerSecond(b, len(m.records))
}
