// Package jinja evaluates the expressions of Airbyte low-code manifests as the
// official interpreter does: an ordinary Jinja template is rendered to text with
// Python's values and Python's str(), and the text is then read back with Python's
// ast.literal_eval. So "{{ response.get('next') }}" of a response without "next" is
// None, and the text "123" is the number 123.
//
// Templates are untrusted. They reach nothing but the variables they are given: no
// file, no environment, no network, no attribute that is not in a table here. Each
// evaluation is bounded in steps, time and output, values that were passed in are
// never modified, and regular expressions run in linear time. What Jinja can do and
// this package cannot is a parse error that names it; nothing is guessed.
//
// Sources: the Jinja 3.1 template designer documentation, the Python 3.11 language
// and library references, and the interpolation contract of airbyte-python-cdk.
package jinja
