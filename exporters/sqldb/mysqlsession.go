package sqldb

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
)

// mysqlOpen returns a handle to a server. Connections that leave the host are
// encrypted and the server's name is verified.
func mysqlOpen(o *options) (*sql.DB, *mysql.Config, error) {
	cfg := mysql.NewConfig()
	cfg.User, cfg.Passwd = o.address.User.Username(), o.password
	cfg.DBName = strings.TrimPrefix(o.address.Path, "/")
	if err := checkName(cfg.DBName, 0, 64); err != nil {
		return nil, nil, fmt.Errorf("database: %w", err)
	}
	cfg.MaxAllowedPacket = 0 // ask the server
	cfg.Logger = &mysql.NopLogger{}
	host, port := o.address.Hostname(), o.address.Port()
	if socket := o.address.Query().Get("socket"); socket != "" {
		cfg.Net, cfg.Addr = "unix", socket
	} else {
		if port == "" {
			port = "3306"
		}
		cfg.Net, cfg.Addr = "tcp", net.JoinHostPort(host, port)
		if !isLocal(host) {
			roots, err := certificates(o.ca)
			if err != nil {
				return nil, nil, err
			}
			cfg.TLS = &tls.Config{ServerName: host, RootCAs: roots, MinVersion: tls.VersionTLS12}
		}
	}
	c, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, nil, fmt.Errorf("address: %w", err)
	}
	return sql.OpenDB(c), cfg, nil
}

func certificates(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil // those of the system
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("ca: %s holds no certificate", file)
	}
	return pool, nil
}

// mysqlSession opens a session whose statements mean the same everywhere: strict, in
// UTC, with a backslash that is a backslash.
func mysqlSession(ctx context.Context, db *sql.DB, o *options) (*sql.Conn, error) {
	c, err := db.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", mysqlError(err))
	}
	seconds := max(1, int(o.lockTimeout.Seconds()))
	for _, s := range []string{
		"SET NAMES utf8mb4",
		"SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO,NO_BACKSLASH_ESCAPES,NO_ENGINE_SUBSTITUTION,ALLOW_INVALID_DATES', time_zone = '+00:00', " +
			"net_write_timeout = 86400, net_read_timeout = 86400, wait_timeout = 86400, foreign_key_checks = 0, unique_checks = 1, sql_safe_updates = 0",
		fmt.Sprintf("SET SESSION lock_wait_timeout = %d, innodb_lock_wait_timeout = %d", seconds, seconds),
		"SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
	} {
		if _, err := c.ExecContext(ctx, s); err != nil {
			c.Close()
			return nil, fmt.Errorf("prepare the session: %w", mysqlError(err))
		}
	}
	if o.timeout > 0 {
		// MariaDB and MySQL call it differently; one of the two must work.
		_, err := c.ExecContext(ctx, "SET SESSION max_statement_time = "+strconv.FormatFloat(o.timeout.Seconds(), 'f', 3, 64))
		if err != nil {
			_, err = c.ExecContext(ctx, fmt.Sprintf("SET SESSION max_execution_time = %d", o.timeout.Milliseconds()))
		}
		if err != nil {
			c.Close()
			return nil, fmt.Errorf("set the time-out: %w", mysqlError(err))
		}
	}
	return c, nil
}

// mysqlEscapes lets a backslash escape in a session, or not. Servers write a backslash
// into CREATE statements where it does not, so those are read and run where it does.
func mysqlEscapes(ctx context.Context, c *sql.Conn, on bool) error {
	mode := "CONCAT(@@SESSION.sql_mode, ',NO_BACKSLASH_ESCAPES')"
	if on {
		mode = "REPLACE(@@SESSION.sql_mode, 'NO_BACKSLASH_ESCAPES', '')"
	}
	if _, err := c.ExecContext(ctx, "SET SESSION sql_mode = "+mode); err != nil {
		return fmt.Errorf("prepare the session: %w", mysqlError(err))
	}
	return nil
}

func mysqlEndpoint(o *options, database string) string {
	port, err := strconv.ParseUint(o.address.Port(), 10, 16)
	if err != nil {
		port = 3306 // url.Parse lets only digits pass
	}
	return endpointURL(kindMySQL, o.address.Hostname(), uint16(port), database)
}

// grace is how long a statement may go on when its context has ended.
const grace = 5 * time.Second

// graceful returns a context that ends some time after ctx. The driver closes a
// session whose context ends, and a session cannot join a snapshot again; rows that
// are not wanted are therefore read to their end if that is near.
func graceful(ctx context.Context) (context.Context, context.CancelFunc) {
	graced, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(grace):
			cancel()
		case <-graced.Done():
		}
	})
	return graced, func() {
		stop()
		cancel()
	}
}

// mysqlError puts the class of an error in front of it where callers branch on it.
func mysqlError(err error) error {
	var me *mysql.MySQLError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &me):
		switch me.Number {
		case 1044, 1045, 1698: // access denied
			return fmt.Errorf("%w: %w", exporters.ErrCredentials, err)
		case 1040, 1205, 1213, 1317, 1412, 1969, 3024: // connections, locks, interruption, DDL, time-outs
			return fmt.Errorf("%w: %w", exporters.ErrTemporary, err)
		}
	case errors.Is(err, mysql.ErrInvalidConn) || errors.Is(err, errBadConn):
		return fmt.Errorf("%w: connection lost: %w", exporters.ErrTemporary, err)
	}
	return err
}

// mysqlDenied makes a gap of a refusal to read one table.
func mysqlDenied(stream string, err error) error {
	var me *mysql.MySQLError
	if errors.As(err, &me) && (me.Number == 1142 || me.Number == 1143) {
		return &dataset.Gap{Stream: stream, Code: dataset.Denied, Detail: me.Message}
	}
	return mysqlError(err)
}
