package charter

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Limits of the YAML.
const (
	MaxYAML      = 2 << 20 // bytes
	maxYAMLDepth = 40
)

// ParseYAML reads a charter as people write it, brings it into its canonical form
// and checks it. Errors are [*CheckError] and name the line and the path.
//
// Of YAML it takes mappings, sequences and plain or quoted scalars: no anchors,
// aliases, merge keys, tags, second documents, nulls, unknown or double keys.
func ParseYAML(b []byte) (*Charter, error) {
	if len(b) > MaxYAML {
		return nil, fmt.Errorf("charter: YAML of %d bytes: at most %d", len(b), MaxYAML)
	}
	dec := yaml.NewDecoder(bytes.NewReader(b))
	var doc yaml.Node
	if err := dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, &CheckError{[]Problem{{Text: "the YAML is empty"}}}
		}
		return nil, fmt.Errorf("charter: %w", err)
	}
	var more yaml.Node
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, &CheckError{[]Problem{{Line: max(1, more.Line), Text: "want one document and nothing after it"}}}
	}
	if len(doc.Content) != 1 {
		return nil, &CheckError{[]Problem{{Text: "the YAML is empty"}}}
	}
	r := &reader{lines: map[string]int{}}
	if r.plain(doc.Content[0], "", 1); len(r.problems) > 0 {
		return nil, &CheckError{r.problems}
	}
	var c Charter
	if r.read(doc.Content[0], reflect.ValueOf(&c).Elem(), ""); len(r.problems) > 0 {
		return nil, &CheckError{r.problems}
	}
	c.Created = c.Created.UTC()
	c = c.canonical()
	if err := c.Check(); err != nil {
		var ce *CheckError
		if errors.As(err, &ce) {
			for i := range ce.Problems {
				ce.Problems[i].Line = r.line(ce.Problems[i].Path)
			}
		}
		return nil, err
	}
	return &c, nil
}

// YAML writes the charter for people. ParseYAML gives an equal charter again.
func (c *Charter) YAML() ([]byte, error) {
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := errors.Join(e.Encode(c.canonical()), e.Close()); err != nil {
		return nil, fmt.Errorf("charter: %w", err)
	}
	return b.Bytes(), nil
}

// reader turns YAML nodes into values. The yaml package's own decoder is laxer: it
// follows aliases, takes null for everything and says neither path nor remedy.
type reader struct {
	problems []Problem
	lines    map[string]int // by path
}

func (r *reader) add(n *yaml.Node, path, format string, args ...any) {
	if len(r.problems) < maxProblems {
		r.problems = append(r.problems, Problem{Path: path, Line: n.Line, Text: fmt.Sprintf(format, args...)})
	}
}

