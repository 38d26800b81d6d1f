package dataset

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"unicode/utf8"
)

// EncodeJSON is json.Marshal without its two surprises: a string that is not UTF-8 is an
// error (it would become U+FFFD in silence), and <, > and & stay as they are. Numbers
// and texts inside a json.RawMessage keep their lexemes.
func EncodeJSON(v any) ([]byte, error) {
	if err := checkStrings(reflect.ValueOf(v), ""); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// checkStrings fails with [ErrNotUTF8] at the first string in v that is not UTF-8; path
// says where v is. What a string with an encoder of its own makes of itself is up to it;
// other values with encoders of their own are looked into as well, which can refuse a
// string that would not be written.
func checkStrings(v reflect.Value, path string) error {
	switch v.Kind() {
	case reflect.String:
		if !v.Type().Implements(reflect.TypeFor[json.Marshaler]()) && !utf8.ValidString(v.String()) {
			return fmt.Errorf("%s: %w", path, ErrNotUTF8)
		}
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			return checkStrings(v.Elem(), path)
		}
	case reflect.Struct:
		for field, value := range v.Fields() {
			if !field.IsExported() && !field.Anonymous || field.Tag.Get("json") == "-" {
				continue // never written
			}
			if err := checkStrings(value, path+"."+field.Name); err != nil {
				return err
			}
		}
	case reflect.Map:
		for key, value := range v.Seq2() {
			if err := checkStrings(key, path+" key"); err != nil {
				return err
			}
			if err := checkStrings(value, fmt.Sprintf("%s[%v]", path, key)); err != nil {
				return err
			}
		}
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			// Bytes are written as base64 or by their own encoder, unless they are JSON.
			if v.Type() == reflect.TypeFor[json.RawMessage]() && !utf8.Valid(v.Bytes()) {
				return fmt.Errorf("%s: %w", path, ErrNotUTF8)
			}
			return nil
		}
		for i := range v.Len() {
			if err := checkStrings(v.Index(i), fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return err
			}
		}
	}
	return nil
}
