package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/audit"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/retention"
	"github.com/urfave/cli/v2"
)

func holdCommand() command {
	reasons := strings.Join(retention.HoldReasons, ", ")
	words := func() []cli.Flag {
		return []cli.Flag{
			&cli.StringFlag{Name: "reason", Required: true, Usage: "public reason, one of `WORD`: " + reasons},
			&cli.StringFlag{Name: "authority", Required: true, Usage: "who ordered it, and where that is written; sealed `TEXT`"},
			&cli.StringFlag{Name: "note", Usage: "anything else; sealed `TEXT`"},
		}
	}
	return command{
		name: "hold", summary: "forbid every deletion that could touch something, until it is released",
		group: []command{
			{
				name: "place", summary: "place a hold on a service, or on part of it", args: "SERVICE", min: 1, max: 1,
				detail: "Without --stream, --prefix, --key or --subject the whole service is held. A hold of any part stops the expiry of\n" +
					"snapshots and the collection of the whole service, because nobody who deletes can see what a snapshot holds.",
				uses: []flagGroup{configFlags, storeFlags, identityFlags, words},
				flags: []cli.Flag{
					&cli.StringFlag{Name: "stream", Usage: "hold the stream `NAME`"},
					&cli.StringFlag{Name: "prefix", Usage: "hold keys that begin with `TEXT`"},
					&cli.StringFlag{Name: "key", Usage: "hold one `KEY`"},
					&cli.StringFlag{Name: "subject", Usage: "hold records whose key or data holds `TEXT`"},
				},
				run: runHoldPlace,
			},
			{
				name: "release", summary: "end a hold", args: "SERVICE HOLD", min: 2, max: 2,
				uses: []flagGroup{configFlags, storeFlags, identityFlags, words}, run: runHoldRelease,
			},
			{
				name: "list", summary: "list the holds in force", args: "[SERVICE...]", max: -1,
				uses: []flagGroup{configFlags, storeFlags, identityFlags}, run: runHoldList,
			},
		},
	}
}

func runHoldPlace(ctx context.Context, i *invocation) error {
	s, err := i.openSession(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	name := i.arg(0)
	if err := archive.CheckService(name); err != nil {
		return usage("", "%w", err)
	}
	if err := retention.CheckReason(i.c.String("reason")); err != nil {
		return usage("--note TEXT says more, sealed", "--reason: %w", err)
	}
	o, err := s.office()
	if err != nil {
		return err
	}
	scope := retention.Scope{Stream: i.c.String("stream"), Prefix: archive.Key(i.c.String("prefix")), Key: archive.Key(i.c.String("key")), Subject: i.c.String("subject")}
	h, err := o.Place(ctx, name, i.c.String("reason"), retention.HoldAnnex{Authority: i.c.String("authority"), Reason: i.c.String("note"), Scopes: []retention.Scope{scope}})
	if err != nil {
		return err
	}
	s.logFact(ctx, audit.Hold, name, h)
	if err := s.holdMemory().Check(ctx, s.archive, name); err != nil { // so that it is missed if it goes
		return err
	}
	i.result = map[string]any{"hold": h}
	i.printf("%s\n", h)
	return nil
}

// logFact records that something was done; nothing was deleted by it.
func (s *session) logFact(ctx context.Context, activity audit.Activity, service string, document dataset.Hash) {
	e := audit.NewEvent(activity, audit.Fact, time.Now())
	e.Service, e.Document = service, document
	s.logEvent(ctx, e)
}

func runHoldRelease(ctx context.Context, i *invocation) error {
	s, err := i.openSession(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	o, err := s.office()
	if err != nil {
		return err
	}
	holds, err := o.Holds(ctx, i.arg(0))
	if err != nil {
		return err
	}
	if err := retention.CheckReason(i.c.String("reason")); err != nil {
		return usage("--note TEXT says more, sealed", "--reason: %w", err)
	}
	h, err := byPrefix(i.arg(1), retention.Hashes(holds))
	if err != nil {
		return err
	}
	doc, err := o.Release(ctx, i.arg(0), h, i.c.String("reason"), retention.HoldAnnex{Authority: i.c.String("authority"), Reason: i.c.String("note")})
	if err != nil {
		return err
	}
	s.logFact(ctx, audit.Release, i.arg(0), doc)
	i.note("released %s", h)
	return nil
}

// byPrefix finds the one hash that begins with text.
func byPrefix(text string, list []dataset.Hash) (dataset.Hash, error) {
	var found []dataset.Hash
	for _, h := range list {
		if strings.HasPrefix(h.String(), text) {
			found = append(found, h)
		}
	}
	if len(found) != 1 || text == "" {
		return dataset.Hash{}, &exitError{code: exitNotFound, err: fmt.Errorf("%q names %d of %d", text, len(found), len(list))}
	}
	return found[0], nil
}

// A holdLine is what --json says of a hold.
type holdLine struct {
	Service string               `json:"service"`
	Hold    dataset.Hash         `json:"hold"`
	Placed  time.Time            `json:"placed"`
	By      string               `json:"by"`
	Reason  string               `json:"reason"`
	Scopes  int                  `json:"scopes"`
	Sealed  *retention.HoldAnnex `json:"sealed,omitempty"` // if an identity here opens it
}

func runHoldList(ctx context.Context, i *invocation) error {
	s, err := i.openSession(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	services := i.args()
	if len(services) == 0 {
		if services, err = s.serviceNames(ctx); err != nil {
			return err
		}
	}
	o, err := s.office()
	if err != nil {
		return err
	}
	var lines []holdLine
	var rows [][]string
	for _, name := range services {
		if err := s.holdMemory().Check(ctx, s.archive, name); err != nil {
			return err
		}
		holds, err := o.Holds(ctx, name)
		if err != nil {
			return err
		}
		for _, h := range holds {
			l := holdLine{name, h.Hash, h.Placed.Time, h.Signer.Principal, h.Reason, h.Scopes, h.Sealed}
			lines = append(lines, l)
			rows = append(rows, l.row())
		}
	}
	s.table([]string{"service", "hold", "placed", "by", "reason", "scope", "authority"}, rows)
	if len(rows) == 0 {
		s.note("no hold is in force")
	}
	i.result = lines
	return nil
}

func (l holdLine) row() []string {
	scope, authority := fmt.Sprintf("%d, sealed", l.Scopes), "sealed"
	if l.Sealed != nil {
		var texts []string
		for _, s := range l.Sealed.Scopes {
			texts = append(texts, scopeText(s))
		}
		scope, authority = strings.Join(texts, "; "), l.Sealed.Authority
	}
	return []string{l.Service, l.Hold.String()[:16], l.Placed.Format("2006-01-02"), l.By, l.Reason, scope, authority}
}

func scopeText(s retention.Scope) string {
	var words []string
	for _, w := range [][2]string{{"stream", s.Stream}, {"prefix", string(s.Prefix)}, {"key", string(s.Key)}, {"subject", s.Subject}} {
		if w[1] != "" {
			words = append(words, w[0]+" "+w[1])
		}
	}
	if len(words) == 0 {
		return "everything"
	}
	return strings.Join(words, ", ")
}
