package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/dwp/sallyport/internal/config"
)

// heartbeatTimeout bounds one call. The monitor waits for hours; one call need not.
const heartbeatTimeout = 15 * time.Second

// beat calls the heartbeat URL after a success. Such a URL is often a secret by itself,
// so nothing that is said of it repeats it, but for its host. An empty one is none.
func (s *session) beat(ctx context.Context, to config.URL) error {
	if to == "" {
		return nil
	}
	raw := string(to)
	if !strings.HasPrefix(raw, "https://") {
		var err error
		if raw, err = (config.Secrets{Dir: s.config.Dir()}).Resolve(ctx, raw); err != nil {
			return undelivered(err)
		}
	}
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return undelivered(errors.New("it is no https URL"))
	}
	client, err := s.monitor()
	if err != nil {
		return undelivered(err)
	}
	defer client.CloseIdleConnections()
	if err := call(ctx, client, u); err != nil {
		return undelivered(fmt.Errorf("%s: %w", u.Host, err))
	}
	return nil
}

// undelivered is an error of its own code: the work is done, and not all that was asked.
func undelivered(err error) error {
	return &exitError{code: exitIncomplete, err: fmt.Errorf("all is done, but the heartbeat was not delivered: %w", err)}
}

// monitor is a client that trusts the configured authority too, goes to no other host
// than it is sent to, and never without TLS.
func (s *session) monitor() (*http.Client, error) {
	t := http.DefaultTransport.(*http.Transport).Clone()
	if ca := string(s.config.CA); ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, err
		}
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", ca)
		}
		t.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return &http.Client{Transport: t, Timeout: heartbeatTimeout, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		switch {
		case r.URL.Host != via[0].URL.Host || r.URL.Scheme != "https":
			return errors.New("it redirects to another place")
		case len(via) >= 3:
			return errors.New("it redirects too often")
		}
		return nil
	}}, nil
}

// call makes one request, and again after a failure that may pass.
func call(ctx context.Context, client *http.Client, u *url.URL) (err error) {
	for try := range 3 {
		if try > 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Duration(try) * time.Second):
			}
		}
		var again bool
		if again, err = callOnce(ctx, client, u); !again {
			return err
		}
	}
	return err
}

func callOnce(ctx context.Context, client *http.Client, u *url.URL) (again bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return false, errors.New("the request could not be made") // the error would repeat the URL
	}
	req.Header.Set("User-Agent", "sallyport/"+thisBuild().Version)
	resp, err := client.Do(req)
	if err != nil {
		var e *url.Error
		if errors.As(err, &e) {
			err = e.Err // without the URL
		}
		return !strings.Contains(err.Error(), "it redirects"), err
	}
	io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests, fmt.Errorf("it answered %d", resp.StatusCode)
	}
	return false, nil
}
