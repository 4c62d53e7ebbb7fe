package codesign

import (
	"bytes"
	"crypto"
	"fmt"
	"strconv"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
)

// Signature is a parsed signature. Its slices point into what was parsed.
type Signature struct {
	Directories  []*Directory // the one under the CMS signature first
	Requirements []byte       // a requirement set, with magic and length; or nil
	Entitlements []byte       // the property list, without magic and length; or nil
	DER          []byte       // the same in DER; or nil
	Ticket       []byte       // of Apple's notary, stapled; or nil
	CMS          *cms.SignedData
	BER          bool // the CMS signature was not in DER
	places       []place
	size         int64 // with the zeros at its end
}

// Parse reads a signature and the zeros that follow it.
func Parse(b []byte) (*Signature, error) {
	if len(b) > MaxSize {
		return nil, malformed("%d bytes: at most %d", len(b), MaxSize)
	}
	ps, rest, err := readIndex(b, magicEmbedded)
	if err != nil {
		return nil, err
	}
	for _, c := range rest {
		if c != 0 {
			return nil, malformed("bytes after the signature that are not zero")
		}
	}
	s := &Signature{places: ps, size: int64(len(b))}
	for i, p := range ps {
		if err := s.add(i, p); err != nil {
			return nil, err
		}
	}
	if len(s.Directories) == 0 {
		return nil, malformed("no CodeDirectory")
	}
	return s, nil
}

func (s *Signature) add(i int, p place) error {
	magic, data := be.Uint32(p.blob), p.blob[8:]
	want := uint32(0)
	switch n := p.number; {
	case n == placeDirectory || n >= placeAlternate && n < placeAlternate+placeAlternates:
		if (n == placeDirectory) != (i == 0) {
			return malformed("the first blob is not the CodeDirectory")
		}
		d, err := parseDirectory(p.blob)
		if err != nil {
			return err
		}
		s.Directories = append(s.Directories, d)
		return nil
	case n == SlotRequirements:
		s.Requirements = p.blob
		return CheckRequirements(p.blob)
	case n == SlotEntitlements:
		want, s.Entitlements = magicEntitlements, data
	case n == SlotEntitlementsDER:
		want, s.DER = magicEntitlementsDER, data
	case n == placeTicket:
		s.Ticket = p.blob
		return nil
	case n == placeSignature:
		want = magicWrapper
		if len(data) == 0 {
			break // as ad-hoc signatures have it
		}
		der, rest, err := normalize(data, 0)
		if err != nil {
			return err
		}
		if len(rest) > 0 {
			return malformed("%d bytes after the CMS signature", len(rest))
		}
		s.BER = !bytes.Equal(der, data)
		if s.CMS, err = cms.Parse(der); err != nil {
			return fmt.Errorf("codesign: %w", err)
		}
		if !s.CMS.Type.Equal(cms.OIDData) || s.CMS.Content != nil || len(s.CMS.Signers) != 1 {
			return malformed("the CMS signature is not one detached signature over data")
		}
	default:
		return malformed("blob %#x is of no kind that is known", n)
	}
	if magic != want {
		return malformed("blob %#x has magic number %#x", p.number, magic)
	}
	return nil
}

// Signed says whether somebody made this signature; linkers make ones without.
func (s *Signature) Signed() bool { return s.CMS != nil }

// Best is the CodeDirectory with the strongest hash: the one to believe. The error
// is ErrWeak when there is none with SHA-256 or SHA-384.
func (s *Signature) Best() (*Directory, error) {
	var best *Directory
	for _, d := range s.Directories {
		if (d.Type == typeSHA256 || d.Type == typeSHA384) && (best == nil || d.Type > best.Type) {
			best = d
		}
	}
	if best == nil {
		return nil, fmt.Errorf("%w: no CodeDirectory with SHA-256 or SHA-384", ErrWeak)
	}
	return best, nil
}

// Hash is that of the CodeDirectory: the name by which Apple's systems know code.
func (d *Directory) sum() []byte { return Digest(d.Hash, d.Raw) }

// Describe is what a signature says of itself, for people.
func (s *Signature) Describe() []format.Fact {
	d, err := s.Best()
	if err != nil {
		d = s.Directories[0]
	}
	out := []format.Fact{fact("identifier", d.Identifier)}
	if d.Team != "" {
		out = append(out, fact("team", d.Team))
	}
	if d.Hash != 0 && d.Hash != crypto.SHA1 {
		out = append(out, fact("cdhash", fmt.Sprintf("%x", d.sum()[:20])))
	}
	out = append(out, fact("flags", FlagNames(d.Flags)))
	if d.Runtime != 0 {
		out = append(out, fact("runtime", versionText(d.Runtime)))
	}
	if s.Entitlements != nil {
		es, err := EntitlementFacts(s.Entitlements)
		if err != nil {
			es = []format.Fact{fact("entitlements", "not readable")}
		}
		out = append(out, es...)
	}
	if s.Ticket != nil {
		out = append(out, fact("notary ticket", strconv.Itoa(len(s.Ticket))+" bytes"))
	}
	return out
}

func versionText(v uint32) string {
	return fmt.Sprintf("%d.%d.%d", v>>16, v>>8&0xff, v&0xff)
}
