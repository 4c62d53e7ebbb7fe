package verifytest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"slices"
	"time"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/all"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/merkle"
	"github.com/greatseal-io/greatseal/statement"
	"github.com/greatseal-io/greatseal/verify"
)

// Formats are all formats, and the one with two rounds that exists for tests.
func Formats() []format.Format { return append(all.Formats(), formattest.TwoRounds()) }

// FormatOf finds a format by name.
func (d *Deployment) FormatOf(name string) format.Format {
	d.TB.Helper()
	i := slices.IndexFunc(Formats(), func(f format.Format) bool { return f.Name() == name })
	if i < 0 {
		d.TB.Fatalf("no format %s", name)
	}
	return Formats()[i]
}

type artifact struct {
	*bytes.Reader
	name string
}

func (a artifact) Name() string { return a.name }

// Artifact is a file in memory.
func Artifact(name string, data []byte) format.Artifact { return artifact{bytes.NewReader(data), name} }

// signed makes the signatures of all items.
func (d *Deployment) signed(r *Request, at time.Time) *statement.SignedResult {
	d.TB.Helper()
	args := r.Request.Command.Sign
	k := d.signer(args.Policy, args.Key)
	r.Signatures, r.Keys = nil, nil
	var leaves []merkle.Hash
	for _, b := range r.Items {
		_, plan, err := format.DecodeItem(b)
		if err != nil {
			d.TB.Fatal(err)
		}
		var values [][]byte
		for _, s := range formattest.SignAll(d.TB, d.FormatOf(plan.Format), plan, k, at) {
			values = append(values, s.Value)
		}
		r.Signatures = append(r.Signatures, values)
		leaves = append(leaves, format.Leaf(b))
	}
	root, err := format.SignaturesRoot(leaves, r.Signatures)
	if err != nil {
		d.TB.Fatal(err)
	}
	var uses []statement.KeyUse
	for i, id := range k.Signers() {
		use, part := d.use(append([]string{args.Key}, d.also(args.Policy)...)[i], id)
		uses, r.Keys = append(uses, use), append(r.Keys, part)
	}
	out := &statement.SignedResult{Policy: args.Policy, Key: args.Key, PublicKey: uses[0].PublicKey, Chain: uses[0].Chain, Scheme: k.Scheme,
		Count: len(r.Items), Items: args.Items, Signatures: root.String()}
	if len(uses) > 1 {
		out.Also = uses[1:]
	}
	return out
}

// also are the further keys of a policy.
func (d *Deployment) also(policy string) []string {
	c, _ := d.Chain.Head()
	return c.Policies[policy].Also
}

// signer signs with all keys of a policy.
func (d *Deployment) signer(policy, key string) *formattest.Signer {
	s := d.Keys[key]
	var others []*formattest.Signer
	for _, n := range d.also(policy) {
		others = append(others, d.Keys[n])
	}
	if len(others) > 0 {
		s = s.And(others...)
	}
	return s
}

// use is what a receipt and evidence say of one key.
func (d *Deployment) use(name string, id format.Identity) (statement.KeyUse, verify.EvidenceKey) {
	d.TB.Helper()
	spki, err := x509.MarshalPKIXPublicKey(id.Public)
	if err != nil {
		d.TB.Fatal(err)
	}
	pub := sha256.Sum256(spki)
	use := statement.KeyUse{Key: name, PublicKey: hex.EncodeToString(pub[:]), Scheme: id.Scheme}
	if len(id.Chain) == 0 {
		return use, verify.EvidenceKey{PublicKey: spki}
	}
	h := sha256.New()
	var part verify.EvidenceKey
	for _, c := range id.Chain {
		h.Write(c.Raw)
		part.Certificates = append(part.Certificates, c.Raw)
	}
	use.Chain = hex.EncodeToString(h.Sum(nil))
	return use, part
}

// Evidence is the document of file i of an executed request, at the head of now.
func (d *Deployment) Evidence(r *Request, i int) *verify.Evidence {
	d.TB.Helper()
	cp := d.Checkpoint()
	e := &verify.Evidence{Version: verify.EvidenceVersion, Chain: d.must(d.Chain.Encode()), Request: r.Envelope, Receipt: r.Receipt,
		File: verify.EvidenceFile{Item: r.Items[i], Signatures: r.Signatures[i], Certificates: r.Keys[0].Certificates, PublicKey: r.Keys[0].PublicKey}}
	if len(r.Keys) > 1 {
		e.File.Also = r.Keys[1:]
	}
	for _, x := range r.Endorsements {
		e.Endorsements = append(e.Endorsements, x)
	}
	var items, sigs []merkle.Hash
	for k, b := range r.Items {
		items = append(items, format.Leaf(b))
		sigs = append(sigs, format.SignatureLeaf(items[k], r.Signatures[k]))
	}
	e.File.ItemProof = d.prove(merkle.Items, items, i)
	e.File.SignatureProof = d.prove(merkle.Signatures, sigs, i)
	e.Log = d.Logged(cp, r.ReceiptEntry)
	return e
}

func (d *Deployment) prove(domain merkle.Domain, leaves []merkle.Hash, i int) merkle.Proof {
	d.TB.Helper()
	t, err := merkle.New(domain, leaves)
	if err != nil {
		d.TB.Fatal(err)
	}
	p, err := t.Prove(i)
	if err != nil {
		d.TB.Fatal(err)
	}
	return p
}

// Logged proves that an entry stands in the log, at the head of now.
func (d *Deployment) Logged(checkpoint []byte, index int64) verify.EvidenceLog {
	d.TB.Helper()
	ctx := context.Background()
	p, err := audit.ProveInclusion(ctx, &d.Store, d.entries, index)
	if err != nil {
		d.TB.Fatal(err)
	}
	client := &audit.Client{Fetch: d.Source().Fetch}
	w := int(min(d.entries-index/audit.TileWidth*audit.TileWidth, audit.TileWidth))
	data := d.must(client.Fetch(ctx, audit.BundlePath(index/audit.TileWidth, w)))
	entries, err := audit.ParseBundle(data, w)
	if err != nil {
		d.TB.Fatal(err)
	}
	return verify.EvidenceLog{Checkpoint: string(checkpoint), Entry: entries[index%audit.TileWidth], Inclusion: p}
}

// Attach puts the signatures of item i into its file: the signed file, or the file
// as it was and what stands beside it.
func (d *Deployment) Attach(r *Request, i int, data []byte) (file, detached []byte) {
	d.TB.Helper()
	it, plan, err := format.DecodeItem(r.Items[i])
	if err != nil {
		d.TB.Fatal(err)
	}
	env, err := statement.DecodeEnvelope(r.Receipt)
	if err != nil {
		d.TB.Fatal(err)
	}
	rc, err := statement.Decode[statement.Receipt](env.Payload)
	if err != nil {
		d.TB.Fatal(err)
	}
	var sigs []format.Signature
	for _, v := range r.Signatures[i] {
		sigs = append(sigs, format.Signature{Value: v})
	}
	a := Artifact(it.Name, data)
	patch, err := d.FormatOf(plan.Format).Attach(context.Background(), a, plan, d.signer(rc.Signed.Policy, rc.Signed.Key).Identity, rc.Time, sigs)
	if err != nil {
		d.TB.Fatal(err)
	}
	if patch.Sidecar != nil {
		return data, patch.Sidecar.Data
	}
	return d.must(patch.Bytes(a)), nil
}
