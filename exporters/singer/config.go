package singer

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/dwp/sallyport/dataset"
)

// A config is the private, writable copy of a tap's configuration.
type config struct {
	file  string // the copy
	state string // where changes are kept, or empty
	base  dataset.Hash

	mu      sync.Mutex
	given   map[string]any // by the operator
	current map[string]any
	written []byte
	secrets []string
}

// A rotation is what is kept of a configuration that a tap changed. It holds only for
// the configuration it was made from: who edits that means the edit.
type rotation struct {
	Base    dataset.Hash   `json:"base"` // of the configuration as the operator gave it
	Changed map[string]any `json:"changed"`
	Removed []string       `json:"removed,omitempty"`
}

const rotationName = "tap-config.json"

// newConfig writes the configuration to dir, with what was kept of an earlier run.
func newConfig(o Options, dir string) (*config, error) {
	c := &config{file: filepath.Join(dir, "config.json"), state: o.State, current: maps.Clone(o.Config)}
	if c.current == nil {
		c.current = make(map[string]any)
	}
	raw, err := json.Marshal(c.current)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	c.base = dataset.Sum(raw)
	if c.current, err = decode(raw); err != nil { // the same types as after a tap's change
		return nil, fmt.Errorf("configuration: %w", err)
	}
	c.given = maps.Clone(c.current)
	for _, s := range o.Secrets {
		c.hide(s)
	}
	if err := c.restore(); err != nil {
		return nil, err
	}
	c.hideAll("", c.current)
	if c.written, err = encode(c.current); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return c, os.WriteFile(c.file, c.written, 0o600)
}

// restore applies what a tap changed in an earlier run.
func (c *config) restore() error {
	if c.state == "" {
		return nil
	}
	b, err := os.ReadFile(filepath.Join(c.state, rotationName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var r rotation
	if err == nil {
		d := json.NewDecoder(bytes.NewReader(b))
		d.UseNumber()
		err = d.Decode(&r)
	}
	if err != nil {
		return fmt.Errorf("kept configuration: %w", err)
	}
	if r.Base != c.base {
		return nil
	}
	maps.Copy(c.current, r.Changed)
	for _, name := range r.Removed {
		delete(c.current, name)
	}
	return nil
}

// keep compares the copy with what was written to it, and keeps what the tap changed.
func (c *config) keep() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	b, err := os.ReadFile(c.file)
	if err != nil {
		return fmt.Errorf("the tap's copy of its configuration: %w", err)
	}
	if bytes.Equal(b, c.written) {
		return nil
	}
	now, err := decode(b)
	if err != nil {
		return fmt.Errorf("the tap left its configuration as something that is no JSON object: %w", err)
	}
	if reflect.DeepEqual(now, c.current) {
		return nil
	}
	c.hideAll("", now)
	c.current, c.written = now, b
	if c.state == "" {
		return errors.New("the tap changed its configuration (rotated tokens?), and there is no state directory to keep that in: the next run may be locked out")
	}
	return c.save()
}

// save writes the difference to the operator's configuration. It is durable when it
// returns nil: a rotated token that is lost locks everyone out.
func (c *config) save() error {
	r := rotation{Base: c.base, Changed: make(map[string]any)}
	for name, v := range c.current {
		if old, ok := c.given[name]; !ok || !reflect.DeepEqual(old, v) {
			r.Changed[name] = v
		}
	}
	for name := range c.given {
		if _, ok := c.current[name]; !ok {
			r.Removed = append(r.Removed, name)
		}
	}
	b, err := encode(r)
	if err != nil {
		return fmt.Errorf("changed configuration: %w", err)
	}
	if err := replaceFile(filepath.Join(c.state, rotationName), b); err != nil {
		return fmt.Errorf("changed configuration: %w", err)
	}
	return nil
}

// replaceFile puts data in the place of a file, at once and durably.
func replaceFile(name string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(name), ".tap-config-") // 0600
	if err != nil {
		return err
	}
	_, werr := tmp.Write(data)
	err = errors.Join(werr, tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// wipe overwrites the copy before it is removed.
func (c *config) wipe() {
	if c != nil {
		os.WriteFile(c.file, make([]byte, len(c.written)), 0o600) // best effort: it is removed next
	}
}

func decode(b []byte) (map[string]any, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v map[string]any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if v == nil || d.More() {
		return nil, errors.New("not one JSON object")
	}
	return v, nil
}

func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(v)
	return b.Bytes(), err
}

// soundsSecret matches names of settings whose values must not be shown.
var soundsSecret = regexp.MustCompile(`(?i)pass|secret|token|key|auth|cred|private|pin$|cookie|session|signature|dsn|connection`)

// hideAll notes all texts below names that sound secret.
func (c *config) hideAll(name string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for n, x := range v {
			if soundsSecret.MatchString(name) {
				n = name // all that is inside is secret
			}
			c.hideAll(n, x)
		}
	case []any:
		for _, x := range v {
			c.hideAll(name, x)
		}
	case string:
		if soundsSecret.MatchString(name) {
			c.hide(v)
		}
	}
}

// hide notes a secret in the forms in which programs print it.
func (c *config) hide(s string) {
	if len(s) < 4 {
		return // would redact half of every message, and is no secret
	}
	quoted, _ := json.Marshal(s) // a string can always be marshalled
	for _, form := range []string{s, url.QueryEscape(s), url.PathEscape(s), string(quoted[1 : len(quoted)-1]), base64.StdEncoding.EncodeToString([]byte(s))} {
		if !slices.Contains(c.secrets, form) {
			c.secrets = append(c.secrets, form)
		}
	}
	// The longest first, lest a part of one remain.
	slices.SortFunc(c.secrets, func(a, b string) int { return len(b) - len(a) })
}

// redact makes text from the tap fit to be shown: without secrets, escaped.
func (c *config) redact(s string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, secret := range c.secrets {
		s = strings.ReplaceAll(s, secret, "[redacted]")
	}
	return dataset.Escape(s)
}
