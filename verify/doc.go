// Package verify finds out whether an archive is what it should be, and whether what
// was restored is what was exported.
//
// Two things are never confused: a [Finding] says that something is wrong, an error
// that it could not be found out. What was not asked is [NotRun], which is not the
// same as fine.
package verify
