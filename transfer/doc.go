// Package transfer is the engine between sources, archives and targets: [Export] reads
// a view into a snapshot, [Restore] fills a target from one. It knows no kind of source
// and no kind of store.
//
// Nothing is dropped on the way: what cannot be read, stored or loaded comes out as a
// gap that names the item and the reason.
package transfer
