package verify

import (
	"errors"
	"fmt"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/reconcile"
)

// What a certificate is: an in-toto Statement v1 (https://in-toto.io/Statement/v1), whose
// predicate docs/certificate.md describes.
const (
	StatementType        = "https://in-toto.io/Statement/v1"
	PredicateType        = "https://github.com/dwp/sallyport/certificate/v1"
	CertificateNamespace = "sallyport-certificate" // of its signature

	certificatesFolder = "certificates"
	maxCertificate     = 16 << 20
)

// A Certificate is the signed result of an exit test. It is public: it names nothing of
// the source, not even its streams, which it numbers. Names are in its sealed [Annex].
type Certificate struct {
	Type          string    `json:"_type" doc:"Always https://in-toto.io/Statement/v1."`
	Subject       []Subject `json:"subject" doc:"One: the snapshot that was tested."`
	PredicateType string    `json:"predicateType" doc:"Always https://github.com/dwp/sallyport/certificate/v1."`
	Predicate     Predicate `json:"predicate" doc:"What was found."`
}

// A Subject is what a certificate is about.
type Subject struct {
	Name   string `json:"name" doc:"SERVICE@RUN."`
	Digest Digest `json:"digest" doc:"Of the snapshot's manifest, as it is stored."`
}

// A Digest names bytes.
type Digest struct {
	SHA256 dataset.Hash `json:"sha256" doc:"In hexadecimal."`
}

// A Predicate is what an exit test found. Everything that is concluded in it (lines,
// controls, verdict) follows from what is measured in it, so that whoever checks a
// certificate concludes again: see [Assess] and [Decide].
type Predicate struct {
	Store      dataset.ID      `json:"store" doc:"Id of the store."`
	Service    string          `json:"service" doc:"Name of the service."`
	Run        archive.RunID   `json:"run" doc:"The run that made the snapshot."`
	Test       dataset.ID      `json:"test" doc:"Id of the exit test."`
	Tool       string          `json:"tool" doc:"Product and version that tested."`
	Started    archive.Time    `json:"started" doc:"When the test began, by its host's clock, as all times here."`
	Ended      archive.Time    `json:"ended" doc:"When the test ended."`
	Issued     archive.Time    `json:"issued" doc:"When the certificate was signed."`
	Expires    archive.Time    `json:"expires" doc:"From when on it proves nothing any more."`
	Verdict    Verdict         `json:"verdict" doc:"The answer."`
	Reasons    []string        `json:"reasons" doc:"Why it is not proven, or undecided; empty if it is proven."`
	Exceptions []string        `json:"exceptions" doc:"What the verdict leaves out, one sentence each."`
	Lines      []Line          `json:"lines" doc:"The questions that lead to the verdict, with their answers."`
	Scope      Scope           `json:"scope" doc:"What was chosen and what was left out."`
	Streams    []StreamLine    `json:"streams" doc:"What was found, stream by stream."`
	Gaps       []GapCount      `json:"gaps" doc:"What should be in the snapshot and is not."`
	Archive    ArchiveState    `json:"archive" doc:"Integrity of the archive, and the snapshot's place in it."`
	Keys       KeyTest         `json:"keys" doc:"Who can open the snapshot, and who did."`
	Target     TargetState     `json:"target" doc:"What it was restored into, and what that could not carry."`
	Steps      []StepLine      `json:"steps" doc:"The steps of the test with their times."`
	Objectives Measures        `json:"objectives" doc:"What was measured against what is promised."`
	Acceptance []Answer        `json:"acceptance" doc:"Questions that the service's owner asked of the restored data, by number."`
	SelfTest   []Planted       `json:"self_test" doc:"Faults that were planted in a copy, and whether the verifier found them."`
	Controls   []Control       `json:"controls" doc:"Clauses of standards for which something was measured."`
	Retention  *RetentionState `json:"retention" doc:"What deletes, and what forbids it; null if nobody asked."`
	Logs       []LogHead       `json:"logs" doc:"Audit logs of the store, as the check found them."`
	Mapping    dataset.Hash    `json:"controls_sha256" doc:"Of the file that says which line speaks for which clause."`
	Roles      Roles           `json:"roles" doc:"Who signed, and which roles were not kept apart."`
	Annex      AnnexRef        `json:"annex" doc:"Where the names are."`
	Limits     []string        `json:"limits" doc:"What the certificate does not prove, one sentence each."`
}

