package xmldsig

import (
	"cmp"
	"io"
	"maps"
	"slices"
	"strings"
)

// canon writes the canonical form of what it is handed. That of a whole document is
// Canonical XML 1.0, which has every namespace declaration, or Exclusive XML
// Canonicalization 1.0; that of an element with what is in it is always the latter.
type canon struct {
	w         io.Writer
	inclusive bool
	comments  bool
	rendered  []layer // of namespaces that the output has declared
	depth     int
}

// layer is the namespaces that the output declares at an element of this depth.
type layer struct {
	depth int
	names map[string]string
}

func (c *canon) write(s string) error {
	_, err := io.WriteString(c.w, s)
	return err
}

func (c *canon) declared(prefix string) string {
	for i := len(c.rendered) - 1; i >= 0; i-- {
		if v, ok := c.rendered[i].names[prefix]; ok {
			return v
		}
	}
	return ""
}

func qualified(prefix, local string) string {
	if prefix == "" {
		return local
	}
	return prefix + ":" + local
}

func (c *canon) start(e *element) error {
	used := []string{e.prefix}
	for _, a := range e.attributes {
		if a.prefix != "" && a.prefix != "xml" {
			used = append(used, a.prefix)
		}
	}
	if c.inclusive {
		used = nil
		if e.declares {
			used = slices.Collect(maps.Keys(e.scope.names))
		}
	}
	slices.Sort(used)
	names := map[string]string{}
	c.depth++
	var b strings.Builder
	b.WriteString("<" + qualified(e.prefix, e.local))
	for _, prefix := range slices.Compact(used) {
		space := e.scope.value(prefix) // resolved by the parser
		if prefix == "xml" || c.declared(prefix) == space {
			continue
		}
		names[prefix] = space
		if prefix == "" {
			b.WriteString(` xmlns="` + attributeEscape.Replace(space) + `"`)
		} else {
			b.WriteString(` xmlns:` + prefix + `="` + attributeEscape.Replace(space) + `"`)
		}
	}
	if len(names) > 0 {
		c.rendered = append(c.rendered, layer{c.depth, names})
	}
	attributes := slices.Clone(e.attributes)
	slices.SortFunc(attributes, func(x, y attribute) int {
		return cmp.Or(cmp.Compare(x.space, y.space), cmp.Compare(x.local, y.local))
	})
	for _, a := range attributes {
		b.WriteString(" " + qualified(a.prefix, a.local) + `="` + attributeEscape.Replace(a.value) + `"`)
	}
	b.WriteString(">")
	return c.write(b.String())
}

var (
	attributeEscape = strings.NewReplacer("&", "&amp;", "<", "&lt;", `"`, "&quot;", "\t", "&#x9;", "\n", "&#xA;", "\r", "&#xD;")
	textEscape      = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "\r", "&#xD;")
)

func (c *canon) end(e *element, _, _ int) error {
	if n := len(c.rendered); n > 0 && c.rendered[n-1].depth == c.depth {
		c.rendered = c.rendered[:n-1]
	}
	c.depth--
	return c.write("</" + qualified(e.prefix, e.local) + ">")
}

func (c *canon) text(s []byte) error {
	_, err := textEscape.WriteString(c.w, string(s))
	return err
}

// outside puts what stands beside the root on lines of its own.
func (c *canon) outside(s string, depth int, after bool) error {
	switch {
	case depth > 0:
	case after:
		s = "\n" + s
	default:
		s += "\n"
	}
	return c.write(s)
}

func (c *canon) instruction(s []byte, depth int, after bool) error {
	return c.outside("<?"+strings.ReplaceAll(string(s), "\r", "&#xD;")+"?>", depth, after)
}

func (c *canon) comment(s []byte, depth int, after bool) error {
	if !c.comments {
		return nil
	}
	return c.outside("<!--"+strings.ReplaceAll(string(s), "\r", "&#xD;")+"-->", depth, after)
}
