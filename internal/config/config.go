// Package config reads sallyport.yaml.
//
// The structs of this file are the one declaration of the format: parsing, defaults,
// the JSON Schema ([Schema]) and the reference page follow from their tags. Parsing is
// strict, and whatever is wrong is reported at once, each with file and line
// ([Error], [PolicyError]). Secrets are never in the file: it holds references, which
// [Secrets] resolves when they are needed.
//
// The tags: `key` names the key; `doc` is its sentence; `need` makes it required;
// `default` is the value if it is absent; `enum` lists the allowed values, separated
// by |; `min` and `max` bound a number, or the length of a list; `names` is the
// pattern of a map's keys; `file` says that a path need not exist yet.
package config

import "path/filepath"

// FileName is what a configuration is called where none is named.
const FileName = "sallyport.yaml"

// A Config is a whole sallyport.yaml. Paths in it are absolute. It is immutable once
// loaded and safe for concurrent use.
type Config struct {
	Version      int                 `key:"version" need:"" enum:"1" doc:"Version of the format of this file."`
	Role         Role                `key:"role" enum:"exporter|verifier|keeper" doc:"What this host may do; if absent, all of it."`
	Store        Location            `key:"store" need:"" doc:"Where the archive is: a directory, or s3://bucket/prefix?endpoint=https://host&region=NAME."`
	SingleWriter bool                `key:"single_writer" doc:"Accept a store without conditional writes, because only one host ever writes to it."`
	ObjectLock   *ObjectLock         `key:"object_lock" doc:"Object Lock retention that every object of the store is written with."`
	CA           Path                `key:"ca" doc:"PEM file of a private certificate authority, trusted besides the system's for every connection."`
	Keys         Keys                `key:"keys" need:"" doc:"Whom the archive is encrypted to, who signs, and who is believed."`
	Residency    []Region            `key:"residency" min:"1" doc:"Regions where data may lie; services, stores and targets elsewhere are refused."`
	Metrics      Metrics             `key:"metrics" doc:"What monitoring reads."`
	Services     map[string]*Service `key:"services" need:"" names:"^[a-z0-9][a-z0-9-]{0,62}$" doc:"The register of services, by name; audit is no name."`

	file string
	pos  map[string]int // path to line
}

// File is the path that the configuration was loaded from.
func (c *Config) File() string { return c.file }

// Dir is the directory that relative paths in the file start from.
func (c *Config) Dir() string { return filepath.Dir(c.file) }

// A Role is one of the three machine roles.
type Role string

// The roles. A host without a role does all of it.
const (
	Exporter Role = "exporter" // reads sources, writes snapshots, can read nothing back
	Verifier Role = "verifier" // holds the data identity, signs verdicts and certificates
	Keeper   Role = "keeper"   // deletes, in the store and at sources
)

// A Region is a cloud region's name as its provider writes it.
type Region string

// Keys says which key material to use.
type Keys struct {
	Recipients       Path       `key:"recipients" need:"" doc:"File of age public keys, one a line, that can open everything."`
	IndexRecipients  Path       `key:"index_recipients" doc:"File of age public keys that can open the index only."`
	KeeperRecipients Path       `key:"keeper_recipients" doc:"File of the keeper's age public keys, to which plans, holds and ledgers are sealed too."`
	Identities       []Path     `key:"identities" min:"1" doc:"Files of age private keys. Never on an exporter."`
	SigningKey       SigningKey `key:"signing_key" need:"" doc:"SSH private key file, or agent:SHA256:... for one in ssh-agent."`
	AllowedSigners   Path       `key:"allowed_signers" need:"" doc:"OpenSSH allowed_signers file: who may sign what."`
	PostQuantum      bool       `key:"post_quantum" doc:"Make run keys of the post-quantum hybrid that age 1.3 and later read."`
	Period           string     `key:"period" enum:"run|month" default:"run" doc:"How long run keys are used: for one run, or for all runs of a host that begin in one calendar month (UTC)."`
}

// ObjectLock is a retention that a store is asked for.
type ObjectLock struct {
	Mode string   `key:"mode" need:"" enum:"compliance|governance" doc:"Mode of the retention."`
	For  Duration `key:"for" need:"" doc:"How long from the moment of writing, in days or weeks."`
}

// Metrics says what monitoring reads.
type Metrics struct {
	Textfile Path `key:"textfile" file:"make" doc:"File for the Prometheus node exporter's textfile collector; its name ends in .prom."`
}

// A Service is one cloud service of the register.
type Service struct {
	Provider       string         `key:"provider" doc:"Product or company, for people."`
	Owner          string         `key:"owner" need:"" doc:"Who answers for the data."`
	Classification Classification `key:"classification" need:"" doc:"Government security classification of the data."`
	Region         Region         `key:"region" doc:"Region where the service keeps the data; if absent, with.region."`
	Critical       bool           `key:"critical" doc:"Whether the service supports a critical function."`
	Exporter       string         `key:"exporter" need:"" doc:"Kind of exporter."`
	With           With           `key:"with" doc:"Settings of the exporter."`
	Grade          string         `key:"grade" enum:"single-read|count-checked|double-read|exact" default:"single-read" doc:"How exports are proven to be complete."`
	Streams        []string       `key:"streams" min:"1" doc:"Streams to export; all if absent."`
	Exclude        []string       `key:"exclude" min:"1" doc:"Streams to leave out, which would be gaps otherwise."`
	CSV            bool           `key:"csv" doc:"Carry records as CSV beside JSON Lines."`
	Schedule       Cron           `key:"schedule" doc:"When to export: five cron fields, UTC."`
	Objectives     Objectives     `key:"objectives" doc:"What is promised for the service."`
	Keep           *Keep          `key:"keep" doc:"Which snapshots to keep; all if absent."`
	ExitTest       ExitTest       `key:"exit_test" doc:"How exit tests are done."`
	Waive          []Waiver       `key:"waive" min:"1" doc:"Gaps that are accepted until a day."`
	Heartbeat      Heartbeat      `key:"heartbeat" doc:"URLs that are called after a success, and only then."`
	Purge          *Purge         `key:"purge" doc:"What may be deleted at the source; nothing if absent."`
}

