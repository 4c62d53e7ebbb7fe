package xar

import (
	"strings"
	"unicode/utf8"
)

// node is one element of the table, with where it stands.
type node struct {
	name       string
	attrs      string // as they stand in the tag
	kids       []*node
	text       string // what stands directly in it, without white space around
	start, end int    // with its tags
	open, shut int    // between its tags
}

// child returns the only child of a name, nil when there is none.
func (n *node) child(name string) *node {
	for _, k := range n.kids {
		if k.name == name {
			return k
		}
	}
	return nil
}

// value is the text of the only child of a name, "" when there is none.
func (n *node) value(name string) string {
	if k := n.child(name); k != nil {
		return k.text
	}
	return ""
}

// style is the attribute of that name, which must be the only one.
func (n *node) style() string {
	v, ok := strings.CutPrefix(n.attrs, ` style="`)
	if v, end := strings.CutSuffix(v, `"`); ok && end && !strings.ContainsAny(v, `"&<`) {
		return v
	}
	return ""
}

// scanner reads as much of XML as tables have: a declaration, elements, attributes,
// text. Everything else is refused.
type scanner struct {
	s     string
	pos   int
	nodes int
}

func parseXML(s string) (*node, error) {
	if !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0 {
		return nil, malformed("table is not UTF-8")
	}
	c := &scanner{s: s}
	if strings.HasPrefix(s, "<?xml ") {
		end := strings.Index(s, "?>")
		if end < 0 || !strings.Contains(strings.ToLower(s[:end]), `encoding="utf-8"`) {
			return nil, malformed("table has another encoding than UTF-8")
		}
		c.pos = end + 2
	}
	c.space()
	root, err := c.element(0)
	if err != nil {
		return nil, err
	}
	c.space()
	if c.pos != len(s) {
		return nil, malformed("something after the table")
	}
	return root, nil
}

func (c *scanner) space() {
	for c.pos < len(c.s) && strings.IndexByte(" \t\r\n", c.s[c.pos]) >= 0 {
		c.pos++
	}
}

// nameByte knows no colon: readers differ in what a prefix means.
func nameByte(b byte) bool {
	return 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9' || b == '-' || b == '_' || b == '.'
}

func (c *scanner) element(depth int) (*node, error) {
	if c.nodes++; c.nodes > maxNodes || depth > maxDepth {
		return nil, malformed("table of more than %d elements, or %d levels", maxNodes, maxDepth)
	}
	n := &node{start: c.pos}
	if c.pos >= len(c.s) || c.s[c.pos] != '<' {
		return nil, malformed("table: text where an element is wanted")
	}
	c.pos++
	from := c.pos
	for c.pos < len(c.s) && nameByte(c.s[c.pos]) {
		c.pos++
	}
	if n.name = c.s[from:c.pos]; n.name == "" {
		return nil, malformed("table: a comment, a declaration or no name")
	}
	empty, err := c.attributes(n)
	if err != nil {
		return nil, err
	}
	n.open = c.pos
	if empty {
		n.shut, n.end = c.pos, c.pos
		return n, nil
	}
	var text strings.Builder
	for {
		i := strings.IndexByte(c.s[c.pos:], '<')
		if i < 0 {
			return nil, malformed("table: <%s> does not end", n.name)
		}
		text.WriteString(c.s[c.pos : c.pos+i])
		c.pos += i
		if strings.HasPrefix(c.s[c.pos:], "</") {
			break
		}
		k, err := c.element(depth + 1)
		if err != nil {
			return nil, err
		}
		n.kids = append(n.kids, k)
	}
	n.shut = c.pos
	closing := "</" + n.name + ">"
	if !strings.HasPrefix(c.s[c.pos:], closing) {
		return nil, malformed("table: <%s> is ended by something else", n.name)
	}
	c.pos += len(closing)
	n.end = c.pos
	n.text = strings.Trim(text.String(), " \t\r\n")
	if n.text != "" && len(n.kids) > 0 {
		return nil, malformed("table: <%s> holds text and elements", n.name)
	}
	return n, nil
}

// attributes reads up to the end of the tag, and says whether the element is empty.
func (c *scanner) attributes(n *node) (empty bool, err error) {
	from := c.pos
	quote := byte(0)
	for ; c.pos < len(c.s); c.pos++ {
		switch b := c.s[c.pos]; {
		case quote != 0:
			if b == quote {
				quote = 0
			} else if b == '<' {
				return false, malformed("table: attribute of <%s>", n.name)
			}
		case b == '"' || b == '\'':
			quote = b
		case b == '<':
			return false, malformed("table: <%s> does not end", n.name)
		case b == '>':
			n.attrs = c.s[from:c.pos]
			c.pos++
			if n.attrs, empty = strings.CutSuffix(n.attrs, "/"); n.attrs != "" && strings.IndexByte(" \t\r\n", n.attrs[0]) < 0 {
				return false, malformed("table: name of <%s>", n.name)
			}
			n.attrs = strings.TrimRight(n.attrs, " \t\r\n")
			return empty, nil
		}
	}
	return false, malformed("table: <%s> does not end", n.name)
}
