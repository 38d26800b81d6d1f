package s3conn

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// A query is the query string of a request, in the order given; the signature sorts.
type query [][2]string

// encode returns the query as RFC 3986 has it, sorted, which is also the canonical
// form that is signed.
func (q query) encode() string {
	parts := make([]string, 0, len(q))
	for _, kv := range q {
		parts = append(parts, escape(kv[0], false)+"="+escape(kv[1], false))
	}
	slices.Sort(parts)
	return strings.Join(parts, "&")
}

// escape percent-encodes every byte that is not unreserved in RFC 3986, as Signature
// Version 4 demands. It works on bytes, so keys need not be UTF-8.
func escape(s string, keepSlash bool) string {
	const hexDigits = "0123456789ABCDEF"
	clean := true
	for i := 0; i < len(s) && clean; i++ {
		clean = unreserved(s[i]) || keepSlash && s[i] == '/'
	}
	if clean {
		return s
	}
	var b strings.Builder
	b.Grow(3 * len(s))
	for i := 0; i < len(s); i++ {
		if c := s[i]; unreserved(c) || keepSlash && c == '/' {
			b.WriteByte(c)
		} else {
			b.WriteByte('%')
			b.WriteByte(hexDigits[c>>4])
			b.WriteByte(hexDigits[c&15])
		}
	}
	return b.String()
}

func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c == '-' || c == '.' || c == '_' || c == '~'
}

// A signatures value computes AWS Signature Version 4 (the Authorization header form). It keeps
// the day's signing key, which saves four of five HMACs.
type signatures struct {
	region string

	mu     sync.Mutex
	secret string
	day    string
	key    []byte
}

// sign adds the headers of Signature Version 4 to r, whose path and query must be in
// canonical form already. payload is the hex SHA-256 of the body, or UNSIGNED-PAYLOAD.
func (s *signatures) sign(r *http.Request, access, secret, token, payload string, now time.Time) {
	stamp := now.UTC().Format("20060102T150405Z")
	r.Header.Set("X-Amz-Date", stamp)
	r.Header.Set("X-Amz-Content-Sha256", payload)
	if token != "" {
		r.Header.Set("X-Amz-Security-Token", token)
	}
	names := make([]string, 0, len(r.Header)+1)
	names = append(names, "host")
	for name := range r.Header {
		if name != "User-Agent" && name != "Accept-Encoding" { // proxies change them
			names = append(names, strings.ToLower(name))
		}
	}
	slices.Sort(names)

	var c strings.Builder
	c.WriteString(r.Method + "\n" + r.URL.EscapedPath() + "\n" + r.URL.RawQuery + "\n")
	for _, name := range names {
		c.WriteString(name + ":")
		if name == "host" {
			c.WriteString(r.URL.Host)
		}
		for i, v := range r.Header[http.CanonicalHeaderKey(name)] {
			if i > 0 {
				c.WriteByte(',')
			}
			c.WriteString(squeeze(v))
		}
		c.WriteByte('\n')
	}
	signed := strings.Join(names, ";")
	c.WriteString("\n" + signed + "\n" + payload)

	day := stamp[:8]
	scope := day + "/" + s.region + "/s3/aws4_request"
	digest := sha256.Sum256([]byte(c.String()))
	mac := sum(s.dayKey(secret, day), "AWS4-HMAC-SHA256\n"+stamp+"\n"+scope+"\n"+hex.EncodeToString(digest[:]))
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+access+"/"+scope+
		", SignedHeaders="+signed+", Signature="+hex.EncodeToString(mac))
}

func (s *signatures) dayKey(secret, day string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.secret != secret || s.day != day {
		s.secret, s.day = secret, day
		s.key = sum(sum(sum(sum([]byte("AWS4"+secret), day), s.region), "s3"), "aws4_request")
	}
	return s.key
}

func sum(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// squeeze trims a header value and folds runs of spaces, as the canonical form wants.
func squeeze(v string) string {
	v = strings.Trim(v, " \t")
	for strings.Contains(v, "  ") {
		v = strings.ReplaceAll(v, "  ", " ")
	}
	return v
}
