package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/dir"
	"github.com/dwp/sallyport/exporters/sqldb"
	"github.com/dwp/sallyport/internal/config"
	"github.com/dwp/sallyport/internal/durable"
	"github.com/dwp/sallyport/verify"
)

// testLock makes the lock of a service's exit tests another one than that of its exports.
// No service has a dot in its name.
const testLock = ".exit-test"

// refuseTarget asks once more whether a service would be restored into a source or into
// the store, now that links in paths can be followed.
func (s *session) refuseTarget(src source) error {
	to := src.service.ExitTest.RestoreTo
	if to == "" {
		return nil
	}
	if why := s.config.Collision(to, config.FollowLinks); why != "" {
		return &exitError{code: exitPolicy, err: fmt.Errorf("%s: the target of %s %s", s.config.Where("services."+src.name+".exit_test.restore_to"), src.name, why)}
	}
	return nil
}

// A place is where a test restores to.
type place struct {
	target exporters.Target
	kind   string
	room   func(ctx context.Context, bytes int64) error
	marks  *verify.Marks // nil for an embedded target, which its directory alone finds again
	where  string
	after  func() error
}

// close gives the target back, and removes what an embedded one left.
func (p *place) close() error {
	err := p.target.Close()
	if p.after != nil {
		err = errors.Join(err, p.after())
	}
	return err
}

// place opens the target of a service's exit test.
func (s *session) place(ctx context.Context, src source, snap *archive.Snapshot) (*place, error) {
	to := src.service.ExitTest.RestoreTo
	if to == "" {
		return s.embedded(ctx, src.name, snap)
	}
	target, err := s.openTarget(ctx, string(to), maps.Clone(src.service.ExitTest.With.Options))
	if err != nil {
		return nil, err
	}
	marks, err := s.marks()
	if err != nil {
		return nil, errors.Join(err, target.Close())
	}
	where, err := json.Marshal(leftover{Service: src.name, To: to})
	if err != nil {
		return nil, errors.Join(err, target.Close())
	}
	p := &place{target: target, kind: to.Scheme(), marks: marks, where: string(where)}
	if p.kind == "" {
		at := string(to)
		if _, err := os.Stat(at); errors.Is(err, fs.ErrNotExist) {
			at = filepath.Dir(at) // it will be made there
		}
		p.kind, p.room = dir.Kind.Name, roomIn(at)
	}
	return p, nil
}

// embedded makes a target of our own: SQLite for records, a directory where there are
// objects, which no database holds.
func (s *session) embedded(ctx context.Context, service string, snap *archive.Snapshot) (*place, error) {
	work := s.workDir(service)
	if err := os.MkdirAll(work, 0o700); err != nil {
		return nil, fmt.Errorf("work directory: %w", err)
	}
	p := &place{room: roomIn(work), after: func() error { return os.RemoveAll(work) }}
	blobs := slices.ContainsFunc(snap.Descriptor.Resources, func(r archive.Resource) bool { return r.Sallyport.Stream.Blobs })
	if blobs || len(snap.Descriptor.Resources) == 0 {
		p.kind = dir.Kind.Name
		p.target = dir.NewTarget(filepath.Join(work, "restored"), dir.Options{NoSync: true})
		return p, nil
	}
	p.kind = sqldb.SQLite.Name
	target, err := sqldb.SQLite.OpenTarget(ctx, exporters.Config{Options: map[string]any{"url": "sqlite:" + filepath.Join(work, "restored.db")}})
	if err != nil {
		return nil, errors.Join(err, p.after())
	}
	p.target = target
	return p, nil
}

// workDir is where the embedded target of a service lives. Whoever holds the lock of the
// service's exit tests owns it.
func (s *session) workDir(service string) string {
	return filepath.Join(s.state, "exit-test", string(s.archive.ID)+"-"+service)
}

func (s *session) marks() (*verify.Marks, error) {
	return verify.OpenMarks(filepath.Join(s.state, "exit-test-marks"))
}

// A leftover says how the target of a test that was killed is found again.
type leftover struct {
	Service string          `json:"service"`
	To      config.Location `json:"to"`
}

