package updateset

import (
	"github.com/greatseal-io/greatseal/record"
)

// Action is what an operation does.
type Action string

// The actions. An update's own (outer) action is Upsert or Delete.
const (
	Upsert         Action = "INSERT_OR_UPDATE"
	Delete         Action = "DELETE"
	DeleteMultiple Action = "delete_multiple"
	UpdateMultiple Action = "update_multiple"
	Replace        Action = "replace" // a wrapper without action: its children are all there is to be
)

// Bulk reports whether the action reaches records that the payload does not name.
func (a Action) Bulk() bool {
	return a == DeleteMultiple || a == UpdateMultiple || a == Replace
}

// Operation is one thing that an import of a payload does.
type Operation struct {
	Table       string
	SysID       string // empty: the payload does not say
	Action      Action
	Fields      map[string]string // every column that is written, empty ones too; a reference is its key
	References  map[string]string // columns that are references, with what people see of them
	Attachments []Attachment      // of this record, and in this payload; sorted as record.Record wants them
	Query       string            // of a bulk operation
	Keys        map[string]string // attributes of the element besides action and query
	Wrapper     string            // the element around it that is no record; empty: none
	Main        bool              // the record that the update is named after
}

// Ref is the record that the operation is on; without key when the payload does not
// say which.
func (o *Operation) Ref() record.Ref {
	r := record.Ref{Table: o.Table}
	if o.SysID != "" {
		r.Key = []string{o.SysID}
	}
	return r
}

// Record is the record as it is after the operation, or as it was before a Delete:
// empty fields are absent.
func (o *Operation) Record() *record.Record {
	r := &record.Record{Ref: o.Ref(), Fields: make(map[string]string, len(o.Fields))}
	for name, value := range o.Fields {
		if value != "" {
			r.Fields[name] = value
		}
	}
	for _, a := range o.Attachments {
		r.Attachments = append(r.Attachments, a.Attachment)
	}
	return r
}

// Update is one update of a set, understood.
type Update struct {
	Index      int    // its place in the set, from 0
	Name       string // table_sysid, or the keys of a wrapper
	Action     Action
	Fields     map[string]string // what else is said of it: type, target_name, table, application …; never the payload
	Operations []Operation       // at least one
	Offset     int64             // of its first byte in the file
	Size       int64             // in bytes, as it stands in the file
	Superseded bool              // a later update of the set has the same name: an import ends with that one

	document string // the payload, after the first decode
}

// Main is the operation that the update is named after, or nil: a wrapper that holds
// none.
func (u *Update) Main() *Operation {
	for i := range u.Operations {
		if u.Operations[i].Main {
			return &u.Operations[i]
		}
	}
	return nil
}

// Document is the payload's XML document, as it comes out of the first decode: what a
// file under source control holds.
func (u *Update) Document() string { return u.document }
