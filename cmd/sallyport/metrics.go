package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/internal/durable"
	"github.com/dwp/sallyport/reconcile"
	"github.com/dwp/sallyport/verify"
)

// jobMetrics are what monitoring wants to know of the exports, or of the exit tests, of
// one service.
type jobMetrics struct {
	OK          bool    `json:"ok"`           // the last run did all that was asked
	LastRun     int64   `json:"last_run"`     // its start, in seconds since 1970
	LastSuccess int64   `json:"last_success"` // start of the last that was OK; 0 if none was
	Seconds     float64 `json:"seconds"`      // that the last run took
}

func (j *jobMetrics) ended(started time.Time, ok bool) {
	j.OK, j.LastRun, j.Seconds = ok, started.Unix(), time.Since(started).Seconds()
	if ok {
		j.LastSuccess = started.Unix()
	}
}

// serviceMetrics are those of one service. They outlive the run in the state directory,
// because the textfile holds all services and each run knows one.
type serviceMetrics struct {
	Service  string      `json:"service"`
	Export   *jobMetrics `json:"export"`    // nil: never run on this host
	ExitTest *jobMetrics `json:"exit_test"` // likewise

	Records int64                  `json:"records"` // of the last snapshot
	Bytes   int64                  `json:"bytes"`   // likewise, of its objects
	Stored  int64                  `json:"stored"`  // likewise, of its packs
	New     int64                  `json:"new"`     // of those, what was new
	Gaps    map[dataset.Code]int64 `json:"gaps"`

	Mismatches int64 `json:"mismatches"` // of the last exit test
	Expires    int64 `json:"expires"`    // of the newest certificate that proves the exit; 0 if there is none
}

func (m *serviceMetrics) exported(started time.Time, r *exportResult, ok bool) {
	m.Export = orNew(m.Export)
	m.Export.ended(started, ok)
	if r != nil {
		c := r.Counts
		m.Records, m.Bytes, m.Stored, m.New, m.Gaps = c.Records, c.BlobBytes, c.PackBytes, c.New, r.Gaps
	}
}

// tested takes over what a certificate says; nil is a test that came to no verdict.
func (m *serviceMetrics) tested(started time.Time, c *verify.Certificate) {
	m.ExitTest = orNew(m.ExitTest)
	m.ExitTest.ended(started, c != nil && c.Predicate.Verdict == verify.Proven)
	if c == nil {
		return
	}
	m.Mismatches = 0
	for _, s := range c.Predicate.Streams {
		for status, n := range s.AgainstRestored {
			if status != reconcile.OK {
				m.Mismatches += n
			}
		}
	}
	if c.Predicate.Verdict == verify.Proven {
		m.Expires = c.Predicate.Expires.Unix()
	}
}

func orNew(j *jobMetrics) *jobMetrics {
	if j == nil {
		return new(jobMetrics)
	}
	return j
}

// record changes the metrics of a service and writes the textfile, if one is configured.
// A run does not fail for want of its metrics, but says so.
func (s *session) record(service string, change func(*serviceMetrics)) {
	if s.config == nil || s.config.Metrics.Textfile == "" || s.config.Services[service] == nil {
		return
	}
	if err := s.writeMetrics(service, change); err != nil {
		s.warn(fmt.Errorf("metrics: %w", err))
	}
}

func (s *session) writeMetrics(service string, change func(*serviceMetrics)) error {
	dir := filepath.Join(s.state, "metrics")
	d, err := durable.OpenPrivate(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	lock, err := durable.WaitLock(filepath.Join(dir, "lock"))
	if err != nil {
		return err
	}
	defer lock.Unlock()
	var all []serviceMetrics
	for _, name := range s.config.Names() {
		m := serviceMetrics{Service: name}
		b, err := os.ReadFile(filepath.Join(dir, name+".json"))
		if err == nil {
			err = json.Unmarshal(b, &m)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("state of %s: %w", name, err)
		}
		if name == service {
			change(&m)
			if b, err = json.Marshal(m); err == nil {
				err = d.Replace(name+".json", b)
			}
			if err != nil {
				return err
			}
		}
		all = append(all, m)
	}
	return writeTextfile(string(s.config.Metrics.Textfile), exposition(all))
}

// writeTextfile replaces the file in one step, readable by the collector. It need not
// survive a power cut.
func writeTextfile(name, text string) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".sallyport-*.tmp")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

// exposition writes metrics in Prometheus' text format
// (https://prometheus.io/docs/instrumenting/exposition_formats/).
func exposition(services []serviceMetrics) string {
	var b strings.Builder
	family := func(name, help string, values func(m *serviceMetrics, sample func(labels string, value float64))) {
		fmt.Fprintf(&b, "# HELP sallyport_%s %s\n# TYPE sallyport_%s gauge\n", name, help, name)
		for i := range services {
			values(&services[i], func(labels string, value float64) {
				// Names of services and codes need no escape.
				fmt.Fprintf(&b, "sallyport_%s{service=%q%s} %.15g\n", name, services[i].Service, labels, value)
			})
		}
	}
	jobs := func(name, help string, value func(j *jobMetrics) float64) {
		family(name, help, func(m *serviceMetrics, sample func(string, float64)) {
			if m.Export != nil {
				sample(`,job="export"`, value(m.Export))
			}
			if m.ExitTest != nil {
				sample(`,job="exit-test"`, value(m.ExitTest))
			}
		})
	}
	exports := func(name, help string, value func(m *serviceMetrics) int64) {
		family(name, help, func(m *serviceMetrics, sample func(string, float64)) {
			if m.Export != nil && m.Export.LastRun > 0 {
				sample("", float64(value(m)))
			}
		})
	}
	jobs("last_success_timestamp_seconds", "Start of the last run that did all that was asked; 0 if none did.", func(j *jobMetrics) float64 { return float64(j.LastSuccess) })
	jobs("last_run_timestamp_seconds", "Start of the last run.", func(j *jobMetrics) float64 { return float64(j.LastRun) })
	jobs("status", "1 if the last run did all that was asked, else 0.", func(j *jobMetrics) float64 {
		if j.OK {
			return 1
		}
		return 0
	})
	jobs("duration_seconds", "How long the last run took.", func(j *jobMetrics) float64 { return j.Seconds })
	exports("snapshot_records", "Records in the last snapshot.", func(m *serviceMetrics) int64 { return m.Records })
	exports("snapshot_object_bytes", "Bytes of the objects in the last snapshot.", func(m *serviceMetrics) int64 { return m.Bytes })
	exports("snapshot_pack_bytes", "Bytes of the packs that the last snapshot needs.", func(m *serviceMetrics) int64 { return m.Stored })
	exports("snapshot_new_bytes", "Of those, bytes that the last export added.", func(m *serviceMetrics) int64 { return m.New })
	family("gaps", "Gaps of the last snapshot by code, accepted ones included.", func(m *serviceMetrics, sample func(string, float64)) {
		for _, code := range slices.Sorted(maps.Keys(m.Gaps)) {
			sample(fmt.Sprintf(",code=%q", code), float64(m.Gaps[code]))
		}
	})
	family("mismatches", "Records that the last exit test did not find the same in archive and restored copy.", func(m *serviceMetrics, sample func(string, float64)) {
		if m.ExitTest != nil {
			sample("", float64(m.Mismatches))
		}
	})
	family("certificate_expiry_timestamp_seconds", "End of the newest certificate that proves the exit; 0 if there is none.", func(m *serviceMetrics, sample func(string, float64)) {
		if m.ExitTest != nil {
			sample("", float64(m.Expires))
		}
	})
	return b.String()
}
