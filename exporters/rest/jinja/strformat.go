package jinja

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// strFormat is Python's text.format(...).
func strFormat(f *frame, s string, a args) (Value, error) {
	var b strings.Builder
	auto := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if (c == '{' || c == '}') && i+1 < len(s) && s[i+1] == c {
			b.WriteByte(c)
			i++
			continue
		}
		if c == '}' {
			return nil, errorf(ValueError, "Single '}' encountered in format string")
		}
		if c != '{' {
			b.WriteByte(c)
			continue
		}
		end := strings.IndexByte(s[i:], '}')
		if end < 0 {
			return nil, errorf(ValueError, "expected '}' before end of string")
		}
		field := s[i+1 : i+end]
		i += end
		ref, specText, _ := strings.Cut(field, ":")
		ref, conv, _ := strings.Cut(ref, "!")
		v, err := f.formatField(ref, a, &auto)
		if err != nil {
			return nil, err
		}
		switch conv {
		case "":
		case "s":
			v = Str(v)
		case "r":
			v = Repr(v)
		default:
			return nil, errorf(ValueError, "unknown conversion specifier %q", conv)
		}
		if strings.Contains(specText, "{") {
			return nil, errorf(ValueError, "nested format fields are not supported")
		}
		out, err := f.formatValue(v, specText)
		if err != nil {
			return nil, err
		}
		b.WriteString(out)
	}
	return b.String(), f.made(b.Len())
}

// formatField finds the value of {0}, {}, {name}, {name.attr} or {name[key]}.
func (f *frame) formatField(ref string, a args, auto *int) (Value, error) {
	head := ref
	if i := strings.IndexAny(ref, ".["); i >= 0 {
		head = ref[:i]
	}
	rest := ref[len(head):]
	var v Value
	n, err := strconv.Atoi(head)
	switch {
	case head == "" && rest != "":
		return nil, errorf(otherError, "an accessor needs the name or number of an argument")
	case head == "":
		n = *auto
		*auto++
		fallthrough
	case err == nil:
		if n < 0 || n >= len(a.pos) {
			return nil, errorf(otherError, "Replacement index %d out of range for positional args tuple", n)
		}
		v = a.pos[n]
	default:
		found := false
		for _, k := range a.kw {
			if k.name == head {
				v, found = k.val, true
			}
		}
		if !found {
			return nil, errorf(otherError, "KeyError: %s", head)
		}
	}
	for rest != "" {
		var key Value
		if rest[0] == '.' {
			end := strings.IndexAny(rest[1:], ".[")
			if end < 0 {
				end = len(rest) - 1
			}
			key, rest = rest[1:1+end], rest[1+end:]
			if v, err = f.attr(v, key.(string)); err != nil {
				return nil, err
			}
			continue
		}
		end := strings.IndexByte(rest, ']')
		if end < 0 {
			return nil, errorf(ValueError, "expected ']' in a format field")
		}
		key, rest = rest[1:end], rest[end+1:]
		if i, err := strconv.ParseInt(key.(string), 10, 64); err == nil {
			key = i
		}
		if v, err = f.item(v, key); err != nil {
			return nil, err
		}
	}
	if u, ok := v.(*Undefined); ok && ref != head {
		return nil, u.err()
	}
	return v, nil
}

func (f *frame) formatValue(v Value, text string) (string, error) {
	if text == "" {
		return f.str(v)
	}
	switch d := v.(type) {
	case DateTime:
		return strftime(d.t, d.aware, text), nil
	case Date:
		return strftime(d.t, false, text), nil
	}
	sp, err := parseSpec(text)
	if err != nil {
		return "", err
	}
	if err := f.made(sp.width + max(sp.precision, 0)); err != nil {
		return "", err
	}
	if s, ok := v.(string); ok {
		if sp.verb != 0 && sp.verb != 's' {
			return "", errorf(ValueError, "Unknown format code '%c' for object of type 'str'", sp.verb)
		}
		if sp.precision >= 0 {
			s = firstRunes(s, sp.precision)
		}
		return sp.pad(s, '<'), nil
	}
	n, ok := number(v)
	if !ok {
		return "", errorf(TypeError, "unsupported format string passed to %s.__format__", typeName(v))
	}
	x, isFloat := n.(float64)
	switch {
	case sp.verb == 0 && isFloat && sp.precision < 0:
		s := FormatFloat(x)
		return sp.signed(strings.HasPrefix(s, "-"), strings.TrimPrefix(s, "-")), nil
	case sp.verb == 0 && isFloat:
		sp.verb = 'g'
		return sp.float(x), nil
	case strings.IndexByte("eEfFgG%", sp.verb) >= 0 && sp.verb != 0:
		return sp.float(toFloat(n)), nil
	case isFloat || sp.precision >= 0:
		return "", errorf(ValueError, "Unknown format code '%c' for object of type '%s'", sp.verb, typeName(v))
	case sp.verb == 'c':
		return percentOne(n, sp)
	}
	base, ok := map[byte]int{0: 10, 'd': 10, 'n': 10, 'x': 16, 'X': 16, 'o': 8, 'b': 2}[sp.verb]
	if !ok {
		return "", errorf(ValueError, "Unknown format code '%c' for object of type 'int'", sp.verb)
	}
	return sp.integer(toBig(n), base)
}

// parseSpec parses [[fill]align][sign][#][0][width][,][.precision][verb].
func parseSpec(s string) (spec, error) {
	sp := spec{fill: " ", precision: -1}
	r, size := utf8.DecodeRuneInString(s)
	if len(s) > size && strings.IndexByte("<>^=", s[size]) >= 0 {
		sp.fill, sp.align, s = string(r), s[size], s[size+1:]
	} else if s != "" && strings.IndexByte("<>^=", s[0]) >= 0 {
		sp.align, s = s[0], s[1:]
	}
	if s != "" && strings.IndexByte("+- ", s[0]) >= 0 {
		sp.sign, s = s[0], s[1:]
	}
	if strings.HasPrefix(s, "#") {
		sp.alt, s = true, s[1:]
	}
	if strings.HasPrefix(s, "0") {
		if sp.align == 0 {
			sp.fill, sp.align = "0", '='
		}
		s = s[1:]
	}
	i, n, err := formatNumber(s, 0, func() (Value, error) { return nil, errorf(ValueError, "invalid format specifier") })
	if err != nil {
		return sp, err
	}
	sp.width, s = n, s[i:]
	if s != "" && (s[0] == ',' || s[0] == '_') {
		sp.comma, s = s[0], s[1:]
	}
	if strings.HasPrefix(s, ".") {
		if i, n, err = formatNumber(s, 1, func() (Value, error) { return nil, errorf(ValueError, "invalid format specifier") }); err != nil {
			return sp, err
		}
		if i == 1 {
			return sp, errorf(ValueError, "Format specifier missing precision")
		}
		sp.precision, s = n, s[i:]
	}
	if len(s) > 1 {
		return sp, errorf(ValueError, "Invalid format specifier")
	}
	if s != "" {
		sp.verb = s[0]
	}
	return sp, nil
}
