package main

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"io"
	"testing"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
)

// pieces are a mebibyte of text and one of random bytes, as the data sets hold them.
func pieces(b *testing.B) map[string][]byte {
	b.Helper()
	var text bytes.Buffer
	d := dataSet{name: "kernel", sizes: []int64{1 << 20}, words: vocabulary()}
	if err := d.content(&text, 0, 0); err != nil {
		b.Fatal(err)
	}
	random := make([]byte, 1<<20)
	rand.Read(random)
	return map[string][]byte{"text": text.Bytes(), "random": random}
}

// each runs work on a piece, on one goroutine and on as many as there are cores.
func each(b *testing.B, piece []byte, work func() func() error) {
	b.Run("one", func(b *testing.B) {
		f := work()
		b.SetBytes(int64(len(piece)))
		for b.Loop() {
			if err := f(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("all", func(b *testing.B) {
		b.SetBytes(int64(len(piece)))
		b.RunParallel(func(pb *testing.PB) {
			for f := work(); pb.Next(); {
				if err := f(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
}

// BenchmarkSHA256 is half of what is hashed: each byte is, before and after compression.
func BenchmarkSHA256(b *testing.B) {
	piece := pieces(b)["random"]
	each(b, piece, func() func() error {
		return func() error { sha256.Sum256(piece); return nil }
	})
}

func BenchmarkZstd(b *testing.B) {
	for name, piece := range pieces(b) {
		b.Run("encode/"+name, func(b *testing.B) {
			each(b, piece, func() func() error {
				c, out := bareCodecs.Get().(*bareCodec), []byte(nil)
				return func() error { out = c.enc.EncodeAll(piece, out[:0]); return nil }
			})
		})
		enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(1<<20))
		if err != nil {
			b.Fatal(err)
		}
		frame := enc.EncodeAll(piece, nil)
		b.Run("decode/"+name, func(b *testing.B) {
			each(b, piece, func() func() error {
				c, out := bareCodecs.Get().(*bareCodec), []byte(nil)
				return func() (err error) { out, err = c.dec.DecodeAll(frame, out[:0]); return err }
			})
		})
	}
}

func BenchmarkAge(b *testing.B) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		b.Fatal(err)
	}
	plain := make([]byte, 32<<20)
	seal := func(w io.Writer) error {
		a, err := age.Encrypt(w, id.Recipient())
		if err != nil {
			return err
		}
		if _, err := a.Write(plain); err != nil {
			return err
		}
		return a.Close()
	}
	var pack bytes.Buffer
	if err := seal(&pack); err != nil {
		b.Fatal(err)
	}
	b.Run("encrypt", func(b *testing.B) {
		each(b, plain, func() func() error { return func() error { return seal(io.Discard) } })
	})
	b.Run("decrypt", func(b *testing.B) {
		each(b, plain, func() func() error {
			return func() error {
				r, err := age.Decrypt(bytes.NewReader(pack.Bytes()), id)
				if err == nil {
					_, err = io.Copy(io.Discard, r)
				}
				return err
			}
		})
	})
}
