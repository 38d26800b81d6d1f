package s3

import (
	"encoding/json"
	"fmt"
	"strings"
)

// A Role is one of the three machine roles of the archive.
type Role string

// The roles.
const (
	ExporterRole Role = "exporter" // creates and reads
	VerifierRole Role = "verifier" // creates and reads
	KeeperRole   Role = "keeper"   // creates, reads and deletes
)

type statement struct {
	Sid       string
	Effect    string
	Action    []string
	Resource  []string
	Condition map[string]map[string]string `json:",omitempty"`
}

// Policy returns the IAM policy (JSON, version 2012-10-17) that a role's credential
// needs for a store at bucket and prefix, and no more: whoever steals the exporter's or
// the verifier's can neither overwrite nor delete, nor lock or encrypt anything so that
// nobody else can use it. Condition keys are those of the Service Authorization
// Reference for Amazon S3.
func Policy(role Role, bucket, prefix string) ([]byte, error) {
	if role != ExporterRole && role != VerifierRole && role != KeeperRole {
		return nil, fmt.Errorf("no such role: %q", role)
	}
	whole := "arn:aws:s3:::" + bucket
	objects := whole + "/*"
	under := map[string]map[string]string(nil)
	if p := strings.Trim(prefix, "/"); p != "" {
		objects = whole + "/" + p + "/*"
		under = map[string]map[string]string{"StringLike": {"s3:prefix": p + "/*"}}
	}
	statements := []statement{
		{Sid: "List", Effect: "Allow", Action: []string{"s3:ListBucket", "s3:ListBucketVersions"}, Resource: []string{whole}, Condition: under},
		{Sid: "LookAtTheBucket", Effect: "Allow", Action: []string{"s3:GetBucketVersioning", "s3:GetBucketLocation"}, Resource: []string{whole}},
		{Sid: "CreateAndRead", Effect: "Allow",
			Action:   []string{"s3:PutObject", "s3:PutObjectRetention", "s3:GetObject", "s3:GetObjectVersion", "s3:GetObjectRetention", "s3:GetObjectLegalHold"},
			Resource: []string{objects}},
		{Sid: "NeverOverwrite", Effect: "Deny", Action: []string{"s3:PutObject"}, Resource: []string{objects},
			Condition: map[string]map[string]string{"Null": {"s3:if-none-match": "true"}}},
		{Sid: "NoKeysOfOthers", Effect: "Deny", Action: []string{"s3:PutObject"}, Resource: []string{objects},
			Condition: map[string]map[string]string{"Null": {"s3:x-amz-server-side-encryption-customer-algorithm": "false"}}},
		{Sid: "NoEndlessLocks", Effect: "Deny", Action: []string{"s3:PutObject", "s3:PutObjectRetention"}, Resource: []string{objects},
			Condition: map[string]map[string]string{"NumericGreaterThan": {"s3:object-lock-remaining-retention-days": "4000"}}},
		{Sid: "OnlyTLS", Effect: "Deny", Action: []string{"s3:*"}, Resource: []string{whole, objects},
			Condition: map[string]map[string]string{"Bool": {"aws:SecureTransport": "false"}}},
	}
	deletions := []string{"s3:DeleteObject", "s3:DeleteObjectVersion"}
	if role == KeeperRole {
		statements = append(statements, statement{Sid: "Delete", Effect: "Allow", Action: deletions, Resource: []string{objects}})
	} else {
		statements = append(statements, statement{Sid: "NeverDelete", Effect: "Deny",
			Action:   append(deletions, "s3:BypassGovernanceRetention", "s3:PutObjectLegalHold", "s3:PutLifecycleConfiguration", "s3:PutBucketVersioning"),
			Resource: []string{whole, objects}})
	}
	return json.MarshalIndent(struct {
		Version   string
		Statement []statement
	}{"2012-10-17", statements}, "", "  ")
}
