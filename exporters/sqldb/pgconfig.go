package sqldb

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/jackc/pgx/v5"

	"github.com/dwp/sallyport/exporters"
)

// pgConfig turns options into a driver configuration. Connections that leave the host
// are encrypted and the server's name is verified; there is no way around that.
func pgConfig(ctx context.Context, c exporters.Config) (*pgx.ConnConfig, *options, error) {
	o, err := parseOptions(ctx, kindPostgres, c)
	if err != nil {
		return nil, nil, fmt.Errorf("postgres: %w", err)
	}
	u := *o.address
	q := u.Query()
	host := u.Hostname()
	if host == "" {
		host = q.Get("host")
	}
	if !isLocal(host) {
		switch q.Get("sslmode") {
		case "", "verify-full":
			q.Set("sslmode", "verify-full")
		default:
			return nil, nil, errors.New("postgres: a server on another host is reached with sslmode=verify-full only")
		}
		if o.ca != "" {
			q.Set("sslrootcert", o.ca)
		}
	}
	u.RawQuery = q.Encode()
	cfg, err := pgx.ParseConfig(u.String())
	if err != nil {
		return nil, nil, fmt.Errorf("postgres: %w", hideURL(err))
	}
	if o.password != "" {
		cfg.Password = o.password
	}
	cfg.RuntimeParams = map[string]string{"application_name": "sallyport"}
	return cfg, o, nil
}

// hideURL keeps an address out of a message: it may hold what is nobody's business.
func hideURL(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		return ue.Err
	}
	return err
}
