package audit

import (
	"bytes"
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/dwp/sallyport/archive/archivetest"
	"github.com/dwp/sallyport/dataset"
)

// grown returns a bench whose log has two full bundles, a partial one and three
// checkpoints.
func grown(t testing.TB) *bench {
	t.Helper()
	b := newBench(t)
	l := b.open(t)
	b.add(t, l, 0, 100)
	publish(t, l)
	b.add(t, l, 100, 400)
	publish(t, l)
	b.add(t, l, 500, 20)
	publish(t, l)
	closeLog(t, l)
	return b
}

// found reports whether verification of an altered store says that something is wrong.
func found(t testing.TB, b *bench, st *archivetest.Memory) bool {
	t.Helper()
	report, err := b.reader(t, st).Verify(t.Context())
	return err != nil || !report.Sound()
}

func TestEveryAlterationOfAnObjectIsFound(t *testing.T) {
	t.Parallel()
	b := grown(t)
	if found(t, b, b.st) {
		t.Fatal("the untouched log is not sound")
	}
	names := b.st.Names()
	if len(names) < 15 {
		t.Fatalf("only %d objects", len(names))
	}
	newest := store{b.st, storeID, logName}.checkpointName(520)
	for _, name := range names {
		whole := b.st.Bytes(name)
		step := len(whole)/12 + 1
		for at := 0; at < len(whole); at += step {
			st := b.st.Clone()
			altered := bytes.Clone(whole)
			altered[at] ^= 1
			st.Put(name, altered)
			if !found(t, b, st) {
				t.Errorf("%s: byte %d altered and not found", name, at)
			}
		}
		for what, altered := range map[string][]byte{"cut": whole[:len(whole)-1], "emptied": {}, "lengthened": append(bytes.Clone(whole), 0)} {
			st := b.st.Clone()
			st.Put(name, altered)
			if !found(t, b, st) {
				t.Errorf("%s: %s and not found", name, what)
			}
		}
	}
	// A crash can leave a signature and tiles without their checkpoint; deleting anything
	// else is found, partial tiles that a wider one replaced too.
	for _, name := range names {
		st := b.st.Clone()
		st.Put(name, nil)
		switch {
		case strings.Contains(name, "checkpoints/"):
			if report := verify(t, b.reader(t, st)); len(report.Findings) == 0 {
				t.Errorf("%s: deleted and not mentioned", name)
			}
		case !found(t, b, st):
			t.Errorf("%s: deleted and not found", name)
		}
	}
	pin, err := b.reader(t, b.st).Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	st := b.st.Clone()
	st.Put(newest, nil)
	if verify(t, b.reader(t, st), pin).Sound() {
		t.Error("the newest checkpoint was deleted and not found")
	}
}

func TestEveryAlterationOfTheEntriesIsFound(t *testing.T) {
	t.Parallel()
	b := grown(t)
	name := "audit/" + logName + "/tile/entries/001"
	entries, err := splitBundle(b.st.Bytes(name))
	if err != nil {
		t.Fatal(err)
	}
	forged := bytes.Replace(entries[7], []byte(`"gaps":0`), []byte(`"gaps":1`), 1)
	forged = bytes.Replace(forged, []byte("case-files"), []byte("case-filed"), 1)
	for what, changed := range map[string][][]byte{
		"reordered": slices.Concat(entries[:3], [][]byte{entries[4], entries[3]}, entries[5:]),
		"removed":   slices.Concat(entries[:9], entries[10:]),
		"inserted":  slices.Concat(entries[:9], [][]byte{entries[8]}, entries[9:]),
		"replaced":  slices.Concat(entries[:7], [][]byte{forged}, entries[8:]),
		"cut":       entries[:200],
		"repeated":  slices.Concat(entries[:9], [][]byte{entries[8]}, entries[10:]),
	} {
		var bundle []byte
		for _, e := range changed {
			bundle = appendEntry(bundle, e)
		}
		st := b.st.Clone()
		st.Put(name, bundle)
		if !found(t, b, st) {
			t.Errorf("%s: not found", what)
		}
		head, err := b.reader(t, st).Head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var last error
		for e, err := range b.reader(t, st).Entries(t.Context(), head, 0) {
			if last = err; err == nil && e.Index >= 256 {
				t.Fatalf("%s: entry %d of the altered bundle was shown", what, e.Index)
			}
		}
		if last == nil {
			t.Errorf("%s: the log was read to a clean end", what)
		}
	}
}

