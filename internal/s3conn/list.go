package s3conn

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"strconv"
	"strings"
)

// A Listing says what to list.
type Listing struct {
	Prefix   string
	After    string // list keys above this one
	UpTo     string // and not above this one; empty means to the end
	Versions bool   // every version and delete marker instead of current objects
	PageSize int    // 0 means 1000, the most that S3 allows
}

const (
	maxPage       = 16 << 20 // bytes; 1,000 keys of 1,024 escaped bytes need 4 MiB
	maxEmptyPages = 3        // in a row, from the same place, that claim not to be the last
)

// List yields the entries of l in byte order of keys, the versions of one key from the
// newest. It believes nothing: an error document or a page with status 200 that is no
// listing, another bucket's name, keys that do not rise, a repeated token or version,
// a page that says neither that more follows nor that none does, all end the sequence
// with an error. After the page that claims to be the last the server is asked once
// more, from the last key: what comes then is yielded too. A page without keys that
// claims not to be the last is asked for again from the last key: following its token
// would lose what a filtering gateway dropped.
//
// The next page is fetched while one is consumed.
func (c *Conn) List(ctx context.Context, l Listing) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		l.Prefix = c.prefix + l.Prefix
		if l.After != "" {
			l.After = c.prefix + l.After
		}
		if l.UpTo != "" {
			l.UpTo = c.prefix + l.UpTo
		}
		ctx, cancel := context.WithCancel(ctx)
		pages := make(chan []Entry, 1)
		var failure error
		go func() {
			defer close(pages)
			failure = c.pages(ctx, l, pages)
		}()
		defer func() {
			cancel()
			for range pages { // the fetcher has an owner that waits for it
			}
		}()
		for entries := range pages {
			for _, e := range entries {
				e.Key = e.Key[len(c.prefix):]
				if !yield(e, nil) {
					return
				}
			}
		}
		if failure != nil { // written before the channel was closed
			yield(Entry{}, failure)
		}
	}
}

// A cursor is where a listing stands, and what it has seen.
type cursor struct {
	l     Listing
	token string // of ListObjectsV2
	start string // StartAfter, where there is no token
	key   string // KeyMarker of ListObjectVersions
	id    string // VersionIdMarker

	last    Entry           // the last one accepted
	ids     map[string]bool // versions of last.Key on this page
	before  map[string]bool // and on the page before
	places  map[string]bool // tokens and markers used
	empty   int             // pages without entries, in a row
	confirm bool            // this request only makes sure that nothing follows
}

// pages sends the pages of l until the last, checked and cut to the range.
func (c *Conn) pages(ctx context.Context, l Listing, out chan<- []Entry) error {
	if l.PageSize <= 0 {
		l.PageSize = 1000
	}
	at := &cursor{l: l, start: l.After, key: l.After, places: map[string]bool{}}
	for {
		p, err := c.page(ctx, at)
		if err != nil {
			return fmt.Errorf("list bucket %s: %w", c.Bucket, err)
		}
		entries, done, err := at.accept(p, c.Bucket)
		if err != nil {
			return fmt.Errorf("list bucket %s: %w: %w", c.Bucket, ErrBadAnswer, err)
		}
		if len(entries) > 0 {
			select {
			case out <- entries:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		if done {
			return nil
		}
	}
}

// page fetches and parses the page at a cursor.
func (c *Conn) page(ctx context.Context, at *cursor) (*page, error) {
	q := [][2]string{
		{"encoding-type", "url"},
		{"max-keys", strconv.Itoa(at.l.PageSize)},
		{"prefix", at.l.Prefix},
	}
	op := "list objects"
	if at.l.Versions {
		op = "list versions"
		q = append(q, [2]string{"versions", ""})
		if at.key != "" {
			q = append(q, [2]string{"key-marker", at.key})
		}
		if at.id != "" {
			q = append(q, [2]string{"version-id-marker", at.id})
		}
	} else {
		q = append(q, [2]string{"list-type", "2"})
		if at.token != "" {
			q = append(q, [2]string{"continuation-token", at.token})
		} else if at.start != "" {
			q = append(q, [2]string{"start-after", at.start})
		}
	}
	body, _, err := c.Call(ctx, &Request{Op: op, Method: http.MethodGet, Query: q}, maxPage)
	if err != nil {
		return nil, err
	}
	p, err := parsePage(string(body))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadAnswer, err)
	}
	return p, nil
}

