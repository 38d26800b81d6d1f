package archive

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/dwp/sallyport/dataset"
)

// A RunID names a run: the UTC start time as a hint for people, a dash and a
// [dataset.ID]. Its time is never trusted for order.
type RunID string

const runTime = "20060102T150405Z"

var (
	serviceForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)
	runForm     = regexp.MustCompile(`^[0-9]{8}T[0-9]{6}Z-[a-z2-7]{26}$`)
	namespaces  = []string{nsStore, nsIntent, nsKeys, nsManifest, nsAbort, nsVerified, nsCertificate, nsExpiry, nsHold,
		nsRelease, nsPlan, nsApproval, nsLedger, nsDeletion, nsErasure, nsCheckpoint}
)

// The namespaces of signatures, one a kind of document.
const (
	nsStore       = "sallyport-store"
	nsIntent      = "sallyport-intent"
	nsKeys        = "sallyport-keys"
	nsManifest    = "sallyport-manifest"
	nsAbort       = "sallyport-abort"
	nsVerified    = "sallyport-verified"
	nsCertificate = "sallyport-certificate"
	nsExpiry      = "sallyport-expiry"
	nsHold        = "sallyport-hold"
	nsRelease     = "sallyport-release"
	nsPlan        = "sallyport-plan"
	nsApproval    = "sallyport-approval"
	nsLedger      = "sallyport-ledger"
	nsDeletion    = "sallyport-deletion"
	nsErasure     = "sallyport-erasure"
	nsCheckpoint  = "sallyport-checkpoint"
)

// NewRunID returns a fresh run id for a run that starts at t.
func NewRunID(t time.Time) RunID {
	return RunID(t.UTC().Format(runTime) + "-" + string(dataset.NewID()))
}

// CheckService says whether name may be a service: 1 to 63 of a-z, 0-9 and dash, not
// beginning with a dash, and none of "audit", "signatures" and "probe".
func CheckService(name string) error {
	if !serviceForm.MatchString(name) || name == "audit" || name == "signatures" || name == "probe" {
		return fmt.Errorf("service name %q: must be 1 to 63 characters of a-z, 0-9 and dash, not begin with a dash, and not be audit, signatures or probe", name)
	}
	return nil
}

// Valid reports whether r has the form of a run id.
func (r RunID) Valid() bool { return runForm.MatchString(string(r)) }

// StoreName is the name of the document that makes a place a store.
const StoreName = "store.json"

// PackName is where a pack lies.
func PackName(service string, h dataset.Hash) string {
	s := h.String()
	return service + "/packs/" + s[:2] + "/" + s
}

// ListName is where a list of packs lies.
func ListName(service string, h dataset.Hash) string { return service + "/lists/" + h.String() }
func keyName(service string, id, h dataset.Hash) string {
	return service + "/keys/" + id.String() + "/" + h.String() + ".age"
}

// StatementName is where the statement with hash h about the run key id lies.
func StatementName(service string, id, h dataset.Hash) string {
	return service + "/keys/" + id.String() + "/" + h.String() + ".json"
}

// IntentName is where the intent of a run lies.
func IntentName(service string, r RunID) string { return service + "/intents/" + string(r) + ".json" }

// DecisionName is where the decision of a run lies.
func DecisionName(service string, r RunID) string {
	return service + "/decisions/" + string(r) + ".json"
}
func expiryName(service string, r RunID, h dataset.Hash) string {
	return service + "/expired/" + string(r) + "/" + h.String() + ".json"
}

// SignatureName is where a signature sig over a document lies. Service is empty for
// the store document.
func SignatureName(service string, document dataset.Hash, namespace string, sig []byte) string {
	return signatureFolder(service, document, namespace) + dataset.Sum(sig).String() + ".sig"
}

func signatureFolder(service string, document dataset.Hash, namespace string) string {
	name := "signatures/" + document.String() + "/" + namespace + "/"
	if service != "" {
		name = service + "/" + name
	}
	return name
}

// DocumentName is where a public document that belongs to a run lies: folder is one
// of "verified", "certificates".
func DocumentName(service, folder string, r RunID, doc []byte) string {
	return service + "/" + folder + "/" + string(r) + "/" + dataset.Sum(doc).String() + ".json"
}

// AnnexName is where a sealed annex lies.
func AnnexName(service string, sealed []byte) string {
	return AnnexNameOf(service, dataset.Sum(sealed))
}

// AnnexNameOf is where the sealed annex with a hash lies.
func AnnexNameOf(service string, h dataset.Hash) string {
	return service + "/annexes/" + h.String() + ".age"
}

