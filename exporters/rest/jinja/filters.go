package jinja

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"html"
	"strings"
	"unicode/utf8"
)

// filterNamed returns a filter: one of Jinja's own, or one that the low-code
// framework adds.
func filterNamed(n string) (filter, bool) {
	if n == "map" { // it looks filters up itself
		return mapFilter, true
	}
	f, ok := filters[n]
	return f, ok
}

var filters = map[string]filter{
	// Added by the low-code framework.
	"hash":                  hashFilter,
	"hmac":                  hmacFilter,
	"base64encode":          codec(func(s string) (string, error) { return base64.StdEncoding.EncodeToString([]byte(s)), nil }),
	"base64binascii_decode": codec(func(s string) (string, error) { return base64.StdEncoding.EncodeToString([]byte(s)), nil }),
	"base64decode":          codec(decodeBase64),
	"string":                stringFilter,
	"regex_search":          regexSearch,
	"regex_replace":         regexReplace,

	// Jinja's own.
	"abs":        absFilter,
	"attr":       attrFilter,
	"batch":      batchFilter,
	"capitalize": textFilter(capitalize),
	"center":     centerFilter,
	"count":      lengthFilter,
	"d":          defaultFilter,
	"default":    defaultFilter,
	"dictsort":   dictSort,
	"e":          textFilter(html.EscapeString),
	"escape":     textFilter(html.EscapeString),
	"first":      edge(0),
	"float":      floatFilter,
	"format":     formatFilter,
	"groupby":    groupBy,
	"indent":     indentFilter,
	"int":        intFilter,
	"items":      itemsFilter,
	"join":       joinFilter,
	"last":       edge(-1),
	"length":     lengthFilter,
	"list":       listFilter,
	"lower":      textFilter(strings.ToLower),
	"max":        extremeFilter(1),
	"min":        extremeFilter(-1),
	"reject":     pick(false, false),
	"rejectattr": pick(true, false),
	"replace":    replaceFilter,
	"reverse":    reverseFilter,
	"round":      roundFilter,
	"safe":       textFilter(func(s string) string { return s }),
	"select":     pick(false, true),
	"selectattr": pick(true, true),
	"slice":      sliceFilter,
	"sort":       sortFilter,
	"sum":        sumFilter,
	"title":      textFilter(titleFilter),
	"tojson":     toJSON,
	"trim":       trimFilter,
	"truncate":   truncateFilter,
	"unique":     uniqueFilter,
	"upper":      textFilter(upper),
	"urlencode":  urlEncode,
	"wordcount":  wordCount,
}

// textFilter is a filter that works on str(value).
func textFilter(fn func(string) string) filter {
	return func(f *frame, v Value, a args) (Value, error) {
		if _, err := a.take(0); err != nil {
			return nil, err
		}
		s, err := f.str(v)
		if err != nil {
			return nil, err
		}
		return fn(s), f.made(len(s))
	}
}

// codec is a filter that takes a text and nothing else.
func codec(fn func(string) (string, error)) filter {
	return func(f *frame, v Value, a args) (Value, error) {
		s, ok := v.(string)
		if !ok {
			return nil, needs("a text", v)
		}
		out, err := fn(s)
		if err != nil {
			return nil, err
		}
		return out, f.made(len(out))
	}
}

func decodeBase64(s string) (string, error) {
	kept := strings.Map(func(r rune) rune { // Python's decoder skips other characters
		if r < 128 && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("+/=", r)) {
			return r
		}
		return -1
	}, s)
	b, err := base64.StdEncoding.DecodeString(kept)
	if err != nil {
		return "", errorf(ValueError, "malformed base64")
	}
	if !utf8.Valid(b) {
		return "", errorf(ValueError, "the decoded bytes are not UTF-8")
	}
	return string(b), nil
}

func newHash(n string) (func() hash.Hash, error) {
	switch n {
	case "md5":
		return md5.New, nil
	case "sha1":
		return sha1.New, nil
	case "sha224":
		return sha256.New224, nil
	case "sha256":
		return sha256.New, nil
	case "sha384":
		return sha512.New384, nil
	case "sha512":
		return sha512.New, nil
	}
	return nil, errorf(otherError, "no hashing function named %q", n)
}

