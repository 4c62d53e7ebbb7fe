package xar

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/codesign"
	"github.com/greatseal-io/greatseal/sigalg"
)

// assembled is a package's front that lacks its signatures.
type assembled struct {
	body   *body
	packed []byte // the table, as it will stand
	plain  int    // its bytes before they are packed
	number uint32 // of its hash
	sum    []byte
	rsa    int64 // bytes of the RSA signature, 0 for other keys
	cms    int64 // bytes for the CMS signature
	spec   cms.SignerSpec
	attrs  []byte
}

func assemble(p *format.Plan, id format.Identity, at time.Time) (*assembled, error) {
	b, s, t, err := decodeBody(p)
	if err != nil {
		return nil, err
	}
	if err := codesign.CheckIdentity(id, oidInstaller); err != nil {
		return nil, err
	}
	if id.Scheme.Hash() != s.hash {
		if _, ok := id.Public.(*rsa.PublicKey); ok { // one digest for both signatures
			return nil, fmt.Errorf("xar: plan has digest %s: scheme %s wants another one", p.Digest, id.Scheme)
		}
	}
	x := &assembled{body: b, number: hashNumber(s.hash)}
	if k, ok := id.Public.(*rsa.PublicKey); ok {
		x.rsa = int64(k.Size())
	}
	// Names, structure, attributes and the signature value of any key are less than
	// 2 KiB; the names of issuers are bounded by the certificates they stand in.
	x.cms = 2048 + s.reserve
	var certs [][]byte
	for _, c := range id.Chain {
		certs = append(certs, c.Raw)
		x.cms += int64(len(c.Raw))
	}
	x.cms += int64(len(id.Chain[0].RawIssuer))
	xml := t.sign(s.hash, x.rsa, x.cms, certs)
	if len(xml) > maxTable {
		return nil, malformed("table of %d bytes", len(xml))
	}
	x.packed, x.plain = store(xml), len(xml)
	x.sum = digest(s.hash, x.packed)
	x.spec = cms.SignerSpec{ContentType: cms.OIDData, ContentDigest: digest(id.Scheme.Hash(), x.sum), Digest: id.Scheme.Hash(), Scheme: id.Scheme}
	if s.time {
		when, err := codesign.SigningTime(at)
		if err != nil {
			return nil, err
		}
		x.spec.Attributes = []cms.Attribute{cms.NewAttribute(cms.OIDSigningTime, when)}
	}
	if x.attrs, err = x.spec.SignedAttributes(); err != nil {
		return nil, fmt.Errorf("xar: %w", err)
	}
	return x, nil
}

// messages are what is signed: with RSA keys the compressed table, and with all keys
// the attributes of the CMS signature over its digest.
func (x *assembled) messages() [][]byte {
	if x.rsa > 0 {
		return [][]byte{x.packed, x.attrs}
	}
	return [][]byte{x.attrs}
}

// Assemble returns the messages of both signatures, in one round.
func (Format) Assemble(p *format.Plan, id format.Identity, at time.Time, done [][]byte) ([]format.ToBeSigned, error) {
	x, err := assemble(p, id, at)
	if err != nil {
		return nil, err
	}
	ms := x.messages()
	switch len(done) {
	case len(ms):
		return nil, nil
	case 0:
	default:
		return nil, fmt.Errorf("xar: %d signatures are done: want %d", len(done), len(ms))
	}
	var out []format.ToBeSigned
	for _, m := range ms {
		out = append(out, format.ToBeSigned{Scheme: id.Scheme, Message: m})
	}
	return out, nil
}

// Attach replaces what stands before the data.
func (Format) Attach(_ context.Context, a format.Artifact, p *format.Plan, id format.Identity, at time.Time, sigs []format.Signature) (*format.Patch, error) {
	x, err := assemble(p, id, at)
	if err != nil {
		return nil, err
	}
	ms := x.messages()
	if len(sigs) != len(ms) {
		return nil, fmt.Errorf("xar: %d signatures: want %d", len(sigs), len(ms))
	}
	for i, m := range ms {
		if err := sigalg.Verify(id.Public, id.Scheme, m, sigs[i].Value); err != nil {
			return nil, fmt.Errorf("xar: signature %d does not fit the plan: %w", i, err)
		}
	}
	if a.Size() != p.Size {
		return nil, fmt.Errorf("%w: %d bytes: want %d", ErrChanged, a.Size(), p.Size)
	}
	front := make([]byte, x.body.Front)
	if err := format.ReadFull(a, front, 0); err != nil {
		return nil, fmt.Errorf("xar: %w", err)
	}
	if sum := sha256.Sum256(front); !bytes.Equal(sum[:], x.body.Sum) {
		return nil, fmt.Errorf("%w: table or signatures differ", ErrChanged)
	}
	last := sigs[len(sigs)-1]
	info := cms.SignerInfo{Spec: x.spec, Signature: last.Value, Certificate: id.Chain[0]}
	if len(last.Timestamp) > 0 {
		if err := codesign.CheckToken(last.Timestamp, last.Value); err != nil {
			return nil, err
		}
		info.Unsigned = []cms.Attribute{cms.NewAttribute(cms.OIDTimeStampToken, last.Timestamp)}
	}
	der, err := cms.Encode(cms.Content{Type: cms.OIDData}, id.Chain, info)
	if err != nil {
		return nil, fmt.Errorf("xar: %w", err)
	}
	out := append(header(x.packed, x.plain, x.number), x.sum...)
	if x.rsa > 0 {
		out = append(out, sigs[0].Value...)
	}
	if der, err = pad(der, x.cms); err != nil {
		return nil, err
	}
	return x.body.patch(p.Size, append(out, der...)), nil
}

func header(packed []byte, plain int, number uint32) []byte {
	b := be.AppendUint32(nil, magic)
	b = be.AppendUint16(b, headerSize)
	b = be.AppendUint16(b, 1)
	b = be.AppendUint64(b, uint64(len(packed)))
	b = be.AppendUint64(b, uint64(plain))
	return append(be.AppendUint32(b, number), packed...)
}

// errSpace is about a timestamp: without one a signature always fits.
var errSpace = errors.New("xar: signature does not fit the space reserved for it: use option reserve")

func pad(der []byte, space int64) ([]byte, error) {
	if int64(len(der)) > space {
		return nil, fmt.Errorf("%w: %d bytes for %d", errSpace, len(der), space)
	}
	return append(der, make([]byte, space-int64(len(der)))...), nil
}

// patch replaces what stands before the data, and takes off what follows it.
func (b *body) patch(size int64, front []byte) *format.Patch {
	p := &format.Patch{Size: size, Edits: []format.Edit{{Delete: b.Front, Insert: front}}}
	if b.Ticket > 0 {
		p.Edits = append(p.Edits, format.Edit{Offset: b.Front + b.Data, Delete: b.Ticket})
	}
	return p
}
