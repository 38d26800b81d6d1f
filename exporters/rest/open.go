package rest

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/rest/jinja"
)

// repeatsMemory is the usual memory of a view.
const repeatsMemory = 16 << 20

// open opens a view. now and sleep are the world's; tests give others.
func open(ctx context.Context, c exporters.Config, now func() time.Time, sleep func(context.Context, time.Duration) error) (*view, error) {
	o := c.Options
	path, _ := o["manifest"].(string)
	if path == "" {
		return nil, errors.New("rest: the option manifest is required")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("rest: read the manifest: %w", err)
	}
	m, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("rest: manifest: %w", err)
	}
	if err := m.refuse(); err != nil {
		return nil, fmt.Errorf("rest: %w", err)
	}
	if m.used["rotating refresh token"] > 0 && c.State == "" {
		return nil, errors.New("rest: the manifest rotates refresh tokens, and there is no state directory to keep them in")
	}
	v := &view{
		manifest: m, budget: m.budget, facts: newFacts(), homes: map[string]bool{}, stateDir: c.State, home: filepath.Dir(path), secrets: &redactor{},
		now: now, sleep: sleep, started: now(), memory: repeatsMemory, env: &jinja.Env{Now: now, Random: rand.Reader},
		shortPage: text(o, "pagination", "exhaustive") == "short-page", records: text(o, "records", "raw"), driftCheck: flag(o, "drift_check", true),
		absentIsEmpty: map[string]bool{}, include: list(o, "streams"), exclude: list(o, "exclude"), attachments: map[string]*attachment{}, deletes: map[string]*deletion{},
	}
	for _, h := range list(o, "api_hosts") {
		if !strings.Contains(h, "://") {
			h = "https://" + h
		}
		u, err := parseURL(h)
		if err != nil {
			return nil, fmt.Errorf("rest: api_hosts: %w", err)
		}
		v.homes[origin(u)] = true
	}
	for _, s := range list(o, "absent_is_empty") {
		v.absentIsEmpty[s] = true
	}
	if err := v.configure(ctx, o["config"], c.Secret); err != nil {
		return nil, fmt.Errorf("rest: %w", err)
	}
	if v.client, err = clientOf(o, v.secrets); err != nil {
		return nil, fmt.Errorf("rest: %w", err)
	}
	if err := v.readPaths(o); err != nil {
		return nil, fmt.Errorf("rest: %w", err)
	}
	if err := v.deletions(o); err != nil {
		return nil, fmt.Errorf("rest: %w", err)
	}
	if err := v.limit(number(o, "concurrency", usualConcurrency)); err != nil {
		return nil, v.redacted(fmt.Errorf("rest: %w", err))
	}
	v.shareParents()
	return v, nil
}

// usualConcurrency is how many requests a service gets at once; what a manifest says may
// make it fewer.
const usualConcurrency, maxConcurrency = 4, 64

// limit sets how much is done at once.
func (v *view) limit(n int64) error {
	if m := v.manifest; m.workers != nil {
		f, err := v.scope().number(m.workers, float64(n))
		if err != nil {
			return fmt.Errorf("concurrency_level: %w", err)
		}
		if n = min(n, int64(f)); m.most > 0 {
			n = min(n, m.most)
		}
	}
	v.ahead = int(min(max(n, 1), maxConcurrency))
	v.gate = newGate(v.ahead)
	return nil
}

// shareParents lets streams that are parents of others be read from the same answers, so
// that parents and children are of one view. Streams with attachments are not: their links
// may be good for a short time only.
func (v *view) shareParents() {
	for _, st := range v.manifest.streams {
		if v.manifest.parents[st.name] && v.attachments[st.name] == nil {
			st.cache()
		}
	}
}

func text(o map[string]any, name, def string) string {
	if s, ok := o[name].(string); ok && s != "" {
		return s
	}
	return def
}

