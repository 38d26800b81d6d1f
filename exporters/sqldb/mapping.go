package sqldb

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/dwp/sallyport/dataset"
)

// A Mapping says which column types hold one class of values, where a stream of one
// product is loaded into another. (Within one product the source's own types are
// used.) What Loss says of a product cannot be stored there: the record is a gap.
type Mapping struct {
	Values                              string
	Postgres, MySQL, SQLite             string // p and s stand for precision and scale
	PostgresLoss, MySQLLoss, SQLiteLoss string
}

// A shape is a class of values: an index into the table of mappings.
type shape int

const (
	shapeBool shape = iota
	shapeInteger
	shapeBigint
	shapeUnsigned
	shapeDecimal
	shapeNumeric
	shapeFloat
	shapeDate
	shapeTime
	shapeDatetime
	shapeInstant
	shapeInterval
	shapeJSON
	shapeBytes
	shapeText
	shapeAny
)

// Mappings returns the table of types, for documentation.
func Mappings() []Mapping { return slices.Clone(mappings[:]) }

const (
	lossNUL  = "text with a NUL character, and text that is not UTF-8"
	lossUTF8 = "text that is not UTF-8"
	lossDate = "infinite dates, dates BC and dates after 9999"
	lossZero = "zero dates, and values that a SQLite column of this type should not hold"
)

var mappings = [...]Mapping{
	shapeBool:     {Values: "booleans", Postgres: "boolean", MySQL: "BOOLEAN", SQLite: "BOOLEAN"},
	shapeInteger:  {Values: "integers up to 32 bits", Postgres: "bigint", MySQL: "BIGINT", SQLite: "INTEGER"},
	shapeBigint:   {Values: "64-bit integers", Postgres: "bigint", MySQL: "BIGINT", SQLite: "INTEGER"},
	shapeUnsigned: {Values: "unsigned 64-bit integers", Postgres: "numeric(20,0)", MySQL: "BIGINT UNSIGNED", SQLite: "INTEGER", SQLiteLoss: "integers above 9223372036854775807"},
	shapeDecimal: {Values: "decimals of up to 15 digits", Postgres: "numeric(p,s)", MySQL: "DECIMAL(p,s)", SQLite: "DECIMAL(p,s)",
		MySQLLoss: "NaN", SQLiteLoss: ""},
	shapeNumeric: {Values: "other decimals", Postgres: "numeric", MySQL: "LONGTEXT, or DECIMAL(p,s) if it is wide enough", SQLite: "TEXT",
		MySQLLoss: "NaN and infinities in a DECIMAL"},
	shapeFloat: {Values: "floats", Postgres: "double precision", MySQL: "DOUBLE", SQLite: "REAL",
		MySQLLoss: "NaN and infinities", SQLiteLoss: "NaN and negative zero"},
	shapeDate:     {Values: "dates", Postgres: "date", MySQL: "DATE", SQLite: "TEXT", PostgresLoss: lossZero, MySQLLoss: lossDate},
	shapeTime:     {Values: "times of day", Postgres: "text", MySQL: "LONGTEXT", SQLite: "TEXT"},
	shapeDatetime: {Values: "time stamps", Postgres: "timestamp", MySQL: "DATETIME(6)", SQLite: "TEXT", PostgresLoss: lossZero, MySQLLoss: lossDate},
	shapeInstant:  {Values: "time stamps with a zone", Postgres: "timestamptz", MySQL: "DATETIME(6), in UTC", SQLite: "TEXT", PostgresLoss: lossZero, MySQLLoss: lossDate},
	shapeInterval: {Values: "intervals", Postgres: "interval", MySQL: "LONGTEXT", SQLite: "TEXT"},
	shapeJSON:     {Values: "JSON documents", Postgres: "json", MySQL: "LONGTEXT", SQLite: "TEXT"},
	shapeBytes:    {Values: "bytes", Postgres: "bytea", MySQL: "LONGBLOB", SQLite: "BLOB"},
	shapeText:     {Values: "text, and all types that are written as text", Postgres: "text", MySQL: "LONGTEXT", SQLite: "TEXT", PostgresLoss: lossNUL, MySQLLoss: lossUTF8},
	shapeAny:      {Values: "SQLite values of any class, as JSON", Postgres: "text", MySQL: "LONGTEXT", SQLite: "TEXT", PostgresLoss: lossNUL},
}

