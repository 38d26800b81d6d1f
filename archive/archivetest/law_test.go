package archivetest

import "testing"

func TestMemoryKeepsTheLaw(t *testing.T) {
	if err := CheckStore(t.Context(), new(Memory)); err != nil {
		t.Error(err)
	}
}
