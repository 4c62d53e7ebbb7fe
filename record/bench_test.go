package record_test

import (
	"fmt"
	"testing"

	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/record/recordtest"
	"github.com/greatseal-io/greatseal/sigalg"
)

// one is a record among a thousand of a job, signed with a key of the kind.
func one(b *testing.B, kind sigalg.Key) (*record.Trust, *record.Record, []record.Signature) {
	b.Helper()
	s := recordtest.NewSigner(b, kind)
	recs := make([]*record.Record, 1000)
	for i := range recs {
		recs[i] = recordtest.DataSource()
		recs[i].Ref.Key = []string{fmt.Sprint(i)}
	}
	sigs := recordtest.Signing{Signer: s}.Sign(b, recs...)
	return recordtest.Trust(s), recs[777], sigs[777:778]
}

// Verification with the signed root in the cache.
func BenchmarkVerifyCached(b *testing.B) {
	for _, kind := range []sigalg.Key{sigalg.RSA3072, sigalg.P256, sigalg.MLDSA65} {
		b.Run(string(kind), func(b *testing.B) {
			trust, rec, sigs := one(b, kind)
			v, marks := recordtest.Verifier(b, trust), &recordtest.Marks{}
			for b.Loop() {
				if _, err := v.Verify(b.Context(), rec, record.Queue, sigs, marks); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Verification of a signed root that was never seen: leaf, intermediate and anchor.
func BenchmarkVerifyCold(b *testing.B) {
	for _, kind := range []sigalg.Key{sigalg.RSA3072, sigalg.P256, sigalg.MLDSA65} {
		b.Run(string(kind), func(b *testing.B) {
			trust, rec, sigs := one(b, kind)
			marks := &recordtest.Marks{}
			v := recordtest.Verifier(b, trust)
			for b.Loop() {
				if _, err := v.WithoutCache().Verify(b.Context(), rec, record.Queue, sigs, marks); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// One record on its way into a job.
func BenchmarkSignRecord(b *testing.B) {
	c := recordtest.Configuration()
	p, err := c.Prepare(recordtest.ID)
	if err != nil {
		b.Fatal(err)
	}
	job, err := record.NewBuilder(record.ListHead{Job: recordtest.Job, Issuer: recordtest.Trusted}, nil)
	if err != nil {
		b.Fatal(err)
	}
	rec := recordtest.DataSource()
	b.ReportAllocs()
	for b.Loop() {
		s, err := p.Statement(rec, record.StatementOptions{Issuer: recordtest.Trusted, Revision: 1})
		if err != nil {
			b.Fatal(err)
		}
		if _, _, err := job.Add(s); err != nil {
			b.Fatal(err)
		}
	}
}
