package rest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/gob"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/dwp/sallyport/exporters/rest/jinja"
	"github.com/dwp/sallyport/internal/spool"
)

// A responseCache keeps the answers that parent streams are made of, for as long as the
// view: each is requested once, however many children and other streams ask for it. They
// lie in a sealed file; in memory an answer takes about a hundred bytes. The zero cache is
// empty. It is safe for concurrent use.
type responseCache struct {
	mu     sync.Mutex
	shelf  *spool.Shelf               // nil before the first answer
	kept   map[spool.ID]int           // numbers in the shelf
	asking map[spool.ID]chan struct{} // closed when whoever asks has an answer, or none
	closed bool
}

// answer returns the kept answer to a call, or has it asked for and keeps it if it is
// good. Of several that want the same answer at once, one asks; if that fails, so does the
// next for itself.
func (c *responseCache) answer(ctx context.Context, call string, ask func() (*answer, resolution, error)) (*answer, resolution, error) {
	sum := sha256.Sum256([]byte(call))
	id := spool.ID(sum[:16])
	for {
		c.mu.Lock()
		n, ok := c.kept[id]
		other := c.asking[id]
		if !ok && other == nil {
			if c.asking == nil {
				c.kept, c.asking = map[spool.ID]int{}, map[spool.ID]chan struct{}{}
			}
			c.asking[id] = make(chan struct{})
		}
		c.mu.Unlock()
		if ok {
			return c.get(n)
		}
		if other == nil {
			break
		}
		select {
		case <-other:
		case <-ctx.Done():
			return nil, resolution{}, context.Cause(ctx)
		}
	}
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		close(c.asking[id])
		delete(c.asking, id)
	}()
	a, res, err := ask()
	if err != nil || res.action != actSuccess || a.status >= 300 {
		return a, res, err
	}
	return a, res, c.put(id, a, res.matched)
}

// A keptAnswer is what of an answer lies in the shelf.
type keptAnswer struct {
	Status  int
	URL     string
	Header  http.Header
	Body    []byte
	Matched bool // of its resolution
}

func (c *responseCache) put(id spool.ID, a *answer, matched bool) error {
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(keptAnswer{a.status, a.url.String(), a.header, a.body, matched}); err != nil {
		return fmt.Errorf("keep an answer: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errors.New("the view is closed")
	}
	if c.shelf == nil {
		var err error
		if c.shelf, err = spool.NewShelf(""); err != nil {
			return fmt.Errorf("keep an answer: %w", err)
		}
	}
	n, err := c.shelf.Put(b.Bytes())
	if err != nil {
		return fmt.Errorf("keep an answer: %w", err)
	}
	c.kept[id] = n
	return nil
}

func (c *responseCache) get(n int) (*answer, resolution, error) {
	var k keptAnswer
	b, err := c.shelf.Get(n)
	if err == nil {
		err = gob.NewDecoder(bytes.NewReader(b)).Decode(&k)
	}
	if err != nil {
		return nil, resolution{}, fmt.Errorf("a kept answer: %w", err)
	}
	u, err := url.Parse(k.URL)
	if err != nil {
		return nil, resolution{}, fmt.Errorf("a kept answer: %w", err)
	}
	return &answer{status: k.Status, header: k.Header, body: k.Body, url: u, kept: true}, resolution{action: actSuccess, matched: k.Matched}, nil
}

func (c *responseCache) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed = true; c.shelf != nil {
		c.shelf.Close()
	}
}

// key identifies a call for the cache. It is a call without credentials, of which some are
// new each time, with the definition of where they come from.
func (c *call) key(auth string) string {
	var b strings.Builder
	b.WriteString(c.method + " " + c.url.String() + "\n" + auth + "\n")
	c.header.Write(&b)
	b.Write(c.body)
	return b.String()
}

// definition is what the manifest says of a component, as text: its own fields, without
// those that only came down from other components, and the parameters if it uses them.
func (n node) definition() string {
	text := jinja.Repr(n.ownFields(n.d))
	if strings.Contains(text, "parameters") {
		text += jinja.Repr(n.params)
	}
	return text
}

func (n node) ownFields(v jinja.Value) jinja.Value {
	d, ok := v.(*jinja.Dict)
	if !ok {
		return v
	}
	typ := d.Text("type")
	if typ == "ApiKey" || typ == "Bearer" {
		typ = "SessionTokenRequest" + typ + "Authenticator"
	}
	fields, known := n.b.cat.components[typ]
	own := new(jinja.Dict)
	for i := range d.Len() {
		k, v := d.At(i)
		_, has := fields[jinja.Str(k)]
		if has || !known && k != "$parameters" || k == "type" {
			own.Set(k, n.ownFields(v))
		}
	}
	return own
}
