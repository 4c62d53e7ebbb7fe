package nuget

import (
	"bytes"
	"context"
	"crypto"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"strconv"
	"strings"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/authenticode"
	"github.com/greatseal-io/greatseal/format/opc"
	"github.com/greatseal-io/greatseal/format/zipfile"
)

var le = binary.LittleEndian

// pkg is an open package.
type pkg struct {
	z     *zipfile.Archive
	facts []format.Fact
	about about
	p7s   []byte // nil when there is none
	end   int64  // where the entries but the signature end
	dir   string // their part of the directory
	tail  []byte // the end record
}

// manifest finds the one .nuspec in the root.
func manifest(z *zipfile.Archive) (int, bool) {
	at, n := -1, 0
	for i := range z.Entries {
		if name := z.Entries[i].Name; len(name) > len(".nuspec") && !strings.Contains(name, "/") && strings.EqualFold(name[len(name)-len(".nuspec"):], ".nuspec") {
			at = i
			n++
		}
	}
	return at, n == 1
}

func open(a format.Artifact) (*pkg, error) {
	z, err := zipfile.Open(a, zipfile.Options{})
	if errors.Is(err, zipfile.ErrNotZip) {
		return nil, ErrNotPackage
	}
	if err != nil {
		return nil, fmt.Errorf("nuget: %w", err)
	}
	spec, ok := manifest(z)
	if !ok {
		return nil, fmt.Errorf("%w: one .nuspec in the root is wanted", ErrNotPackage)
	}
	p := &pkg{z: z, end: z.End, dir: z.RawDirectory()}
	if p.tail, err = z.Tail(); err != nil {
		return nil, fmt.Errorf("nuget: %w", err)
	}
	if len(p.tail) != 22+len(z.Comment) {
		return nil, malformed("ZIP64 records: NuGet takes no such packages with a signature")
	}
	last := -1
	for i := range z.Order {
		last = i
	}
	for i := range z.Entries {
		e := &z.Entries[i]
		if !strings.EqualFold(e.Name, entrySignature) {
			continue
		}
		record := z.RawRecord(i)
		switch {
		case e.Name != entrySignature:
			return nil, malformed("%q is not %q", e.Name, entrySignature)
		case i != len(z.Entries)-1 || i != last:
			return nil, malformed("the signature is not the last entry")
		case e.Method != zipfile.Stored || e.Flags != 0 || le.Uint32([]byte(record)[38:]) != 0 || len(record) != 46+len(entrySignature):
			return nil, malformed("the signature's entry is compressed, or has flags, attributes, extra fields or a comment")
		}
		if p.p7s, err = z.Content(i, maxSignature); err != nil {
			return nil, fmt.Errorf("nuget: %w", err)
		}
		if len(p.p7s) == 0 || z.End-e.Offset != int64(30+len(entrySignature)+len(p.p7s)) {
			return nil, malformed("the signature is empty, or its local header has extra fields")
		}
		p.end, p.dir = e.Offset, p.dir[:len(p.dir)-len(record)]
	}
	return p, p.readManifest(spec)
}

// readManifest takes facts out of the .nuspec.
func (p *pkg) readManifest(i int) error {
	text, err := p.z.Content(i, maxManifest)
	if err != nil {
		return fmt.Errorf("nuget: %w", err)
	}
	x, err := opc.New(".nuspec", text)
	if err != nil {
		return fmt.Errorf("nuget: %w", err)
	}
	found := map[string]string{}
	for {
		t, more, err := x.Next()
		if err != nil {
			return fmt.Errorf("nuget: %w", err)
		}
		if !more {
			break
		}
		where := strings.Join(x.Open, "/")
		if !t.Shut {
			p.about.read(where, &t)
		}
		if !t.Shut || where != "package/metadata" {
			continue
		}
		p.about.ended(t.Name, x.Text)
		switch t.Name {
		case "id", "version", "authors":
			v, ok := opc.Unescape(strings.TrimSpace(x.Text))
			if _, twice := found[t.Name]; twice || !ok || v == "" || len(v) > format.MaxText || authenticode.PlainText(v) != v {
				return malformed(".nuspec: %s", t.Name)
			}
			found[t.Name] = v
		}
	}
	for _, n := range []string{"id", "version", "authors"} {
		if found[n] == "" && n != "authors" {
			return malformed(".nuspec without %s", n)
		}
		if found[n] != "" {
			p.facts = append(p.facts, format.Fact{Name: n, Value: found[n]})
		}
	}
	p.facts = append(p.facts, format.Fact{Name: "entries", Value: strconv.Itoa(len(p.z.Entries) - min(1, len(p.p7s)))})
	return nil
}

