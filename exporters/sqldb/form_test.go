package sqldb

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
)

// copyCell escapes text as the server does in COPY TO.
func copyCell(s string) []byte {
	var b bytes.Buffer
	for i := range len(s) {
		switch c := s[i]; c {
		case '\\':
			b.WriteString(`\\`)
		case '\b':
			b.WriteString(`\b`)
		case '\f':
			b.WriteString(`\f`)
		case '\n':
			b.WriteString(`\n`)
		case '\r':
			b.WriteString(`\r`)
		case '\t':
			b.WriteString(`\t`)
		case '\v':
			b.WriteString(`\v`)
		default:
			b.WriteByte(c)
		}
	}
	return b.Bytes()
}

func TestTextFromCopyIsQuotedAsElsewhere(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(rapid.String(), rapid.StringOfN(rapid.RuneFrom([]rune("\\\"/\n\r\t\b\f\vNu.abx\x00\x01\x1f\x7f é😀\u2028")), 0, 40, -1)).Draw(t, "text")
		want, err := dataset.Quote(nil, s)
		if err != nil {
			t.Skip("not UTF-8")
		}
		if got := appendCopyText(nil, copyCell(s)); string(got) != string(want) {
			t.Fatalf("text %q became %s; want %s", s, got, want)
		}
		if got := unescapeCopy(copyCell(s)); string(got) != s {
			t.Fatalf("text %q became %q", s, got)
		}
		if got := unescapeCopy(appendCopyCell(nil, []byte(s))); string(got) != s {
			t.Fatalf("text %q, written to COPY, would be read as %q", s, got)
		}
		for _, sh := range []shape{shapeText, shapeJSON, shapeInterval} {
			cell, err := (&columnLayout{Shape: sh}).pgAppend(nil, want)
			switch {
			case strings.ContainsRune(s, 0) && sh != shapeInterval:
				if err == nil {
					t.Fatalf("%s with a NUL is written %q", want, cell)
				}
			case err != nil || string(unescapeCopy(cell)) != s || bytes.ContainsAny(cell, "\n\t\r"):
				t.Fatalf("%s is written %q, %v", want, cell, err)
			}
		}
		if strings.ContainsAny(string(appendCopyCell(nil, []byte(s))), "\n\t\r") {
			t.Fatalf("text %q breaks its row", s)
		}
	})
}

// FuzzCopyRow feeds the decoder rows that no server would send.
func FuzzCopyRow(f *testing.F) {
	for _, s := range []string{
		"1\tx\t\\\\x00ff\tt\t7\t2026-03-01 12:00:00.5\t0044-03-15 12:00:00+00 BC\t12:00:00.50\t[1, {}]\n",
		"\\N\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\n", "1\t\\\n", "\t\t\t\t\t\t\t\t\n", "1", "NaN\t\\b\t\\\\x0\tq\t\"\té\t\x01\t\\\\\t{\n",
		"1\t\xff\t\\\\x\tt\t\t\t\t\t" + strings.Repeat("[", dataset.MaxDepth) + strings.Repeat("]", dataset.MaxDepth) + "\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		w := &copyReader{b: newBuilder(everyForm(t), nil), yield: func(r dataset.Record, err error) bool {
			if r.Gap == nil {
				compact, err := dataset.Compact(nil, r.Data)
				if r.Compact && (err != nil || !bytes.Equal(compact, r.Data)) {
					t.Errorf("%q became %s: %v", data, r.Data, err)
				}
			}
			return err == nil
		}}
		w.Write(data) // an error is as good
	})
}

// mixedTable is a table of four columns.
func mixedTable(t testing.TB) *table {
	t.Helper()
	return tableOf(t, formNumber, formText, formHex, formBool)
}

// everyForm is a table with a column of every form that text can have.
func everyForm(t testing.TB) *table {
	t.Helper()
	return tableOf(t, formNumber, formText, formHex, formBool, formToken, formDatetime, formInstant, formFraction, formJSON)
}

