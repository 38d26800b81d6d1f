// Package audit keeps a tamper-evident log: who may read the store can prove that no
// event was changed, removed, inserted or reordered since any checkpoint they know,
// and that the log they are shown today continues the one they saw yesterday.
//
// A log is a Merkle tree (RFC 6962) in the layout of c2sp.org/tlog-tiles, one for each
// host and role, in objects that are created once and never changed:
//
//	audit/<log>/tile/<level>/<n>[.p/<width>]     hashes
//	audit/<log>/tile/entries/<n>[.p/<width>]     events
//	audit/<log>/checkpoints/<size, 20 digits>    the text of a c2sp.org/tlog-checkpoint
//	audit/<log>/signatures/<sha256>/sallyport-checkpoint/<sha256>.sig
//
// Events go to a journal on the host first, and are durable there when [Log.Append]
// returns. [Log.Publish] moves them to the store and signs a checkpoint. Before an act
// an intent is written, after it a result, so that an act whose process died shows as
// an intent without one. While the log cannot be published, exports go on and their
// events queue; whatever deletes must stop.
//
// An event has no field for free text and none for names of people or of source items,
// so nothing a source or an attacker says can get into a line of the log.
package audit

import (
	"fmt"
	"regexp"
)

var logForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

func checkName(log string) error {
	if !logForm.MatchString(log) {
		return fmt.Errorf("log name %q: must be 1 to 63 characters of a-z, 0-9 and dash, and not begin with a dash", log)
	}
	return nil
}