// digests reads the archive and computes the digests of the package without its
// signature: entries, directory and end record as they were.
func (p *pkg) digests(ctx context.Context, hashes ...crypto.Hash) (map[crypto.Hash][]byte, error) {
	var hs []hash.Hash
	for _, h := range hashes {
		hs = append(hs, h.New())
	}
	left := p.end
	err := p.z.Scan(ctx, zipfile.Scan{Raw: func(b []byte) error {
		b = b[:min(int64(len(b)), left)]
		left -= int64(len(b))
		for _, h := range hs {
			h.Write(b)
		}
		return nil
	}})
	if err != nil {
		return nil, fmt.Errorf("nuget: %w", err)
	}
	tail, err := p.endRecord(0, 0)
	if err != nil {
		return nil, err
	}
	out := map[crypto.Hash][]byte{}
	for i, h := range hashes {
		hs[i].Write([]byte(p.dir))
		hs[i].Write(tail)
		out[h] = hs[i].Sum(nil)
	}
	return out, nil
}

// endRecord is the end record of the package with a signature whose entry and record
// have these lengths; without one where both are 0.
func (p *pkg) endRecord(entry, record int64) ([]byte, error) {
	count := int64(len(p.z.Entries)) - int64(min(1, len(p.p7s))) + min(1, entry)
	size, offset := int64(len(p.dir))+record, p.end+entry
	if count >= 1<<16-1 || size >= 1<<32-1 || offset >= 1<<32-1 {
		return nil, malformed("%d entries before byte %d: NuGet takes no signed package that needs ZIP64", count, offset)
	}
	b := bytes.Clone(p.tail)
	le.PutUint16(b[8:], uint16(count))
	le.PutUint16(b[10:], uint16(count))
	le.PutUint32(b[12:], uint32(size))
	le.PutUint32(b[16:], uint32(offset))
	return b, nil
}

// put returns the change that puts a signature in the place of the one that is there;
// nil takes it out.
func (p *pkg) put(p7s []byte) (*format.Patch, error) {
	var local, record []byte
	if p7s != nil {
		// What local header and record share, as NuGet writes it: version 2.0, no flags,
		// stored; the time is ZIP's first.
		var h []byte
		h = le.AppendUint16(h, 20)
		h = le.AppendUint16(h, 0)
		h = le.AppendUint16(h, zipfile.Stored)
		h = le.AppendUint32(h, 0x00210000)
		h = le.AppendUint32(h, crc32.ChecksumIEEE(p7s))
		h = le.AppendUint32(h, uint32(len(p7s)))
		h = le.AppendUint32(h, uint32(len(p7s)))
		h = le.AppendUint16(h, uint16(len(entrySignature)))
		h = le.AppendUint16(h, 0)
		local = append([]byte("PK\x03\x04"), h...)
		local = append(append(local, entrySignature...), p7s...)
		record = append([]byte("PK\x01\x02\x14\x00"), h...)
		record = append(record, make([]byte, 10)...) // comment, disk, attributes
		record = le.AppendUint32(record, uint32(p.end))
		record = append(record, entrySignature...)
	}
	tail, err := p.endRecord(int64(len(local)), int64(len(record)))
	if err != nil {
		return nil, err
	}
	insert := append(local, p.dir...)
	insert = append(append(insert, record...), tail...)
	patch := &format.Patch{Size: p.z.Size, Edits: []format.Edit{{Offset: p.end, Delete: p.z.Size - p.end, Insert: insert}}}
	return patch, patch.Check()
}
