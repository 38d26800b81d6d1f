package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/dwp/sallyport/fixtures/sqlservers"
)

// tableOfEvents makes the table of data set D: rows of mixed types, some 140 bytes each,
// a key and two indexes, the same on every machine.
const tableOfEvents = `CREATE TABLE events (id bigint PRIMARY KEY, kind integer NOT NULL, at timestamptz NOT NULL, day date, amount numeric(12,2),
	ratio double precision, ok boolean, ref uuid, title text NOT NULL, note text, doc jsonb, raw bytea);
INSERT INTO events SELECT g, g %% 17, '2026-01-01'::timestamptz + g * interval '1 second', '2020-01-01'::date + g %% 2000, (g::bigint * 7919 %% 1000000) / 100.0,
	sqrt(g), g %% 3 = 0, md5(g::text)::uuid, 'event number ' || g, CASE WHEN g %% 4 = 0 THEN repeat('some words ', g %% 5) END,
	jsonb_build_object('n', g, 'tags', ARRAY['a', 'b']), decode(md5(g::text), 'hex') FROM generate_series(1, %d) g;
CREATE INDEX ON events (at);
CREATE INDEX ON events (kind, day);
VACUUM ANALYZE events`

// A database is data set D: a table in a PostgreSQL server of its own, on a private
// socket, whose durability is switched off for everybody alike.
type database struct {
	*tools
	server *sqlservers.Server
}

// sql measures data set D: exports of a database and restores into an empty one, each
// beside PostgreSQL's own tools.
func (b *bench) sql(ctx context.Context, name string) error {
	if _, err := exec.LookPath("psql"); err != nil {
		b.missing = append(b.missing, "data set D: psql is not installed")
		return nil
	}
	server, err := sqlservers.StartPostgres(ctx)
	if errors.Is(err, sqlservers.ErrNotInstalled) {
		b.missing = append(b.missing, "data set D: PostgreSQL is not installed")
		return nil
	}
	if err != nil {
		return err
	}
	defer server.Stop()
	work := b.path("work-" + name)
	if !b.keep {
		defer os.RemoveAll(work)
	}
	d := &database{&tools{bench: b, d: dataSet{name: name}, work: work}, server}
	if err := os.RemoveAll(work); err != nil {
		return err
	}
	rows := max(1, int(5_000_000*b.scale))
	fmt.Fprintf(os.Stderr, "data set %s: %d rows\n", name, rows)
	if err := d.fill(ctx, rows); err != nil {
		return err
	}
	for _, name := range []string{"zstd", "age", "pg_dump", "pg_restore"} {
		path, err := exec.LookPath(name)
		if err != nil && b.peers[name] == "" {
			b.missing = append(b.missing, name+": not installed")
		}
		b.peers[name] = path
	}
	jobs := append(d.exports(), d.restores()...)
	for range b.runs {
		for _, j := range jobs {
			if err := b.do(ctx, j); err != nil {
				return err
			}
		}
	}
	return nil
}

// url names a database of the server, as a role that is no superuser.
func (d *database) url(name string) string { return d.server.PostgresURL("bench", name) }

// psql runs statements, each in a transaction of its own.
func psql(url string, statements ...string) command {
	argv := []string{"psql", "-qX", "-v", "ON_ERROR_STOP=1", url}
	for _, s := range statements {
		argv = append(argv, "-c", s)
	}
	return command{argv: argv}
}

