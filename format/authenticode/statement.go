package authenticode

import (
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/tsp"
)

// Options are those that every Authenticode format has, and the given further ones.
func Options(more ...format.Option) []format.Option {
	out := append([]format.Option{
		{Name: "description", Help: "what the program is called, shown to people who run it"},
		{Name: "digest", Help: "hash of the file", Values: []string{"sha256", "sha384", "sha512"}, Default: "sha256"},
		{Name: "existing", Help: "what to do with signatures that are there: keep them beside ours, or replace them", Values: []string{"keep", "replace"}, Default: "keep"},
		{Name: "url", Help: "where people find more about the program"},
	}, more...)
	slices.SortFunc(out, func(a, b format.Option) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// CheckParams judges the free texts: they are signed and shown to people.
func CheckParams(p format.Params) error {
	d, u := p["description"], p["url"]
	switch {
	case len(d) > MaxOpus || len(u) > MaxOpus:
		return fmt.Errorf("authenticode: description and url have at most %d bytes", MaxOpus)
	case !utf8.ValidString(d) || strings.ContainsFunc(d, func(r rune) bool { return !unicode.IsPrint(r) }):
		return errors.New("authenticode: description holds characters that cannot be shown")
	case strings.ContainsFunc(u, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		return errors.New("authenticode: url holds characters other than printable ASCII")
	case u != "" && !strings.HasPrefix(u, "https://") && !strings.HasPrefix(u, "http://"):
		return errors.New("authenticode: url: want https:// or http://")
	}
	return nil
}

// Given checks the parameters of a new plan and fills in defaults.
func Given(f format.Format, p format.Params) (format.Params, crypto.Hash, error) {
	p, err := p.Check(f)
	if err != nil {
		return nil, 0, err
	}
	if err := CheckParams(p); err != nil {
		return nil, 0, err
	}
	h, err := format.HashByName(p["digest"])
	return p, h, err
}

// ParamFacts are the options in the order that plans have.
func ParamFacts(p format.Params) []format.Fact {
	out := []format.Fact{}
	for _, n := range slices.Sorted(maps.Keys(p)) {
		out = append(out, format.Fact{Name: n, Value: p[n]})
	}
	return out
}

// ReadPlan checks that p is f's, of that version, with all of f's options and no
// others, and decodes its body. What the body's numbers mean is f's to check.
func ReadPlan(f format.Format, version uint, p *format.Plan, body any) (format.Params, crypto.Hash, error) {
	if p.Format != f.Name() || p.Version != version {
		return nil, 0, fmt.Errorf("%s: plan is of format %q, version %d: want %q, %d", f.Name(), p.Format, p.Version, f.Name(), version)
	}
	if err := p.Check(); err != nil {
		return nil, 0, err
	}
	if err := format.Decode(p.Body, body); err != nil {
		return nil, 0, fmt.Errorf("%s: plan: %w", f.Name(), err)
	}
	given := format.Params{}
	for _, o := range p.Params {
		given[o.Name] = o.Value
	}
	params, h, err := Given(f, given)
	switch {
	case err != nil:
		return nil, 0, err
	case len(params) != len(p.Params):
		return nil, 0, fmt.Errorf("%w: %d options of %d are in it", ErrPlan, len(p.Params), len(params))
	case params["digest"] != p.Digest:
		return nil, 0, fmt.Errorf("%w: digest %s, option digest %s", ErrPlan, p.Digest, params["digest"])
	}
	return params, h, nil
}

// Statement is all that an Authenticode signature says: what a plan leads to.
type Statement struct {
	Type     asn1.ObjectIdentifier // of the content: cms.OIDSpcIndirectData, cms.OIDCertificateTrust
	Content  []byte                // DER
	Params   format.Params         // description and url
	Firmware bool                  // EFI firmware judges it, which does not look at usages
}

// Spec is the signer that follows from a statement and an identity: no clock is in it.
func (s *Statement) Spec(id format.Identity) (cms.SignerSpec, error) {
	if err := CheckIdentity(id, s.Firmware); err != nil {
		return cms.SignerSpec{}, err
	}
	attributes, err := signedAttributes(s.Params["description"], s.Params["url"])
	if err != nil {
		return cms.SignerSpec{}, err
	}
	contents, err := Contents(s.Content)
	if err != nil {
		return cms.SignerSpec{}, err
	}
	h := cms.DigestFor(id.Scheme)
	d := h.New()
	d.Write(contents)
	return cms.SignerSpec{ContentType: s.Type, ContentDigest: d.Sum(nil), Digest: h, Scheme: id.Scheme, Attributes: attributes}, nil
}

// Assemble returns the one message of an Authenticode signature: its signed
// attributes. The time is not in them; a timestamp tells it.
func (s *Statement) Assemble(id format.Identity, done [][]byte) ([]format.ToBeSigned, error) {
	spec, err := s.Spec(id)
	if err != nil {
		return nil, err
	}
	m, err := spec.SignedAttributes()
	if err != nil {
		return nil, fmt.Errorf("authenticode: %w", err)
	}
	switch len(done) {
	case 0:
		return []format.ToBeSigned{{Scheme: id.Scheme, Message: m}}, nil
	case 1:
		return nil, nil
	}
	return nil, fmt.Errorf("authenticode: %d signatures are done: there is one round", len(done))
}

// Seal makes the PKCS #7. It refuses signatures that do not fit the statement and
// timestamps that are about something else.
func (s *Statement) Seal(id format.Identity, sigs []format.Signature) ([]byte, error) {
	spec, err := s.Spec(id)
	if err != nil {
		return nil, err
	}
	m, err := spec.SignedAttributes()
	if err != nil {
		return nil, fmt.Errorf("authenticode: %w", err)
	}
	if len(sigs) != 1 {
		return nil, fmt.Errorf("authenticode: %d signatures: want one", len(sigs))
	}
	if err := sigalg.Verify(id.Public, id.Scheme, m, sigs[0].Value); err != nil {
		return nil, fmt.Errorf("authenticode: signature does not fit the plan: %w", err)
	}
	return s.encode(id, spec, sigs[0])
}

// Compose makes the PKCS #7 of a value that nobody has checked: for Assemble, where the
// keeper, who checks what its keys give, wants what follows from it. Attach takes Seal.
func (s *Statement) Compose(id format.Identity, value []byte) ([]byte, error) {
	spec, err := s.Spec(id)
	if err != nil {
		return nil, err
	}
	return s.encode(id, spec, format.Signature{Value: value})
}

func (s *Statement) encode(id format.Identity, spec cms.SignerSpec, sig format.Signature) ([]byte, error) {
	info := cms.SignerInfo{Spec: spec, Signature: sig.Value, Certificate: id.Chain[0]}
	if tok := sig.Timestamp; len(tok) > 0 {
		if err := CheckToken(tok, sig.Value); err != nil {
			return nil, err
		}
		info.Unsigned = []cms.Attribute{cms.NewAttribute(cms.OIDMicrosoftTimeStamp, tok)}
	}
	der, err := cms.Encode(cms.Content{Type: s.Type, Bytes: s.Content, PKCS7: true}, id.Chain, info)
	if err != nil {
		return nil, fmt.Errorf("authenticode: %w", err)
	}
	return der, nil
}

// CheckIdentity refuses keys and certificates with which no platform would accept
// the signature.
func CheckIdentity(id format.Identity, firmware bool) error {
	if len(id.Chain) == 0 || slices.Contains(id.Chain, nil) {
		return errors.New("authenticode: a certificate is needed: give the key a certificate chain")
	}
	k, err := sigalg.KeyOf(id.Public)
	if err != nil {
		return fmt.Errorf("authenticode: %w", err)
	}
	switch k {
	case sigalg.RSA3072, sigalg.RSA4096, sigalg.P256, sigalg.P384:
	default:
		return fmt.Errorf("authenticode: Windows and EFI firmware do not verify %s signatures: want RSA or ECDSA", k)
	}
	if !id.Scheme.Fits(k) {
		return fmt.Errorf("authenticode: scheme %q does not fit a key of %s", id.Scheme, k)
	}
	leaf := id.Chain[0]
	pub, err := cms.PublicKey(leaf)
	if err != nil {
		return err
	}
	if eq, ok := pub.(interface{ Equal(crypto.PublicKey) bool }); !ok || !eq.Equal(id.Public) {
		return fmt.Errorf("authenticode: certificate %q is not of the key that signs", leaf.Subject)
	}
	if !firmware && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageCodeSigning) {
		return fmt.Errorf("authenticode: certificate %q is not for code signing", leaf.Subject)
	}
	return nil
}

// CheckToken refuses a timestamp that is about something else or that does not
// verify with the certificate in it. Whether its authority is trusted is for
// verifiers to say.
func CheckToken(der, value []byte) error {
	t, err := tsp.ParseToken(der)
	if err != nil {
		return fmt.Errorf("authenticode: timestamp: %w", err)
	}
	if _, err := t.VerifySignature(imprintOf(value)); err != nil {
		return fmt.Errorf("authenticode: timestamp: %w", err)
	}
	return nil
}

// imprintOf gives the digests that a timestamp over value may be about.
func imprintOf(value []byte) func(crypto.Hash) ([]byte, error) {
	return func(h crypto.Hash) ([]byte, error) {
		if _, err := DigestOID(h); err != nil {
			return nil, err
		}
		d := h.New()
		d.Write(value)
		return d.Sum(nil), nil
	}
}
