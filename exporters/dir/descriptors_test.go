package dir_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/dir"
	"github.com/dwp/sallyport/exporters/rest"
	"github.com/dwp/sallyport/exporters/sqldb"
	desks "github.com/dwp/sallyport/fixtures/rest"
)

// folderOf fills a folder with CSV as `restore --format csv` does.
func folderOf(t *testing.T, src exporters.Exporter) string {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "out")
	target := dir.NewTarget(folder, dir.Options{CSV: true, NoSync: true})
	defer target.Close()
	streams, err := src.Streams(t.Context())
	if err == nil {
		err = target.Begin(t.Context(), dataset.NewID(), streams)
	}
	for i := 0; err == nil && i < len(streams); i++ {
		own := func(yield func(dataset.Record, error) bool) {
			for r, err := range src.Read(t.Context(), exporters.Query{Streams: streams[i : i+1]}) {
				if !yield(r, err) {
					return
				}
			}
		}
		err = target.Load(t.Context(), streams[i], own, func(g dataset.Gap) { t.Errorf("gap: %v", g) })
	}
	if err == nil {
		err = target.Finish(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return folder
}

func TestFolderOfADatabaseExportIsDescribedByTheStandards(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "cases.db")
	db, err := sql.Open("sqlite", path)
	if err == nil {
		_, err = db.ExecContext(t.Context(), `
			CREATE TABLE people (nino TEXT PRIMARY KEY, name TEXT NOT NULL, photo BLOB);
			CREATE TABLE "case ""files"", all" (id INTEGER PRIMARY KEY, person TEXT REFERENCES people(nino), parent INTEGER REFERENCES "case ""files"", all"(id), "a
b" REAL, anything);
			CREATE TABLE log (line TEXT);
			CREATE TABLE empty (id INTEGER PRIMARY KEY, _x TEXT);
			INSERT INTO people VALUES ('QQ1', 'Ada "the" first', x'0001'), ('QQ2', '=1+1', NULL);
			INSERT INTO "case ""files"", all" VALUES (1, 'QQ1', NULL, 1.5, 'text'), (9007199254740993, 'QQ2', 1, 1e300, 7), (3, NULL, 1, NULL, NULL);
			INSERT INTO log VALUES ('one'), ('one'), (NULL)`)
		err = errors.Join(err, db.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	x, err := sqldb.SQLite.Open(t.Context(), exporters.Config{Options: map[string]any{"url": "sqlite:" + path}})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	checkFolder(t, folderOf(t, x), 4, 1)
}

func TestFolderOfARestExportIsDescribedByTheStandards(t *testing.T) {
	t.Parallel()
	desk := desks.NewDesk(23)
	base := desk.Start()
	defer desk.Close()
	manifest, err := fs.ReadFile(desks.Manifests, "manifests/tickets.yaml")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "manifest.yaml")
	if err := os.WriteFile(path, manifest, 0o600); err != nil {
		t.Fatal(err)
	}
	x, err := rest.Kind.Open(t.Context(), exporters.Config{Service: "desk", State: t.TempDir(),
		Options: map[string]any{"manifest": path, "config": map[string]any{"base": base, "token": "env:TOKEN"}},
		Secret:  func(context.Context, string) (string, error) { return desks.Canary, nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	checkFolder(t, folderOf(t, x), 3, 0)
}

// checkFolder holds the descriptors of a folder against their standards and against the
// files that lie there. It has at least so many tables of CSV and foreign keys.
func checkFolder(t *testing.T, folder string, tables, links int) {
	t.Helper()
	text := readFile(t, filepath.Join(folder, "datapackage.json"))
	if err := packageProfile(t).Validate(decoded(t, text)); err != nil {
		t.Errorf("datapackage.json: %v\n%s", err, text)
	}
	var p dataset.DataPackage
	if err := json.Unmarshal(text, &p); err != nil {
		t.Fatal(err)
	}
	fields := map[string][]string{} // by resource
	for _, r := range p.Resources {
		if r.Schema != nil {
			for _, f := range r.Schema.Fields {
				fields[r.Name] = append(fields[r.Name], f.Name)
			}
		}
	}
	for _, r := range p.Resources {
		for _, path := range r.Path {
			readFile(t, filepath.Join(folder, path))
		}
		if r.Schema == nil {
			continue
		}
		if !subset(r.Schema.PrimaryKey, fields[r.Name]) {
			t.Errorf("%s: primary key %q is not of its fields", r.Name, r.Schema.PrimaryKey)
		}
		for _, k := range r.Schema.ForeignKeys {
			other := k.Reference.Resource
			if other == "" {
				other = r.Name
			}
			if len(k.Fields) != len(k.Reference.Fields) || !subset(k.Fields, fields[r.Name]) || !subset(k.Reference.Fields, fields[other]) {
				t.Errorf("%s: foreign key %+v leads nowhere", r.Name, k)
			}
			links--
		}
		if r.Format == dataset.CSV {
			tables--
			rows := readTable(t, filepath.Join(folder, r.Path[0]))
			if !slices.Equal(texts(rows[0]), fields[r.Name]) || r.Schema.FieldsMatch != "exact" {
				t.Errorf("%s: the file has the columns %q and its schema %q", r.Name, texts(rows[0]), fields[r.Name])
			}
			checkCSVW(t, folder, r.Path[0], rows)
		}
	}
	if tables > 0 || links > 0 {
		t.Errorf("%d tables of CSV and %d foreign keys too few", tables, links)
	}
}

// What the Metadata Vocabulary for Tabular Data (W3C, 2015) has names for, as far as a
// table goes, and the RFC 6570 form that it asks for in names of columns.
var (
	csvwTable   = []string{"@context", "url", "dialect", "tableSchema", "notes", "suppressOutput", "tableDirection", "transformations", "@id", "@type"}
	csvwDialect = []string{"commentPrefix", "delimiter", "doubleQuote", "encoding", "header", "headerRowCount", "lineTerminators", "quoteChar", "skipBlankRows", "skipColumns", "skipInitialSpace", "skipRows", "trim", "@id", "@type"}
	csvwSchema  = []string{"columns", "foreignKeys", "primaryKey", "rowTitles", "@id", "@type"}
	csvwColumn  = []string{"name", "suppressOutput", "titles", "virtual", "aboutUrl", "datatype", "default", "lang", "null", "ordered", "propertyUrl", "required", "separator", "textDirection", "valueUrl", "@id", "@type"}
	csvwName    = regexp.MustCompile(`^(?:[A-Za-z0-9]|%[0-9A-F]{2})(?:\.?(?:[A-Za-z0-9_]|%[0-9A-F]{2}))*$`)
	csvwCells   = map[string]func(string) bool{
		"string":  func(string) bool { return true },
		"json":    func(s string) bool { return json.Valid([]byte(s)) },
		"integer": regexp.MustCompile(`^[+-]?[0-9]+$`).MatchString,
		"boolean": func(s string) bool { return s == "true" || s == "false" },
		"number": func(s string) bool {
			_, err := strconv.ParseFloat(s, 64)
			return err == nil || errors.Is(err, strconv.ErrRange)
		},
		"base64Binary": func(s string) bool { _, err := base64.StdEncoding.DecodeString(s); return err == nil },
	}
)

// checkCSVW holds the metadata beside a file against the vocabulary and the file.
func checkCSVW(t *testing.T, folder, file string, rows [][]dataset.Cell) {
	t.Helper()
	name := file + "-metadata.json"
	m := object(t, name, decoded(t, readFile(t, filepath.Join(folder, name))), csvwTable)
	if m["@context"] != "http://www.w3.org/ns/csvw" {
		t.Errorf("%s: @context is %v", name, m["@context"])
	}
	link, _ := m["url"].(string)
	if path, err := url.PathUnescape(link); err != nil || path != file {
		t.Errorf("%s: url is %v", name, m["url"])
	}
	d := object(t, name+" dialect", m["dialect"], csvwDialect)
	if d["encoding"] != "utf-8" || d["quoteChar"] != `"` || d["doubleQuote"] != true || d["delimiter"] != "," || d["header"] != true || d["trim"] != false {
		t.Errorf("%s: dialect %v", name, d)
	}
	s := object(t, name+" tableSchema", m["tableSchema"], csvwSchema)
	columns, _ := s["columns"].([]any)
	if len(columns) != len(rows[0]) {
		t.Fatalf("%s: %d columns of %d", name, len(columns), len(rows[0]))
	}
	taken := map[string]int{}
	for i, c := range columns {
		col := object(t, name+" column", c, csvwColumn)
		n, _ := col["name"].(string)
		if _, twice := taken[n]; twice || !csvwName.MatchString(n) {
			t.Errorf("%s: column name %q", name, n)
		}
		taken[n] = i
		if col["titles"] != rows[0][i].Text || col["null"] != `\N` {
			t.Errorf("%s: column %d has titles %v and null %v; the file calls it %q", name, i, col["titles"], col["null"], rows[0][i].Text)
		}
		required, isBool := col["required"].(bool)
		datatype, _ := col["datatype"].(string)
		valid := csvwCells[datatype]
		if !isBool || valid == nil {
			t.Errorf("%s: column %q has required %v, datatype %v", name, n, col["required"], col["datatype"])
			continue
		}
		for _, row := range rows[1:] {
			if row[i].Null && required || !row[i].Null && !valid(row[i].Text) {
				t.Errorf("%s: %v is no %s in column %q", name, row[i], datatype, n)
			}
		}
	}
	key, _ := s["primaryKey"].([]any)
	seen := map[string]bool{}
	for _, row := range rows[1:] {
		var id []string
		for _, n := range key {
			i, ok := taken[n.(string)]
			if !ok {
				t.Fatalf("%s: primary key %v is no column", name, n)
			}
			id = append(id, row[i].Text)
		}
		if k := fmt.Sprintf("%q", id); len(key) > 0 && seen[k] {
			t.Errorf("%s: two rows have the key %s", name, k)
		} else {
			seen[k] = true
		}
	}
}

// object makes sure that v is an object with no properties but those known, and common
// ones, whose names have a prefix.
func object(t *testing.T, what string, v any, known []string) map[string]any {
	t.Helper()
	m, ok := v.(map[string]any)
	if !ok {
		t.Fatalf("%s: %v is no object", what, v)
	}
	for name := range m {
		if !slices.Contains(known, name) && !strings.Contains(name, ":") {
			t.Errorf("%s: the vocabulary has no property %q", what, name)
		}
	}
	return m
}

func packageProfile(t *testing.T) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	if err := c.AddResource("profile.json", decoded(t, readFile(t, "../../dataset/testdata/datapackage-2.0.schema.json"))); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("profile.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func decoded(t *testing.T, text []byte) any {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// readTable returns the rows of a file of CSV, that of the names first.
func readTable(t *testing.T, path string) [][]dataset.Cell {
	t.Helper()
	r, err := dataset.NewCSVReader(bytes.NewReader(readFile(t, path)), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	var names []dataset.Cell
	for _, c := range r.Columns() {
		names = append(names, dataset.Cell{Text: c})
	}
	rows := [][]dataset.Cell{names}
	for {
		row, err := r.Read(nil)
		if err == io.EOF {
			return rows
		}
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, row)
	}
}

func texts(row []dataset.Cell) (out []string) {
	for _, c := range row {
		out = append(out, c.Text)
	}
	return out
}

func subset(some, all []string) bool {
	return !slices.ContainsFunc(some, func(s string) bool { return !slices.Contains(all, s) })
}
