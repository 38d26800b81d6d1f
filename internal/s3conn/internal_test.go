package s3conn

import (
	"encoding/xml"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7/pkg/signer"
)

// TestSignaturesAreThoseOfMinio compares our signatures with those of minio-go where
// that can sign at all: for keys that are UTF-8.
func TestSignaturesAreThoseOfMinio(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"plain", "a b+c", "ä/ü", "x//y", "%2F", "q?a=b#c", "<>&\"'", " "} {
		for _, q := range []query{nil, {{"versionId", "a/b+c="}, {"tagging", ""}}, {{"prefix", "ä b"}, {"list-type", "2"}}} {
			u := &url.URL{Scheme: "https", Host: "host:9000", Path: "/bucket/" + key, RawPath: "/bucket/" + escape(key, true), RawQuery: q.encode()}
			mine := &http.Request{Method: "PUT", URL: u, Host: u.Host, Header: http.Header{"X-Amz-Meta-Name": {"  two  words "}, "Range": {"bytes=0-1"}}}
			s := &signatures{region: "eu-west-2"}
			s.sign(mine, "access", "secret", "token", emptySHA256, time.Now())
			theirs := &http.Request{Method: "PUT", URL: &url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawQuery: u.RawQuery}, Host: u.Host,
				Header: http.Header{"X-Amz-Meta-Name": {"  two  words "}, "Range": {"bytes=0-1"}, "X-Amz-Content-Sha256": {emptySHA256}}}
			theirs = signer.SignV4(*theirs, "access", "secret", "token", "eu-west-2")
			if mine.Header.Get("X-Amz-Date") != theirs.Header.Get("X-Amz-Date") {
				t.Skip("the second changed between the two")
			}
			if got, want := mine.Header.Get("Authorization"), theirs.Header.Get("Authorization"); got != want {
				t.Errorf("key %q, query %v:\n%s\n%s", key, q, got, want)
			}
		}
	}
}

func TestNamesThatResolveToPlacesOfTheirOwnAreNotDialled(t *testing.T) {
	t.Parallel()
	for _, ip := range []string{"127.0.0.1", "169.254.169.254", "::1", "fe80::1", "::ffff:169.254.169.254", "::ffff:127.0.0.1", "0.0.0.0", "224.0.0.1"} {
		if err := publicOnly("tcp", net.JoinHostPort(ip, "443"), nil); err == nil {
			t.Errorf("%s may be dialled", ip)
		}
	}
	for _, ip := range []string{"192.0.2.1", "10.0.0.1", "2001:db8::1"} {
		if err := publicOnly("tcp", net.JoinHostPort(ip, "443"), nil); err != nil {
			t.Error(err)
		}
	}
}

// FuzzListingParser feeds pages to the scanner and compares it with encoding/xml: what
// we accept it accepts, with the same keys.
func FuzzListingParser(f *testing.F) {
	for _, seed := range []string{
		`<?xml version="1.0"?><ListBucketResult xmlns="x"><Name>b</Name><IsTruncated>false</IsTruncated><Contents><Key>a&amp;b&#x41;</Key><Size>1</Size><LastModified>2026-01-02T03:04:05Z</LastModified><ETag>&quot;e&quot;</ETag></Contents></ListBucketResult>`,
		`<ListVersionsResult><Version><Key/><Size>1</Size><LastModified>2026-01-02T03:04:05Z</LastModified></Version><!-- c --></ListVersionsResult>`,
		`<!DOCTYPE x [<!ENTITY a "b">]><ListBucketResult>&a;</ListBucketResult>`,
		`<ListBucketResult><Contents><Key>x</Key></Contents>`, `<a><b></a></b>`, `<a x="1>2">`, strings.Repeat("<a>", 100), "",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		p, err := parsePage(body)
		if err != nil || p.urlEncoded {
			return
		}
		var x struct {
			Contents []struct{ Key string }
			Version  []struct{ Key string }
		}
		dec := xml.NewDecoder(strings.NewReader(body))
		dec.Strict = true
		if err := dec.Decode(&x); err != nil {
			return // encoding/xml refuses names and characters that we pass through
		}
		keys := 0
		for _, e := range p.entries {
			if !e.Marker {
				keys++
			}
		}
		if keys != len(x.Contents)+len(x.Version) {
			t.Errorf("%d keys; encoding/xml has %d", keys, len(x.Contents)+len(x.Version))
		}
	})
}
