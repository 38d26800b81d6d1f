package crypto

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/ssh"
)

// An AllowedSigner is one line of an allowed_signers file.
type AllowedSigner struct {
	Principal   string    // one name, no pattern
	Namespaces  string    // a pattern list as in namespaces="..."
	ValidAfter  time.Time // inclusive; zero if unbounded
	ValidBefore time.Time // inclusive; zero if unbounded

	key ssh.PublicKey
}

// NewAllowedSigner returns a line that lets a public key, given in the form of
// authorized_keys, sign under the namespaces of a pattern list.
func NewAllowedSigner(principal, namespaces, publicKey string) (AllowedSigner, error) {
	return parseAllowedSigner(fmt.Sprintf("%s namespaces=%q %s", principal, namespaces, publicKey))
}

// Key returns the public key in the form of authorized_keys, without a comment.
func (a AllowedSigner) Key() string { return authorized(a.key) }

// Fingerprint returns the key's SHA256:... fingerprint.
func (a AllowedSigner) Fingerprint() string { return ssh.FingerprintSHA256(a.key) }

// String returns the line without a newline: what [ParseAllowedSigners] reads, and
// ssh-keygen too.
func (a AllowedSigner) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s namespaces=\"%s\"", a.Principal, a.Namespaces)
	if !a.ValidAfter.IsZero() {
		fmt.Fprintf(&b, ",valid-after=\"%s\"", a.ValidAfter.UTC().Format(stampSeconds+"Z"))
	}
	if !a.ValidBefore.IsZero() {
		fmt.Fprintf(&b, ",valid-before=\"%s\"", a.ValidBefore.UTC().Format(stampSeconds+"Z"))
	}
	b.WriteString(" " + a.Key())
	return b.String()
}

// validAt compares in whole seconds, as ssh-keygen does.
func (a AllowedSigner) validAt(at time.Time) error {
	switch {
	case at.IsZero():
		return nil
	case !a.ValidAfter.IsZero() && at.Unix() < a.ValidAfter.Unix():
		return fmt.Errorf("valid only after %s", a.ValidAfter.UTC().Format(time.RFC3339))
	case !a.ValidBefore.IsZero() && at.Unix() > a.ValidBefore.Unix():
		return fmt.Errorf("valid only before %s", a.ValidBefore.UTC().Format(time.RFC3339))
	}
	return nil
}

// ParseAllowedSigners reads an allowed_signers file (ssh-keygen(1), ALLOWED SIGNERS):
// lines of principal, options, key type and key; empty lines and lines beginning with
// # are left out. Errors name the file as name, and the line. It is stricter than
// ssh-keygen, which accepts every file that this function accepts:
//
//   - namespaces="..." is required: a key trusted for everything is trusted by mistake;
//   - the principal is one name, not a pattern or list, and a key has one principal,
//     because approvals count principals;
//   - times end in Z, so that they mean the same on every machine;
//   - certificate authorities and key types other than Ed25519, ECDSA P-256 and their
//     sk- forms are refused.
func ParseAllowedSigners(text []byte, name string) (*Verifier, error) {
	v := new(Verifier)
	for n, line := range lines(text, " \t\n") {
		a, err := parseAllowedSigner(line)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, n, err)
		}
		for _, o := range v.signers {
			if o.Principal != a.Principal && bytes.Equal(o.key.Marshal(), a.key.Marshal()) {
				return nil, fmt.Errorf("%s:%d: the key of %q is also given to %q", name, n, o.Principal, a.Principal)
			}
		}
		v.signers = append(v.signers, a)
	}
	if len(v.signers) == 0 {
		return nil, fmt.Errorf("%s: no allowed signers", name)
	}
	return v, nil
}