// line finds where path, or what holds it, stands.
func (r *reader) line(path string) int {
	for path != "" {
		if l, ok := r.lines[path]; ok {
			return l
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return 0
}

// plain refuses every feature of YAML that is not needed, before anything is read.
func (r *reader) plain(n *yaml.Node, path string, depth int) {
	switch {
	case depth > maxYAMLDepth:
		r.add(n, path, "is nested deeper than %d", maxYAMLDepth)
		return
	case n.Kind == yaml.AliasNode:
		r.add(n, path, "aliases are not accepted: write it out")
		return
	case n.Anchor != "":
		r.add(n, path, "anchors are not accepted: remove &%.40s", n.Anchor)
		return
	case n.Style&yaml.TaggedStyle != 0:
		r.add(n, path, "tags are not accepted: remove %.40s", n.Tag)
		return
	}
	for i, c := range n.Content {
		at := fmt.Sprintf("%s[%d]", path, i)
		if n.Kind == yaml.MappingNode {
			at = join(path, n.Content[i-i%2].Value)
		}
		r.plain(c, at, depth+1)
		if len(r.problems) >= maxProblems {
			return
		}
	}
}

func join(path, name string) string {
	if len(name) > 80 {
		name = name[:80]
	}
	if path == "" {
		return name
	}
	return path + "." + name
}

func (r *reader) read(n *yaml.Node, v reflect.Value, path string) {
	r.lines[path] = n.Line
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		r.add(n, path, "has no value: give one or leave it out")
		return
	}
	if _, ok := v.Interface().(time.Time); ok {
		r.time(n, v, path)
		return
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if !r.scalar(n, path) {
			return
		}
		if err := u.UnmarshalText([]byte(n.Value)); err != nil {
			s := strings.TrimPrefix(strings.TrimPrefix(err.Error(), "charter: "), "statement: ")
			r.add(n, path, "%s", s)
		}
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		r.read(n, v.Elem(), path)
	case reflect.Struct:
		r.record(n, v, path)
	case reflect.Map:
		r.table(n, v, path)
	case reflect.Slice:
		r.list(n, v, path)
	case reflect.String:
		if r.scalar(n, path) {
			v.SetString(n.Value)
		}
	case reflect.Bool:
		if r.scalar(n, path) {
			if n.Value != "true" && n.Value != "false" || n.Style != 0 {
				r.add(n, path, "%.40q: want true or false", n.Value)
			}
			v.SetBool(n.Value == "true")
		}
	case reflect.Int, reflect.Uint64:
		if r.scalar(n, path) {
			i, err := strconv.ParseInt(n.Value, 10, 63)
			if err != nil || n.Style != 0 || strconv.FormatInt(i, 10) != n.Value || v.Kind() == reflect.Uint64 && i < 0 {
				r.add(n, path, "%.40q: want a whole number", n.Value)
			} else if i == 0 {
				r.add(n, path, "0 says nothing: want 1 or more, or leave it out")
			} else if v.Kind() == reflect.Uint64 {
				v.SetUint(uint64(i))
			} else {
				v.SetInt(i)
			}
		}
	default:
		panic("charter: no YAML for " + v.Type().String())
	}
}

func (r *reader) scalar(n *yaml.Node, path string) bool {
	if n.Kind != yaml.ScalarNode {
		r.add(n, path, "want one value, not a %s", kindName(n.Kind))
		return false
	}
	return true
}

func kindName(k yaml.Kind) string {
	switch k {
	case yaml.MappingNode:
		return "mapping"
	case yaml.SequenceNode:
		return "list"
	}
	return "value"
}

func (r *reader) time(n *yaml.Node, v reflect.Value, path string) {
	if !r.scalar(n, path) {
		return
	}
	t, err := time.Parse(time.RFC3339, n.Value)
	if err != nil {
		r.add(n, path, "%.40q: want a time like 2026-11-21T18:00:00Z", n.Value)
		return
	}
	v.Set(reflect.ValueOf(t))
}

func (r *reader) list(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.SequenceNode {
		r.add(n, path, "want a list, not a %s", kindName(n.Kind))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, c := range n.Content {
		r.read(c, v.Index(i), fmt.Sprintf("%s[%d]", path, i))
	}
}

// entries calls each with every key and value of a mapping.
func (r *reader) entries(n *yaml.Node, path string, each func(k, v *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		r.add(n, path, "want a mapping of names to values, not a %s", kindName(n.Kind))
		return
	}
	first := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Kind != yaml.ScalarNode || k.Tag == "!!null" || k.Tag == "!!merge" {
			r.add(k, path, "%.40q: want a name", k.Value)
			continue
		}
		if line, ok := first[k.Value]; ok {
			r.add(k, join(path, k.Value), "stands twice: first in line %d", line)
			continue
		}
		first[k.Value] = k.Line
		each(k, v)
	}
}

func (r *reader) record(n *yaml.Node, v reflect.Value, path string) {
	t := v.Type()
	r.entries(n, path, func(k, e *yaml.Node) {
		var known []string
		for i := range t.NumField() {
			name, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
			if name == k.Value {
				at := join(path, name)
				r.read(e, v.Field(i), at)
				r.lines[at] = k.Line
				return
			}
			known = append(known, name)
		}
		r.add(k, join(path, k.Value), "is not known here: want %s", strings.Join(known, ", "))
	})
}

func (r *reader) table(n *yaml.Node, v reflect.Value, path string) {
	v.Set(reflect.MakeMap(v.Type()))
	r.entries(n, path, func(k, e *yaml.Node) {
		at := join(path, k.Value)
		x := reflect.New(v.Type().Elem()).Elem()
		r.read(e, x, at)
		r.lines[at] = k.Line
		v.SetMapIndex(reflect.ValueOf(k.Value).Convert(v.Type().Key()), x)
	})
}
