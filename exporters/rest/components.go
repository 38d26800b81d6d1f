package rest

import (
	_ "embed"
	"slices"
	"strings"
)

//go:embed components.txt
var componentTable string

// A catalogue is the parsed table of components.
type catalogue struct {
	components map[string]map[string]field
	defaults   map[string]string // "Parent.field" to type
	customs    map[string]string // the same for components with a class_name
}

// A field of a component.
type field struct {
	required bool
	types    []string // component names and plain types
	list     bool     // [X]
	dict     bool     // {X}
	enum     []string
}

// loadCatalogue parses the table.
func loadCatalogue() *catalogue {
	c := &catalogue{map[string]map[string]field{}, map[string]string{}, map[string]string{}}
	var fields map[string]field
	for line := range strings.Lines(componentTable) {
		line = strings.TrimRight(line, " \n")
		words := strings.Fields(line)
		switch {
		case line == "" || line[0] == '#':
		case words[0] == "default" && len(words) == 3:
			c.defaults[words[1]] = words[2]
		case words[0] == "custom" && len(words) == 3:
			c.customs[words[1]] = words[2]
		case len(words) > 1 && words[1] == "|": // an alias of plain types
		case line[0] != ' ':
			fields = map[string]field{}
			c.components[words[0]] = fields
		default:
			name, rest, _ := strings.Cut(strings.TrimSpace(line), " : ")
			fields[strings.TrimSuffix(strings.TrimSuffix(name, "*"), " ")] = parseField(strings.HasSuffix(name, "*"), rest)
		}
	}
	return c
}

func parseField(required bool, s string) field {
	f := field{required: required}
	if list, ok := strings.CutPrefix(s, "enum["); ok {
		list, _, _ = strings.Cut(list, "]")
		for v := range strings.SplitSeq(list, ", ") {
			f.enum = append(f.enum, strings.Trim(v, "'"))
		}
		return f
	}
	types, _, _ := strings.Cut(s, " ")
	f.list = strings.Contains(types, "[")
	f.dict = strings.Contains(types, "{")
	f.types = strings.FieldsFunc(types, func(r rune) bool { return strings.ContainsRune("|[]{}", r) })
	return f
}

// enums are the aliases of the table that are lists of words.
var enums = map[string][]string{
	"ValueType":           {"string", "number", "integer", "boolean"},
	"SchemaNormalization": {"Default", "None"},
}

// isComponent reports whether a type of the table is a component with fields of its
// own, as opposed to text and numbers.
func (c *catalogue) isComponent(name string) bool {
	_, ok := c.components[name]
	return ok || strings.HasPrefix(name, "Custom")
}

// accepts reports whether a field may hold a component of the type.
func (f field) accepts(typ string) bool { return slices.Contains(f.types, typ) }
