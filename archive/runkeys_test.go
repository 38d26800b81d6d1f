package archive_test

import (
	"slices"
	"testing"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/archive/archivetest"
	"github.com/dwp/sallyport/dataset"
)

// A month is a host whose runs share keys, and every snapshot that it made.
type month struct {
	*host
	made map[*archive.Decision]archivetest.Content
}

func newMonth(t *testing.T) *month {
	t.Helper()
	h := newHost(t)
	h.MonthKeys = true
	return &month{h, map[*archive.Decision]archivetest.Content{}}
}

// at exports content at a time.
func (m *month) at(day string, state string, c archivetest.Content) *archive.Decision {
	m.t.Helper()
	m.clock(day)
	d := m.export(state, c)
	m.made[d] = c
	return d
}

// commit ends a run that was filled with content.
func (m *month) commit(run *archive.Writer, c archivetest.Content) *archive.Decision {
	m.t.Helper()
	d, err := run.Commit(m.t.Context(), archive.Summary{})
	if err != nil {
		m.t.Fatal(err)
	}
	m.made[d] = c
	return d
}

func (m *month) clock(day string) {
	m.t.Helper()
	var err error
	if m.now, err = time.Parse(time.DateTime, day); err != nil {
		m.t.Fatal(err)
	}
}

// keysOf returns the ids of the keys that a manifest names, by the run that made them.
func keysOf(d *archive.Decision) map[archive.RunID][]dataset.Hash {
	keys := map[archive.RunID][]dataset.Hash{}
	for _, k := range d.Manifest.Keys {
		keys[k.Run] = append(keys[k.Run], k.ID)
	}
	return keys
}

// sealedKeys counts the sealed run keys in the store.
func (m *month) sealedKeys() (n int) {
	for _, name := range m.store.Names() {
		if archive.ParseName(name).Class == archive.KeyObject {
			n++
		}
	}
	return n
}

func TestRunsOfAMonthShareKeysAndTheNextMonthHasItsOwn(t *testing.T) {
	t.Parallel()
	m := newMonth(t)
	state, c := t.TempDir(), archivetest.NewContent(1, 20)
	first := m.at("2026-03-01 00:00:00", state, c)
	second := m.at("2026-03-17 02:00:00", state, c.Changed(1))
	last := m.at("2026-03-31 23:59:59", state, c.Changed(2))
	for _, d := range []*archive.Decision{second, last} {
		if got := keysOf(d); len(got) != 1 || !slices.Equal(got[first.Run], keysOf(first)[first.Run]) {
			t.Errorf("a later run of the month uses the keys %v; the first made %v", got, keysOf(first))
		}
	}
	if n := m.sealedKeys(); n != 2 {
		t.Errorf("March has %d sealed keys; want 2", n)
	}
	april := m.at("2026-04-01 00:00:00", state, c.Changed(3))
	if own := keysOf(april)[april.Run]; len(own) != 2 {
		t.Errorf("the first run of April made %d keys; want 2", len(own))
	}
	m.clean(m.made)
	// Its sealed keys stay for as long as any snapshot of the month does.
	m.expire(first)
	m.expire(second)
	m.collect(m.Collector())
	m.clean(map[*archive.Decision]archivetest.Content{last: m.made[last], april: m.made[april]})
}

func TestRunGoesOnUnderTheKeysOfTheMonthInWhichItBegan(t *testing.T) {
	t.Parallel()
	m := newMonth(t)
	state, c := t.TempDir(), archivetest.NewContent(1, 20)
	first := m.at("2026-03-30 02:00:00", state, c)
	m.clock("2026-03-31 23:59:59")
	run := m.begin(state, c.Changed(1))
	m.clock("2026-04-01 00:10:00")
	run.Abandon()
	resumed := m.at("2026-04-01 02:00:00", state, c.Changed(1))
	if resumed.Run != run.Run() || len(keysOf(resumed)[first.Run]) != 2 || len(keysOf(resumed)) != 1 {
		t.Errorf("run %s, resumed as %s, uses the keys %v; want those of %s", run.Run(), resumed.Run, keysOf(resumed), first.Run)
	}
	april := m.at("2026-04-02 02:00:00", state, c.Changed(2))
	if len(keysOf(april)[april.Run]) != 2 {
		t.Errorf("a run that began in April uses the keys %v", keysOf(april))
	}
	m.clean(m.made)
}

