//go:build ignore

// Testoutput reads the output of go test -json, prints what go test prints without -v,
// and then the skipped tests with their reasons. It exits with 1 if anything failed.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// An event is one line of go doc test2json.
type event struct {
	Action, Package, ImportPath, Test, Output string
}

func main() {
	output := map[[2]string][]string{} // of a test that goes on, or of a package
	var skipped []string
	failed := false
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 64<<20)
	for in.Scan() {
		var e event
		if err := json.Unmarshal(in.Bytes(), &e); err != nil {
			fmt.Println(in.Text()) // not from a test: the go command itself speaks
			continue
		}
		id := [2]string{e.Package, e.Test}
		switch e.Action {
		case "build-output":
			fmt.Print(e.Output)
		case "output":
			output[id] = append(output[id], e.Output)
		case "build-fail", "fail":
			failed = true
			fmt.Print(strings.Join(output[id], ""))
			delete(output, id)
		case "skip":
			if e.Test != "" {
				skipped = append(skipped, fmt.Sprintf("%s %s: %s", e.Package, e.Test, reason(output[id])))
			} else {
				fmt.Print(last(output[id]))
			}
			delete(output, id)
		case "pass":
			if e.Test == "" {
				fmt.Print(last(output[id]))
			}
			delete(output, id)
		}
	}
	if err := in.Err(); err != nil {
		fmt.Println("testoutput:", err)
		failed = true
	}
	if len(skipped) > 0 {
		fmt.Printf("\nskipped tests:\n%s\n", strings.Join(skipped, "\n"))
	}
	if failed {
		os.Exit(1)
	}
}

// last returns the line that go test prints of a package that passed.
func last(lines []string) string {
	for i := len(lines) - 1; i >= 0; i-- {
		if strings.HasPrefix(lines[i], "ok") || strings.HasPrefix(lines[i], "?") || strings.Contains(lines[i], "no test files") {
			return lines[i]
		}
	}
	return ""
}

// reason finds what a skipped test said: the text behind "file_test.go:12: ".
func reason(lines []string) string {
	for _, l := range lines {
		if _, text, ok := strings.Cut(l, "_test.go:"); ok {
			if _, text, ok = strings.Cut(text, ": "); ok {
				return strings.TrimSpace(text)
			}
		}
	}
	return "no reason given"
}
