package pe

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/tsp"
)

// Assemble returns the one message of an Authenticode signature: its signed
// attributes. The time is not in them; a timestamp tells it.
func (Format) Assemble(p *format.Plan, id format.Identity, at time.Time, done [][]byte) ([]format.ToBeSigned, error) {
	switch len(done) {
	case 0:
	case 1:
		return nil, nil // what that round signed was checked when it was assembled
	default:
		return nil, fmt.Errorf("pe: %d signatures are done: there is one round", len(done))
	}
	m, err := assemble(p, id)
	if err != nil {
		return nil, err
	}
	return []format.ToBeSigned{{Scheme: id.Scheme, Message: m.message}}, nil
}

type assembled struct {
	body    *body
	params  format.Params
	content []byte // SpcIndirectDataContent
	spec    cms.SignerSpec
	message []byte
}

func assemble(p *format.Plan, id format.Identity) (*assembled, error) {
	b, params, err := decodeBody(p)
	if err != nil {
		return nil, err
	}
	if err := checkIdentity(id, b.efi()); err != nil {
		return nil, err
	}
	m := &assembled{body: b, params: params}
	if m.content, err = b.indirect(p); err != nil {
		return nil, err
	}
	if m.spec, err = spec(m.content, params, id); err != nil {
		return nil, err
	}
	m.message, err = m.spec.SignedAttributes()
	return m, err
}

// checkIdentity refuses keys and certificates with which no platform would
// accept the signature. EFI firmware does not look at usages; Windows does.
func checkIdentity(id format.Identity, efi bool) error {
	if len(id.Chain) == 0 || slices.Contains(id.Chain, nil) {
		return errors.New("pe: Authenticode needs a certificate: give the key a certificate chain")
	}
	k, err := sigalg.KeyOf(id.Public)
	if err != nil {
		return fmt.Errorf("pe: %w", err)
	}
	switch k {
	case sigalg.RSA3072, sigalg.RSA4096, sigalg.P256, sigalg.P384:
	default:
		return fmt.Errorf("pe: Windows and EFI firmware do not verify %s signatures: want RSA or ECDSA", k)
	}
	if !id.Scheme.Fits(k) {
		return fmt.Errorf("pe: scheme %q does not fit a key of %s", id.Scheme, k)
	}
	leaf := id.Chain[0]
	pub, err := cms.PublicKey(leaf)
	if err != nil {
		return err
	}
	if eq, ok := pub.(interface{ Equal(crypto.PublicKey) bool }); !ok || !eq.Equal(id.Public) {
		return fmt.Errorf("pe: certificate %q is not of the key that signs", leaf.Subject)
	}
	if !efi && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageCodeSigning) {
		return fmt.Errorf("pe: certificate %q is not for code signing", leaf.Subject)
	}
	return nil
}

// Attach makes the edits that put the signature into the image: checksum,
// directory entry, certificate table. Of the file it reads the headers and a
// certificate table that is there.
func (Format) Attach(ctx context.Context, a format.Artifact, p *format.Plan, id format.Identity, at time.Time, sigs []format.Signature) (*format.Patch, error) {
	m, err := assemble(p, id)
	if err != nil {
		return nil, err
	}
	if len(sigs) != 1 {
		return nil, fmt.Errorf("pe: %d signatures: want one", len(sigs))
	}
	if err := sigalg.Verify(id.Public, id.Scheme, m.message, sigs[0].Value); err != nil {
		return nil, fmt.Errorf("pe: signature does not fit the plan: %w", err)
	}
	im, table, err := m.body.check(a, p)
	if err != nil {
		return nil, err
	}
	info := cms.SignerInfo{Spec: m.spec, Signature: sigs[0].Value, Certificate: id.Chain[0]}
	if tok := sigs[0].Timestamp; len(tok) > 0 {
		if err := checkToken(tok, sigs[0].Value); err != nil {
			return nil, err
		}
		info.Unsigned = []cms.Attribute{cms.NewAttribute(cms.OIDMicrosoftTimeStamp, tok)}
	}
	der, err := cms.Encode(cms.Content{Type: cms.OIDSpcIndirectData, Bytes: m.content, PKCS7: true}, id.Chain, info)
	if err != nil {
		return nil, fmt.Errorf("pe: %w", err)
	}
	if table, err = join(table, der, m.params["existing"] == "keep", im.efi()); err != nil {
		return nil, err
	}
	return im.patch(table, m.body.Sum)
}

