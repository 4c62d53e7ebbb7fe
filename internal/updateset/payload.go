package updateset

import (
	"maps"
	"slices"
	"strings"

	"github.com/greatseal-io/greatseal/rejection"
)

// payload is the inner document while it is read.
type payload struct {
	s      *scanner
	limits Limits
	outer  Action
	table  string // of record_update; empty for wrappers
	first  string // name of the first element
	ops    []Operation
	seen   map[string]bool // records
}

// readPayload reads a payload's document: what comes out of the first decode.
// An empty outer action means that there is none (a file under source control): the
// first operation's is taken.
func readPayload(doc []byte, name string, outer Action, l Limits) ([]Operation, Action, error) {
	p := &payload{s: scanBytes(doc), limits: l, outer: outer, seen: map[string]bool{}}
	if err := p.document(); err != nil {
		return nil, "", err
	}
	if err := p.named(name); err != nil {
		return nil, "", err
	}
	if err := p.attach(); err != nil {
		return nil, "", err
	}
	return p.ops, p.outer, nil
}

func (p *payload) document() error {
	s := p.s
	if err := s.declaration(); err != nil {
		return err
	}
	if _, err := s.space(); err != nil {
		return err
	}
	root, err := s.open()
	if err != nil {
		return err
	}
	if root.name != "record_update" {
		return s.malformed("the payload's root is "+root.name, "only record_update is understood; leave this update out")
	}
	for _, a := range root.attributes {
		switch a.name {
		case "table":
			p.table = a.value
		case "sys_domain", "sys_domain_path", "version":
		default:
			return s.malformed("record_update has the attribute "+a.name, "it is not understood; leave this update out")
		}
	}
	err = p.children(root, func(t tag) error {
		if p.first == "" {
			p.first = t.name
		}
		_, has := t.attribute("action")
		if has || t.name == "sys_attachment_doc" {
			return p.operation(t, "")
		}
		return p.wrapper(t)
	})
	if err != nil {
		return err
	}
	if len(p.ops) == 0 {
		return s.malformed("a payload without operation", "leave this update out")
	}
	return s.end()
}

// children reads elements, with nothing but white space between them, up to the end
// tag of t.
func (p *payload) children(t tag, child func(tag) error) error {
	if t.empty {
		return nil
	}
	s := p.s
	for {
		if _, err := s.space(); err != nil {
			return err
		}
		kind, err := s.next()
		switch {
		case err != nil:
			return err
		case kind == '/':
			return s.closing(t.name)
		case kind == 't':
			return s.malformed("text in "+t.name+", where only elements stand", again)
		}
		c, err := s.open()
		if err != nil {
			return err
		}
		if err := child(c); err != nil {
			return err
		}
	}
}

// wrapper reads an element that is no record but holds some: the labels of a field,
// the elements of a form. Importing it makes its records all that there are.
func (p *payload) wrapper(t tag) error {
	if err := p.lower(t); err != nil {
		return err
	}
	o := Operation{Table: t.name, Action: Replace, Keys: map[string]string{}, Fields: map[string]string{}, Wrapper: t.name}
	for _, a := range t.attributes {
		if a.name == "query" {
			return p.s.malformed("a query without action", "leave this update out")
		}
		o.Keys[a.name] = a.value
	}
	if err := p.add(o); err != nil {
		return err
	}
	return p.children(t, func(c tag) error {
		if _, ok := c.attribute("action"); !ok {
			return p.s.malformed(c.name+" in "+t.name+" has no action", "leave this update out")
		}
		return p.operation(c, t.name)
	})
}

// lower refuses names of tables that a database may take for others.
func (p *payload) lower(t tag) error {
	if strings.ToLower(t.name) != t.name {
		return p.s.malformed("the table "+t.name+" has capital letters", "names of tables have none; leave this update out")
	}
	return nil
}

func (p *payload) add(o Operation) error {
	if len(p.ops) >= p.limits.Operations {
		return p.s.fail(tooLarge("a payload with too many operations", split))
	}
	p.ops = append(p.ops, o)
	return nil
}

func (p *payload) operation(t tag, wrapper string) error {
	s := p.s
	if err := p.lower(t); err != nil {
		return err
	}
	o := Operation{Table: t.name, Wrapper: wrapper, Fields: map[string]string{}}
	hasAction, hasQuery := false, false
	for _, a := range t.attributes {
		switch a.name {
		case "action":
			o.Action, hasAction = Action(a.value), true
		case "query":
			o.Query, hasQuery = a.value, true
		default:
			if o.Keys == nil {
				o.Keys = map[string]string{}
			}
			o.Keys[a.name] = a.value
		}
	}
	switch {
	case !hasAction: // sys_attachment_doc, whose action is that of its attachment
		if o.Action = p.outer; o.Action == "" {
			o.Action = Upsert
		}
	case o.Action == DeleteMultiple || o.Action == UpdateMultiple:
		if !hasQuery {
			return s.malformed(string(o.Action)+" without query", "leave this update out")
		}
	case o.Action == Upsert || o.Action == Delete:
		if p.outer == "" {
			p.outer = o.Action
		}
		if o.Action != p.outer {
			return s.fail(mismatch(t.name, "the update says "+string(p.outer)+", an operation in it "+string(o.Action)))
		}
	default:
		return s.malformed("an operation with an unknown action", "leave this update out")
	}
	if hasQuery && !o.Action.Bulk() {
		return s.malformed("a query on an operation that is not a bulk one", "leave this update out")
	}
	err := p.children(t, func(c tag) error { return p.field(&o, c) })
	if err != nil {
		return err
	}
	folded := make(map[string]bool, len(o.Fields))
	for name := range o.Fields {
		if name = strings.ToLower(name); folded[name] {
			return s.malformed("two fields of "+t.name+" differ in case only", "leave this update out")
		}
		folded[name] = true
	}
	if o.SysID = o.Fields["sys_id"]; len(o.SysID) > 64 || strings.ContainsFunc(o.SysID, notKey) {
		return s.malformed("a sys_id that is none", again)
	}
	if o.SysID != "" && !o.Action.Bulk() {
		if p.seen[o.Ref().ID()] {
			return s.fail(rejection.New(rejection.ExtraOperation, o.Table, "the payload holds the record twice: "+again))
		}
		p.seen[o.Ref().ID()] = true
	}
	return p.add(o)
}

