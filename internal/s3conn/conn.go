package s3conn

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"syscall"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"
)

// A Conn talks to one bucket. It is safe for concurrent use.
type Conn struct {
	Bucket   string
	Region   string
	Endpoint string // scheme and host as configured, for people

	prefix   string // of all keys
	base     *url.URL
	virtual  bool
	patience Patience
	client   *http.Client
	creds    *credentials.Credentials
	signer   signatures
	now      func() time.Time
}

// New prepares a connection; it sends nothing yet.
func New(c Config) (*Conn, error) {
	base, virtual, err := c.base()
	if err != nil {
		return nil, err
	}
	roots, err := rootCAs(c.CA)
	if err != nil {
		return nil, err
	}
	transport := newTransport(roots, base.Hostname())
	conn := &Conn{
		Bucket: c.Bucket, Region: c.region(), Endpoint: c.Endpoint,
		prefix: c.Prefix, base: base, virtual: virtual, patience: c.Patience.withDefaults(),
		client: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		creds:  credentialsOf(c),
		signer: signatures{region: c.region()},
		now:    time.Now,
	}
	if conn.Endpoint == "" {
		conn.Endpoint = "https://s3." + c.region() + ".amazonaws.com"
	}
	return conn, nil
}

// Close drops idle connections.
func (c *Conn) Close() { c.client.CloseIdleConnections() }

func rootCAs(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil // the system's
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("s3: private certificate authority: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("s3: %s holds no PEM certificate", file)
	}
	return pool, nil
}

// newTransport returns a transport for host. Many connections stay open, because many
// objects are in flight; HTTP/2 would put them all on one.
func newTransport(roots *x509.CertPool, host string) *http.Transport {
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			d := net.Dialer{Timeout: 15 * time.Second, KeepAlive: 30 * time.Second}
			if h, _, err := net.SplitHostPort(addr); err == nil && h == host && net.ParseIP(h) == nil && !loopback(h) {
				d.Control = publicOnly // else it is a proxy, or an address someone wrote down
			}
			return d.DialContext(ctx, network, addr)
		},
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		TLSHandshakeTimeout:    15 * time.Second,
		DisableCompression:     true, // the stored bytes are wanted, whatever their encoding
		MaxIdleConns:           256,
		MaxIdleConnsPerHost:    256,
		IdleConnTimeout:        60 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		ReadBufferSize:         16 << 10,
		WriteBufferSize:        64 << 10,
		TLSNextProto:           map[string]func(string, *tls.Conn) http.RoundTripper{}, // no HTTP/2
	}
}

// publicOnly refuses to connect to addresses that a name of a store never stands for:
// this machine, and the link-local ones where clouds keep their metadata services. It
// sees the address that was resolved, so a name that changes its mind is caught.
func publicOnly(network, address string, _ syscall.RawConn) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	ip := net.ParseIP(host)
	if ip == nil || ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsUnspecified() || ip.IsMulticast() {
		return fmt.Errorf("%w: the endpoint's name resolves to %s", errPermanent, clean(host, 64))
	}
	return nil
}

// credentialsOf returns the given keys, or the usual chain of places to find some.
func credentialsOf(c Config) *credentials.Credentials {
	if c.AccessKey != "" {
		return credentials.NewStaticV4(c.AccessKey, c.SecretKey, c.SessionToken)
	}
	chain := []credentials.Provider{&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}}
	if os.Getenv("AWS_EC2_METADATA_DISABLED") != "true" {
		chain = append(chain, &credentials.IAM{})
	}
	return credentials.NewChainCredentials(chain)
}

// credential returns valid keys. That there are none is an error, never an anonymous
// request.
func (c *Conn) credential(ctx context.Context) (credentials.Value, error) {
	v, err := c.creds.GetWithContext(&credentials.CredContext{
		Client:  &http.Client{Timeout: 10 * time.Second},
		Context: ctx,
	})
	if err == nil && (v.AccessKeyID == "" || v.SecretAccessKey == "") {
		err = errors.New("none found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a shared credentials file or a role")
	}
	if err != nil {
		return v, fmt.Errorf("%w: %w", ErrCredentials, err)
	}
	return v, nil
}
