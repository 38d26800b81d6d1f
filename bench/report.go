package main

import (
	"cmp"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// A goal says how one job should stand to another: at most must times as long, and later
// at most then. Zero means that there is no such goal.
type goal struct {
	task, tool          string // ours
	otherTask, other    string
	must, then          float64
	ofSize              bool // of the archive and not of the time
	smallestOfAllOthers bool
}

var goals = []goal{
	{task: "export B", tool: "sallyport", other: "s5cmd + pipe", must: 0.75},
	{task: "export B", tool: "sallyport", other: "kopia (files)", must: 0.9, then: 0.6},
	{task: "export C", tool: "sallyport", other: "s5cmd + pipe", must: 0.75},
	{task: "export C", tool: "sallyport", other: "kopia (files)", must: 0.9, then: 0.6},
	{task: "export Q", tool: "sallyport", other: "s5cmd + pipe", must: 0.7, then: 0.5},
	{task: "export B", tool: "sallyport", other: "bare program"},
	{task: "export C", tool: "sallyport", other: "bare program"},
	{task: "export Q", tool: "sallyport", other: "bare program"},
	{task: "export Q", tool: "sallyport", otherTask: "get Q", other: "bare GET and discard"},
	{task: "check B", tool: "sallyport", other: "restic --read-data", must: 0.25, then: 0.1},
	{task: "verify B", tool: "sallyport", other: "kopia, all files", must: 1.2, then: 0.6},
	{task: "restore B", tool: "sallyport", other: "kopia", must: 1},
	{task: "restore B", tool: "sallyport", other: "age | zstd | tar", then: 1},
	{task: "restore Q", tool: "sallyport", other: "restic", must: 0.5},
	{task: "restore Q", tool: "sallyport", other: "age | zstd | tar", then: 1},
	{task: "again A", tool: "nothing changed", otherTask: "list A", other: "bare listing", must: 1.2, then: 1.05},
	{task: "again A", tool: "1 % changed", otherTask: "list A", other: "bare listing", must: 1.5},
	{task: "export D", tool: "sallyport", other: `\copy | zstd | age`, must: 1, then: 0.8},
	{task: "export D", tool: "sallyport", other: "pg_dump -Fc | zstd | age"},
	{task: "export D", tool: "sallyport", other: "pg_dump -Fd -j2"},
	{task: "restore D", tool: "sallyport", other: `\copy from`, must: 1},
	{task: "restore D", tool: "sallyport", other: "pg_restore -j2", then: 1},
	{task: "export B", tool: "sallyport", ofSize: true, smallestOfAllOthers: true, must: 1.02},
	{task: "export C", tool: "sallyport", ofSize: true, smallestOfAllOthers: true, must: 1.02},
	{task: "export Q", tool: "sallyport", ofSize: true, other: "restic (files)", must: 0.85},
}

// median returns the middle of what f tells of the runs of a job.
func median[T cmp.Ordered](runs []measure, f func(measure) T) T {
	all := make([]T, len(runs))
	for i, m := range runs {
		all[i] = f(m)
	}
	slices.Sort(all)
	return all[len(all)/2]
}

func wall(m measure) time.Duration { return m.wall }
func cpu(m measure) time.Duration  { return m.cpu }
func rss(m measure) int64          { return m.rss }
func size(m measure) int64         { return m.size }

// report prints medians, the goals, and what was left out.
func (b *bench) report(w io.Writer) {
	fmt.Fprintf(w, "scale %g, %d runs each, %d hardware threads, %s\n\n", b.scale, b.runs, runtime.NumCPU(), time.Now().UTC().Format("2006-01-02"))
	t := newTable("job", "tool", "median s", "least", "most", "CPU s", "peak MiB", "archive MiB")
	for _, id := range b.order {
		task, tool, _ := strings.Cut(id, "\x00")
		runs := b.results[id]
		least := slices.MinFunc(runs, func(x, y measure) int { return cmp.Compare(x.wall, y.wall) })
		most := slices.MaxFunc(runs, func(x, y measure) int { return cmp.Compare(x.wall, y.wall) })
		archive := ""
		if n := median(runs, size); n > 0 {
			archive = fmt.Sprintf("%.1f", float64(n)/(1<<20))
		}
		t.row(task, tool, seconds(median(runs, wall)), seconds(least.wall), seconds(most.wall), seconds(median(runs, cpu)), fmt.Sprint(median(runs, rss)>>20), archive)
	}
	t.print(w)
	fmt.Fprintln(w)
	b.goals(w)
	for _, m := range b.missing {
		fmt.Fprintf(w, "left out: %s\n", m)
	}
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f", d.Seconds()) }

func (b *bench) goals(w io.Writer) {
	t := newTable("goal", "ratio", "of CPU", "must", "then", "")
	for _, g := range goals {
		mine := b.results[g.task+"\x00"+g.tool]
		if len(mine) == 0 {
			continue
		}
		ratio, work, against, ok := b.ratio(g, mine)
		what := g.task + ", " + g.tool + " / " + against
		if g.ofSize {
			what = "size of " + what
		}
		if !ok {
			t.row(what, "not measured", "", "", "", "")
			continue
		}
		t.row(what, fmt.Sprintf("%.2f", ratio), bound(work), bound(g.must), bound(g.then), verdict(g, ratio))
	}
	if peak := b.peak(); peak > 0 {
		t.row("peak resident MiB, sallyport", fmt.Sprint(peak>>20), "", "256", "128", verdict(goal{must: 256, then: 128}, float64(peak>>20)))
	}
	t.print(w)
}

// ratio returns how ours stands to the other: in time or size, and in CPU time, which is
// steadier where others use the machine too.
func (b *bench) ratio(g goal, mine []measure) (ratio, work float64, against string, ok bool) {
	if g.smallestOfAllOthers {
		least := int64(0)
		against = "the smallest"
		for _, id := range b.order {
			task, tool, _ := strings.Cut(id, "\x00")
			n := median(b.results[id], size)
			if task == g.task && tool != g.tool && tool != "bare program" && n > 0 && (least == 0 || n < least) {
				least, against = n, tool
			}
		}
		return float64(median(mine, size)) / float64(max(1, least)), 0, against, least > 0
	}
	theirs := b.results[cmp.Or(g.otherTask, g.task)+"\x00"+g.other]
	if len(theirs) == 0 {
		return 0, 0, g.other, false
	}
	if g.ofSize {
		return float64(median(mine, size)) / float64(max(1, median(theirs, size))), 0, g.other, true
	}
	work = float64(median(mine, cpu)) / float64(max(1, median(theirs, cpu)))
	return float64(median(mine, wall)) / float64(median(theirs, wall)), work, g.other, true
}

// peak returns the most memory that any of our jobs had resident.
func (b *bench) peak() (most int64) {
	for id, runs := range b.results {
		if task, tool, _ := strings.Cut(id, "\x00"); tool == "sallyport" || task == "again A" {
			for _, m := range runs {
				most = max(most, m.rss)
			}
		}
	}
	return most
}

func bound(x float64) string {
	if x == 0 {
		return ""
	}
	return fmt.Sprintf("%.3g", x)
}

func verdict(g goal, ratio float64) string {
	switch {
	case g.must == 0 && g.then == 0:
		return ""
	case g.then > 0 && ratio <= g.then:
		return "met, and the further goal too"
	case g.must > 0 && ratio <= g.must:
		return "met"
	case g.must == 0:
		return "further goal not met"
	}
	return "NOT MET"
}

// A table is aligned text.
type table struct{ rows [][]string }

func newTable(head ...string) *table { return &table{rows: [][]string{head}} }

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) print(w io.Writer) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, r := range t.rows {
		fmt.Fprintln(tw, strings.Join(r, "\t"))
	}
	tw.Flush()
}