// What a store that can probe itself leaves behind: see [Prober].
const (
	ProbeName = "probe/conditional-writes"
	ProbeText = "This object shows that the store refuses to create a name twice.\n"
)

// A Class says what an object of a store is, judged by its name alone.
type Class int

// The classes of objects.
const (
	Junk Class = iota // nothing of ours has such a name
	StoreObject
	PackObject
	ListObject
	KeyObject       // a sealed run key
	StatementObject // the signed statement beside it
	IntentObject
	DecisionObject
	ExpiryObject
	VerifiedObject
	CertificateObject
	AnnexObject
	SignatureObject
	AuditObject
	RecordsObject // holds, purges and erasures
	ProbeObject
)

// A Name is a parsed object name.
type Name struct {
	Class     Class
	Service   string
	Run       RunID
	Hash      dataset.Hash // the digest in the last component, which must be that of the bytes
	Key       dataset.Hash // the key id, of key objects
	Document  dataset.Hash // the signed document, of signatures
	Namespace string       // of signatures
}

// ParseName classifies an object by its name. What has no name of ours is Junk.
func ParseName(name string) Name {
	switch name {
	case StoreName:
		return Name{Class: StoreObject}
	case ProbeName:
		return Name{Class: ProbeObject}
	}
	if strings.HasPrefix(name, "audit/") {
		return Name{Class: AuditObject}
	}
	if rest, ok := strings.CutPrefix(name, "signatures/"); ok {
		return parseSignature("", rest)
	}
	service, rest, _ := strings.Cut(name, "/")
	folder, rest, _ := strings.Cut(rest, "/")
	if CheckService(service) != nil || rest == "" {
		return Name{}
	}
	n := parseIn(service, folder, rest)
	n.Service = service
	return n
}

func parseIn(service, folder, rest string) Name {
	switch folder {
	case "packs":
		dir, file, _ := strings.Cut(rest, "/")
		if h, err := dataset.ParseHash(file); err == nil && dir == file[:2] {
			return Name{Class: PackObject, Hash: h}
		}
	case "lists":
		if h, err := dataset.ParseHash(rest); err == nil {
			return Name{Class: ListObject, Hash: h}
		}
	case "annexes":
		if h, ok := hashFile(rest, ".age"); ok {
			return Name{Class: AnnexObject, Hash: h}
		}
	case "keys":
		dir, file, _ := strings.Cut(rest, "/")
		id, err := dataset.ParseHash(dir)
		if err != nil {
			return Name{}
		}
		if h, ok := hashFile(file, ".age"); ok {
			return Name{Class: KeyObject, Key: id, Hash: h}
		}
		if h, ok := hashFile(file, ".json"); ok {
			return Name{Class: StatementObject, Key: id, Hash: h}
		}
	case "intents", "decisions":
		if r, ok := strings.CutSuffix(rest, ".json"); ok && RunID(r).Valid() {
			return Name{Class: map[string]Class{"intents": IntentObject, "decisions": DecisionObject}[folder], Run: RunID(r)}
		}
	case "expired", "verified", "certificates":
		dir, file, _ := strings.Cut(rest, "/")
		if h, ok := hashFile(file, ".json"); ok && RunID(dir).Valid() {
			class := map[string]Class{"expired": ExpiryObject, "verified": VerifiedObject, "certificates": CertificateObject}[folder]
			return Name{Class: class, Run: RunID(dir), Hash: h}
		}
	case "holds", "purges", "erasures":
		if h, ok := hashFile(rest[strings.LastIndexByte(rest, '/')+1:], ".json"); ok {
			return Name{Class: RecordsObject, Hash: h}
		}
	case "signatures":
		return parseSignature(service, rest)
	}
	return Name{}
}

func parseSignature(service, rest string) Name {
	parts := strings.Split(rest, "/")
	if len(parts) != 3 {
		return Name{}
	}
	doc, err := dataset.ParseHash(parts[0])
	h, ok := hashFile(parts[2], ".sig")
	if err != nil || !ok {
		return Name{}
	}
	for _, ns := range namespaces {
		if ns == parts[1] {
			return Name{Class: SignatureObject, Service: service, Document: doc, Namespace: ns, Hash: h}
		}
	}
	return Name{}
}

func hashFile(file, suffix string) (dataset.Hash, bool) {
	s, ok := strings.CutSuffix(file, suffix)
	h, err := dataset.ParseHash(s)
	return h, ok && err == nil
}
