package apk

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/single"
	"github.com/greatseal-io/greatseal/sigalg"
)

// NameV4 is the word for APK Signature Scheme v4 in charters and plans.
const NameV4 = "apk-v4"

// SuffixV4 is that of the file with the signature.
const SuffixV4 = ".idsig"

const (
	bodyVersionV4 = 1
	v4Version     = 2 // of the file's layout
	v4SHA256      = 1
	v4Log2Page    = 12
	// maxInfos is what the kernel takes of the parts before the tree, in bytes.
	maxInfos = 7168
)

// V4 is APK Signature Scheme v4: the root of a hash tree over a package that is signed
// already, in a file beside it, for installing while the package is still being loaded.
//
// Signed are the package's size, the root, the digest that scheme v3 (or v2) states, and
// the certificate. The signer is the one of scheme v3; where there is v3.1 too, its signer
// signs a second time, both in one round.
//
// The file is: version (2), hashing info, signing info and the tree, each of the latter
// after its length; numbers are little-endian.
//
// A caller may not conclude from a plan that the package's own signatures are right:
// Verify judges them along.
type V4 struct{}

// NewV4 returns the format.
func NewV4() format.Format { return V4{} }

var (
	_ format.Hybrid   = V4{}
	_ format.Detached = V4{}
)

// bodyV4 is all that a tree follows from.
type bodyV4 struct {
	Leaves  []byte `cbor:"1,keyasint"` // SHA-256 of each page of 4 096 bytes
	Digest  []byte `cbor:"2,keyasint"` // of the package, as scheme v3 or v2 states it
	Signers []who  `cbor:"3,keyasint"` // one, or two with scheme v3.1
}

// who is a signer by its certificate.
type who struct {
	Scheme      uint32 `cbor:"1,keyasint"` // 0, or v3.1's identifier
	Certificate []byte `cbor:"2,keyasint"` // SHA-256
}

// Name is "apk-v4".
func (V4) Name() string { return NameV4 }

// MaxKeys is two: the signers of schemes v3 and v3.1.
func (V4) MaxKeys() int { return 2 }

// Options are none.
func (V4) Options() []format.Option { return nil }

// Suffixes is that of the file with the signature.
func (V4) Suffixes() []string { return []string{SuffixV4} }

// Detect knows the file with the signature. The user names the format of packages: they
// are signed under other schemes first.
func (V4) Detect(a format.Artifact) bool {
	want := append(le.AppendUint32(nil, v4Version), prefix(hashing(make([]byte, sha256.Size)))...)
	want = want[:len(want)-sha256.Size]
	got := make([]byte, len(want))
	return format.ReadFull(a, got, 0) == nil && bytes.Equal(got, want)
}

// Plan reads a once.
func (f V4) Plan(ctx context.Context, a format.Artifact, params format.Params) (*format.Plan, error) {
	if _, err := params.Check(f); err != nil {
		return nil, err
	}
	r, err := open(a)
	if err != nil {
		return nil, err
	}
	m, err := r.readManifest()
	if err != nil {
		return nil, err
	}
	b := bodyV4{}
	signers, digest, err := r.v4Signers()
	if err != nil {
		return nil, err
	}
	b.Digest = digest
	for _, s := range signers {
		d := sha256.Sum256(s.cert.Raw)
		b.Signers = append(b.Signers, who{s.id, d[:]})
	}
	if b.Leaves, err = leaves(ctx, a); err != nil {
		return nil, err
	}
	_, root := tree(b.Leaves)
	enc, err := format.Encode(b)
	if err != nil {
		return nil, fmt.Errorf("apk: plan: %w", err)
	}
	p := &format.Plan{
		Format: NameV4, Version: bodyVersionV4, Digest: "sha256", Size: r.Size, Content: root,
		Params: []format.Fact{}, Facts: r.facts(m), Body: enc,
	}
	return p, p.Check()
}

// v4Signer is who has to sign.
type v4Signer struct {
	id   uint32
	cert *x509.Certificate
}