func parseAllowedSigner(line string) (AllowedSigner, error) {
	if !utf8.ValidString(line) || strings.ContainsFunc(line, func(r rune) bool { return r != '\t' && r < ' ' || r == 0x7f }) {
		return AllowedSigner{}, errors.New("control characters or invalid UTF-8")
	}
	var a AllowedSigner
	principal, rest := field(line)
	if principal == "" || strings.ContainsAny(principal, `*?!,"\`) || principal[0] == '#' {
		return a, fmt.Errorf("principal %q: want one name, without patterns or lists", principal)
	}
	a.Principal = principal
	options, rest, err := optionField(rest)
	if err != nil {
		return a, err
	}
	if isKeyType(options) {
		return a, errors.New(`no namespaces="..." option: the key would be trusted for everything`)
	}
	if err := a.parseOptions(options); err != nil {
		return a, err
	}
	keyType, rest := field(rest)
	blob, _ := field(rest) // what follows is a comment
	wire, err := base64.StdEncoding.Strict().DecodeString(blob)
	if err != nil || blob == "" {
		return a, errors.New("malformed public key")
	}
	if a.key, err = parsePublicKey(wire); err != nil {
		return a, err
	}
	if a.key.Type() != keyType {
		return a, fmt.Errorf("key of type %s called %q", a.key.Type(), keyType)
	}
	return a, nil
}

// isKeyType recognises what stands where options should: any key type OpenSSH knows
// begins with one of these.
func isKeyType(s string) bool {
	for _, prefix := range []string{"ssh-", "ecdsa-", "sk-", "rsa-"} {
		if strings.HasPrefix(s, prefix) {
			return true
		}
	}
	return s == ""
}

// field cuts the first field off a line.
func field(line string) (first, rest string) {
	line = strings.TrimLeft(line, " \t")
	if i := strings.IndexAny(line, " \t"); i >= 0 {
		return line[:i], line[i:]
	}
	return line, ""
}

// optionField is field for options, where a space may stand between quotes.
func optionField(line string) (options, rest string, err error) {
	line = strings.TrimLeft(line, " \t")
	quoted := false
	for i := range len(line) {
		switch c := line[i]; {
		case c == '\\':
			return "", "", errors.New("backslash in options")
		case c == '"':
			quoted = !quoted
		case !quoted && (c == ' ' || c == '\t'):
			return line[:i], line[i:], nil
		}
	}
	if quoted {
		return "", "", errors.New("missing end quote")
	}
	return line, "", nil
}

func (a *AllowedSigner) parseOptions(text string) error {
	seen := make(map[string]bool)
	for more := true; more; {
		var name, value string
		name, text, _ = cutAny(text, "=,")
		name = strings.ToLower(name)
		if seen[name] {
			return fmt.Errorf("option %q twice", name)
		}
		seen[name] = true
		if quoted, ok := strings.CutPrefix(text, `="`); ok {
			if value, text, ok = strings.Cut(quoted, `"`); !ok {
				return fmt.Errorf("option %q: missing end quote", name)
			}
		} else if strings.HasPrefix(text, "=") {
			return fmt.Errorf("option %q: want a value in quotes", name)
		}
		if err := a.setOption(name, value); err != nil {
			return err
		}
		switch {
		case text == "":
			more = false
		case text[0] == ',':
			text = text[1:]
		default:
			return fmt.Errorf("option %q: unexpected text after it", name)
		}
	}
	if !seen["namespaces"] {
		return errors.New(`no namespaces="..." option: the key would be trusted for everything`)
	}
	if !a.ValidAfter.IsZero() && !a.ValidBefore.IsZero() && !a.ValidAfter.Before(a.ValidBefore) {
		return errors.New("valid-before is not later than valid-after")
	}
	return nil
}

func (a *AllowedSigner) setOption(name, value string) error {
	var err error
	switch name {
	case "namespaces":
		a.Namespaces = value
		for pattern := range strings.SplitSeq(value, ",") {
			if pattern == "" || pattern == "!" {
				return errors.New("option \"namespaces\": empty pattern")
			}
		}
	case "valid-after":
		a.ValidAfter, err = parseStamp(value)
	case "valid-before":
		a.ValidBefore, err = parseStamp(value)
	case "cert-authority":
		return errors.New("cert-authority: certificates are not supported; list the keys themselves")
	default:
		return fmt.Errorf("unknown option %q", name)
	}
	if err != nil {
		return fmt.Errorf("option %q: %w", name, err)
	}
	return nil
}

const (
	stampDay     = "20060102"
	stampMinutes = "200601021504"
	stampSeconds = "20060102150405"
)

func parseStamp(s string) (time.Time, error) {
	digits, ok := strings.CutSuffix(s, "Z")
	if !ok {
		return time.Time{}, errors.New("want YYYYMMDDZ or YYYYMMDDHHMM[SS]Z; without Z it would mean another time on another machine")
	}
	for _, layout := range []string{stampDay, stampMinutes, stampSeconds} {
		if len(digits) != len(layout) {
			continue
		}
		// OpenSSH takes the epoch for "no limit", and cannot hold times before it.
		if t, err := time.Parse(layout, digits); err == nil && t.Unix() > 0 {
			return t, nil
		}
	}
	return time.Time{}, errors.New("malformed time; want YYYYMMDDZ or YYYYMMDDHHMM[SS]Z")
}

func cutAny(s, chars string) (before, after string, found bool) {
	if i := strings.IndexAny(s, chars); i >= 0 {
		return s[:i], s[i:], true
	}
	return s, "", false
}

// matchList is OpenSSH's match_pattern_list: some pattern matches s, and none that
// begins with an exclamation mark does.
func matchList(s, patterns string) bool {
	matched := false
	for pattern := range strings.SplitSeq(patterns, ",") {
		if p, not := strings.CutPrefix(pattern, "!"); not {
			if matchPattern(s, p) {
				return false
			}
		} else if matchPattern(s, pattern) {
			matched = true
		}
	}
	return matched
}

// matchPattern matches * with any bytes and ? with any one byte. It takes time linear
// in the product of the lengths, whatever the pattern.
func matchPattern(s, pattern string) bool {
	star, mark := -1, 0
	i, j := 0, 0
	for i < len(s) {
		switch {
		case j < len(pattern) && pattern[j] == '*':
			star, mark = j, i
			j++
		case j < len(pattern) && (pattern[j] == '?' || pattern[j] == s[i]):
			i++
			j++
		case star >= 0:
			mark++
			i, j = mark, star+1
		default:
			return false
		}
	}
	return strings.Trim(pattern[j:], "*") == ""
}
