package main

import (
	"fmt"
	"strings"

	archives3 "github.com/dwp/sallyport/archive/s3"
	"github.com/dwp/sallyport/internal/config"
	"github.com/dwp/sallyport/internal/s3conn"
)

// exampleService is what a person makes a first service of.
const exampleService = `services: {}
#  case-files:
#    provider: Amazon S3
#    owner: Benefits casework
#    classification: OFFICIAL-SENSITIVE
#    exporter: s3
#    with: {bucket: case-files, region: eu-west-2}
#    schedule: "0 2 * * *"
#    objectives: {rpo: 25h, rto: 4h, exit_test_every: 90d}
`

func hostConfig(store config.Location, postQuantum bool) string {
	return configHead(store, "") + "keys:\n" +
		"  recipients: keys/recipients.txt\n" +
		"  identities: [keys/identity.age]\n" +
		"  signing_key: keys/signer\n" +
		"  allowed_signers: keys/allowed_signers\n" +
		postQuantumLine(postQuantum) + exampleService
}

func configHead(store config.Location, role config.Role) string {
	s := "# sallyport config schema describes every key.\nversion: 1\n"
	if role != "" {
		s += "role: " + string(role) + "\n"
	}
	return s + "store: " + quoteYAML(string(store)) + "\n"
}

func postQuantumLine(on bool) string {
	if on {
		return "  post_quantum: true\n"
	}
	return ""
}

// quoteYAML writes text as a single-quoted scalar, in which only the quote is special.
func quoteYAML(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

func roleConfig(store config.Location, role config.Role, postQuantum bool) string {
	s := configHead(store, role) + "keys:\n" +
		"  recipients: keys/recipients.txt\n" +
		"  keeper_recipients: keys/keeper_recipients.txt\n"
	if role != config.Exporter {
		s += "  identities: [keys/identity.age]\n"
	}
	return s + "  signing_key: keys/" + string(role) + "\n" +
		"  allowed_signers: keys/allowed_signers\n" +
		postQuantumLine(postQuantum) + exampleService
}

// initRoles writes a directory for each role, and one for the recovery key. Two
// independent identities open every snapshot: the verifier's, and one that is kept
// offline.
func (i *invocation) initRoles(dir string, store config.Location) error {
	if store.Scheme() == "" && !strings.HasPrefix(string(store), "/") {
		return usage("give --store a URL or an absolute path", "three hosts cannot share the relative path %s", store)
	}
	pq := i.c.Bool("post-quantum")
	identities := map[string][]byte{}
	recipients := map[string]string{}
	for _, who := range []string{"verifier", "keeper", "recovery"} {
		private, public, err := generate("identity", pq, "")
		if err != nil {
			return err
		}
		identities[who], recipients[who] = private, public
	}
	roles := []struct {
		role  config.Role
		signs []string
	}{{config.Exporter, exporterSigns}, {config.Verifier, verifierSigns}, {config.Keeper, keeperSigns}}

	signers := map[config.Role][2]string{}
	allowed := ""
	for _, r := range roles {
		private, public, err := generate("signer", false, "")
		if err != nil {
			return err
		}
		line, err := signerLine(string(r.role), public, r.signs)
		if err != nil {
			return err
		}
		signers[r.role] = [2]string{string(private), public}
		allowed += line
	}
	managed := "# The verifier's.\n" + recipients["verifier"] + "\n# The recovery key, kept offline.\n" + recipients["recovery"] + "\n"
	files := []newFile{{"recovery/identity.age", string(identities["recovery"]), 0o600}}
	for _, r := range roles {
		at := string(r.role) + "/"
		files = append(files,
			newFile{at + config.FileName, roleConfig(store, r.role, pq), 0o644},
			newFile{at + "keys/recipients.txt", managed, 0o644},
			newFile{at + "keys/keeper_recipients.txt", recipients["keeper"] + "\n", 0o644},
			newFile{at + "keys/" + string(r.role), signers[r.role][0], 0o600},
			newFile{at + "keys/" + string(r.role) + ".pub", signers[r.role][1] + "\n", 0o644},
			newFile{at + "keys/allowed_signers", allowed + approversNote, 0o644},
		)
		if id, ok := identities[string(r.role)]; ok {
			files = append(files, newFile{at + "keys/identity.age", string(id), 0o600})
		}
		if store.Scheme() == "s3" {
			policy, err := policyFor(store, r.role)
			if err != nil {
				return err
			}
			files = append(files, newFile{at + "s3-policy.json", policy, 0o644})
		}
	}
	if err := writeFiles(dir, files); err != nil {
		return err
	}
	var names []string
	for _, f := range files {
		names = append(names, f.name)
	}
	i.result = map[string]any{"directory": dir, "files": names}
	i.printf("%s\n", strings.Join(names, "\n"))
	i.note("move each directory to its own host, and recovery/ to where nobody comes by chance; then run sallyport init on the keeper")
	return nil
}

func policyFor(store config.Location, role config.Role) (string, error) {
	conn, err := s3conn.ParseURL(string(store))
	if err != nil {
		return "", usage("", "--store: %w", err)
	}
	policy, err := archives3.Policy(archives3.Role(role), conn.Bucket, conn.Prefix)
	if err != nil {
		return "", fmt.Errorf("S3 policy: %w", err)
	}
	return string(policy) + "\n", nil
}
