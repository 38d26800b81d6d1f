package sqldb

import (
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dwp/sallyport/crypto"
)

// benchTable is a table of mixed types, about 140 bytes a row; bench has the same.
const benchTable = `CREATE TABLE events (id bigint PRIMARY KEY, kind integer NOT NULL, at timestamptz NOT NULL, day date, amount numeric(12,2), ratio double precision, ok boolean, ref uuid,
		title text NOT NULL, note text, doc jsonb, raw bytea);
	INSERT INTO events SELECT g, g %% 17, '2026-01-01'::timestamptz + g * interval '1 second', '2020-01-01'::date + (g %% 2000)::int, (g::bigint * 7919 %% 1000000) / 100.0, sqrt(g), g %% 3 = 0,
		md5(g::text)::uuid, 'event number ' || g, CASE WHEN g %% 4 = 0 THEN repeat('some words ', (g %% 5)::int) END, jsonb_build_object('n', g, 'tags', ARRAY['a', 'b']), decode(md5(g::text), 'hex')
		FROM generate_series(1, %d) g;
	CREATE INDEX ON events (at); CREATE INDEX ON events (kind, day)`

// A usage is what a process took.
type usage struct {
	wall, cpu time.Duration
	rss       int64 // bytes, of the largest process
}

func measured(tb testing.TB, argv ...string) usage {
	tb.Helper()
	cmd := exec.CommandContext(tb.Context(), argv[0], argv[1:]...)
	start := time.Now()
	out, err := cmd.CombinedOutput()
	u := usage{wall: time.Since(start)}
	if err != nil {
		tb.Fatalf("%.200s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	u.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	if r, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		u.rss = r.Maxrss << 10 // Linux tells KiB
	}
	return u
}

// A station is the command with its keys, and a folder.
type station struct {
	dir, binary, recipient string
}

func newStation(tb testing.TB) station {
	tb.Helper()
	s := station{dir: tb.TempDir()}
	s.binary = filepath.Join(s.dir, "sallyport")
	if out, err := exec.CommandContext(tb.Context(), "go", "build", "-o", s.binary, "../../cmd/sallyport").CombinedOutput(); err != nil {
		tb.Fatalf("build: %v\n%s", err, out)
	}
	identity, recipient, err := crypto.GenerateIdentity(false)
	if err != nil {
		tb.Fatal(err)
	}
	private, public, err := crypto.GenerateSigningKey("bench")
	if err != nil {
		tb.Fatal(err)
	}
	s.recipient = recipient
	for name, text := range map[string]string{"identity": string(identity), "recipients": recipient + "\n", "signing": string(private),
		"allowed": `bench namespaces="sallyport-*" ` + string(public)} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	return s
}

func (s station) at(name string) string { return filepath.Join(s.dir, name) }

func (s station) export(tb testing.TB, from string) usage {
	tb.Helper()
	return measured(tb, s.binary, "export", "--quiet", "--store", s.at("store"), "--state", s.at("state"), "--allowed-signers", s.at("allowed"),
		"--recipients", s.at("recipients"), "--signing-key", s.at("signing"), "--service", "bench", from)
}

func (s station) restore(tb testing.TB, to string) usage {
	tb.Helper()
	return measured(tb, s.binary, "restore", "--quiet", "--store", s.at("store"), "--state", s.at("state"), "--allowed-signers", s.at("allowed"),
		"--identity", s.at("identity"), "--to", to, "bench@latest")
}

// TestTenMillionRowsNeedLittleMemory takes minutes and gigabytes, so it is asked for by
// name.
func TestTenMillionRowsNeedLittleMemory(t *testing.T) {
	if os.Getenv("SALLYPORT_EXHAUSTIVE") != "1" {
		t.Skip("SALLYPORT_EXHAUSTIVE is not 1")
	}
	from, _ := pgDatabase(t, fmt.Sprintf(benchTable, 10_000_000))
	to := (&url.URL{Scheme: "sqlite", Path: filepath.Join(t.TempDir(), "to.db")}).String()
	s := newStation(t)
	for what, u := range map[string]usage{"export": s.export(t, from), "restore": s.restore(t, to)} {
		if t.Logf("%s: %v, %d MiB", what, u.wall, u.rss>>20); u.rss > 256<<20 {
			t.Errorf("%s needed %d MiB; want at most 256", what, u.rss>>20)
		}
	}
}