// Each entry of a log is altered in each way, alone. A sample of them by default, all of
// them in make crash.
func TestEveryAlteredEntryIsFound(t *testing.T) {
	t.Parallel()
	b := grown(t)
	numbers := rand.Perm(520)
	if os.Getenv("SALLYPORT_EXHAUSTIVE") == "" {
		numbers = numbers[:12]
	}
	for _, n := range numbers {
		name, at := store{b.st, storeID, logName}.tileName(tlog.Tile{H: tileHeight, L: entryLevel, N: int64(n / tileWidth), W: min(tileWidth, 520-n/tileWidth*tileWidth)}), n%tileWidth
		entries, err := splitBundle(b.st.Bytes(name))
		if err != nil {
			t.Fatal(err)
		}
		other := (at + 1) % len(entries)
		swapped, flipped := slices.Clone(entries), slices.Clone(entries)
		swapped[at], swapped[other] = entries[other], entries[at]
		flipped[at] = bytes.Clone(entries[at])
		flipped[at][rand.IntN(len(entries[at]))] ^= 1 << rand.IntN(8)
		for what, changed := range map[string][][]byte{
			"flipped":   flipped,
			"removed":   slices.Concat(entries[:at], entries[at+1:]),
			"inserted":  slices.Concat(entries[:at], entries[other:other+1], entries[at:]),
			"reordered": swapped,
			"truncated": entries[:at],
		} {
			var bundle []byte
			for _, e := range changed {
				bundle = appendEntry(bundle, e)
			}
			st := b.st.Clone()
			st.Put(name, append([]byte{}, bundle...))
			report := verify(t, b.reader(t, st))
			if !slices.ContainsFunc(report.Findings, func(f Finding) bool { return f.Name == name && !f.Stray }) {
				t.Errorf("entry %d %s: %s is not among the findings %+v", n, what, name, report.Findings)
			}
		}
	}
}

// Whatever is damaged at once, each object is named.
func TestEveryDamagedObjectIsNamed(t *testing.T) {
	t.Parallel()
	b := grown(t)
	for range 20 {
		at := rand.IntN(120) // within the shortest objects, now and then
		st := b.st.Clone()
		var names []string
		for _, name := range b.st.Names() {
			if data := bytes.Clone(b.st.Bytes(name)); at < len(data) {
				data[at] ^= 1 << rand.IntN(8)
				st.Put(name, data)
				names = append(names, name)
			}
		}
		report := verify(t, b.reader(t, st))
		for _, name := range names {
			if !slices.ContainsFunc(report.Findings, func(f Finding) bool { return f.Name == name && !f.Stray }) {
				t.Errorf("byte %d of every object flipped: %s is not among the findings %+v", at, name, report.Findings)
			}
		}
	}
}

func TestDamageToOneBundleDoesNotHideDamageToAnother(t *testing.T) {
	t.Parallel()
	b := grown(t)
	st := b.st.Clone()
	one, two := "audit/"+logName+"/tile/entries/000", "audit/"+logName+"/tile/entries/002.p/8"
	st.Put(one, nil)
	altered := bytes.Clone(st.Bytes(two))
	altered[len(altered)-3] ^= 1
	st.Put(two, altered)
	report := verify(t, b.reader(t, st))
	for _, name := range []string{one, two} {
		if !slices.ContainsFunc(report.Findings, func(f Finding) bool { return f.Name == name && !f.Stray }) {
			t.Errorf("%s is not among the findings %+v", name, report.Findings)
		}
	}
}