// tableOf is a table with columns c0, c1 and so on of the given forms. The first is its
// key.
func tableOf(t testing.TB, forms ...form) *table {
	t.Helper()
	s := dataset.Stream{Name: "t", Schema: &dataset.Schema{PrimaryKey: []string{"c0"}}}
	var columns []column
	for i, f := range forms {
		name := fmt.Sprintf("c%d", i)
		col, err := newColumn(name, name, f)
		if err != nil {
			t.Fatal(err)
		}
		columns = append(columns, col)
	}
	tab, err := newTable(s, "t", columns)
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

func TestWhatIsWrittenWithoutEscapesHoldsNothingToEscape(t *testing.T) {
	t.Parallel()
	for _, f := range []form{formToken, formFixed, formFraction, formDatetime, formInstant} {
		for _, text := range []string{`12"`, `1\2`, "1\n2", "1é", "12345678\"", "\xff"} {
			if got, err := appendValue(nil, f, []byte(text)); err == nil {
				t.Errorf("%q in form %d is written %s", text, f, got)
			}
		}
	}
}

func TestTextThatIsNoUTF8IsKeptAsBytes(t *testing.T) {
	t.Parallel()
	var got string
	w := &copyReader{b: newBuilder(mixedTable(t), nil), yield: func(r dataset.Record, err error) bool {
		got = string(r.Data)
		return err == nil && r.Gap == nil && r.Compact
	}}
	if _, err := w.Write([]byte("1\ta\\t\xff\t\\\\x00\tt\n")); err != nil {
		t.Fatal(err)
	}
	if want := `{"c0":1,"c1_b64":"YQn/","c2":"AA==","c3":true}`; got != want {
		t.Errorf("the row became %s; want %s", got, want)
	}
}

func TestOnlyWhatCannotBeNestedTooDeepIsTakenAsItIs(t *testing.T) {
	t.Parallel()
	for depth, want := range map[int]bool{10: true, dataset.MaxDepth: false} {
		w := &copyReader{b: newBuilder(tableOf(t, formNumber, formJSON), nil), yield: func(r dataset.Record, err error) bool {
			if r.Compact != want || r.Gap != nil {
				t.Errorf("a value nested %d deep: Compact = %v, gap %v", depth, r.Compact, r.Gap)
			}
			return true
		}}
		if _, err := fmt.Fprintf(w, "1\t%s%s\n", strings.Repeat("[", depth), strings.Repeat("]", depth)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestKeysOfKeylessRowsAreTheHashOfTheCanonicalForm(t *testing.T) {
	t.Parallel()
	s := dataset.Stream{Name: "t", Keyless: true, Schema: new(dataset.Schema)}
	rapid.Check(t, func(t *rapid.T) {
		var columns []column
		for _, name := range rapid.SliceOfNDistinct(rapid.StringOfN(rapid.RuneFrom([]rune("aB\"\\\n é😀_")), 1, 3, -1), 0, 5, rapid.ID).Draw(t, "names") {
			c, err := newColumn(name, name, rapid.SampledFrom([]form{formText, formText, formNumber, formToken, formJSON}).Draw(t, "form"))
			if err != nil {
				t.Fatal(err)
			}
			columns = append(columns, c)
		}
		tab, err := newTable(s, "t", columns)
		if err != nil {
			t.Fatal(err)
		}
		b := newBuilder(tab, nil)
		for range 2 {
			b.begin()
			for _, c := range columns {
				switch {
				case rapid.Bool().Draw(t, "null"):
					b.null()
				case c.form == formText:
					b.text([]byte(rapid.SampledFrom([]string{"", "x", "\xff", "\"\n"}).Draw(t, "text")))
				case c.form == formJSON:
					b.text([]byte(`{"b": 1, "a": 2}`))
				default:
					b.text([]byte("12"))
				}
			}
			r, err := b.finish("")
			if err != nil {
				t.Fatal(err)
			}
			want, err := dataset.Canonical(nil, r.Data)
			if err != nil || r.Key != dataset.KeylessKey(want) {
				t.Fatalf("the key of %s is that of %s, not of %s, %v", r.Data, b.canon, want, err)
			}
		}
	})
}

func TestFloatsAreWrittenAsPostgresWritesThem(t *testing.T) {
	t.Parallel()
	_, c := pgDatabase(t, "")
	rng := rand.New(rand.NewPCG(1, 2))
	var doubles []float64
	var singles []float32
	for range 10_000 {
		doubles = append(doubles, math.Float64frombits(rng.Uint64()), math.Round(rng.Float64()*1e6)*math.Pow10(rng.IntN(40)-20))
		singles = append(singles, math.Float32frombits(rng.Uint32()), float32(math.Round(rng.Float64()*1e4)*math.Pow10(rng.IntN(30)-15)))
	}
	doubles = append(doubles, 0, math.Copysign(0, -1), 1e15, 1e14, 999999999999999, 0.0001, 0.00001, math.Inf(1), math.MaxFloat64, math.SmallestNonzeroFloat64)
	singles = append(singles, 0, 1e5, 1e6, 999999, 123456, 1234567, 0.0001, 0.00001, math.MaxFloat32, math.SmallestNonzeroFloat32)
	var texts []string
	if err := c.QueryRow(context.Background(), "SELECT array_agg(x::text ORDER BY i) FROM unnest($1::float8[]) WITH ORDINALITY AS u(x, i)", doubles).Scan(&texts); err != nil {
		t.Fatal(err)
	}
	for i, x := range doubles {
		if got := string(appendFloat(nil, x, 64)); got != texts[i] {
			t.Errorf("%x is written %s; PostgreSQL writes %s", x, got, texts[i])
		}
	}
	if err := c.QueryRow(context.Background(), "SELECT array_agg(x::text ORDER BY i) FROM unnest($1::float4[]) WITH ORDINALITY AS u(x, i)", singles).Scan(&texts); err != nil {
		t.Fatal(err)
	}
	for i, x := range singles {
		if got := string(appendFloat(nil, float64(x), 32)); got != texts[i] {
			t.Errorf("%x is written %s; PostgreSQL writes %s", x, got, texts[i])
		}
	}
}

func TestDatesAndTimesAreISO8601AsFarAsTheyCanBe(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"2026-03-01 12:00:00":            `"2026-03-01T12:00:00Z"`,
		"2026-03-01 12:00:00+00":         `"2026-03-01T12:00:00Z"`,
		"2026-03-01 12:00:00.500000":     `"2026-03-01T12:00:00.5Z"`,
		"2026-03-01 12:00:00.000000":     `"2026-03-01T12:00:00Z"`,
		"0044-03-15 12:00:00.10+00 BC":   `"0044-03-15T12:00:00.1Z BC"`,
		"294276-12-31 23:59:59.99999+00": `"294276-12-31T23:59:59.99999Z"`,
		"infinity":                       `"infinity"`,
		"0000-00-00 00:00:00":            `"0000-00-00T00:00:00Z"`,
	} {
		if got := string(appendDatetime(nil, []byte(in), true)); got != want {
			t.Errorf("%s is written %s; want %s", in, got, want)
		}
	}
}

func TestBitsAreReadAndWritten(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 64).Draw(t, "width")
		s := rapid.StringOfN(rapid.RuneFrom([]rune("01")), n, n, -1).Draw(t, "bits")
		raw, err := parseBits(s, n)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(appendBits(nil, raw, n)); got != s {
			t.Fatalf("%s became %s", s, got)
		}
	})
}

