package verify

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/dwp/sallyport/dataset"
)

//go:embed controls.yaml
var controlsFile []byte

// A Control is a clause of a standard for which something was measured.
type Control struct {
	Standard string        `json:"standard" yaml:"standard" doc:"Name of the standard."`
	Clause   string        `json:"clause" yaml:"clause" doc:"Number or name of the clause."`
	Subject  string        `json:"subject" yaml:"subject" doc:"What is measured for it, in our words."`
	Lines    []string      `json:"lines" yaml:"lines" doc:"Ids of the lines that speak for it."`
	Status   ControlStatus `json:"status" yaml:"-" doc:"What they say."`
}

// A ControlStatus says what the lines of a certificate say of a clause.
type ControlStatus string

// The statuses of controls.
const (
	NotAssessed ControlStatus = "not assessed" // something that belongs to it was not asked, or not decided
	Met         ControlStatus = "met"
	NotMet      ControlStatus = "not met"
)

// ParseControls reads a file of controls strictly, as controls.yaml is one.
func ParseControls(text []byte) ([]Control, error) {
	var file struct {
		Version  int       `yaml:"version"`
		Controls []Control `yaml:"controls"`
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&file); err != nil {
		return nil, fmt.Errorf("controls: %w", err)
	}
	if err := dec.Decode(new(any)); err != io.EOF {
		return nil, errors.New("controls: a second document")
	}
	if file.Version != 1 || len(file.Controls) == 0 {
		return nil, errors.New("controls: must be of version 1 and name controls")
	}
	known := Assess(new(Predicate))
	seen := map[[2]string]bool{}
	for _, c := range file.Controls {
		id := [2]string{c.Standard, c.Clause}
		if c.Standard == "" || c.Clause == "" || c.Subject == "" || len(c.Lines) == 0 || seen[id] {
			return nil, fmt.Errorf("controls: %q %q is not whole, or named twice", c.Standard, c.Clause)
		}
		seen[id] = true
		for _, line := range c.Lines {
			if !slices.ContainsFunc(known, func(l Line) bool { return l.ID == line }) {
				return nil, fmt.Errorf("controls: %s %s names a line %q that certificates do not have", c.Standard, c.Clause, line)
			}
		}
	}
	return file.Controls, nil
}

// MapControls says what the lines of a certificate say of each clause.
func MapControls(controls []Control, lines []Line) []Control {
	outcomes := map[string]Outcome{}
	for _, l := range lines {
		outcomes[l.ID] = l.Outcome
	}
	mapped := slices.Clone(controls)
	for i := range mapped {
		mapped[i].Lines = slices.Clone(mapped[i].Lines)
		mapped[i].Status = Met
		for _, id := range mapped[i].Lines {
			switch outcomes[id] {
			case Fail:
				mapped[i].Status = NotMet
			case Pass:
				continue
			default:
				if mapped[i].Status == Met {
					mapped[i].Status = NotAssessed
				}
			}
		}
	}
	return mapped
}

// controlsHash names the embedded file.
func controlsHash() dataset.Hash { return dataset.Sum(controlsFile) }
