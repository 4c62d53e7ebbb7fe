// Package rpm is the format "rpm": signatures of RPM packages (format version 4), as
// `rpmsign` makes them and `rpmkeys -K` checks them.
//
// A package is a lead, a header of signatures, the header, and the payload. The
// signature is an OpenPGP one over the header, which has the payload's digest. A plan is
// the state of the hash after the header. With the option "v3" a second signature is made
// that covers header and payload, as rpm before 4.14 wants it.
//
// Invariants:
//
//  1. A header without a digest of the payload is not planned, nor one with the digest
//     of another payload: the signature would be good for a payload that nobody saw.
//  2. The header is one immutable region; entries outside of it are refused, because
//     rpm reads them and no signature covers them.
//  3. With two signatures, Content is the digest over the digests of both contents:
//     neither state can be exchanged under an endorsed Content.
//  4. The signature goes into the space that rpmbuild reserved; as long as it fits no
//     other byte of the file moves. Signatures of other kinds of key stay.
//  5. Verify wants the payload to have its digest, every digest of the signature header
//     to be right, and every signature there to be by a trusted key.
//
// A caller may not conclude that what a package runs as it is installed is harmless, or
// that the file's name is the package's: facts have what the header says. Nor that the
// payload which was read is the only one that rpm takes: where the header has a second
// digest, that of the payload before it was compressed ("payload-digest-alt"), rpm takes
// a payload with either, and nothing here unpacks the payload to compare them.
package rpm

import (
	"bytes"
	"context"
	"crypto"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/pgpsig"
	"github.com/greatseal-io/greatseal/openpgp"
	"github.com/greatseal-io/greatseal/sigalg"
)

// Name is the format's word in charters and plans.
const Name = "rpm"

// Format is the format; its zero value is ready.
type Format struct{ format.OneRound }

// New returns the format. It is a format.Remover, Extractor and Lister too.
func New() format.Format { return Format{} }

var (
	_ format.Remover   = Format{}
	_ format.Extractor = Format{}
	_ format.Lister    = Format{}
)

// Name is "rpm".
func (Format) Name() string { return Name }

// Options are those of the key, but for its version: rpm reads version 4.
func (Format) Options() []format.Option {
	out := []format.Option{
		{Name: "replace", Help: "replace a signature of the same kind of key", Values: []string{"false", "true"}, Default: "false"},
		{Name: "v3", Help: "a second signature over header and payload, for rpm before 4.14", Values: []string{"false", "true"}, Default: "false"},
	}
	for _, o := range pgpsig.Options() {
		if o.Name != "key-version" {
			out = append(out, o)
		}
	}
	return out
}

// Detect is true for a package that begins with a lead and a header of signatures.
func (Format) Detect(a format.Artifact) bool {
	b := make([]byte, leadSize+introSize)
	if format.ReadFull(a, b, 0) != nil || checkLead(b) != nil {
		return false
	}
	_, _, err := intro(b[leadSize:], maxSignature)
	return err == nil
}

// checkLead refuses a lead that is not of a package with a header of signatures. Its
// name, architecture and operating system are what rpm ignores.
func checkLead(b []byte) error {
	if len(b) < leadSize || string(b[:4]) != leadMagic || b[4] != 3 || b[5] != 0 || binary.BigEndian.Uint16(b[6:]) > 1 ||
		binary.BigEndian.Uint16(b[78:]) != leadSignatures || !zero(b[80:leadSize]) {
		return errors.New("rpm: lead is not of a package of version 3 or 4")
	}
	return nil
}

func zero(b []byte) bool { return !slices.ContainsFunc(b, func(c byte) bool { return c != 0 }) }

// head is what stands before the payload.
type head struct {
	raw     []byte // lead, signature header, padding
	sig     *header
	main    *header
	mainRaw []byte
}

// begin is the offset of the header, payload that of the payload.
func (h *head) begin() int64   { return int64(len(h.raw)) }
func (h *head) payload() int64 { return h.begin() + h.main.size }

// readSignatures reads lead and signature header.
func readSignatures(a format.Artifact) (*head, error) {
	b := make([]byte, leadSize+introSize)
	if err := format.ReadFull(a, b, 0); err != nil {
		return nil, fmt.Errorf("rpm: %w", err)
	}
	if err := checkLead(b); err != nil {
		return nil, err
	}
	_, n, err := intro(b[leadSize:], maxSignature)
	if err != nil {
		return nil, err
	}
	padded := (leadSize + n + 7) &^ 7
	if padded > a.Size() {
		return nil, fmt.Errorf("%w: it is longer than the file", errHeader)
	}
	h := &head{raw: make([]byte, padded)}
	if err := format.ReadFull(a, h.raw, 0); err != nil {
		return nil, fmt.Errorf("rpm: %w", err)
	}
	if !zero(h.raw[leadSize+n:]) {
		return nil, fmt.Errorf("%w: padding of the signatures", errHeader)
	}
	h.sig, err = parseHeader(h.raw[leadSize:leadSize+n], tagRegionSig)
	return h, err
}