// v4Signers are the signers of schemes v3 (or v2) and v3.1, and the digest that the
// first of them states: the strongest.
func (r *archive) v4Signers() ([]v4Signer, []byte, error) {
	list, err := r.schemes()
	if err != nil {
		return nil, nil, err
	}
	var out []v4Signer
	var digest []byte
	for _, s := range list {
		id := uint32(0)
		if s.id == idV31 {
			id = idV31
		}
		if len(s.signers) != 1 {
			return nil, nil, fmt.Errorf("apk: scheme v4 goes with one signer: %s has %d", s.label, len(s.signers))
		}
		x := s.signers[0]
		if s.id == idV3 {
			out = nil // v3's signer, where there is one
		}
		out = append(out, v4Signer{id, x.certs[0]})
		if s.id != idV31 {
			if digest = x.content(crypto.SHA512); digest == nil {
				digest = x.content(crypto.SHA256)
			}
		}
	}
	if digest == nil {
		return nil, nil, fmt.Errorf("apk: scheme v4 goes with v2 or v3: %w", format.ErrUnsigned)
	}
	return out, digest, nil
}

// info is one signer's part of the file.
type v4Info struct {
	digest, cert, extra, key []byte
	alg                      uint32
	value                    []byte
}

// hashing is the hashing info.
func hashing(root []byte) []byte {
	b := le.AppendUint32(nil, v4SHA256)
	b = append(b, v4Log2Page)
	return append(b, prefix(nil, root)...)
}

// signedV4 is what a signer signs: its own length first.
func signedV4(size int64, hashing []byte, i *v4Info) []byte {
	b := le.AppendUint64(nil, uint64(size))
	b = append(b, hashing...)
	b = append(b, prefix(i.digest, i.cert, i.extra)...)
	return append(le.AppendUint32(nil, uint32(len(b)+4)), b...)
}

func (i *v4Info) encode() []byte {
	b := prefix(i.digest, i.cert, i.extra, i.key)
	return append(le.AppendUint32(b, i.alg), prefix(i.value)...)
}

// derivedV4 is what a plan and an identity lead to.
type derivedV4 struct {
	tree, hashing []byte
	keys          []format.Identity
	by            []int // places in keys, by signer
	infos         []*v4Info
	ids           []uint32
	size          int64
}

func (f V4) derive(p *format.Plan, id format.Identity) (*derivedV4, error) {
	if _, err := single.Frame(f, p, bodyVersionV4); err != nil {
		return nil, err
	}
	var b bodyV4
	if err := format.Decode(p.Body, &b); err != nil {
		return nil, fmt.Errorf("apk: plan: %w", err)
	}
	bad := func(why string) (*derivedV4, error) { return nil, fmt.Errorf("%w: %s", ErrPlan, why) }
	switch {
	case p.Digest != "sha256" || p.Size < 1 || p.Size > maxSize:
		return bad("digest or size")
	case int64(len(b.Leaves)) != (p.Size+pageSize-1)/pageSize*sha256.Size:
		return bad("another number of pages than the package has")
	case len(b.Digest) != sha256.Size && len(b.Digest) != sha512.Size:
		return bad("digest of the package")
	case len(b.Signers) < 1 || len(b.Signers) > 2 || b.Signers[0].Scheme != 0 || len(b.Signers) == 2 && b.Signers[1].Scheme != idV31:
		return bad("signers")
	}
	if err := format.CheckKeys(f, len(id.Signers())); err != nil {
		return nil, err
	}
	d := &derivedV4{keys: id.Signers(), size: p.Size}
	var root []byte
	d.tree, root = tree(b.Leaves)
	if !bytes.Equal(root, p.Content) {
		return bad("content is not the root of the tree")
	}
	d.hashing = hashing(root)
	for _, w := range b.Signers {
		by := -1
		for k := range d.keys {
			if len(d.keys[k].Chain) == 0 || d.keys[k].Chain[0] == nil {
				continue
			}
			if c := sha256.Sum256(d.keys[k].Chain[0].Raw); bytes.Equal(c[:], w.Certificate) {
				by = k
			}
		}
		if by < 0 {
			return nil, fmt.Errorf("apk: scheme v4 goes with the keys that signed the package: the one of certificate %x does not sign", w.Certificate)
		}
		k := &d.keys[by]
		if err := checkKey(k, k.Scheme.Hash()); err != nil {
			return nil, err
		}
		d.by, d.ids = append(d.by, by), append(d.ids, w.Scheme)
		d.infos = append(d.infos, &v4Info{digest: b.Digest, cert: k.Chain[0].Raw, key: k.Chain[0].RawSubjectPublicKeyInfo, alg: algorithmOf(k.Scheme)})
	}
	if len(d.keys) > len(d.infos) {
		return nil, errors.New("apk: more keys than the package has signers")
	}
	return d, nil
}

