package updateset

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// File is an attachment to be written.
type File struct {
	Name, Type string
	Content    []byte
	Field      bool // it is the content of the image field Name
}

const (
	dateTime   = "2006-01-02 15:04:05"
	chunkBytes = 734_004 // of the packed stream in one sys_attachment_doc; a multiple of 3, so that only the last is padded
)

var escaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "\r", "&#13;")

var attributeEscaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "\r", "&#13;", "\n", "&#10;", "\t", "&#9;")

func element(b *bytes.Buffer, name, value string) {
	if value == "" {
		b.WriteString("<" + name + "/>")
		return
	}
	b.WriteString("<" + name + ">")
	escaper.WriteString(b, value)
	b.WriteString("</" + name + ">")
}

// payload is the document of the row.
func (r *Row) payload() ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?><record_update table="` + r.Table + `">`)
	f := maps.Clone(r.Fields)
	if f == nil {
		f = map[string]string{}
	}
	at := r.At.UTC().Format(dateTime)
	for name, value := range map[string]string{"sys_class_name": r.Table, "sys_created_by": r.By, "sys_created_on": at, "sys_id": r.SysID,
		"sys_mod_count": "0", "sys_update_name": r.Name(), "sys_updated_by": r.By, "sys_updated_on": at} {
		if _, ok := f[name]; !ok {
			f[name] = value
		}
	}
	r.operation(&b, r.Table, f)
	for _, a := range r.Attachments {
		if err := r.attachment(&b, a, at); err != nil {
			return nil, err
		}
	}
	b.WriteString("</record_update>")
	return b.Bytes(), nil
}

func (r *Row) operation(b *bytes.Buffer, table string, fields map[string]string) {
	fmt.Fprintf(b, `<%s action="%s">`, table, r.Action)
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		display, reference := r.References[name]
		if !reference || table != r.Table {
			element(b, name, fields[name])
			continue
		}
		b.WriteString("<" + name + ` display_value="`)
		attributeEscaper.WriteString(b, display)
		b.WriteString(`">`)
		escaper.WriteString(b, fields[name])
		b.WriteString("</" + name + ">")
	}
	b.WriteString("</" + table + ">")
}

func (r *Row) attachment(b *bytes.Buffer, a File, at string) error {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(a.Content); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	table := r.Table
	if a.Field {
		table = imagePrefix + table
	}
	sum := sha256.Sum256(a.Content)
	id := rowID("sys_attachment", []byte(table), []byte(r.SysID), []byte(a.Name), sum[:])
	r.operation(b, "sys_attachment", map[string]string{"compressed": "true", "content_type": a.Type, "file_name": a.Name,
		"hash": hex.EncodeToString(sum[:]), "size_bytes": strconv.Itoa(len(a.Content)), "size_compressed": strconv.Itoa(packed.Len()),
		"sys_id": id, "sys_mod_count": "0", "sys_updated_by": r.By, "sys_updated_on": at, "sys_created_by": r.By, "sys_created_on": at,
		"table_name": table, "table_sys_id": r.SysID})
	n := 0
	for chunk := range slices.Chunk(packed.Bytes(), chunkBytes) {
		position := strconv.Itoa(n)
		data := base64.StdEncoding.EncodeToString(chunk)
		r.operation(b, "sys_attachment_doc", map[string]string{"data": data, "length": strconv.Itoa(len(data)), "position": position,
			"sys_attachment": id, "sys_id": rowID("sys_attachment_doc", []byte(id), []byte(position))})
		n++
	}
	return nil
}

// check refuses a row that would not read back.
func (r *Row) check(l Limits) ([]byte, error) {
	doc, err := r.payload()
	if err != nil {
		return nil, err
	}
	if len(doc) > l.Update {
		return nil, fmt.Errorf("updateset: %s: %w", r.Name(), tooLarge("a record beyond the limit", "raise it"))
	}
	if _, _, err := readPayload(doc, r.Name(), r.Action, l); err != nil {
		return nil, fmt.Errorf("updateset: %s cannot be written: %w", r.Name(), err)
	}
	return doc, nil
}

// update is the row as a sys_update_xml of the set.
func (r *Row) update(h header, l Limits) ([]byte, error) {
	doc, err := r.check(l)
	if err != nil {
		return nil, err
	}
	return envelope(h, r, r.Name(), doc), nil
}

