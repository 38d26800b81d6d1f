// Package sqldb reads PostgreSQL, MySQL (and MariaDB) and SQLite databases, each from
// one consistent snapshot, and fills them.
//
// # Streams
//
// A table is a stream, named schema.table in PostgreSQL and table elsewhere; a part
// that holds a point or a double quote, or begins with an opening parenthesis, is put
// in double quotes. Partitions are read through their parent, inherited tables each
// for itself. What is no table (views, routines, triggers, types, sequences,
// partitions), and how far sequences have counted, comes as the records of the stream
// "(definitions)".
//
// # Records
//
// A record is one row, its members in the order of the columns. Values are written so
// that no JSON parser can damage them (I-JSON) and so that the three products write
// equal values alike:
//
//   - integers up to 32 bits are numbers, larger ones and decimals strings of digits
//     ([dataset.Text]), floats numbers with as few digits as identify them; NaN and the
//     infinities are strings;
//   - bytes are standard base64 ([dataset.Base64]);
//   - dates and times are ISO 8601, time stamps with a zone in UTC, without trailing
//     zeros in the fraction; what ISO 8601 does not know (infinity, BC, zero dates)
//     stays as the database writes it;
//   - JSON documents are strings that hold the document, byte for byte;
//   - everything else (arrays, ranges, composites, enums, bit strings) is the
//     database's own text;
//   - text that is not UTF-8 comes as name_b64 instead of name;
//   - in SQLite, whose columns have no types, a value of another storage class than
//     the column's is an object with one member: {"$integer":"12"}, {"$real":"1.5"},
//     {"$text":"x"}, {"$text_b64":"/w=="}, {"$blob":"AA=="}.
//
// The key of a record is the array of its primary key's values. Tables without a
// primary key are keyless streams; equal rows count by ordinal.
//
// # Targets
//
// [Mappings] is the table by which types are chosen. A value is stored exactly or not
// at all: what a target cannot carry is declared by Fidelity and each record with such
// a value is a gap. Statements hold quoted identifiers, checked type names and
// parameters, and never an expression that came from a source: defaults, checks and
// computed columns are therefore not made, and declared as losses. Only with the option
// native are the definitions of an archive of the same product run, which makes the
// schema what it was; docs/decisions/native-restore.md says whom one trusts then.
package sqldb

import (
	"context"

	"github.com/dwp/sallyport/exporters"
)

// Postgres reads and fills PostgreSQL 12 and later.
var Postgres = exporters.Kind{
	Name:      kindPostgres,
	Summary:   "PostgreSQL tables, from one snapshot shared by parallel readers.",
	Schemes:   []string{"postgres", "postgresql"},
	Options:   optionList(kindPostgres),
	Snapshots: true,
	FromURL:   fromURL(kindPostgres),
	Open: func(ctx context.Context, c exporters.Config) (exporters.Exporter, error) {
		cfg, o, err := pgConfig(ctx, c)
		if err != nil {
			return nil, err
		}
		v, err := openPostgres(ctx, cfg, o)
		if err != nil {
			return nil, err
		}
		return v, nil
	},
	OpenTarget: func(ctx context.Context, c exporters.Config) (exporters.Target, error) {
		t, err := openPostgresTarget(ctx, c)
		if err != nil {
			return nil, err
		}
		return t, nil
	},
}

// SQLite reads and fills SQLite files.
var SQLite = exporters.Kind{
	Name:      kindSQLite,
	Summary:   "SQLite files, in one read transaction.",
	Schemes:   []string{"sqlite"},
	Options:   optionList(kindSQLite),
	Snapshots: true,
	FromURL:   fromURL(kindSQLite),
	Open: func(ctx context.Context, c exporters.Config) (exporters.Exporter, error) {
		v, err := openSQLite(ctx, c)
		if err != nil {
			return nil, err
		}
		return v, nil
	},
	OpenTarget: func(ctx context.Context, c exporters.Config) (exporters.Target, error) {
		t, err := openSQLiteTarget(ctx, c)
		if err != nil {
			return nil, err
		}
		return t, nil
	},
}

// MySQL reads and fills MySQL 8 and MariaDB 10.5 and later.
var MySQL = exporters.Kind{
	Name:      kindMySQL,
	Summary:   "MySQL and MariaDB tables, from one snapshot.",
	Schemes:   []string{"mysql"},
	Options:   optionList(kindMySQL),
	Snapshots: true,
	FromURL:   fromURL(kindMySQL),
	Open: func(ctx context.Context, c exporters.Config) (exporters.Exporter, error) {
		v, err := openMySQL(ctx, c)
		if err != nil {
			return nil, err
		}
		return v, nil
	},
	OpenTarget: func(ctx context.Context, c exporters.Config) (exporters.Target, error) {
		t, err := openMySQLTarget(ctx, c)
		if err != nil {
			return nil, err
		}
		return t, nil
	},
}
