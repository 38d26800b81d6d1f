package archive

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/dwp/sallyport/dataset"
)

// maxList bounds a list: about 1,500,000 packs, 45 TiB.
const maxList = 256 << 20

// A PackRef names a pack in a list.
type PackRef struct {
	SHA256 dataset.Hash `json:"sha256"`
	Size   int64        `json:"size"`
	Key    dataset.Hash `json:"key"` // id of the run key that opens it
}

// listHead is the first line of a list. That it names the run that wrote the list makes
// the list that run's own: a run names a list that it wrote, or one that a snapshot
// which it saw names, and never one that happens to be there. Were lists named by their
// packs alone, a run could find the one it needs where a collector, who does not know
// the run, is about to remove it (package archive/model has the trace).
type listHead struct {
	Format  string     `json:"format"`
	Store   dataset.ID `json:"store"`
	Service string     `json:"service"`
	Run     RunID      `json:"run"` // that wrote the packs
	By      RunID      `json:"by"`  // that wrote the list
}

// encodeList writes the packs of one origin run as JSON Lines, sorted by hash.
func encodeList(head listHead, packs []PackRef) ([]byte, error) {
	slices.SortFunc(packs, func(a, b PackRef) int { return slices.Compare(a.SHA256[:], b.SHA256[:]) })
	line, err := encodeLine(head)
	doc := append(line, '\n')
	for _, p := range packs {
		line, lerr := encodeLine(p)
		err = errors.Join(err, lerr)
		doc = append(append(doc, line...), '\n')
	}
	return doc, err
}

// ParseList accepts only what encodeList writes, and only the list that ref names.
func (a *Archive) ParseList(service string, ref ListRef, doc []byte) ([]PackRef, error) {
	name := ListName(service, ref.SHA256)
	if got := dataset.Sum(doc); got != ref.SHA256 {
		return nil, &DamageError{name, ref.SHA256, got, int64(len(doc))}
	}
	packs, head, err := decodeList(doc)
	if err == nil {
		err = belonging{head.Store, head.Service, head.Run}.check(a.ID, service, ref.Run)
	}
	if err == nil && !head.By.Valid() {
		err = errors.New("malformed run id")
	}
	var total int64
	for _, p := range packs {
		total += p.Size
	}
	if err == nil && (int64(len(packs)) != ref.Packs || total != ref.Bytes) {
		err = fmt.Errorf("has %d packs of %d bytes, the manifest says %d of %d", len(packs), total, ref.Packs, ref.Bytes)
	}
	if err != nil {
		return nil, &IntegrityError{name, err}
	}
	return packs, nil
}

func decodeList(doc []byte) (packs []PackRef, head listHead, err error) {
	first := true
	for line := range bytes.Lines(doc) {
		text, ok := bytes.CutSuffix(line, []byte{'\n'})
		if !ok {
			return nil, head, errors.New("last line is cut")
		}
		if first {
			if err := decodeLine(text, &head); err != nil {
				return nil, head, err
			}
			first = false
			continue
		}
		var p PackRef
		if err := decodeLine(text, &p); err != nil {
			return nil, head, err
		}
		if n := len(packs); n > 0 && slices.Compare(packs[n-1].SHA256[:], p.SHA256[:]) >= 0 {
			return nil, head, errors.New("packs are not in order")
		}
		if p.Size < 1 {
			return nil, head, errors.New("a pack without bytes")
		}
		packs = append(packs, p)
	}
	if head.Format != listFormat {
		return nil, head, errFormat(head.Format)
	}
	return packs, head, nil
}
