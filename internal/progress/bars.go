package progress

import (
	"fmt"
	"strings"

	"github.com/jedib0t/go-pretty/v6/text"
)

// maxBars is how many tasks are drawn at once: a screen that scrolls cannot be redrawn.
const maxBars = 8

// erase takes the bars off the screen and leaves the cursor where the first one was. The
// caller holds mu.
func (d *Display) erase() {
	if d.drawn > 0 {
		// Up so many lines, then clear to the end of the screen (ECMA-48 CUU, ED).
		fmt.Fprintf(d.w, "\x1b[%dA\x1b[J", d.drawn)
		d.drawn = 0
	}
}

// draw puts a bar for each task below what is on the screen. The caller holds mu and has
// erased.
func (d *Display) draw() {
	if d.mode != Bars || len(d.tasks) == 0 {
		return
	}
	var b strings.Builder
	width := max(d.width()-1, 20) // the last column makes some terminals wrap
	shown := d.tasks[:min(len(d.tasks), maxBars)]
	for _, t := range shown {
		b.WriteString(bar(t.status(), width) + "\n")
		d.drawn++
	}
	if more := len(d.tasks) - len(shown); more > 0 {
		fmt.Fprintf(&b, "... and %d more\n", more)
		d.drawn++
	}
	d.w.Write([]byte(b.String()))
}

// bar is a status as a line of at most width columns.
func bar(s Status, width int) string {
	const cells = 24
	line := s.String()
	if part := s.part(); part > 0 {
		full := int(part * cells)
		line = fmt.Sprintf("%s%s %3.0f%% %s", strings.Repeat("█", full), strings.Repeat("░", cells-full), 100*part, line)
	}
	return text.Trim(line, width)
}