func hashFilter(f *frame, v Value, a args) (Value, error) {
	p, err := a.take(0, "hash_type", "salt")
	if err != nil {
		return nil, err
	}
	kind, err := textOr(p[0], "md5")
	if err != nil {
		return nil, err
	}
	h, err := newHash(kind)
	if err != nil {
		return nil, err
	}
	sum := h()
	sum.Write([]byte(Str(v)))
	if given(p[1]) && Truth(p[1]) {
		sum.Write([]byte(Str(p[1])))
	}
	return hex.EncodeToString(sum.Sum(nil)), f.spend(16)
}

func hmacFilter(f *frame, v Value, a args) (Value, error) {
	p, err := a.take(1, "key", "hash_type")
	if err != nil {
		return nil, err
	}
	kind, err := textOr(p[1], "sha256")
	if err != nil {
		return nil, err
	}
	h, err := newHash(kind)
	if err != nil {
		return nil, err
	}
	mac := hmac.New(h, []byte(Str(p[0])))
	mac.Write([]byte(Str(v)))
	return hex.EncodeToString(mac.Sum(nil)), f.spend(16)
}

// stringFilter marks what is no text so that it is read back as text: JSON in
// triple quotes.
func stringFilter(f *frame, v Value, a args) (Value, error) {
	switch x := v.(type) {
	case string:
		return x, nil
	case *Undefined:
		return nil, errorf(TypeError, "an undefined value is not JSON")
	}
	b, err := dumps(v, false)
	if err != nil {
		return nil, err
	}
	return `"""` + b + `"""`, f.made(len(b))
}

// needs is the error of a filter that got the wrong type of value.
func needs(what string, v Value) error {
	if u, ok := v.(*Undefined); ok {
		return u.err()
	}
	return errorf(TypeError, "%s was expected, not %s", what, typeName(v))
}

func attrFilter(f *frame, v Value, a args) (Value, error) {
	p, err := a.take(1, "name")
	if err != nil {
		return nil, err
	}
	n := Str(p[0])
	if x, ok := attribute(v, n); ok {
		return x, nil
	}
	return &Undefined{"no attribute '" + n + "'"}, nil
}

func centerFilter(f *frame, v Value, a args) (Value, error) {
	p, err := a.take(0, "width")
	if err != nil {
		return nil, err
	}
	width, err := intOr(p[0], 80)
	if err == nil {
		err = f.made(width)
	}
	if err != nil {
		return nil, err
	}
	return pad(Str(v), width, " ", 1, 1), nil
}

func lengthFilter(f *frame, v Value, a args) (Value, error) {
	switch x := v.(type) {
	case string:
		return int64(utf8.RuneCountInString(x)), nil
	case Bytes:
		return int64(len(x)), nil
	case *List:
		if x.view != "generator" {
			return int64(len(x.Items)), nil
		}
	case Tuple:
		return int64(len(x)), nil
	case *Dict:
		return int64(x.Len()), nil
	case *Set:
		return int64(x.d.Len()), nil
	case *Undefined:
		return int64(0), nil
	}
	return nil, errorf(TypeError, "object of type '%s' has no len()", typeName(v))
}

func defaultFilter(f *frame, v Value, a args) (Value, error) {
	p, err := a.take(0, "default_value", "boolean")
	if err != nil {
		return nil, err
	}
	_, undefined := v.(*Undefined)
	if undefined || boolOr(p[1], false) && !Truth(v) {
		if given(p[0]) {
			return p[0], nil
		}
		return "", nil
	}
	return v, nil
}

func replaceFilter(f *frame, v Value, a args) (Value, error) {
	p, err := a.take(2, "old", "new", "count")
	if err != nil {
		return nil, err
	}
	s, err := f.str(v)
	if err != nil {
		return nil, err
	}
	rest := []Value{Str(p[0]), Str(p[1])}
	if given(p[2]) && p[2] != nil {
		rest = append(rest, p[2])
	}
	return replaceText(f, s, args{pos: rest})
}

