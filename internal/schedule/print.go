package schedule

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"text/template"
	"unicode"
	"unicode/utf8"
)

// A Timer starts one command at the times of its jobs, and besides once an hour to make
// good what was missed or failed.
type Timer struct {
	Name    string   // "export"; units are called sallyport-export
	Summary string   // what the command does, in a few words
	Args    []string // of the command line, after the binary
	At      []Cron   // in any order; repeated ones count once
}

// Settings are what the printed timers need to know of the host.
type Settings struct {
	Binary    string // absolute path of sallyport
	Config    string // absolute path of the configuration
	User      string // account of the units; "" means sallyport
	Image     string // container image of CronJobs
	Namespace string // of CronJobs; "" leaves it to kubectl
}

// catchUp is the hourly tick of every timer. The odd minute keeps a fleet of hosts
// from knocking at the full hour.
var catchUp = must(ParseCron("17 * * * *"))

func must(c Cron, err error) Cron {
	if err != nil {
		panic(err) // a constant of this package
	}
	return c
}

// times returns the distinct expressions of t, sorted, the hourly one last.
func (t Timer) times() []Cron {
	at := slices.Clone(t.At)
	slices.SortFunc(at, func(a, b Cron) int { return strings.Compare(a.text, b.text) })
	at = slices.CompactFunc(at, func(a, b Cron) bool { return a.text == b.text })
	at = slices.DeleteFunc(at, func(c Cron) bool { return c.IsZero() || c.text == catchUp.text })
	return append(at, catchUp)
}

// A File is one printed file.
type File struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

var unitTemplates = template.Must(template.New("units").Parse(`
{{- define "service" -}}
[Unit]
Description=Sallyport: {{.Summary}}
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
ExecStart={{.Command}}
User={{.User}}
EnvironmentFile=-{{.ConfigDir}}/environment
StateDirectory=sallyport
StateDirectoryMode=0700
RuntimeDirectory=%N
RuntimeDirectoryMode=0700
Environment=XDG_STATE_HOME=/var/lib TMPDIR=/run/%N
UMask=0077
TimeoutStartSec=infinity
TimeoutStopSec=2min
LimitCORE=0
Nice=10
IOSchedulingClass=idle

CapabilityBoundingSet=
AmbientCapabilities=
NoNewPrivileges=yes
PrivateDevices=yes
PrivateTmp=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHome=read-only
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProtectSystem=strict
{{- range .Writable}}
ReadWritePaths={{.}}
{{- end}}
RemoveIPC=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
{{end}}
{{- define "timer" -}}
[Unit]
Description=Sallyport: when to {{.Summary}}

[Timer]
{{- range .Events}}
OnCalendar={{.}}
{{- end}}
Persistent=yes
AccuracySec=1min

[Install]
WantedBy=timers.target
{{end}}`))

// Systemd prints a service and a timer for each t. The services are sandboxed: they see
// the system read-only and may write only their state, their run-time directory and the
// directories in writable (a store or metrics directory on this host).
func Systemd(s Settings, timers []Timer, writable []string) ([]File, error) {
	var files []File
	for _, t := range timers {
		command, err := s.command(t, systemdQuote)
		if err != nil {
			return nil, err
		}
		data := struct {
			Summary, Command, User, ConfigDir string
			Writable, Events                  []string
		}{Summary: t.Summary, Command: command, User: s.user(), ConfigDir: path.Dir(s.Config)}
		for _, dir := range writable {
			data.Writable = append(data.Writable, systemdQuote(dir))
		}
		for _, c := range t.times() {
			data.Events = append(data.Events, c.systemd()...)
		}
		for _, kind := range []string{"service", "timer"} {
			var b strings.Builder
			if err := unitTemplates.ExecuteTemplate(&b, kind, data); err != nil {
				return nil, fmt.Errorf("print %s of %s: %w", kind, t.Name, err)
			}
			files = append(files, File{"sallyport-" + t.Name + "." + kind, b.String()})
		}
	}
	return files, nil
}

func (s Settings) user() string {
	if s.User == "" {
		return "sallyport"
	}
	return s.User
}

// command is the command line of t, each word quoted.
func (s Settings) command(t Timer, quote func(string) string) (string, error) {
	words, err := s.words(t)
	if err != nil {
		return "", err
	}
	for i, w := range words {
		words[i] = quote(w)
	}
	return strings.Join(words, " "), nil
}

// words is the command line of t. It fails on words that have no place in a text file.
func (s Settings) words(t Timer) ([]string, error) {
	words := slices.Concat([]string{s.Binary}, t.Args, []string{"--config", s.Config})
	for _, w := range words {
		if !utf8.ValidString(w) || strings.ContainsFunc(w, unicode.IsControl) {
			return nil, fmt.Errorf("print timer %s: %q cannot be written on a line of text", t.Name, w)
		}
	}
	return words, nil
}

