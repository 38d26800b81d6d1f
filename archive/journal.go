package archive

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/s2"

	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
)

// A journal is what a host remembers of its runs of one service, so that an
// interrupted run can be resumed and an unchanged object need not be read again. It
// holds index lines sealed to a key of the host's own, and nothing of what blobs and
// records hold. It is a cache: whatever is missing or damaged in it is read from the
// source again, and losing it costs one full export. Its files are compressed with S2,
// which takes a sixth of the time of zstd: every export writes all of them anew.
//
//	host.key
//	<store>/<service>/<run>/head.json            run keys' public halves
//	                        packs.jsonl          packs that are durable in the store
//	                        <attempt>/<stream>-<part>.age   index lines, written before their packs are durable
//	                        manifest.age         the manifest's hash and the parts; written before the decision
//	                        committed.age        the same file, once the decision is known to stand
type journal struct {
	dir  string // of the service; empty: remember nothing
	seal *crypto.Sealer
	open *crypto.Opener

	run      RunID
	attempt  int
	nextPack int

	mu    sync.Mutex
	packs *os.File
}

// A journalHead is head.json.
type journalHead struct {
	Run     RunID            `json:"run"`
	Started Time             `json:"started"`
	Keys    map[Role]keyHalf `json:"keys"`
}

// A packLine is a line of packs.jsonl, and of committed.age.
type packLine struct {
	Number int          `json:"number"`
	SHA256 dataset.Hash `json:"sha256"`
	Size   int64        `json:"size"`
	Key    dataset.Hash `json:"key"`
	Run    RunID        `json:"run"`
}

// linesHead is the first line of a file of index lines: what the part's table of
// packs refers to, by number where this run wrote the pack.
type linesHead struct {
	Stream string    `json:"stream"`
	Packs  []packUse `json:"packs"`
}

type packUse struct {
	Number int          `json:"number"` // -1 for a pack of an earlier run
	SHA256 dataset.Hash `json:"sha256,omitzero"`
}

// committed is committed.age.
type committed struct {
	Manifest dataset.Hash           `json:"manifest"`
	Parts    []PartEntry            `json:"parts"`
	Live     map[dataset.Hash]int64 `json:"live"` // bytes of each pack's zstd stream that lines and parts refer to

	Remembered map[string]json.RawMessage `json:"remembered,omitempty"` // by stream; see [StreamWriter.Remember]
}

func openJournal(state string, store dataset.ID, service string) (*journal, error) {
	if state == "" {
		return &journal{}, nil
	}
	j := &journal{dir: filepath.Join(state, string(store), service)}
	if err := os.MkdirAll(j.dir, 0o700); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	text, err := hostKey(filepath.Join(state, "host.key"))
	if err != nil {
		return nil, fmt.Errorf("host key: %w", err)
	}
	if j.open, err = crypto.ParseIdentities(text, "host.key"); err != nil {
		return nil, err
	}
	j.seal, err = crypto.NewSealer(j.open.Recipients()...)
	return j, err
}

// hostKey reads the host's own key, or makes it.
func hostKey(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return text, err
	}
	if text, _, err = crypto.GenerateIdentity(false); err != nil {
		return nil, err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "host.key-*") // mode 0600
	if err != nil {
		return nil, err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(text)
	if err = errors.Join(err, tmp.Close()); err != nil {
		return nil, err
	}
	if err := os.Link(tmp.Name(), path); errors.Is(err, fs.ErrExist) {
		return os.ReadFile(path) // another export was faster
	} else if err != nil {
		return nil, err
	}
	return text, nil
}

// runs lists the remembered runs, oldest first.
func (j *journal) runs() ([]RunID, error) {
	if j.dir == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(j.dir)
	var runs []RunID
	for _, e := range entries {
		if r := RunID(e.Name()); r.Valid() && e.IsDir() {
			runs = append(runs, r)
		}
	}
	return runs, err
}

