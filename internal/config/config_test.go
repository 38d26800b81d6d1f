package config

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/exporters"
	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

// testKinds are two kinds that use every type of option. The real ones are tested with
// the command.
var testKinds = []exporters.Kind{
	{
		Name: "s3", Schemes: []string{"s3"},
		Options: []exporters.Option{
			{Name: "bucket", Type: exporters.TextOption, Required: true, Help: "Name of the bucket."},
			{Name: "endpoint", Type: exporters.TextOption, Help: "Server."},
			{Name: "region", Type: exporters.TextOption, Default: "us-east-1", Help: "Region."},
			{Name: "ca", Type: exporters.PathOption, Help: "Certificate."},
			{Name: "secret_key", Type: exporters.SecretOption, Help: "Secret key."},
			{Name: "versions", Type: exporters.TextOption, Default: "all", Enum: []string{"all", "current"}, Help: "Versions."},
			{Name: "include", Type: exporters.ListOption, Help: "Prefixes."},
			{Name: "concurrency", Type: exporters.IntOption, Default: int64(64), Help: "Objects in flight."},
			{Name: "path_style", Type: exporters.BoolOption, Default: true, Help: "Path style."},
		},
		OpenTarget: func(context.Context, exporters.Config) (exporters.Target, error) {
			return nil, errors.New("not in this test")
		},
		FromURL: func(raw string) (map[string]any, error) {
			bucket, _, _ := strings.Cut(strings.TrimPrefix(raw, "s3://"), "/")
			return map[string]any{"bucket": bucket}, nil
		},
	},
	{
		Name: "rest", Schemes: []string{"https"},
		Options: []exporters.Option{
			{Name: "timeout", Type: exporters.DurationOption, Default: time.Minute, Help: "Time-out."},
			{Name: "config", Type: exporters.MapOption, Help: "The connector's own settings."},
		},
	},
}

// A fixture is a configuration with what is expected of it in its head:
//
//	# expect: 12: services.x.schedule: must be five cron fields ...
//	# schema: cannot tell
type fixture struct {
	name   string
	text   []byte
	expect []string // findings; "nothing" for a good one
	blind  bool     // the JSON Schema cannot see what is wrong
}

func fixtures(t *testing.T) []fixture {
	t.Helper()
	names, err := filepath.Glob("../../fixtures/config/*.yaml")
	if err != nil || len(names) < 20 {
		t.Fatalf("%d fixtures: %v; the walk is broken", len(names), err)
	}
	var all []fixture
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		f := fixture{name: filepath.Base(name), text: text}
		for sc := bufio.NewScanner(bytes.NewReader(text)); sc.Scan(); {
			if e, ok := strings.CutPrefix(sc.Text(), "# expect: "); ok {
				f.expect = append(f.expect, e)
			}
			f.blind = f.blind || strings.HasPrefix(sc.Text(), "# schema: cannot tell")
		}
		if len(f.expect) == 0 {
			t.Errorf("%s does not say what is expected of it", f.name)
		}
		all = append(all, f)
	}
	return all
}

// found parses text and returns the findings as the fixtures write them.
func found(t *testing.T, text []byte) []string {
	_, err := Parse("/etc/sallyport/sallyport.yaml", text, Options{Kinds: testKinds})
	var list Findings
	var e *Error
	var p *PolicyError
	switch {
	case err == nil:
		return []string{"nothing"}
	case errors.As(err, &e):
		list = e.Findings
	case errors.As(err, &p):
		list = p.Findings
	default:
		t.Fatalf("an error of another type: %v", err)
	}
	var lines []string
	for _, f := range list {
		line := strings.TrimPrefix(f.String(), "/etc/sallyport/sallyport.yaml:")
		if f.Policy {
			line += " (policy)"
		}
		lines = append(lines, line)
	}
	return lines
}

func TestFixturesAreFoundToBeAsTheySay(t *testing.T) {
	for _, f := range fixtures(t) {
		if diff := cmp.Diff(f.expect, found(t, f.text)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", f.name, diff)
		}
	}
}

func compileSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema(testKinds)))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource(SchemaID, doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile(SchemaID)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// instance reads YAML as an editor with the schema would: to JSON.
func instance(text []byte) (any, error) {
	var n yaml.Node
	if err := yaml.Unmarshal(text, &n); err != nil {
		return nil, err
	}
	dates(&n)
	var v any
	if err := n.Decode(&v); err != nil {
		return nil, err
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return jsonschema.UnmarshalJSON(bytes.NewReader(b))
}

// dates makes text of dates, as YAML 1.2 has it.
func dates(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!timestamp" {
		n.Tag = "!!str"
	}
	for _, c := range n.Content {
		dates(c)
	}
}

func TestSchemaAcceptsAndRefusesAsParsingDoes(t *testing.T) {
	s := compileSchema(t)
	for _, f := range fixtures(t) {
		good := f.expect[0] == "nothing"
		v, err := instance(f.text)
		if err != nil { // a tool with a schema has nothing to look at either
			if good {
				t.Errorf("%s: %v", f.name, err)
			}
			continue
		}
		if err := s.Validate(v); (good || f.blind) != (err == nil) {
			t.Errorf("%s: the schema says %v", f.name, err)
		}
	}
}

func TestExampleIsReadWhole(t *testing.T) {
	text, err := os.ReadFile("../../fixtures/config/good-full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c, err := Parse("/etc/sallyport/sallyport.yaml", text, Options{Kinds: testKinds})
	if err != nil {
		t.Fatal(err)
	}
	s := c.Services["case-files"]
	if s == nil || !slices.Equal(c.Names(), []string{"case-files", "tickets"}) {
		t.Fatalf("services: %q", c.Names())
	}
	if got, want := c.Keys.Recipients, Path("/etc/sallyport/keys/recipients.txt"); got != want {
		t.Errorf("Recipients = %q; want %q", got, want)
	}
	if s.Objectives.RPO.Std() != 24*time.Hour || s.Objectives.ExitTestEvery.Std() != 90*24*time.Hour {
		t.Errorf("Objectives = %+v", s.Objectives)
	}
	if got := s.Keep.Daily; got != 14 {
		t.Errorf("Keep.Daily = %d; want 14", got)
	}
	if got := s.Schedule.String(); got != "0 2 * * *" {
		t.Errorf("Schedule = %q", got)
	}
	if got := s.ExitTest.Checks[0]; got.Expect != "0" || got.Timeout.Std() != time.Minute {
		t.Errorf("Checks[0] = %+v; want the default time-out of a minute", got)
	}
	if got := s.Waive[0].Until.End(); !got.Equal(time.Date(2027, 4, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("waiver ends at %s", got)
	}
	want := map[string]any{"bucket": "case-files", "endpoint": "https://s3.eu-west-2.amazonaws.com", "region": "eu-west-2", "versions": "all",
		"concurrency": int64(64), "path_style": true, "secret_key": "file:/etc/sallyport/keys/secret", "include": []string{"cases/"}}
	if diff := cmp.Diff(want, s.With.Options); diff != "" {
		t.Errorf("Options (-want +got):\n%s", diff)
	}
	if got := s.Purge; got.Approvals != 2 || got.Rules[0].OlderThan.String() != "7y" {
		t.Errorf("Purge = %+v", got)
	}
	if got := c.Where("services.case-files.schedule"); !strings.HasPrefix(got, "/etc/sallyport/sallyport.yaml:") || strings.HasSuffix(got, ":0") {
		t.Errorf("Where = %q", got)
	}
}

func TestWhatIsShownReadsTheSame(t *testing.T) {
	for _, f := range fixtures(t) {
		if f.expect[0] != "nothing" {
			continue
		}
		c, err := Parse("/etc/sallyport/sallyport.yaml", f.text, Options{Kinds: testKinds})
		if err != nil {
			t.Fatalf("%s: %v", f.name, err)
		}
		text, err := c.YAML()
		if err != nil {
			t.Fatalf("%s: %v", f.name, err)
		}
		again, err := Parse("/somewhere/else.yaml", text, Options{Kinds: testKinds})
		if err != nil {
			t.Errorf("%s: what is shown is refused: %v\n%s", f.name, err, text)
			continue
		}
		one, _ := json.Marshal(c.Tree())
		two, err := json.Marshal(again.Tree())
		if err != nil || string(one) != string(two) {
			t.Errorf("%s: %v\n%s\nreads as\n%s", f.name, err, one, two)
		}
	}
}

func TestPolicyAloneIsAnErrorOfItsOwn(t *testing.T) {
	parse := func(name string) error {
		text, err := os.ReadFile("../../fixtures/config/" + name)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Parse("/x/sallyport.yaml", text, Options{Kinds: testKinds})
		return err
	}
	var policy *PolicyError
	if err := parse("bad-classification-secret.yaml"); !errors.As(err, &policy) {
		t.Errorf("a classification above OFFICIAL's tiers: %T", err)
	}
	var other *Error
	if err := parse("bad-many-at-once.yaml"); !errors.As(err, &other) {
		t.Errorf("policy and mistakes together: %T", err)
	}
}

func TestNoMessageRepeatsASecret(t *testing.T) {
	const canary = "hunter2hunter2"
	base := "version: 1\nstore: ./archive\nkeys: {recipients: r, signing_key: s, allowed_signers: a}\nservices:\n  x: {owner: o, classification: OFFICIAL, exporter: s3, with: {bucket: b}}\n"
	for _, change := range [][2]string{
		{"bucket: b", "bucket: b, secret_key: " + canary},
		{"bucket: b", "bucket: b, secret_key: [" + canary + "]"},
		{"bucket: b", "bucket: b, endpoint: 'https://me:" + canary + "@host/'"},
		{"./archive", "s3://me:" + canary + "@bucket/prefix"},
		{"signing_key: s", "signing_key: '-----BEGIN OPENSSH PRIVATE KEY-----" + canary + "'"},
		{"signing_key: s", "signing_key: {a: " + canary + "}"},
		{"owner: o", "owner: o, heartbeat: {export: 'http://hc.example/" + canary + "'}"},
		{"owner: o", "owner: 'https://me:" + canary + "@host'"},
	} {
		text := strings.Replace(base, change[0], change[1], 1)
		_, err := Parse("/x", []byte(text), Options{Kinds: testKinds})
		if err == nil {
			t.Errorf("accepted: %s", change[1])
		} else if strings.Contains(err.Error(), canary) {
			t.Errorf("the message repeats the secret: %v", err)
		}
	}
	if got := found(t, []byte(base)); got[0] != "nothing" {
		t.Errorf("the unchanged text: %q", got)
	}
}

func TestReferencesAreLookedAt(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode fs.FileMode) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	identity, recipient, err := crypto.GenerateIdentity(false)
	if err != nil {
		t.Fatal(err)
	}
	private, public, err := crypto.GenerateSigningKey("")
	if err != nil {
		t.Fatal(err)
	}
	write("recipients", recipient+"\n", 0o644)
	write("identity", string(identity), 0o600)
	write("exposed", string(identity), 0o604)
	write("key", string(private), 0o600)
	write("allowed", `exporter namespaces="sallyport-manifest" `+public+"\n", 0o644)
	write("junk", "junk\n", 0o600)
	write("secret", "s3cret\n", 0o600)
	write("empty", "\n", 0o600)
	const text = `version: 1
store: archive
ca: CA
keys:
  recipients: RECIPIENTS
  signing_key: KEY
  allowed_signers: ALLOWED
  identities: [IDENTITY]
services:
  x: {owner: o, classification: OFFICIAL, exporter: s3, with: {bucket: b, secret_key: "SECRET"}}
`
	for _, tt := range []struct{ change, want string }{
		{"", ""},
		{"RECIPIENTS=missing", "5: keys.recipients: open " + dir + "/missing: no such file"},
		{"RECIPIENTS=.", "5: keys.recipients: read " + dir + ": is a directory"},
		{"RECIPIENTS=junk", "5: keys.recipients: " + dir + "/junk"},
		{"ALLOWED=junk", "7: keys.allowed_signers: " + dir + "/junk"},
		{"KEY=junk", "6: keys.signing_key: " + dir + "/junk"},
		{"IDENTITY=junk", "8: keys.identities[0]: " + dir + "/junk"},
		{"IDENTITY=exposed", "8: keys.identities[0]: use " + dir + "/exposed: everyone on this host"},
		{"ca: CA=ca: junk", "3: ca: " + dir + "/junk holds no certificate"},
		{"SECRET=env:SALLYPORT_NOT_SET", "10: services.x.with.secret_key: secret env:SALLYPORT_NOT_SET: the variable is not set"},
		{"SECRET=file:empty", "services.x.with.secret_key: secret file:" + dir + "/empty: it is empty"},
		{"SECRET=exec:no-such-command-here -x", "services.x.with.secret_key: secret exec:no-such-command-here -x: "},
	} {
		text := text
		if from, to, ok := strings.Cut(tt.change, "="); ok {
			text = strings.Replace(text, from, to, 1)
		}
		text = strings.NewReplacer("ca: CA\n", "\n", "RECIPIENTS", "recipients", "KEY", "key", "ALLOWED", "allowed", "IDENTITY", "identity", "SECRET", "file:secret").Replace(text)
		_, err := Parse(filepath.Join(dir, FileName), []byte(text), Options{Kinds: testKinds, References: true})
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("all is there: %v", err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: %v; want %q", tt.change, err, tt.want)
		}
	}
}

func TestLoadNamesTheFileThatIsMissing(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), FileName), Options{})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v; want fs.ErrNotExist", err)
	}
}

