package transfer

import "sync/atomic"

// A Progress counts what a transfer has done so far. It may be read while the transfer
// runs.
type Progress struct {
	Records atomic.Int64 // records seen, objects included
	Blobs   atomic.Int64 // blobs read, or found unchanged
	Bytes   atomic.Int64 // of blobs and records, read
	Reused  atomic.Int64 // bytes of blobs that were found unchanged
	Gaps    atomic.Int64
}
