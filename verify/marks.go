package verify

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/internal/durable"
)

// Marks remember, in a directory of this host, the exit tests whose targets are not yet
// destroyed. A test holds the lock of its mark while its process lives, so a mark whose
// lock is free is that of a test that was killed.
type Marks struct {
	dir   string
	locks map[dataset.ID]*durable.Lock
}

// A Mark is what is remembered of a test.
type Mark struct {
	Test    dataset.ID   `json:"test"`
	Where   string       `json:"where"` // how the target is found again
	Started archive.Time `json:"started"`
}

// OpenMarks returns the marks in dir, which it makes if it is missing. A Marks belongs to
// one goroutine.
func OpenMarks(dir string) (*Marks, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("marks of exit tests: %w", err)
	}
	return &Marks{dir, map[dataset.ID]*durable.Lock{}}, nil
}

func (m *Marks) path(test dataset.ID) string { return filepath.Join(m.dir, string(test)) }

// put remembers a test, durably, until it is removed.
func (m *Marks) put(mark Mark) error {
	lock, err := durable.TryLock(m.path(mark.Test) + ".lock")
	if err != nil {
		return err
	}
	m.locks[mark.Test] = lock
	b, err := json.Marshal(mark)
	if err != nil {
		return err
	}
	d, err := durable.OpenPrivate(m.dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Create(string(mark.Test)+".json", b), d.Close())
}

// remove forgets a test.
func (m *Marks) remove(test dataset.ID) error {
	d, err := durable.OpenPrivate(m.dir)
	if err != nil {
		return err
	}
	err = errors.Join(d.Remove(string(test)+".json"), d.Close())
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if lock := m.locks[test]; lock != nil {
		delete(m.locks, test)
		// The id is random and never used again, so nobody else waits for this lock.
		err = errors.Join(err, lock.Unlock(), os.Remove(m.path(test)+".lock"))
	}
	return err
}

// Left returns the tests that were killed before their targets were destroyed, by time.
// Those that are still running are not among them. The caller opens each target, calls
// Destroy with the test's id, and then Forget.
func (m *Marks) Left() ([]Mark, error) {
	entries, err := os.ReadDir(m.dir)
	if err != nil {
		return nil, fmt.Errorf("marks of exit tests: %w", err)
	}
	var left []Mark
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok || m.locks[dataset.ID(id)] != nil {
			continue
		}
		mark, err := m.left(dataset.ID(id))
		switch {
		case errors.Is(err, durable.ErrLocked), errors.Is(err, fs.ErrNotExist):
			continue // it is running, or has just ended
		case err != nil:
			return nil, fmt.Errorf("mark of exit test %s: %w", id, err)
		}
		left = append(left, mark)
	}
	slices.SortFunc(left, func(a, b Mark) int { return a.Started.Compare(b.Started.Time) })
	return left, nil
}

// left reads the mark of a test that is not running, and takes its lock, so that two
// starts do not clean up at once.
func (m *Marks) left(id dataset.ID) (mark Mark, err error) {
	lock, err := durable.TryLock(m.path(id) + ".lock")
	if err != nil {
		return mark, err
	}
	b, err := os.ReadFile(m.path(id) + ".json")
	if err == nil {
		err = json.Unmarshal(b, &mark)
	}
	if err == nil && mark.Test != id {
		err = fmt.Errorf("it is about test %q", mark.Test)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return mark, errors.Join(err, lock.Unlock(), os.Remove(m.path(id)+".lock")) // its test has just ended
	}
	if err != nil {
		return mark, errors.Join(err, lock.Unlock())
	}
	m.locks[id] = lock
	return mark, nil
}

// Close gives up the locks, and leaves the marks of tests whose targets were not
// destroyed to the next start. The end of the process does the same.
func (m *Marks) Close() error {
	var errs []error
	for id, lock := range m.locks {
		errs = append(errs, lock.Unlock())
		delete(m.locks, id)
	}
	return errors.Join(errs...)
}

// Forget says that the target of a killed test was destroyed.
func (m *Marks) Forget(test dataset.ID) error { return m.remove(test) }
