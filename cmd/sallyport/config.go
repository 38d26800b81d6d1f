package main

import (
	"context"
	"fmt"

	"github.com/dwp/sallyport/internal/config"
)

func configCommand() command {
	return command{
		name: "config", summary: "check, describe or show the configuration",
		group: []command{
			{
				name: "check", summary: "report everything that is wrong with the configuration, files and secrets it refers to included",
				uses: []flagGroup{configFlags},
				run: func(_ context.Context, i *invocation) error {
					c, err := i.loadConfig(config.Options{References: true})
					if err != nil {
						return err
					}
					i.result = map[string]any{"file": c.File(), "services": c.Names()}
					i.printf("%s is right: %s\n", c.File(), count(len(c.Services), "service"))
					return nil
				},
			},
			{
				name: "schema", summary: "print the JSON Schema of the configuration, for editors",
				run: func(_ context.Context, i *invocation) error {
					// A document, not a message: it is the same with --json.
					_, err := i.out.Write(config.Schema(kinds()))
					return err
				},
			},
			{
				name: "show", summary: "print the configuration as it is understood: defaults filled in, paths absolute",
				uses: []flagGroup{configFlags},
				run: func(_ context.Context, i *invocation) error {
					c, err := i.loadConfig(config.Options{})
					if err != nil {
						return err
					}
					i.result = c.Tree()
					text, err := c.YAML()
					if err != nil {
						return err
					}
					i.printf("%s", text)
					return nil
				},
			},
		},
	}
}

// count writes a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
