package verify

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/merkle"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/statement"
)

// key makes the identity under which the keeper signed: the keys that the receipt
// commits to, of the kinds that the charter says and as many as the policy asks
// for, with the certificates that the receipt commits to.
func (j *judging) key() error {
	f := &j.e.File
	uses := j.a.receipt.Signed.Keys()
	if err := asked(j.c, j.a.receipt.Signed); err != nil {
		return err
	}
	parts := append([]EvidenceKey{{f.Certificates, f.PublicKey}}, f.Also...)
	if len(parts) != len(uses) {
		return fmt.Errorf("%d keys: the receipt has %d", len(parts), len(uses))
	}
	for i, use := range uses {
		id, err := identity(j.c, use, parts[i])
		switch {
		case err != nil && len(uses) > 1:
			return fmt.Errorf("key %s: %w", use.Key, err)
		case err != nil:
			return err
		case i == 0:
			j.a.identity = *id
		default:
			j.a.identity.Also = append(j.a.identity.Also, *id)
		}
	}
	return nil
}

// asked checks that the keys of a receipt are those of its policy.
func asked(c *charter.Charter, r *statement.SignedResult) error {
	p, ok := c.Policies[r.Policy]
	if !ok {
		return fmt.Errorf("the charter has no policy %s", r.Policy)
	}
	var have []string
	for _, k := range r.Keys() {
		have = append(have, k.Key)
	}
	if !slices.Equal(have, p.Keys()) {
		return fmt.Errorf("signed with %s: policy %s asks for %s", strings.Join(have, " and "), r.Policy, strings.Join(p.Keys(), " and "))
	}
	return nil
}

// identity is one key that signed.
func identity(c *charter.Charter, r statement.KeyUse, k EvidenceKey) (*format.Identity, error) {
	id := &format.Identity{Scheme: r.Scheme}
	chain, spki := "", k.PublicKey
	if len(k.Certificates) > 0 {
		h := sha256.New()
		for i, der := range k.Certificates {
			h.Write(der)
			c, err := x509.ParseCertificate(der)
			if err != nil {
				return nil, fmt.Errorf("certificate %d: %w", i, err)
			}
			id.Chain = append(id.Chain, c)
		}
		chain, spki = hex.EncodeToString(h.Sum(nil)), id.Chain[0].RawSubjectPublicKeyInfo
	}
	if chain != r.Chain {
		return nil, errors.New("certificates are not those of the receipt")
	}
	if h := sha256.Sum256(spki); hex.EncodeToString(h[:]) != r.PublicKey {
		return nil, errors.New("public key is not that of the receipt")
	}
	var err error
	if id.Public, err = publicKey(id.Chain, spki); err != nil {
		return nil, err
	}
	return id, fits(c, r, id.Public)
}

func publicKey(chain []*x509.Certificate, spki []byte) (crypto.PublicKey, error) {
	if len(chain) > 0 {
		return cms.PublicKey(chain[0])
	}
	pub, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, err
	}
	if again, err := x509.MarshalPKIXPublicKey(pub); err != nil || !bytes.Equal(again, spki) {
		return nil, errors.New("public key is not in its one encoding")
	}
	return pub, nil
}

// fits checks that the charter declares the key of a receipt, of this kind.
func fits(c *charter.Charter, r statement.KeyUse, pub crypto.PublicKey) error {
	ck, ok := c.Keys[r.Key]
	if !ok {
		return fmt.Errorf("the charter has no key %s", r.Key)
	}
	kind, err := sigalg.KeyOf(pub)
	if err != nil {
		return err
	}
	if kind != ck.Algorithm || r.Scheme != ck.SignatureScheme() || !r.Scheme.Fits(kind) {
		return fmt.Errorf("%s signing under %s: the charter says %s under %s", kind, r.Scheme, ck.Algorithm, ck.SignatureScheme())
	}
	return nil
}

// item checks that the item is one of those that were endorsed, and what the
// policy wants of each.
func (j *judging) item() error {
	f := &j.e.File
	s := j.a.past.Request().Command.Sign
	root, err := merkle.ParseHash(s.Items)
	if err != nil {
		return err
	}
	if f.ItemProof.Size != s.Count {
		return fmt.Errorf("proof among %d: the request has %d items", f.ItemProof.Size, s.Count)
	}
	if err := f.ItemProof.Verify(merkle.Items, root, format.Leaf(f.Item)); err != nil {
		return err
	}
	it, plan, err := format.DecodeItem(f.Item)
	if err != nil {
		return err
	}
	if err := allowed(j.a.past.Policy(), s, it, plan); err != nil {
		return err
	}
	if s.Count == 1 { // then all that a grant covers can be checked
		if err := j.a.past.Covers([][]byte{f.Item}); err != nil {
			return err
		}
	}
	j.a.item, j.a.plan = it, plan
	return nil
}

