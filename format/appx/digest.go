package appx

import (
	"bytes"
	"context"
	"crypto"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"hash"
	"io"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/authenticode"
	"github.com/greatseal-io/greatseal/format/zipfile"
)

// partNames are those of the digests that are signed, in their order; the last one
// only where there is a catalogue.
var partNames = []string{"AXPC", "AXCD", "AXCT", "AXBM", "AXCI"}

// compose is the row of digests that is signed.
func compose(parts [][]byte) []byte {
	b := []byte("APPX")
	for i, d := range parts {
		b = append(b, partNames[i]...)
		b = append(b, d...)
	}
	return b
}

func sum(h crypto.Hash, b []byte) []byte {
	x := h.New()
	x.Write(b)
	return x.Sum(nil)
}

// raw takes the bytes of the entries: it digests those that are signed, and notes
// how long local headers are.
type raw struct {
	z      *zipfile.Archive
	hashes []hash.Hash
	skip   [][2]int64 // from and to, ascending
	pos    int64
	extra  []uint16 // length of each local header's extra fields
	bytes  int      // of extra that are known
}

func (r *raw) write(b []byte) error {
	for ; r.bytes < 2*len(r.extra); r.bytes++ {
		i := r.bytes / 2
		at := r.z.Entries[i].Offset + 28 + int64(r.bytes%2)
		if at >= r.pos+int64(len(b)) {
			break
		}
		r.extra[i] |= uint16(b[at-r.pos]) << (8 * (r.bytes % 2))
	}
	end := r.pos + int64(len(b))
	for r.pos < end {
		to, take := end, true
		if len(r.skip) > 0 {
			switch s := r.skip[0]; {
			case r.pos >= s[1]:
				r.skip = r.skip[1:]
				continue
			case r.pos >= s[0]:
				to, take = min(end, s[1]), false
			default:
				to = min(end, s[0])
			}
		}
		n := to - r.pos
		if take {
			for _, h := range r.hashes {
				h.Write(b[:n])
			}
		}
		b, r.pos = b[n:], to
	}
	return nil
}

// scan reads the archive, compares its contents with the block map, and returns the
// parts that are signed under each hash. types replaces the content types, at the end,
// where it is not nil.
func (p *pkg) scan(ctx context.Context, m *blockMap, mapText, types []byte, hashes []crypto.Hash) (map[crypto.Hash][][]byte, error) {
	want := make([]*mapped, len(p.z.Entries))
	for i := range p.z.Entries {
		f, err := p.mapped(m, i)
		if err != nil {
			return nil, err
		}
		want[i] = f
	}
	if len(m.files) > 0 {
		for n := range m.files {
			return nil, badMap("%.80q is not in the archive", n)
		}
	}
	r := &raw{z: p.z, extra: make([]uint16, len(p.z.Entries))}
	for _, h := range hashes {
		r.hashes = append(r.hashes, h.New())
	}
	for _, n := range []string{entryTypes, entrySignature} {
		if i, ok := p.at[n]; ok && (n == entrySignature || types != nil) {
			from, to := p.z.Span(i)
			r.skip = append(r.skip, [2]int64{from, to})
		}
	}
	var workers [zipfile.MaxWorkers]*checker
	err := p.z.Scan(ctx, zipfile.Scan{
		Raw:    r.write,
		Wanted: func(i int) bool { return want[i] != nil },
		Content: func(w, i int) (io.WriteCloser, error) {
			if workers[w] == nil {
				workers[w] = &checker{h: m.hash.New()}
			}
			workers[w].reset(p.z.Entries[i].Name, want[i])
			return workers[w], nil
		},
	})
	if err != nil {
		return nil, fmt.Errorf("appx: %w", err)
	}
	if err := p.checkHeaders(want, r.extra); err != nil {
		return nil, err
	}
	local, end, err := p.unsigned(types)
	if err != nil {
		return nil, err
	}
	if types == nil {
		types = p.types
	}
	integrity, err := p.integrity()
	if err != nil {
		return nil, err
	}
	out := map[crypto.Hash][][]byte{}
	for i, h := range hashes {
		r.hashes[i].Write(local)
		out[h] = [][]byte{r.hashes[i].Sum(nil), sum(h, end), sum(h, types), sum(h, mapText)}
		if integrity != nil {
			out[h] = append(out[h], sum(h, integrity))
		}
	}
	return out, nil
}

