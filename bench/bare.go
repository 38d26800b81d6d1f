package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

	"github.com/dwp/sallyport/internal/s3conn"
)

// children are the programs that bench starts itself as.
var children = map[string]func(context.Context, []string) error{
	"bare-list":   bareList,
	"bare-get":    bareGet,
	"bare-export": bareExport,
	"serve":       serve,
}

func bareConn(bucket string) (*s3conn.Conn, error) {
	return s3conn.New(s3conn.Config{Endpoint: os.Getenv("BENCH_ENDPOINT"), Bucket: bucket, CA: os.Getenv("SSL_CERT_FILE"),
		AccessKey: os.Getenv("AWS_ACCESS_KEY_ID"), SecretKey: os.Getenv("AWS_SECRET_ACCESS_KEY")})
}

// bareList lists a bucket and does nothing else.
func bareList(ctx context.Context, args []string) error {
	c, err := bareConn(args[0])
	if err != nil {
		return err
	}
	for _, err := range c.List(ctx, s3conn.Listing{}) {
		if err != nil {
			return err
		}
	}
	return nil
}

// bareGet reads every object and throws it away.
func bareGet(ctx context.Context, args []string) error {
	return bareObjects(ctx, args[0], func(r io.Reader, _ int64) error {
		_, err := io.Copy(io.Discard, r)
		return err
	})
}

// bareObjects opens every object of a bucket, 64 at once.
func bareObjects(ctx context.Context, bucket string, f func(r io.Reader, size int64) error) error {
	c, err := bareConn(bucket)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(64)
	for e, err := range c.List(ctx, s3conn.Listing{}) {
		if err != nil {
			return errors.Join(err, g.Wait())
		}
		g.Go(func() error {
			r, err := c.Get(ctx, s3conn.Object{Key: e.Key, ETag: e.ETag, Size: e.Size}, 0, -1)
			if err != nil {
				return err
			}
			return errors.Join(f(r, e.Size), r.Close())
		})
	}
	return g.Wait()
}

// bareExport does the work of an export that cannot be saved, and nothing else: SHA-256
// of each object, zstd in frames of 1 MiB with a decoder that checks them, age in packs
// of 32 MiB, SHA-256 of those, and a synced file for each. No metadata, no index, no
// second look: what it makes could not be restored.
func bareExport(ctx context.Context, args []string) error {
	bucket, dir := args[0], args[1]
	to, err := age.ParseX25519Recipient(args[2])
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	p := &barePacks{dir: dir, to: to}
	p.store.SetLimit(2)
	room := make(chan struct{}, 12) // megabytes read ahead, about
	err = bareObjects(ctx, bucket, func(r io.Reader, size int64) error {
		h := sha256.New()
		for left := size; left > 0; {
			n := min(left, 1<<20)
			large := n > 64<<10
			if large {
				room <- struct{}{}
			}
			b := make([]byte, n)
			_, err := io.ReadFull(r, b)
			if err == nil {
				h.Write(b)
				err = p.add(b)
			}
			if large {
				<-room
			}
			if err != nil {
				return err
			}
			left -= n
		}
		h.Sum(nil)
		return nil
	})
	return errors.Join(err, p.close())
}

// barePacks collects small pieces into frames and frames into packs.
type barePacks struct {
	dir   string
	to    age.Recipient
	store errgroup.Group

	mu    sync.Mutex // guards batch
	batch []byte

	packing sync.Mutex // guards what follows
	pack    *bytes.Buffer
	age     io.WriteCloser
}

func (p *barePacks) add(b []byte) error {
	p.mu.Lock()
	p.batch = append(p.batch, b...)
	var full []byte
	if len(p.batch) >= 1<<20 {
		full, p.batch = p.batch, nil
	}
	p.mu.Unlock()
	return p.frame(full)
}

type bareCodec struct {
	enc  *zstd.Encoder
	dec  *zstd.Decoder
	out  []byte
	back []byte
}

var bareCodecs = sync.Pool{New: func() any {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
	if err != nil {
		panic(err) // constant options
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		panic(err)
	}
	return &bareCodec{enc: enc, dec: dec}
}}

func (p *barePacks) frame(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	c := bareCodecs.Get().(*bareCodec)
	defer bareCodecs.Put(c)
	c.out = c.enc.EncodeAll(b, c.out[:0])
	var err error
	if c.back, err = c.dec.DecodeAll(c.out, c.back[:0]); err != nil || !bytes.Equal(c.back, b) {
		return fmt.Errorf("frame does not decode: %v", err)
	}
	p.packing.Lock()
	defer p.packing.Unlock()
	if p.pack == nil {
		p.pack = bytes.NewBuffer(make([]byte, 0, 33<<20))
		if p.age, err = age.Encrypt(p.pack, p.to); err != nil {
			return err
		}
	}
	if _, err := p.age.Write(c.out); err != nil {
		return err
	}
	if p.pack.Len() > 31<<20 {
		return p.end()
	}
	return nil
}

// end stores the pack in the background.
func (p *barePacks) end() error {
	err := p.age.Close()
	b := p.pack.Bytes()
	p.pack, p.age = nil, nil
	if err != nil {
		return err
	}
	p.store.Go(func() error {
		sum := sha256.Sum256(b)
		f, err := os.Create(filepath.Join(p.dir, hex.EncodeToString(sum[:])))
		if err != nil {
			return err
		}
		_, err = f.Write(b)
		return errors.Join(err, f.Sync(), f.Close())
	})
	return nil
}

func (p *barePacks) close() error {
	err := p.frame(p.batch)
	if p.pack != nil {
		err = errors.Join(err, p.end())
	}
	return errors.Join(err, p.store.Wait())
}
