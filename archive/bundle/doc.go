// Package bundle writes one snapshot as a self-contained BagIt 1.0 bag (RFC 8493).
//
// Its payload is a store that [archive.Open] opens and a check, a verification and a
// restore accept: the snapshot's packs, lists and sealed keys, its decision and intent
// with those of all its ancestors, and the signatures of all that. RESTORE.md beside it
// has the commands that restore it with nothing but what a Linux distribution ships.
//
// No key is needed to make a bundle, and none is in it in the clear.
package bundle