func TestKeysOfAMonthAreNotSharedWithoutReason(t *testing.T) {
	t.Parallel()
	_, other := identity(t)
	for why, change := range map[string]func(m *month, first *archive.Decision, state *string){
		"the configuration asks for a key a run": func(m *month, _ *archive.Decision, _ *string) { m.MonthKeys = false },
		"the state directory is lost":            func(m *month, _ *archive.Decision, state *string) { *state = t.TempDir() },
		"the recipients are others":              func(m *month, _ *archive.Decision, _ *string) { m.Public = m.Public.Join(sealer(t, other)) },
		"the snapshot that needs them expired":   func(m *month, first *archive.Decision, _ *string) { m.expire(first) },
		"the same month of another year":         func(m *month, _ *archive.Decision, _ *string) { m.now = m.now.AddDate(1, 0, 0) },
		"the clock went back by a month":         func(m *month, _ *archive.Decision, _ *string) { m.now = m.now.AddDate(0, -1, 0) },
	} {
		m := newMonth(t)
		state, c := t.TempDir(), archivetest.NewContent(1, 20)
		first := m.at("2026-03-01 02:00:00", state, c)
		m.clock("2026-03-02 02:00:00")
		change(m, first, &state)
		second := m.export(state, c.Changed(1))
		if len(keysOf(second)[second.Run]) != 2 {
			t.Errorf("%s, and the second run uses the keys %v", why, keysOf(second))
		}
		m.clean(map[*archive.Decision]archivetest.Content{first: c, second: c.Changed(1)})
	}
}

// A resumed run is sealed to the recipients of the day on which it ends.
func TestRunThatWasSealedToOtherRecipientsIsBegunAnew(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	state, c := t.TempDir(), archivetest.NewContent(1, 20)
	run := h.begin(state, c)
	run.Abandon()
	next, to := identity(t)
	h.Public = sealer(t, to)
	d := h.export(state, c)
	if d.Run == run.Run() {
		t.Error("a run went on under keys that are sealed to the recipients of yesterday")
	}
	h.Identity = next
	h.clean(map[*archive.Decision]archivetest.Content{d: c})
}

func TestExportsAtOnceInOneMonthDoNotDisturbEachOther(t *testing.T) {
	t.Parallel()
	m := newMonth(t)
	m.clock("2026-03-05 02:00:00")
	mine, theirs := archivetest.NewContent(1, 20), archivetest.NewContent(2, 20)
	s1, s2 := t.TempDir(), t.TempDir()
	a, b := m.begin(s1, mine), m.begin(s2, theirs)
	m.commit(a, mine)
	m.commit(b, theirs)
	// Each host goes on under its own keys, though both runs join the same heads.
	next, other := m.begin(s1, mine.Changed(1)), m.begin(s2, theirs.Changed(1))
	if d := m.commit(next, mine.Changed(1)); len(keysOf(d)[a.Run()]) != 2 || len(keysOf(d)) != 1 {
		t.Errorf("one host uses the keys %v; want those of %s", keysOf(d), a.Run())
	}
	if d := m.commit(other, theirs.Changed(1)); len(keysOf(d)[b.Run()]) != 2 || len(keysOf(d)) != 1 {
		t.Errorf("the other host uses the keys %v; want those of %s", keysOf(d), b.Run())
	}
	m.clean(m.made)
}

// The snapshot that a run took its keys from expires while the run goes on: a collector
// waits for it, as it does for packs.
func TestCollectorKeepsTheKeysOfARunThatGoesOn(t *testing.T) {
	t.Parallel()
	m := newMonth(t)
	state, c := t.TempDir(), archivetest.NewContent(1, 20)
	first := m.at("2026-03-05 02:00:00", state, c)
	run := m.begin(state, c.Changed(1))
	m.expire(first)
	if out := m.collect(m.Collector()); len(out.Waiting) != 1 {
		t.Errorf("the collector waits for %v", out.Waiting)
	}
	d := m.commit(run, c.Changed(1))
	m.collect(m.Collector())
	m.clean(map[*archive.Decision]archivetest.Content{d: c.Changed(1)})
}
