package singer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"time"

	"github.com/dwp/sallyport/exporters"
)

// Kind lists Singer taps among the kinds of sources.
var Kind = exporters.Kind{
	Name:    "singer",
	Summary: "A Singer tap, run as a subprocess: hundreds of services have one.",
	Options: []exporters.Option{
		{Name: "command", Type: exporters.ListOption, Required: true, Help: "The tap and its fixed arguments. Secrets do not belong here."},
		{Name: "config", Type: exporters.MapOption, Help: "The tap's configuration, as its documentation describes it."},
		{Name: "secrets", Type: exporters.MapOption, Help: "Settings of the tap that are secret: name to reference (env:NAME, file:PATH, exec:COMMAND)."},
		{Name: "selection", Type: exporters.TextOption, Default: "catalog", Enum: []string{"catalog", "properties"},
			Help: "The flag with which the tap wants to be told what to export; old taps want properties."},
		{Name: "catalog", Type: exporters.TextOption, Help: "A file with the catalogue, for taps that cannot discover."},
		{Name: "env", Type: exporters.ListOption, Help: "Names of environment variables that the tap may see."},
		{Name: "batch_dir", Type: exporters.TextOption, Help: "The directory in which the tap leaves files of BATCH messages; by default its private one."},
		{Name: "discover_timeout", Type: exporters.DurationOption, Default: 10 * time.Minute, Help: "How long discovery may take."},
		{Name: "idle_timeout", Type: exporters.DurationOption, Default: 30 * time.Minute, Help: "How long the tap may be silent."},
		{Name: "timeout", Type: exporters.DurationOption, Default: 24 * time.Hour, Help: "How long one read may take."},
	},
	Open: openKind,
}

func openKind(ctx context.Context, c exporters.Config) (exporters.Exporter, error) {
	o := Options{State: c.State, Log: c.Log, Config: make(map[string]any)}
	o.Command, _ = c.Options["command"].([]string)
	o.Env, _ = c.Options["env"].([]string)
	o.BatchDir, _ = c.Options["batch_dir"].(string)
	o.DiscoverTimeout, _ = c.Options["discover_timeout"].(time.Duration)
	o.IdleTimeout, _ = c.Options["idle_timeout"].(time.Duration)
	o.Timeout, _ = c.Options["timeout"].(time.Duration)
	o.Properties = c.Options["selection"] == "properties"
	if m, ok := c.Options["config"].(map[string]any); ok {
		maps.Copy(o.Config, m)
	}
	if err := resolveSecrets(ctx, c, &o); err != nil {
		return nil, err
	}
	if name, _ := c.Options["catalog"].(string); name != "" {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("singer: catalogue: %w", err)
		}
		o.Catalog = b
	}
	return Open(ctx, o)
}

// resolveSecrets puts the values of the secret settings into the tap's configuration.
func resolveSecrets(ctx context.Context, c exporters.Config, o *Options) error {
	refs, _ := c.Options["secrets"].(map[string]any)
	if len(refs) > 0 && c.Secret == nil {
		return errors.New("singer: secrets are given and nothing resolves them")
	}
	for name, v := range refs {
		ref, ok := v.(string)
		if !ok {
			return fmt.Errorf("singer: secret %q is not a reference", name)
		}
		if _, twice := o.Config[name]; twice {
			return fmt.Errorf("singer: %q is given both in config and in secrets", name)
		}
		value, err := c.Secret(ctx, ref)
		if err != nil {
			return fmt.Errorf("singer: secret %q: %w", name, err)
		}
		o.Config[name] = value
		o.Secrets = append(o.Secrets, value)
	}
	return nil
}
