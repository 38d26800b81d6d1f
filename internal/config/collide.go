package config

import (
	"net/url"
	"path/filepath"
	"strings"

	"github.com/dwp/sallyport/internal/s3conn"
)

// LeaveLinks and FollowLinks say which path of this host a path means: [Load] takes it
// as it is written, whoever is about to write there follows symbolic links.
func LeaveLinks(path string) string { return path }

// FollowLinks resolves symbolic links in as much of a path as exists.
func FollowLinks(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	dir := filepath.Dir(path)
	if dir == path {
		return path
	}
	return filepath.Join(FollowLinks(dir), filepath.Base(path))
}

// Collision says why data must not be restored to a place: it is the store, or the
// source of a service, or overlaps with one. It returns "" if nothing speaks against it.
func (c *Config) Collision(to Location, links func(path string) string) string {
	if overlap(to, c.Store, links) {
		return "is the store, or in it, or around it"
	}
	for _, name := range c.Names() {
		if s := c.Services[name]; s != nil {
			if from := s.source(); from != "" && overlap(to, from, links) {
				return "is the source of the service " + name + ", or in it, or around it: an exit test never writes to a source"
			}
		}
	}
	return ""
}

// source is where a service is read from, in the form of a target's location; "" if the
// exporter cannot say so.
func (s *Service) source() Location {
	text := func(option string) string { v, _ := s.With.Options[option].(string); return v }
	switch {
	case s.Exporter == "s3" && text("bucket") != "":
		return Location(s3conn.Config{Bucket: text("bucket"), Endpoint: text("endpoint"), Region: text("region")}.URL())
	case s.Exporter == "dir":
		return Location(text("path"))
	}
	return Location(text("url"))
}

// overlap reports whether one of two places is, or lies in, the other.
func overlap(a, b Location, links func(string) string) bool {
	if p, ok := a.file(); ok {
		q, ok := b.file()
		p, q = links(p), links(q)
		return ok && (inside(p, q) || inside(q, p))
	}
	if a.Scheme() == "s3" && b.Scheme() == "s3" {
		x, err1 := s3conn.ParseURL(string(a))
		y, err2 := s3conn.ParseURL(string(b))
		return err1 == nil && err2 == nil && x.Bucket == y.Bucket && sameHost(x.Endpoint, y.Endpoint) &&
			(strings.HasPrefix(x.Prefix, y.Prefix) || strings.HasPrefix(y.Prefix, x.Prefix))
	}
	return a.database() != "" && a.database() == b.database()
}

// file returns the path of this host that a location is.
func (l Location) file() (path string, ok bool) {
	switch l.Scheme() {
	case "":
		return string(l), l != ""
	case "dir", "sqlite":
		u, err := url.Parse(string(l))
		if err != nil {
			return "", false
		}
		return u.Opaque + u.Path, true
	}
	return "", false
}

// database names the database that a URL of a server is about, however it is written;
// "" if it is none.
func (l Location) database() string {
	u, err := url.Parse(string(l))
	if err != nil {
		return ""
	}
	kind, port := "", ""
	switch l.Scheme() {
	case "postgres", "postgresql":
		kind, port = "postgres", "5432"
	case "mysql":
		kind, port = "mysql", "3306"
	default:
		return ""
	}
	host := strings.ToLower(u.Hostname())
	if u.Port() != "" {
		port = u.Port()
	}
	if q := u.Query(); host == "" && q.Get("host")+q.Get("socket") != "" {
		host = q.Get("host") + q.Get("socket")
	}
	if host == "" || host == "127.0.0.1" || host == "::1" {
		host = "localhost"
	}
	return strings.Join([]string{kind, host, port, strings.Trim(u.Path, "/")}, " ")
}

func inside(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}

// sameHost reports whether two endpoints are one server. All of Amazon's are: a bucket's
// name is given once.
func sameHost(a, b string) bool {
	x, err1 := url.Parse(a)
	y, err2 := url.Parse(b)
	if err1 != nil || err2 != nil {
		return false
	}
	return strings.EqualFold(x.Host, y.Host) || ofAmazon(x.Hostname()) && ofAmazon(y.Hostname())
}

func ofAmazon(host string) bool {
	return host == "" || strings.HasSuffix(strings.ToLower(host), ".amazonaws.com")
}