// Objectives are promises that runs are measured against. Zero means none.
type Objectives struct {
	RPO           Duration `key:"rpo" doc:"Recovery point objective: the most time between two good snapshots."`
	RTO           Duration `key:"rto" doc:"Recovery time objective: the longest a restore may take."`
	ExitTestEvery Duration `key:"exit_test_every" doc:"The most time between two exit tests that prove the exit."`
}

// Keep says which snapshots outlive others: the union of all rules. Zero counts keep
// nothing by themselves.
type Keep struct {
	Last    int      `key:"last" min:"0" max:"100000" doc:"The newest ones."`
	Hourly  int      `key:"hourly" min:"0" max:"100000" doc:"The newest of each of the last hours that have one."`
	Daily   int      `key:"daily" min:"0" max:"100000" doc:"The newest of each of the last days that have one."`
	Weekly  int      `key:"weekly" min:"0" max:"100000" doc:"The newest of each of the last ISO weeks that have one."`
	Monthly int      `key:"monthly" min:"0" max:"100000" doc:"The newest of each of the last months that have one."`
	Yearly  int      `key:"yearly" min:"0" max:"100000" doc:"The newest of each of the last years that have one."`
	Within  Age      `key:"within" doc:"All that are younger."`
	Tags    []string `key:"tags" min:"1" doc:"All that carry one of these tags."`
}

// An ExitTest says how a service's exit is proven.
type ExitTest struct {
	RestoreTo Location `key:"restore_to" doc:"URL or directory of an empty target; if absent, an embedded one."`
	With      With     `key:"with" doc:"Settings of the target that its URL does not hold, credentials for one."`
	Checks    []Check  `key:"checks" min:"1" doc:"Acceptance questions asked of the restored data."`
	Stressed  bool     `key:"stressed" doc:"Test as if the service were gone: the source is not contacted."`
}

// A Check is one acceptance question: read-only SQL whose one value is compared.
type Check struct {
	Name    string   `key:"name" need:"" doc:"What is asked, for people; unique in the service."`
	SQL     string   `key:"sql" need:"" doc:"A query that returns one row of one column."`
	Expect  string   `key:"expect" need:"" doc:"The value as text."`
	Timeout Duration `key:"timeout" default:"1m" doc:"How long the query may take."`
}

// A Waiver accepts a kind of gap. It does not make the gap go away: certificates name
// both.
type Waiver struct {
	Stream string `key:"stream" need:"" doc:"Stream that the gaps are in."`
	Code   Code   `key:"code" need:"" doc:"Code of the gaps."`
	Key    string `key:"key" doc:"Key of the one record concerned; all of the stream if absent."`
	Reason string `key:"reason" need:"" doc:"Why that is acceptable."`
	Until  Date   `key:"until" need:"" doc:"Last day on which it is."`
}

// Heartbeat holds URLs of a monitor that raises an alarm when they are not called. Such
// URLs often hold a secret, so they may be references.
type Heartbeat struct {
	Export   URL `key:"export" doc:"Called when an export is complete."`
	ExitTest URL `key:"exit_test" doc:"Called when an exit test proved the exit."`
}

// A Purge says what may be deleted at the source, and how much must speak for it.
type Purge struct {
	Rules       []PurgeRule `key:"rules" need:"" min:"1" doc:"What may be deleted."`
	ProofWithin Duration    `key:"proof_within" default:"30d" doc:"How old the certificate may be that proves the archive."`
	Approvals   int         `key:"approvals" min:"1" max:"20" default:"2" doc:"How many people besides the planner must sign the plan."`
	MaxItems    int         `key:"max_items" min:"1" default:"10000" doc:"More items than this, those deleted within the period before included, need a second round of approvals."`
	MaxPercent  int         `key:"max_percent" min:"1" max:"100" default:"10" doc:"A larger share of a stream than this, in percent, that of plans carried out within the period before included, needs a second round of approvals."`
	Period      Duration    `key:"period" default:"30d" doc:"How long what was deleted before counts towards max_items and max_percent."`
}

// A PurgeRule picks records whose time is over.
type PurgeRule struct {
	Name      string `key:"name" need:"" doc:"What the rule is called in plans; unique in the service."`
	Stream    string `key:"stream" need:"" doc:"Stream whose records it picks."`
	Because   string `key:"because" need:"" enum:"age|decommissioned|basis-expired" doc:"Why records may go: they are older than older_than, the service ended, or the legal basis did."`
	Field     string `key:"field" doc:"Field of a record that holds its date; for age."`
	OlderThan Age    `key:"older_than" doc:"Age from which a record may go; for age."`
	Since     Date   `key:"since" doc:"Day on which the service or the legal basis ended."`
	Authority string `key:"authority" need:"" doc:"Retention schedule, law or decision that says so."`
}
