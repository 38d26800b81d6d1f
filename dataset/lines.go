package dataset

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
)

// A LineError says which line of JSON Lines could not be read.
type LineError struct {
	Line int64 // from 1
	Err  error
}

func (e *LineError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }
func (e *LineError) Unwrap() error { return e.Err }

// What a line must not be.
var (
	ErrLineTooLong = errors.New("line is too long")
	errEmptyLine   = errors.New("line is empty")
	errCR          = errors.New("line holds a carriage return")
	errNoLF        = errors.New("file ends inside a line")
)

// Lines yields the lines of r, JSON Lines as we write them, without their LF: each is
// ended by one LF, none is empty, none holds a carriage return, none is longer than max
// bytes (without the LF). Anything else, and a failure of r, is a *[LineError] that
// ends the sequence. Whether a line is JSON is not looked at.
//
// A line is valid until the next step. Memory is bounded by max.
func Lines(r io.Reader, max int) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		br := bufio.NewReaderSize(r, 64<<10)
		var long []byte
		for n := int64(1); ; n++ {
			line, err := readLine(br, &long, max)
			if err == io.EOF {
				return
			}
			if err == nil {
				err = checkLine(line)
			}
			if err != nil {
				yield(nil, &LineError{n, err})
				return
			}
			if !yield(line, nil) {
				return
			}
		}
	}
}

// readLine returns the next line without its LF. Lines longer than br's buffer are put
// together in long. io.EOF means that there is no further line.
func readLine(br *bufio.Reader, long *[]byte, max int) ([]byte, error) {
	*long = (*long)[:0]
	for {
		chunk, err := br.ReadSlice('\n')
		length := len(*long) + len(chunk)
		if err == nil {
			length--
		}
		switch {
		case length > max:
			return nil, ErrLineTooLong
		case err == io.EOF && length > 0:
			return nil, errNoLF
		case err != nil && err != bufio.ErrBufferFull:
			return nil, err
		case err == nil && len(*long) == 0:
			return chunk[:length], nil
		}
		*long = append(*long, chunk...)
		if err == nil {
			return (*long)[:length], nil
		}
	}
}

func checkLine(line []byte) error {
	if len(line) == 0 {
		return errEmptyLine
	}
	if bytes.IndexByte(line, '\r') >= 0 {
		return errCR
	}
	return nil
}
