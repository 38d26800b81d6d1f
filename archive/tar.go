package archive

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// tarBlock is the unit of tar: headers and padded contents are multiples of it.
const tarBlock = 512

// tarTrailer ends a tar stream.
var tarTrailer = make([]byte, 2*tarBlock)

// paddedSize is the room that a member of size n takes in the tar stream, header
// included.
func paddedSize(n int64) int64 { return tarBlock + (n+tarBlock-1)/tarBlock*tarBlock }

// appendTarHeader appends the ustar header (POSIX.1-1988) of a regular file of mode
// 0644, owner 0 and time 0. Names are ours and always fit.
func appendTarHeader(dst []byte, name string, size int64) []byte {
	start := len(dst)
	dst = append(dst, tarTemplate...)
	h := dst[start:]
	n := copy(h[:100], name)
	putOctal(h[124:135], size)
	sum := int64(tarTemplateSum)
	for _, c := range h[:n] {
		sum += int64(c)
	}
	for _, c := range h[124:135] {
		sum += int64(c) - '0'
	}
	putOctal(h[148:154], sum)
	return dst
}

// tarTemplate is the header of an empty file without a name, and without the checksum
// in the place of its six digits; tarTemplateSum is the sum of its bytes with blanks
// where the checksum stands.
var tarTemplate, tarTemplateSum = func() (h []byte, sum int) {
	h = make([]byte, tarBlock)
	copy(h[100:], "0000644\x00")
	copy(h[108:], "0000000\x00")
	copy(h[116:], "0000000\x00")
	copy(h[124:], "00000000000\x00")
	copy(h[136:], "00000000000\x00")
	copy(h[148:], "        ")
	h[156] = '0'
	copy(h[257:], "ustar\x0000")
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:], "000000\x00 ")
	return h, sum
}()

// putOctal fills dst with digits.
func putOctal(dst []byte, n int64) {
	for i := len(dst) - 1; i >= 0; i-- {
		dst[i] = byte('0' + n&7)
		n >>= 3
	}
}

// parseTarHeader accepts only what appendTarHeader writes. Links, devices, extended
// headers and sparse files are not in packs.
func parseTarHeader(h []byte) (name string, size int64, err error) {
	if len(h) < tarBlock {
		return "", 0, errors.New("tar header is cut")
	}
	var buf [tarBlock]byte
	name = string(bytes.TrimRight(h[:100], "\x00"))
	size, err = strconv.ParseInt(string(h[124:135]), 8, 64)
	if err != nil || !memberName(name) || !bytes.Equal(appendTarHeader(buf[:0], name, size), h[:tarBlock]) {
		return "", 0, errors.New("not a tar header of a pack")
	}
	return name, size, nil
}

// memberName reports whether name is one that packs may hold: p/ or b/, then one or
// two components of safe characters.
func memberName(name string) bool {
	if len(name) < 3 || len(name) > 100 || (name[:2] != "p/" && name[:2] != "b/") {
		return false
	}
	slashes, prev := 0, byte('/')
	for _, c := range []byte(name[2:]) {
		switch {
		case c == '/' && prev != '/':
			slashes++
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == 'T', c == 'Z', c == '-', c == '.' && prev != '/' && prev != '.':
		default:
			return false
		}
		prev = c
	}
	return slashes <= 1 && prev != '/'
}

// findMember returns the content of a member in a stretch of a tar stream that begins
// with a header.
func findMember(tar []byte, name string) ([]byte, error) {
	for len(tar) > 0 {
		got, content, rest, err := nextMember(tar)
		if err != nil {
			return nil, err
		}
		if got == name {
			return content, nil
		}
		tar = rest
	}
	return nil, fmt.Errorf("member %s is not where the index says", name)
}

// allMembers returns the contents of all members, which share tar's memory.
func allMembers(tar []byte) (map[string][]byte, error) {
	members := map[string][]byte{}
	for len(tar) > 0 {
		name, content, rest, err := nextMember(tar)
		if err != nil {
			return nil, err
		}
		if _, twice := members[name]; twice {
			return nil, fmt.Errorf("member %s is there twice", name)
		}
		members[name], tar = content, rest
	}
	return members, nil
}

// nextMember takes the first member from a stretch of a tar stream.
func nextMember(tar []byte) (name string, content, rest []byte, err error) {
	name, size, err := parseTarHeader(tar)
	if err != nil {
		return "", nil, nil, err
	}
	if size < 0 || paddedSize(size) > int64(len(tar)) {
		return "", nil, nil, fmt.Errorf("member %s is cut", name)
	}
	return name, tar[tarBlock : tarBlock+size], tar[paddedSize(size):], nil
}