// cleanUp destroys what tests that were killed left: work directories of embedded
// targets whose lock is free, and what their marks say of other targets.
// The caller holds the lock of one service.
func (s *session) cleanUp(ctx context.Context, service string) error {
	base := filepath.Join(s.state, "exit-test")
	entries, err := os.ReadDir(base)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("leftovers of exit tests: %w", err)
	}
	var errs []error
	for _, e := range entries {
		errs = append(errs, s.clear(e.Name(), e.Name() == filepath.Base(s.workDir(service))))
	}
	marks, err := s.marks()
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	left, err := marks.Left()
	errs = append(errs, err)
	for _, m := range left {
		if err := s.destroyLeft(ctx, m); err != nil {
			errs = append(errs, fmt.Errorf("what the exit test of %s left: %w", m.Started.Format(time.RFC3339), err))
			continue
		}
		errs = append(errs, marks.Forget(m.Test))
		s.note("destroyed what an exit test of %s had left", m.Started.Format(time.RFC3339))
	}
	return errors.Join(errs...)
}

// clear removes one work directory, unless it is that of a test that is running.
func (s *session) clear(name string, ours bool) error {
	work := filepath.Join(s.state, "exit-test", name)
	if ours {
		return os.RemoveAll(work)
	}
	lock, err := durable.TryLock(filepath.Join(s.state, "locks", name+testLock))
	if errors.Is(err, durable.ErrLocked) {
		return nil
	} else if err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(work), lock.Unlock())
}

// destroyLeft empties a target that a killed test had filled.
func (s *session) destroyLeft(ctx context.Context, m verify.Mark) error {
	var l leftover
	if err := json.Unmarshal([]byte(m.Where), &l); err != nil {
		return fmt.Errorf("its mark: %w", err)
	}
	svc := s.config.Services[l.Service]
	if svc == nil || svc.ExitTest.RestoreTo != l.To {
		return withHint(fmt.Errorf("the target %s is no longer configured", l.To),
			"empty it by hand, then remove the test's mark from "+filepath.Join(s.state, "exit-test-marks"))
	}
	target, err := s.openTarget(ctx, string(l.To), maps.Clone(svc.ExitTest.With.Options))
	if err != nil {
		return err
	}
	err = target.Destroy(ctx, m.Test)
	if errors.Is(err, exporters.ErrNotOurs) || errors.Is(err, fs.ErrNotExist) {
		err = nil // it was killed before it began to fill it, or after it was emptied
	}
	return errors.Join(err, target.Close())
}

// roomIn asks the file system of a directory for room. A tenth is kept for what a file
// system needs besides.
func roomIn(path string) func(context.Context, int64) error {
	return func(_ context.Context, bytes int64) error {
		var st syscall.Statfs_t
		if err := syscall.Statfs(path, &st); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		free := st.Bavail * uint64(st.Bsize)
		if want := uint64(bytes) + uint64(bytes)/10; free < want {
			return fmt.Errorf("%s has %s left, and %s are needed", path, humanize.IBytes(free), humanize.IBytes(want))
		}
		return nil
	}
}

// A querier is a target that answers read-only SQL.
type querier interface {
	Query(ctx context.Context, sql string, timeout time.Duration) ([][]string, error)
}

// acceptance makes the configured checks into questions.
func acceptance(checks []config.Check) []verify.Acceptance {
	var list []verify.Acceptance
	for _, c := range checks {
		list = append(list, verify.Acceptance{Name: c.Name, Ask: func(ctx context.Context, target exporters.Target) (verify.Outcome, string) {
			q, ok := target.(querier)
			if !ok {
				return verify.Unknown, "the target does not understand SQL"
			}
			rows, err := q.Query(ctx, c.SQL, c.Timeout.Std())
			switch {
			case err != nil:
				return verify.Unknown, err.Error()
			case len(rows) != 1 || len(rows[0]) != 1:
				return verify.Fail, fmt.Sprintf("the answer has %s, and one value was expected", count(len(rows), "row"))
			case rows[0][0] != c.Expect:
				return verify.Fail, fmt.Sprintf("%s, and %s was expected", rows[0][0], c.Expect)
			}
			return verify.Pass, rows[0][0]
		}})
	}
	return list
}
