package verify

import (
	"errors"
	"io/fs"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
)

// Damage makes a finding of an error that says something about stored bytes: they are
// not what they should be, or are missing. ok is false for every other error.
func Damage(err error) (f Finding, ok bool) {
	var damage *archive.DamageError
	var integrity *archive.IntegrityError
	switch {
	case err == nil || errors.Is(err, crypto.ErrNoKey):
		return f, false
	case errors.As(err, &damage):
		f.Object = damage.Name
	case errors.As(err, &integrity):
		f.Object = integrity.Name
	case errors.Is(err, fs.ErrNotExist):
		f.Object = "snapshot"
	default:
		return f, false
	}
	f.Detail = err.Error()
	return f, true
}

// Unreadable is the report of an exit test that could not begin: the snapshot is damaged
// where it says what it holds. Nothing was restored, and no target was touched.
func Unreadable(targetKind string, damage Finding, stressed bool, started, ended time.Time) *ExitReport {
	return &ExitReport{Test: dataset.NewID(), TargetKind: targetKind, Started: started, Ended: ended, Stressed: stressed,
		Verified: &VerifyReport{Content: Fail, Findings: []Finding{damage}}, Destroyed: Pass, GapsIn: map[string]int64{},
		Errors: []string{"open the snapshot: " + damage.Detail}}
}
