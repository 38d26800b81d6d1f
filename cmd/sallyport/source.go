package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/internal/config"
)

// A source is a service as an export needs it: from the register, or from a URL.
type source struct {
	name           string
	kind           exporters.Kind
	options        map[string]any
	classification string
	service        *config.Service // nil for a URL
}

// sources finds what the arguments name: services of the register, URLs; without
// arguments all services.
func (s *session) sources(args []string) ([]source, error) {
	if len(args) == 0 {
		if s.config == nil {
			return nil, usage("sallyport export s3://bucket --store DIRECTORY --recipients FILE needs no configuration", "there is no configuration, so say what to export")
		}
		args = s.config.Names()
	}
	var out []source
	for _, a := range args {
		src, err := s.source(a)
		if err != nil {
			return nil, err
		}
		out = append(out, src)
	}
	return out, nil
}

func (s *session) source(arg string) (source, error) {
	if s.config != nil {
		if svc, ok := s.config.Services[arg]; ok {
			k, err := kindNamed(svc.Exporter)
			return source{name: arg, kind: k, options: svc.With.Options, classification: string(svc.Classification), service: svc}, err
		}
	}
	if !strings.ContainsAny(arg, ":/") { // a path is a directory's
		hint := "a URL is scheme:..., for example s3://bucket"
		if s.config != nil {
			hint = "the services are " + strings.Join(s.config.Names(), ", ")
		}
		return source{}, usage(hint, "no such service: %q", arg)
	}
	k, options, err := fromURL(arg)
	if err != nil {
		return source{}, err
	}
	class := config.Classification("")
	switch err := class.UnmarshalText([]byte(s.c.String("classification"))); {
	case errors.Is(err, config.ErrTooHigh):
		return source{}, &exitError{code: exitPolicy, err: fmt.Errorf("--classification: %w", err)}
	case err != nil:
		return source{}, usage("it is OFFICIAL or OFFICIAL-SENSITIVE", "--classification %q: %w", s.c.String("classification"), err)
	}
	name := s.c.String("service")
	if name == "" {
		name = serviceName(arg)
	}
	if err := archive.CheckService(name); err != nil {
		return source{}, usage("--service NAME gives it another", "%w", err)
	}
	return source{name: name, kind: k, options: options, classification: string(class)}, nil
}

// serviceName makes a service name of a URL: of its host, or of the last part of its path.
func serviceName(raw string) string {
	base := raw
	if u, err := url.Parse(raw); err == nil {
		if base = u.Host; base == "" {
			base = filepath.Base(u.Opaque + u.Path)
		}
	}
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(base))
	name = strings.Trim(name, "-")
	return name[:min(len(name), 63)]
}

func kindNamed(name string) (exporters.Kind, error) {
	for _, k := range kinds() {
		if k.Name == name {
			return k, nil
		}
	}
	return exporters.Kind{}, usage("", "no such exporter: %q", name)
}

// fromURL finds the kind that a URL names, and the options that it holds.
func fromURL(raw string) (exporters.Kind, map[string]any, error) {
	scheme, _, ok := strings.Cut(raw, ":")
	if !ok {
		scheme, raw = "dir", "dir:"+raw
	}
	var schemes []string
	for _, k := range kinds() {
		if schemes = append(schemes, k.Schemes...); !slices.Contains(k.Schemes, scheme) || k.FromURL == nil {
			continue
		}
		options, err := k.FromURL(raw)
		if err != nil {
			return k, nil, usage("", "%w", err)
		}
		for _, o := range k.Options {
			if _, ok := options[o.Name]; !ok && o.Default != nil {
				options[o.Name] = o.Default
			}
		}
		return k, options, nil
	}
	return exporters.Kind{}, nil, usage("the schemes are "+strings.Join(schemes, ", "), "no exporter reads %s:", scheme)
}

// open opens a view of the source.
func (s *session) open(ctx context.Context, src source) (exporters.Exporter, error) {
	if src.kind.Open == nil {
		return nil, usage("", "%s is no source", src.kind.Name)
	}
	return src.kind.Open(ctx, s.exporterConfig(src.name, src.options))
}

// openTarget opens the target at a URL or directory.
func (s *session) openTarget(ctx context.Context, raw string, with map[string]any) (exporters.Target, error) {
	k, options, err := fromURL(raw)
	if err != nil {
		return nil, err
	}
	for name, v := range with {
		options[name] = v
	}
	if k.OpenTarget == nil {
		return nil, usage("", "nothing can be restored into %s:", k.Name)
	}
	return k.OpenTarget(ctx, s.exporterConfig("", options))
}

func (s *session) exporterConfig(service string, options map[string]any) exporters.Config {
	dir := "."
	if s.config != nil {
		dir = s.config.Dir()
		if _, ok := options["ca"]; !ok && s.config.CA != "" {
			options["ca"] = string(s.config.CA)
		}
	}
	state := ""
	if service != "" {
		state = filepath.Join(s.state, "exporters", service)
		if err := os.MkdirAll(state, 0o700); err != nil {
			s.note("no private directory for the exporter: %v", err)
			state = ""
		}
	}
	return exporters.Config{Service: service, Options: options, Log: s.err, State: state, Secret: config.Secrets{Dir: dir}.Resolve}
}
