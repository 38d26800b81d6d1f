package sqldb

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/dwp/sallyport/exporters"
)

// options are the settings of all three kinds, checked.
type options struct {
	address     *url.URL
	password    string // resolved, or empty
	ca          string // file of certificates, or empty
	connections int
	lockTimeout time.Duration
	timeout     time.Duration
	native      bool // targets: run statements of an archive of the same product
	code        bool // and those that make routines and triggers
}

func optionList(kind string) []exporters.Option {
	address := exporters.Option{Name: "url", Type: exporters.TextOption, Required: true,
		Help: "address without a password: " + map[string]string{
			kindPostgres: "postgres://user@host:5432/database, or ?host=/run/postgresql for a socket",
			kindMySQL:    "mysql://user@host:3306/database, or ?socket=/run/mysqld/mysqld.sock",
			kindSQLite:   "sqlite:/path/to/file.db",
		}[kind]}
	timeout := exporters.Option{Name: "timeout", Type: exporters.DurationOption, Default: time.Duration(0),
		Help: "longest time for one statement; 0 is no limit"}
	lock := exporters.Option{Name: "lock_timeout", Type: exporters.DurationOption, Default: time.Minute,
		Help: "longest wait for a lock that somebody else holds"}
	native := exporters.Option{Name: "native", Type: exporters.BoolOption, Default: false,
		Help: "as a target: run the definitions of an archive of the same product, which whoever signed it wrote: defaults, checks, computed columns, views"}
	code := exporters.Option{Name: "native_code", Type: exporters.BoolOption, Default: false,
		Help: "as a target with native: make routines, triggers, rules and policies of the archive too"}
	if kind == kindSQLite {
		return []exporters.Option{address, timeout, lock, native, code}
	}
	return []exporters.Option{address,
		{Name: "password", Type: exporters.SecretOption, Help: "reference to the password"},
		{Name: "ca", Type: exporters.TextOption, Help: "file with the certificates of a private authority"},
		{Name: "connections", Type: exporters.IntOption, Default: int64(8), Help: "most connections that read, or fill a table, at a time"},
		timeout, lock, native, code}
}

func parseOptions(ctx context.Context, kind string, c exporters.Config) (*options, error) {
	o := &options{connections: 8, lockTimeout: time.Minute}
	for name, value := range c.Options {
		if err := o.set(ctx, c, name, value); err != nil {
			return nil, fmt.Errorf("option %q: %w", name, err)
		}
	}
	switch {
	case o.address == nil:
		return nil, errors.New(`option "url" is missing`)
	case o.code && !o.native:
		return nil, errors.New(`option "native_code" needs "native"`)
	case o.address.Scheme != kind && !(kind == kindPostgres && o.address.Scheme == "postgresql"):
		return nil, fmt.Errorf("url begins with %s:, not %s:", o.address.Scheme, kind)
	}
	return o, nil
}

func (o *options) set(ctx context.Context, c exporters.Config, name string, value any) error {
	switch v := value.(type) {
	case nil:
		return nil
	case string:
		switch name {
		case "url":
			return o.parseAddress(v)
		case "ca":
			o.ca = v
			return nil
		case "password":
			if v == "" {
				return nil
			}
			if c.Secret == nil {
				return errors.New("no secrets can be resolved here")
			}
			var err error
			o.password, err = c.Secret(ctx, v)
			return err
		}
	case bool:
		switch name {
		case "native":
			o.native = v
			return nil
		case "native_code":
			o.code = v
			return nil
		}
	case int64:
		if name == "connections" {
			if v < 1 || v > 100 {
				return fmt.Errorf("%d is not between 1 and 100", v)
			}
			o.connections = int(v)
			return nil
		}
	case time.Duration:
		if v < 0 || v > 0 && v < time.Millisecond {
			return fmt.Errorf("%v is neither 0 nor at least 1ms", v)
		}
		switch name {
		case "timeout":
			o.timeout = v
			return nil
		case "lock_timeout":
			o.lockTimeout = v
			return nil
		}
	}
	return fmt.Errorf("unknown, or of the wrong type %T", value)
}

// parseAddress refuses passwords, because addresses end up in listings and messages.
// Its errors do not repeat the address for the same reason.
func (o *options) parseAddress(raw string) error {
	u, err := url.Parse(raw)
	if err != nil {
		return errors.New("not a URL")
	}
	if _, has := u.User.Password(); has || u.Query().Has("password") {
		return errors.New(`a password does not belong into a URL; use the option "password"`)
	}
	o.address = u
	return nil
}

// fromURL is [exporters.Kind.FromURL] of the three kinds.
func fromURL(kind string) func(string) (map[string]any, error) {
	return func(raw string) (map[string]any, error) {
		var o options
		if err := o.parseAddress(raw); err != nil {
			return nil, err
		}
		if s := o.address.Scheme; s != kind && !(kind == kindPostgres && s == "postgresql") {
			return nil, fmt.Errorf("the URL does not begin with %s:", kind)
		}
		return map[string]any{"url": raw}, nil
	}
}

// isLocal reports whether nobody but this host can listen to a connection to host:
// a socket path or a loopback address. Others need TLS with a verified name.
func isLocal(host string) bool {
	if host == "" || strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@") || host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// endpointURL names a server without user information and query.
func endpointURL(kind, host string, port uint16, database string) string {
	u := url.URL{Scheme: kind, Host: "localhost", Path: "/" + database}
	if host != "" && !strings.HasPrefix(host, "/") {
		u.Host = net.JoinHostPort(host, strconv.Itoa(int(port)))
	}
	return u.String()
}
