package rest

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dwp/sallyport/exporters"
	fixtures "github.com/dwp/sallyport/fixtures/rest"
)

// A meter counts the requests of tokens: so many until a time, then as many again.
type meter struct {
	mu      sync.Mutex
	clock   *clock
	each    int           // requests of a token
	every   time.Duration // in which they may be made
	silent  bool          // answers say nothing of what is left
	hidden  int           // requests of each token that another client makes after it was asked for its quota
	off     bool          // there are no quotas
	window  map[string]time.Time
	used    map[string]int
	asked   []string // tokens of requests for records, in order
	refused int
	quotas  int // requests for quotas
}

func (m *meter) serve(d *fixtures.Desk, n int, w http.ResponseWriter, r *http.Request) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Token ")
	if !ok || !strings.HasPrefix(token, "token-") {
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
	if now := m.clock.now(); !now.Before(m.window[token]) {
		m.window[token], m.used[token] = now.Add(m.every), 0
	}
	left, reset := max(0, m.each-m.used[token]), m.window[token].Unix()
	if r.URL.Path == "/quota" {
		if m.quotas++; m.off || r.Header.Get("X-Version") != "3" {
			w.WriteHeader(http.StatusNotFound)
			return true
		}
		fmt.Fprintf(w, `{"core":{"left":%d,"reset":%d,"limit":%d}}`, left, reset, m.each)
		m.used[token] += m.hidden
		return true
	}
	if !m.silent && !m.off {
		w.Header().Set("X-Left", fmt.Sprint(max(0, left-1)))
		w.Header().Set("X-Reset", fmt.Sprint(reset))
	}
	if left == 0 && !m.off {
		m.refused++
		w.WriteHeader(http.StatusForbidden)
		return true
	}
	m.used[token]++
	m.asked = append(m.asked, token)
	return false
}

func metered(t *testing.T, tickets int, m *meter, tokens, wait string) (*trial, result) {
	t.Helper()
	desk := fixtures.NewDesk(tickets)
	tr := start(t, "rare.yaml", desk, map[string]any{"drift_check": false}, map[string]any{"tokens": tokens, "wait": wait})
	m.clock, m.window, m.used = tr.clock, map[string]time.Time{}, map[string]int{}
	desk.Before = m.serve
	return tr, tr.read(t, "metered")
}

func TestTokensAreUsedUntilTheyAreSpentAndThenWaitedFor(t *testing.T) {
	t.Parallel()
	m := &meter{each: 3, every: 10 * time.Minute}
	tr, r := metered(t, 95, m, "token-a; token-b", "PT1H") // eleven requests
	if r.err != nil || len(r.gaps) > 0 || len(r.data) != 95 {
		t.Fatalf("%v %v, %d records", r.err, r.gaps, len(r.data))
	}
	a, b := "token-a", "token-b"
	if len(m.asked) != 11 || !slices.Equal(m.asked[:6], []string{a, a, a, b, b, b}) || m.refused > 0 || m.quotas != 4 {
		t.Errorf("%q asked, %d refused, quotas asked for %d times", m.asked, m.refused, m.quotas)
	}
	if want := []time.Duration{10 * time.Minute}; !slices.Equal(tr.clock.waited, want) {
		t.Errorf("waited %v; want %v", tr.clock.waited, want)
	}
}

// TestATokenThatAnotherClientSpentGivesWay: what the service says in its answers counts
// more than what was counted here.
func TestATokenThatAnotherClientSpentGivesWay(t *testing.T) {
	t.Parallel()
	for _, silent := range []bool{false, true} {
		m := &meter{each: 9, hidden: 5, every: time.Hour, silent: silent}
		tr, r := metered(t, 65, m, "token-a;token-b", "PT2H") // eight requests
		if r.err != nil || len(r.data) != 65 {
			t.Fatalf("%v %v, %d records", r.err, r.gaps, len(r.data))
		}
		if n := len(m.asked); n != 8 || m.asked[3] != "token-a" || m.asked[4] != "token-b" {
			t.Errorf("silent %v: %q asked", silent, m.asked)
		}
		if wait := 2 * time.Second; slices.ContainsFunc(tr.clock.waited, func(d time.Duration) bool { return d > wait }) {
			t.Errorf("silent %v: waited %v while another token had requests left", silent, tr.clock.waited)
		}
	}
}

func TestTokensThatAreSpentForTooLongAreTemporary(t *testing.T) {
	t.Parallel()
	_, r := metered(t, 95, &meter{each: 2, every: 10 * time.Hour}, "token-a", "PT1H")
	if !errors.Is(r.err, exporters.ErrTemporary) {
		t.Errorf("%v after %d records", r.err, len(r.data))
	}
}

func TestTokensWithoutQuotasAreUsedAsTheyAre(t *testing.T) {
	t.Parallel()
	m := &meter{off: true}
	if _, r := metered(t, 35, m, "token-a;token-b", "PT1H"); r.err != nil || len(r.data) != 35 || m.quotas != 2 {
		t.Errorf("%v, %d records, quotas asked for %d times", r.err, len(r.data), m.quotas)
	}
	for _, none := range []string{"", " ; "} {
		if _, r := metered(t, 5, &meter{off: true}, none, "PT1H"); !errors.Is(r.err, exporters.ErrCredentials) {
			t.Errorf("tokens %q: %v", none, r.err)
		}
	}
	if _, r := metered(t, 5, &meter{each: 9}, "stranger-1;stranger-2", "PT1H"); !errors.Is(r.err, exporters.ErrCredentials) || strings.Contains(r.err.Error(), "stranger") {
		t.Errorf("tokens that nobody knows: %v", r.err)
	}
}