// accept checks a page against everything seen before it, moves the cursor and returns
// the entries within the range. done says that nothing more is to be asked.
func (at *cursor) accept(p *page, bucket string) (entries []Entry, done bool, err error) {
	want := "ListBucketResult"
	if at.l.Versions {
		want = "ListVersionsResult"
	}
	switch {
	case p.root != want:
		return nil, false, fmt.Errorf("a <%s> where <%s> is due", p.root, want)
	case p.bucket != bucket:
		return nil, false, fmt.Errorf("it is of bucket %q", clean(p.bucket, 64))
	case p.prefix != at.l.Prefix:
		return nil, false, fmt.Errorf("it is of prefix %q", clean(p.prefix, 128))
	case p.truncated != "true" && p.truncated != "false":
		return nil, false, fmt.Errorf("it does not say whether more follows")
	case len(p.prefixes) > 0:
		return nil, false, fmt.Errorf("it groups keys, which was not asked for")
	case p.keyCount >= 0 && p.keyCount != len(p.entries):
		return nil, false, fmt.Errorf("it claims %d keys and holds %d", p.keyCount, len(p.entries))
	}
	if at.l.Versions {
		p.arrange()
	}
	p.entries = at.overlap(p.entries)
	if len(p.entries) > 0 {
		at.before, at.ids = at.ids, map[string]bool{}
	}
	for i := range p.entries {
		if err := at.follow(&p.entries[i]); err != nil {
			return nil, false, err
		}
	}
	entries = p.entries
	if at.l.UpTo != "" {
		for i := range entries {
			if entries[i].Key > at.l.UpTo {
				return entries[:i], true, nil
			}
		}
	}
	done, err = at.advance(p)
	return entries, done, err
}

// overlap drops what a page of versions repeats at its beginning: some gateways take
// markers as the first entry wanted and not as the last one had. Only versions of the
// marker's own key that the page before had count as such.
func (at *cursor) overlap(entries []Entry) []Entry {
	if !at.l.Versions {
		return entries
	}
	i := 0
	for i < len(entries) && (at.last.Key == "" && entries[i].Key == at.l.After ||
		at.last.Key != "" && entries[i].Key == at.last.Key && (at.ids[entries[i].Version] || at.before[entries[i].Version])) {
		i++
	}
	return entries[i:]
}

// follow accepts e as the next entry.
func (at *cursor) follow(e *Entry) error {
	last := &at.last
	switch {
	case !strings.HasPrefix(e.Key, at.l.Prefix):
		return fmt.Errorf("key %q is outside the prefix", clean(e.Key, 128))
	case e.Key == "":
		return fmt.Errorf("a key is empty")
	case e.Key <= at.l.After:
		return fmt.Errorf("key %q is not above the start", clean(e.Key, 128))
	case e.Key < last.Key, e.Key == last.Key && !at.l.Versions:
		return fmt.Errorf("key %q does not rise", clean(e.Key, 128))
	}
	if !at.l.Versions {
		e.Latest = true
		*last = *e
		return nil
	}
	if e.Version == "" {
		return fmt.Errorf("key %q has a version without an id", clean(e.Key, 128))
	}
	first := e.Key != last.Key
	switch {
	case first:
		clear(at.ids)
		clear(at.before)
	case at.ids[e.Version], at.before[e.Version]:
		return fmt.Errorf("version %q of key %q is repeated", clean(e.Version, 64), clean(e.Key, 128))
	}
	if e.Latest != first {
		return fmt.Errorf("the versions of key %q are out of order", clean(e.Key, 128))
	}
	at.ids[e.Version] = true
	*last = *e
	return nil
}

// restart moves to the place after the last entry accepted, without a token.
func (at *cursor) restart() {
	at.token, at.start = "", at.l.After
	at.key, at.id = at.l.After, ""
	if at.last.Key != "" {
		at.start, at.key, at.id = at.last.Key, at.last.Key, at.last.Version
	}
}

// advance moves to the place after p and reports whether that is the end.
func (at *cursor) advance(p *page) (done bool, err error) {
	if len(p.entries) == 0 {
		at.empty++
	} else {
		at.empty = 0
	}
	more := p.truncated == "true"
	switch {
	case at.empty > maxEmptyPages:
		return false, fmt.Errorf("%d pages without keys that claim not to be the last", at.empty)
	case !more && p.token != "":
		return false, fmt.Errorf("it says that it is the last and names a next")
	case !more && (at.confirm && len(p.entries) == 0 || at.last.Key == ""):
		return true, nil
	case !more: // make sure
		at.confirm = true
		at.restart()
		return false, nil
	case len(p.entries) == 0:
		at.restart()
		return false, nil
	}
	at.confirm = false
	place := p.token
	if at.l.Versions {
		place = p.keyMarker + "\x00" + p.idMarker
		if p.keyMarker == "" {
			place = ""
		}
	}
	switch {
	case place == "":
		return false, fmt.Errorf("it says that more follows and not where")
	case at.places[place]:
		return false, fmt.Errorf("it repeats a continuation token")
	case at.l.Versions && p.keyMarker < at.last.Key:
		return false, fmt.Errorf("its next marker goes backwards")
	}
	at.places[strings.Clone(place)] = true // else it would hold the text of its page
	at.token, at.start = p.token, ""
	at.key, at.id = p.keyMarker, p.idMarker
	return false, nil
}
