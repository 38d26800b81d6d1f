// Package retention decides what may be deleted, in the archive and at the source, and
// deletes it.
//
// Deciding and deleting are apart. A plan is a pure function of what it is given: it can
// be printed, approved, and tested as a table. Whatever applies a plan obeys it and adds
// nothing, looks once more whether anything forbids it now, and stops at the first thing
// that it does not understand:
//
//   - A hold that cannot be read, or that was seen before and is gone, is a hold.
//   - An audit log that cannot be written stops every deletion.
//   - A snapshot counts only if a verifier countersigned it, so whoever can merely write
//     to the archive cannot make a good snapshot superfluous by flooding it with others.
//   - A record at the source is deleted only if a certificate proves the archive, people
//     other than the planner approved exactly this deletion, and the source still has it
//     exactly as archived.
//
// Public documents carry counts, codes and hashes. What they are about is in sealed
// annexes.
package retention
