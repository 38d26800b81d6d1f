package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/internal/config"
	"github.com/dwp/sallyport/internal/progress"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/term"
)

// The rules of the voice:
//
//   - Results go to standard output; progress, notes, errors and hints to standard
//     error. With --json everything is JSON Lines on standard output.
//   - An error reads "sallyport: error: noun: what is wrong", lower case, no full stop,
//     one line each. A hint follows where a person can do something about it.
//   - Text from a source, a store or a server is escaped before it is printed.
//   - Colour and bars only on a terminal, and never if NO_COLOR is set or TERM is dumb.
//   - The last line of JSON output is a summary with the exit code, always.

// A ui prints. It is used by one goroutine, but for its display.
type ui struct {
	out, err io.Writer
	json     bool
	quiet    bool // no notes
	verbose  bool // details too
	noBars   bool
	result   any     // of the summary
	late     []error // what is wrong beside what the command did; it sets the exit code too

	display *progress.Display // nil until progress was asked for
}

func newUI(stdout, stderr io.Writer) *ui { return &ui{out: stdout, err: stderr} }

// terminal returns the terminal that w is, if it is one fit for bars and colour.
func terminal(w io.Writer) (*os.File, bool) {
	f, ok := w.(*os.File)
	return f, ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"
}

func colour(w io.Writer) bool {
	_, ok := terminal(w)
	return ok && os.Getenv("NO_COLOR") == ""
}

// printf prints results for people. With --json it prints nothing: the command says the
// same with emit or in its summary.
func (u *ui) printf(format string, args ...any) {
	if !u.json {
		fmt.Fprintf(u.out, format, args...)
	}
}

// note prints a remark, unless --quiet.
func (u *ui) note(format string, args ...any) {
	if !u.json && !u.quiet {
		u.log("sallyport: " + fmt.Sprintf(format, args...))
	}
}

// warn prints what did not work and did not stop the command, also with --quiet.
func (u *ui) warn(err error) {
	u.emit(message{Type: "warning", Error: visible(err.Error())})
	if !u.json {
		u.log(fmt.Sprintf("sallyport: %s: %s", colourWord(u.err, "warning", text.FgYellow), visible(err.Error())))
	}
}

// detail prints a remark if --verbose.
func (u *ui) detail(format string, args ...any) {
	if u.verbose {
		u.note(format, args...)
	}
}

// log prints a line to standard error, above the bars.
func (u *ui) log(line string) {
	if u.display != nil {
		u.display.Log(line)
		return
	}
	fmt.Fprintln(u.err, line)
}

// emit prints one JSON line; v has a field message_type. Without --json it prints
// nothing.
func (u *ui) emit(v any) {
	if !u.json {
		return
	}
	b, err := json.Marshal(v)
	if err != nil {
		b, _ = json.Marshal(message{Type: "error", Error: "a message could not be written: " + err.Error()})
	}
	b = append(b, '\n')
	if u.display != nil {
		u.display.Write(b)
		return
	}
	u.out.Write(b)
}

// A message is an error or the summary in JSON.
type message struct {
	Type   string `json:"message_type"`
	Error  string `json:"error,omitempty"`
	Hint   string `json:"hint,omitempty"`
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"`
	Path   string `json:"path,omitempty"` // in the configuration
	Policy bool   `json:"policy,omitempty"`
	Code   *int   `json:"exit_code,omitempty"`
	Exit   string `json:"exit,omitempty"` // name of the code
	Result any    `json:"result,omitempty"`
}

// gap prints a gap as it is found.
func (u *ui) gap(service string, g *dataset.Gap) {
	u.emit(struct {
		Type    string `json:"message_type"`
		Service string `json:"service"`
		Stream  string `json:"stream"`
		Key     string `json:"key,omitempty"` // escaped as dataset.Escape does it
		Ordinal int    `json:"ordinal"`
		Code    string `json:"code"`
		Detail  string `json:"detail,omitempty"`
	}{"gap", service, g.Stream, dataset.Escape(g.Key), g.Ordinal, string(g.Code), g.Detail})
	if !u.json {
		u.log(fmt.Sprintf("sallyport: gap: %s: %s", service, visible(g.Error())))
	}
}

