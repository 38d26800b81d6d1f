package reconcile_test

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/metrics"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/reconcile"
)

var (
	stream   = dataset.Stream{Name: "objects", Blobs: true, Volatile: []string{"version_id"}}
	exported = time.Date(2026, 3, 1, 2, 0, 0, 0, time.UTC)
)

// record is the i-th of a made-up bucket: every tenth key has three versions.
func record(i int) dataset.Record {
	key, version := i, 0
	if i%12 >= 10 {
		key, version = i-i%12+9, i%12-9
	}
	return dataset.Record{Stream: stream.Name, Key: fmt.Sprintf("cases/%07d.json", key), Ordinal: version,
		Data: fmt.Appendf(nil, `{"last_modified":"2026-02-01T00:00:00Z","tags":{"case":"%d"},"etag":"%d.%d","version_id":"%d"}`, key, key, version, i),
		Blob: &dataset.Blob{SHA256: dataset.Sum(fmt.Append(nil, key, version))}}
}

func bucket(n int) []dataset.Record {
	all := make([]dataset.Record, n)
	for i := range all {
		all[i] = record(i)
	}
	return all
}

// sequence yields records of which some are exchanged for others; nil drops one.
func sequence(all []dataset.Record, instead map[int][]dataset.Record) iter.Seq2[dataset.Record, error] {
	return func(yield func(dataset.Record, error) bool) {
		for i, r := range all {
			rs, ok := instead[i]
			if !ok {
				rs = []dataset.Record{r}
			}
			for _, r := range rs {
				if !yield(r, nil) {
					return
				}
			}
		}
	}
}