// A Verdict is the answer of an exit test.
type Verdict string

// The verdicts.
const (
	Proven    Verdict = "proven"     // every question that must be asked was, and answered with yes
	NotProven Verdict = "not proven" // something is wrong
	Undecided Verdict = "undecided"  // nothing is wrong as far as can be told, and something could not be
)

// A Line is one of the questions that lead to the verdict.
type Line struct {
	ID       string  `json:"id" doc:"Name of the question."`
	Outcome  Outcome `json:"outcome" doc:"Its answer."`
	Required bool    `json:"required" doc:"Whether it must pass for a proof."`
	Finding  string  `json:"finding" doc:"What was found, in a sentence."`
}

// A Scope says what the snapshot was meant to hold.
type Scope struct {
	Exporter       string             `json:"exporter" doc:"Kind of the source."`
	Classification string             `json:"classification" doc:"Of the data."`
	Endpoints      []dataset.Endpoint `json:"endpoints" doc:"Servers that the export talked to."`
	Streams        int                `json:"streams" doc:"Streams in the snapshot."`
	LeftOut        int                `json:"left_out" doc:"Streams that the plan leaves out by name."`
	NotArchived    int                `json:"not_archived" doc:"Streams that the source offers now and the snapshot does not have, left out or new."`
	Filters        int                `json:"filters" doc:"Filters in force at the source."`
	Ignored        int64              `json:"ignored" doc:"Answers of the source that a connector was told to ignore."`
	Unchecked      int64              `json:"unchecked_metadata" doc:"Records whose metadata was not read again."`
	Grade          archive.Grade      `json:"required_grade" doc:"How well each stream's export must at least be proven."`
}

// A StreamLine is what was found of one stream.
type StreamLine struct {
	Number          int                        `json:"number" doc:"From 1, in the order of the snapshot's descriptor."`
	Root            dataset.Hash               `json:"root" doc:"Of the stream's records; the descriptor has the same."`
	Grade           archive.Grade              `json:"grade" doc:"How its export was proven to be complete."`
	Records         int64                      `json:"records" doc:"In the snapshot."`
	Blobs           int64                      `json:"blobs" doc:"Records that own bytes."`
	BlobBytes       int64                      `json:"blob_bytes" doc:"Of those."`
	SourceCount     int64                      `json:"source_count" doc:"Records by the source's own count at export, -1 if it has none."`
	Vanished        int64                      `json:"vanished" doc:"Listed at export and gone before they were read."`
	AtExport        map[reconcile.Status]int64 `json:"at_export" doc:"What a second reading at export saw otherwise."`
	Gaps            int64                      `json:"gaps" doc:"Of the snapshot, in this stream."`
	Losses          int                        `json:"losses" doc:"Kinds of things that the target said beforehand it cannot carry."`
	TargetGaps      int64                      `json:"target_gaps" doc:"Records that the target did not take."`
	Archived        int64                      `json:"archived" doc:"Records that the archive delivered, -1 if it was not read."`
	Restored        int64                      `json:"restored" doc:"Records read back from the target, -1 if it was not read."`
	Source          int64                      `json:"source" doc:"Records that the source has now, -1 if it was not read."`
	AgainstRestored map[reconcile.Status]int64 `json:"against_restored" doc:"Archive against restored copy: records by status."`
	AgainstSource   map[reconcile.Status]int64 `json:"against_source" doc:"Archive against source now: records by status."`
	Withheld        int64                      `json:"withheld" doc:"Values of fields that are not compared because a faithful copy need not repeat them."`
}