func titleFilter(s string) string {
	var b strings.Builder
	start := true
	for _, r := range s {
		if start {
			b.WriteString(strings.ToUpper(string(r)))
		} else {
			b.WriteString(strings.ToLower(string(r)))
		}
		start = strings.ContainsRune("-({[<", r) || isSpace(r)
	}
	return b.String()
}

func trimFilter(f *frame, v Value, a args) (Value, error) {
	p, err := a.take(0, "chars")
	if err != nil {
		return nil, err
	}
	s, err := f.str(v)
	if err != nil {
		return nil, err
	}
	if !given(p[0]) {
		p = nil
	}
	return stripper(true, true)(f, s, args{pos: p})
}

func truncateFilter(f *frame, v Value, a args) (Value, error) {
	p, err := a.take(0, "length", "killwords", "end", "leeway")
	if err != nil {
		return nil, err
	}
	length, err := intOr(p[0], 255)
	if err != nil {
		return nil, err
	}
	end, err := textOr(p[2], "...")
	if err != nil {
		return nil, err
	}
	leeway := 5
	if given(p[3]) && p[3] != nil {
		if leeway, err = intOr(p[3], 5); err != nil {
			return nil, err
		}
	}
	s, ok := v.(string)
	if !ok {
		return nil, needs("a text", v)
	}
	r := []rune(s)
	keep := length - utf8.RuneCountInString(end)
	if keep < 0 || leeway < 0 {
		return nil, errorf(otherError, "expected a length of at least that of the end mark")
	}
	if len(r) <= length+leeway {
		return s, nil
	}
	cut := string(r[:keep])
	if !boolOr(p[1], false) {
		if i := strings.LastIndex(cut, " "); i >= 0 {
			cut = cut[:i]
		}
	}
	return cut + end, nil
}

func indentFilter(f *frame, v Value, a args) (Value, error) {
	p, err := a.take(0, "width", "first", "blank")
	if err != nil {
		return nil, err
	}
	fill, isText := p[0].(string)
	if !isText {
		width, err := intOr(p[0], 4)
		if err == nil {
			err = f.made(width)
		}
		if err != nil {
			return nil, err
		}
		fill = strings.Repeat(" ", max(width, 0))
	}
	s, ok := v.(string)
	if !ok {
		return nil, needs("a text", v)
	}
	lines := strings.Split(s, "\n")
	if err := f.made(len(s) + len(lines)*len(fill)); err != nil {
		return nil, err
	}
	for i, l := range lines {
		if i == 0 && boolOr(p[1], false) || i > 0 && (l != "" || boolOr(p[2], false)) {
			lines[i] = fill + l
		}
	}
	return strings.Join(lines, "\n"), nil
}

// urlEncode quotes a text (keeping slashes), or makes a query of pairs.
func urlEncode(f *frame, v Value, a args) (Value, error) {
	if _, err := a.take(0); err != nil {
		return nil, err
	}
	var items []Value
	switch x := v.(type) {
	case *Dict:
		items = x.pairs()
	case *List:
		items = x.Items
	case Tuple:
		items = x
	default:
		s, err := f.str(v)
		return quote(s, "/"), err
	}
	var parts []string
	for _, e := range items {
		kv, err := f.iterate(e)
		if err != nil {
			return nil, err
		}
		if len(kv) != 2 {
			return nil, errorf(ValueError, "urlencode takes pairs")
		}
		parts = append(parts, QuotePlus(Str(kv[0]))+"="+QuotePlus(Str(kv[1])))
	}
	return strings.Join(parts, "&"), nil
}

func wordCount(f *frame, v Value, a args) (Value, error) {
	s, err := f.str(v)
	if err != nil {
		return nil, err
	}
	words := strings.FieldsFunc(s, func(r rune) bool { return !isWord(r) })
	return int64(len(words)), f.made(len(s))
}
