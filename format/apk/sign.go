package apk

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/jarsig"
	"github.com/greatseal-io/greatseal/format/single"
	"github.com/greatseal-io/greatseal/format/zipfile"
	"github.com/greatseal-io/greatseal/sigalg"
)

// derived is what a plan and an identity lead to.
type derived struct {
	body  *body
	h     crypto.Hash
	name  string // of scheme v1's files
	keys  []format.Identity
	slots []slot
	// v1 is who signs under scheme v1; -1 when nobody does.
	v1             int
	manifest, text []byte
}

// slot is one signer of one scheme.
type slot struct {
	id  uint32 // of the scheme's pair
	key int    // place in keys
	s   *signer
}

// derive checks every relation in a plan and settles who signs what.
func (f Format) derive(p *format.Plan, id format.Identity) (*derived, error) {
	params, err := single.Frame(f, p, bodyVersion)
	if err != nil {
		return nil, err
	}
	var b body
	if err := format.Decode(p.Body, &b); err != nil {
		return nil, fmt.Errorf("apk: plan: %w", err)
	}
	o, err := readOptions(params)
	if err != nil {
		return nil, err
	}
	if err := b.check(p, params, o); err != nil {
		return nil, err
	}
	d := &derived{body: &b, name: params["v1-name"], keys: id.Signers(), v1: -1}
	if d.h, err = format.HashByName(p.Digest); err != nil {
		return nil, err
	}
	content, err := b.content(d.h, d.name)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(content, p.Content) {
		return nil, fmt.Errorf("%w: content is not the digest that its parts have", ErrPlan)
	}
	if err := format.CheckKeys(f, len(d.keys)); err != nil {
		return nil, err
	}
	for i := range d.keys {
		if err := checkKey(&d.keys[i], d.h); err != nil {
			return nil, err
		}
	}
	if err := d.settle(o); err != nil {
		return nil, err
	}
	if d.v1 >= 0 {
		if d.manifest, d.text, err = b.V1[0].texts(d.h, d.name); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// check holds what is not signed to what Plan makes.
func (b *body) check(p *format.Plan, params format.Params, o *options) error {
	bad := func(f string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrPlan, fmt.Sprintf(f, args...))
	}
	n := len(b.V1)
	switch {
	case params["digest"] != p.Digest:
		return bad("digest %s, option digest %s", p.Digest, params["digest"])
	case b.MinSDK < 1 || b.MinSDK >= maxSDK || o.minSDK > 0 && b.MinSDK != o.minSDK:
		return bad("lowest platform version %d", b.MinSDK)
	case n > 1 || o.v1(b.MinSDK) != (n == 1):
		return bad("%d JAR signatures", n)
	case n == 1 && b.MinSDK < sdkV1SHA256:
		return bad("a JAR signature for platform version %d", b.MinSDK)
	case b.Count < 0 || b.Count >= 1<<16-1 || len(b.Comment) > 1<<16-1:
		return bad("%d entries, a comment of %d bytes", b.Count, len(b.Comment))
	case n == 1 && b.Count < v1Entries+len(b.V1[0].Sections):
		return bad("%d entries, %d in the manifest", b.Count, len(b.V1[0].Sections))
	case b.Entries.Size > maxSize || b.Directory.Size > maxSize || p.Size > maxSize:
		return bad("sizes out of range")
	case len(b.Original) != sha256.Size || len(b.Remove) > 1024:
		return bad("digest of what was there, or what is taken out")
	case (len(b.Entries.State) > 0) != (n == 1) || (len(b.Directory.State) > 0) != (n == 1):
		return bad("digests that are not finished")
	}
	for i, name := range b.Remove {
		if k, _ := jarsig.KindOf(name); k == jarsig.Content || slices.Contains(b.Remove[:i], name) {
			return bad("%.80q is taken out", name)
		}
	}
	return nil
}

// checkKey wants a certificate of the key, and a scheme that Android knows, with the
// plan's digest.
func checkKey(id *format.Identity, h crypto.Hash) error {
	if algorithmOf(id.Scheme) == 0 {
		return fmt.Errorf("apk: scheme %q: Android takes RSA and ECDSA under SHA-256 and SHA-512", id.Scheme)
	}
	if k, err := sigalg.KeyOf(id.Public); err != nil || !id.Scheme.Fits(k) {
		return fmt.Errorf("apk: scheme %q does not fit the key", id.Scheme)
	}
	if id.Scheme.Hash() != h {
		return fmt.Errorf("apk: plan has digest %s: scheme %s wants digest=%s", format.HashName(h), id.Scheme, format.HashName(id.Scheme.Hash()))
	}
	if len(id.Chain) == 0 || slices.Contains(id.Chain, nil) {
		return fmt.Errorf("apk: the key has no certificate (Android wants one, signed by itself will do)")
	}
	pub, err := cms.PublicKey(id.Chain[0])
	if err != nil {
		return fmt.Errorf("apk: %w", err)
	}
	if k, ok := pub.(interface{ Equal(crypto.PublicKey) bool }); !ok || !k.Equal(id.Public) {
		return fmt.Errorf("apk: certificate %q is not of the key that signs", id.Chain[0].Subject)
	}
	return nil
}

// settle says which key signs under which scheme, for which platform versions.
func (d *derived) settle(o *options) error {
	low := max(uint32(d.body.MinSDK), sdkV3)
	withV1 := len(d.body.V1) > 0
	if o.lineage == nil {
		if len(d.keys) != 1 {
			return fmt.Errorf("%w: two keys sign, and no lineage says which is the newer", ErrLineage)
		}
		d.sign(0, withV1)
		d.add(idV3, 0, low, math.MaxInt32)
		return nil
	}
	newest, oldest := -1, -1
	for k := range d.keys {
		switch o.lineage.index(d.keys[k].Chain[0]) {
		case len(o.lineage) - 1:
			newest = k
		case 0:
			oldest = k
		default:
			return fmt.Errorf("%w: certificate %q is neither its oldest nor its newest", ErrLineage, d.keys[k].Chain[0].Subject)
		}
	}
	switch {
	case newest < 0:
		return fmt.Errorf("%w: its newest key does not sign", ErrLineage)
	case oldest < 0 && (withV1 || d.body.MinSDK < sdkV3):
		return fmt.Errorf("%w: platform versions below %d know no lineage: its oldest key has to sign too, or min-sdk is %d", ErrLineage, sdkV3, sdkV3)
	}
	if oldest >= 0 {
		d.sign(oldest, withV1)
	}
	proof := algorithm{attrLineage, o.lineage.encode()}
	rotation := uint32(o.rotation)
	if oldest < 0 || rotation < sdkV31 || rotation <= low {
		d.add(idV3, newest, low, math.MaxInt32, proof)
		return nil
	}
	d.add(idV3, oldest, low, rotation-1, algorithm{attrRotation, le.AppendUint32(nil, rotation)})
	d.add(idV31, newest, rotation, math.MaxInt32, proof)
	return nil
}

// sign has a key sign under schemes v1, where that is wanted, and v2.
func (d *derived) sign(key int, withV1 bool) {
	if withV1 {
		d.v1 = key
	}
	d.add(idV2, key, 0, 0, algorithm{attrStripping, le.AppendUint32(nil, 3)})
}

func (d *derived) add(id uint32, key int, low, high uint32, attributes ...algorithm) {
	s := &signer{attributes: attributes, min: low, max: high}
	for _, c := range d.keys[key].Chain {
		s.rawCerts = append(s.rawCerts, c.Raw)
	}
	s.key = d.keys[key].Chain[0].RawSubjectPublicKeyInfo
	d.slots = append(d.slots, slot{id, key, s})
}

// block is scheme v1's CMS signature, in the form that every Android reads: over the
// signature file itself, without signed attributes.
func (d *derived) block(value []byte) ([]byte, error) {
	id := d.keys[d.v1]
	spec := cms.SignerSpec{ContentType: cms.OIDData, Digest: d.h, Scheme: id.Scheme, NoAttributes: true}
	der, err := cms.Encode(cms.Content{Type: cms.OIDData}, id.Chain, cms.SignerInfo{Spec: spec, Signature: value, Certificate: id.Chain[0]})
	if err != nil {
		return nil, fmt.Errorf("apk: %w", err)
	}
	if room := blockRoom - 30 - len(jarsig.Folder) - len(d.name) - 4 - 6; len(der) > room {
		return nil, fmt.Errorf("apk: JAR signature of %d bytes: at most %d", len(der), room)
	}
	return der, nil
}

// added are the entries and records of scheme v1, once its signature is there.
func (d *derived) added(value []byte) (entries, records []byte, err error) {
	if d.v1 < 0 {
		return nil, nil, nil
	}
	block, err := d.block(value)
	if err != nil {
		return nil, nil, err
	}
	return write(files(d.name, d.manifest, d.text, block), d.body.Entries.Size)
}

// prepare writes what each slot signs.
func (d *derived) prepare(entries, records []byte) error {
	digest, err := d.body.digest(d.h, entries, records)
	if err != nil {
		return err
	}
	for i := range d.slots {
		s := d.slots[i].s
		s.digests = []algorithm{{algorithmOf(d.keys[d.slots[i].key].Scheme), digest}}
		s.signed = s.signedData(d.slots[i].id != idV2)
	}
	return nil
}

// rounds are the messages of all rounds that can be known with the values in done.
func (d *derived) rounds(done [][]byte) ([][]format.ToBeSigned, error) {
	var out [][]format.ToBeSigned
	var v1 []byte
	if d.v1 >= 0 {
		id := d.keys[d.v1]
		if id.Scheme != sigalg.RSAPKCS1SHA256 && id.Scheme != sigalg.RSAPKCS1SHA512 && id.Scheme != sigalg.ECDSASHA256 && id.Scheme != sigalg.ECDSASHA512 {
			return nil, fmt.Errorf("apk: scheme %q: Android takes no such JAR signatures", id.Scheme)
		}
		out = append(out, []format.ToBeSigned{{Scheme: id.Scheme, Message: d.text, Key: d.v1}})
		if len(done) == 0 {
			return out, nil
		}
		v1 = done[0]
	}
	entries, records, err := d.added(v1)
	if err != nil {
		return nil, err
	}
	if err := d.prepare(entries, records); err != nil {
		return nil, err
	}
	var last []format.ToBeSigned
	for _, s := range d.slots {
		last = append(last, format.ToBeSigned{Scheme: d.keys[s.key].Scheme, Message: s.s.signed, Key: s.key})
	}
	return append(out, last), nil
}

// Assemble returns the signature file of scheme v1 in the first round, where it signs,
// and then the signed data of all other schemes.
func (f Format) Assemble(p *format.Plan, id format.Identity, _ time.Time, done [][]byte) ([]format.ToBeSigned, error) {
	d, err := f.derive(p, id)
	if err != nil {
		return nil, err
	}
	rounds, err := d.rounds(done)
	if err != nil {
		return nil, err
	}
	n := 0
	for _, r := range rounds {
		if n == len(done) {
			return r, nil
		}
		n += len(r)
	}
	if n != len(done) {
		return nil, fmt.Errorf("apk: %d signatures: want %d", len(done), n)
	}
	return nil, nil
}

// Attach puts the signing block between entries and directory, and before it the
// entries of scheme v1.
func (f Format) Attach(_ context.Context, a format.Artifact, p *format.Plan, id format.Identity, _ time.Time, sigs []format.Signature) (*format.Patch, error) {
	d, err := f.derive(p, id)
	if err != nil {
		return nil, err
	}
	if a.Size() != p.Size {
		return nil, fmt.Errorf("%w: %d bytes: want %d", ErrChanged, a.Size(), p.Size)
	}
	if err := d.take(sigs); err != nil {
		return nil, err
	}
	r, err := open(a)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(r.original(), d.body.Original) {
		return nil, fmt.Errorf("%w: its directory is another", ErrChanged)
	}
	l := r.layout(d.v1 >= 0)
	var names []string
	for _, i := range l.removed {
		names = append(names, r.Entries[i].Name)
	}
	if !slices.Equal(names, d.body.Remove) || l.end != d.body.Entries.Size || r.Comment != d.body.Comment {
		return nil, fmt.Errorf("%w: other entries are there", ErrChanged)
	}
	var v1 []byte
	if d.v1 >= 0 {
		v1 = sigs[0].Value
	}
	entries, records, err := d.added(v1)
	if err != nil {
		return nil, err
	}
	var dir strings.Builder
	for i := range r.Entries {
		if !slices.Contains(l.removed, i) {
			dir.WriteString(r.RawRecord(i))
		}
	}
	return l.patch(r, d, entries, []byte(dir.String()), records)
}

// patch writes the edits. What is cut off at the end goes with the last one.
func (l *layout) patch(r *archive, d *derived, entries, dir, records []byte) (*format.Patch, error) {
	out := &format.Patch{Size: r.Size}
	for _, h := range l.holes {
		out.Edits = append(out.Edits, format.Edit{Offset: h.from, Delete: h.to - h.from, Insert: zipfile.Filler(h.to - h.from)})
	}
	dir = append(dir, records...)
	block := encodeBlock(d.pairs())
	if len(block) > maxBlock {
		return nil, fmt.Errorf("apk: signing block of %d bytes: at most %d", len(block), maxBlock)
	}
	end := endRecord(d.body.Count, int64(len(dir)), l.end+int64(len(entries)+len(block)), r.Comment)
	out.Edits = append(out.Edits, format.Edit{Offset: l.end, Delete: r.Size - l.end, Insert: slices.Concat(entries, block, dir, end)})
	return out, out.Check()
}

// take checks the signatures of all rounds and puts them into the slots.
func (d *derived) take(sigs []format.Signature) error {
	var done [][]byte
	for i := range sigs {
		if len(sigs[i].Timestamp) > 0 {
			return fmt.Errorf("apk: the format has no place for a timestamp")
		}
		done = append(done, sigs[i].Value)
	}
	rounds, err := d.rounds(done)
	if err != nil {
		return err
	}
	all := slices.Concat(rounds...)
	if len(all) != len(sigs) || len(sigs) < len(d.slots) {
		return fmt.Errorf("apk: %d signatures: want %d", len(sigs), len(all))
	}
	for i, t := range all {
		if err := t.Verify(d.keys[t.Key].Public, sigs[i].Value); err != nil {
			return fmt.Errorf("apk: signature %d does not fit plan and key: %w", i, err)
		}
	}
	for i := range d.slots {
		s := d.slots[i].s
		s.signatures = []algorithm{{s.digests[0].id, sigs[len(sigs)-len(d.slots)+i].Value}}
	}
	return nil
}

// pairs are those of the signing block, one for each scheme.
func (d *derived) pairs() []pair {
	var out []pair
	for _, s := range d.slots {
		out = append(out, pair{s.id, encodeSigners(s.id != idV2, s.s)})
	}
	return out
}
