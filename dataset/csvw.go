package dataset

import (
	"fmt"
	"strings"
)

// A CSVWTable is the metadata of one CSV file in the W3C vocabulary "CSV on the Web"
// (Metadata Vocabulary for Tabular Data, 2015), which lies beside it as
// <file>-metadata.json.
type CSVWTable struct {
	Context string      `json:"@context"`
	URL     string      `json:"url"`
	Dialect CSVWDialect `json:"dialect"`
	Schema  CSVWSchema  `json:"tableSchema"`
}

// A CSVWDialect says how the file is written.
type CSVWDialect struct {
	Encoding        string   `json:"encoding"`
	LineTerminators []string `json:"lineTerminators"`
	QuoteChar       string   `json:"quoteChar"`
	DoubleQuote     bool     `json:"doubleQuote"`
	Delimiter       string   `json:"delimiter"`
	Header          bool     `json:"header"`
	Trim            bool     `json:"trim"`
}

// A CSVWSchema lists the columns.
type CSVWSchema struct {
	Columns    []CSVWColumn `json:"columns"`
	PrimaryKey []string     `json:"primaryKey,omitempty"`
}

// A CSVWColumn is one column.
type CSVWColumn struct {
	Name        string `json:"name"`   // the field's name, percent-encoded as the vocabulary asks
	Titles      string `json:"titles"` // the field's name, as in the first row
	Datatype    string `json:"datatype"`
	Null        string `json:"null"`
	Required    bool   `json:"required"`
	Description string `json:"dc:description,omitempty"`
}

// NewCSVWTable describes the CSV file at url (relative to the metadata, already
// percent-encoded) that holds the rows of a stream with schema s.
func NewCSVWTable(url string, s *Schema) (*CSVWTable, error) {
	if _, err := NewTable(s); err != nil {
		return nil, fmt.Errorf("csvw: %w", err)
	}
	t := &CSVWTable{
		Context: "http://www.w3.org/ns/csvw",
		URL:     url,
		Dialect: CSVWDialect{Encoding: "utf-8", LineTerminators: []string{"\n"}, QuoteChar: `"`, DoubleQuote: true, Delimiter: ",", Header: true},
	}
	for _, f := range s.columns() {
		t.Schema.Columns = append(t.Schema.Columns, CSVWColumn{
			Name: csvwName(f.Name), Titles: f.Name, Datatype: csvwType(f), Null: `\N`, Required: f.Required, Description: f.Description,
		})
	}
	for _, name := range s.PrimaryKey {
		t.Schema.PrimaryKey = append(t.Schema.PrimaryKey, csvwName(name))
	}
	return t, nil
}

// csvwName makes a column name of RFC 6570: letters, digits, percent-encoded bytes, and
// underscores except at the beginning, which the vocabulary reserves.
func csvwName(name string) string {
	var b strings.Builder
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_' && i > 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// csvwType is the built-in datatype of a field. Dates and times are strings: what their
// source writes is not always what XML Schema allows.
func csvwType(f Field) string {
	if f.Lexical == Base64 {
		return "base64Binary"
	}
	switch f.Type {
	case Integer, Number, Boolean:
		return string(f.Type)
	case Object, Array, AnyType:
		return "json"
	}
	return "string"
}
