package sqldb

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// definitionsStream is the stream of everything that is no table: views, routines,
// triggers, types and sequences, one record each.
const definitionsStream = "(definitions)"

// streamName names the stream of a table: its name, after its schema and a point if
// it has one. A part that holds a point or a double quote, or begins with an opening
// parenthesis, is put in double quotes, so different tables have different names.
func streamName(schema, table string) string {
	if schema == "" {
		return namePart(table)
	}
	return namePart(schema) + "." + namePart(table)
}

func namePart(s string) string {
	if s == "" || strings.HasPrefix(s, "(") || strings.ContainsAny(s, `."`) {
		return doubleQuoted(s)
	}
	return s
}

// doubleQuoted quotes an identifier for PostgreSQL and SQLite.
func doubleQuoted(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// backQuoted quotes an identifier for MySQL.
func backQuoted(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

// singleQuoted quotes text for a database that takes a backslash as it is.
func singleQuoted(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// checkName refuses what no identifier can be: SQL text cannot hold a NUL, and a cut
// name could be another one.
func checkName(name string, maxBytes, maxRunes int) error {
	switch {
	case name == "":
		return errors.New("empty name")
	case strings.ContainsRune(name, 0):
		return fmt.Errorf("name %q holds a NUL", name)
	case !utf8.ValidString(name):
		return fmt.Errorf("name %q is not UTF-8", name)
	case maxBytes > 0 && len(name) > maxBytes:
		return fmt.Errorf("name %q is longer than %d bytes", name, maxBytes)
	case maxRunes > 0 && utf8.RuneCountInString(name) > maxRunes:
		return fmt.Errorf("name %q is longer than %d characters", name, maxRunes)
	}
	return nil
}

// quoteAll quotes names and joins them with commas.
func quoteAll(quote func(string) string, names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = quote(n)
	}
	return strings.Join(quoted, ", ")
}
