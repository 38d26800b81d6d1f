// Command bench measures sallyport beside other tools, on the same data, on the same
// machine, in one run, and prints medians, ratios and how they stand to the goals.
//
//	go run ./bench                 everything, at full size: a few hours and 40 GB of disk
//	BENCH_SCALE=0.1 go run ./bench a tenth of the data
//	go run ./bench -only Q         data set Q alone
//	go run ./bench -only D         a database beside PostgreSQL's own tools
//	go run ./bench -memory         resident memory for a million objects, 20 GiB, a long restore
//
// Figures mean something beside each other and little alone: machines differ, and so do
// loads. Nothing here is a test, and no test asserts a time.
//
// The program starts itself for work that stands for itself (the bare program, the
// generated server), so that its own memory is in nobody's account.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// settings are what the command line says.
type settings struct {
	dir       string  // for data and archives
	scale     float64 // of the number of objects, and in data set B of their size
	runs      int     // of each job; medians are printed
	only      string  // data sets; empty means all
	ours      bool    // measure nothing but sallyport
	memory    bool
	objects   int   // of the larger memory run
	bigObject int64 // bytes of the memory run's one object
	sallyport string
	keep      bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 {
		if child, ok := children[args[0]]; ok {
			return child(ctx, args[1:])
		}
	}
	s, err := parse(args)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	b, err := newBench(ctx, s)
	if err != nil {
		return err
	}
	defer b.close()
	if s.memory {
		return b.memory(ctx)
	}
	for _, name := range []string{"B", "C", "Q", "A", "D"} {
		if !strings.Contains(s.only, name) && s.only != "" {
			continue
		}
		measure := b.suite
		if name == "D" {
			measure = b.sql
		}
		if err := measure(ctx, name); err != nil {
			return fmt.Errorf("data set %s: %w", name, err)
		}
	}
	b.report(os.Stdout)
	return nil
}

func parse(args []string) (settings, error) {
	var s settings
	scale, err := strconv.ParseFloat(env("BENCH_SCALE", "1"), 64)
	if err != nil || scale <= 0 {
		return s, fmt.Errorf("BENCH_SCALE is %q: want a number above 0", os.Getenv("BENCH_SCALE"))
	}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.StringVar(&s.dir, "dir", env("BENCH_DIR", "bench-data"), "`directory` for data and archives")
	f.Float64Var(&s.scale, "scale", scale, "`factor` of the amount of data (BENCH_SCALE)")
	f.IntVar(&s.runs, "runs", 3, "`times` that each job runs")
	f.StringVar(&s.only, "only", os.Getenv("BENCH_ONLY"), "data `sets` to measure, such as BQ (BENCH_ONLY)")
	f.BoolVar(&s.ours, "ours", false, "leave the other tools out")
	f.BoolVar(&s.memory, "memory", false, "measure memory instead of speed")
	f.IntVar(&s.objects, "objects", 1_000_000, "objects of the longest listing of -memory, times scale; a tenth of it is the shorter")
	f.Int64Var(&s.bigObject, "big", 20<<30, "`bytes` of the one large object of -memory, times scale")
	f.StringVar(&s.sallyport, "sallyport", "", "measure this `binary` instead of building one")
	f.BoolVar(&s.keep, "keep", false, "keep archives, for profiles and second looks")
	if err := f.Parse(args); err != nil {
		return s, err
	}
	if s.runs < 1 || s.scale <= 0 {
		return s, fmt.Errorf("-runs and -scale must be above 0")
	}
	s.dir, err = filepath.Abs(s.dir)
	return s, err
}

func env(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}