// allowed is what a policy asks of one item, as quorum's Covers does of all.
func allowed(p *charter.Policy, s *statement.SignArgs, it *format.Item, plan *format.Plan) error {
	if !slices.Contains(s.Formats, plan.Format) || !slices.Contains(p.Formats, plan.Format) {
		return fmt.Errorf("is %.40q: the request announces %s, the policy signs %s", plan.Format, strings.Join(s.Formats, ", "), strings.Join(p.Formats, ", "))
	}
	if len(p.Names) > 0 && !slices.ContainsFunc(p.Names, func(pattern string) bool {
		ok, err := path.Match(pattern, it.Name)
		return ok && err == nil
	}) {
		return fmt.Errorf("%.200q matches none of %s", it.Name, strings.Join(p.Names, ", "))
	}
	for _, name := range slices.Sorted(maps.Keys(p.Params)) {
		if got := plan.Param(name); got != p.Params[name] {
			return fmt.Errorf("option %s is %.80q: the policy wants %q", name, got, p.Params[name])
		}
	}
	return nil
}

// signatures checks that the receipt commits to them, and each of them against
// what the format assembles from the plan.
func (j *judging) signatures() error {
	f, r := &j.e.File, j.a.receipt.Signed
	root, err := merkle.ParseHash(r.Signatures)
	if err != nil {
		return err
	}
	if f.SignatureProof.Size != r.Count || f.SignatureProof.Index != f.ItemProof.Index {
		return fmt.Errorf("proof for %d among %d: the item is %d among %d", f.SignatureProof.Index, f.SignatureProof.Size, f.ItemProof.Index, r.Count)
	}
	if err := f.SignatureProof.Verify(merkle.Signatures, root, format.SignatureLeaf(format.Leaf(f.Item), f.Signatures)); err != nil {
		return err
	}
	if err := j.rounds(); err != nil {
		return err
	}
	j.a.sigs = f.Signatures
	return nil
}

// rounds assembles what was signed, round by round, as the keeper did.
func (j *judging) rounds() error {
	i := slices.IndexFunc(j.formats, func(x format.Format) bool { return x.Name() == j.a.plan.Format })
	if i < 0 {
		return fmt.Errorf("format %.40q is not known to this verifier", j.a.plan.Format)
	}
	have, signers := j.e.File.Signatures, j.a.identity.Signers()
	if err := format.CheckKeys(j.formats[i], len(signers)); err != nil {
		return err
	}
	for used, round := 0, 0; ; round++ {
		tbs, err := j.assemble(j.formats[i], have[:used])
		if err != nil {
			return err
		}
		if round == 0 { // the plan is one that the format made
			if err := format.CheckPurposes(j.formats[i], j.a.plan, j.a.past.Policy().Purposes); err != nil {
				return err
			}
		}
		if len(tbs) == 0 {
			if used != len(have) || used == 0 {
				return fmt.Errorf("%d signatures: the format makes %d", len(have), used)
			}
			return nil
		}
		if round == format.MaxRounds || used+len(tbs) > len(have) {
			return fmt.Errorf("%d signatures: the format makes more", len(have))
		}
		for _, t := range tbs {
			if t.Key < 0 || t.Key >= len(signers) {
				return fmt.Errorf("signature %d: by key %d of %d", used, t.Key, len(signers))
			}
			by := signers[t.Key]
			if t.Scheme != by.Scheme {
				return fmt.Errorf("signature %d: under %s: the key signs under %s", used, t.Scheme, by.Scheme)
			}
			if err := t.Verify(by.Public, have[used]); err != nil {
				return fmt.Errorf("signature %d: %w", used, err)
			}
			used++
		}
	}
}

// assemble calls the format, whose plan is anybody's, without ending when it does.
func (j *judging) assemble(f format.Format, done [][]byte) (tbs []format.ToBeSigned, err error) {
	defer func() {
		if p := recover(); p != nil {
			tbs, err = nil, fmt.Errorf("format %s: internal error: %v", f.Name(), p)
		}
	}()
	id := j.a.identity
	id.Chain, id.Also = slices.Clone(id.Chain), slices.Clone(id.Also)
	return format.Next(f, j.a.plan, id, j.a.receipt.Time, slices.Clone(done))
}
