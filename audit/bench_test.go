//go:build unix

package audit

import (
	"syscall"
	"testing"
	"time"
)

// What an act waits for before it begins: its intent, durable on this host.
func BenchmarkAppend(b *testing.B) {
	k := newBench(b)
	l := k.open(b)
	defer l.Close()
	for b.Loop() {
		k.add(b, l, 0, 1)
	}
}

// The whole log read and recomputed, which takes one thread.
func BenchmarkVerify100000(b *testing.B) {
	k := newBench(b)
	l := k.open(b)
	for range 10 {
		for range 10_000 {
			e := NewEvent(Export, Fact, k.now())
			e.Service, e.Counts = "case-files", map[string]int64{"records": 12345, "gaps": 0}
			entry, err := e.encode(logName)
			if err != nil {
				b.Fatal(err)
			}
			l.pending = append(l.pending, entry) // without the journal's fsync
		}
		publish(b, l)
	}
	defer l.Close()
	r := k.reader(b, k.st)
	before := cpu(b)
	for b.Loop() {
		if report := verify(b, r); len(report.Findings) > 0 || report.Head.Size != 100_000 {
			b.Fatal(report)
		}
	}
	b.ReportMetric(float64((cpu(b)-before).Milliseconds())/float64(b.N), "cpu-ms/op")
}

// cpu is the processor time of the process, which says more than the clock where others
// use the machine.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