// integrity is the catalogue of code, nil when there is none.
func (p *pkg) integrity() ([]byte, error) {
	i, ok := p.at[entryIntegrity]
	if !ok {
		return nil, nil
	}
	b, err := p.z.Content(i, authenticode.MaxPKCS7)
	if err != nil {
		return nil, fmt.Errorf("appx: %w", err)
	}
	return append([]byte{}, b...), nil
}

// mapped finds entry i in the block map and takes it out there; nil for those that
// are covered otherwise.
func (p *pkg) mapped(m *blockMap, i int) (*mapped, error) {
	e := &p.z.Entries[i]
	name, ok := mapName(e.Name)
	if !ok {
		return nil, malformed("name %.80q", e.Name)
	}
	f := m.files[name]
	switch e.Name {
	case entryBlockMap, entryTypes, entryIntegrity, entrySignature:
		if f != nil {
			return nil, badMap("%q is in it", e.Name)
		}
		return nil, nil
	}
	if f == nil {
		if in, ok := p.packages[name]; ok && e.Method == zipfile.Stored && in.size == e.Size {
			return nil, nil
		}
		return nil, badMap("%.80q is not in it", e.Name)
	}
	delete(m.files, name)
	blocks := (f.size + blockSize - 1) / blockSize
	switch {
	case f.size != e.Size, int64(len(f.digests)) != blocks*int64(m.hash.Size()):
		return nil, badMap("%.80q has %d bytes: the block map says %d, in %d blocks", e.Name, e.Size, f.size, len(f.digests)/m.hash.Size())
	case f.sizes > 0 && f.packed > e.Compressed:
		return nil, badMap("%.80q has %d bytes in the archive: the block map says %d", e.Name, e.Compressed, f.packed)
	case e.Method == zipfile.Deflated && f.sizes == 0 && blocks > 0:
		return nil, badMap("%.80q is compressed and its blocks have no sizes", e.Name)
	}
	return f, nil
}

// checkHeaders compares what block map and bundle say of places with the local headers.
func (p *pkg) checkHeaders(want []*mapped, extra []uint16) error {
	found := 0
	for i := range p.z.Entries {
		e := &p.z.Entries[i]
		header := 30 + len(e.Name) + int(extra[i])
		if f := want[i]; f != nil && f.header != header {
			return badMap("the header of %.80q has %d bytes: the block map says %d", e.Name, header, f.header)
		}
		name, _ := mapName(e.Name)
		in, ok := p.packages[name]
		if !ok {
			continue
		}
		found++
		if in.offset != e.Offset+int64(header) || in.size != e.Size || e.Method != zipfile.Stored {
			return malformed("bundle: %.80q does not stand where the manifest says", e.Name)
		}
	}
	if found != len(p.packages) {
		return malformed("bundle: %d packages of %d are there", found, len(p.packages))
	}
	return nil
}

var le = binary.LittleEndian

// unsigned is what the archive without a signature ends with: the entry of new content
// types, if there are any, and directory and end records.
func (p *pkg) unsigned(types []byte) (local, end []byte, err error) {
	_, end, err = p.edit(types, nil)
	if err == nil && types != nil {
		local, err = (&zipfile.File{Name: entryTypes, Content: types}).Local()
	}
	return local, end, err
}

// edit changes content types and signature (none for nil: the content types stay, the
// signature goes), and gives directory and end records besides.
func (p *pkg) edit(types, der []byte) (*format.Patch, []byte, error) {
	e := p.z.Edit()
	if i, ok := p.at[entrySignature]; ok {
		e.Remove(i)
	}
	if types != nil {
		e.Remove(p.at[entryTypes])
		e.Back(zipfile.File{Name: entryTypes, Content: types})
	}
	if der != nil {
		e.Back(zipfile.File{Name: entrySignature, Content: append([]byte(magic), der...)})
	}
	r, err := e.Apply()
	if err != nil {
		return nil, nil, fmt.Errorf("appx: %w", err)
	}
	old, err := p.z.Tail()
	if err != nil {
		return nil, nil, fmt.Errorf("appx: %w", err)
	}
	tail := bytes.Clone(old)
	if len(tail) != len(r.Tail) {
		return nil, nil, malformed("the archive has %d entries: with the signature it needs ZIP64 records, which it lacks", len(p.z.Entries))
	}
	// Numbers that end records leave to those of ZIP64 go on being left to them: others
	// take such records for the sign that the latter are there.
	copyNumbers(tail, r.Tail)
	last := &r.Patch.Edits[len(r.Patch.Edits)-1]
	copy(last.Insert[len(last.Insert)-len(tail):], tail)
	return r.Patch, append(r.Directory, tail...), nil
}