func TestSecretsResolve(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte("from file\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "huge"), make([]byte, maxSecret+1), 0o600); err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\necho noise >&2\necho \"from $1\"\n"
	if err := os.WriteFile(filepath.Join(dir, "tell"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SALLYPORT_TEST_SECRET", "from env")
	t.Setenv("SALLYPORT_TEST_EMPTY", "")
	s := Secrets{Dir: dir, Timeout: 300 * time.Millisecond}
	for _, tt := range []struct{ ref, want, err string }{
		{"env:SALLYPORT_TEST_SECRET", "from env", ""},
		{"env:SALLYPORT_TEST_EMPTY", "", "empty"},
		{"env:SALLYPORT_NOT_SET", "", "not set"},
		{"file:secret", "from file", ""},
		{"file:missing", "", "no such file"},
		{"file:huge", "", "longer than"},
		{"exec:./tell command", "from command", ""},
		{"exec:false", "", "exit status 1"},
		{"exec:yes", "", "secret exec:yes: "},
		{"exec:sleep 60", "", "took longer than 300ms"},
		{"exec: ", "", "no command"},
		{"plain", "", "by reference"},
		{"", "", "by reference"},
	} {
		got, err := s.Resolve(t.Context(), tt.ref)
		if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("Resolve(%q) = %q, %v; want %q, %q", tt.ref, got, err, tt.want, tt.err)
		}
	}
}

func TestDurationsPrintAsTheyParse(t *testing.T) {
	for _, s := range []string{"1s", "90m", "24h", "90d", "4w", "1d"} {
		var d Duration
		if err := d.UnmarshalText([]byte(s)); err != nil {
			t.Errorf("%s: %v", s, err)
			continue
		}
		var again Duration
		if err := again.UnmarshalText([]byte(d.String())); err != nil || again != d {
			t.Errorf("%s prints as %s, which is %v, %v", s, d, again, err)
		}
	}
}

func TestAgesFollowTheCalendar(t *testing.T) {
	now := time.Date(2026, 3, 15, 0, 0, 0, 0, time.UTC)
	for s, want := range map[string]string{"7y": "2019-03-15", "1mo": "2026-02-15", "2w": "2026-03-01", "15d": "2026-02-28"} {
		var a Age
		if err := a.UnmarshalText([]byte(s)); err != nil {
			t.Fatal(err)
		}
		if got := a.Before(now).Format(time.DateOnly); got != want {
			t.Errorf("%s before: %s; want %s", s, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	names, err := filepath.Glob("../../fixtures/config/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Parse("/x/sallyport.yaml", text, Options{Kinds: testKinds})
		if (c == nil) == (err == nil) {
			t.Fatalf("Parse = %v, %v", c, err)
		}
	})
}

func TestASecondDocumentHidesNoOtherMistake(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), FileName)
	for _, rest := range []string{"---\nb: 2\n", "---\nb: [\n"} {
		if err := os.WriteFile(file, []byte("version: 1\nstor: archive\n"+rest), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Load(file, Options{})
		var e *Error
		if !errors.As(err, &e) || len(e.Findings) < 3 || !strings.Contains(err.Error(), "stor") {
			t.Errorf("%q: %v", rest, err)
		}
	}
}
