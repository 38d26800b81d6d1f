package singer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// Why a tap was ended.
var (
	errIdle    = errors.New("the tap gave nothing for too long")
	errTimeout = errors.New("the tap ran for too long")
	errBroken  = errors.New("no longer wanted")
)

// A process is a running tap.
type process struct {
	cmd    *exec.Cmd
	stdout *patient
	logs   *logs
	idle   time.Duration
	ctx    context.Context // ended with the reason why the tap was
	cancel context.CancelCauseFunc
	timer  *time.Timer
	after  func() // once the tap is gone

	once sync.Once
	err  error
}

// startProcess starts the tap in a process group of its own, so that whatever it starts
// ends with it. It may take timeout, and be silent for
// idle (0: as long as it likes).
func startProcess(ctx context.Context, o Options, dir string, redact func(string) string, idle, timeout time.Duration, args []string) (*process, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	p := &process{ctx: ctx, cancel: cancel, idle: idle, logs: &logs{redact: redact, to: o.Log, counts: make(map[string]int64)}}
	p.cmd = exec.CommandContext(ctx, o.Command[0], append(o.Command[1:len(o.Command):len(o.Command)], args...)...)
	p.cmd.Dir = dir
	p.cmd.Env = environment(o.Env, dir)
	p.cmd.Stderr = p.logs
	p.cmd.WaitDelay = 5 * time.Second
	ownGroup(p.cmd)
	out, err := p.cmd.StdoutPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		cancel(err)
		return nil, err
	}
	p.stdout = &patient{r: out, limit: idle, over: func() { cancel(errIdle) }}
	p.timer = time.AfterFunc(timeout, func() { cancel(errTimeout) })
	return p, nil
}

// kill ends the tap, if it has not ended its output itself: then its own exit code may
// say more. wait then reports reason.
func (p *process) kill(reason error) {
	if !p.stdout.ended {
		p.cancel(reason)
	}
}

// wait waits for the tap to end, after all of its output was read, and says why it did
// not end well: nil means exit code 0. It can be called again.
func (p *process) wait() error {
	p.once.Do(func() {
		// Whoever closed its output has no more reason to stay.
		lingers := afterIdle(p.idle, func() { p.cancel(errIdle) })
		err := p.cmd.Wait()
		lingers.Stop()
		p.timer.Stop()
		cause := context.Cause(p.ctx)
		p.cancel(nil)
		endGroup(p.cmd) // what the tap started and left behind
		p.logs.flush()
		switch {
		case cause != nil:
			err = cause
		case err != nil:
			err = fmt.Errorf("%w%s", err, p.logs.reason())
		}
		p.err = err
		p.after()
	})
	return p.err
}

// environment returns what a tap may know of ours.
func environment(names []string, dir string) []string {
	env := []string{"HOME=" + dir, "TMPDIR=" + dir, "PYTHONUNBUFFERED=1"}
	for _, name := range append([]string{"PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE",
		"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"}, names...) {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// A patient reader loses its patience if one Read takes too long. The time between Reads
// is not the tap's: it may well wait for us.
type patient struct {
	r     io.Reader
	limit time.Duration
	over  func()
	ended bool // r is at its end
}

func (p *patient) Read(b []byte) (int, error) {
	t := afterIdle(p.limit, p.over)
	defer t.Stop()
	n, err := p.r.Read(b)
	p.ended = p.ended || err != nil
	return n, err
}

// afterIdle is time.AfterFunc, where 0 is for ever.
func afterIdle(d time.Duration, f func()) *time.Timer {
	if d <= 0 {
		d = math.MaxInt64
	}
	return time.AfterFunc(d, f)
}

// Bounds on what is kept and passed on of a tap's log.
const (
	maxLogLine = 64 << 10
	maxLogged  = 1 << 20
	maxReason  = 4 << 10
)

// logs reads what a tap prints to its standard error, in bounded memory.
type logs struct {
	redact func(string) string
	to     io.Writer

	mu     sync.Mutex
	line   []byte
	cut    bool // the line is longer than what is kept of it
	passed int
	fatal  string // the first line that says why the tap gave up
	last   string
	counts map[string]int64 // records by stream, as the tap's metrics have them
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for rest := p; len(rest) > 0; {
		part, after, ended := bytes.Cut(rest, []byte("\n"))
		if room := maxLogLine - len(l.line); len(part) > room {
			part, l.cut = part[:room], true
		}
		l.line = append(l.line, part...)
		if ended {
			l.take()
		}
		rest = after
	}
	return len(p), nil
}

func (l *logs) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.line) > 0 {
		l.take()
	}
}

// take looks at a line that is complete.
func (l *logs) take() {
	line := string(l.line)
	if l.cut {
		line += " ..."
	} else {
		l.metric(line)
	}
	l.line, l.cut = l.line[:0], false
	shown := l.redact(line)
	if len(shown) > maxReason {
		shown = shown[:maxReason] + " ..."
	}
	if word, _, _ := strings.Cut(strings.TrimSpace(shown), " "); l.fatal == "" && (strings.HasPrefix(word, "CRITICAL") || strings.HasPrefix(word, "FATAL")) {
		l.fatal = shown
	}
	if strings.TrimSpace(shown) != "" {
		l.last = shown
	}
	if l.to == nil || l.passed > maxLogged {
		return
	}
	if l.passed += len(shown) + 1; l.passed > maxLogged {
		shown = "(the rest of the tap's log is left out)"
	}
	fmt.Fprintln(l.to, shown) // a log that cannot be written stops nothing
}

// metric adds up the counters that taps log: INFO METRIC: {"type":"counter",
// "metric":"record_count","value":5,"tags":{"endpoint":"users"}}.
func (l *logs) metric(line string) {
	_, text, ok := strings.Cut(line, "METRIC: ")
	if !ok {
		return
	}
	var m struct {
		Type, Metric string
		Value        json.Number
		Tags         map[string]any
	}
	if json.NewDecoder(strings.NewReader(text)).Decode(&m) != nil || m.Type != "counter" || m.Metric != "record_count" {
		return
	}
	n, err := m.Value.Int64()
	if err != nil || n < 0 {
		return
	}
	for _, tag := range []string{"endpoint", "stream"} {
		if name, ok := m.Tags[tag].(string); ok && len(l.counts) < 100_000 {
			l.counts[name] += n
			return
		}
	}
}

// recordCounts returns the sums of the tap's metrics.
func (l *logs) recordCounts() map[string]int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.counts)
}

// reason returns what the tap said before it ended, with a colon before it.
func (l *logs) reason() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.fatal != "":
		return ": " + l.fatal
	case l.last != "":
		return ": " + l.last
	}
	return ""
}
