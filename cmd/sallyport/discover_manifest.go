package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/rest"
	"github.com/dwp/sallyport/internal/config"
)

// lintManifest says whether a manifest runs.
func lintManifest(i *invocation, path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return usage("", "manifest: %w", err)
	}
	report, err := rest.Lint(data)
	if err != nil {
		return &exitError{code: exitNo, err: fmt.Errorf("%s: %w", path, err)}
	}
	i.result = report
	if report.Runs {
		i.printf("%s runs: %s\n", visible(path), count(len(report.Streams)+len(report.Dynamic), "stream"))
		i.streamsOf(report)
		return nil
	}
	i.printf("%s does not run: %s\n", visible(path), count(len(report.Problems), "problem"))
	var rows [][]string
	for _, p := range report.Problems {
		rows = append(rows, []string{p.Path, p.Component, p.Field, p.Expression, p.Message})
	}
	i.table([]string{"where", "component", "field", "expression", "problem"}, rows)
	return &exitError{code: exitNo, err: fmt.Errorf("%w: %s", errSaid, count(len(report.Problems), "problem"))}
}

func (i *invocation) streamsOf(r rest.Report) {
	var rows [][]string
	for _, s := range r.Streams {
		rows = append(rows, []string{s, "in the manifest"})
	}
	for _, s := range r.Dynamic {
		rows = append(rows, []string{s, "a template: found at the service or in the configuration"})
	}
	i.table([]string{"stream", "defined"}, rows)
}

// tryManifest opens a connection and shows what comes. It has no state directory: a
// manifest that rotates refresh tokens is refused, for a new token that only this trial
// knows would lock the service out.
func tryManifest(ctx context.Context, i *invocation, path string) error {
	if n := i.c.Int("first"); n < 1 || n > 1000 {
		return usage("", "--first must be between 1 and 1000, not %d", n)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return usage("", "manifest: %w", err)
	}
	if report, err := rest.Lint(data); err != nil || !report.Runs {
		return lintManifest(i, path)
	}
	options, home, err := trialOptions(i, path)
	if err != nil {
		return err
	}
	samples, err := rest.First(ctx, exporters.Config{Options: options, Log: i.err, Secret: config.Secrets{Dir: home}.Resolve}, i.c.Int("first"))
	if err != nil {
		return err
	}
	i.result = map[string]any{"streams": samples}
	var errs []error
	for _, s := range samples {
		i.sample(s)
		if s.Failure != nil {
			errs = append(errs, fmt.Errorf("stream %q: %w", s.Stream, s.Failure))
		}
		for _, g := range s.Gaps {
			errs = append(errs, &g)
		}
	}
	return errors.Join(errs...)
}

// trialOptions returns the options of a trial, and the folder from which relative paths of
// secrets start.
func trialOptions(i *invocation, manifest string) (options map[string]any, home string, err error) {
	given := map[string]any{"manifest": manifest}
	if file := i.c.Path("config"); file != "" {
		m, err := config.LoadMap(file)
		if err != nil {
			return nil, "", usage("--config FILE holds what the manifest calls config, as YAML or JSON", "%w", err)
		}
		given["config"], home = m, filepath.Dir(file)
	}
	with := i.c.Path("with")
	if with == "" {
		options = given
		for _, o := range rest.Kind.Options {
			if _, ok := options[o.Name]; !ok && o.Default != nil {
				options[o.Name] = o.Default
			}
		}
		return options, home, nil
	}
	if options, err = config.LoadOptions(with, rest.Kind, given); err != nil {
		return nil, "", usage("--with FILE holds what stands below with: in a service's configuration, as YAML or JSON", "%w", err)
	}
	if options["manifest"] != manifest {
		return nil, "", usage("leave it out of the file", "--manifest and %s name two manifests", with)
	}
	if _, twice := given["config"]; !twice {
		home = filepath.Dir(with)
	} else if !reflect.DeepEqual(options["config"], given["config"]) {
		return nil, "", usage("leave it out of one", "--config and %s hold two configurations of the connection", with)
	}
	return options, home, nil
}

// maxShown is how much of a record is shown to people, in bytes; programs get it whole.
const maxShown = 2000

func (i *invocation) sample(s rest.Sample) {
	i.printf("%s: the first %s\n", dataset.Escape(s.Stream), count(len(s.Records), "record"))
	for _, r := range s.Records {
		text := visible(strings.ToValidUTF8(string(r), "?"))
		if len(text) > maxShown {
			text = fmt.Sprintf("%s... (%d bytes)", strings.ToValidUTF8(text[:maxShown], ""), len(r))
		}
		i.printf("  %s\n", text)
	}
}
