package jinja_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/dwp/sallyport/exporters/rest/jinja"
	"github.com/dwp/sallyport/fixtures/rest"
)

// python is one line of the table that Python computed.
type python struct {
	Template string
	Text     string
	Value    string
	Error    string
}

func table(t testing.TB) (vars jinja.Vars, env *jinja.Env, cases []python) {
	t.Helper()
	lines := bufio.NewScanner(bytes.NewReader(rest.Expressions))
	lines.Buffer(nil, 1<<20)
	lines.Scan()
	head, err := jinja.ParseJSON(lines.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	now, err := time.Parse(time.RFC3339Nano, head.(*jinja.Dict).Text("now"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, _ := head.(*jinja.Dict).Get("context")
	vars = jinja.Vars{}
	for i := range ctx.(*jinja.Dict).Len() {
		k, v := ctx.(*jinja.Dict).At(i)
		vars[k.(string)] = v
	}
	for lines.Scan() {
		var c python
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		cases = append(cases, c)
	}
	if len(cases) < 1500 {
		t.Fatalf("%d cases; the table is cut", len(cases))
	}
	env = &jinja.Env{Now: func() time.Time { return now }, Random: rand.NewChaCha8([32]byte{})}
	return vars, env, cases
}

// evaluate returns the text, the literal's repr, or the class of error.
func evaluate(tpl string, vars jinja.Vars, env *jinja.Env) (got python) {
	got.Template = tpl
	t, err := jinja.Parse(tpl)
	if err == nil {
		got.Text, err = t.Render(env, vars)
	}
	var je *jinja.Error
	switch {
	case errors.As(err, &je) && (je.Kind == jinja.UndefinedError || je.Kind == jinja.SyntaxError):
		got.Error = string(je.Kind)
	case err != nil:
		got.Error = "Error"
	default:
		v, ok := jinja.LiteralEval(got.Text)
		if !ok {
			v = got.Text
		}
		got.Value = jinja.Repr(v)
	}
	return got
}

func TestExpressionsGiveWhatPythonGives(t *testing.T) {
	t.Parallel()
	vars, env, cases := table(t)
	for _, want := range cases {
		if got := evaluate(want.Template, vars, env); got != want {
			t.Errorf("%s\n got  %q %s %s\n want %q %s %s", want.Template, got.Text, got.Value, got.Error, want.Text, want.Value, want.Error)
		}
	}
}

func TestConditionsFollowTheFrameworksTruth(t *testing.T) {
	t.Parallel()
	env := testEnv()
	vars := jinja.Vars{"response": jinja.NewDict("more", false, "n", int64(0), "none", nil, "s", "", "list", jinja.NewList())}
	for src, want := range map[string]bool{
		"":                              false,
		"{{ response.get('next') }}":    true, // None
		"{{ response.none }}":           true,
		"{{ response.nothing }}":        false,
		"{{ response.nothing.deeper }}": false,
		"{{ response.more }}":           false,
		"{{ not response.more }}":       true,
		"{{ response.n }}":              false,
		"{{ response.s }}":              false,
		"{{ response.list }}":           false,
		"{{ {} }}":                      false,
		"{{ () }}":                      false,
		"false":                         false,
		"False":                         false,
		"0.0":                           false,
		"no":                            true,
		"FALSE":                         true,
	} {
		x, err := jinja.Compile(src, []string{"response"})
		if err != nil {
			t.Fatal(err)
		}
		got, err := x.EvalBool(env, vars)
		if err != nil || got != want {
			t.Errorf("%q = %v, %v; want %v", src, got, err, want)
		}
	}
}

func TestTypesAreKeptOnlyWhereTheCallerAllows(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		src   string
		types jinja.Types
		want  string
	}{
		{"123", nil, "123"},
		{"123", jinja.TextOrList, "'123'"},
		{"[1]", jinja.TextOrList, "[1]"},
		{"'5'", jinja.TextOrList, "'5'"},
		{"007", nil, "'007'"},
		{"{{ none }}", nil, "None"},
		{"{{ '' }}", nil, "''"},
		{"2020-01-01", nil, "'2020-01-01'"},
	} {
		x, err := jinja.Compile(c.src, nil)
		if err != nil {
			t.Fatal(err)
		}
		v, err := x.Eval(testEnv(), nil, c.types)
		if got := jinja.Repr(v); err != nil || got != c.want {
			t.Errorf("%q = %s, %v; want %s", c.src, got, err, c.want)
		}
	}
}

func TestUndefinedFailsAPlainStringAndYieldsADefaultElsewhere(t *testing.T) {
	t.Parallel()
	x, err := jinja.Compile("{{ config.a.b }}", []string{"config"})
	if err != nil {
		t.Fatal(err)
	}
	vars := jinja.Vars{"config": new(jinja.Dict)}
	if v, err := x.Eval(testEnv(), vars, nil); err == nil {
		t.Errorf("Eval = %v; want an error", v)
	}
	if v, err := x.EvalOr(testEnv(), vars, nil, nil); v != nil || err != nil {
		t.Errorf("EvalOr = %v, %v; want the default", v, err)
	}
	if _, err := jinja.Compile("{{ os.environ }}", []string{"config"}); err == nil {
		t.Error("a name out of scope was accepted")
	}
	if _, err := jinja.Compile("{{ stream_state }}", []string{"stream_state"}); err == nil {
		t.Error("stream_state was accepted")
	}
}

// TestTemplatesReachNothingOfTheMachine tries the ways out of Jinja that are known.
func TestTemplatesReachNothingOfTheMachine(t *testing.T) {
	t.Parallel()
	vars := jinja.Vars{"config": jinja.NewDict("s", "x", "l", jinja.NewList(int64(1)))}
	for _, src := range []string{
		"{{ config.__class__.__mro__ }}",
		"{{ ''.__class__.__mro__[1].__subclasses__() }}",
		"{{ config.s.__init__.__globals__['os'].popen('id').read() }}",
		"{{ config|attr('__class__')|attr('__base__') }}{{ (config|attr('__class__')).x }}",
		"{{ '{0.__class__.__mro__}'.format(config) }}",
		"{{ now_utc.__globals__ }}{{ now_utc.__globals__.x }}",
		"{% include '/etc/passwd' %}",
		"{% import 'os' as os %}",
		"{% extends 'x' %}",
		"{{ open('/etc/passwd') }}",
		"{{ self._TemplateReference__context }}",
		"{{ lipsum.__globals__ }}",
		"{{ cycler.__init__ }}",
		"{{ range(10) }}",
		"{{ today_with_timezone('../../../etc/passwd') }}",
		"{{ config.l.append(2) }}",
		"{{ config.update(a=1) }}",
		"{{ config.pop('s') }}",
	} {
		tpl, err := jinja.Parse(src)
		if err == nil {
			var out string
			if out, err = tpl.Render(testEnv(), vars); err == nil {
				t.Errorf("%s gives %q", src, out)
			}
		}
	}
}

func TestEvaluationsAreBounded(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("(", 100_000)
	for _, src := range []string{
		"{{ 'x' * 10000000000 }}",
		"{{ ('x' * 1000000) * 1000000 }}",
		"{{ [0] * 100000000 }}",
		"{{ 9 ** (9 ** 9) }}",
		"{{ 'a' | center(100000000) }}",
		"{{ '%99999999d' % 1 }}",
		"{{ '{:99999999}'.format(1) }}",
		"{{ 'x'.zfill(999999999) }}",
		"{{ 'a\nb' | indent(999999999) }}",
		"{% for a in 'x' * 10000 %}{% for b in 'x' * 10000 %}{{ a }}{% endfor %}{% endfor %}",
		"{% set ns = namespace(s='x') %}{% for a in 'x' * 100 %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}",
		"{{ ('x' * 100000).replace('x', 'y' * 100000) }}",
		"{{ [1] | batch(1000000000, 0) | list }}",
		"{{ [1] | slice(1000000000) | list }}",
		"{{ 'aaaa' | regex_replace('a', 'b' * 10000000) }}",
		"{{ " + deep,
		"{{ " + strings.Repeat("not ", 100_000) + "1 }}",
		"{{ " + strings.Repeat("-", 100_000) + "1 }}",
		strings.Repeat("{% if 1 %}", 100_000),
	} {
		start := time.Now()
		tpl, err := jinja.Parse(src)
		if err == nil {
			_, err = tpl.Render(testEnv(), nil)
		}
		if len(src) > 80 {
			src = src[:80]
		}
		if err == nil {
			t.Errorf("%s was not stopped", src)
		}
		if d := time.Since(start); d > time.Minute { // some tenths of a second, on a machine with nothing else to do
			t.Errorf("%s took %v", src, d)
		}
	}
}

func TestCalendarDurationsMoveByMonthsAndYears(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ from, by, want string }{
		{"2024-02-29", "P1Y", "2025-02-28T00:00:00Z"},
		{"2026-01-31", "P1M", "2026-02-28T00:00:00Z"},
		{"2026-03-31", "-P1M", "2026-02-28T00:00:00Z"},
		{"2026-01-15", "P1Y2M3DT4H", "2027-03-18T04:00:00Z"},
		{"2026-01-15", "-P13M", "2024-12-15T00:00:00Z"},
		{"2026-01-15", "P2W", "2026-01-29T00:00:00Z"},
		{"2026-01-15", "PT0.5S", "2026-01-15T00:00:00.5Z"},
	} {
		from, err := jinja.ParseISO(c.from)
		if err != nil {
			t.Fatal(err)
		}
		d, err := jinja.ParseDuration(c.by)
		if err != nil {
			t.Fatal(err)
		}
		if got := d.Add(from.Time()).Format(time.RFC3339Nano); got != c.want {
			t.Errorf("%s + %s = %s; want %s", c.from, c.by, got, c.want)
		}
	}
	for _, bad := range []string{"", "P", "PT", "1D", "P1", "PT1Y", "P1D1M", "P1.5M", "P99999999999999Y", "P1DT"} {
		if d, err := jinja.ParseDuration(bad); err == nil {
			t.Errorf("%q = %v", bad, d)
		}
	}
}

func TestJSONKeepsLexemesAndOrder(t *testing.T) {
	t.Parallel()
	const src = `{"z":1.10,"a":123456789012345678901234567890,"e":1e400,"m":-0,"s":"\ud800x\u00e9","n":{"b":[1.0,2]}}`
	v, err := jinja.ParseJSON([]byte(src))
	if err != nil {
		t.Fatal(err)
	}
	d := v.(*jinja.Dict)
	if got, _ := jinja.AppendJSON(nil, d); string(got) != src {
		t.Errorf("unmodified: %s", got)
	}
	d.Set("new", "x")
	got, err := jinja.AppendJSON(nil, d)
	if want := `{"z":1.10,"a":123456789012345678901234567890,"e":1e400,"m":-0,"s":"` + "\ufffd" + `xé","n":{"b":[1.0,2]},"new":"x"}`; err != nil || string(got) != strings.ReplaceAll(want, "\ufffd", "�") {
		t.Errorf("modified: %s, %v", got, err)
	}
	for _, bad := range []string{"", "{", "[1,]", `{"a":1,}`, "01", "1.", "tru", `"\x"`, `"` + "\x00" + `"`, "1 2", "\xff", "\"\xff\"", strings.Repeat("[", 5000)} {
		if v, err := jinja.ParseJSON([]byte(strings.ReplaceAll(bad, "\\xff", "\xff"))); err == nil {
			t.Errorf("%q = %v", bad, v)
		}
	}
}

func testEnv() *jinja.Env {
	return &jinja.Env{Now: func() time.Time { return time.Unix(1_768_472_430, 0) }, Random: rand.NewChaCha8([32]byte{})}
}

// FuzzTemplate: no template may panic or run away, and rendering is repeatable.
func FuzzTemplate(f *testing.F) {
	vars, env, cases := table(f)
	for i, c := range cases {
		if i%7 == 0 {
			f.Add(c.Template)
		}
	}
	f.Fuzz(func(t *testing.T, src string) {
		if strings.Contains(src, "uuid") {
			return
		}
		a, b := evaluate(src, vars, env), evaluate(src, vars, env)
		if a != b {
			t.Errorf("%q: %+v and %+v", src, a, b)
		}
	})
}

// FuzzLiteral: what was read prints as a literal that reads back equal.
func FuzzLiteral(f *testing.F) {
	for _, s := range []string{"{'a': [1, 2.5, (None, True)]}", "'\\x41'", "b'x'", "{1, 2}", "-1e5", "1_000"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, ok := jinja.LiteralEval(s)
		if !ok {
			return
		}
		printed := jinja.Repr(v)
		again, ok := jinja.LiteralEval(printed)
		if strings.Contains(printed, "inf") {
			return // Python cannot read its own inf either
		}
		if !ok || !jinja.Equal(v, again) {
			t.Errorf("%q prints as %q, which reads back as %v, %v", s, printed, jinja.Repr(again), ok)
		}
	})
}