// copyNumbers writes the numbers of one file's end records into another's.
func copyNumbers(to, from []byte) {
	if le.Uint32(to) == 0x06064b50 { // ZIP64: counts, size and offset, then the record's place
		copy(to[24:56], from[24:56])
		copy(to[64:72], from[64:72])
		to, from = to[76:], from[76:]
	}
	copy(to[4:8], "\x00\x00\x00\x00") // disks: makers leave these to ZIP64 too, which Windows does not take
	for _, f := range [][2]int{{8, 2}, {10, 2}, {12, 4}, {16, 4}} {
		at, n := f[0], f[1]
		if !bytes.Equal(to[at:at+n], []byte("\xff\xff\xff\xff")[:n]) {
			copy(to[at:at+n], from[at:at+n])
		}
	}
}

// blockMap reads the block map.
func (p *pkg) blockMap() (*blockMap, []byte, error) {
	text, err := p.z.Content(p.at[entryBlockMap], maxBlockMap)
	if err != nil {
		return nil, nil, fmt.Errorf("appx: %w", err)
	}
	m, err := parseBlockMap(text)
	return m, text, err
}

// Report says what the file is.
func (p *pkg) Report() *format.Report {
	return &format.Report{Format: Name, Size: p.z.Size, Facts: p.facts, Signatures: []format.SignatureInfo{}}
}

// PKCS7 is the signature.
func (p *pkg) PKCS7() []byte { return p.der }

// ContentType is Authenticode's.
func (p *pkg) ContentType() asn1.ObjectIdentifier { return cms.OIDSpcIndirectData }

func (p *pkg) class() string {
	if p.bundle {
		return classBundle
	}
	return classPackage
}

// Stated reads what a signature says of a package. The digest is the one of the row.
func (p *pkg) Stated(sd *cms.SignedData) (*authenticode.Stated, error) {
	d, err := authenticode.ParseComposed(sd.ContentRaw)
	if err != nil {
		return nil, err
	}
	class, err := authenticode.ParseSipInfo(d.Value)
	if err != nil || !d.Type.Equal(authenticode.OIDSipInfo) || class != p.class() {
		return nil, fmt.Errorf("%w: it is not about a %s", authenticode.ErrContent, p.facts[0].Value)
	}
	if _, err := authenticode.DigestOID(d.Hash); err != nil {
		return nil, err
	}
	n := len(partNames) - 1
	if _, ok := p.at[entryIntegrity]; ok {
		n++
	}
	row := d.Digest
	if !bytes.HasPrefix(row, []byte("APPX")) || len(row) != 4+n*(4+d.Hash.Size()) {
		return nil, fmt.Errorf("%w: the row of digests has %d bytes", authenticode.ErrContent, len(row))
	}
	for i, at := 0, 4; i < n; i, at = i+1, at+4+d.Hash.Size() {
		if string(row[at:at+4]) != partNames[i] {
			return nil, fmt.Errorf("%w: digest %.4q where %s is wanted", authenticode.ErrContent, row[at:], partNames[i])
		}
	}
	return &authenticode.Stated{
		Hash: d.Hash, Digest: sum(d.Hash, row), Covers: []string{"all files with their headers, and the directory"},
		Open: []string{"time and attributes of the entry of the signature"},
	}, nil
}

// Digests reads the archive and computes the digest of the row.
func (p *pkg) Digests(ctx context.Context, hashes []crypto.Hash) (map[crypto.Hash][]byte, error) {
	types, err := p.newTypes()
	if err != nil {
		return nil, err
	}
	if types != nil {
		return nil, malformed("content types do not name the signature")
	}
	tail, err := p.z.Tail()
	if err != nil {
		return nil, fmt.Errorf("appx: %w", err)
	}
	if end := tail[len(tail)-22-len(p.z.Comment):]; le.Uint32(end[4:]) != 0 {
		return nil, malformed("disks in the end record of a signed package")
	}
	m, text, err := p.blockMap()
	if err != nil {
		return nil, err
	}
	parts, err := p.scan(ctx, m, text, nil, hashes)
	if err != nil {
		return nil, err
	}
	out := map[crypto.Hash][]byte{}
	for _, h := range hashes {
		if h != m.hash {
			return nil, badMap("it has another hash than a signature")
		}
		out[h] = sum(h, compose(parts[h]))
	}
	return out, nil
}

// Put replaces the signature.
func (p *pkg) Put(_ context.Context, der []byte) (*format.Patch, error) {
	if len(der) == 0 {
		der = nil
	}
	patch, _, err := p.edit(nil, der)
	return patch, err
}
