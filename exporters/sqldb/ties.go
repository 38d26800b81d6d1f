package sqldb

// maxTies is how many hashes of equal rows are kept in memory.
const maxTies = 100_000

// ties are the hashes that several rows of a keyless table share, as the database
// computed them. Rows with equals need ordinals; usually there are few or none, and
// then the table is read in its physical order, in which a log that is only appended
// to stays the same from export to export. A table with many is read sorted by hash.
type ties struct {
	hashes map[string]bool
	sorted bool
}

// any reports whether there are equal rows at all. Nil ties have none.
func (t *ties) any() bool { return t != nil && (t.sorted || len(t.hashes) > 0) }

func (t *ties) many() bool { return t != nil && t.sorted }

// of returns the tie of a row with a hash.
func (t *ties) of(hash []byte) string {
	if t.sorted || t.hashes[string(hash)] {
		return string(hash)
	}
	return ""
}

func (t *ties) counter() *ordinals {
	if !t.any() {
		return nil
	}
	return &ordinals{sorted: t.sorted}
}

func newTies(hashes []string) *ties {
	if len(hashes) > maxTies {
		return &ties{sorted: true}
	}
	t := &ties{hashes: make(map[string]bool, len(hashes))}
	for _, h := range hashes {
		t.hashes[h] = true
	}
	return t
}
