package verify_test

import (
	"testing"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters/memory"
	"github.com/dwp/sallyport/fixtures/keys"
	"github.com/dwp/sallyport/verify"
)

func TestSelfTestFindsEveryPlantedFaultInAnyKindOfStream(t *testing.T) {
	t.Parallel()
	objects := new(memory.Source)
	objects.Generate(dataset.Stream{Name: "objects", Blobs: true}, 50, memory.Object(1, 0, 100))
	rows := new(memory.Source)
	rows.Generate(memory.RowStream("rows"), 50, memory.Row(1))
	for name, src := range map[string]*memory.Source{"objects": objects, "rows": rows, "nothing": new(memory.Source), "awkward": memory.Awkward(keys.Awkward())} {
		tr := newTrial(t, src)
		planted, err := verify.SelfTest(t.Context(), tr.s)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(planted) < 13 {
			t.Errorf("%s: only %d faults were planted", name, len(planted))
		}
		for _, p := range planted {
			if p.Found != verify.Pass {
				t.Errorf("%s: %s was not found: %s", name, p.Fault, p.As)
			}
		}
	}
}