func TestNamesAreLegalAndUsedOnce(t *testing.T) {
	t.Parallel()
	for _, d := range []dialect{postgresDialect, mysqlDialect, sqliteDialect} {
		rapid.Check(t, func(t *rapid.T) {
			n := d.names()
			seen := make(map[string]bool)
			for _, want := range rapid.SliceOfN(rapid.OneOf(rapid.SampledFrom([]string{"", "a", "A", " ", "a ", strings.Repeat("é", 80), "sqlite_x", "\x00", "\xff"}), rapid.String()), 1, 12).Draw(t, "names") {
				got := n.take(want)
				if err := checkName(got, d.maxBytes, d.maxRunes); err != nil {
					t.Fatalf("%s: %v", d.kind, err)
				}
				if d.fold {
					got = strings.ToLower(got)
				}
				if seen[got] {
					t.Fatalf("%s: %q is used twice", d.kind, got)
				}
				seen[got] = true
			}
		})
	}
}

func TestTheTableOfTypesIsComplete(t *testing.T) {
	t.Parallel()
	for i, m := range Mappings() {
		if m.Values == "" || m.Postgres == "" || m.MySQL == "" || m.SQLite == "" {
			t.Errorf("mapping %d is not complete: %+v", i, m)
		}
	}
}

// BenchmarkDecode turns rows of mixed types from COPY's text into records.
func BenchmarkDecode(b *testing.B) {
	row := fmt.Appendf(nil, "123456789012\tJohn \\\"Smith\\\" of the long and winding road, number %d, with a note of some length\t\\\\x%s\tt\n", 42, hex.EncodeToString(make([]byte, 32)))
	rows := bytes.Repeat(row, 1000)
	bytesOut := 0
	w := &copyReader{b: newBuilder(mixedTable(b), nil), yield: func(r dataset.Record, err error) bool {
		bytesOut += len(r.Data)
		return err == nil
	}}
	b.SetBytes(int64(len(rows)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.Write(rows); err != nil {
			b.Fatal(err)
		}
	}
}

func mixedRows(n int) string {
	return fmt.Sprintf(`CREATE TABLE t AS SELECT g::bigint AS id, 'case ' || g AS name, (g * 1.01)::numeric(12,2) AS amount, g %% 2 = 0 AS flag,
		now() - g * interval '1 second' AS at, md5(g::text) AS hash, g::float8 / 7 AS ratio FROM generate_series(1, %d) g; ALTER TABLE t ADD PRIMARY KEY (id)`, n)
}

// BenchmarkLoad restores a table of mixed types into each product.
func BenchmarkLoad(b *testing.B) {
	const rows = 100_000
	from, _ := pgDatabase(b, mixedRows(rows))
	src := open(b, Postgres, from)
	for _, k := range []exporters.Kind{Postgres, MySQL, SQLite} {
		b.Run(k.Name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				to := "sqlite:" + b.TempDir() + "/to.db"
				switch k.Name {
				case kindPostgres:
					to, _ = pgDatabase(b, "")
				case kindMySQL:
					to, _ = mysqlDatabase(b, "")
				}
				dst := openTarget(b, k, to)
				b.StartTimer()
				if gaps, _ := copyAll(b, dst, src); len(gaps) > 0 {
					b.Fatal(gaps)
				}
			}
			b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

// BenchmarkPostgresRead reads a table of mixed types over a socket.
func BenchmarkPostgresRead(b *testing.B) {
	const rows = 200_000
	url, _ := pgDatabase(b, mixedRows(rows))
	x := open(b, Postgres, url)
	for b.Loop() {
		if n, err := drain(b.Context(), x, "public.t"); n != rows || err != nil {
			b.Fatal(n, err)
		}
	}
	b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}