// notKey: keys become parts of names of updates and of files.
func notKey(r rune) bool {
	return !(r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '_' || r == '-' || r == '.')
}

// field reads one column. A condition may carry its decoded terms behind its text, as
// empty item elements: they say nothing that the text does not, and text after them
// would be read by some and not by others.
func (p *payload) field(o *Operation, t tag) error {
	s := p.s
	if _, twice := o.Fields[t.name]; twice {
		return s.malformed("the field "+t.name+" stands twice", again)
	}
	if len(o.Fields) >= p.limits.Fields {
		return s.fail(tooLarge("an operation with too many fields", "leave this update out"))
	}
	for _, a := range t.attributes {
		if a.name == "action" || a.name == "query" {
			return s.malformed("the field "+t.name+" has an action", "leave this update out")
		}
		if a.name == "display_value" {
			if o.References == nil {
				o.References = map[string]string{}
			}
			o.References[t.name] = a.value
		}
	}
	if t.empty {
		o.Fields[t.name] = ""
		return nil
	}
	value, err := s.text(nil)
	if err != nil {
		return err
	}
	o.Fields[t.name] = string(value)
	for items := 0; ; items++ {
		kind, err := s.next()
		if err != nil {
			return err
		}
		if kind == '/' {
			return s.closing(t.name)
		}
		item, err := s.open()
		if err != nil {
			return err
		}
		if item.name != "item" || !item.empty || items >= maxItems {
			return s.malformed("the field "+t.name+" holds elements", "only the terms of a condition may stand there; leave this update out")
		}
		after, err := s.text(nil)
		if err != nil {
			return err
		}
		if strings.TrimSpace(string(after)) != "" {
			return s.malformed("the field "+t.name+" goes on after the terms of its condition", again)
		}
	}
}

// named finds the operation that the update is named after and holds the name
// against it.
func (p *payload) named(name string) error {
	s := p.s
	table := p.first
	if p.table != "" {
		table = p.table
	}
	main := -1
	for i := range p.ops {
		o := &p.ops[i]
		if o.Action.Bulk() || o.Table != table || o.Wrapper != "" && o.Wrapper != o.Table {
			continue
		}
		if main = i; o.Wrapper == "" || name == o.Table+"_"+o.SysID || name == o.Fields["sys_update_name"] {
			break
		}
	}
	rest, ok := strings.CutPrefix(name, table+"_")
	if !ok || rest == "" {
		return s.fail(mismatch(table, "the update's name is not that of its record's table"))
	}
	if table != p.first {
		return s.fail(mismatch(table, "record_update names a table that its first operation is not on"))
	}
	if main < 0 {
		if p.ops[0].Action != Replace {
			return s.fail(mismatch(table, "the update is named after a record that it does not hold"))
		}
		return nil
	}
	o := &p.ops[main]
	o.Main = true
	updateName, named := o.Fields["sys_update_name"]
	switch {
	case rest == o.SysID:
	case isHex(rest):
		return s.fail(mismatch(table, "the update's name and the record's sys_id differ"))
	case updateName != "" && updateName != name:
		return s.fail(mismatch(table, "the update's name and the record's sys_update_name differ"))
	case !named && len(o.Keys) == 0 && o.Wrapper == "":
		return s.fail(mismatch(table, "nothing in the record says the update's name"))
	}
	if updateName != "" && updateName != name {
		return s.fail(mismatch(table, "the update's name and the record's sys_update_name differ"))
	}
	keys := o.Keys
	if o.Wrapper != "" {
		keys = p.ops[0].Keys
	}
	return p.keyed(o, keys)
}

// keyed holds the keys of an element against the columns of the record: an import
// looks the record up by one and writes the other.
func (p *payload) keyed(o *Operation, keys map[string]string) error {
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		column := k
		switch _, has := o.Fields["table"]; {
		case k == "table" && !has:
			column = "name"
		case k == "section_id":
			column = "sys_id"
		}
		value, has := o.Fields[column]
		if _, reference := o.References[column]; !has || reference {
			continue
		}
		if value != keys[k] {
			return p.s.fail(mismatch(k, "an element and its record differ"))
		}
	}
	return nil
}

// isHex: 32 hexadecimal digits, a sys_id.
func isHex(s string) bool {
	return len(s) == 32 && !strings.ContainsFunc(s, func(r rune) bool { return !(r >= '0' && r <= '9' || r >= 'a' && r <= 'f') })
}
