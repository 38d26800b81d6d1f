package schedule

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/adhocore/gronx"
	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"
)

func cron(t testing.TB, s string) Cron {
	t.Helper()
	c, err := ParseCron(s)
	if err != nil {
		t.Fatalf("ParseCron(%q): %v", s, err)
	}
	return c
}

func TestRefusedExpressionsSayWhichFieldIsWrong(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"", "no cron expression"},
		{"0 2 * *", "five fields"},
		{"0 0 2 * * *", "five fields"},
		{"@daily", "five fields"},
		{"0\t2 * * *", "separated by spaces"},
		{"60 2 * * *", `minute "60"`},
		{"0 24 * * *", `hour "24"`},
		{"0 0 0 * *", `day of the month "0"`},
		{"0 0 * 13 *", `month "13"`},
		{"0 0 * * 8", `day of the week "8"`},
		{"0 0 * * funday", "funday"},
		{"5-1 * * * *", "ends before it begins"},
		{"5/10 * * * *", "a step needs a range"},
		{"*/0 * * * *", "step"},
		{"*/100 * * * *", "step"},
		{"1,,2 * * * *", `minute`},
		{"+1 * * * *", "minute"},
		{"-1 * * * *", "minute"},
		{"000 * * * *", "minute"},
		{"0 0 30 2 *", "no such day"},
		{"0 0 */2 * 1", "disagree"},
		{"0 0 2 1 0-6", "disagree"},
		{"0 0 1-31 * 1", "disagree"},
		{"0 0 L * *", "day of the month"},
	} {
		_, err := ParseCron(tt.in)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("ParseCron(%q) = %v; want an error with %q", tt.in, err, tt.want)
		}
	}
}

func TestPatternAcceptsWhatIsParsed(t *testing.T) {
	for _, s := range []string{"0 2 * * *", "*/15 8-18 * * mon-fri", "0 0 1 jan,JUL *", "0 0 29 2 *", "07 02 01 01 7", "0-59/7 * * * 0-7", "0 0 1 * 1"} {
		cron(t, s)
	}
	for _, s := range []string{"60 * * * *", "* * * * 8", "* * 0 * *", "a * * * *", "* * * *", "5/10 * * * *"} {
		if shape.MatchString(s) {
			t.Errorf("the pattern accepts %q", s)
		}
	}
}

func expressions() *rapid.Generator[string] {
	part := func(lo, hi int) *rapid.Generator[string] {
		return rapid.Custom(func(t *rapid.T) string {
			a := rapid.IntRange(lo, hi).Draw(t, "a")
			b := rapid.IntRange(a, hi).Draw(t, "b")
			switch rapid.IntRange(0, 4).Draw(t, "form") {
			case 0:
				return fmt.Sprint(a)
			case 1:
				if a > lo || b < hi { // all values in other words are refused beside a restriction
					return fmt.Sprintf("%d-%d", a, b)
				}
			case 2:
				return fmt.Sprintf("%d,%d", a, b)
			}
			return "*"
		})
	}
	return rapid.Custom(func(t *rapid.T) string {
		return strings.Join([]string{part(0, 59).Draw(t, "minute"), part(0, 23).Draw(t, "hour"), part(1, 28).Draw(t, "day"),
			part(1, 12).Draw(t, "month"), part(0, 6).Draw(t, "weekday")}, " ")
	})
}

// gronx is an independent reading of crontab(5).
func TestTimesAgreeWithAnotherImplementation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		expr := expressions().Draw(t, "expr")
		at := time.Unix(rapid.Int64Range(1.7e9, 1.9e9).Draw(t, "at"), 0).UTC()
		c, err := ParseCron(expr)
		if err != nil {
			t.Fatal(err)
		}
		next, err := gronx.NextTickAfter(expr, at, false)
		if err != nil {
			t.Skip(err) // gronx gives up on rare days
		}
		if got := c.Next(at); !got.Equal(next) {
			t.Fatalf("%q: Next(%s) = %s; gronx says %s", expr, at, got, next)
		}
		prev, err := gronx.PrevTickBefore(expr, at.Truncate(time.Minute), true)
		if err != nil {
			t.Skip(err)
		}
		if got := c.Prev(at); !got.Equal(prev) {
			t.Fatalf("%q: Prev(%s) = %s; gronx says %s", expr, at, got, prev)
		}
	})
}

func TestRareDaysAreFound(t *testing.T) {
	// 29 February that is a Sunday does not matter to cron (either day is enough), but
	// 29 February alone skips 2100.
	got := cron(t, "0 0 29 2 *").Next(time.Date(2096, 3, 1, 0, 0, 0, 0, time.UTC))
	if want := time.Date(2104, 2, 29, 0, 0, 0, 0, time.UTC); !got.Equal(want) {
		t.Errorf("Next = %s; want %s", got, want)
	}
}

