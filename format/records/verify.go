package records

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/tsp"
)

// Verify checks the signed root in t.Detached over the list: every statement of it.
// The signer's certificate must be for code signing and lead to t.Roots at the time
// of a trusted timestamp, or at t.Now. Whether anybody believes him for these
// records is record.Verifier's to say.
func (Format) Verify(ctx context.Context, a format.Artifact, t format.Trust) (*format.Report, error) {
	r, err := decodeRoot(t.Detached)
	if err != nil {
		return nil, err
	}
	if t.Roots == nil {
		return nil, errors.New("records: no root certificates are trusted")
	}
	j, err := readJob(ctx, a, nil)
	if err != nil {
		return nil, err
	}
	body, err := j.Encode()
	if err != nil {
		return nil, fmt.Errorf("records: %w", err)
	}
	if !bytes.Equal(body, r.Job) {
		return nil, errors.New("records: the signed root is of another list")
	}
	info, chain, err := describe(r)
	if err != nil {
		return nil, err
	}
	kind, err := sigalg.KeyOf(info.Key)
	if err != nil {
		return nil, fmt.Errorf("records: %w", err)
	}
	if !info.Scheme.Fits(kind) {
		return nil, fmt.Errorf("records: scheme %q does not fit a key %s", info.Scheme, kind)
	}
	m, err := r.Message()
	if err != nil {
		return nil, fmt.Errorf("records: %w", err)
	}
	if err := sigalg.Verify(info.Key, info.Scheme, m, r.Signature); err != nil {
		return nil, fmt.Errorf("records: %w", err)
	}
	at := t.Now
	if len(r.Timestamp) > 0 && t.TimestampRoots != nil {
		token, err := tsp.ParseToken(r.Timestamp)
		if err != nil {
			return nil, fmt.Errorf("records: %w", err)
		}
		if at, err = token.Verify(imprint(r), t.TimestampRoots, t.Intermediates...); err != nil {
			return nil, fmt.Errorf("records: %w", err)
		}
		info.Time, info.Timestamp = at, r.Timestamp
		if c := token.CMS.Signers[0].Certificate(t.Intermediates...); c != nil {
			info.TimeFrom = c.Subject.String()
		}
		info.Open = []string{"unsigned attributes and unused certificates inside the timestamp"}
	} else if len(r.Timestamp) > 0 {
		info.Open = []string{"the timestamp"}
	}
	chains, err := cms.VerifyChain(chain[0], append(chain[1:len(chain):len(chain)], t.Intermediates...), cms.ChainOptions{Roots: t.Roots, Usage: x509.ExtKeyUsageCodeSigning, At: at})
	if err != nil {
		return nil, fmt.Errorf("records: %w", err)
	}
	for i, c := range chain[1:] {
		if !used(chains, c) {
			info.Open = append(info.Open, fmt.Sprintf("certificate %d of the signed root, which no path uses", i+1))
		}
	}
	return &format.Report{Format: Name, Size: a.Size(), Facts: facts(j), Signatures: []format.SignatureInfo{*info}}, nil
}

func used(chains [][]*x509.Certificate, c *x509.Certificate) bool {
	for _, chain := range chains {
		for _, u := range chain {
			if u.Equal(c) {
				return true
			}
		}
	}
	return false
}

// describe is what a signed root says of itself.
func describe(r *record.SignedRoot) (*format.SignatureInfo, []*x509.Certificate, error) {
	var chain []*x509.Certificate
	for i, der := range r.Certificates {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, nil, fmt.Errorf("records: certificate %d: %w", i, err)
		}
		chain = append(chain, c)
	}
	pub, err := cms.PublicKey(chain[0])
	if err != nil {
		return nil, nil, fmt.Errorf("records: %w", err)
	}
	j, err := record.DecodeJob(r.Job)
	if err != nil {
		return nil, nil, fmt.Errorf("records: %w", err)
	}
	return &format.SignatureInfo{
		Scheme: sigalg.Scheme(r.Scheme), Digest: "sha256", Content: j.Root, Value: r.Signature, Key: pub,
		Signer: chain[0], Subject: chain[0].Subject.String(), Issuer: chain[0].Issuer.String(),
		Covers: []string{"every statement of the list", "the job", "the time of signing", "the signer's certificate"},
		Facts:  []format.Fact{{Name: "signing time", Value: date(r.SignedAt)}},
	}, chain, nil
}

// Inspect says what a list, or a signed root, contains.
func (Format) Inspect(ctx context.Context, a format.Artifact) (*format.Report, error) {
	rep := &format.Report{Format: Name, Size: a.Size(), Signatures: []format.SignatureInfo{}}
	if isList(a) {
		j, err := readJob(ctx, a, nil)
		if err != nil {
			return nil, err
		}
		rep.Facts = facts(j)
		return rep, nil
	}
	r, err := readRoot(a)
	if err != nil {
		return rep, nil
	}
	info, _, err := describe(r)
	if err != nil {
		return nil, err
	}
	j, err := record.DecodeJob(r.Job)
	if err != nil {
		return nil, fmt.Errorf("records: %w", err)
	}
	rep.Facts = facts(j)
	if len(r.Timestamp) > 0 {
		info.Timestamp, info.Open = r.Timestamp, []string{"the timestamp"}
		if token, err := tsp.ParseToken(r.Timestamp); err == nil {
			info.Facts = append(info.Facts, format.Fact{Name: "timestamp, as stated", Value: token.Info.Time.UTC().Format(time.RFC3339)})
		}
	}
	rep.Signatures = append(rep.Signatures, *info)
	return rep, nil
}

// List hands out the statements of a list: each under its record's name, with the
// digest of the statement.
func (Format) List(ctx context.Context, a format.Artifact, yield func(format.Entry) error) error {
	_, err := readJob(ctx, a, func(b []byte) error {
		s, err := record.DecodeStatement(b)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(b)
		e := format.Entry{Name: s.Ref.String(), Size: int64(len(b)), Digest: sum[:], Facts: []format.Fact{
			{Name: "purpose", Value: s.Purpose}, {Name: "revision", Value: strconv.FormatUint(s.Revision, 10)}, {Name: "configuration", Value: s.Configuration.ID},
		}}
		if s.Deleted {
			e.Facts = append(e.Facts, format.Fact{Name: "deleted", Value: "true"})
		}
		return yield(e)
	})
	return err
}
