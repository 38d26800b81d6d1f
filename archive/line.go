package archive

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/dwp/sallyport/dataset"
)

// A Location finds one segment of a blob.
type Location struct {
	Pack   int    `json:"pack"`   // index into the part's own table of packs
	Offset int64  `json:"offset"` // in the pack's zstd stream
	Length int64  `json:"length"` // of the frames that hold the member
	Member string `json:"member"` // in the pack's tar stream
	Size   int64  `json:"size"`   // bytes of the segment
}

// A Line is one line of the index of a blob stream.
type Line struct {
	Key     string
	Ordinal int
	Data    json.RawMessage // what the source says of the object

	HasBlob  bool // false for a delete marker
	Size     int64
	SHA256   dataset.Hash
	Path     string     // where restore instructions put the bytes, relative to the stream
	Location []Location // segments in order; empty for an empty blob
}

// wireLine is a Line as its JSON has it, in this order of members.
type wireLine struct {
	Key      *string         `json:"key,omitempty"`
	KeyB64   *string         `json:"key_b64,omitempty"`
	Ordinal  int             `json:"ordinal"`
	Data     json.RawMessage `json:"data"`
	Size     *int64          `json:"size,omitempty"`
	SHA256   dataset.Hash    `json:"sha256,omitzero"`
	Path     string          `json:"path,omitempty"`
	Location []Location      `json:"location,omitzero"`
}

// locationMember begins the last member of a line with a blob. What comes after it is
// ours alone and never holds these bytes again.
var locationMember = []byte(`,"location":[`)

// appendLine appends the line without its line feed. Data must be compact.
func (l *Line) appendLine(dst []byte) ([]byte, error) {
	dst, err := appendKey(append(dst, '{'), "key", l.Key)
	if err != nil {
		return nil, err
	}
	dst = append(dst, `,"ordinal":`...)
	dst = strconv.AppendInt(dst, int64(l.Ordinal), 10)
	dst = append(dst, `,"data":`...)
	dst = append(dst, l.Data...)
	if l.HasBlob {
		dst = append(dst, `,"size":`...)
		dst = strconv.AppendInt(dst, l.Size, 10)
		dst = append(dst, `,"sha256":"`...)
		dst = append(dst, l.SHA256.String()...)
		dst = append(dst, `","path":"`...)
		dst = append(dst, l.Path...) // of dataset.Paths: nothing in it needs escaping
		dst = append(dst, '"')
		dst = append(dst, locationMember...)
		for i, s := range l.Location {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = s.appendJSON(dst)
		}
		dst = append(dst, ']')
	}
	return append(dst, '}'), nil
}

func (s Location) appendJSON(dst []byte) []byte {
	dst = append(dst, `{"pack":`...)
	dst = strconv.AppendInt(dst, int64(s.Pack), 10)
	dst = append(dst, `,"offset":`...)
	dst = strconv.AppendInt(dst, s.Offset, 10)
	dst = append(dst, `,"length":`...)
	dst = strconv.AppendInt(dst, s.Length, 10)
	dst = append(dst, `,"member":"`...)
	dst = append(dst, s.Member...)
	dst = append(dst, `","size":`...)
	dst = strconv.AppendInt(dst, s.Size, 10)
	return append(dst, '}')
}

// appendKey appends a member that holds raw bytes: as text if they are UTF-8, else as
// <name>_b64.
func appendKey(dst []byte, name, raw string) ([]byte, error) {
	dst = append(dst, '"')
	dst = append(dst, name...)
	if plain(raw) {
		dst = append(dst, `":"`...)
		dst = append(dst, raw...)
		return append(dst, '"'), nil
	}
	if utf8.ValidString(raw) {
		dst = append(dst, `":`...)
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(raw); err != nil {
			return nil, err
		}
		return append(dst, b.Bytes()[:b.Len()-1]...), nil
	}
	dst = append(dst, `_b64":"`...)
	dst = base64.StdEncoding.AppendEncode(dst, []byte(raw))
	return append(dst, '"'), nil
}

// plain reports whether encoding/json would write s as it is.
func plain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// ParseLine accepts only what appendLine writes. The data may be those of line itself.
func ParseLine(line []byte) (*Line, error) {
	l, ok := parsePlain(line)
	if !ok {
		var err error
		if l, err = parseAny(line); err != nil {
			return nil, err
		}
	}
	return l, l.check()
}

func parseAny(line []byte) (*Line, error) {
	var w wireLine
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&w); err != nil {
		return nil, err
	}
	key, err := parseKey(w.Key, w.KeyB64)
	if err != nil {
		return nil, err
	}
	l := &Line{Key: key, Ordinal: w.Ordinal, Data: w.Data, SHA256: w.SHA256, Path: w.Path, Location: w.Location}
	if w.Size != nil {
		l.HasBlob, l.Size = true, *w.Size
	}
	again, err := l.appendLine(make([]byte, 0, len(line)))
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, line) {
		return nil, errors.New("index line is not in canonical form")
	}
	return l, nil
}

