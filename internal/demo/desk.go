package demo

import (
	"context"
	_ "embed"
	"os"

	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/dir"
	"github.com/dwp/sallyport/exporters/rest"
	desks "github.com/dwp/sallyport/fixtures/rest"
	"github.com/dwp/sallyport/verify"
)

//go:embed desk.yaml
var deskManifest []byte

// deskTickets is how many tickets the ticket system has; each has one attachment.
const deskTickets = 110

// deskLeaves proves the exit from a SaaS product by a manifest: tickets, comments and
// attachments into a directory.
func (d *demo) deskLeaves(ctx context.Context) error {
	manifest := d.path("desk.yaml")
	if err := os.WriteFile(manifest, deskManifest, 0o600); err != nil {
		return err
	}
	desk := desks.NewDesk(deskTickets)
	base := desk.Start()
	defer desk.Close()
	target := dir.NewTarget(d.path("desk"), dir.Options{NoSync: true})
	defer target.Close()
	d.say("\nA SaaS product: a ticket system with %d tickets, their comments and attachments, by a manifest of one page.", deskTickets)
	e := exit{service: "desk", exporter: rest.Kind.Name, target: target, kind: dir.Kind.Name,
		source: func(ctx context.Context) (exporters.Exporter, error) {
			return rest.Kind.Open(ctx, exporters.Config{Service: "desk", Options: map[string]any{
				"manifest":    manifest,
				"config":      map[string]any{"base": base, "token": "env:DESK_TOKEN"},
				"counts":      map[string]any{"tickets": "meta/total"},
				"attachments": map[string]any{"tickets": map[string]any{"url": "attachments/*/url", "name": "name", "size": "size"}},
			}, Secret: func(context.Context, string) (string, error) { return desks.Canary, nil }})
		}}
	if err := d.takeOut(ctx, &e); err != nil {
		return err
	}
	for _, res := range e.snapshot.Descriptor.Resources {
		d.say("  graded: %-26s %s: %s", res.Sallyport.Stream.Name, res.Sallyport.Grade, res.Sallyport.Proof)
	}
	return d.prove(ctx, &e, "restore into a directory", verify.Proven)
}