func flag(o map[string]any, name string, def bool) bool {
	if b, ok := o[name].(bool); ok {
		return b
	}
	return def
}

func list(o map[string]any, name string) []string {
	l, _ := o[name].([]string)
	return l
}

func number(o map[string]any, name string, def int64) int64 {
	if n, ok := o[name].(int64); ok && n > 0 {
		return n
	}
	return def
}

func span(o map[string]any, name string, def time.Duration) time.Duration {
	if d, ok := o[name].(time.Duration); ok && d > 0 {
		return d
	}
	return def
}

// clientOf makes the HTTP client of the options.
func clientOf(o map[string]any, secrets *redactor) (*client, error) {
	co := clientOptions{
		hosts: list(o, "hosts"), private: flag(o, "private_network", false), secrets: secrets,
		limits: limits{response: number(o, "max_response", 64<<20), download: number(o, "max_download", 64<<30),
			patience: span(o, "patience", time.Hour), timeout: span(o, "timeout", 2*time.Minute)},
	}
	if p := text(o, "proxy", ""); p != "" {
		u, err := parseURL(p)
		if err != nil {
			return nil, fmt.Errorf("proxy: %w", err)
		}
		if pw, ok := u.User.Password(); ok {
			secrets.add(pw)
		}
		co.proxy = u
	}
	if ca := text(o, "ca", ""); ca != "" {
		b, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
		if co.roots, err = x509.SystemCertPool(); err != nil {
			co.roots = x509.NewCertPool()
		}
		if !co.roots.AppendCertsFromPEM(b) {
			return nil, errors.New("ca: the file holds no certificate")
		}
	}
	return newClient(co)
}

// configure makes the configuration: secrets resolved, migrated, defaults filled in,
// checked.
func (v *view) configure(ctx context.Context, given any, secret func(context.Context, string) (string, error)) error {
	d, ok := jinja.FromGo(given).(*jinja.Dict)
	if given == nil {
		d, ok = new(jinja.Dict), true
	}
	if !ok {
		return errors.New("config is not a map")
	}
	resolved, err := resolveSecrets(ctx, d, secret, v.secrets)
	if err != nil {
		return fmt.Errorf("config: %w", err)
	}
	v.config = resolved.(*jinja.Dict)
	if v.manifest.spec != nil {
		secretFields(v.manifest.spec, v.config, v.secrets)
	}
	for _, change := range v.manifest.changes {
		if err := change(v.scope(), v.config); err != nil {
			return v.redacted(fmt.Errorf("config: %w", err))
		}
	}
	if v.manifest.spec == nil {
		return nil
	}
	fillDefaults(v.manifest.spec, v.config)
	secretFields(v.manifest.spec, v.config, v.secrets)
	return v.redactedOrNil(validate(v.manifest.spec, v.config))
}

func (v *view) redactedOrNil(err error) error {
	if err == nil {
		return nil
	}
	return v.redacted(err)
}

// readPaths reads the options that name places in answers and records.
func (v *view) readPaths(o map[string]any) error {
	counts, _ := o["counts"].(map[string]any)
	for s, p := range counts {
		path, ok := p.(string)
		if !ok || path == "" {
			return fmt.Errorf("counts: the path of stream %q is not a text", s)
		}
		v.facts.totals[s] = splitPath(path)
	}
	files, _ := o["attachments"].(map[string]any)
	for s, p := range files {
		a, err := parseAttachment(p)
		if err != nil {
			return fmt.Errorf("attachments of stream %q: %w", s, err)
		}
		if a.authAt != "" {
			if a.auth, err = v.manifest.authenticator(a.authAt); err != nil {
				return fmt.Errorf("attachments of stream %q: auth: %w", s, err)
			}
		}
		v.attachments[s] = a
	}
	for s := range v.attachments {
		if strings.HasSuffix(s, filesSuffix) {
			return fmt.Errorf("attachments: %q cannot have any", s)
		}
	}
	return nil
}