func compare(t testing.TB, sides [reconcile.Sides]iter.Seq2[dataset.Record, error]) *reconcile.Comparison {
	t.Helper()
	r, err := reconcile.New(stream, t.TempDir(), exported)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for side, recs := range sides {
		if recs == nil {
			continue
		}
		if err := r.Add(t.Context(), reconcile.Side(side), recs); err != nil {
			t.Fatal(err)
		}
	}
	c, err := r.Compare(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// named writes differences as lines that can be compared.
func named(ds []reconcile.Difference) []string {
	lines := []string{}
	for _, d := range ds {
		lines = append(lines, fmt.Sprintf("%s/%d %s: %s", d.Key, d.Ordinal, d.Side, d.Status))
	}
	slices.Sort(lines)
	return lines
}

// A fault is done to one record of one side. seen says how each column reports it when
// it happens to each side: on the archive, on the restored copy, at the source.
type fault struct {
	name    string
	victims func(r *rand.Rand, n int) []int
	do      func(rs []dataset.Record) [][]dataset.Record
	seen    [reconcile.Sides]map[reconcile.Side]reconcile.Status
}

func anyOne(r *rand.Rand, n int) []int { return []int{r.IntN(n)} }

// seenAs says how a fault is reported: in both columns when it happened to the archive,
// in its own otherwise.
func seenAs(restored, source, atRestored, atSource reconcile.Status) [reconcile.Sides]map[reconcile.Side]reconcile.Status {
	return [reconcile.Sides]map[reconcile.Side]reconcile.Status{
		{reconcile.Restored: restored, reconcile.SourceNow: source},
		{reconcile.Restored: atRestored},
		{reconcile.SourceNow: atSource},
	}
}

func altered(old, new string) func(rs []dataset.Record) [][]dataset.Record {
	return func(rs []dataset.Record) [][]dataset.Record {
		r := rs[0]
		r.Data = []byte(strings.Replace(string(r.Data), old, new, 1))
		return [][]dataset.Record{{r}}
	}
}

var differ = seenAs(reconcile.Mismatch, reconcile.Undecided, reconcile.Mismatch, reconcile.Undecided)

var faults = []fault{
	{"dropped", anyOne, func([]dataset.Record) [][]dataset.Record { return [][]dataset.Record{nil} },
		seenAs(reconcile.Extra, reconcile.Undecided, reconcile.Missing, reconcile.Vanished)},
	{"duplicated", anyOne, func(rs []dataset.Record) [][]dataset.Record { return [][]dataset.Record{{rs[0], rs[0]}} },
		seenAs(reconcile.Missing, reconcile.Vanished, reconcile.Repeated, reconcile.Undecided)},
	{"altered by one byte", anyOne, func(rs []dataset.Record) [][]dataset.Record {
		r := rs[0]
		h := r.Blob.SHA256
		h[7] ^= 1
		r.Blob = &dataset.Blob{SHA256: h}
		return [][]dataset.Record{{r}}
	}, differ},
	{"metadata of another", anyOne, altered(`"etag":"`, `"etag":"1`), differ},
	{"tag of another", anyOne, altered(`"case":"`, `"case":"1`), differ},
	{"swapped", func(r *rand.Rand, n int) []int {
		i := r.IntN(n - 1)
		return []int{i, i + 1 + r.IntN(n-i-1)}
	}, func(rs []dataset.Record) [][]dataset.Record {
		a, b := rs[0], rs[1]
		a.Data, a.Blob, b.Data, b.Blob = b.Data, b.Blob, a.Data, a.Blob
		return [][]dataset.Record{{a}, {b}}
	}, differ},
	{"older version missing", func(r *rand.Rand, n int) []int { return []int{r.IntN(n/12)*12 + 9 + r.IntN(2)} },
		func([]dataset.Record) [][]dataset.Record { return [][]dataset.Record{nil} },
		seenAs(reconcile.Extra, reconcile.Undecided, reconcile.Missing, reconcile.Vanished)},
}

// trials is how many trials of how many records are made: samples, or with
// SALLYPORT_EXHAUSTIVE=1 the full number, which takes a quarter of an hour.
func trials() (trials, records int) {
	if os.Getenv("SALLYPORT_EXHAUSTIVE") == "1" {
		return 1000, 100_000
	}
	return 63, 1200
}

func TestOneFaultAmongManyIsFoundAndNamedOnEverySide(t *testing.T) {
	t.Parallel()
	count, n := trials()
	all := bucket(n)
	for trial := range count {
		f, side := faults[trial%len(faults)], reconcile.Side(trial/len(faults)%int(reconcile.Sides))
		seed := rand.Uint64()
		t.Run(fmt.Sprintf("%s/%s/%x", f.name, side, seed), func(t *testing.T) {
			t.Parallel()
			victims := f.victims(rand.New(rand.NewPCG(seed, 0)), n)
			rs, instead := []dataset.Record{}, map[int][]dataset.Record{}
			for _, i := range victims {
				rs = append(rs, all[i])
			}
			for i, done := range f.do(rs) {
				instead[victims[i]] = done
			}
			var sides [reconcile.Sides]iter.Seq2[dataset.Record, error]
			for i := range sides {
				sides[i] = sequence(all, nil)
			}
			sides[side] = sequence(all, instead)
			var want []string
			for _, r := range rs {
				for column, status := range f.seen[side] {
					want = append(want, fmt.Sprintf("%s/%d %s: %s", r.Key, r.Ordinal, column, status))
				}
			}
			slices.Sort(want)
			if got := named(compare(t, sides).Differences); !slices.Equal(got, want) {
				t.Errorf("named %q; want %q", got, want)
			}
		})
	}
}

func TestCleanSidesGiveNoAlarm(t *testing.T) {
	t.Parallel()
	count, n := trials()
	all := bucket(n / 4)
	for range count {
		shuffled := slices.Clone(all)
		rand.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		c := compare(t, [reconcile.Sides]iter.Seq2[dataset.Record, error]{sequence(all, nil), sequence(shuffled, nil), sequence(all, nil)})
		if len(c.Differences) != 0 || c.Restored[reconcile.OK] != int64(len(all)) || c.Source[reconcile.OK] != int64(len(all)) {
			t.Fatalf("differences %v, %v, %v", named(c.Differences), c.Restored, c.Source)
		}
	}
}

func TestSourceThatKeepsChangingHasTheRightStatuses(t *testing.T) {
	t.Parallel()
	count, n := trials()
	all := bucket(n / 4)
	for range count {
		instead := map[int][]dataset.Record{}
		want := map[reconcile.Status]int64{reconcile.OK: int64(len(all))}
		for i := range all {
			r := all[i]
			touch := strings.NewReplacer("2026-02-01T00:00:00Z", "2026-03-01T02:00:01Z")
			switch rand.IntN(20) {
			case 0: // changed, and says when
				r.Data = []byte(touch.Replace(string(r.Data)))
				instead[i] = []dataset.Record{r}
				want[reconcile.ChangedSince]++
			case 1: // changed in silence
				r.Data = []byte(strings.Replace(string(r.Data), `"etag":"`, `"etag":"x`, 1))
				instead[i] = []dataset.Record{r}
				want[reconcile.Undecided]++
			case 2:
				instead[i] = nil
				want[reconcile.Vanished]++
			case 3: // another came, and says when
				other := r
				other.Key, other.Data = r.Key+".new", []byte(touch.Replace(string(r.Data)))
				instead[i] = []dataset.Record{r, other}
				want[reconcile.Added]++
				want[reconcile.OK]++
			case 4: // only its version id is another
				r.Data = []byte(strings.Replace(string(r.Data), `"version_id":"`, `"version_id":"x`, 1))
				instead[i] = []dataset.Record{r}
				want[reconcile.OK]++
			default:
				want[reconcile.OK]++
			}
		}
		want[reconcile.OK] -= int64(len(all))
		c := compare(t, [reconcile.Sides]iter.Seq2[dataset.Record, error]{sequence(all, nil), sequence(all, nil), sequence(all, instead)})
		for _, s := range []reconcile.Status{reconcile.OK, reconcile.Added, reconcile.Vanished, reconcile.ChangedSince, reconcile.Undecided} {
			if c.Source[s] != want[s] {
				t.Errorf("%d %s; want %d", c.Source[s], s, want[s])
			}
		}
		if len(c.Restored) != 1 {
			t.Errorf("the restored copy has differences: %v", c.Restored)
		}
	}
}

func TestManyChangesDoNotCrowdOutTheOneRecordThatIsMissing(t *testing.T) {
	t.Parallel()
	all := bucket(2400)
	instead := map[int][]dataset.Record{}
	for i := range all {
		r := all[i]
		r.Data = []byte(strings.Replace(string(r.Data), "2026-02", "2026-04", 1))
		instead[i] = []dataset.Record{r}
	}
	r, err := reconcile.New(stream, t.TempDir(), exported)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	r.MaxDifferences = 10
	for side, recs := range map[reconcile.Side]iter.Seq2[dataset.Record, error]{reconcile.Archived: sequence(all, nil),
		reconcile.Restored: sequence(all, map[int][]dataset.Record{1000: nil}), reconcile.SourceNow: sequence(all, instead)} {
		if err := r.Add(t.Context(), side, recs); err != nil {
			t.Fatal(err)
		}
	}
	c, err := r.Compare(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	missing := slices.IndexFunc(c.Differences, func(d reconcile.Difference) bool { return d.Status == reconcile.Missing && d.Key == all[1000].Key })
	if missing < 0 || c.Source[reconcile.ChangedSince] != 2400 || len(c.Differences) != 11 {
		t.Errorf("%d differences, %v", len(c.Differences), c.Source)
	}
}

func TestGapOfTheArchiveExplainsWhatTheSourceHasMore(t *testing.T) {
	t.Parallel()
	all := bucket(20)
	gap := dataset.Record{Stream: stream.Name, Key: all[3].Key, Ordinal: all[3].Ordinal, Gap: &dataset.Gap{Code: dataset.Denied}}
	archived := map[int][]dataset.Record{3: {gap}}
	c := compare(t, [reconcile.Sides]iter.Seq2[dataset.Record, error]{sequence(all, archived), sequence(all, map[int][]dataset.Record{3: nil}), sequence(all, nil)})
	if c.Counts[reconcile.Archived] != 19 || c.Source[reconcile.Unchecked] != 1 || c.Source[reconcile.Undecided] != 0 || len(c.Restored) != 1 {
		t.Errorf("counts %v, restored %v, source %v", c.Counts, c.Restored, c.Source)
	}
}

func TestRestoredRecordThatIsNoObjectIsNamed(t *testing.T) {
	t.Parallel()
	all := bucket(20)
	bad := all[5]
	bad.Data = []byte(`{"cut`)
	c := compare(t, [reconcile.Sides]iter.Seq2[dataset.Record, error]{sequence(all, nil), sequence(all, map[int][]dataset.Record{5: {bad}}), nil})
	if got := named(c.Differences); len(got) != 1 || !strings.HasPrefix(got[0], bad.Key) || !strings.HasSuffix(got[0], "mismatch") {
		t.Errorf("named %q", got)
	}
}

// millions yields n records that are made as they are read.
func millions(n int) iter.Seq2[dataset.Record, error] {
	return func(yield func(dataset.Record, error) bool) {
		for i := range n {
			if !yield(record(i), nil) {
				return
			}
		}
	}
}

// BenchmarkReconcileMillion compares a million records of three sides, and says what
// memory it took. It fails above 256 MiB.
func BenchmarkReconcileMillion(b *testing.B) {
	const n = 1_000_000
	for b.Loop() {
		runtime.GC()
		stop, peak := make(chan struct{}), make(chan uint64)
		go func() {
			sample := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
			var most uint64
			for tick := time.NewTicker(20 * time.Millisecond); ; {
				select {
				case <-stop:
					tick.Stop()
					peak <- most
					return
				case <-tick.C:
					metrics.Read(sample)
					most = max(most, sample[0].Value.Uint64()-sample[1].Value.Uint64())
				}
			}
		}()
		c := compare(b, [reconcile.Sides]iter.Seq2[dataset.Record, error]{millions(n), millions(n), millions(n)})
		close(stop)
		most := <-peak
		if c.Restored[reconcile.OK] != n || c.Source[reconcile.OK] != n {
			b.Fatalf("%v, %v", c.Restored, c.Source)
		}
		if b.ReportMetric(float64(most)/(1<<20), "peak-MiB"); most > 256<<20 {
			b.Fatalf("%d bytes of memory", most)
		}
	}
}