func (d *derivedV4) round() []format.ToBeSigned {
	var out []format.ToBeSigned
	for i, k := range d.by {
		out = append(out, format.ToBeSigned{Scheme: d.keys[k].Scheme, Message: signedV4(d.size, d.hashing, d.infos[i]), Key: k})
	}
	return out
}

// Assemble returns what each signer signs, in one round.
func (f V4) Assemble(p *format.Plan, id format.Identity, _ time.Time, done [][]byte) ([]format.ToBeSigned, error) {
	d, err := f.derive(p, id)
	if err != nil {
		return nil, err
	}
	switch len(done) {
	case 0:
		return d.round(), nil
	case len(d.infos):
		return nil, nil
	}
	return nil, fmt.Errorf("apk: %d signatures: want %d", len(done), len(d.infos))
}

// Attach makes the .idsig.
func (f V4) Attach(_ context.Context, a format.Artifact, p *format.Plan, id format.Identity, _ time.Time, sigs []format.Signature) (*format.Patch, error) {
	d, err := f.derive(p, id)
	if err != nil {
		return nil, err
	}
	if a.Size() != p.Size {
		return nil, fmt.Errorf("%w: %d bytes: want %d", ErrChanged, a.Size(), p.Size)
	}
	round := d.round()
	if len(sigs) != len(round) {
		return nil, fmt.Errorf("apk: %d signatures: want %d", len(sigs), len(round))
	}
	var infos []byte
	for i, t := range round {
		if len(sigs[i].Timestamp) > 0 {
			return nil, errors.New("apk: the format has no place for a timestamp")
		}
		if err := t.Verify(d.keys[t.Key].Public, sigs[i].Value); err != nil {
			return nil, fmt.Errorf("apk: signature %d does not fit plan and key: %w", i, err)
		}
		d.infos[i].value = sigs[i].Value
		if i == 0 {
			infos = d.infos[i].encode()
			continue
		}
		infos = append(le.AppendUint32(infos, d.ids[i]), prefix(d.infos[i].encode())...)
	}
	if len(infos) > maxInfos {
		return nil, fmt.Errorf("apk: certificates and signatures of %d bytes: Android takes %d", len(infos), maxInfos)
	}
	out := append(le.AppendUint32(nil, v4Version), prefix(d.hashing, infos, d.tree)...)
	return &format.Patch{Size: p.Size, Sidecar: &format.Sidecar{Suffix: SuffixV4, Data: out}}, nil
}

// parsedV4 is a .idsig.
type parsedV4 struct {
	hashing, root, tree []byte
	infos               []*v4Info
	ids                 []uint32
}

func parseInfo(r *reader) *v4Info {
	i := &v4Info{digest: r.prefixed(), cert: r.prefixed(), extra: r.prefixed(), key: r.prefixed()}
	i.alg = r.u32()
	i.value = r.prefixed()
	return i
}

// parseV4 reads a .idsig.
func parseV4(b []byte) (*parsedV4, error) {
	r := reader{b: b}
	version := r.u32()
	p := &parsedV4{hashing: r.prefixed()}
	infos := reader{b: r.prefixed()}
	p.tree = r.prefixed()
	if !r.end() || version != v4Version || len(infos.b) > maxInfos {
		return nil, malformed(".idsig: version %d, or parts that do not fit", version)
	}
	h := reader{b: p.hashing}
	alg := h.u32()
	if len(h.b) < 1 || alg != v4SHA256 || h.b[0] != v4Log2Page {
		return nil, malformed(".idsig: want a tree of SHA-256 over pages of 4096 bytes")
	}
	h.b = h.b[1:]
	salt := h.prefixed()
	p.root = h.prefixed()
	if !h.end() || len(salt) != 0 || len(p.root) != sha256.Size {
		return nil, malformed(".idsig: hashing info, or a salt")
	}
	p.infos, p.ids = append(p.infos, parseInfo(&infos)), append(p.ids, 0)
	for len(infos.b) > 0 && len(p.infos) < 2 {
		p.ids = append(p.ids, infos.u32())
		one := reader{b: infos.prefixed()}
		p.infos = append(p.infos, parseInfo(&one))
		infos.bad = infos.bad || !one.end()
	}
	if !infos.end() {
		return nil, malformed(".idsig: signing info")
	}
	return p, nil
}

