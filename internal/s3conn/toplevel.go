package s3conn

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// TopLevel returns up to 1,000 keys and common prefixes (up to the next slash) under
// prefix, in byte order: a rough picture of how keys are spread, and no listing to
// rely on.
func (c *Conn) TopLevel(ctx context.Context, prefix string) ([]string, error) {
	body, _, err := c.Call(ctx, &Request{Op: "list objects", Method: http.MethodGet, Query: [][2]string{
		{"list-type", "2"}, {"encoding-type", "url"}, {"max-keys", "1000"}, {"delimiter", "/"}, {"prefix", c.prefix + prefix},
	}}, maxPage)
	if err != nil {
		return nil, err
	}
	p, err := parsePage(string(body))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadAnswer, err)
	}
	names := p.prefixes
	for _, e := range p.entries {
		names = append(names, e.Key)
	}
	for i := range names {
		names[i] = strings.TrimPrefix(names[i], c.prefix)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}
