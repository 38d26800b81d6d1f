package dataset

import "encoding/json"

// A Schema says what the records of a stream look like. Field types are those of
// Data Package v2 (Table Schema), so a descriptor can be made from it as it is.
type Schema struct {
	Fields      []Field      `json:"fields"`
	PrimaryKey  []string     `json:"primaryKey,omitempty"`
	UniqueKeys  [][]string   `json:"uniqueKeys,omitempty"`
	ForeignKeys []ForeignKey `json:"foreignKeys,omitempty"`
	Indexes     []Index      `json:"indexes,omitempty"`

	// Open says that the schema describes records and does not bound them, as that of a
	// SaaS product: there may be other fields, and values of other types. In CSV the
	// whole record then stands in a column of its own; see [Table].
	Open bool `json:"open,omitempty"`

	// Native is the source's own statement of the schema (DDL, a JSON Schema), for
	// people and for a target of the same kind.
	Native json.RawMessage `json:"native,omitempty"`
}

// A Field is one named value of a record.
type Field struct {
	Name        string  `json:"name"`
	Type        Type    `json:"type"`
	Native      string  `json:"native,omitempty"`      // the source's own type, "numeric(38,10)"
	Required    bool    `json:"required,omitempty"`    // never null
	Default     *string `json:"default,omitempty"`     // an expression of the source, as text
	Generated   string  `json:"generated,omitempty"`   // expression of a computed field, else empty
	Identity    bool    `json:"identity,omitempty"`    // numbered by the source
	Description string  `json:"description,omitempty"` // the source's comment
	Lexical     Lexical `json:"lexical,omitempty"`     // how values are written in JSON
}

// A Type is a field type of Data Package v2.
type Type string

// The types in use.
const (
	String   Type = "string"
	Integer  Type = "integer"
	Number   Type = "number"
	Boolean  Type = "boolean"
	Date     Type = "date"
	Time     Type = "time"
	Datetime Type = "datetime"
	Duration Type = "duration"
	Object   Type = "object"
	Array    Type = "array"
	AnyType  Type = "any"
)

// A Lexical says how the values of a field are written in JSON where that is not
// plain JSON of the field's type.
type Lexical string

const (
	Plain  Lexical = ""       // a JSON value of the field's type
	Text   Lexical = "text"   // a JSON string holding the value's text, because a double cannot hold it
	Base64 Lexical = "base64" // a JSON string holding the value's bytes in standard base64
)

// A ForeignKey says that Fields refer to the RefFields of the stream RefStream.
type ForeignKey struct {
	Name      string   `json:"name,omitempty"`
	Fields    []string `json:"fields"`
	RefStream string   `json:"refStream"`
	RefFields []string `json:"refFields"`
	OnDelete  string   `json:"onDelete,omitempty"`
	OnUpdate  string   `json:"onUpdate,omitempty"`
}

// An Index is a secondary index. Targets of another kind may only use those whose
// Expression is empty.
type Index struct {
	Name       string   `json:"name"`
	Fields     []string `json:"fields,omitempty"`
	Unique     bool     `json:"unique,omitempty"`
	Expression string   `json:"expression,omitempty"` // the source's own definition if it is more than a list of fields
}
