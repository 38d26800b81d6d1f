package config

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// maxSecret bounds what a reference may yield, in bytes.
const maxSecret = 64 << 10

var secretShape = regexp.MustCompile(secretPattern)

// Secrets resolves references: env:NAME is an environment variable, file:PATH the
// contents of a file, exec:COMMAND what a command prints. The command is split at
// spaces and run without a shell, in Dir, with nothing to read. One line end at the end
// is dropped. An empty secret is an error, for it would mean "no credential". The zero
// Secrets is ready to use and safe for concurrent use.
//
// Errors never hold what a reference yielded, nor what a command wrote.
type Secrets struct {
	Dir     string        // that relative paths start from; "" is the working directory
	Timeout time.Duration // of a command; 0 means 30 s
}

// Resolve returns the value that ref stands for.
func (s Secrets) Resolve(ctx context.Context, ref string) (string, error) {
	if !secretShape.MatchString(ref) {
		return "", errors.New("a secret is given by reference: env:NAME, file:PATH or exec:COMMAND")
	}
	kind, name, _ := strings.Cut(ref, ":")
	var value string
	var err error
	switch kind {
	case "env":
		var set bool
		if value, set = os.LookupEnv(name); !set {
			return "", fmt.Errorf("secret %s: the variable is not set", ref)
		}
	case "file":
		value, err = s.file(name)
	case "exec":
		value, err = s.exec(ctx, name)
	}
	if err != nil {
		return "", fmt.Errorf("secret %s: %w", ref, err)
	}
	value = strings.TrimSuffix(strings.TrimSuffix(value, "\n"), "\r")
	switch {
	case value == "":
		return "", fmt.Errorf("secret %s: it is empty", ref)
	case len(value) > maxSecret:
		return "", fmt.Errorf("secret %s: it is longer than %d bytes", ref, maxSecret)
	}
	return value, nil
}

// Check says whether ref could be resolved, as far as can be told without running a
// command.
func (s Secrets) Check(ref string) error {
	kind, name, _ := strings.Cut(ref, ":")
	switch kind {
	case "exec":
		words := strings.Fields(name)
		if len(words) == 0 {
			return fmt.Errorf("secret %s: no command", ref)
		}
		if _, err := s.lookPath(words[0]); err != nil {
			return fmt.Errorf("secret %s: %w", ref, err)
		}
		return nil
	default:
		_, err := s.Resolve(context.Background(), ref)
		return err
	}
}

func (s Secrets) file(name string) (string, error) {
	f, err := os.Open(rebase(s.Dir, name))
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+2))
	return string(b), err
}

// lookPath finds a command: in PATH, or a path relative to Dir.
func (s Secrets) lookPath(name string) (string, error) {
	if strings.ContainsRune(name, filepath.Separator) {
		name = rebase(s.Dir, name)
	}
	return exec.LookPath(name)
}

func (s Secrets) exec(ctx context.Context, command string) (string, error) {
	words := strings.Fields(command)
	if len(words) == 0 {
		return "", errors.New("no command")
	}
	name, err := s.lookPath(words[0])
	if err != nil {
		return "", err
	}
	timeout := s.Timeout
	if timeout == 0 {
		timeout = 30 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	out := &bounded{max: maxSecret + 2}
	cmd := exec.CommandContext(ctx, name, words[1:]...)
	cmd.Dir, cmd.Stdout = s.Dir, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // its children too
	cmd.WaitDelay = time.Second                                                          // one that left the group may hold the pipe open
	err = cmd.Run()
	switch {
	case ctx.Err() == context.DeadlineExceeded:
		return "", fmt.Errorf("the command took longer than %s", timeout)
	case err != nil:
		return "", err
	}
	return out.String(), nil
}

// A bounded buffer takes max bytes and fails on more, which ends the command.
type bounded struct {
	bytes.Buffer
	max int
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > b.max {
		return 0, fmt.Errorf("it is longer than %d bytes", maxSecret)
	}
	return b.Buffer.Write(p)
}

// rebaseSecret makes the path of a file: reference absolute.
func rebaseSecret(dir, ref string) string {
	if path, ok := strings.CutPrefix(ref, "file:"); ok {
		return "file:" + rebase(dir, path)
	}
	return ref
}
