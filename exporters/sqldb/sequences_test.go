package sqldb

import (
	"strings"
	"testing"

	"github.com/dwp/sallyport/dataset"
)

func TestASequenceThatMayNotBeReadIsAGap(t *testing.T) {
	t.Parallel()
	url, admin := pgDatabase(t, "CREATE SEQUENCE mine; SELECT nextval('mine')")
	pgRun(t, admin, "CREATE SEQUENCE public.theirs")
	found := 0
	for _, r := range records(t, open(t, Postgres, url), definitionsStream, 1) {
		if !strings.HasPrefix(r.Key, `["sequence value"`) {
			continue
		}
		found++
		denied := strings.Contains(r.Key, "theirs")
		if denied != (r.Gap != nil) || denied && r.Gap.Code != dataset.Denied {
			t.Errorf("%s: gap %v, data %s", r.Key, r.Gap, r.Data)
		}
		if !denied && !strings.Contains(string(r.Data), `{\"last_value\":\"1\",\"is_called\":true}`) {
			t.Errorf("%s: %s", r.Key, r.Data)
		}
	}
	if found != 2 {
		t.Errorf("%d values; want 2", found)
	}
}

func TestAnotherEngineIsADeclaredLoss(t *testing.T) {
	t.Parallel()
	url, _ := mysqlDatabase(t, "CREATE TABLE t (id int PRIMARY KEY) ENGINE=MyISAM")
	to, _ := mysqlDatabase(t, "")
	s := stream(t, open(t, MySQL, url), "t")
	for native, want := range map[bool]bool{false: true, true: false} {
		dst := openTarget(t, MySQL, to)
		if native {
			dst = openNative(t, MySQL, to, false)
		}
		lost := false
		for _, l := range dst.Fidelity(s) {
			lost = lost || strings.Contains(l.Reason, "MyISAM")
		}
		if lost != want {
			t.Errorf("native %t: the engine is a loss: %t; want %t", native, lost, want)
		}
	}
}
