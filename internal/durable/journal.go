package durable

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path"
	"sync"
)

// ErrDamaged says that a journal has a bad record in front of a good one, which no
// crash can leave behind.
var ErrDamaged = errors.New("journal is damaged")

// maxRecord bounds a record of a journal, so that a damaged one cannot take all memory.
const maxRecord = 16 << 20

// A Journal is a file of records to which one process appends. A record is one line of
// text, stored behind its CRC-32C; when Append has returned nil, it is there after a
// power cut. A Journal is safe for concurrent use.
type Journal struct {
	mu   sync.Mutex
	path string // for messages
	f    File
	err  error // of the first failed append: what the file ends in is unknown since
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// OpenJournal opens the journal name of the tree, makes it if it is missing, and calls
// each for its records in order; an error from it ends the call. What a crash left of
// an unfinished last record is cut off; damage to the last record looks the same. A bad
// record in front of a good one fails with [ErrDamaged]. The slice passed to each is its own. Only one process may have a
// journal open: see [TryLock]. The caller closes.
func (d *Dir) OpenJournal(name string, each func(record []byte) error) (*Journal, error) {
	j, err := d.openJournal(name, each)
	if err != nil {
		return nil, fmt.Errorf("journal %s: %w", d.at(name), err)
	}
	return j, nil
}

func (d *Dir) openJournal(name string, each func([]byte) error) (*Journal, error) {
	if err := d.mkdir(path.Dir(name)); err != nil {
		return nil, err
	}
	f, err := d.fs.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	size, torn, err := readJournal(f, each)
	if err == nil && torn {
		err = f.Truncate(size)
	}
	// What was read may never have been synced; from here on others rely on it.
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = d.syncDir(path.Dir(name))
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return &Journal{path: d.at(name), f: f}, nil
}

// readJournal returns the length of the good records, and whether more follows.
func readJournal(r io.Reader, each func([]byte) error) (size int64, torn bool, err error) {
	br := bufio.NewReaderSize(r, 64<<10)
	for n := 1; ; n++ {
		line, err := readLine(br)
		if err == io.EOF && len(line) == 0 {
			return size, torn, nil
		} else if err != nil && err != io.EOF {
			return 0, false, err
		}
		record, ok := parseLine(line)
		switch {
		case ok && torn:
			return 0, false, fmt.Errorf("%w: a bad record before record %d", ErrDamaged, n)
		case ok:
			size += int64(len(line))
			if err := each(bytes.Clone(record)); err != nil {
				return 0, false, err
			}
		default:
			torn = true
		}
		if err == io.EOF {
			return size, torn, nil
		}
	}
}

// readLine reads a line with its LF, or what is left, but never more than a record may
// be: a longer line comes in pieces, none of which is a good record.
func readLine(br *bufio.Reader) ([]byte, error) {
	var line []byte
	for len(line) <= maxRecord {
		part, err := br.ReadSlice('\n')
		line = append(line, part...)
		if err != bufio.ErrBufferFull {
			return line, err
		}
	}
	return line, nil
}

// line is the inverse of parseLine.
func line(record []byte) []byte {
	out := make([]byte, 0, len(record)+10)
	out = fmt.Appendf(out, "%08x ", crc32.Checksum(record, castagnoli))
	out = append(out, record...)
	return append(out, '\n')
}

func parseLine(l []byte) (record []byte, ok bool) {
	if len(l) < 10 || l[8] != ' ' || l[len(l)-1] != '\n' {
		return nil, false
	}
	record = l[9 : len(l)-1]
	var sum [4]byte
	if _, err := hex.Decode(sum[:], l[:8]); err != nil {
		return nil, false
	}
	return record, bytes.Equal(line(record), l)
}

// Append adds one record and returns when it is durable. After an error it is unknown
// whether it is there, and the journal takes no more: it must be opened again, which
// says. One record an fsync is what makes a bad record in the middle impossible.
func (j *Journal) Append(record []byte) error {
	if bytes.IndexByte(record, '\n') >= 0 || len(record) > maxRecord-10 {
		return fmt.Errorf("journal %s: a record of %d bytes is too long, or not one line", j.path, len(record))
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err == nil {
		j.err = j.write(line(record))
	}
	if j.err != nil {
		return fmt.Errorf("journal %s: %w", j.path, j.err)
	}
	return nil
}

func (j *Journal) write(out []byte) error {
	if _, err := j.f.Write(out); err != nil {
		return err
	}
	if err := j.f.Sync(); err != nil {
		return fmt.Errorf("%w: %w", errSync, err)
	}
	return nil
}

// Close closes the file. Nothing is waiting to be written.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err == nil {
		j.err = os.ErrClosed
	}
	return j.f.Close()
}