func TestLongestGap(t *testing.T) {
	from := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for expr, want := range map[string]time.Duration{
		"0 2 * * *":       24 * time.Hour,
		"0 2 * * mon-fri": 72 * time.Hour,
		"0 9,17 * * *":    16 * time.Hour,
		"0 0 1 * *":       31 * 24 * time.Hour,
		"*/15 * * * *":    15 * time.Minute,
		"*/5 9-17 * * *":  15*time.Hour + 5*time.Minute,
		"0 0 29 2 *":      1461 * 24 * time.Hour,
	} {
		if got := cron(t, expr).LongestGap(from); got != want {
			t.Errorf("LongestGap(%q) = %s; want %s", expr, got, want)
		}
	}
}

func TestVerdicts(t *testing.T) {
	at := func(s string) time.Time {
		if s == "" {
			return time.Time{}
		}
		v, err := time.Parse("2006-01-02 15:04", s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	nightly := cron(t, "0 2 * * *")
	day := 24 * time.Hour
	for _, tt := range []struct {
		name         string
		job          Job
		now, last    string
		due, overdue bool
		reason, next string
	}{
		{"a job without times or objective", Job{}, "2026-03-01 12:00", "", false, false, "not scheduled", ""},
		{"never done", Job{Cron: nightly}, "2026-03-01 01:00", "", true, false, "never done", ""},
		{"never done with an objective", Job{Every: day}, "2026-03-01 01:00", "", true, true, "never done", ""},
		{"before its time", Job{Cron: nightly}, "2026-03-02 01:59", "2026-03-01 02:00", false, false, "due at 2026-03-02 02:00 UTC", "2026-03-02 02:00"},
		{"at its time", Job{Cron: nightly}, "2026-03-02 02:00", "2026-03-01 02:00", true, false, "scheduled for 2026-03-02 02:00 UTC", ""},
		{"the success of this very minute counts", Job{Cron: nightly}, "2026-03-02 02:00", "2026-03-02 02:00", false, false, "due at 2026-03-03 02:00 UTC", "2026-03-03 02:00"},
		{"a week missed is one run", Job{Cron: nightly}, "2026-03-09 01:00", "2026-03-01 02:00", true, false, "scheduled for 2026-03-08 02:00 UTC", ""},
		{"objective missed", Job{Cron: nightly, Every: day}, "2026-03-03 02:00", "2026-03-01 02:00", true, true, "overdue since 2026-03-02 02:00 UTC", ""},
		{"objective alone, early", Job{Every: 90 * day}, "2026-03-01 00:00", "2026-01-01 00:00", false, false, "due at 2026-03-25 00:00 UTC", "2026-03-25 00:00"},
		{"objective alone, a week before its end", Job{Every: 90 * day}, "2026-03-25 00:00", "2026-01-01 00:00", true, false, "the objective ends at 2026-04-01 00:00 UTC", ""},
		{"a clock was wrong", Job{Cron: nightly}, "2026-03-01 00:00", "2036-01-01 00:00", true, false, "the last success lies in the future (2036-01-01 00:00 UTC)", ""},
	} {
		got := tt.job.At(at(tt.now), at(tt.last))
		if got.Due != tt.due || got.Overdue != tt.overdue || got.Reason != tt.reason || !got.Next.Equal(at(tt.next)) {
			t.Errorf("%s: %+v", tt.name, got)
		}
	}
}

func testTimers(t *testing.T) []Timer {
	return []Timer{
		{Name: "export", Summary: "export what is due", Args: []string{"export", "--due"},
			At: []Cron{cron(t, "0 2 * * *"), cron(t, "30 1 1 * mon-fri"), cron(t, "0 2 * * *")}},
		{Name: "exit-test", Summary: "run the exit tests that are due", Args: []string{"exit-test", "--due"}},
	}
}

func TestUnitsPassSystemdAnalyze(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	s := Settings{Binary: "/bin/true", Config: "/etc/sally port/50%$x.yaml"}
	files, err := Systemd(s, testTimers(t), []string{"/var/lib/archive", "/srv/with space"})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	args := []string{"verify", "--man=no", "--recursive-errors=no"}
	for _, f := range files {
		name := filepath.Join(dir, f.Name)
		if err := os.WriteFile(name, []byte(f.Text), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, name)
	}
	if len(files) != 4 {
		t.Fatalf("%d files; want 4", len(files))
	}
	out, err := exec.Command(analyze, args...).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

func TestCalendarEventsFireWhenCronDoes(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	base := time.Date(2026, 3, 1, 12, 0, 30, 0, time.UTC)
	for _, expr := range []string{"0 2 * * *", "*/15 8-18 * * mon-fri", "30 1 1,15 * *", "0 0 29 2 *", "5 4 1 * sun", "0 0 1 jan,jul *", "59 23 31 12 *"} {
		c := cron(t, expr)
		for _, at := range []time.Time{base, base.AddDate(0, 4, 13)} {
			var first time.Time
			for _, event := range c.systemd() {
				out, err := exec.Command(analyze, "calendar", "--base-time="+at.Format("2006-01-02 15:04:05 UTC"), event).CombinedOutput()
				if err != nil {
					t.Fatalf("%q as %q: %v\n%s", expr, event, err, out)
				}
				if next := elapse(t, string(out)); first.IsZero() || next.Before(first) {
					first = next
				}
			}
			if want := c.Next(at); !first.Equal(want) {
				t.Errorf("%q after %s: systemd fires at %s; want %s", expr, at, first, want)
			}
		}
	}
}

// elapse finds the next firing in the output of systemd-analyze calendar.
func elapse(t *testing.T, out string) time.Time {
	for line := range strings.Lines(out) {
		label, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		if label == "Next elapse" && strings.HasSuffix(value, "UTC") || label == "(in UTC)" {
			v, err := time.Parse("Mon 2006-01-02 15:04:05 UTC", strings.TrimSpace(value))
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
	}
	t.Fatalf("no next elapse in %s", out)
	return time.Time{}
}

func TestCrontabLinesAreQuoted(t *testing.T) {
	got, err := Crontab(Settings{Binary: "/usr/bin/sallyport", Config: "/etc/it's 5%.yaml"}, testTimers(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"CRON_TZ=UTC\n",
		`0 2 * * * /usr/bin/sallyport export --due --config '/etc/it'\''s 5\%.yaml'` + "\n",
		"30 1 1 * mon-fri /usr/bin/sallyport export",
		"17 * * * * /usr/bin/sallyport exit-test --due",
	} {
		if strings.Count(got, want) != 1 {
			t.Errorf("%q is not in the crontab once:\n%s", want, got)
		}
	}
}

func TestTimersRefuseWordsWithLineBreaks(t *testing.T) {
	s := Settings{Binary: "/usr/bin/sallyport", Config: "/etc/a\n* * * * * rm"}
	if _, err := Crontab(s, testTimers(t)); err == nil {
		t.Error("a crontab was printed")
	}
	if _, err := Systemd(s, testTimers(t), nil); err == nil {
		t.Error("units were printed")
	}
	if _, err := CronJobs(s, testTimers(t)); err == nil {
		t.Error("CronJobs were printed")
	}
}

// What Kubernetes requires of a batch/v1 CronJob, as far as we use it. Decoding is
// strict, so a misspelt field fails.
type cronJob struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   struct {
		Name, Namespace string
		Labels          map[string]string
	}
	Spec struct {
		Schedule                   string
		TimeZone                   string `yaml:"timeZone"`
		ConcurrencyPolicy          string `yaml:"concurrencyPolicy"`
		StartingDeadlineSeconds    int    `yaml:"startingDeadlineSeconds"`
		SuccessfulJobsHistoryLimit int    `yaml:"successfulJobsHistoryLimit"`
		FailedJobsHistoryLimit     int    `yaml:"failedJobsHistoryLimit"`
		JobTemplate                struct {
			Spec struct {
				BackoffLimit int `yaml:"backoffLimit"`
				Template     struct {
					Metadata struct{ Labels map[string]string }
					Spec     struct {
						RestartPolicy                string         `yaml:"restartPolicy"`
						AutomountServiceAccountToken bool           `yaml:"automountServiceAccountToken"`
						SecurityContext              map[string]any `yaml:"securityContext"`
						Containers                   []struct {
							Name, Image     string
							Command         []string
							Env             []struct{ Name, Value string }
							EnvFrom         []map[string]map[string]any `yaml:"envFrom"`
							Resources       map[string]map[string]string
							SecurityContext map[string]any `yaml:"securityContext"`
							VolumeMounts    []struct {
								Name      string
								MountPath string `yaml:"mountPath"`
								ReadOnly  bool   `yaml:"readOnly"`
							} `yaml:"volumeMounts"`
						}
						Volumes []map[string]any
					}
				}
			}
		} `yaml:"jobTemplate"`
	}
}

func TestCronJobsHaveTheShapeKubernetesAsksFor(t *testing.T) {
	s := Settings{Binary: "/usr/bin/sallyport", Config: "/etc/sally: port/é.yaml", Image: "registry.example/sallyport:1", Namespace: "exit"}
	text, err := CronJobs(s, testTimers(t))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	dec := yaml.NewDecoder(strings.NewReader(text))
	dec.KnownFields(true)
	for {
		var j cronJob
		if err := dec.Decode(&j); err != nil {
			if err.Error() == "EOF" {
				break
			}
			t.Fatalf("%v in\n%s", err, text)
		}
		names = append(names, j.Metadata.Name)
		if j.APIVersion != "batch/v1" || j.Kind != "CronJob" || j.Spec.TimeZone != "Etc/UTC" || j.Spec.ConcurrencyPolicy != "Forbid" {
			t.Errorf("CronJob %s: %+v", j.Metadata.Name, j)
		}
		cron(t, j.Spec.Schedule)
		pod := j.Spec.JobTemplate.Spec.Template.Spec
		if pod.RestartPolicy != "Never" || len(pod.Containers) != 1 {
			t.Fatalf("pod of %s: %+v", j.Metadata.Name, pod)
		}
		if got := pod.Containers[0].Command; got[0] != s.Binary || got[len(got)-1] != s.Config {
			t.Errorf("command of %s: %q", j.Metadata.Name, got)
		}
	}
	if want := []string{"sallyport-export-1", "sallyport-export-2", "sallyport-export", "sallyport-exit-test"}; !slices.Equal(names, want) {
		t.Errorf("names %q; want %q", names, want)
	}
}