var decimalPattern = regexp.MustCompile(`\((\d+)(?:,\s*(\d+))?\)`)

// precision reads a type like numeric(10,2); ok is false if it has none.
func precision(native string) (p, s int, ok bool) {
	m := decimalPattern.FindStringSubmatch(native)
	if m == nil {
		return 0, 0, false
	}
	p, _ = strconv.Atoi(m[1]) // digits
	if m[2] != "" {
		s, _ = strconv.Atoi(m[2])
	}
	return p, s, s <= p && p <= 1000
}

// shapeOf classifies a field of a stream of kind.
func shapeOf(kind string, f dataset.Field) shape {
	native := strings.ToLower(f.Native)
	switch f.Type {
	case dataset.Boolean:
		return shapeBool
	case dataset.Integer:
		switch {
		case f.Lexical == dataset.Plain:
			return shapeInteger
		case strings.Contains(native, "unsigned") && kind == kindMySQL:
			return shapeUnsigned
		}
		return shapeBigint
	case dataset.Number:
		if f.Lexical == dataset.Plain {
			return shapeFloat
		}
		if p, _, ok := precision(native); ok && p <= 15 {
			return shapeDecimal
		}
		return shapeNumeric
	case dataset.Date:
		return shapeDate
	case dataset.Time:
		return shapeTime
	case dataset.Datetime:
		if zoned(kind, native) {
			return shapeInstant
		}
		return shapeDatetime
	case dataset.Duration:
		return shapeInterval
	case dataset.AnyType:
		if f.Lexical == dataset.Text {
			return shapeJSON
		}
		return shapeAny
	}
	if f.Lexical == dataset.Base64 {
		return shapeBytes
	}
	return shapeText
}

// zoned tells the time stamps that are written in UTC.
func zoned(kind, native string) bool {
	return kind == kindPostgres && strings.Contains(native, "with time zone") || kind == kindMySQL && strings.HasPrefix(native, "timestamp")
}

// mappedType is the type of a column in another product.
func mappedType(target string, sh shape, f dataset.Field) string {
	m := mappings[sh]
	typ := map[string]string{kindPostgres: m.Postgres, kindMySQL: m.MySQL, kindSQLite: m.SQLite}[target]
	p, s, ok := precision(f.Native)
	switch {
	case sh == shapeDecimal:
		return strings.Replace(typ, "(p,s)", fmt.Sprintf("(%d,%d)", p, s), 1)
	case sh == shapeNumeric && target == kindPostgres && ok:
		return fmt.Sprintf("numeric(%d,%d)", p, s)
	case sh == shapeNumeric && target == kindMySQL && ok && p <= 65 && s <= 30:
		return fmt.Sprintf("DECIMAL(%d,%d)", p, s)
	}
	typ, _, _ = strings.Cut(typ, ",")
	if sh == shapeUnsigned && target == kindPostgres {
		typ = m.Postgres
	}
	return typ
}

// loss is what a column of another product cannot hold, or empty.
func (sh shape) loss(target string) string {
	m := mappings[sh]
	return map[string]string{kindPostgres: m.PostgresLoss, kindMySQL: m.MySQLLoss, kindSQLite: m.SQLiteLoss}[target]
}

// formOf says how a column that holds values of a shape is read back.
func formOf(target string, sh shape, f dataset.Field) form {
	switch sh {
	case shapeBool:
		return formBool
	case shapeInteger, shapeFloat:
		return formNumber
	case shapeDecimal:
		if target == kindSQLite {
			return formFixed
		}
		return formToken
	case shapeBigint, shapeUnsigned, shapeNumeric:
		return formToken
	case shapeDate, shapeInterval:
		return formText
	case shapeTime:
		return formText
	case shapeDatetime, shapeInstant:
		switch {
		case target == kindSQLite:
			return formText
		case sh == shapeInstant:
			return formInstant
		}
		return formDatetime
	case shapeBytes:
		if target == kindPostgres {
			return formHex
		}
		return formBytes
	case shapeAny:
		return formJSON
	}
	return formText
}
