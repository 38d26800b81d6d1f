package dir

import (
	"testing"

	"github.com/dwp/sallyport/archive/archivetest"
)

func TestDirectoryKeepsTheLaw(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := archivetest.CheckStore(t.Context(), s); err != nil {
		t.Error(err)
	}
}