// check compares the file with the plan as far as headers and table go.
func (b *body) check(a format.Artifact, p *format.Plan) (*image, []byte, error) {
	if a.Size() != p.Size {
		return nil, nil, fmt.Errorf("%w: %d bytes: want %d", ErrChanged, a.Size(), p.Size)
	}
	im, err := parseImage(a)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrChanged, err)
	}
	if !bytes.Equal(digest256(im.head), b.Head) {
		return nil, nil, fmt.Errorf("%w: its headers differ", ErrChanged)
	}
	if im.magic != b.Magic || im.machine != b.Machine || im.subsystem != b.Subsystem || im.dll != b.DLL ||
		im.checksumAt != b.ChecksumAt || im.directoryAt != b.DirectoryAt || int64(len(im.head)) != b.HeadSize ||
		im.end() != b.End || im.tableSize != b.TableSize {
		return nil, nil, fmt.Errorf("%w: its headers are not those in the plan", ErrPlan)
	}
	if len(b.Pages) > 0 && !slices.Equal(im.spans(), b.Spans) {
		return nil, nil, fmt.Errorf("%w: its sections are not those in the plan", ErrPlan)
	}
	if im.tableSize == 0 {
		return im, nil, nil
	}
	table, err := im.table(a)
	if err != nil {
		return nil, nil, err
	}
	if !bytes.Equal(digest256(table), b.Table) {
		return nil, nil, fmt.Errorf("%w: its certificate table differs", ErrChanged)
	}
	return im, table, nil
}

// join makes the new certificate table: der alone, or beside what is there.
func join(table, der []byte, keep, efi bool) ([]byte, error) {
	if len(table) == 0 || !keep {
		return newEntry(der), nil
	}
	entries, err := parseTable(table)
	if err != nil {
		return nil, err
	}
	sigs, err := signatures(entries, false)
	if err != nil {
		return nil, err
	}
	if efi {
		if len(entries) == maxEntries {
			return nil, fmt.Errorf("pe: there are %d signatures already: no more fit", len(entries))
		}
		return append(slices.Clone(table), newEntry(der)...), nil
	}
	if len(sigs)-len(entries) >= maxNested {
		return nil, fmt.Errorf("pe: there are %d nested signatures already: no more fit", maxNested)
	}
	first, err := cms.AddUnsigned(entries[0].der, 0, cms.NewAttribute(cms.OIDNestedSignature, der))
	if err != nil {
		return nil, fmt.Errorf("pe: nest the signature: %w", err)
	}
	return rebuild(entries, 0, first), nil
}

// rebuild makes a table of entries, one of them with another PKCS #7.
func rebuild(entries []entry, i int, der []byte) []byte {
	var out []byte
	for j, e := range entries {
		if j == i {
			out = append(out, newEntry(der)...)
		} else {
			out = append(out, e.raw...)
		}
	}
	return out
}

// patch makes the edits that replace the certificate table; an empty one takes
// the signature away. sum is that of the signed part.
func (im *image) patch(table []byte, sum uint16) (*format.Patch, error) {
	end := im.end()
	start := end + padding(end)
	size := start + int64(len(table))
	if len(table) > maxTable || size > maxSize {
		return nil, fmt.Errorf("pe: certificate table of %d bytes makes a file of %d: at most %d and %d", len(table), size, maxTable, int64(maxSize))
	}
	var dir [8]byte
	if len(table) > 0 {
		binary.LittleEndian.PutUint32(dir[:], uint32(start))
		binary.LittleEndian.PutUint32(dir[4:], uint32(len(table)))
	}
	c := checksum(fold(addWords(addWords(uint64(sum), dir[:]), table)), size)
	return &format.Patch{Size: im.size, Edits: []format.Edit{
		{Offset: im.checksumAt, Delete: 4, Insert: binary.LittleEndian.AppendUint32(nil, c)},
		{Offset: im.directoryAt, Delete: 8, Insert: dir[:]},
		{Offset: end, Delete: im.tableSize, Insert: append(make([]byte, start-end), table...)},
	}}, nil
}

// checkToken refuses a timestamp that is about something else or that does not
// verify with the certificate in it. Whether its authority is trusted is for
// verifiers to say.
func checkToken(der, value []byte) error {
	t, err := tsp.ParseToken(der)
	if err != nil {
		return fmt.Errorf("pe: timestamp: %w", err)
	}
	if _, err := t.VerifySignature(imprintOf(value)); err != nil {
		return fmt.Errorf("pe: timestamp: %w", err)
	}
	return nil
}

// imprintOf gives the digests that a timestamp over value may be about.
func imprintOf(value []byte) func(crypto.Hash) ([]byte, error) {
	return func(h crypto.Hash) ([]byte, error) {
		if _, err := digestOID(h); err != nil {
			return nil, err
		}
		d := h.New()
		d.Write(value)
		return d.Sum(nil), nil
	}
}