// progress returns the display of this run, which starts with the first call.
func (u *ui) progress() *progress.Display {
	if u.display != nil {
		return u.display
	}
	f, tty := terminal(u.err)
	switch {
	case u.json:
		u.display = progress.New(u.out, progress.JSON, progress.Options{})
	case u.quiet || u.noBars:
		u.display = progress.New(u.err, progress.Off, progress.Options{})
	case tty:
		u.display = progress.New(u.err, progress.Bars, progress.Options{Width: func() int {
			if w, _, err := term.GetSize(int(f.Fd())); err == nil {
				return w
			}
			return 80
		}})
	default:
		u.display = progress.New(u.err, progress.Lines, progress.Options{})
	}
	return u.display
}

// table prints rows under a header. Cells are escaped.
func (u *ui) table(header []string, rows [][]string) {
	if u.json {
		return
	}
	if len(rows) == 0 {
		return
	}
	t := table.NewWriter()
	t.SetOutputMirror(u.out)
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Format.Header = text.FormatUpper
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "  "
	if colour(u.out) {
		style.Color.Header = text.Colors{text.Bold}
	}
	t.SetStyle(style)
	t.SuppressTrailingSpaces()
	t.AppendHeader(cells(header))
	for _, r := range rows {
		t.AppendRow(cells(r))
	}
	t.Render()
}

func cells(texts []string) table.Row {
	row := make(table.Row, len(texts))
	for i, s := range texts {
		row[i] = dataset.Escape(s)
	}
	return row
}

// finish prints the error that ended the command, and the summary, and returns the exit
// code.
func (u *ui) finish(ctx context.Context, err error) int {
	u.display.Close()
	u.display = nil
	said := messages(err)
	for _, l := range u.late {
		said = append(said, messages(l)...)
		err = errors.Join(err, l)
	}
	exit := exitOf(ctx, err)
	for _, m := range said {
		u.emit(m)
		if !u.json {
			fmt.Fprintf(u.err, "sallyport: %s: %s\n", colourWord(u.err, "error", text.FgRed), m.Error)
		}
	}
	if hint := hintFor(err); err != nil && hint != "" {
		u.emit(message{Type: "hint", Hint: hint})
		if !u.json {
			fmt.Fprintf(u.err, "sallyport: %s: %s\n", colourWord(u.err, "hint", text.FgCyan), hint)
		}
	}
	u.emit(message{Type: "summary", Code: &exit.code, Exit: exit.name, Result: u.result})
	return exit.code
}

// messages takes an error apart: a configuration has many, and joined errors each have
// a line.
func messages(err error) []message {
	var c *config.Error
	var p *config.PolicyError
	var findings config.Findings
	if all, ok := joined(err); ok {
		var list []message
		for _, e := range all {
			list = append(list, messages(e)...)
		}
		return list
	}
	switch {
	case err == nil || errors.Is(err, errSaid):
		return nil
	case errors.As(err, &c):
		findings = c.Findings
	case errors.As(err, &p):
		findings = p.Findings
	default:
		var list []message
		for line := range strings.SplitSeq(err.Error(), "\n") {
			list = append(list, message{Type: "error", Error: visible(line)})
		}
		return list
	}
	var list []message
	for _, f := range findings {
		list = append(list, message{Type: "error", Error: f.String(), File: f.File, Line: f.Line, Path: f.Path, Policy: f.Policy})
	}
	return list
}

// joined returns the errors that [errors.Join] made one of. An error with several %w
// has a text of its own and is one.
func joined(err error) ([]error, bool) {
	j, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return nil, false
	}
	return j.Unwrap(), errors.Join(j.Unwrap()...).Error() == err.Error()
}

// visible escapes what could hide or imitate in an error's text, as dataset.Escape does,
// and leaves quotes and backslashes, which are the text's own.
func visible(s string) string {
	var b strings.Builder
	for {
		i := strings.IndexAny(s, `"\\`)
		if i < 0 {
			b.WriteString(dataset.Escape(s))
			return b.String()
		}
		b.WriteString(dataset.Escape(s[:i]) + s[i:i+1])
		s = s[i+1:]
	}
}

// errSaid marks errors that only set the exit code: what is wrong was printed already,
// as a result.
var errSaid = errors.New("said already")

func colourWord(w io.Writer, word string, c text.Color) string {
	if !colour(w) {
		return word
	}
	return text.Colors{c, text.Bold}.Sprint(word)
}