// readHead reads everything before the payload.
func readHead(ctx context.Context, a format.Artifact) (*head, error) {
	h, err := readSignatures(a)
	if err != nil {
		return nil, err
	}
	b := make([]byte, introSize)
	if err := format.ReadFull(a, b, h.begin()); err != nil {
		return nil, fmt.Errorf("rpm: %w", err)
	}
	_, n, err := intro(b, maxHeader)
	if err != nil {
		return nil, err
	}
	if n > a.Size()-h.begin() {
		return nil, fmt.Errorf("%w: it is longer than the file", errHeader)
	}
	var buf bytes.Buffer
	if err := pgpsig.Read(ctx, a, h.begin(), n, &buf); err != nil {
		return nil, fmt.Errorf("rpm: %w", err)
	}
	h.mainRaw = buf.Bytes()
	h.main, err = parseHeader(h.mainRaw, tagRegion)
	return h, err
}

// payloadDigest is what the header says of the payload.
func (h *head) payloadDigest() (crypto.Hash, []byte, error) {
	algo, ok := h.main.number(tagDigestAlgo)
	kind := map[uint32]crypto.Hash{8: crypto.SHA256, 9: crypto.SHA384, 10: crypto.SHA512}[algo]
	sum, err := hex.DecodeString(h.main.text(tagDigest))
	if !ok || kind == 0 || err != nil || len(sum) != kind.Size() {
		return 0, nil, errors.New("rpm: header has no SHA-2 digest of the payload: a signature over it would be good for any payload")
	}
	return kind, sum, nil
}

var errPayload = errors.New("rpm: payload is not the one of the header")

// facts are what endorsers want to know of a package.
func (h *head) facts() (out []format.Fact) {
	for _, f := range []struct {
		name string
		tag  uint32
	}{{"name", tagName}, {"version", tagVersion}, {"release", tagRelease}, {"arch", tagArch}, {"summary", tagSummary}, {"vendor", tagVendor},
		{"packager", tagPackager}, {"license", tagLicense}, {"url", tagURL}, {"source", tagSource}, {"payload-digest", tagDigest}, {"payload-digest-alt", tagDigestAlt}} {
		if v := printable(h.main.text(f.tag)); v != "" {
			out = append(out, format.Fact{Name: f.name, Value: v})
		}
	}
	if n, ok := h.main.number(tagEpoch); ok {
		out = append(out, format.Fact{Name: "epoch", Value: fmt.Sprint(n)})
	}
	return out
}

// report are the facts of a report.
func (h *head) report() []format.Fact {
	out := h.facts()
	return append(out, h.details(len(out))...)
}

// signed says to endorsers of a plan which signatures are there.
func (h *head) signed() (out []format.Fact) {
	for _, e := range h.sig.entries {
		if what, ok := map[uint32]string{tagRSA: "header, RSA", tagDSA: "header, other than RSA", tagPGP: "header and payload, RSA", tagGPG: "header and payload, other than RSA"}[e.tag]; ok {
			out = append(out, format.Fact{Name: "signed-already", Value: what})
		}
	}
	return out
}

// printable shortens a value for a fact and makes other characters visible.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if format.Turns(r) || r == utf8.RuneError {
			return '?'
		}
		return r
	}, s)
	for len(s) > 1000 {
		s = s[:len(s)-1]
		for !utf8.ValidString(s) {
			s = s[:len(s)-1]
		}
	}
	return s
}

// body is a plan's own part, version 1.
type body struct {
	Header     openpgp.State  `cbor:"1,keyasint"` // of the hash after the header
	Both       *openpgp.State `cbor:"2,keyasint"` // after header and payload; null without the option v3
	HeaderSize int64          `cbor:"3,keyasint"`
	Before     []byte         `cbor:"4,keyasint"` // SHA-256 of what stands before the header
}