func (l *Line) check() error {
	if l.HasBlob && !linePath(l.Path) {
		return fmt.Errorf("path %q is not one that is written", l.Path)
	}
	var sum int64
	for i, s := range l.Location {
		if s.Pack < 0 || s.Offset < 0 || s.Length < 1 || s.Size < 1 || s.Size > SegmentSize || !memberName(s.Member) {
			return fmt.Errorf("location %d is malformed", i)
		}
		sum += s.Size
	}
	if sum != l.Size {
		return fmt.Errorf("segments hold %d bytes of %d", sum, l.Size)
	}
	return nil
}

// linePath reports whether p has the form of a path of a line. Whoever restores with
// stock tools makes files of that name, so it must be harmless whoever signed it.
func linePath(p string) bool {
	folder, rest, _ := strings.Cut(p, "/")
	if folder != "objects" && folder != "versions" {
		return false
	}
	prev := byte('/')
	for i := range len(rest) {
		switch c := rest[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("_=+,@~", c) >= 0:
		case prev != '/' && (c == '.' || c == '-' || c == '/'):
		default:
			return false
		}
		prev = rest[i]
	}
	return prev != '/'
}

func parseKey(text, b64 *string) (string, error) {
	switch {
	case text != nil && b64 == nil:
		return *text, nil
	case text == nil && b64 != nil:
		raw, err := base64.StdEncoding.DecodeString(*b64)
		return string(raw), err
	}
	return "", errors.New("needs exactly one of key and key_b64")
}

// provenLine is what a leaf of the tree covers: the line without its location, which
// may change when packs are written anew. A line with a location ends in "]}", one
// without in the two braces of its data.
func provenLine(dst, line []byte) []byte {
	i := bytes.LastIndex(line, locationMember)
	if i < 0 || !bytes.HasSuffix(line, []byte("]}")) {
		return append(dst[:0], line...)
	}
	return append(append(dst[:0], line[:i]...), '}')
}

// Enveloped reports whether the lines of a stream are index lines, which carry the
// key and ordinal beside the data: those of blobs, and those of records whose key
// their data does not tell. All other lines are the data and nothing else.
func Enveloped(s *dataset.Stream) bool {
	return s.Blobs || !s.Keyless && (s.Schema == nil || len(s.Schema.PrimaryKey) == 0)
}

// A PartEntry is one line of a part table.
type PartEntry struct {
	Part     string          `json:"part"` // <run id>-<counter>
	Count    int64           `json:"count"`
	First    Key             `json:"first"` // of its first record
	Last     Key             `json:"last"`
	Bytes    int64           `json:"bytes"`
	SHA256   dataset.Hash    `json:"sha256"` // of all lines
	Salt     dataset.PartKey `json:"salt"`   // the random key that blinds the leaves
	Root     dataset.Hash    `json:"root"`
	Location MemberRef       `json:"location"`
	Packs    []dataset.Hash  `json:"packs,omitempty"` // what the lines' locations refer to
	Blobs    int64           `json:"blobs,omitempty"`
	Content  int64           `json:"blob_bytes,omitempty"`
	CSV      *CSVPart        `json:"csv,omitempty"` // the same records as CSV; never in version 1
}

// A Key is raw bytes that JSON has as {"key": text} or {"key_b64": base64}.
type Key string

// MarshalJSON implements [json.Marshaler].
func (k Key) MarshalJSON() ([]byte, error) {
	b, err := appendKey([]byte{'{'}, "key", string(k))
	return append(b, '}'), err
}

// UnmarshalJSON implements [json.Unmarshaler].
func (k *Key) UnmarshalJSON(b []byte) error {
	var w struct {
		Key    *string `json:"key"`
		KeyB64 *string `json:"key_b64"`
	}
	if err := json.Unmarshal(b, &w); err != nil {
		return err
	}
	raw, err := parseKey(w.Key, w.KeyB64)
	*k = Key(raw)
	return err
}

// GapLine is one line of the ledger of gaps.
type GapLine struct {
	Stream  string       `json:"stream"`
	Key     Key          `json:"key"`
	Ordinal int          `json:"ordinal"`
	Code    dataset.Code `json:"code"`
	Detail  string       `json:"detail"`
}

// SecondLine is one line of the ledger of second readings: what a second reading of
// the source saw otherwise than the first.
type SecondLine struct {
	Stream  string `json:"stream"`
	Key     Key    `json:"key"`
	Ordinal int    `json:"ordinal"`
	Status  string `json:"status"` // of package reconcile; docs/archive-format.md lists them
	Detail  string `json:"detail"`
}

// encodeLine writes v as one compact line without line feed. Text that is not UTF-8 is
// an error.
func encodeLine(v any) ([]byte, error) { return dataset.EncodeJSON(v) }

// decodeLine accepts only what encodeLine writes.
func decodeLine(line []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	again, err := encodeLine(v)
	if err != nil {
		return err
	}
	if !bytes.Equal(again, line) {
		return errors.New("line is not in canonical form")
	}
	return nil
}
