package appx

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/authenticode"
	"github.com/greatseal-io/greatseal/format/pe"
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

func sum(h crypto.Hash, pieces ...[]byte) []byte {
	x := h.New()
	for _, b := range pieces {
		x.Write(b)
	}
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

func (r *raw) write(b []byte) {
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
}

// reading is what [pkg.scan] is to do.
type reading struct {
	blocks  *blockMap // nil: the block map is made anew
	hash    crypto.Hash
	hashes  []crypto.Hash // of what is signed
	types   []byte        // new content types, or nil
	typesIf []byte        // those where there are executables, if images is set
	images  bool          // digest executables, for a catalogue; the one that is there goes
	listed  bool          // digest executables, to hold them against the catalogue that is there
}

// found is what [pkg.scan] found: of a package without its signature, and without a
// catalogue where reading.images is set.
type found struct {
	parts  map[crypto.Hash][][]byte
	bare   map[crypto.Hash][][]byte  // AXPC and AXCD without the catalogue that was made, if it stays
	axpc   map[crypto.Hash]hash.Hash // up to where the entries end
	change change
	text   []byte // of the block map, where it is new
	images [][]byte
	named  []string // the executables
	unfit  []string // files that look like some and are none
}

// change is what becomes of a package besides its signature.
type change struct {
	drop []int
	back []zipfile.File
}

// scan reads the archive, compares its contents with the block map or makes that anew,
// and returns the parts that are signed under each hash.
func (p *pkg) scan(ctx context.Context, j reading) (*found, error) {
	want, err := p.wanted(j.blocks)
	if err != nil {
		return nil, err
	}
	// Whether content types change can hang on whether there are executables: then both
	// are digested.
	var raws []*raw
	for _, types := range [][]byte{j.types, j.typesIf} {
		if len(raws) == 0 || j.images && (types == nil) != (j.types == nil) {
			raws = append(raws, p.raw(j, types != nil))
		}
	}
	images := make([][]byte, len(p.z.Entries))
	unfit := make([]bool, len(p.z.Entries))
	var workers [zipfile.MaxWorkers]*checker
	err = p.z.Scan(ctx, zipfile.Scan{
		Raw: func(b []byte) error {
			for _, r := range raws {
				r.write(b)
			}
			return nil
		},
		Wanted: func(i int) bool { return want[i].is },
		Content: func(w, i int) (io.WriteCloser, error) {
			c := workers[w]
			if c == nil {
				c = &checker{h: j.hash.New(), anew: j.blocks == nil}
				if j.images || j.listed {
					c.image = pe.NewDigester(j.hash, 0)
					c.found = func(i int, image []byte, err error) {
						images[i], unfit[i] = image, err != nil && !errors.Is(err, pe.ErrNotPE)
					}
				}
				workers[w] = c
			}
			c.reset(i, &p.z.Entries[i], &want[i])
			return c, nil
		},
	})
	if err != nil {
		return nil, fmt.Errorf("appx: %w", err)
	}
	f := &found{parts: map[crypto.Hash][][]byte{}, bare: map[crypto.Hash][][]byte{}, axpc: map[crypto.Hash]hash.Hash{}}
	for i := range p.z.Entries {
		switch {
		case images[i] != nil:
			f.images = append(f.images, images[i])
			f.named = append(f.named, p.z.Entries[i].Name)
		case unfit[i]:
			f.unfit = append(f.unfit, p.z.Entries[i].Name)
		}
	}
	if j.blocks == nil {
		if f.text, err = p.newMap(ctx, j.hash, want, raws[0].extra); err != nil {
			return nil, err
		}
	}
	if err := p.checkHeaders(want, raws[0].extra, j.blocks == nil); err != nil {
		return nil, err
	}
	r := raws[0]
	if j.images && len(f.images) > 0 {
		j.types, r = j.typesIf, raws[len(raws)-1]
	}
	if f.change, err = p.change(f.text, j.types, j.images); err != nil {
		return nil, err
	}
	return f, p.parts(f, j, r)
}

// wanted says of each entry what the block map has to have of it.
func (p *pkg) wanted(m *blockMap) ([]mapped, error) {
	if m != nil {
		return m.files, nil
	}
	want := make([]mapped, len(p.z.Entries))
	for i := range want {
		var err error
		if want[i].is, err = p.isMapped(i); err != nil {
			return nil, err
		}
	}
	return want, nil
}

// raw begins to digest the entries but those that go, or are digested later.
func (p *pkg) raw(j reading, types bool) *raw {
	r := &raw{z: p.z, extra: make([]uint16, len(p.z.Entries))}
	for _, h := range j.hashes {
		r.hashes = append(r.hashes, h.New())
	}
	for n, goes := range map[string]bool{entrySignature: true, entryTypes: types, entryBlockMap: j.blocks == nil, entryIntegrity: j.images || p.made != nil} {
		if i, ok := p.at[n]; ok && goes {
			from, to := p.z.Span(i)
			r.skip = append(r.skip, [2]int64{from, to})
		}
	}
	slices.SortFunc(r.skip, func(a, b [2]int64) int { return cmp.Compare(a[0], b[0]) })
	return r
}

// change puts together what becomes of block map and content types, nil for those that
// stay, and of the catalogue.
func (p *pkg) change(blockMap, types []byte, dropIntegrity bool) (change, error) {
	var c change
	replace := func(name string, content []byte) {
		if i, ok := p.at[name]; ok {
			c.drop = append(c.drop, i)
		}
		if content != nil {
			c.back = append(c.back, zipfile.File{Name: name, Content: content})
		}
	}
	if blockMap != nil {
		replace(entryBlockMap, blockMap)
	}
	if types != nil {
		replace(entryTypes, types)
	}
	if dropIntegrity {
		replace(entryIntegrity, nil)
	}
	for i := range p.z.Entries {
		if len(p.packages) == 0 {
			break
		}
		e := &p.z.Entries[i]
		name, _ := mapName(e.Name)
		if _, inner := p.packages[name]; inner && slices.ContainsFunc(c.drop, func(k int) bool { return p.z.Entries[k].Offset < e.Offset }) {
			return c, malformed("bundle: %.80q would move: content types and block map have to stand behind it", e.Name)
		}
	}
	return c, nil
}

// parts finishes the digests.
func (p *pkg) parts(f *found, j reading, r *raw) error {
	local, dir, tail, err := p.unsigned(f.change)
	if err != nil {
		return err
	}
	types := j.types
	if types == nil {
		types = p.types
	}
	var integrity, entry []byte
	var bareDir, bareTail []byte
	if !j.images {
		if integrity, err = p.integrity(); err != nil {
			return err
		}
	}
	stays := p.made != nil && !j.images
	if stays {
		from, to := p.z.Span(p.at[entryIntegrity])
		entry = make([]byte, to-from)
		if err := format.ReadFull(p.a, entry, from); err != nil {
			return fmt.Errorf("appx: %w", err)
		}
		if _, bareDir, bareTail, err = p.unsigned(change{drop: []int{p.at[entryIntegrity]}}); err != nil {
			return err
		}
	}
	for i, h := range j.hashes {
		x := r.hashes[i]
		if stays && len(f.change.back) == 0 { // behind other files it counts as anybody's
			f.bare[h] = [][]byte{x.Sum(nil), sum(h, bareDir, bareTail)}
		}
		x.Write(entry)
		x.Write(local)
		f.axpc[h] = x
		axbm := sum(h, f.text)
		if j.blocks != nil {
			axbm = j.blocks.sums[h]
		}
		f.parts[h] = [][]byte{x.Sum(nil), sum(h, dir, tail), sum(h, types), axbm}
		if integrity != nil {
			f.parts[h] = append(f.parts[h], sum(h, integrity))
		}
	}
	return nil
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

// checkHeaders compares what block map and bundle say of places with the local headers.
func (p *pkg) checkHeaders(want []mapped, extra []uint16, anew bool) error {
	found := 0
	for i := range p.z.Entries {
		e := &p.z.Entries[i]
		header := 30 + len(e.Name) + int(extra[i])
		if f := &want[i]; f.is && int(f.header) != header && !anew {
			return badMap("the header of %.80q has %d bytes: the block map says %d", e.Name, header, f.header)
		}
		if len(p.packages) == 0 {
			continue
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

// unsigned is what the archive without a signature ends with: new entries, directory
// and end records.
func (p *pkg) unsigned(c change) (local, dir, tail []byte, err error) {
	_, dir, tail, err = p.edit(c)
	for i := range c.back {
		if err == nil {
			var b []byte
			b, err = c.back[i].Local()
			local = append(local, b...)
		}
	}
	return local, dir, tail, err
}

// signatureFile is the signature's entry.
func signatureFile(der []byte) zipfile.File {
	return zipfile.File{Name: entrySignature, Content: append([]byte(magic), der...)}
}

// edit makes a change, takes the signature that is there out, and puts more behind it
// all. It gives directory and end records besides.
func (p *pkg) edit(c change, more ...zipfile.File) (patch *format.Patch, dir, tail []byte, err error) {
	e := p.z.Edit()
	if i, ok := p.at[entrySignature]; ok {
		e.Remove(i)
	}
	for _, i := range c.drop {
		e.Remove(i)
	}
	e.Back(c.back...)
	e.Back(more...)
	r, err := e.Apply()
	if err != nil {
		return nil, nil, nil, fmt.Errorf("appx: %w", err)
	}
	old, err := p.z.Tail()
	if err != nil {
		return nil, nil, nil, fmt.Errorf("appx: %w", err)
	}
	gone := len(c.drop)
	if _, ok := p.at[entrySignature]; ok {
		gone++
	}
	count := len(p.z.Entries) - gone + len(c.back) + len(more)
	if tail, err = endRecords(old, int64(count), int64(len(r.Directory)), r.End); err != nil {
		return nil, nil, nil, err
	}
	if len(tail) != len(r.Tail) {
		return nil, nil, nil, malformed("end records of %d bytes: want %d", len(tail), len(r.Tail))
	}
	last := &r.Patch.Edits[len(r.Patch.Edits)-1]
	copy(last.Insert[len(last.Insert)-len(tail):], tail)
	return r.Patch, r.Directory, tail, nil
}

// endRecords are the end records of an archive with other numbers: of entries, of bytes
// of the directory, and where that stands. Numbers that they leave to ZIP64's go on
// being left to those: others take such records for the sign that ZIP64's are there.
func endRecords(old []byte, count, size, offset int64) ([]byte, error) {
	out := bytes.Clone(old)
	t := out
	switch {
	case len(t) >= 76+22 && le.Uint32(t) == 0x06064b50: // ZIP64: counts, size and offset, then the record's place
		for i, n := range []int64{count, count, size, offset} {
			le.PutUint64(t[24+8*i:], uint64(n))
		}
		le.PutUint64(t[64:], uint64(offset+size))
		t = t[76:]
	case count >= 1<<16-1 || size >= 1<<32-1 || offset >= 1<<32-1:
		return nil, malformed("the archive has %d entries: with the signature it needs ZIP64 records, which it lacks", count)
	}
	if len(t) < 22 || le.Uint32(t) != 0x06054b50 || len(t) != 22+int(le.Uint16(t[20:])) {
		return nil, malformed("end records")
	}
	copy(t[4:8], "\x00\x00\x00\x00") // disks: makers leave these to ZIP64 too, which Windows does not take
	for _, f := range []struct {
		at, n int
		v     int64
	}{{8, 2, count}, {10, 2, count}, {12, 4, size}, {16, 4, offset}} {
		if b := t[f.at:][:f.n]; !bytes.Equal(b, []byte("\xff\xff\xff\xff")[:f.n]) {
			v := le.AppendUint64(nil, uint64(min(f.v, 1<<(8*f.n)-1)))
			copy(b, v)
		}
	}
	return out, nil
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
	types, err := p.newTypes(false, entrySignature)
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
	m, err := p.blockMap(hashes)
	if err != nil {
		return nil, err
	}
	f, err := p.scan(ctx, reading{blocks: m, hash: m.hash, hashes: hashes, listed: p.made != nil})
	if err != nil {
		return nil, err
	}
	if p.made != nil && !p.made.lists(m.hash, f.images) {
		return nil, ErrIntegrity
	}
	out := map[crypto.Hash][]byte{}
	for _, h := range hashes {
		if h != m.hash {
			return nil, badMap("it has another hash than a signature")
		}
		out[h] = sum(h, compose(f.parts[h]))
		if p.made != nil {
			p.made.contents[h] = sum(h, compose(f.known(h)))
		}
	}
	return out, nil
}

// known are the parts by which a package is known: without a catalogue that was made
// with the signature, which is another one each time.
func (f *found) known(h crypto.Hash) [][]byte {
	if b := f.bare[h]; b != nil {
		return [][]byte{b[0], b[1], f.parts[h][2], f.parts[h][3]}
	}
	return f.parts[h]
}

// Put replaces the signature. The catalogue that was made with it goes with it.
func (p *pkg) Put(_ context.Context, der []byte) (*format.Patch, error) {
	if len(der) > 0 {
		patch, _, _, err := p.edit(change{}, signatureFile(der))
		return patch, err
	}
	c, err := p.change(nil, nil, p.made != nil)
	if err != nil {
		return nil, err
	}
	patch, _, _, err := p.edit(c)
	return patch, err
}
