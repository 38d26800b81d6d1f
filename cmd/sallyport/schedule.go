package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/dwp/sallyport/internal/config"
	"github.com/dwp/sallyport/internal/schedule"
	"github.com/urfave/cli/v2"
)

func scheduleCommand() command {
	return command{
		name: "schedule", summary: "print the timers that start what is due",
		group: []command{{
			name: "print", summary: "print timers for systemd, cron or Kubernetes",
			detail: "Timers only wake sallyport up; it decides by itself what is due. So they need not be\n" +
				"printed again when objectives change, and one that was missed is made good by the next.",
			uses: []flagGroup{configFlags},
			flags: []cli.Flag{
				&cli.StringFlag{Name: "format", Value: "systemd", Usage: "print for `SYSTEM`: systemd, cron or kubernetes"},
				&cli.PathFlag{Name: "to", Usage: "write files to `DIRECTORY` instead of standard output"},
				&cli.PathFlag{Name: "binary", Usage: "path of sallyport where the timers run (default: of this one; /usr/bin/sallyport for kubernetes)"},
				&cli.StringFlag{Name: "user", Value: "sallyport", Usage: "run units as `ACCOUNT`"},
				&cli.StringFlag{Name: "image", Usage: "container image of CronJobs"},
				&cli.StringFlag{Name: "namespace", Usage: "namespace of CronJobs"},
			},
			run: printSchedule,
		}},
	}
}

func printSchedule(_ context.Context, i *invocation) error {
	c, err := i.loadConfig(config.Options{})
	if err != nil {
		return err
	}
	timers := timersOf(c, i.c.App)
	if len(timers) == 0 {
		return usage("give services a schedule, or objectives", "%s has nothing to schedule for this role", c.File())
	}
	s, err := scheduleSettings(i, c)
	if err != nil {
		return err
	}
	var files []schedule.File
	switch format := i.c.String("format"); format {
	case "systemd":
		files, err = schedule.Systemd(s, timers, writable(c))
	case "cron":
		var text string
		text, err = schedule.Crontab(s, timers)
		files = []schedule.File{{Name: "sallyport.crontab", Text: text}}
	case "kubernetes":
		var text string
		text, err = schedule.CronJobs(s, timers)
		files = []schedule.File{{Name: "sallyport-cronjobs.yaml", Text: text}}
	default:
		return usage("", "--format is systemd, cron or kubernetes, not %q", format)
	}
	if err != nil {
		return err
	}
	return i.writeSchedule(files)
}

func (i *invocation) writeSchedule(files []schedule.File) error {
	to := i.c.Path("to")
	i.result = files
	for n, f := range files {
		if to == "" {
			if len(files) > 1 {
				i.printf("# %s\n", f.Name)
			}
			i.printf("%s", f.Text)
			if n+1 < len(files) {
				i.printf("\n")
			}
			continue
		}
		name := filepath.Join(to, f.Name)
		if err := os.WriteFile(name, []byte(f.Text), 0o644); err != nil {
			return fmt.Errorf("write timers: %w", err)
		}
		i.printf("%s\n", name)
	}
	return nil
}

// timersOf returns the timers of the commands that know --due and that the role may run.
func timersOf(c *config.Config, app *cli.App) []schedule.Timer {
	var exports []schedule.Cron
	var export, test, keep, purge bool
	for _, name := range c.Names() {
		s := c.Services[name]
		export = export || !s.Schedule.IsZero() || s.Objectives.RPO > 0
		test = test || s.Objectives.ExitTestEvery > 0
		keep = keep || s.Keep != nil
		purge = purge || s.Purge != nil
		exports = append(exports, s.Schedule.Cron)
	}
	all := []struct {
		timer schedule.Timer
		role  config.Role
		wants bool
	}{
		{schedule.Timer{Name: "export", Summary: "export what is due", Args: []string{"export", "--due"}, At: exports}, config.Exporter, export},
		{schedule.Timer{Name: "exit-test", Summary: "run the exit tests that are due", Args: []string{"exit-test", "--due"}}, config.Verifier, test},
		{schedule.Timer{Name: "retention", Summary: "let snapshots expire that no rule keeps", Args: []string{"retention", "apply", "--due"}}, config.Keeper, keep},
		{schedule.Timer{Name: "purge-plan", Summary: "plan the purges that the rules ask for", Args: []string{"purge", "plan", "--due"}}, config.Verifier, purge},
		{schedule.Timer{Name: "purge", Summary: "carry out the purges that are approved", Args: []string{"purge", "apply", "--due"}}, config.Keeper, purge},
	}
	var timers []schedule.Timer
	for _, t := range all {
		mine := c.Role == "" || c.Role == t.role
		if mine && t.wants && knowsDue(app.Commands, t.timer.Args) {
			timers = append(timers, t.timer)
		}
	}
	return timers
}

// knowsDue reports whether the command that words name has the flag --due.
func knowsDue(commands []*cli.Command, words []string) bool {
	for _, cmd := range commands {
		if !cmd.HasName(words[0]) {
			continue
		}
		return slices.Contains(flagNames(cmd.Flags), "due") || knowsDue(cmd.Subcommands, words[1:])
	}
	return false
}

func scheduleSettings(i *invocation, c *config.Config) (schedule.Settings, error) {
	s := schedule.Settings{Binary: i.c.Path("binary"), Config: c.File(), User: i.c.String("user"),
		Image: i.c.String("image"), Namespace: i.c.String("namespace")}
	kubernetes := i.c.String("format") == "kubernetes"
	switch {
	case kubernetes && s.Image == "":
		return s, usage("", "CronJobs need --image")
	case s.Binary == "" && kubernetes:
		s.Binary = "/usr/bin/sallyport"
	case s.Binary == "":
		self, err := os.Executable()
		if err != nil {
			return s, usage("name it with --binary", "the path of sallyport: %w", err)
		}
		s.Binary = self
	case !filepath.IsAbs(s.Binary):
		return s, usage("", "--binary must be an absolute path")
	}
	return s, nil
}

// writable lists the directories of this host that a run writes to besides its state.
func writable(c *config.Config) []string {
	var dirs []string
	if c.Store.Scheme() == "" {
		dirs = append(dirs, string(c.Store))
	}
	if t := string(c.Metrics.Textfile); t != "" {
		dirs = append(dirs, filepath.Dir(t))
	}
	for _, name := range c.Names() {
		if to := c.Services[name].ExitTest.RestoreTo; to != "" && to.Scheme() == "" {
			dirs = append(dirs, string(to))
		}
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}
