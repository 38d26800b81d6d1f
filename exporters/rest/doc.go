// Package rest exports the streams of a SaaS product by an Airbyte low-code manifest
// that the operator supplies. The manifest is run natively: no Docker, no Python.
//
// It deviates from the official interpreter where that would lose data in silence;
// docs/connectors.md lists each deviation. In short: pages are read until an empty
// one, a repeated page or token is an error, an answer that is not what the manifest
// describes is an error, every ignored answer is reported and is a gap, records are
// kept as received, and requests go to the manifest's own hosts only.
//
// What a manifest needs and this package lacks is a problem that [Lint] names before
// anything is read; nothing is guessed. Components with Python code (Custom...) are
// refused unless the table in custom.go replaces their class.
package rest
