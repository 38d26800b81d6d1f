package dataset

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Limits of file names: a component that would be longer than maxComponent is named
// by its hash, and a path that would be longer than maxPath by that of the whole key.
// Every key of up to 1,025 bytes stays below maxPath unless objects lie inside objects.
const (
	maxComponent = 200
	maxPath      = 3200
)

// ErrHashed says that a path holds a hash instead of a name, so that its key can be
// found in a key map only.
var ErrHashed = errors.New("path holds a hash of the key")

// SafePath turns any key into a relative, slash-separated path that is a legal and
// harmless file name everywhere: it stays below its root, hides nothing, and is no
// option to a command. Different keys have different paths (of hashed names: as far
// as SHA-256 has no collisions).
//
// Slashes separate components, also leading, trailing and doubled ones. In a component
//
//   - the bytes A-Z a-z 0-9 . _ = + , @ - stand for themselves;
//   - every other byte is ~XX (two upper-case hex digits), and so are a first dot or
//     minus, a last dot, and the first byte of a name that Windows reserves (CON, aux,
//     com1.txt);
//   - nothing at all is ~e;
//   - what would be longer than 200 bytes is ~h and the 64 lower-case hex digits of the
//     SHA-256 of the component.
//
// A path that would be longer than 3,200 bytes is ~h and the SHA-256 of the whole key.
//
// All of a path is printable ASCII, so Unicode normalisation cannot merge two paths. A
// file system that ignores case can (File, file): whoever writes files there must
// notice it (create exclusively), for encoding every capital would spoil all names.
//
// Two paths may still ask one name to be a file and a directory (keys a and a/b); use
// [Paths] for whole streams.
func SafePath(key string) string {
	return safePath(key, nil)
}

// safePath is SafePath with the directory suffix ~d on components that end at one of
// objects, the ascending lengths of those prefixes of key that are keys themselves.
func safePath(key string, objects []int) string {
	dst := make([]byte, 0, len(key)+16)
	for start := 0; ; {
		n := strings.IndexByte(key[start:], '/')
		if n < 0 {
			dst = appendComponent(dst, key[start:])
			break
		}
		end := start + n
		dst = appendComponent(dst, key[start:end])
		if _, found := slices.BinarySearch(objects, end); found {
			dst = append(dst, "~d"...)
		}
		dst = append(dst, '/')
		start = end + 1
	}
	if len(dst) > maxPath {
		return string(appendHashed(dst[:0], key))
	}
	return string(dst)
}

func appendComponent(dst []byte, c string) []byte {
	if c == "" {
		return append(dst, "~e"...)
	}
	const digits = "0123456789ABCDEF"
	start := len(dst)
	for i := 0; i < len(c); i++ {
		b := c[i]
		first, last := i == 0, i == len(c)-1
		if !safeByte(b) || b == '.' && (first || last) || b == '-' && first || first && reserved(c) {
			dst = append(dst, '~', digits[b>>4], digits[b&15])
		} else {
			dst = append(dst, b)
		}
		if len(dst)-start > maxComponent {
			return appendHashed(dst[:start], c)
		}
	}
	return dst
}

func appendHashed(dst []byte, s string) []byte {
	sum := sha256.Sum256([]byte(s))
	return hex.AppendEncode(append(dst, "~h"...), sum[:])
}

func safeByte(b byte) bool {
	switch {
	case 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z', '0' <= b && b <= '9':
		return true
	}
	return strings.IndexByte("._=+,@-", b) >= 0
}

// reserved reports whether Windows takes c for a device: one of the old names,
// whatever its case and extension. Names with other bytes than safe ones need no
// entry, for those bytes are encoded.
func reserved(c string) bool {
	stem, _, _ := strings.Cut(c, ".")
	switch len(stem) {
	case 3:
		return strings.EqualFold(stem, "con") || strings.EqualFold(stem, "prn") ||
			strings.EqualFold(stem, "aux") || strings.EqualFold(stem, "nul")
	case 4:
		return '0' <= stem[3] && stem[3] <= '9' &&
			(strings.EqualFold(stem[:3], "com") || strings.EqualFold(stem[:3], "lpt"))
	}
	return false
}

// KeyOfPath is the inverse of [SafePath] and [Paths.Next]: it accepts what they write
// and nothing else. It fails with [ErrHashed] where the path does not hold the key.
func KeyOfPath(path string) (string, error) {
	components := strings.Split(path, "/")
	key := make([]byte, 0, len(path))
	hashed := false
	for i, c := range components {
		if i > 0 {
			key = append(key, '/')
		}
		if i < len(components)-1 {
			c = strings.TrimSuffix(c, "~d") // ~ starts an escape of two digits, so ~d at an end is no part of a name
			components[i] = c
		}
		if strings.HasPrefix(c, "~h") {
			if _, err := ParseHash(c[2:]); err != nil {
				return "", fmt.Errorf("path component %q: %w", c, err)
			}
			hashed = true
			continue
		}
		var err error
		if key, err = appendDecoded(key, c); err != nil {
			return "", err
		}
	}
	if hashed {
		return "", ErrHashed
	}
	if SafePath(string(key)) != strings.Join(components, "/") {
		return "", fmt.Errorf("path %q is not in the one form that is written", path)
	}
	return string(key), nil
}

func appendDecoded(dst []byte, c string) ([]byte, error) {
	if c == "~e" {
		return dst, nil
	}
	for i := 0; i < len(c); i++ {
		if c[i] != '~' {
			dst = append(dst, c[i])
			continue
		}
		if len(c)-i < 3 {
			return nil, fmt.Errorf("path component %q ends inside an escape", c)
		}
		b, err := hex.DecodeString(c[i+1 : i+3])
		if err != nil {
			return nil, fmt.Errorf("path component %q: %w", c, err)
		}
		dst = append(dst, b[0])
		i += 2
	}
	return dst, nil
}

// Paths gives keys that come in byte order their paths, where an object may lie
// inside an object: a directory whose name is also a key's file gets the suffix ~d, so
// a and a/b become a and a~d/b. The outcome depends on the set of keys alone, and is
// [SafePath] where there is no such conflict. Memory is bounded by the longest key.
//
// The zero Paths is ready for use.
type Paths struct {
	last    string
	started bool
	objects []int // ascending lengths of the prefixes of last, and last itself, that are keys
}

// Next returns the path of key. Equal keys (versions) may follow each other and have
// one path; a key below the last one is an error, and changes nothing.
func (p *Paths) Next(key string) (string, error) {
	if p.started && key < p.last {
		return "", fmt.Errorf("key %q comes after %q: keys are not in byte order", key, p.last)
	}
	// Between a and a/b other keys come (a!, a-b), but all of them begin with a: a key
	// that is no prefix of this one will be none of any later one.
	n := len(p.objects)
	for n > 0 && !strings.HasPrefix(key, p.last[:p.objects[n-1]]) {
		n--
	}
	p.objects = p.objects[:n]
	path := safePath(key, p.objects)
	if n == 0 || p.objects[n-1] != len(key) {
		p.objects = append(p.objects, len(key))
	}
	p.last, p.started = key, true
	return path, nil
}
