package archive

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/dwp/sallyport/dataset"
)

// maxDocument bounds a public document: the largest, a manifest, is a few KiB.
const maxDocument = 16 << 20

// encode writes v in the one canonical form: encoding/json with two-space
// indentation, no HTML escapes and a final line feed. Text that is not UTF-8 is an
// error.
func encode(v any) ([]byte, error) {
	compact, err := dataset.EncodeJSON(v)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, compact, "", "  "); err != nil {
		return nil, err
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}

// decode accepts only what encode writes: whatever a decoder might be lenient about
// (unknown or repeated members, white space, trailing bytes, invalid UTF-8) changes
// the bytes of the encoding again and is refused.
func decode(doc []byte, v any) error {
	if len(doc) > maxDocument {
		return errors.New("document is too large")
	}
	if !utf8.Valid(doc) {
		return errors.New("document is not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("bytes after the document")
	}
	again, err := encode(v)
	if err != nil {
		return fmt.Errorf("encode again: %w", err)
	}
	if !bytes.Equal(again, doc) {
		return errors.New("document is not in canonical form")
	}
	return nil
}