// A GapCount counts gaps of one stream and code.
type GapCount struct {
	Stream      int          `json:"stream" doc:"Number of the stream, 0 if the snapshot does not have it."`
	Code        dataset.Code `json:"code" doc:"Why."`
	Count       int64        `json:"count" doc:"How many."`
	Waived      int64        `json:"waived" doc:"How many of them the owner accepted."`
	WaivedUntil archive.Time `json:"waived_until" doc:"When the first of those waivers ends; 0001-01-01T00:00:00Z if none is waived."`
}

// An ArchiveState is the snapshot's integrity and position.
type ArchiveState struct {
	State         archive.State       `json:"state" doc:"Whether the snapshot has gaps."`
	Sequence      int64               `json:"sequence" doc:"Its place in the chain of snapshots."`
	Parents       []dataset.Hash      `json:"parents" doc:"Manifests that it follows."`
	Newer         int                 `json:"newer" doc:"Snapshots of the service that came later."`
	ExportStarted archive.Time        `json:"export_started" doc:"When its export began."`
	ExportEnded   archive.Time        `json:"export_ended" doc:"When its export ended."`
	Log           *archive.Checkpoint `json:"log" doc:"Checkpoint of the audit log that the manifest names, or null."`
	Integrity     Outcome             `json:"integrity" doc:"Names, signatures, chain and stored bytes of the service."`
	Covered       bool                `json:"covered" doc:"Whether that check found this snapshot."`
	Freshness     Outcome             `json:"freshness" doc:"Whether every state that was seen before is still there."`
	Objects       int64               `json:"objects" doc:"In the store."`
	Packs         int64               `json:"packs" doc:"That snapshots need."`
	PacksRead     int64               `json:"packs_read" doc:"Of those, read and held against their hashes."`
	BytesRead     int64               `json:"bytes_read" doc:"Of packs."`
	Findings      int                 `json:"findings" doc:"What is wrong, in number."`
	Content       Outcome             `json:"content" doc:"Everything decrypted, decoded and held against its hash."`
	ContentBytes  int64               `json:"content_bytes" doc:"Of records and blobs, decoded."`
	ContentWrong  int                 `json:"content_findings" doc:"What is wrong with the contents, in number."`
}

// A KeyTest says who can open the snapshot, and who did.
type KeyTest struct {
	Recipients []string    `json:"recipients" doc:"age public keys to which its run keys are sealed, by signed statements."`
	Managed    []string    `json:"managed" doc:"age public keys that the organisation manages now."`
	Keys       []KeyResult `json:"keys" doc:"The run keys that the snapshot needs."`
}

// A KeyResult is the test of one run key.
type KeyResult struct {
	ID       dataset.Hash `json:"id" doc:"SHA-256 of the run key's public half."`
	Role     archive.Role `json:"role" doc:"What it opens."`
	Outcome  Outcome      `json:"outcome" doc:"Whether an identity opened it."`
	OpenedBy []string     `json:"opened_by" doc:"Identities that did: their public keys, or the name of a plug-in's file."`
}

// A TargetState says what the snapshot was restored into.
type TargetState struct {
	Kind      string  `json:"kind" doc:"Of the target."`
	Restored  Outcome `json:"restored" doc:"Whether everything was loaded."`
	Losses    int     `json:"losses" doc:"Kinds of things that it said beforehand it cannot carry."`
	Gaps      int64   `json:"gaps" doc:"Records that it did not take."`
	Stressed  bool    `json:"stressed" doc:"Whether the test was done as if the source were gone."`
	Destroyed Outcome `json:"destroyed" doc:"Whether the restored copy was removed."`
}

// A StepLine is a step of the test.
type StepLine struct {
	Name    string       `json:"name" doc:"What was done."`
	Streams []int        `json:"streams" doc:"Numbers of the streams it is about, if not all."`
	Started archive.Time `json:"started" doc:"When."`
	AfterMS int64        `json:"after_ms" doc:"When, in milliseconds since the test began."`
	TookMS  int64        `json:"took_ms" doc:"For how long, in milliseconds."`
	Outcome Outcome      `json:"outcome" doc:"Whether it came to its end."`
}