func (d *database) fill(ctx context.Context, rows int) error {
	admin := d.server.PostgresURL("postgres", "postgres")
	if _, err := psql(admin, "CREATE ROLE bench LOGIN", "CREATE DATABASE source OWNER bench").run(ctx); err != nil {
		return err
	}
	script := d.at("fill.sql")
	if err := os.MkdirAll(d.work, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(script, fmt.Appendf(nil, tableOfEvents, rows), 0o600); err != nil {
		return err
	}
	_, err := command{argv: []string{"psql", "-qX", "-v", "ON_ERROR_STOP=1", "-f", script, d.url("source")}}.run(ctx)
	return err
}

// pipeline is a command line for bash that fails if any part of it does.
func pipeline(line string, args ...string) command {
	return command{argv: append([]string{"bash", "-o", "pipefail", "-c", line, "bash"}, args...)}
}

// exports read the table once, into a file or an archive on the same disk.
func (d *database) exports() []job {
	const task = "export D"
	jobs := []job{{task: task, tool: "sallyport", prepare: d.fresh("sallyport"), size: d.at("sallyport", "store"),
		cmd: simple(d.sallyportCommand(d.work, "export", d.url("source")))}}
	add := func(tool, dir string, c command) {
		if !d.ours {
			jobs = append(jobs, job{task: task, tool: tool, prepare: d.fresh(dir), size: d.at(dir), cmd: simple(c)})
		}
	}
	if d.has("zstd", "age") {
		add(`\copy | zstd | age`, "copy", pipeline(`psql -qX "$1" -c '\copy events to stdout csv' | zstd -q | age -r "$2" -o "$3"`,
			d.url("source"), d.keys.recipient, d.at("copy", "csv.age")))
	}
	if d.has("pg_dump", "zstd", "age") {
		add("pg_dump -Fc | zstd | age", "dump", pipeline(`pg_dump -Fc -Z0 "$1" | zstd -q | age -r "$2" -o "$3"`,
			d.url("source"), d.keys.recipient, d.at("dump", "dump.age")))
	}
	if d.has("pg_dump") {
		add("pg_dump -Fd -j2", "directory", command{argv: []string{"pg_dump", "-Fd", "-j2", "-f", d.at("directory", "dump"), d.url("source")}})
	}
	return jobs
}

// restores fill an empty database with what exports made, and make its key and indexes.
func (d *database) restores() []job {
	const task = "restore D"
	jobs := []job{{task: task, tool: "sallyport", prepare: d.empty(), cmd: simple(d.sallyportCommand(d.work, "restore", "--to", d.url("target"), "bench@latest"))}}
	if d.ours || !d.has("pg_dump") {
		return jobs
	}
	schema := func(section string) command {
		return pipeline(`pg_dump --schema-only --section="$2" "$1" > "$3"`, d.url("source"), section, d.at(section+".sql"))
	}
	csv := d.at("events.csv")
	jobs = append(jobs, job{task: task, tool: `\copy from`,
		prepare: d.empty(schema("pre-data"), schema("post-data"), psql(d.url("source"), `\copy events to '`+csv+`' csv`),
			command{argv: []string{"psql", "-qX", "-o", os.DevNull, "-f", d.at("pre-data.sql"), d.url("target")}}),
		cmd: simple(pipeline(`psql -qX -v ON_ERROR_STOP=1 -o /dev/null "$1" -c "\\copy events from '$2' csv" -f "$3"`, d.url("target"), csv, d.at("post-data.sql")))})
	if d.has("pg_restore") {
		jobs = append(jobs, job{task: task, tool: "pg_restore -j2", prepare: d.empty(),
			cmd: simple(command{argv: []string{"pg_restore", "-j2", "--no-owner", "-d", d.url("target"), filepath.Join(d.at("directory"), "dump")}})})
	}
	return jobs
}

// empty returns a preparation that makes the target an empty database and runs commands.
func (d *database) empty(setup ...command) func(context.Context) error {
	again := psql(d.server.PostgresURL("postgres", "postgres"), "SET client_min_messages = warning", "DROP DATABASE IF EXISTS target", "CREATE DATABASE target OWNER bench", "CHECKPOINT")
	return func(ctx context.Context) error {
		for _, c := range append([]command{again}, setup...) {
			if _, err := c.run(ctx); err != nil {
				return err
			}
		}
		return nil
	}
}