// envelope is a payload as a sys_update_xml of the set. payload_hash stays empty, as
// in exports of older records: how the platform computes it is not known, and it is a
// change detector that an import can do without.
func envelope(h header, r *Row, name string, doc []byte) []byte {
	at := r.At.UTC()
	var b bytes.Buffer
	b.WriteString(`<sys_update_xml action="INSERT_OR_UPDATE">` + "\n")
	line := func(name, value string) {
		element(&b, name, value)
		b.WriteByte('\n')
	}
	line("action", string(r.Action))
	b.WriteString(`<application display_value="Global">global</application>` + "\n")
	line("category", "customer")
	line("comments", "")
	line("name", name)
	if bytes.Contains(doc, []byte("]]>")) || bytes.IndexByte(doc, '\r') >= 0 {
		line("payload", string(doc))
	} else {
		b.WriteString("<payload><![CDATA[")
		b.Write(doc)
		b.WriteString("]]></payload>\n")
	}
	line("payload_hash", "")
	b.WriteString(`<remote_update_set display_value="`)
	attributeEscaper.WriteString(&b, h.setName)
	b.WriteString(`">`)
	escaper.WriteString(&b, h.setID)
	b.WriteString("</remote_update_set>\n")
	line("replace_on_upgrade", "false")
	line("sys_created_by", r.By)
	line("sys_created_on", at.Format(dateTime))
	line("sys_id", rowID("sys_update_xml", []byte(h.setID), []byte(name)))
	line("sys_mod_count", "0")
	line("sys_recorded_at", strconv.FormatInt(at.UnixMilli(), 16)+"0000001")
	line("sys_updated_by", r.By)
	line("sys_updated_on", at.Format(dateTime))
	line("table", "") // that of a record which describes another table
	line("target_name", r.Target)
	line("type", r.Kind)
	line("update_domain", "global")
	line("update_guid", rowID("update_guid", doc))
	line("update_guid_history", "")
	b.WriteString(`<update_set display_value=""/>` + "\n")
	line("view", "")
	b.WriteString("</sys_update_xml>\n")
	return b.Bytes()
}

// Writer writes an update set.
type Writer struct {
	w      io.Writer
	h      header
	limits Limits
	names  map[string]bool
	at     time.Time
	err    error
}

// NewWriter begins a set. sysID is that of the set: 32 hexadecimal digits.
func NewWriter(w io.Writer, name, sysID string, at time.Time, by string) (*Writer, error) {
	if !isHex(sysID) || name == "" {
		return nil, fmt.Errorf("updateset: a set wants a name and a sys_id of 32 hexadecimal digits")
	}
	var b bytes.Buffer
	date := at.UTC().Format(dateTime)
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?><unload unload_date="` + date + "\">\n" +
		`<sys_remote_update_set action="INSERT_OR_UPDATE">` + "\n" + `<application display_value="Global">global</application>` + "\n")
	for _, f := range [][2]string{{"application_name", "Global"}, {"application_scope", "global"}, {"application_version", ""}, {"description", ""},
		{"name", name}, {"remote_sys_id", sysID}, {"state", "loaded"}, {"sys_class_name", "sys_remote_update_set"}, {"sys_created_by", by},
		{"sys_created_on", date}, {"sys_id", sysID}, {"sys_mod_count", "0"}, {"sys_updated_by", by}, {"sys_updated_on", date}} {
		element(&b, f[0], f[1])
		b.WriteByte('\n')
	}
	b.WriteString("</sys_remote_update_set>\n")
	_, err := w.Write(b.Bytes())
	return &Writer{w: w, h: header{setID: sysID, setName: name}, limits: Limits{}.orDefault(), names: map[string]bool{}, at: at}, err
}

// Add writes one record; one that would not read back is refused.
func (w *Writer) Add(r *Row) error {
	doc, err := r.check(w.limits)
	if err != nil {
		return err
	}
	return w.put(r, r.Name(), doc)
}

func (w *Writer) put(r *Row, name string, doc []byte) error {
	if w.err != nil {
		return w.err
	}
	if w.names[name] {
		return fmt.Errorf("updateset: %.200q stands twice", name)
	}
	w.names[name] = true
	_, w.err = w.w.Write(envelope(w.h, r, name, doc))
	return w.err
}

// Copy writes every update of a set, signatures with them, as they stand after the
// first decode; what a later update replaces is left out.
func (w *Writer) Copy(ctx context.Context, s *Set) error {
	return s.current(ctx, func(u *Update) error {
		r := &Row{Table: u.Operations[0].Table, Action: u.Action, Target: u.Fields["target_name"], Kind: u.Fields["type"],
			By: u.Fields["sys_updated_by"], At: w.at}
		return w.put(r, u.Name, []byte(u.document))
	})
}

// Close ends the set.
func (w *Writer) Close() error {
	if w.err == nil {
		_, w.err = io.WriteString(w.w, "</unload>\n")
	}
	return w.err
}
