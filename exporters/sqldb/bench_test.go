package sqldb

import (
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dwp/sallyport/crypto"
)

// benchRows is how many rows the benchmark has: SALLYPORT_BENCH_ROWS, or half a million.
func benchRows(tb testing.TB) int {
	tb.Helper()
	text := os.Getenv("SALLYPORT_BENCH_ROWS")
	if text == "" {
		return 500_000
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

// benchTable is a table of mixed types, about 140 bytes a row.
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

// BenchmarkBesidePostgresTools measures an export and a restore, encryption, hashing and
// signed manifest included, beside what PostgreSQL's own tools take on the same server and
// data. A ratio below 1 is faster than they are.
func BenchmarkBesidePostgresTools(b *testing.B) {
	for _, tool := range []string{"psql", "pg_dump", "pg_restore", "zstd", "age"} {
		if _, err := exec.LookPath(tool); err != nil {
			b.Skip(err)
		}
	}
	from, _ := pgDatabase(b, fmt.Sprintf(benchTable, benchRows(b)))
	s := newStation(b)
	nothing, _ := pgDatabase(b, "")
	b.Logf("export of an empty database, part of every export: %.2f s", s.export(b, nothing).wall.Seconds())
	shell := func(line string, args ...string) usage {
		return measured(b, append([]string{"/bin/bash", "-o", "pipefail", "-c", line, "sh"}, args...)...)
	}
	for b.Loop() {
		if err := os.RemoveAll(s.at("store")); err != nil {
			b.Fatal(err)
		}
		ours := s.export(b, from)
		copied := shell(`psql -qX "$1" -c '\copy events to stdout csv' | zstd -q | age -r "$2" -o "$3"`, from, s.recipient, s.at("csv.age"))
		dumped := shell(`pg_dump -Fc -Z0 "$1" | zstd -q | age -r "$2" -o "$3"`, from, s.recipient, s.at("dump.age"))
		shell(`pg_dump -Fc -Z0 "$1" > "$2"`, from, s.at("dump"))
		report(b, "export", ours, map[string]usage{"copy": copied, "pg_dump": dumped})

		to, _ := pgDatabase(b, "")
		ours = s.restore(b, to)
		to, _ = pgDatabase(b, "")
		loaded := shell(`pg_dump --schema-only --section=pre-data "$1" | psql -qX "$2" >/dev/null && psql -qX "$1" -c '\copy events to stdout csv' > "$3"
			time psql -qX "$2" -c '\copy events from '"'$3'"' csv' && pg_dump --schema-only --section=post-data "$1" | psql -qX "$2" >/dev/null`, from, to, s.at("csv"))
		to, _ = pgDatabase(b, "")
		restored := shell(`pg_restore -j2 --no-owner --no-privileges --no-comments -d "$1" "$2"`, to, s.at("dump"))
		report(b, "restore", ours, map[string]usage{"copy": loaded, "pg_restore": restored})
	}
}

// report prints how much longer than others we took.
func report(b *testing.B, what string, ours usage, others map[string]usage) {
	b.Helper()
	b.Logf("%s: %.2f s, %.2f s of CPU, %d MiB", what, ours.wall.Seconds(), ours.cpu.Seconds(), ours.rss>>20)
	for name, u := range others {
		ratio := ours.wall.Seconds() / u.wall.Seconds()
		b.Logf("%s / %s: %.2f (%.2f s, %.2f s of CPU)", what, name, ratio, u.wall.Seconds(), u.cpu.Seconds())
		b.ReportMetric(ratio, what+"/"+name)
	}
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
