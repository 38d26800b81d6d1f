package demo

import (
	"fmt"
	"os"
	"time"

	"github.com/dwp/sallyport/exporters/s3"
	"github.com/dwp/sallyport/fixtures/keys"
	"github.com/dwp/sallyport/fixtures/s3server"
	"github.com/dwp/sallyport/internal/s3conn"
)

// A bucket is an embedded S3 server with one bucket.
type bucket struct {
	server         *s3server.Server
	settings       s3.Settings
	stop           func()
	keys, versions int
	bytes          int64
}

const bucketName = "case-files"

// serve starts a server over TLS. Its certificate goes to caFile.
func serve(s *s3server.Server, caFile string) (*bucket, error) {
	url, ca, stop, err := s.Start(true)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(caFile, ca, 0o600); err != nil {
		stop()
		return nil, err
	}
	return &bucket{server: s, stop: stop, settings: s3.Settings{Conn: s3conn.Config{Endpoint: url, Region: "eu-west-2", Bucket: bucketName,
		CA: caFile, AccessKey: credential.AccessKey, SecretKey: credential.SecretKey}}}, nil
}

// credential is known to everybody: the servers listen on the loopback address for the
// length of the demo.
var credential = s3server.Credential{AccessKey: "demo", SecretKey: "demo-of-sallyport"}

func newServer() *s3server.Server {
	return s3server.New(s3server.Options{Credentials: []s3server.Credential{credential}, Region: "eu-west-2"})
}

// serveEmpty starts a server without anything.
func serveEmpty(caFile string) (*bucket, error) { return serve(newServer(), caFile) }

// serveBucket starts a server with the files of a small casework system.
func serveBucket(caFile string) (*bucket, error) {
	s := newServer()
	s.AddBucket(bucketName)
	s.SetVersioning(bucketName, "Enabled")
	s.SetConfig(bucketName, "lifecycle", []byte(`<LifecycleConfiguration><Rule><ID>old drafts</ID><Status>Enabled</Status><Filter><Prefix>drafts/</Prefix></Filter><Expiration><Days>365</Days></Expiration></Rule></LifecycleConfiguration>`))
	b, err := serve(s, caFile)
	if err != nil {
		return nil, err
	}
	put := func(o s3server.Object) {
		b.versions++
		if o.Body != nil {
			b.bytes += o.Body.Size()
		}
		s.PutObject(bucketName, o)
	}
	for i := range 240 {
		key := fmt.Sprintf("cases/%04d/letter-%02d.txt", i/8, i%8)
		put(letter(key, i, 1))
		if i%12 == 0 {
			put(letter(key, i, 2))
		}
		if i%40 == 0 {
			put(s3server.Object{Key: key, DeleteMarker: true})
		}
		b.keys++
	}
	for _, key := range keys.Awkward()[:60] {
		put(s3server.Object{Key: key, Body: s3server.Bytes("an awkward name"), Modified: time.Now()})
		b.keys++
	}
	put(s3server.Object{Key: "evidence/empty.bin", Body: s3server.Bytes(nil)})
	put(s3server.Object{Key: "evidence/recording.wav", Body: s3server.Generated{Length: 40 << 20, Seed: 1}, Header: map[string]string{"Content-Type": "audio/wav"}})
	b.keys += 2
	return b, nil
}

// letter is one version of a small text object.
func letter(key string, i, version int) s3server.Object {
	text := fmt.Sprintf("Case %04d, letter %d, version %d.\n", i/8, i%8, version)
	for len(text) < 400+i*37%4000 {
		text += "The claimant has been told in writing what was decided and why.\n"
	}
	return s3server.Object{Key: key, Body: s3server.Bytes(text), Header: map[string]string{"Content-Type": "text/plain; charset=utf-8"},
		Metadata: map[string]string{"case": fmt.Sprint(i / 8)}, Tags: map[string]string{"team": "north", "retention": "7y"}}
}

// lostKey is the object that the second service's target loses.
const lostKey = "letters/2024/decision-017.txt"

// serveLetters starts a server with the letters of another service.
func serveLetters(caFile string) (*bucket, error) {
	s := newServer()
	s.AddBucket(bucketName)
	b, err := serve(s, caFile)
	if err != nil {
		return nil, err
	}
	for i := range 40 {
		o := letter(fmt.Sprintf("letters/2024/decision-%03d.txt", i), i, 1)
		s.PutObject(bucketName, o)
		b.keys, b.versions, b.bytes = b.keys+1, b.versions+1, b.bytes+o.Body.Size()
	}
	return b, nil
}
