package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/internal/config"
	"github.com/dwp/sallyport/verify"
)

func TestRoomIsAskedOfTheFileSystem(t *testing.T) {
	room := roomIn(t.TempDir())
	if err := room(t.Context(), 1<<10); err != nil {
		t.Errorf("no room for a kibibyte: %v", err)
	}
	if err := room(t.Context(), 1<<60); err == nil || !strings.Contains(err.Error(), "are needed") {
		t.Errorf("room for an exbibyte: %v", err)
	}
	if err := roomIn("/nonexistent")(t.Context(), 1); err == nil {
		t.Error("room where nothing is")
	}
}

// A database that answers what it is told to.
type answering struct {
	exporters.Target
	rows [][]string
	err  error
}

func (a answering) Query(context.Context, string, time.Duration) ([][]string, error) {
	return a.rows, a.err
}

func TestAcceptanceEndsInOneOfThreeWays(t *testing.T) {
	ask := acceptance([]config.Check{{Name: "n", SQL: "SELECT 1", Expect: "1"}})[0].Ask
	for _, tt := range []struct {
		target exporters.Target
		want   verify.Outcome
	}{
		{answering{rows: [][]string{{"1"}}}, verify.Pass},
		{answering{rows: [][]string{{"2"}}}, verify.Fail},
		{answering{rows: [][]string{{`\N`}}}, verify.Fail},
		{answering{}, verify.Fail},
		{answering{rows: [][]string{{"1", "1"}}}, verify.Fail},
		{answering{rows: [][]string{{"1"}, {"1"}}}, verify.Fail},
		{answering{err: errors.New("syntax")}, verify.Unknown},
		{struct{ exporters.Target }{}, verify.Unknown},
	} {
		if got, detail := ask(t.Context(), tt.target); got != tt.want || detail == "" {
			t.Errorf("%+v: %s (%s); want %s", tt.target, got, detail, tt.want)
		}
	}
}