// Plan reads header and payload, which must be the one of the header.
func (f Format) Plan(ctx context.Context, a format.Artifact, p format.Params) (*format.Plan, error) {
	p, err := p.Check(f)
	if err != nil {
		return nil, err
	}
	keys, err := readParams(func(n string) string { return p[n] })
	if err != nil {
		return nil, err
	}
	h, err := readHead(ctx, a)
	if err != nil {
		return nil, err
	}
	kind, want, err := h.payloadDigest()
	if err != nil {
		return nil, err
	}
	if h.payload() == a.Size() {
		return nil, errors.New("rpm: package without a payload")
	}
	before := crypto.SHA256.New()
	before.Write(h.raw)
	x := keys.Begin()
	x.Write(h.mainRaw)
	st, err := openpgp.StateOf(keys.Hash, x)
	if err != nil {
		return nil, err
	}
	b := body{Header: *st, HeaderSize: h.main.size, Before: before.Sum(nil)}
	content := x.Sum(nil)
	payload := kind.New()
	w := io.Writer(payload)
	if p["v3"] == "true" {
		w = io.MultiWriter(payload, x)
	}
	if err := pgpsig.Read(ctx, a, h.payload(), a.Size()-h.payload(), w); err != nil {
		return nil, fmt.Errorf("rpm: %w", err)
	}
	if !bytes.Equal(payload.Sum(nil), want) {
		return nil, errPayload
	}
	if p["v3"] == "true" {
		if b.Both, err = openpgp.StateOf(keys.Hash, x); err != nil {
			return nil, err
		}
		content = combined(keys.Hash, content, x.Sum(nil))
	}
	enc, err := format.Encode(b)
	if err != nil {
		return nil, err
	}
	facts := append(h.facts(), h.signed()...)
	return &format.Plan{
		Format: Name, Version: 1, Digest: p["digest"], Size: a.Size(), Content: content,
		Params: pgpsig.Facts(f, p), Facts: append(facts, h.details(len(facts))...), Body: enc,
	}, nil
}

// combined is the Content of a plan with two signatures.
func combined(h crypto.Hash, header, both []byte) []byte {
	x := h.New()
	x.Write(header)
	x.Write(both)
	return x.Sum(nil)
}

func readParams(get func(string) string) (pgpsig.Params, error) {
	return pgpsig.ReadParams(func(n string) string {
		if n == "key-version" {
			return "4"
		}
		return get(n)
	})
}

// open derives what is signed.
func (f Format) open(p *format.Plan, id format.Identity, at time.Time) ([]*pgpsig.Made, *body, error) {
	if err := pgpsig.CheckPlan(f, p); err != nil {
		return nil, nil, err
	}
	keys, err := readParams(p.Param)
	if err != nil {
		return nil, nil, err
	}
	b := &body{}
	if err := format.Decode(p.Body, b); err != nil {
		return nil, nil, fmt.Errorf("rpm: plan: %w", err)
	}
	switch {
	case (p.Param("v3") == "true") != (b.Both != nil):
		return nil, nil, errors.New("rpm: plan's states are not those of its options")
	case b.HeaderSize < introSize || b.HeaderSize > min(maxHeader, p.Size) || b.Header.Count != uint64(b.HeaderSize):
		return nil, nil, errors.New("rpm: plan's state is not over its header")
	case b.Both != nil && (b.Both.Count <= b.Header.Count || b.Both.Count > uint64(p.Size)):
		return nil, nil, errors.New("rpm: plan's state is not over header and payload")
	case len(b.Before) != 32:
		return nil, nil, errors.New("rpm: plan's digest of the signatures")
	}
	spec, err := keys.Spec(openpgp.Binary, id, at)
	if err != nil {
		return nil, nil, err
	}
	if _, err := headerTag(id.Scheme); err != nil {
		return nil, nil, err
	}
	states := []*openpgp.State{&b.Header}
	contents := [][]byte{p.Content}
	if b.Both != nil {
		states, contents = append(states, b.Both), nil
		for _, s := range states {
			x, err := s.Resume(keys.Hash)
			if err != nil {
				return nil, nil, err
			}
			contents = append(contents, x.Sum(nil))
		}
		if !bytes.Equal(combined(keys.Hash, contents[0], contents[1]), p.Content) {
			return nil, nil, errors.New("rpm: plan's states are not those of its content")
		}
	}
	var out []*pgpsig.Made
	for i, s := range states {
		m, err := pgpsig.Finish(spec, s, contents[i], id)
		if err != nil {
			return nil, nil, err
		}
		out = append(out, m)
	}
	return out, b, nil
}

// Assemble returns the digest of header and trailer and, with v3, that of header,
// payload and trailer, in one round.
func (f Format) Assemble(p *format.Plan, id format.Identity, at time.Time, done [][]byte) ([]format.ToBeSigned, error) {
	made, _, err := f.open(p, id, at)
	if err != nil {
		return nil, err
	}
	switch len(done) {
	case len(made):
		return nil, nil
	case 0:
		var out []format.ToBeSigned
		for _, m := range made {
			out = append(out, m.TBS)
		}
		return out, nil
	}
	return nil, fmt.Errorf("rpm: %d signatures: %d are wanted", len(done), len(made))
}

