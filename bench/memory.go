package main

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	_ "github.com/dwp/sallyport/exporters/sqldb" // the driver "sqlite"
	"github.com/dwp/sallyport/fixtures/s3server"
)

// serve is the server of the memory runs, in a process of its own: a bucket of args[0]
// generated objects of args[1] bytes. It prints its address and ends with its input.
func serve(ctx context.Context, args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	size, err := strconv.ParseInt(args[1], 10, 64)
	if err != nil {
		return err
	}
	srv := s3server.New(s3server.Options{Anonymous: true, Credentials: []s3server.Credential{{AccessKey: "bench", SecretKey: "bench"}}})
	srv.GenerateBucket("generated", n, func(i int) s3server.ObjectSpec {
		return s3server.ObjectSpec{Key: fmt.Sprintf("folder %05d/object %09d.txt", i/1000, i), Size: size, Seed: uint64(i)}
	})
	at, _, stop, err := srv.Start(false)
	if err != nil {
		return err
	}
	defer stop()
	fmt.Println(at)
	_, err = bufio.NewReader(os.Stdin).ReadByte() // until whoever started it is gone
	return nil
}

// generated starts serve and returns its address and a function that ends it.
func (b *bench) generated(ctx context.Context, n int, size int64) (at string, stop func(), err error) {
	cmd := exec.CommandContext(ctx, b.self, "serve", strconv.Itoa(n), strconv.FormatInt(size, 10))
	in, err := cmd.StdinPipe()
	if err != nil {
		return "", nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() { in.Close(); cmd.Wait() }
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		stop()
		return "", nil, fmt.Errorf("generated server: %w", err)
	}
	return strings.TrimSpace(line), stop, nil
}

// A memoryRow is a line of the table of memory.
type memoryRow struct {
	what string
	m    measure
}

// memory measures what stays resident whatever the amount of data is.
func (b *bench) memory(ctx context.Context) error {
	var rows []memoryRow
	many, big := max(10, int(float64(b.objects)*b.scale)), int64(float64(b.bigObject)*b.scale)
	few := many / 10
	steps := []struct {
		objects int
		size    int64
		then    []string // commands after the export
	}{
		{few, 100, []string{"export", "check", "verify", "restore", "exit-test"}},
		{many, 100, []string{"export", "check", "verify", "exit-test"}},
		{1, big, []string{"check", "verify"}},
	}
	for _, s := range steps {
		more, err := b.memoryOf(ctx, s.objects, s.size, s.then)
		rows = append(rows, more...)
		if err != nil {
			return err
		}
	}
	more, err := b.memoryOfRows(ctx, many)
	rows = append(rows, more...)
	if err != nil {
		return err
	}
	fmt.Printf("scale %g\n\n", b.scale)
	t := newTable("resident memory", "peak MiB", "seconds", "CPU s")
	for _, r := range rows {
		t.row(r.what, fmt.Sprint(r.m.rss>>20), fmt.Sprintf("%.1f", r.m.wall.Seconds()), fmt.Sprintf("%.1f", r.m.cpu.Seconds()))
	}
	t.print(os.Stdout)
	return nil
}

func (b *bench) memoryOf(ctx context.Context, objects int, size int64, then []string) (rows []memoryRow, err error) {
	at, stop, err := b.generated(ctx, objects, size)
	if err != nil {
		return nil, err
	}
	defer stop()
	work := b.path("work-memory")
	if err := errors.Join(os.RemoveAll(work), os.MkdirAll(work, 0o700)); err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	if err := b.configure(work, "generated", at, "", "with-bytes"); err != nil {
		return nil, err
	}
	return b.memoryRun(ctx, work, fmt.Sprintf("%d objects of %d bytes", objects, size), then)
}

// memoryOfRows exports a table from SQLite and tests the exit, whose target is another.
func (b *bench) memoryOfRows(ctx context.Context, n int) (rows []memoryRow, err error) {
	work := b.path("work-memory")
	if err := errors.Join(os.RemoveAll(work), os.MkdirAll(work, 0o700)); err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	file := filepath.Join(work, "cases.db")
	if err := makeTable(ctx, file, n); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if err := b.service(work, fmt.Sprintf("    exporter: sqlite\n    with: {url: %q}\n", "sqlite:"+file)); err != nil {
		return nil, err
	}
	return b.memoryRun(ctx, work, fmt.Sprintf("%d rows", n), []string{"verify", "exit-test"})
}

// makeTable makes a SQLite file with one table of n rows.
func makeTable(ctx context.Context, file string, n int) error {
	db, err := sql.Open("sqlite", "file:"+file)
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, `CREATE TABLE cases (id INTEGER PRIMARY KEY, name TEXT NOT NULL, amount TEXT, body TEXT);
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
		INSERT INTO cases SELECT i, printf('person %x', i * 7919), printf('%d.%02d', i, i % 100), hex(randomblob(20)) FROM n`, n)
	return errors.Join(err, db.Close())
}

// memoryRun exports by the configuration in a work folder, and runs the other commands.
func (b *bench) memoryRun(ctx context.Context, work, data string, then []string) (rows []memoryRow, err error) {
	env := []string{"AWS_ACCESS_KEY_ID=bench", "AWS_SECRET_ACCESS_KEY=bench"}
	for i, what := range append([]string{"export"}, then...) {
		var c command
		switch what {
		case "export":
			c = b.configured(work)
			if i > 0 {
				what = "export, nothing changed"
			}
		case "restore":
			c = b.sallyportCommand(work, "restore", "--to", filepath.Join(work, "restored"), "bench@latest")
		default:
			c = b.sallyportCommand(work, what)
		}
		c.env = append(c.env, env...)
		m, err := c.run(ctx)
		if err != nil {
			return rows, err
		}
		what += ": " + data
		fmt.Fprintf(os.Stderr, "%-60s %8.2f s  cpu %7.2f s  %5d MiB\n", what, m.wall.Seconds(), m.cpu.Seconds(), m.rss>>20)
		rows = append(rows, memoryRow{what, m})
	}
	return rows, nil
}
