package s3conn

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// An Entry is one line of a listing: an object, a version of one, or a delete marker.
type Entry struct {
	Key          string // raw bytes
	Version      string // "" in listings of current objects; "null" is a version
	Latest       bool   // the current version of its key
	Marker       bool   // a delete marker
	ETag         string // without quotes
	Size         int64
	Modified     time.Time
	StorageClass string // empty means STANDARD
	Owner        string
	Garbled      bool   // the server could not write the key down; the object cannot be asked for
	Checksum     string // algorithms and type as listed, "CRC64NVME/FULL_OBJECT"; or empty
}

// A page is one answer of a listing, parsed and not yet believed.
type page struct {
	root, bucket, prefix string
	urlEncoded           bool
	truncated            string // "true", "false", or what the server made of it
	token                string // NextContinuationToken
	keyMarker, idMarker  string // NextKeyMarker, NextVersionIdMarker
	keyCount             int    // or -1
	entries              []Entry
	prefixes             []string // CommonPrefixes
}

// parsePage reads a ListObjectsV2 or ListObjectVersions answer.
func parsePage(body string) (*page, error) {
	s := &scanner{src: body}
	kind, root, err := s.next()
	if err != nil {
		return nil, err
	}
	if kind != startElement {
		return nil, fmt.Errorf("%w: empty answer", errXML)
	}
	if root != "ListBucketResult" && root != "ListVersionsResult" {
		return nil, fmt.Errorf("%w: <%s> is no listing", errXML, clean(root, 64))
	}
	p := &page{root: root, keyCount: -1, entries: make([]Entry, 0, 1000)}
	seen := map[string]bool{}
	if err := s.children(func(name string) error { return p.element(s, name, seen) }); err != nil {
		return nil, err
	}
	if kind, v, err := s.next(); err != nil || kind != endOfDocument {
		return nil, fmt.Errorf("%w: %q after the root: %v", errXML, clean(v, 64), err)
	}
	return p, p.decode()
}

// element reads one child of the root. Scalars must not repeat.
func (p *page) element(s *scanner, name string, seen map[string]bool) error {
	switch name {
	case "Contents", "Version":
		return p.entry(s, false)
	case "DeleteMarker":
		return p.entry(s, true)
	case "CommonPrefixes":
		return s.children(func(name string) error {
			if name != "Prefix" {
				return s.skipElement()
			}
			v, err := s.text()
			p.prefixes = append(p.prefixes, v)
			return err
		})
	case "Name", "Prefix", "EncodingType", "IsTruncated", "NextContinuationToken", "NextKeyMarker", "NextVersionIdMarker", "KeyCount":
	default:
		return s.skipElement()
	}
	if seen[name] {
		return fmt.Errorf("%w: second <%s>", errXML, name)
	}
	seen[name] = true
	v, err := s.text()
	if err != nil {
		return err
	}
	switch name {
	case "Name":
		p.bucket = v
	case "Prefix":
		p.prefix = v
	case "EncodingType":
		p.urlEncoded = v == "url"
	case "IsTruncated":
		p.truncated = v
	case "NextContinuationToken":
		p.token = v
	case "NextKeyMarker":
		p.keyMarker = v
	case "NextVersionIdMarker":
		p.idMarker = v
	case "KeyCount":
		if p.keyCount, err = strconv.Atoi(v); err != nil || p.keyCount < 0 {
			return fmt.Errorf("%w: KeyCount %q", errXML, clean(v, 32))
		}
	}
	return nil
}

func (p *page) entry(s *scanner, marker bool) error {
	e := Entry{Marker: marker, Size: -1}
	var keys int
	err := s.children(func(name string) (err error) {
		var v string
		switch name {
		case "Key", "VersionId", "IsLatest", "ETag", "Size", "LastModified", "StorageClass", "ChecksumAlgorithm", "ChecksumType":
			if v, err = s.text(); err != nil {
				return err
			}
		case "Owner":
			return s.children(func(name string) error {
				v, err := s.text()
				if name == "ID" {
					e.Owner = v
				}
				return err
			})
		default:
			return s.skipElement()
		}
		switch name {
		case "Key":
			e.Key = v
			keys++
		case "VersionId":
			e.Version = v
		case "IsLatest":
			e.Latest = v == "true"
		case "ETag":
			e.ETag = strings.Trim(v, `"`)
		case "Size":
			if e.Size, err = strconv.ParseInt(v, 10, 64); err != nil || e.Size < 0 {
				return fmt.Errorf("%w: size %q", errXML, clean(v, 32))
			}
		case "LastModified":
			if e.Modified, err = time.Parse(time.RFC3339, v); err != nil {
				return fmt.Errorf("%w: time %q", errXML, clean(v, 64))
			}
		case "StorageClass":
			e.StorageClass = v
		case "ChecksumAlgorithm", "ChecksumType":
			e.Checksum = strings.TrimPrefix(e.Checksum+"/"+v, "/")
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case keys != 1:
		return fmt.Errorf("%w: an entry with %d keys", errXML, keys)
	case !marker && e.Size < 0:
		return fmt.Errorf("%w: an entry without a size", errXML)
	case e.Modified.IsZero():
		return fmt.Errorf("%w: an entry without a time", errXML)
	}
	if marker {
		e.Size = 0
	}
	p.entries = append(p.entries, e)
	return nil
}

// decode undoes encoding-type=url, if the server says that it applied it.
func (p *page) decode() error {
	if !p.urlEncoded {
		// XML cannot hold control characters: servers that do not encode keys for a URL
		// put a replacement character, and the name is lost.
		for i := range p.entries {
			p.entries[i].Garbled = strings.ContainsRune(p.entries[i].Key, utf8.RuneError)
		}
		return nil
	}
	fields := []*string{&p.prefix, &p.keyMarker}
	for i := range p.entries {
		fields = append(fields, &p.entries[i].Key)
	}
	for i := range p.prefixes {
		fields = append(fields, &p.prefixes[i])
	}
	for _, f := range fields {
		if strings.IndexByte(*f, '%') < 0 && strings.IndexByte(*f, '+') < 0 {
			continue
		}
		v, err := url.QueryUnescape(*f)
		if err != nil {
			return fmt.Errorf("%w: bad URL encoding of %q", errXML, clean(*f, 64))
		}
		*f = v
	}
	return nil
}

// arrange puts the versions of each key next to each other, newest first, where a
// server lists all delete markers apart from all versions: the two lists, each in the
// server's own order, are merged.
func (p *page) arrange() {
	split, changes := 0, 0
	for i := 1; i < len(p.entries); i++ {
		if p.entries[i].Marker != p.entries[i-1].Marker {
			split = i
			changes++
		}
	}
	if changes != 1 {
		return
	}
	a, b := p.entries[:split], p.entries[split:]
	merged := make([]Entry, 0, len(p.entries))
	for len(a) > 0 && len(b) > 0 {
		if comesFirst(&b[0], &a[0]) {
			merged, b = append(merged, b[0]), b[1:]
		} else {
			merged, a = append(merged, a[0]), a[1:]
		}
	}
	p.entries = append(append(merged, a...), b...)
}

// comesFirst reports whether x stands before y in a listing of versions.
func comesFirst(x, y *Entry) bool {
	if c := strings.Compare(x.Key, y.Key); c != 0 {
		return c < 0
	}
	if x.Latest != y.Latest {
		return x.Latest
	}
	if c := x.Modified.Compare(y.Modified); c != 0 {
		return c > 0
	}
	return x.Version > y.Version // gateways with such lists number versions by time
}
