package transfer_test

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters/memory"
	"github.com/dwp/sallyport/transfer"
)

// A ledger is a table of payments, some 150 bytes of JSON each, of which a third are
// random, as in real tables.
type ledger struct {
	rows    int
	changed map[int]bool // these say something else
}

var payments = dataset.Stream{Name: "payments", Schema: &dataset.Schema{PrimaryKey: []string{"id"}, Fields: []dataset.Field{
	{Name: "id", Type: dataset.Integer}, {Name: "person", Type: dataset.String}, {Name: "reference", Type: dataset.String}, {Name: "status", Type: dataset.String}, {Name: "amount", Type: dataset.Number}}}}

// noise is what rows take their random digits from.
var noise = func() []byte {
	r, b := rand.New(rand.NewPCG(1, 1)), make([]byte, 1<<16)
	for i := range b {
		b[i] = "0123456789abcdef"[r.IntN(16)]
	}
	return b
}()

func (l ledger) source() *memory.Source {
	src := new(memory.Source)
	src.Generate(payments, l.rows, func(i int) dataset.Record {
		status := "paid"
		if l.changed[i] {
			status = "withdrawn"
		}
		at := i * 7919 % (len(noise) - 32)
		id := strconv.Itoa(i)
		line := append(append(make([]byte, 0, 160), `{"id":`...), id...)
		line = append(append(line, `,"person":"QQ`...), noise[at+9:at+15]...)
		line = append(append(append(line, `C","reference":"`...), noise[at:at+32]...), `","status":"`...)
		line = append(append(append(line, status...), `","amount":`...), id[len(id)-1:]...)
		return dataset.Record{Key: "[" + id + "]", Data: append(line, `.25}`...)}
	})
	return src
}

// stored exports a ledger and then what became of it, and returns what each snapshot but
// the first stored anew as a share of all that it needs.
func stored(tb testing.TB, csv bool, states ...ledger) (shares []float64) {
	tb.Helper()
	b := newBench(tb)
	for i, l := range states {
		j := b.job(l.source())
		j.Options.PackSize, j.Options.CSV = 0, csv
		d, err := transfer.Export(tb.Context(), j)
		if err != nil {
			tb.Fatal(err)
		}
		if c := d.Manifest.Counts; i > 0 {
			shares = append(shares, float64(c.New)/float64(c.PackBytes))
		}
	}
	return shares
}

// scattered changes so many rows anywhere.
func scattered(rows, n int) map[int]bool {
	r := rand.New(rand.NewPCG(7, 7))
	changed := map[int]bool{}
	for len(changed) < n {
		changed[r.IntN(rows)] = true
	}
	return changed
}

func newest(rows, n int) map[int]bool {
	changed := map[int]bool{}
	for i := rows - n; i < rows; i++ {
		changed[i] = true
	}
	return changed
}

func TestChangesAtTheEndOfATableStoreLittleMoreThanThemselves(t *testing.T) {
	if testing.Short() {
		t.Skip("a table of 80 MB was not exported three times")
	}
	t.Parallel()
	const rows = 700_000 // about 80 MB
	states := []ledger{{rows, nil}, {rows, newest(rows, rows/100)}, {rows + rows/100, newest(rows, rows/100)}}
	for _, csv := range []bool{false, true} {
		if csv && os.Getenv("SALLYPORT_EXHAUSTIVE") == "" {
			continue
		}
		for i, share := range stored(t, csv, states...) {
			what := []string{"newest 1 % changed", "1 % added"}[i]
			t.Logf("%s, CSV %t: the next export stored %.1f %% of the snapshot", what, csv, 100*share)
			if share > 0.03 {
				t.Errorf("%s, CSV %t: the next export stored %.1f %% of the snapshot; want at most 3", what, csv, 100*share)
			}
		}
	}
}

// BenchmarkStoredAfterScatteredChanges prints what the next export stores anew when rows
// anywhere in a table changed: parts of one to four MiB are the smallest thing that is
// stored again.
func BenchmarkStoredAfterScatteredChanges(b *testing.B) {
	const rows = 700_000
	for _, c := range []struct {
		name string
		n    int
	}{{"1-row", 1}, {"0.001%", rows / 100_000}, {"0.01%", rows / 10_000}, {"0.1%", rows / 1000}} {
		b.Run(c.name, func(b *testing.B) {
			var share float64
			for b.Loop() {
				share = stored(b, false, ledger{rows: rows}, ledger{rows, scattered(rows, c.n)})[0]
			}
			b.ReportMetric(100*share, "%stored")
		})
	}
}
