package updateset

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/rejection"
)

// imagePrefix stands before the table's name in the attachment that is the content
// of an image field. Its name as record.Attachment has it too, so that an image and
// a file of one name differ.
const imagePrefix = "ZZ_YY"

// Attachment is a file of a record, in chunks as the payload holds them.
type Attachment struct {
	record.Attachment
	SysID  string // of the sys_attachment
	chunks []string
}

// Open reads the file's content. Its size and digest are those of Attachment: they
// were measured when the set was read.
func (a *Attachment) Open() (io.ReadCloser, error) {
	z, _, err := a.unpack()
	return z, err
}

func (a *Attachment) unpack() (*gzip.Reader, *bufio.Reader, error) {
	parts := make([]io.Reader, len(a.chunks))
	for i, c := range a.chunks {
		parts[i] = base64.NewDecoder(base64.StdEncoding.Strict(), strings.NewReader(c))
	}
	packed := bufio.NewReader(io.MultiReader(parts...))
	z, err := gzip.NewReader(packed)
	if err != nil {
		return nil, nil, err
	}
	z.Multistream(false)
	return z, packed, nil
}

// measure reads the content once: one gzip stream of exactly Size bytes.
func (a *Attachment) measure() *rejection.Error {
	bad := func(problem string) *rejection.Error {
		return rejection.New(rejection.PayloadMalformed, a.Name, "the attachment "+problem+": "+again)
	}
	z, packed, err := a.unpack()
	if err != nil {
		return bad("is no gzip stream")
	}
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(z, a.Size+1))
	switch {
	case n > a.Size:
		return bad("is longer than its size_bytes")
	case err != nil:
		return bad("is damaged")
	case n < a.Size:
		return bad("is shorter than its size_bytes")
	}
	if _, err := packed.ReadByte(); err != io.EOF {
		return bad("has something behind its content")
	}
	h.Sum(a.SHA256[:0])
	return nil
}

// attach rebuilds the attachments of the payload and gives them to their owners.
func (p *payload) attach() error {
	type found struct {
		op     int
		chunks map[int]string
	}
	byID := map[string]*found{}
	for i := range p.ops {
		if o := &p.ops[i]; o.Table == "sys_attachment" && !o.Action.Bulk() {
			if o.SysID == "" || byID[o.SysID] != nil {
				return p.s.malformed("an attachment without sys_id, or twice", again)
			}
			byID[o.SysID] = &found{i, map[int]string{}}
		}
	}
	for i := range p.ops {
		o := &p.ops[i]
		if o.Table != "sys_attachment_doc" || o.Action.Bulk() {
			continue
		}
		f := byID[o.Fields["sys_attachment"]]
		if f == nil {
			return p.s.malformed("a chunk of an attachment that the payload does not hold", again)
		}
		n, err := strconv.Atoi(o.Fields["position"])
		if err != nil || n < 0 || n >= maxChunks || strconv.Itoa(n) != o.Fields["position"] {
			return p.s.malformed("a chunk whose position is no number", again)
		}
		if _, twice := f.chunks[n]; twice {
			return p.s.malformed("two chunks of one position", again)
		}
		f.chunks[n] = o.Fields["data"]
	}
	owners := map[string]*Operation{}
	for i := range p.ops {
		if o := &p.ops[i]; o.SysID != "" && !o.Action.Bulk() {
			owners[o.Table+" "+o.SysID] = o
		}
	}
	for _, id := range slices.Sorted(maps.Keys(byID)) {
		f := byID[id]
		a, err := p.attachment(f.op, f.chunks)
		if err != nil {
			return p.s.fail(err)
		}
		table, owner := p.ops[f.op].Owner()
		if o := owners[table+" "+owner]; o != nil { // else the record stands elsewhere: Verify looks at that
			o.Attachments = append(o.Attachments, a)
		}
	}
	for i := range p.ops {
		slices.SortFunc(p.ops[i].Attachments, func(a, b Attachment) int {
			return cmp.Or(cmp.Compare(a.Name, b.Name), bytes.Compare(a.SHA256[:], b.SHA256[:]), cmp.Compare(a.SysID, b.SysID))
		})
	}
	return nil
}

func (p *payload) attachment(op int, chunks map[int]string) (Attachment, *rejection.Error) {
	o := &p.ops[op]
	a := Attachment{SysID: o.SysID}
	a.Name, a.Type = o.Fields["file_name"], o.Fields["content_type"]
	bad := func(problem string) (Attachment, *rejection.Error) {
		return a, rejection.New(rejection.PayloadMalformed, a.Name, "the attachment "+problem+": "+again)
	}
	switch {
	case strings.HasPrefix(a.Name, imagePrefix+":"):
		return bad("has the name of an image field's")
	case strings.HasPrefix(o.Fields["table_name"], imagePrefix):
		a.Name = imagePrefix + ":" + a.Name
	}
	size, err := strconv.ParseInt(o.Fields["size_bytes"], 10, 64)
	if err != nil || size < 0 || strconv.FormatInt(size, 10) != o.Fields["size_bytes"] {
		return bad("has no size_bytes")
	}
	if a.Size = size; size > p.limits.Attachment {
		return a, tooLarge("an attachment beyond the limit", "leave it out, or raise the limit")
	}
	if c, ok := o.Fields["compressed"]; ok && c != "true" && c != "" {
		return bad("is not compressed")
	}
	if len(chunks) == 0 && o.Action == Delete {
		return a, nil // its content is gone already
	}
	for n := range len(chunks) {
		c, ok := chunks[n]
		if !ok {
			return bad("lacks a chunk")
		}
		a.chunks = append(a.chunks, c)
	}
	return a, a.measure()
}

// Owner is the table and the key of the record that a sys_attachment belongs to.
func (o *Operation) Owner() (table, id string) {
	return strings.TrimPrefix(o.Fields["table_name"], imagePrefix), o.Fields["table_sys_id"]
}
