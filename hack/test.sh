#!/usr/bin/env bash
# go test with its own output, and at the end the tests that were skipped, with reasons.
set -euo pipefail
cd "$(dirname "$0")/.."
go test -json "$@" | go run hack/testoutput.go
