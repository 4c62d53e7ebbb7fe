package authenticode

import (
	"bytes"
	"encoding/asn1"
	"errors"
	"fmt"
	"strings"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
)

// Signature is one SignedData: the outer one of a PKCS #7, or nested in it.
type Signature struct {
	Label  string // "primary", "nested 1"
	Nested int    // 0: the outer one; n: the nth nested in it
	SD     *cms.SignedData
	Signer *cms.ParsedSigner
}

// ParseNested reads a PKCS #7 whose content is of that type, and what is nested in
// it; labels count nested signatures from first+1. A signature nested in a nested
// one is refused: Windows does not look there.
func ParseNested(der []byte, typ asn1.ObjectIdentifier, label string, first int) ([]Signature, error) {
	s, err := parseOne(der, typ, label)
	if err != nil {
		return nil, err
	}
	out := []Signature{*s}
	for _, a := range s.Signer.Unsigned {
		if !a.Type.Equal(cms.OIDNestedSignature) {
			continue
		}
		for _, v := range a.Values {
			if first+len(out) > MaxNested {
				return nil, malformed("more than %d nested signatures", MaxNested)
			}
			n, err := parseOne(v.FullBytes, typ, fmt.Sprintf("nested %d", first+len(out)))
			if err != nil {
				return nil, err
			}
			if _, deeper := n.Signer.UnsignedAttribute(cms.OIDNestedSignature); deeper {
				return nil, malformed("%s signature has signatures nested in it", n.Label)
			}
			n.Nested = len(out)
			out = append(out, *n)
		}
	}
	return out, nil
}

func parseOne(der []byte, typ asn1.ObjectIdentifier, label string) (*Signature, error) {
	if len(der) > MaxPKCS7 {
		return nil, malformed("%s signature has %d bytes: at most %d", label, len(der), MaxPKCS7)
	}
	sd, err := cms.Parse(der)
	if err != nil {
		return nil, fmt.Errorf("authenticode: %s signature: %w", label, err)
	}
	switch {
	case !sd.Type.Equal(typ):
		return nil, fmt.Errorf("authenticode: %s signature: content is of type %v, not Authenticode's", label, sd.Type)
	case !sd.PKCS7 || sd.ContentRaw == nil:
		return nil, fmt.Errorf("authenticode: %s signature: content is not in the form of PKCS #7", label)
	case len(sd.Signers) != 1:
		return nil, fmt.Errorf("authenticode: %s signature: %d signers: want one", label, len(sd.Signers))
	}
	return &Signature{Label: label, SD: sd, Signer: sd.Signers[0]}, nil
}

// SignerText names the certificate that a signature claims, for people.
func (s *Signature) SignerText() string {
	text := "certificate is not in the signature"
	if c := s.Signer.Certificate(); c != nil {
		text = PlainText(c.Subject.String())
	}
	if len(text) > 1024 {
		text = strings.TrimSpace(strings.ToValidUTF8(text[:1024], ""))
	}
	return s.Label + ": " + text
}

// Timestamp gives the token beside a signature, nil when there is none.
func (s *Signature) Timestamp() ([]byte, error) {
	var out []byte
	for _, a := range s.Signer.Unsigned {
		if !a.Type.Equal(cms.OIDMicrosoftTimeStamp) {
			continue
		}
		if out != nil || len(a.Values) != 1 {
			return nil, fmt.Errorf("authenticode: %s signature has more than one timestamp", s.Label)
		}
		out = a.Values[0].FullBytes
	}
	return out, nil
}

// OpenAttributes names the unsigned attributes that nothing covers.
func (s *Signature) OpenAttributes() []string {
	var out []string
	for _, a := range s.Signer.Unsigned {
		switch {
		case a.Type.Equal(cms.OIDMicrosoftTimeStamp):
		case a.Type.Equal(cms.OIDNestedSignature) && s.Nested == 0:
		default:
			out = append(out, fmt.Sprintf("unsigned attribute %v", a.Type))
		}
	}
	return out
}

// Nest puts der into outer; an empty outer gives der alone.
func Nest(outer, der []byte, typ asn1.ObjectIdentifier) ([]byte, error) {
	if len(outer) == 0 {
		return der, nil
	}
	sigs, err := ParseNested(outer, typ, "primary", 0)
	if err != nil {
		return nil, err
	}
	if len(sigs) > MaxNested {
		return nil, fmt.Errorf("authenticode: there are %d nested signatures already: no more fit", MaxNested)
	}
	out, err := cms.AddUnsigned(outer, 0, cms.NewAttribute(cms.OIDNestedSignature, der))
	if err != nil {
		return nil, fmt.Errorf("authenticode: nest the signature: %w", err)
	}
	return out, nil
}

// Find picks the signature whose value was stamped.
func Find(sigs []Signature, target format.StampTarget) (int, error) {
	at := -1
	for i := range sigs {
		if bytes.Equal(sigs[i].Signer.Signature, target.Message) && (at < 0 || i == target.Index) {
			at = i
		}
	}
	if at < 0 {
		return 0, errors.New("authenticode: no signature has the value that was stamped")
	}
	tok, err := sigs[at].Timestamp()
	if err == nil && tok != nil {
		err = fmt.Errorf("authenticode: %s signature has a timestamp already", sigs[at].Label)
	}
	return at, err
}

// AddToken adds a timestamp to s, which stands in outer or is outer.
func AddToken(outer []byte, s *Signature, token []byte) ([]byte, error) {
	if err := CheckToken(token, s.Signer.Signature); err != nil {
		return nil, err
	}
	der, err := cms.AddUnsigned(s.SD.Raw, 0, cms.NewAttribute(cms.OIDMicrosoftTimeStamp, token))
	if err != nil {
		return nil, fmt.Errorf("authenticode: timestamp: %w", err)
	}
	if s.Nested == 0 {
		return der, nil
	}
	return editNested(outer, func(n int, old []byte) []byte {
		if n == s.Nested {
			return der
		}
		return old
	})
}

// Unnest returns outer without the signature that has this number; where that is
// the outer one itself, the first nested one takes its place and the others are
// nested in it. Without signatures left the result is empty.
func Unnest(outer []byte, nested int, typ asn1.ObjectIdentifier) ([]byte, error) {
	sigs, err := ParseNested(outer, typ, "primary", 0)
	switch {
	case err != nil:
		return nil, err
	case nested < 0 || nested >= len(sigs):
		return nil, fmt.Errorf("authenticode: signature %d of %d", nested, len(sigs))
	case nested > 0:
		return editNested(outer, func(n int, old []byte) []byte {
			if n == nested {
				return nil
			}
			return old
		})
	case len(sigs) == 1:
		return nil, nil
	}
	out := sigs[1].SD.Raw
	for _, s := range sigs[2:] {
		if out, err = Nest(out, s.SD.Raw, typ); err != nil {
			return nil, err
		}
	}
	return out, nil
}