// interrupted returns the newest run that was begun and not committed, if its head
// can be read.
func (j *journal) interrupted() (journalHead, bool, error) {
	runs, err := j.runs()
	slices.Reverse(runs)
	for _, r := range runs {
		if _, err := os.Stat(filepath.Join(j.dir, string(r), "committed.age")); err == nil {
			continue
		}
		h, ok := j.head(r)
		if !ok {
			if err := j.drop(r); err != nil {
				return h, false, err
			}
			continue
		}
		return h, true, nil
	}
	return journalHead{}, false, err
}

// head reads what is remembered of how a run began. It is false if that is of no use.
func (j *journal) head(r RunID) (h journalHead, ok bool) {
	b, err := os.ReadFile(filepath.Join(j.dir, string(r), "head.json"))
	return h, err == nil && json.Unmarshal(b, &h) == nil && h.Run == r && len(h.Keys) == 2
}

// begin remembers a new run.
func (j *journal) begin(h journalHead) error {
	if j.dir == "" {
		return nil
	}
	b, err := json.Marshal(h)
	if err != nil {
		return err
	}
	dir := filepath.Join(j.dir, string(h.Run))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "head.json"), b, 0o600); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return j.start(h.Run, 0)
}

// resume opens a further attempt at a run.
func (j *journal) resume(r RunID) error {
	attempt := 0
	entries, err := os.ReadDir(filepath.Join(j.dir, string(r)))
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil && e.IsDir() {
			attempt = max(attempt, n+1)
		}
	}
	for _, p := range j.ownPacks(r) {
		j.nextPack = max(j.nextPack, p.Number+1)
	}
	j.nextPack += 1000 // numbers that were given and never became durable stay unused
	return j.start(r, max(attempt, 1))
}

func (j *journal) start(r RunID, attempt int) error {
	j.run, j.attempt = r, attempt
	dir := filepath.Join(j.dir, string(r))
	if err := os.MkdirAll(filepath.Join(dir, strconv.Itoa(attempt)), 0o700); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "packs.jsonl"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	j.packs = f
	return nil
}

// drop forgets a run.
func (j *journal) drop(r RunID) error {
	if j.dir == "" || !r.Valid() {
		return nil
	}
	j.close()
	if j.run == r {
		j.run, j.attempt, j.nextPack = "", 0, 0
	}
	return os.RemoveAll(filepath.Join(j.dir, string(r)))
}

func (j *journal) close() {
	if j.packs != nil {
		j.packs.Close() // every line was a write of its own
		j.packs = nil
	}
}