// plain reports whether a word means itself in a shell, a unit file and YAML.
func plain(w string) bool {
	return w != "" && !strings.ContainsFunc(w, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._=@-", r)
	})
}

// systemdQuote quotes a word as systemd.syntax(7) and systemd.service(5) say.
func systemdQuote(w string) string {
	w = strings.ReplaceAll(strings.ReplaceAll(w, "%", "%%"), "$", "$$")
	if plain(w) {
		return w
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(w) + `"`
}

// cronQuote quotes a word for the shell of cron, which also takes % for a new line.
func cronQuote(w string) string {
	if plain(w) {
		return w
	}
	return strings.ReplaceAll(`'`+strings.ReplaceAll(w, `'`, `'\''`)+`'`, "%", `\%`)
}

// Crontab prints lines for crontab(5). A cron without CRON_TZ reads the times in the
// host's zone; the hourly line makes good for the difference.
func Crontab(s Settings, timers []Timer) (string, error) {
	var b strings.Builder
	b.WriteString("# Times are UTC. Where cron does not know CRON_TZ they are taken in the host's zone;\n" +
		"# the hourly lines then start what is due at most an hour late.\nCRON_TZ=UTC\n")
	for _, t := range timers {
		command, err := s.command(t, cronQuote)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "\n# %s\n", t.Summary)
		for _, c := range t.times() {
			fmt.Fprintf(&b, "%s %s\n", c, command)
		}
	}
	return b.String(), nil
}

// CronJobs prints Kubernetes CronJobs (batch/v1), one for each time of each timer: a
// YAML stream. The pods run as nobody in particular, without privileges, with a
// read-only root. Configuration and keys come from the secret "sallyport", mounted where
// Config lies; the state from the volume claim "sallyport-state".
func CronJobs(s Settings, timers []Timer) (string, error) {
	var b strings.Builder
	for _, t := range timers {
		words, err := s.words(t)
		if err != nil {
			return "", err
		}
		for i, c := range t.times() {
			name := "sallyport-" + t.Name
			if c.text != catchUp.text {
				name += fmt.Sprintf("-%d", i+1)
			}
			data := map[string]any{"Name": name, "Namespace": s.Namespace, "Cron": c.String(), "Image": s.Image,
				"Words": words, "ConfigDir": path.Dir(s.Config)}
			if err := cronJobTemplate.Execute(&b, data); err != nil {
				return "", fmt.Errorf("print CronJob %s: %w", name, err)
			}
		}
	}
	return b.String(), nil
}

// YAML's double-quoted scalars understand every escape that %q writes here: the words
// are printable or \u escapes.
var cronJobTemplate = template.Must(template.New("cronjob").Parse(`---
apiVersion: batch/v1
kind: CronJob
metadata:
  name: {{.Name}}
{{- with .Namespace}}
  namespace: {{printf "%+q" .}}
{{- end}}
  labels:
    app.kubernetes.io/name: sallyport
spec:
  schedule: {{printf "%+q" .Cron}}
  timeZone: Etc/UTC
  concurrencyPolicy: Forbid
  startingDeadlineSeconds: 3600
  successfulJobsHistoryLimit: 3
  failedJobsHistoryLimit: 10
  jobTemplate:
    spec:
      backoffLimit: 0
      template:
        metadata:
          labels:
            app.kubernetes.io/name: sallyport
        spec:
          restartPolicy: Never
          automountServiceAccountToken: false
          securityContext:
            runAsNonRoot: true
            runAsUser: 65532
            runAsGroup: 65532
            fsGroup: 65532
            seccompProfile:
              type: RuntimeDefault
          containers:
            - name: sallyport
              image: {{printf "%+q" .Image}}
              command:
{{- range .Words}}
                - {{printf "%+q" .}}
{{- end}}
              env:
                - name: XDG_STATE_HOME
                  value: /state
                - name: TMPDIR
                  value: /tmp
              envFrom:
                - secretRef:
                    name: sallyport-environment
                    optional: true
              resources:
                requests:
                  memory: 256Mi
                limits:
                  memory: 512Mi
              securityContext:
                allowPrivilegeEscalation: false
                readOnlyRootFilesystem: true
                capabilities:
                  drop:
                    - ALL
              volumeMounts:
                - name: config
                  mountPath: {{printf "%+q" .ConfigDir}}
                  readOnly: true
                - name: state
                  mountPath: /state
                - name: tmp
                  mountPath: /tmp
          volumes:
            - name: config
              secret:
                secretName: sallyport
                defaultMode: 288
            - name: state
              persistentVolumeClaim:
                claimName: sallyport-state
            - name: tmp
              emptyDir: {}
`))
