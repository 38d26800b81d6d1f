package singer

import (
	"testing"

	"github.com/dwp/sallyport/exporters"
)

// BenchmarkRead reads 200,000 records from a tap, which prints them with fmt.
func BenchmarkRead(b *testing.B) {
	x, err := Open(b.Context(), tap("behaved", map[string]any{"rows": 200_000}))
	if err != nil {
		b.Fatal(err)
	}
	defer x.Close()
	streams, err := x.Streams(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	n := 0
	for b.Loop() {
		for _, err := range x.Read(b.Context(), exporters.Query{Streams: streams}) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "records/s")
}
