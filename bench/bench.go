package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/fixtures/gateway"
	"github.com/dwp/sallyport/internal/s3conn"
)

// A bench is the place where everything is measured.
type bench struct {
	settings
	binary  string // of sallyport
	self    string
	keys    keyFiles
	gateway *gateway.Server
	peers   map[string]string // path of each program that is there
	missing []string          // what is left out, and why

	order   []string             // of jobs, as "export B\x00tool"
	results map[string][]measure // by the same
}

// keyFiles are made anew for each run.
type keyFiles struct{ identity, recipients, recipient, signing, allowed string }

func newBench(ctx context.Context, s settings) (*bench, error) {
	b := &bench{settings: s, binary: s.sallyport, peers: map[string]string{}, results: map[string][]measure{}}
	var err error
	if b.self, err = os.Executable(); err != nil {
		return nil, err
	}
	if b.binary == "" {
		b.binary = b.path("bin", "sallyport")
		if err := build(ctx, ".", b.binary, "./cmd/sallyport"); err != nil {
			return nil, err
		}
	}
	if b.binary, err = filepath.Abs(b.binary); err != nil {
		return nil, err
	}
	if err := b.makeKeys(); err != nil {
		return nil, err
	}
	return b, nil
}

func (b *bench) close() {
	if b.gateway != nil {
		b.gateway.Close()
	}
}

func (b *bench) path(elem ...string) string {
	return filepath.Join(append([]string{b.dir}, elem...)...)
}

func build(ctx context.Context, dir, out, pkg string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", out, pkg)
	cmd.Dir = dir
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w: %s", pkg, err, tail(string(text)))
	}
	return nil
}

func (b *bench) makeKeys() error {
	identity, recipient, err := crypto.GenerateIdentity(false)
	if err != nil {
		return err
	}
	private, public, err := crypto.GenerateSigningKey("bench")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(b.path("keys"), 0o700); err != nil {
		return err
	}
	b.keys = keyFiles{identity: b.path("keys", "identity"), recipients: b.path("keys", "recipients"), recipient: recipient,
		signing: b.path("keys", "signing"), allowed: b.path("keys", "allowed_signers")}
	return errors.Join(
		os.WriteFile(b.keys.identity, identity, 0o600),
		os.WriteFile(b.keys.recipients, []byte(recipient+"\n"), 0o600),
		os.WriteFile(b.keys.signing, private, 0o600),
		os.WriteFile(b.keys.allowed, []byte(`bench namespaces="sallyport-*" `+public), 0o600))
}

// peerModules are the tools that are built from modules of their own below bench/peers.
var peerModules = []struct{ name, pkg string }{
	{"restic", "github.com/restic/restic/cmd/restic"},
	{"kopia", "github.com/kopia/kopia"},
	{"rclone", "github.com/rclone/rclone"},
	{"s5cmd", "github.com/peak/s5cmd/v2"},
}

// findPeers builds or looks up what is measured beside us. What cannot be had is left
// out by name.
func (b *bench) findPeers(ctx context.Context) {
	for _, p := range peerModules {
		out := b.path("bin", p.name)
		if err := build(ctx, filepath.Join("bench", "peers", p.name), out, p.pkg); err != nil {
			b.missing = append(b.missing, fmt.Sprintf("%s: %v", p.name, err))
			continue
		}
		b.peers[p.name] = out
	}
	for _, name := range []string{"borg", "tar", "zstd", "age"} {
		path, err := exec.LookPath(name)
		if err != nil {
			b.missing = append(b.missing, name+": not installed")
			continue
		}
		b.peers[name] = path
	}
}

func (b *bench) has(names ...string) bool {
	return !slices.ContainsFunc(names, func(n string) bool { return b.peers[n] == "" })
}

// startGateway runs the S3 server once.
func (b *bench) startGateway(ctx context.Context) error {
	if b.gateway != nil {
		return nil
	}
	dir := b.path("gateway")
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	var err error
	b.gateway, err = gateway.Start(ctx, dir)
	return err
}

func (b *bench) conn(bucket string) (*s3conn.Conn, error) {
	g := b.gateway
	return s3conn.New(s3conn.Config{Endpoint: g.Endpoint, Region: g.Region, Bucket: bucket, CA: g.CA, AccessKey: g.AccessKey, SecretKey: g.SecretKey})
}

// credentials is the environment in which every S3 client finds the gateway.
func (b *bench) credentials() []string {
	g := b.gateway
	return []string{"AWS_ACCESS_KEY_ID=" + g.AccessKey, "AWS_SECRET_ACCESS_KEY=" + g.SecretKey, "AWS_REGION=" + g.Region,
		"AWS_CA_BUNDLE=" + g.CA, "SSL_CERT_FILE=" + g.CA, "AWS_EC2_METADATA_DISABLED=true"}
}

// take runs a command and keeps what it took. size, if not empty, is the directory of
// the archive that it made.
func (b *bench) take(ctx context.Context, job, tool string, c command, size string) error {
	m, err := c.run(ctx)
	if err != nil {
		return fmt.Errorf("%s, %s: %w", job, tool, err)
	}
	if size != "" {
		m.size = dirSize(size)
	}
	id := job + "\x00" + tool
	if !slices.Contains(b.order, id) {
		b.order = append(b.order, id)
	}
	b.results[id] = append(b.results[id], m)
	fmt.Fprintf(os.Stderr, "%-18s %-22s %8.2f s  cpu %7.2f s  %5d MiB\n", job, tool, m.wall.Seconds(), m.cpu.Seconds(), m.rss>>20)
	return nil
}
