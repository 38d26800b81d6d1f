package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
)

// A job is one thing to measure: a tool doing a task.
type job struct {
	task, tool string
	prepare    func(ctx context.Context) error // not measured; may be nil
	cmd        func() (command, error)
	size       string // directory of the archive it makes, if it does
}

// suite measures one data set. In each round every tool has its turn, so that a noisy
// minute does not fall on one of them alone.
func (b *bench) suite(ctx context.Context, name string) error {
	d := newDataSet(name, b.scale)
	if err := b.startGateway(ctx); err != nil {
		return err
	}
	if len(b.peers) == 0 && !b.ours {
		b.findPeers(ctx)
	}
	fmt.Fprintf(os.Stderr, "data set %s: %s\n", name, d.what)
	if name != "A" { // only S3 is compared there
		if err := d.write(b.path("data-" + name)); err != nil {
			return err
		}
	}
	c, err := b.conn(d.bucket())
	if err != nil {
		return err
	}
	defer c.Close()
	if err := d.upload(ctx, c, d.all(), 0); err != nil {
		return err
	}
	work := b.path("work-" + name)
	if !b.keep {
		defer os.RemoveAll(work)
	}
	t := &tools{bench: b, d: d, work: work, files: b.path("data-"+name, "files")}
	jobs := t.exportJobs()
	switch name {
	case "B":
		jobs = append(jobs, t.checkJobs()...)
		jobs = append(jobs, t.restoreJobs()...)
	case "Q":
		jobs = append(jobs, t.floorJobs()...)
		jobs = append(jobs, t.restoreJobs()...)
	case "A":
		jobs = append(t.floorJobs(), t.againJobs()...)
	}
	if err := os.RemoveAll(work); err != nil {
		return err
	}
	for range b.runs {
		for _, j := range jobs {
			if err := b.do(ctx, j); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *bench) do(ctx context.Context, j job) error {
	if j.prepare != nil {
		if err := j.prepare(ctx); err != nil {
			return fmt.Errorf("%s, %s: prepare: %w", j.task, j.tool, err)
		}
	}
	c, err := j.cmd()
	if err != nil {
		return fmt.Errorf("%s, %s: %w", j.task, j.tool, err)
	}
	return b.take(ctx, j.task, j.tool, c, j.size)
}

// tools knows the command lines of every tool for one data set.
type tools struct {
	*bench
	d     dataSet
	work  string // archives and caches of this data set
	files string // the data set as files
}

func (t *tools) at(elem ...string) string {
	return filepath.Join(append([]string{t.work}, elem...)...)
}

// fresh returns a preparation that empties directories of the work folder and runs
// commands.
func (t *tools) fresh(dir string, setup ...command) func(context.Context) error {
	return func(ctx context.Context) error {
		if err := os.RemoveAll(t.at(dir)); err != nil {
			return err
		}
		if err := os.MkdirAll(t.at(dir), 0o700); err != nil {
			return err
		}
		for _, c := range setup {
			if _, err := c.run(ctx); err != nil {
				return err
			}
		}
		return nil
	}
}

func (t *tools) source() string {
	q := url.Values{"endpoint": {t.gateway.Endpoint}, "ca": {t.gateway.CA}}
	return "s3://" + t.d.bucket() + "?" + q.Encode()
}

// sallyport returns a command of ours with its keys and folders.
func (b *bench) sallyportCommand(work string, args ...string) command {
	argv := []string{b.binary, args[0], "--quiet", "--store", filepath.Join(work, "sallyport", "store"), "--state", filepath.Join(work, "sallyport", "state"),
		"--allowed-signers", b.keys.allowed}
	switch args[0] {
	case "export":
		argv = append(argv, "--recipients", b.keys.recipients, "--signing-key", b.keys.signing, "--service", "bench")
	case "verify", "restore":
		argv = append(argv, "--identity", b.keys.identity)
	case "exit-test":
		argv = append(argv, "--identity", b.keys.identity, "--config", filepath.Join(work, "sallyport.yaml"))
	}
	c := command{argv: append(argv, args[1:]...)}
	if b.gateway != nil {
		c.env = b.credentials()
	}
	return c
}

func simple(c command) func() (command, error) { return func() (command, error) { return c, nil } }

func (t *tools) resticEnv() []string {
	return []string{"RESTIC_PASSWORD=bench", "RESTIC_REPOSITORY=" + t.at("restic", "repo"), "RESTIC_CACHE_DIR=" + t.at("restic", "cache"), "RESTIC_PROGRESS_FPS=0.01"}
}

func (t *tools) kopiaEnv() []string {
	return []string{"KOPIA_PASSWORD=bench", "KOPIA_CONFIG_PATH=" + t.at("kopia", "config"), "KOPIA_CACHE_DIRECTORY=" + t.at("kopia", "cache"),
		"KOPIA_LOG_DIR=" + t.at("kopia", "log"), "KOPIA_CHECK_FOR_UPDATES=false"}
}

func (t *tools) borgEnv() []string {
	return []string{"BORG_PASSPHRASE=bench", "BORG_REPO=" + t.at("borg", "repo"), "BORG_BASE_DIR=" + t.at("borg", "base"), "BORG_RELOCATED_REPO_ACCESS_IS_OK=yes"}
}

func (t *tools) rcloneEnv() []string {
	return append(t.credentials(), "RCLONE_CONFIG="+t.at("rclone", "none.conf"),
		"RCLONE_CONFIG_SRC_TYPE=s3", "RCLONE_CONFIG_SRC_PROVIDER=Other", "RCLONE_CONFIG_SRC_ENV_AUTH=true", "RCLONE_CONFIG_SRC_ENDPOINT="+t.gateway.Endpoint,
		"RCLONE_CONFIG_DST_TYPE=crypt", "RCLONE_CONFIG_DST_REMOTE="+t.at("rclone", "repo"),
		"RCLONE_CONFIG_DST_PASSWORD=rQLYtBdGpwc_GVpvOFH7Gb7zt3I") // a fixed password, obscured as rclone wants it
}

const pipe = `tar -C "$1" -cf - . | zstd -q | age -r "$2" -o "$3"`

// exportJobs are backups of the data set: from S3 where the tool can, else of the same
// data as local files.
func (t *tools) exportJobs() []job {
	task := "export " + t.d.name
	jobs := []job{{task: task, tool: "sallyport", prepare: t.fresh("sallyport"), size: t.at("sallyport", "store"),
		cmd: simple(t.sallyportCommand(t.work, "export", t.source()))}}
	add := func(tool, dir string, c command, setup ...command) {
		jobs = append(jobs, job{task: task, tool: tool, prepare: t.fresh(dir, setup...), cmd: simple(c), size: t.at(dir, "repo")})
	}
	if t.d.name == "A" {
		return nil
	}
	add("bare program", "bare", command{argv: []string{t.self, "bare-export", t.d.bucket(), t.at("bare", "repo"), t.keys.recipient}, env: t.bareEnv()})
	if t.has("s5cmd", "tar", "zstd", "age") {
		add("s5cmd + pipe", "s5cmd", command{env: t.credentials(), argv: shell(
			`"$4" --endpoint-url "$5" --log error cp "$6" "$1/" && mkdir -p "$(dirname "$3")" && `+pipe,
			t.at("s5cmd", "files"), t.keys.recipient, t.at("s5cmd", "repo", "all.age"), t.peers["s5cmd"], t.gateway.Endpoint, "s3://"+t.d.bucket()+"/*")})
	}
	if t.has("rclone") {
		add("rclone crypt", "rclone", command{env: t.rcloneEnv(), argv: []string{t.peers["rclone"], "copy", "--transfers", "16", "--stats", "0", "src:" + t.d.bucket(), "dst:"}})
	}
	if t.has("tar", "zstd", "age") {
		add("pipe (files)", "pipe", command{argv: shell(pipe, t.files, t.keys.recipient, t.at("pipe", "repo", "all.age"))},
			command{argv: []string{"mkdir", t.at("pipe", "repo")}})
	}
	if t.has("restic") {
		add("restic (files)", "restic", command{env: t.resticEnv(), argv: []string{t.peers["restic"], "backup", "--quiet", "--no-scan", t.files}},
			command{env: t.resticEnv(), argv: []string{t.peers["restic"], "init", "--quiet"}})
	}
	if t.has("kopia") {
		k := t.peers["kopia"]
		add("kopia (files)", "kopia", command{env: t.kopiaEnv(), argv: []string{k, "snapshot", "create", "--no-progress", t.files}},
			command{env: t.kopiaEnv(), argv: []string{k, "repository", "create", "filesystem", "--path", t.at("kopia", "repo")}},
			command{env: t.kopiaEnv(), argv: []string{k, "policy", "set", "--global", "--compression=zstd-fastest"}})
	}
	if t.has("borg") {
		add("borg (files)", "borg", command{env: t.borgEnv(), argv: []string{t.peers["borg"], "create", "--compression", "zstd,3", "::all", t.files}},
			command{env: t.borgEnv(), argv: []string{t.peers["borg"], "init", "--encryption", "repokey"}})
	}
	return jobs
}

func (b *bench) bareEnv() []string {
	return append(b.credentials(), "BENCH_ENDPOINT="+b.gateway.Endpoint)
}

// checkJobs look at what exportJobs made.
func (t *tools) checkJobs() []job {
	check, verify := "check "+t.d.name, "verify "+t.d.name
	jobs := []job{
		{task: check, tool: "sallyport", cmd: simple(t.sallyportCommand(t.work, "check"))},
		{task: verify, tool: "sallyport", cmd: simple(t.sallyportCommand(t.work, "verify"))},
	}
	if t.has("restic") {
		jobs = append(jobs, job{task: check, tool: "restic --read-data", cmd: simple(command{env: t.resticEnv(), argv: []string{t.peers["restic"], "check", "--quiet", "--read-data"}})})
	}
	if t.has("kopia") {
		jobs = append(jobs, job{task: verify, tool: "kopia, all files", cmd: simple(command{env: t.kopiaEnv(), argv: []string{t.peers["kopia"], "snapshot", "verify", "--verify-files-percent=100"}})})
	}
	return jobs
}

// restoreJobs restore what exportJobs made, each into an empty directory.
func (t *tools) restoreJobs() []job {
	task := "restore " + t.d.name
	jobs := []job{{task: task, tool: "sallyport", prepare: t.fresh("restored"),
		cmd: simple(t.sallyportCommand(t.work, "restore", "--to", t.at("restored", "sallyport"), "bench@latest"))}}
	if t.has("restic") {
		jobs = append(jobs, job{task: task, tool: "restic", prepare: t.fresh("restored"),
			cmd: simple(command{env: t.resticEnv(), argv: []string{t.peers["restic"], "restore", "latest", "--quiet", "--target", t.at("restored", "restic")}})})
	}
	if t.has("kopia") {
		jobs = append(jobs, job{task: task, tool: "kopia", prepare: t.fresh("restored"), cmd: t.kopiaRestore})
	}
	if t.has("tar", "zstd", "age") {
		jobs = append(jobs, job{task: task, tool: "age | zstd | tar", prepare: t.fresh("restored"), cmd: simple(command{argv: shell(
			`age -d -i "$1" "$2" | zstd -q -d | tar -C "$3" -xf -`, t.keys.identity, t.at("pipe", "repo", "all.age"), t.at("restored"))})})
	}
	return jobs
}

// kopiaRestore asks kopia for the root of the last snapshot first, which is not measured.
func (t *tools) kopiaRestore() (command, error) {
	list := exec.Command(t.peers["kopia"], "snapshot", "list", "--json", t.files)
	list.Env = append(os.Environ(), t.kopiaEnv()...)
	out, err := list.Output()
	if err != nil {
		return command{}, err
	}
	var all []struct{ RootEntry struct{ Obj string } }
	if err := json.Unmarshal(out, &all); err != nil || len(all) == 0 {
		return command{}, fmt.Errorf("kopia lists no snapshot: %v", err)
	}
	return command{env: t.kopiaEnv(), argv: []string{t.peers["kopia"], "snapshot", "restore", "--no-progress", all[len(all)-1].RootEntry.Obj, t.at("restored", "kopia")}}, nil
}

// floorJobs are what the server alone allows.
func (t *tools) floorJobs() []job {
	jobs := []job{{task: "list " + t.d.name, tool: "bare listing", cmd: simple(command{argv: []string{t.self, "bare-list", t.d.bucket()}, env: t.bareEnv()})}}
	if t.d.name == "Q" {
		jobs = append(jobs, job{task: "get " + t.d.name, tool: "bare GET and discard", cmd: simple(command{argv: []string{t.self, "bare-get", t.d.bucket()}, env: t.bareEnv()})})
	}
	return jobs
}

// againJobs export data set A once, unmeasured, and then again: unchanged, and with one
// object in a hundred changed. By default tags and ACLs of unchanged objects are read
// again, a request or two for each; the goals are about exports that trust the listing.
func (t *tools) againJobs() []job {
	first := func(name, metadata string) (func(context.Context) error, command) {
		again := t.configured(t.at(name))
		return func(ctx context.Context) error {
			if _, err := os.Stat(t.at(name, "sallyport")); err == nil {
				return nil
			}
			if err := t.configure(t.at(name), t.d.bucket(), t.gateway.Endpoint, t.gateway.CA, metadata); err != nil {
				return err
			}
			m, err := again.run(ctx)
			fmt.Fprintf(os.Stderr, "first export of A, metadata %s: %.2f s, %d MiB\n", metadata, m.wall.Seconds(), m.rss>>20)
			return err
		}, again
	}
	generation := 0
	change := func(ctx context.Context) error {
		generation++
		c, err := t.conn(t.d.bucket())
		if err != nil {
			return err
		}
		defer c.Close()
		var some []int
		for i := generation % 100; i < len(t.d.sizes); i += 100 {
			some = append(some, i)
		}
		return t.d.upload(ctx, c, some, generation)
	}
	always, alwaysCmd := first("always", "always")
	listed, listedCmd := first("listed", "with-bytes")
	return []job{
		{task: "again A", tool: "nothing changed", prepare: listed, cmd: simple(listedCmd)},
		{task: "again A", tool: "1 % changed", prepare: change, cmd: simple(listedCmd)},
		{task: "again A", tool: "metadata read again", prepare: always, cmd: simple(alwaysCmd)},
	}
}

// configure writes a configuration for what the command line cannot say.
func (b *bench) configure(work, bucket, endpoint, ca, metadata string) error {
	if ca != "" {
		ca = ", ca: " + ca
	}
	return b.service(work, fmt.Sprintf("    exporter: s3\n    with: {bucket: %s, endpoint: %q, metadata: %s%s}\n", bucket, endpoint, metadata, ca))
}

// service writes the configuration of one service; source is its lines of YAML that name
// the exporter.
func (b *bench) service(work, source string) error {
	if err := os.MkdirAll(work, 0o700); err != nil {
		return err
	}
	text := fmt.Sprintf(`version: 1
store: %s
keys: {recipients: %s, signing_key: %s, allowed_signers: %s}
services:
  bench:
    owner: bench
    classification: OFFICIAL
%s`, filepath.Join(work, "sallyport", "store"), b.keys.recipients, b.keys.signing, b.keys.allowed, source)
	return os.WriteFile(filepath.Join(work, "sallyport.yaml"), []byte(text), 0o600)
}

// configured returns an export by the configuration in a work folder.
func (b *bench) configured(work string) command {
	c := command{argv: []string{b.binary, "export", "--quiet", "--config", filepath.Join(work, "sallyport.yaml"),
		"--state", filepath.Join(work, "sallyport", "state"), "bench"}}
	if b.gateway != nil {
		c.env = b.credentials()
	}
	return c
}