// packDone remembers that a pack is durable.
func (j *journal) packDone(p *pack) error {
	if j.packs == nil {
		return nil
	}
	b, err := json.Marshal(packLine{p.number, p.hash, p.size, p.key, p.run})
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, err := j.packs.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

// ownPacks returns the packs of a run that are durable. A torn last line is passed
// over: its pack is stored again if it is needed.
func (j *journal) ownPacks(r RunID) []packLine {
	f, err := os.Open(filepath.Join(j.dir, string(r), "packs.jsonl"))
	if err != nil {
		return nil
	}
	defer f.Close()
	var packs []packLine
	for sc := bufio.NewScanner(f); sc.Scan(); {
		var p packLine
		if json.Unmarshal(sc.Bytes(), &p) == nil && p.Run == r {
			packs = append(packs, p)
		}
	}
	return packs
}

// streamFile names the files of a stream without naming the stream.
func streamFile(stream string) string { return dataset.Sum([]byte(stream)).String()[:16] }

// lines remembers the n-th part of index lines of a stream.
func (j *journal) lines(stream string, n int, p *part) error {
	if j.packs == nil {
		return nil
	}
	head := linesHead{Stream: stream, Packs: make([]packUse, len(p.packs))}
	for i, k := range p.packs {
		if k.run == j.run {
			head.Packs[i] = packUse{Number: k.number}
		} else {
			head.Packs[i] = packUse{-1, k.hash}
		}
	}
	first, err := json.Marshal(head)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%s-%08d.age", streamFile(stream), n)
	return j.write(filepath.Join(string(j.run), strconv.Itoa(j.attempt), name), append(first, '\n'), p.buf)
}

// write seals text into a file, which appears whole or not at all.
func (j *journal) write(name string, text ...[]byte) error {
	path := filepath.Join(j.dir, name)
	sealed, err := j.seal.Seal(s2.Encode(nil, bytes.Join(text, nil)))
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if err := os.WriteFile(path+".tmp", sealed, 0o600); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return os.Rename(path+".tmp", path)
}

func (j *journal) read(name string) ([]byte, error) {
	sealed, err := os.ReadFile(filepath.Join(j.dir, name))
	if err != nil {
		return nil, err
	}
	z, err := j.open.Open(sealed)
	if err != nil {
		return nil, err
	}
	return s2.Decode(nil, z)
}

// prepare remembers what the run will be a snapshot of, before it is decided.
func (j *journal) prepare(manifest dataset.Hash, all *sealed) error {
	if j.packs == nil {
		return nil
	}
	b, err := json.Marshal(committed{manifest, all.entries, all.live, all.remembered})
	if err != nil {
		return err
	}
	return j.write(filepath.Join(string(j.run), "manifest.age"), b)
}

// commit remembers that the run is a snapshot, and forgets all others.
func (j *journal) commit() error {
	if j.packs == nil {
		return nil
	}
	j.close()
	if err := j.adopt(j.run); err != nil {
		return err
	}
	runs, err := j.runs()
	for _, r := range runs {
		if r != j.run {
			err = errors.Join(err, os.RemoveAll(filepath.Join(j.dir, string(r))))
		}
	}
	return err
}

// adopt makes a prepared run a committed one.
func (j *journal) adopt(r RunID) error {
	dir := filepath.Join(j.dir, string(r))
	if err := os.Rename(filepath.Join(dir, "manifest.age"), filepath.Join(dir, "committed.age")); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

// prepared reports whether the run was about to be decided by that manifest.
func (j *journal) prepared(r RunID, manifest dataset.Hash) bool {
	b, err := j.read(filepath.Join(string(r), "manifest.age"))
	var c committed
	return err == nil && json.Unmarshal(b, &c) == nil && c.Manifest == manifest
}

// lastCommitted returns the newest run that was committed.
func (j *journal) lastCommitted() (RunID, *committed) {
	runs, err := j.runs()
	if err != nil {
		return "", nil
	}
	for _, r := range slices.Backward(runs) {
		b, err := j.read(filepath.Join(string(r), "committed.age"))
		var c committed
		if err == nil && json.Unmarshal(b, &c) == nil {
			return r, &c
		}
	}
	return "", nil
}

// attempts returns the folders of a run's attempts, newest first, without the one
// that is being written.
func (j *journal) attempts(r RunID) []string {
	entries, err := os.ReadDir(filepath.Join(j.dir, string(r)))
	if err != nil {
		return nil
	}
	var ns []int
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil && e.IsDir() && (r != j.run || n < j.attempt) {
			ns = append(ns, n)
		}
	}
	slices.Sort(ns)
	slices.Reverse(ns)
	dirs := make([]string, len(ns))
	for i, n := range ns {
		dirs[i] = filepath.Join(string(r), strconv.Itoa(n))
	}
	return dirs
}

// files returns a stream's files of lines in an attempt, in order.
func (j *journal) files(dir, stream string) []string {
	entries, err := os.ReadDir(filepath.Join(j.dir, dir))
	if err != nil {
		return nil
	}
	var files []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), streamFile(stream)+"-") && strings.HasSuffix(e.Name(), ".age") {
			files = append(files, filepath.Join(dir, e.Name()))
		}
	}
	return files // ReadDir sorts
}