// Attach writes the signatures into the signature header.
func (f Format) Attach(_ context.Context, a format.Artifact, p *format.Plan, id format.Identity, at time.Time, sigs []format.Signature) (*format.Patch, error) {
	made, b, err := f.open(p, id, at)
	if err != nil {
		return nil, err
	}
	h, err := readSignatures(a)
	if err != nil {
		return nil, err
	}
	before := crypto.SHA256.New()
	before.Write(h.raw)
	if a.Size() != p.Size || !bytes.Equal(before.Sum(nil), b.Before) {
		return nil, errors.New("rpm: file is not the one that was planned")
	}
	if len(sigs) != len(made) {
		return nil, fmt.Errorf("rpm: %d signatures: %d are wanted", len(sigs), len(made))
	}
	tag, err := headerTag(id.Scheme)
	if err != nil {
		return nil, err
	}
	entries := h.sig.entries
	for i, m := range made {
		packet, err := m.Body(sigs[i : i+1])
		if err != nil {
			return nil, err
		}
		packet = openpgp.AppendPacket(nil, openpgp.TagSignature, packet)
		if i == 1 {
			tag = bothTag(id.Scheme)
		}
		if entries, err = put(entries, tag, packet, p.Param("replace") == "true"); err != nil {
			return nil, err
		}
	}
	return patch(a, h, entries), nil
}

// put adds a signature, in place of the one under its tag if that may be replaced.
func put(entries []entry, tag uint32, packet []byte, replace bool) ([]entry, error) {
	out := slices.DeleteFunc(slices.Clone(entries), func(e entry) bool { return e.tag == tag })
	if len(out) < len(entries) && !replace {
		return nil, fmt.Errorf("rpm: package has a signature of this kind of key (tag %d): option replace=true takes it away", tag)
	}
	return append(out, entry{tag: tag, typ: typeBin, count: uint32(len(packet)), data: packet}), nil
}

// patch writes entries over the signature header, in its old length if the reserved
// space makes that possible.
func patch(a format.Artifact, h *head, entries []entry) *format.Patch {
	bare := slices.DeleteFunc(slices.Clone(entries), func(e entry) bool { return e.tag == tagReserved })
	raw := fill(bare, len(h.raw)-leadSize)
	return &format.Patch{Size: a.Size(), Edits: []format.Edit{{Offset: leadSize, Delete: int64(len(h.raw) - leadSize), Insert: raw}}}
}

// fill encodes entries, in the order of their tags, and as much reserved space as
// gives size bytes; without any where they are too long. The result is padded to
// eight bytes.
func fill(entries []entry, size int) []byte {
	pad := func(b []byte) []byte { return append(b, make([]byte, (8-len(b)%8)%8)...) }
	with := func(n int) []byte {
		return pad(encode(tagRegionSig, sorted(append(slices.Clone(entries), entry{tag: tagReserved, typ: typeBin, count: uint32(n), data: make([]byte, n)}))))
	}
	least := with(1)
	if len(least) > size {
		return pad(encode(tagRegionSig, sorted(entries)))
	}
	for n := size - len(least) + 1; n <= size-len(least)+8; n++ {
		if b := with(n); len(b) == size {
			least = b // the largest that fits: later signatures will be glad of it
		}
	}
	return least
}

// Tags of the signature header.
const (
	tagDSA      = 267 // over the header, by keys other than RSA
	tagRSA      = 268 // over the header
	tagSHA1     = 269 // of the header, in hexadecimal
	tagLongSize = 270
	tagSHA256   = 273 // of the header, in hexadecimal
	tagSize     = 1000
	tagPGP      = 1002 // over header and payload, by RSA
	tagMD5      = 1004 // of header and payload
	tagGPG      = 1005 // over header and payload, by keys other than RSA
	tagPlain    = 1007 // size of the payload before it was compressed
	tagLong     = 271  // the same in 64 bits
	tagFileSigs = 274  // IMA signatures of the files inside

	tagFileSigsLength = 275
	tagVerity         = 276 // fs-verity signatures of the files inside
	tagVerityAlgo     = 277
	tagReserved       = 1008 // zeros
)

func signatureTag(t uint32) bool { return t == tagDSA || t == tagRSA || t == tagPGP || t == tagGPG }

// headerTag is where a signature over the header goes. rpm reads ECDSA from version 6
// on and in another place.
func headerTag(s sigalg.Scheme) (uint32, error) {
	switch s {
	case sigalg.RSAPKCS1SHA256, sigalg.RSAPKCS1SHA384, sigalg.RSAPKCS1SHA512:
		return tagRSA, nil
	case sigalg.PureEd25519:
		return tagDSA, nil
	}
	return 0, fmt.Errorf("rpm: scheme %s: rpm takes RSA (PKCS #1 v1.5) and Ed25519", s)
}

func bothTag(s sigalg.Scheme) uint32 {
	if s == sigalg.PureEd25519 {
		return tagGPG
	}
	return tagPGP
}
