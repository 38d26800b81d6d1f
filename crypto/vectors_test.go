package crypto

import (
	"bytes"
	"compress/zlib"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"io/fs"
	"strings"
	"testing"

	agetest "c2sp.org/CCTV/age"

	"github.com/dwp/sallyport/dataset"
)

// vector is a test case of c2sp.org/CCTV/age.
type vector struct {
	expect, payload    string
	identities         []string
	passphrase, armour bool
	file               []byte
}

func readVector(t *testing.T, raw []byte) vector {
	t.Helper()
	header, file, ok := bytes.Cut(raw, []byte("\n\n"))
	if !ok {
		t.Fatal("vector without a body")
	}
	v := vector{file: file}
	for line := range strings.SplitSeq(string(header), "\n") {
		key, value, _ := strings.Cut(line, ": ")
		switch key {
		case "expect":
			v.expect = value
		case "payload":
			v.payload = value
		case "identity":
			v.identities = append(v.identities, value)
		case "passphrase":
			v.passphrase = true
		case "armored":
			v.armour = true
		case "compressed":
			z, err := zlib.NewReader(bytes.NewReader(file))
			if err != nil {
				t.Fatal(err)
			}
			if v.file, err = io.ReadAll(z); err != nil {
				t.Fatal(err)
			}
		case "comment", "file key":
		default:
			t.Fatalf("unknown header %q", key)
		}
	}
	return v
}

// TestVectorsComeOutAsTheySay runs all of CCTV through Opener. Two kinds differ from
// what the vector says, both because Opener does less than age: armored files and
// files made with a passphrase never open.
func TestVectorsComeOutAsTheySay(t *testing.T) {
	t.Parallel()
	seen := 0
	err := fs.WalkDir(agetest.Vectors, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := fs.ReadFile(agetest.Vectors, name)
		if err != nil {
			return err
		}
		seen++
		t.Run(name, func(t *testing.T) { testVector(t, readVector(t, raw)) })
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 143 {
		t.Errorf("walked %d vectors; want at least 143", seen)
	}
}

func testVector(t *testing.T, v vector) {
	_, opener := keypair(t, false) // a stranger's, where the vector only has a passphrase
	if len(v.identities) > 0 {
		var err error
		if opener, err = ParseIdentities([]byte(strings.Join(v.identities, "\n")), "vector"); err != nil {
			t.Fatal(err)
		}
	}
	want := v.expect == "success" && !v.armour && (!v.passphrase || len(v.identities) > 0)
	plain, err := opener.Open(v.file)
	if (err == nil) != want {
		t.Fatalf("expect %q: Open: %v", v.expect, err)
	}
	if err != nil && plain != nil {
		t.Error("Open released plaintext with an error")
	}
	if want && dataset.Sum(plain).String() != v.payload {
		t.Error("wrong plaintext")
	}
	streamed, err := drain(opener, v.file)
	if (err == nil) != want {
		t.Fatalf("expect %q: Decrypt: %v", v.expect, err)
	}
	if want && !bytes.Equal(streamed, plain) {
		t.Error("Decrypt and Open differ")
	}
	if v.expect == "payload failure" && !v.armour && v.payload != "" && !v.passphrase {
		if sum := sha256.Sum256(streamed); hex.EncodeToString(sum[:]) != v.payload {
			t.Error("the authentic part before the failure is not what the vector says")
		}
	}
	at, size, err := opener.DecryptAt(bytes.NewReader(v.file), int64(len(v.file)))
	if err == nil {
		streamed, err = io.ReadAll(io.NewSectionReader(at, 0, size))
	}
	if (err == nil) != want || want && !bytes.Equal(streamed, plain) {
		t.Errorf("expect %q: DecryptAt: %v", v.expect, err)
	}
}

func drain(o *Opener, file []byte) ([]byte, error) {
	r, err := o.Decrypt(bytes.NewReader(file))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}
