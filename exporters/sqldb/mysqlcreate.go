package sqldb

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

var (
	// mysqlType is what may stand as a type in a statement; in quotes, the members of
	// ENUM and SET.
	mysqlType      = regexp.MustCompile(`^(?i)[a-z0-9]+( precision)?(\(\s*(\d+(\s*,\s*\d+)?|'([^']|'')*'(,'([^']|'')*')*)\s*\))?( unsigned)?( zerofill)?$`)
	mysqlCollation = regexp.MustCompile(`^[a-z0-9_]+$`)
)

// mysqlCreate are the statements that make a table with its primary key, by which
// InnoDB stores it.
func (t *tableLayout) mysqlCreate(exact string) ([]string, error) {
	name := backQuoted(t.Name)
	end := ") ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE "
	if t.Document {
		all := []string{"CREATE TABLE " + name + " (record_key LONGBLOB NOT NULL, record_ordinal BIGINT NOT NULL, record LONGTEXT NOT NULL" + end + exact}
		if t.View != "" {
			all = append(all, t.mysqlDocumentView())
		}
		return all, nil
	}
	s := t.Stream.Schema
	native := mysqlNative{Collation: exact}
	if a, _ := attributesOf(t.Stream); a.Kind == kindMySQL && s.Native != nil {
		if err := json.Unmarshal(s.Native, &native); err != nil {
			return nil, fmt.Errorf("native schema: %w", err)
		}
	}
	if !mysqlCollation.MatchString(native.Collation) {
		native.Collation = exact
	}
	var parts []string
	for i, c := range t.Columns {
		if !mysqlType.MatchString(c.Type) {
			return nil, fmt.Errorf("column %q has the type %q, which is none of MySQL", c.Name, c.Type)
		}
		f := s.Fields[i]
		part := backQuoted(c.Name) + " " + c.Type
		if own := native.Collations[f.Name]; c.Own && mysqlCollation.MatchString(own) {
			part += " COLLATE " + own
		}
		if f.Required || t.Keyed && slices.Contains(s.PrimaryKey, f.Name) {
			part += " NOT NULL"
		} else {
			part += " NULL" // said, because time stamps are otherwise not
		}
		if f.Identity && t.Keyed && s.PrimaryKey[0] == f.Name && strings.Contains(strings.ToLower(c.Type), "int") {
			part += " AUTO_INCREMENT"
		}
		if f.Description != "" && mysqlDialect.takesComment(f.Description) {
			part += " COMMENT " + singleQuoted(f.Description)
		}
		parts = append(parts, part)
	}
	if len(parts) == 0 {
		parts = []string{"`no columns` INT"} // MySQL has no table without
	}
	if t.Keyed {
		parts = append(parts, "PRIMARY KEY ("+strings.Join(t.key(backQuoted), ", ")+")")
	}
	create := "CREATE TABLE " + name + " (" + strings.Join(parts, ", ") + end + native.Collation
	if native.Comment != "" && utf8.RuneCountInString(native.Comment) <= 2048 {
		create += " COMMENT = " + singleQuoted(native.Comment)
	}
	return []string{create}, nil
}

// mysqlDocumentView shows the plain fields of a document table as columns.
func (t *tableLayout) mysqlDocumentView() string {
	n := mysqlDialect.names()
	exprs := []string{backQuoted(n.take("record_key")), backQuoted(n.take("record_ordinal"))}
	for _, f := range t.Stream.Schema.Fields {
		if strings.ContainsAny(f.Name, "\x00\"\\") {
			continue // no JSON path can name it
		}
		exprs = append(exprs, "JSON_VALUE(record, "+singleQuoted(`$."`+f.Name+`"`)+") AS "+backQuoted(n.take(f.Name)))
	}
	return "CREATE VIEW " + backQuoted(t.View) + " AS SELECT " + strings.Join(exprs, ", ") + " FROM " + backQuoted(t.Name)
}
