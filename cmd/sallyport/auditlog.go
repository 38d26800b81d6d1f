package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/audit"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/internal/durable"
	"github.com/dwp/sallyport/retention"
)

// logWait is how long a command waits for another of this host that is writing the log.
const logWait = 20 * time.Second

// logName is the name of this host's audit log: one for each host, role
// and state directory.
func (s *session) logName() (string, error) {
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("audit log: %w", err)
	}
	role := "host"
	if s.config != nil && s.config.Role != "" {
		role = string(s.config.Role)
	}
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(host))
	name = strings.Trim(name[:min(len(name), 40)], "-")
	// Two state directories on one host are two writers, who must not share a log.
	path, err := filepath.Abs(s.state)
	if err != nil {
		return "", fmt.Errorf("audit log: %w", err)
	}
	return strings.TrimPrefix(name+"-"+role+"-"+dataset.Sum([]byte(path)).String()[:8], "-"), nil
}

// openLog opens this host's audit log. Another command of this host may be writing it:
// that is waited for.
func (s *session) openLog(ctx context.Context) (*audit.Log, error) {
	name, err := s.logName()
	if err != nil {
		return nil, err
	}
	signer, err := s.signingKey()
	if err != nil {
		return nil, err
	}
	o := audit.Options{Store: s.store, StoreID: s.archive.ID, Name: name, Signer: signer, Trust: s.archive.Trust,
		State: filepath.Join(s.state, "audit", string(s.archive.ID)+"-"+name)}
	for end := time.Now().Add(logWait); ; {
		l, err := audit.Open(o)
		if !errors.Is(err, durable.ErrLocked) || time.Now().After(end) {
			return l, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// withLog runs f with this host's audit log open, as whatever deletes must.
func (s *session) withLog(ctx context.Context, f func(*audit.Log) error) error {
	if s.bag {
		return errBag()
	}
	l, err := s.openLog(ctx)
	if err != nil {
		return err
	}
	err = f(l)
	var policy *retention.PolicyError
	if errors.As(err, &policy) {
		e := audit.NewEvent(audit.Refusal, audit.Fact, time.Now())
		e.Code = policy.Code
		err = errors.Join(err, l.Append(e))
		_, perr := l.Publish(context.WithoutCancel(ctx))
		err = errors.Join(err, perr)
	}
	return errors.Join(err, l.Close())
}

// A logged act is one that deletes nothing. Its events queue on this host while the log
// cannot be written; the act goes on.
type logged struct {
	s      *session
	intent audit.Event

	// checkpoint waits until the intent is published, and returns the log's head with it
	// in; nil if it is queued.
	checkpoint func() *archive.Checkpoint
}

// logBegin records that an act begins, and waits until that is published, or queued. The
// caller calls end.
func (s *session) logBegin(ctx context.Context, activity audit.Activity, service string, run archive.RunID) *logged {
	l := s.logStart(ctx, activity, service, run)
	l.checkpoint()
	return l
}

// logStart is logBegin for an act that goes on while its beginning, which is durable on
// this host, is published.
func (s *session) logStart(ctx context.Context, activity audit.Activity, service string, run archive.RunID) *logged {
	l := &logged{s: s, intent: audit.NewEvent(activity, audit.Intent, time.Now())}
	l.intent.Service, l.intent.Run = service, run
	l.checkpoint = s.publish(ctx, l.intent)
	return l
}

// end records how the act ended: err is nil, or what the command will exit with.
func (l *logged) end(ctx context.Context, err error, run archive.RunID, document dataset.Hash, counts map[string]int64) {
	l.checkpoint()
	exit := exitOf(ctx, err)
	status := audit.Failure
	if exit.code == exitOK || exit.code == exitIncomplete {
		status = audit.Success
	}
	r := audit.ResultOf(l.intent, status, time.Now())
	r.Run, r.Document, r.Counts, r.Code = run, document, counts, exit.name
	l.s.logEvent(context.WithoutCancel(ctx), r)
}

// logEvent appends an event and tries to publish it.
func (s *session) logEvent(ctx context.Context, e audit.Event) { s.publish(ctx, e)() }

// publish appends an event and begins to publish it. The function that it returns waits
// for the end of that and says what went wrong, the first time that it is called; it
// returns the log's head, or nil. A bundle is not written to: the event waits on this host
// for the next one in the archive itself, if it has a part in one.
func (s *session) publish(ctx context.Context, e audit.Event) func() *archive.Checkpoint {
	none := func() *archive.Checkpoint { return nil }
	if s.bag && s.config == nil {
		return none
	}
	l, err := s.openLog(ctx)
	if err != nil {
		s.note("the audit log could not be opened, so this is not in it: %v", err)
		return none
	}
	if err := l.Append(e); err != nil {
		s.note("not in the audit log: %v", err)
		l.Close()
		return none
	}
	if s.bag {
		l.Close()
		return none
	}
	var head archive.Checkpoint
	done := make(chan struct{})
	go func() {
		defer close(done)
		head, err = l.Publish(ctx)
		l.Close() // every event is durable already
	}()
	return sync.OnceValue(func() *archive.Checkpoint {
		<-done
		if errors.Is(err, audit.ErrInconsistent) { // rolled back or forked: not a matter of trying again
			s.late = append(s.late, err)
			return nil
		} else if err != nil {
			s.note("%v", err) // queued
			return nil
		}
		return &head
	})
}
