package s3_test

import (
	"testing"

	"github.com/dwp/sallyport/archive/s3"
	"github.com/dwp/sallyport/fixtures/s3server"
)

func TestPowersTellACreateOnlyCredentialFromAnotherOne(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]s3.Powers{"create only": {}, "everything": {Overwrite: true, Delete: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := serve(t)
			if name == "create only" {
				f.srv.SetCredential(s3server.Credential{AccessKey: "key", SecretKey: "secret", Policy: s3server.CreateOnly(bucket, "prod/x/")})
			}
			st := open(t, f, s3.Options{})
			for range 2 { // asking again gives the same answer
				if got, err := (s3.Remover{Store: st}).Powers(t.Context()); err != nil || got != want {
					t.Errorf("Powers = %+v, %v; want %+v", got, err, want)
				}
			}
		})
	}
}
