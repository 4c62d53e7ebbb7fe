package appx

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/authenticode"
	"github.com/greatseal-io/greatseal/format/cat"
	"github.com/greatseal-io/greatseal/format/zipfile"
	"github.com/greatseal-io/greatseal/hashstate"
)

// ErrIntegrity is wrapped for a catalogue of code that was made with the signature, and
// is not by its signer or not of the package's executables.
var ErrIntegrity = errors.New("appx: catalogue of code is not the signer's, or of another package")

// The fact about the catalogue of code.
const (
	factIntegrity  = "code-integrity"
	integrityStays = "a catalogue is in it, which is signed as it stands"
	maxIntegrity   = 4 << 20 // bytes of a catalogue that is made, with its certificates
)

// integrityMade is the fact's value where a catalogue is made.
func integrityMade(images int) string {
	return "a catalogue of " + strconv.Itoa(images) + " executables is made, and signed first"
}

// making is what the keeper makes a catalogue of, and what the package is before it is
// in it.
type making struct {
	Images    [][]byte        `cbor:"1,keyasint"` // Authenticode digests, ascending, each once
	Entries   hashstate.State `cbor:"2,keyasint"` // of AXPC, up to where the catalogue will stand
	Directory hashstate.State `cbor:"3,keyasint"` // of AXCD, up to the catalogue's record
	Count     int64           `cbor:"4,keyasint"` // entries before it
	Tail      []byte          `cbor:"5,keyasint"` // the end records, as they would be without it
}

// bare finishes AXPC and AXCD as they are without the catalogue, and refuses numbers
// that no archive has.
func (m *making) bare(h crypto.Hash) (axpc, axcd []byte, err error) {
	entries, err := m.Entries.Resume(h)
	if err != nil {
		return nil, nil, err
	}
	dir, err := m.Directory.Resume(h)
	if err != nil {
		return nil, nil, err
	}
	if m.Count < 1 || m.Count > zipfile.MaxEntries || m.Directory.Count > zipfile.MaxDirectory || m.Entries.Count > zipfile.MaxContent {
		return nil, nil, fmt.Errorf("%w: %d entries", authenticode.ErrPlan, m.Count)
	}
	tail, err := endRecords(m.Tail, m.Count, int64(m.Directory.Count), int64(m.Entries.Count))
	if err != nil {
		return nil, nil, err
	}
	if !bytes.Equal(tail, m.Tail) {
		return nil, nil, fmt.Errorf("%w: end records of another archive", authenticode.ErrPlan)
	}
	dir.Write(tail)
	return entries.Sum(nil), dir.Sum(nil), nil
}

// with is what AXPC and AXCD are once a catalogue stands in the package.
func (m *making) with(h crypto.Hash, f *zipfile.File) (axpc, axcd []byte, err error) {
	entries, err := m.Entries.Resume(h)
	if err != nil {
		return nil, nil, err
	}
	dir, err := m.Directory.Resume(h)
	if err != nil {
		return nil, nil, err
	}
	local, err := f.Local()
	if err != nil {
		return nil, nil, err
	}
	at := int64(m.Entries.Count)
	record, err := f.Record(at)
	if err != nil {
		return nil, nil, err
	}
	tail, err := endRecords(m.Tail, m.Count+1, int64(m.Directory.Count)+int64(len(record)), at+int64(len(local)))
	if err != nil {
		return nil, nil, err
	}
	entries.Write(local)
	dir.Write(record)
	dir.Write(tail)
	return entries.Sum(nil), dir.Sum(nil), nil
}

// catalogue is what the first round signs. The date of the list is the time of signing.
func (b *decoded) catalogue(at time.Time) (*authenticode.Statement, error) {
	list, err := cat.PackageList(b.hash, b.making.Images, at)
	if err != nil {
		return nil, fmt.Errorf("appx: %w", err)
	}
	return cat.PackageStatement(list, b.params), nil
}

// second is the catalogue as it goes into the package, and what the second round signs.
func (b *decoded) second(id format.Identity, der []byte) (*zipfile.File, *authenticode.Statement, error) {
	if len(der) > maxIntegrity {
		return nil, nil, malformed("catalogue of %d bytes: at most %d", len(der), maxIntegrity)
	}
	f := &zipfile.File{Name: entryIntegrity, Content: der}
	axpc, axcd, err := b.making.with(b.hash, f)
	if err != nil {
		return nil, nil, err
	}
	s, err := b.statement(id, [][]byte{axpc, axcd, b.Parts[2], b.Parts[3], sum(b.hash, der)})
	return f, s, err
}

// ownCatalogue is one that was made with the signature.
type ownCatalogue struct {
	file     []byte
	hash     crypto.Hash
	images   [][]byte               // that it lists, each once
	contents map[crypto.Hash][]byte // digests of the row without it, once they are computed
}

// findMade tells whether the catalogue that is there was made here: it is the last file
// before the signature, stored, and its list is one that [cat.PackageList] makes.
func (p *pkg) findMade() error {
	i, ok := p.at[entryIntegrity]
	last := len(p.z.Entries) - 1
	if p.der != nil {
		last--
	}
	if !ok || i != last || p.bundle || p.z.Entries[i].Method != zipfile.Stored || p.z.Entries[i].Size > maxIntegrity {
		return nil
	}
	b, err := p.z.Content(i, maxIntegrity)
	if err != nil {
		return fmt.Errorf("appx: %w", err)
	}
	if h, images, ok := cat.ReadPackageList(b); ok {
		p.made = &ownCatalogue{file: b, hash: h, images: images, contents: map[crypto.Hash][]byte{}}
	}
	return nil
}

// lists reports whether the catalogue has these executables and no others.
func (c *ownCatalogue) lists(h crypto.Hash, images [][]byte) bool {
	in := map[string]bool{}
	for _, d := range images {
		in[string(d)] = true
	}
	return h == c.hash && len(in) == len(c.images) && !slices.ContainsFunc(c.images, func(d []byte) bool { return !in[string(d)] })
}

// checkCatalogue refuses a catalogue that was made with a signature and is by nobody who
// signed the package. It has no timestamp: the one of the package's signature, which was
// made right after it, stands for both.
func (p *pkg) checkCatalogue(ctx context.Context, t format.Trust, sigs []format.SignatureInfo) error {
	if p.made == nil {
		return nil
	}
	for _, s := range sigs {
		at := t
		if !s.Time.IsZero() {
			at.Now = s.Time
		}
		r, err := cat.Format{}.Verify(ctx, format.BytesArtifact(entryIntegrity, p.made.file), at)
		if err == nil && len(r.Signatures) == 1 && r.Signatures[0].Signer.Equal(s.Signer) {
			return nil
		}
	}
	return ErrIntegrity
}
