// Package archive is the archive format and nothing else: what the objects of a
// store are called and hold, how a run writes them, which order of writing makes a
// snapshot (the commit protocol), how a snapshot is read, and what a collector may
// remove. docs/archive-format.md is its specification.
//
// It knows nothing of sources and targets. The way back (open, check, restore) needs
// the standard library, x/crypto/ssh, age, zstd and a store, and must still build in
// ten years.
package archive
