package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"
)

// A Pair is a key and its value in a [Tree].
type Pair struct {
	Key   string
	Value any
}

// A Tree is a mapping in the order of the declaration. It marshals to JSON as an object.
type Tree []Pair

// MarshalJSON implements [encoding/json.Marshaler].
func (t Tree) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for i, p := range t {
		k, err := json.Marshal(p.Key)
		if err != nil {
			return nil, err
		}
		v, err := json.Marshal(p.Value)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, k...), ':'), v...)
	}
	return append(b, '}'), nil
}

// Tree returns the configuration as it is understood: with defaults, paths absolute,
// secrets as references, and without what is absent.
func (c *Config) Tree() Tree { return treeOf(reflect.ValueOf(c).Elem()) }

// YAML returns the [Tree] as YAML that [Parse] reads to the same configuration.
func (c *Config) YAML() ([]byte, error) {
	node, err := c.Tree().node()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(node); err != nil {
		return nil, fmt.Errorf("write configuration: %w", err)
	}
	if err := enc.Close(); err != nil {
		return nil, fmt.Errorf("write configuration: %w", err)
	}
	return b.Bytes(), nil
}

func treeOf(v reflect.Value) Tree {
	var t Tree
	for _, f := range fieldsOf(v.Type()) {
		if x := plainValue(v.Field(f.index)); x != nil {
			t = append(t, Pair{f.key, x})
		}
	}
	return t
}

// plainValue returns v as text, a truth value, a number, a list or a tree; nil if it is
// absent.
func plainValue(v reflect.Value) any {
	switch x := v.Interface().(type) {
	case With:
		return freeTree(x.Options)
	case Cron:
		if x.IsZero() {
			return nil
		}
		return x.String()
	case fmt.Stringer:
		if v.IsZero() {
			return nil
		}
		return x.String()
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return plainValue(v.Elem())
	case reflect.Struct:
		if t := treeOf(v); len(t) > 0 {
			return t
		}
		return nil
	case reflect.Map:
		t := Tree{}
		for _, name := range slices.SortedFunc(slices.Values(v.MapKeys()), func(a, b reflect.Value) int {
			return bytes.Compare([]byte(a.String()), []byte(b.String()))
		}) {
			t = append(t, Pair{name.String(), plainValue(v.MapIndex(name))})
		}
		return t
	case reflect.Slice:
		if v.Len() == 0 {
			return nil
		}
		list := make([]any, v.Len())
		for i := range list {
			list[i] = plainValue(v.Index(i))
		}
		return list
	}
	if v.IsZero() {
		return nil
	}
	switch v.Kind() {
	case reflect.Bool:
		return v.Bool()
	case reflect.Int:
		return v.Int()
	}
	return v.String()
}

// freeTree returns settings of an exporter, sorted.
func freeTree(m map[string]any) any {
	if len(m) == 0 {
		return nil
	}
	t := Tree{}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if m[k] != time.Duration(0) { // how a kind says that its default is none
			t = append(t, Pair{k, freeValue(m[k])})
		}
	}
	return t
}

func freeValue(v any) any {
	switch v := v.(type) {
	case map[string]any:
		if len(v) == 0 {
			return Tree{}
		}
		return freeTree(v)
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = freeValue(v[i])
		}
		return list
	case []string:
		list := make([]any, len(v))
		for i := range v {
			list[i] = v[i]
		}
		return list
	case time.Duration:
		return Duration(v).String()
	}
	return v
}

// node writes a tree for the YAML encoder, texts quoted wherever they could be read as
// something else.
func (t Tree) node() (*yaml.Node, error) {
	n := &yaml.Node{Kind: yaml.MappingNode}
	for _, p := range t {
		v, err := valueNode(p.Value)
		if err != nil {
			return nil, err
		}
		n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: p.Key}, v)
	}
	return n, nil
}

func valueNode(v any) (*yaml.Node, error) {
	switch v := v.(type) {
	case Tree:
		return v.node()
	case []any:
		n := &yaml.Node{Kind: yaml.SequenceNode}
		for _, item := range v {
			c, err := valueNode(item)
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, c)
		}
		return n, nil
	}
	n := new(yaml.Node)
	if err := n.Encode(v); err != nil {
		return nil, fmt.Errorf("write configuration: %w", err)
	}
	return n, nil
}
