package s3

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/internal/s3conn"
)

// A Remover is a Store that can forget: an [archive.Remover].
type Remover struct{ *Store }

// Remove implements [archive.Remover]. On a versioned bucket it deletes versions and
// never leaves a delete marker.
func (r Remover) Remove(ctx context.Context, name, version string) error {
	if err := checkName(name); err != nil {
		return err
	}
	if r.versioned && version == "" {
		return fmt.Errorf("remove %s: the bucket keeps versions and none is named", name)
	}
	o := s3conn.Object{Key: name, Version: version, Size: -1}
	// A DELETE succeeds whether or not there is anything, so ask first. A delete marker
	// answers "method not allowed", which means that it is there.
	if _, err := r.conn.Head(ctx, o); err != nil && !errors.Is(err, s3conn.ErrMethod) {
		return fmt.Errorf("remove %s: %w", name, mapped(err))
	}
	var q [][2]string
	if version != "" {
		q = [][2]string{{"versionId", version}}
	}
	_, _, err := r.conn.Call(ctx, &s3conn.Request{Op: "delete object", Method: http.MethodDelete, Key: name, Query: q}, 64<<10)
	if err != nil {
		if locked, until := r.locked(ctx, name, version); locked || errors.Is(err, s3conn.ErrLocked) {
			return &archive.LockedError{Name: name, Until: until}
		}
		return fmt.Errorf("remove %s: %w", name, mapped(err))
	}
	r.mu.Lock()
	delete(r.oldest, name)
	r.mu.Unlock()
	return nil
}

// locked asks whether the store retains a version, and until when. What cannot be
// asked is taken as not locked: the refusal itself is reported then.
func (r Remover) locked(ctx context.Context, name, version string) (bool, time.Time) {
	ask := func(sub string, into any) bool {
		q := [][2]string{{sub, ""}}
		if version != "" {
			q = append(q, [2]string{"versionId", version})
		}
		body, _, err := r.conn.Call(ctx, &s3conn.Request{Op: "get object " + sub, Method: http.MethodGet, Key: name, Query: q}, 64<<10)
		return err == nil && xml.Unmarshal(body, into) == nil
	}
	var retention struct{ RetainUntilDate time.Time }
	if ask("retention", &retention) && retention.RetainUntilDate.After(time.Now()) {
		return true, retention.RetainUntilDate
	}
	var hold struct{ Status string }
	return ask("legal-hold", &hold) && hold.Status == "ON", time.Time{}
}