func TestIntentWithoutResultIsShown(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	l := b.open(t)
	done, died := NewEvent(Purge, Intent, b.now()), NewEvent(Expiry, Intent, b.now())
	died.Service = "case-files"
	for _, e := range []Event{done, died, ResultOf(done, Failure, b.now()), NewEvent(Refusal, Fact, b.now())} {
		if err := l.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	head := publish(t, l)
	closeLog(t, l)
	r := b.reader(t, b.st)
	report := verify(t, r)
	if len(report.Intents) != 1 || report.Intents[0].Event.ID != died.ID || report.Intents[0].Index != 1 {
		t.Errorf("Intents = %+v; want the expiry alone", report.Intents)
	}
	if open, newest, err := r.Unmatched(t.Context(), head); err != nil || len(open) != 1 || open[0].Event.ID != died.ID || !newest.Equal(report.Last) || newest.IsZero() {
		t.Errorf("Unmatched = %+v, %s, %v; want the expiry alone, and the time of the newest entry", open, newest, err)
	}
	for want, f := range map[int]Filter{
		4: {},
		2: {Failures: true},
		1: {Service: "case-files"},
		3: {Since: died.Time},
		0: {Activities: []Activity{Hold, Release}},
	} {
		n := 0
		for e, err := range r.Entries(t.Context(), head, 0) {
			if err != nil {
				t.Fatal(err)
			}
			if f.Match(e.Event) {
				n++
			}
		}
		if n != want {
			t.Errorf("%+v chose %d entries; want %d", f, n, want)
		}
	}
}

func TestEventHoldsNothingFreelyWritten(t *testing.T) {
	t.Parallel()
	const hostile = "x\",\"a\":1}\n<110>1 - \x1b[31m"
	for name, change := range map[string]func(*Event){
		"id":       func(e *Event) { e.ID = hostile },
		"of":       func(e *Event) { e.Phase, e.Of = Result, hostile },
		"activity": func(e *Event) { e.Activity = hostile },
		"phase":    func(e *Event) { e.Phase = hostile },
		"status":   func(e *Event) { e.Status = hostile },
		"service":  func(e *Event) { e.Service = hostile },
		"run":      func(e *Event) { e.Run = hostile },
		"code":     func(e *Event) { e.Code = "someone@example.com" },
		"count":    func(e *Event) { e.Counts = map[string]int64{hostile: 1} },
		"time":     func(e *Event) { e.Time = time.Now().Add(time.Microsecond) },
		"far time": func(e *Event) { e.Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"open":     func(e *Event) { e.Phase = Intent },
		"result":   func(e *Event) { e.Phase = Result },
		"nothing":  func(e *Event) { *e = Event{} },
	} {
		e := NewEvent(Export, Fact, start)
		change(&e)
		if entry, err := e.encode(logName); err == nil {
			t.Errorf("%s: written as %s", name, entry)
		}
	}
}

func TestEventComesBackAsItWentIn(t *testing.T) {
	t.Parallel()
	for activity := range ocsfActivity {
		intent := NewEvent(activity, Intent, time.Now())
		intent.Service, intent.Run = "case-files", "20260301T020000Z-abcdefghijklmnopqrstuvwxyz"
		intent.Document, intent.Key = dataset.Sum([]byte("plan")), dataset.Sum([]byte("key"))
		result := ResultOf(intent, Failure, time.Now())
		result.Code, result.Counts = "denied", map[string]int64{"deleted": math.MaxInt64, "failed": -1}
		for _, e := range []Event{intent, result, NewEvent(activity, Fact, time.Now())} {
			entry, err := e.encode(logName)
			if err != nil {
				t.Fatal(err)
			}
			got, err := decodeEvent(logName, entry)
			if err != nil {
				t.Fatalf("%s: %v", entry, err)
			}
			if a, b := string(mustJSON(t, got)), string(mustJSON(t, e)); a != b {
				t.Errorf("came back as %s; want %s", a, b)
			}
			if _, err := decodeEvent("another-log", entry); err == nil {
				t.Error("an event of another log was accepted")
			}
			line := Entry{0, e, entry}.Syslog("host1")
			if strings.ContainsAny(line, "\n\r\x1b") || !strings.HasPrefix(line, "<1") || !strings.Contains(line, " host1 sallyport - "+string(activity)+" - {") {
				t.Errorf("Syslog = %q", line)
			}
		}
	}
}

func mustJSON(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTileNamesAreThoseOfTheSpecification(t *testing.T) {
	t.Parallel()
	s := store{log: "l"}
	for name, ok := range map[string]bool{
		"audit/l/tile/0/000":                     true,
		"audit/l/tile/63/x001/x234/067":          true,
		"audit/l/tile/entries/x001/x234/067.p/1": true,
		"audit/l/tile/0/000.p/255":               true,
		"audit/l/tile/0/000.p/256":               false,
		"audit/l/tile/0/000.p/0":                 false,
		"audit/l/tile/0/000.p/01":                false,
		"audit/l/tile/64/000":                    false,
		"audit/l/tile/00/000":                    false,
		"audit/l/tile/0/x000/001":                false,
		"audit/l/tile/0/1":                       false,
		"audit/l/tile/0/000.p/":                  false,
		"audit/m/tile/0/000":                     false,
		"tile/0/000":                             false,
	} {
		tile, got := s.parseTile(name)
		if got != ok || ok && s.tileName(tile) != name {
			t.Errorf("parseTile(%q) = %+v, %t; want %t", name, tile, got, ok)
		}
	}
}

func FuzzEvent(f *testing.F) {
	intent := NewEvent(Purge, Intent, start)
	for _, e := range []Event{intent, ResultOf(intent, Success, start), NewEvent(Refusal, Fact, start)} {
		entry, err := e.encode(logName)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(entry)
	}
	f.Fuzz(func(t *testing.T, entry []byte) {
		e, err := decodeEvent(logName, entry)
		if err != nil {
			return
		}
		if again, err := e.encode(logName); err != nil || !bytes.Equal(again, entry) {
			t.Errorf("read and written: %s, %v; want %s", again, err, entry)
		}
	})
}

func FuzzCheckpoint(f *testing.F) {
	s := store{id: storeID, log: logName}
	f.Add(s.formatCheckpoint((&frontier{n: 0}).tree()))
	f.Add([]byte(s.origin() + "\n12\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		tree, err := s.parseCheckpoint(text)
		if err == nil && !bytes.Equal(s.formatCheckpoint(tree), text) {
			t.Errorf("read %q and wrote %q", text, s.formatCheckpoint(tree))
		}
	})
}