// Measures are objectives and what was measured.
type Measures struct {
	RPO        Measure `json:"rpo" doc:"Age of the snapshot when the test began: what would be lost."`
	RTO        Measure `json:"rto" doc:"Time that the restore took, from an empty target to its end."`
	LongestGap int64   `json:"longest_gap_ms" doc:"The longest time between two complete snapshots in the 30 days before, in milliseconds."`
	Complete   int     `json:"complete_snapshots" doc:"Complete snapshots in those days."`
}

// A Measure is one objective.
type Measure struct {
	ObjectiveMS int64   `json:"objective_ms" doc:"What is promised, in milliseconds; 0 if nothing is."`
	MeasuredMS  int64   `json:"measured_ms" doc:"What was measured, in milliseconds."`
	Outcome     Outcome `json:"outcome" doc:"Whether the objective is met."`
}

// An Answer is the outcome of an acceptance check, whose name is in the annex.
type Answer struct {
	Number  int     `json:"number" doc:"From 1, in the order of the configuration."`
	Outcome Outcome `json:"outcome" doc:"The answer."`
}

// Roles says who signed.
type Roles struct {
	Signer       string   `json:"signer" doc:"Fingerprint of the key that signed this certificate."`
	ExportSigner string   `json:"export_signer" doc:"Fingerprint of the key that signed the snapshot's manifest."`
	ExportedBy   string   `json:"exported_by" doc:"Principal of that key."`
	SharedHost   []string `json:"shared_host" doc:"Roles that the testing host has besides the verifier's."`
}

// An AnnexRef names the sealed annex.
type AnnexRef struct {
	Name        string       `json:"name" doc:"Name in the store."`
	SHA256      dataset.Hash `json:"sha256" doc:"Of the sealed file."`
	Bytes       int64        `json:"bytes" doc:"Size of the sealed file."`
	Recipients  []string     `json:"recipients" doc:"age public keys to which it is sealed."`
	Differences int64        `json:"differences" doc:"Records that are not the same on all sides."`
	Named       int64        `json:"named" doc:"Of those, named in the annex with key and field."`
}

// SubjectName is what a certificate calls a snapshot.
func SubjectName(service string, run archive.RunID) string { return service + "@" + string(run) }

// Encode returns the one form of a certificate: JSON with two-space indentation, without
// HTML escapes, and a final line feed.
func (c *Certificate) Encode() ([]byte, error) { return archive.Encode(c) }

// ParseCertificate accepts only what [Certificate.Encode] writes. It verifies no
// signature, and does not say whether the certificate agrees with itself.
func ParseCertificate(doc []byte) (*Certificate, error) {
	var c Certificate
	if err := archive.Decode(doc, &c); err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	return &c, nil
}

func (c *Certificate) check() error {
	p := &c.Predicate
	switch {
	case c.Type != StatementType:
		return fmt.Errorf("type %q is not an in-toto statement of version 1", c.Type)
	case c.PredicateType != PredicateType:
		return fmt.Errorf("predicate type %q is not one this version reads", c.PredicateType)
	case len(c.Subject) != 1:
		return fmt.Errorf("%d subjects instead of one", len(c.Subject))
	case archive.CheckService(p.Service) != nil:
		return archive.CheckService(p.Service)
	case !p.Run.Valid():
		return errors.New("malformed run id")
	case c.Subject[0].Name != SubjectName(p.Service, p.Run):
		return fmt.Errorf("its subject is %q, it says that it is about %s", c.Subject[0].Name, SubjectName(p.Service, p.Run))
	case p.Verdict != Proven && p.Verdict != NotProven && p.Verdict != Undecided:
		return fmt.Errorf("verdict %q", p.Verdict)
	case !p.Expires.After(p.Issued.Time):
		return errors.New("it ends before it begins")
	}
	for i, s := range p.Streams {
		if s.Number != i+1 {
			return fmt.Errorf("stream %d has number %d", i+1, s.Number)
		}
	}
	return nil
}