// Verify checks t.Detached over a: the tree, the signers, that they are those of the
// package's other schemes, and those schemes themselves.
func (f V4) Verify(ctx context.Context, a format.Artifact, t format.Trust) (*format.Report, error) {
	if len(t.Detached) == 0 {
		return nil, errors.New("apk: no detached signature (" + SuffixV4 + ") was given")
	}
	p, err := parseV4(t.Detached)
	if err != nil {
		return nil, err
	}
	own := t
	own.Detached = nil
	rep, err := Format{}.Verify(ctx, a, own)
	if err != nil {
		return nil, err
	}
	r, err := open(a)
	if err != nil {
		return nil, err
	}
	signers, digest, err := r.v4Signers()
	if err != nil {
		return nil, err
	}
	list, err := leaves(ctx, a)
	if err != nil {
		return nil, err
	}
	all, root := tree(list)
	if !bytes.Equal(root, p.root) || !bytes.Equal(all, p.tree) {
		return nil, fmt.Errorf("%w: hash tree", ErrDigest)
	}
	if len(p.infos) != len(signers) {
		return nil, fmt.Errorf("%w: %d signers of scheme v4, want %d", ErrStripped, len(p.infos), len(signers))
	}
	rep.Format, rep.Signatures = NameV4, nil
	for i, x := range p.infos {
		c := signers[i].cert
		if p.ids[i] != signers[i].id || !bytes.Equal(x.cert, c.Raw) || !bytes.Equal(x.key, c.RawSubjectPublicKeyInfo) {
			return nil, fmt.Errorf("%w: scheme v4 has another signer", ErrContradiction)
		}
		if !bytes.Equal(x.digest, digest) {
			return nil, fmt.Errorf("%w: scheme v4 states another digest of the package", ErrDigest)
		}
		pub, err := cms.PublicKey(c)
		if err != nil {
			return nil, fmt.Errorf("apk: %w", err)
		}
		s := schemeOf(x.alg)
		if s == "" {
			return nil, fmt.Errorf("%w: algorithm %#x", sigalg.ErrSignature, x.alg)
		}
		if err := sigalg.Verify(pub, s, signedV4(r.Size, p.hashing, x), x.value); err != nil {
			return nil, fmt.Errorf("apk: v4: %w", err)
		}
		info := x.report(i, c)
		info.Content = root
		rep.Signatures = append(rep.Signatures, info)
	}
	return rep, nil
}

func (i *v4Info) report(index int, c *x509.Certificate) format.SignatureInfo {
	info := format.SignatureInfo{
		Index: index, Label: "v4", Scheme: schemeOf(i.alg), Digest: "sha256", Value: i.value,
		Signer: c, Subject: c.Subject.String(), Issuer: c.Issuer.String(),
		Covers: []string{"every byte of the package, by the root of a hash tree"},
	}
	info.Key, _ = cms.PublicKey(c)
	return info
}

// Inspect says what a package is, or a file with a signature; neither is judged.
func (f V4) Inspect(ctx context.Context, a format.Artifact) (*format.Report, error) {
	if f.Detect(a) {
		return inspectV4(a)
	}
	r, err := open(a)
	if err != nil {
		return nil, err
	}
	m, err := r.readManifest()
	if err != nil {
		return nil, err
	}
	return &format.Report{Format: NameV4, Size: r.Size, Facts: r.facts(m), Signatures: []format.SignatureInfo{}}, ctx.Err()
}

// inspectV4 reads a file with a signature.
func inspectV4(a format.Artifact) (*format.Report, error) {
	if a.Size() > maxSize/100 { // the tree of the largest package
		return nil, malformed(".idsig of %d bytes", a.Size())
	}
	b := make([]byte, a.Size())
	if err := format.ReadFull(a, b, 0); err != nil {
		return nil, fmt.Errorf("apk: %w", err)
	}
	p, err := parseV4(b)
	if err != nil {
		return nil, err
	}
	rep := &format.Report{Format: NameV4, Size: a.Size(), Signatures: []format.SignatureInfo{}}
	for i, x := range p.infos {
		c, err := x509.ParseCertificate(x.cert)
		if err != nil {
			return nil, malformed(".idsig: certificate: %v", err)
		}
		info := x.report(i, c)
		info.Content = p.root
		rep.Signatures = append(rep.Signatures, info)
	}
	return rep, nil
}
