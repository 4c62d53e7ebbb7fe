package record_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/cms/cmstest"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/merkle"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/record/recordtest"
	"github.com/greatseal-io/greatseal/rejection"
	"github.com/greatseal-io/greatseal/sigalg"
)

// scene is what one attack sets up. It begins as a record that verifies.
type scene struct {
	testing.TB
	signer  *formattest.Signer
	rec     *record.Record
	purpose string
	sigs    []record.Signature
	trust   *record.Trust
	marks   *recordtest.Marks
}

func newScene(tb testing.TB) *scene {
	tb.Helper()
	s := recordtest.NewSigner(tb, sigalg.P256)
	return &scene{
		TB: tb, signer: s, rec: recordtest.DataSource(), purpose: record.Queue, trust: recordtest.Trust(s), marks: &recordtest.Marks{},
		sigs: recordtest.Signing{Signer: s}.Sign(tb, recordtest.DataSource()),
	}
}

// sign replaces the signatures by one made in another way.
func (s *scene) sign(g recordtest.Signing) *scene {
	s.Helper()
	if g.Signer == nil {
		g.Signer = s.signer
	}
	s.sigs = g.Sign(s.TB, s.rec)
	return s
}

// script makes the record a script include with the wild card purpose.
func (s *scene) script() *scene {
	s.Helper()
	s.rec = recordtest.Script()
	return s.sign(recordtest.Signing{ID: "script-includes"})
}

// root changes the signed root, and signs it again with the signer's key.
func (s *scene) root(change func(r *record.SignedRoot)) *scene {
	s.Helper()
	r, err := record.DecodeSignedRoot(s.sigs[0].Root)
	if err != nil {
		s.Fatal(err)
	}
	change(r)
	m, err := r.Message()
	if err != nil {
		s.Fatal(err)
	}
	r.Signature = s.signer.Sign(s, m)
	return s.keep(r)
}

func (s *scene) keep(r *record.SignedRoot) *scene {
	s.Helper()
	b, err := format.Encode(r)
	if err != nil {
		s.Fatal(err)
	}
	s.sigs[0].Root = b
	return s
}

// job changes the job that is signed.
func (s *scene) job(change func(j *record.Job)) *scene {
	s.Helper()
	return s.root(func(r *record.SignedRoot) {
		j, err := record.DecodeJob(r.Job)
		if err != nil {
			s.Fatal(err)
		}
		change(j)
		if r.Job, err = format.Encode(j); err != nil {
			s.Fatal(err)
		}
	})
}

func (s *scene) verify(without string) error {
	s.Helper()
	v := recordtest.Verifier(s.TB, s.trust)
	if without != "" {
		v = v.Without(without)
	}
	_, err := v.Verify(s.Context(), s.rec, s.purpose, s.sigs, s.marks)
	return err
}

// revoke ends the belief in a certificate or key.
func (s *scene) revoke(der []byte, since time.Time, compromised bool) *scene {
	s.trust.Revocations = append(s.trust.Revocations, record.Revocation{Fingerprint: record.Fingerprint(der), Since: since, Compromised: compromised})
	return s
}

// withKey signs the root again with a key of the test's own, whose certificate is in order.
func (s *scene) withKey(key crypto.Signer, sign func(r *record.SignedRoot, message []byte) []byte) *scene {
	s.Helper()
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(77), Subject: pkix.Name{CommonName: "own key"}, NotBefore: recordtest.At.AddDate(-1, 0, 0), NotAfter: recordtest.At.AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}, s.signer.Root.Certificate, key.Public(), s.signer.Root.Key)
	if err != nil {
		s.Fatal(err)
	}
	r, err := record.DecodeSignedRoot(s.sigs[0].Root)
	if err != nil {
		s.Fatal(err)
	}
	r.Certificates, r.Scheme = [][]byte{der}, string(sigalg.RSAPKCS1SHA256)
	m, err := r.Message()
	if err != nil {
		s.Fatal(err)
	}
	r.Signature = sign(r, m)
	return s.keep(r)
}

// weak signs with an RSA key of 2048 bits.
func (s *scene) weak() *scene {
	s.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		s.Fatal(err)
	}
	return s.withKey(key, func(_ *record.SignedRoot, m []byte) []byte {
		sig, err := key.Sign(rand.Reader, sigalg.RSAPKCS1SHA256.Input(m), sigalg.RSAPKCS1SHA256.SignerOpts())
		if err != nil {
			s.Fatal(err)
		}
		return sig
	})
}

// weakAuthority adds an authority with an RSA key of 2048 bits to the certificates.
func (s *scene) weakAuthority() *scene {
	s.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		s.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(78), Subject: pkix.Name{CommonName: "weak"}, NotBefore: recordtest.At.AddDate(-1, 0, 0), NotAfter: recordtest.At.AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, s.signer.Root.Certificate, &key.PublicKey, s.signer.Root.Key)
	if err != nil {
		s.Fatal(err)
	}
	return s.root(func(r *record.SignedRoot) { r.Certificates = append(r.Certificates, der) })
}

func expired(c *x509.Certificate) { c.NotAfter = recordtest.At.Add(-time.Hour) }

func tooEarly(c *x509.Certificate) { c.NotBefore = recordtest.At.Add(time.Hour) }

// as is another signer of the scene.
func (s *scene) as(change func(*x509.Certificate)) *scene {
	s.Helper()
	s.signer = recordtest.NewSigner(s.TB, sigalg.P256, change)
	s.trust = recordtest.Trust(s.signer)
	return s.sign(recordtest.Signing{})
}

var other = func() record.Configuration {
	c := recordtest.Configuration()
	c.Purpose = "deploy"
	return c
}()

// attacks are refused for the reason that is given. step is the check that each is
// for: without it, the attack succeeds. Where it is empty, another check stands
// behind the first.
var attacks = []struct {
	name    string
	code    rejection.Code
	subject string
	step    string
	set     func(s *scene)
}{
	{"a field is changed", rejection.FieldChanged, "sql_statement", "fields", func(s *scene) { s.rec.Fields["sql_statement"] += " OR 1=1" }},
	{"a field is taken away", rejection.FieldChanged, "query", "fields", func(s *scene) { delete(s.rec.Fields, "query") }},
	{"a signed field that was absent is there", rejection.FieldChanged, "properties", "fields", func(s *scene) { s.rec.Fields["properties"] = "allowLoadLocalInfile=true" }},
	{"two fields are swapped", rejection.FieldChanged, "database_name", "fields", func(s *scene) {
		f := s.rec.Fields
		f["database_name"], f["name"] = f["name"], f["database_name"]
	}},
	{"line ends are changed", rejection.FieldChanged, "sql_statement", "fields", func(s *scene) { s.rec.Fields["sql_statement"] += "\r" }},
	{"the signature is of another record", rejection.RecordMismatch, "", "record", func(s *scene) { s.rec.Ref.Key = []string{"another"} }},
	{"the signature is of another table", rejection.RecordMismatch, "", "record", func(s *scene) { s.rec.Ref.Table = "sys_data_source_2" }},
	{"the key is split another way", rejection.RecordMismatch, "", "record", func(s *scene) {
		k := s.rec.Ref.Key[0]
		s.rec.Ref.Key = []string{k[:4], k[4:]}
	}},
	{"it is signed for another purpose", rejection.PurposeMismatch, "ecc_queue", "purpose", func(s *scene) {
		s.trust.Configurations["deployments"], s.trust.Anchors[0].Purposes = other, []string{"deploy"}
		s.sign(recordtest.Signing{ID: "deployments", Configuration: other})
	}},
	{"the wild card is for the circle", rejection.PurposeMismatch, record.Circle, "purpose", func(s *scene) { s.script().purpose = record.Circle }},
	{"the wild card is for freshness", rejection.PurposeMismatch, record.Freshness, "purpose", func(s *scene) { s.script().purpose = record.Freshness }},
	{"the wild card is on another table", rejection.WildcardNotAllowed, "sys_data_source", "", func(s *scene) {
		s.sign(recordtest.Signing{Change: func(st *record.Statement) { st.Purpose = record.Wildcard }})
	}},
	{"the anchor is not for the purpose", rejection.CertUntrusted, "test authority", "anchor", func(s *scene) { s.trust.Anchors[0].Purposes = []string{record.Wildcard} }},
	{"the anchor for a purpose is not for the wild card", rejection.CertUntrusted, "test authority", "anchor", func(s *scene) {
		s.script().trust.Anchors[0].Purposes = []string{record.Queue}
	}},
	{"the anchor is for nothing", rejection.CertUntrusted, "test authority", "anchor", func(s *scene) { s.trust.Anchors[0].Purposes = nil }},
	{"the anchor is not for the table", rejection.CertUntrusted, "test authority", "anchor", func(s *scene) { s.trust.Anchors[0].Tables = []string{"sys_script"} }},
	{"the anchor is not for the issuer", rejection.CertUntrusted, "test authority", "anchor", func(s *scene) { s.trust.Anchors[0].Issuers = []string{"another"} }},
	{"nobody knows the certificate", rejection.CertUnknown, "", "chain", func(s *scene) {
		s.trust.Anchors = []record.Anchor{recordtest.Anchor(recordtest.NewSigner(s.TB, sigalg.P256))}
	}},
	{"nobody is believed", rejection.CertUnknown, "", "anchor", func(s *scene) { s.trust.Anchors = nil }},
	{"the certificate had expired when it signed", rejection.CertExpiredAtSigning, "", "chain", func(s *scene) { s.as(expired) }},
	{"the certificate was not valid yet when it signed", rejection.CertExpiredAtSigning, "", "chain", func(s *scene) { s.as(tooEarly) }},
	{"the certificate had expired when it was stamped", rejection.CertExpiredAtSigning, "", "chain", func(s *scene) {
		s.as(func(c *x509.Certificate) { c.NotAfter = recordtest.At.Add(time.Minute) })
		s.sign(recordtest.Signing{Stamped: recordtest.At.Add(2 * time.Minute)})
	}},
	{"the certificate is not for code signing", rejection.CertUntrusted, "", "", func(s *scene) {
		good := recordtest.NewSigner(s.TB, sigalg.P256)
		bad := recordtest.NewSigner(s.TB, sigalg.P256, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
		s.signer, s.trust = good, recordtest.Trust(good, bad)
		s.sign(recordtest.Signing{})
		s.signer = bad
		s.root(func(r *record.SignedRoot) { r.Certificates = [][]byte{bad.Chain[0].Raw, bad.Chain[1].Raw} })
	}},
	{"the certificate is for any usage", rejection.CertUntrusted, "", "", func(s *scene) {
		bad := recordtest.NewSigner(s.TB, sigalg.P256, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} })
		s.trust, s.signer = recordtest.Trust(bad), bad
		s.root(func(r *record.SignedRoot) { r.Certificates = [][]byte{bad.Chain[0].Raw, bad.Chain[1].Raw} })
	}},
	{"the certificate is revoked", rejection.CertRevoked, "", "revocation", func(s *scene) { s.revoke(s.signer.Chain[0].Raw, time.Time{}, false) }},
	{"the authority is revoked", rejection.CertRevoked, "", "revocation", func(s *scene) { s.revoke(s.signer.Chain[1].Raw, time.Time{}, false) }},
	{"the anchor is revoked", rejection.CertRevoked, "", "revocation", func(s *scene) { s.revoke(s.signer.Root.Root.Raw, time.Time{}, false) }},
	{"the key is compromised", rejection.KeyCompromised, "", "revocation", func(s *scene) {
		s.revoke(s.signer.Chain[0].RawSubjectPublicKeyInfo, time.Time{}, true)
	}},
	{"revoked later, and nothing proves the time of signing", rejection.CertRevoked, "", "revocation", func(s *scene) {
		s.revoke(s.signer.Chain[0].Raw, recordtest.At.Add(30*time.Minute), false)
	}},
	{"revoked later, and nobody believes the timestamp", rejection.CertRevoked, "", "revocation", func(s *scene) {
		s.sign(recordtest.Signing{Stamped: recordtest.At}).revoke(s.signer.Chain[0].Raw, recordtest.At.Add(30*time.Minute), false)
		s.trust.TimestampRoots = nil
	}},
	{"compromised before the timestamp", rejection.KeyCompromised, "", "revocation", func(s *scene) {
		s.sign(recordtest.Signing{Stamped: recordtest.At}).revoke(s.signer.Chain[0].RawSubjectPublicKeyInfo, recordtest.At.Add(-time.Minute), true)
	}},
	{"revoked, whatever the timestamp", rejection.CertRevoked, "", "revocation", func(s *scene) {
		s.sign(recordtest.Signing{Stamped: recordtest.At}).revoke(s.signer.Chain[0].Raw, time.Time{}, false)
	}},
	{"it is for another instance", rejection.AudienceMismatch, "protected", "audience", func(s *scene) {
		s.sign(recordtest.Signing{Audience: []string{"another"}})
	}},
	{"the issuer is not trusted", rejection.CertUntrusted, "protected", "issuer", func(s *scene) { s.sign(recordtest.Signing{Issuer: "protected"}) }},
	{"the configuration has a newer version", rejection.ConfigOutdated, "data-sources", "", func(s *scene) {
		c := recordtest.Configuration()
		c.Version++
		s.trust.Configurations[recordtest.ID] = c
	}},
	{"the configuration was narrowed under its version", rejection.ConfigOutdated, "data-sources", "", func(s *scene) {
		c := recordtest.Configuration()
		c.Fields = slices.DeleteFunc(c.Fields, func(f string) bool { return f == "sql_statement" })
		s.sign(recordtest.Signing{Configuration: c}).rec.Fields["sql_statement"] = "DROP TABLE orders"
	}},
	{"the configuration is not in force", rejection.ConfigOutdated, "data-sources", "", func(s *scene) { s.trust.Configurations = nil }},
	{"a field is not covered", rejection.FieldUncovered, "sql_statement", "", func(s *scene) {
		s.sign(recordtest.Signing{Change: func(st *record.Statement) {
			st.Fields = slices.DeleteFunc(st.Fields, func(f record.FieldDigest) bool { return f.Name == "sql_statement" })
		}})
	}},
	{"a field is not covered, and changed", rejection.FieldUncovered, "sql_statement", "coverage", func(s *scene) {
		s.sign(recordtest.Signing{Change: func(st *record.Statement) {
			st.Fields = slices.DeleteFunc(st.Fields, func(f record.FieldDigest) bool { return f.Name == "sql_statement" })
		}}).rec.Fields["sql_statement"] = "DROP TABLE orders"
	}},
	{"a field too many is covered", rejection.SigMalformed, "", "coverage", func(s *scene) {
		s.sign(recordtest.Signing{Change: func(st *record.Statement) {
			st.Fields = append(st.Fields, record.FieldDigest{Name: "zzz", Digest: record.FieldDigestOf("zzz", "")})
		}})
	}},
	{"an attachment is changed", rejection.AttachmentChanged, "mapping.json", "attachments", func(s *scene) { s.rec.Attachments[0].SHA256[5] ^= 1 }},
	{"an attachment has another type", rejection.AttachmentChanged, "mapping.json", "attachments", func(s *scene) { s.rec.Attachments[0].Type = "text/javascript" }},
	{"an attachment has another size", rejection.AttachmentChanged, "mapping.json", "attachments", func(s *scene) { s.rec.Attachments[0].Size++ }},
	{"an attachment is missing", rejection.AttachmentMissing, "mapping.json", "attachments", func(s *scene) { s.rec.Attachments = s.rec.Attachments[1:] }},
	{"an attachment is renamed", rejection.AttachmentMissing, "mapping.json", "attachments", func(s *scene) { s.rec.Attachments[0].Name = "mapping2.json" }},
	{"an attachment is added", rejection.AttachmentExtra, "run.sh", "attachments", func(s *scene) {
		s.rec.Attachments = append(s.rec.Attachments, record.Attachment{Name: "run.sh"})
	}},
	{"an attachment of a name that is there is added", rejection.AttachmentExtra, "mapping.json", "attachments", func(s *scene) {
		a := s.rec.Attachments[0]
		a.SHA256[0] ^= 1
		s.rec.Attachments = append(s.rec.Attachments, a)
	}},
	{"an attachment stands twice", rejection.AttachmentExtra, "mapping.json", "attachments", func(s *scene) {
		s.rec.Attachments = append(s.rec.Attachments, s.rec.Attachments[0])
	}},
	{"a newer revision was seen", rejection.RevisionRollback, "", "marks", func(s *scene) {
		if err := s.marks.Raise(s.Context(), s.rec.Ref, 2); err != nil {
			s.Fatal(err)
		}
	}},
	{"a floor is above the revision", rejection.RevisionRollback, "", "revision", func(s *scene) {
		s.trust.Floors = []record.Floor{{Ref: s.rec.Ref, Revision: 2}}
	}},
	{"another signer signed a newer revision", rejection.RevisionRollback, "", "revision", func(s *scene) {
		b := recordtest.NewSigner(s.TB, sigalg.P256)
		s.trust = recordtest.Trust(s.signer, b)
		newer := recordtest.Copy(s.rec)
		newer.Fields["sql_statement"] = "SELECT 2"
		s.sigs = append(s.sigs, recordtest.Signing{Signer: b, Revision: 2}.Sign(s.TB, newer)...)
	}},
	{"the same signer signed a newer content", rejection.FieldChanged, "sql_statement", "newest", func(s *scene) {
		newer := recordtest.Copy(s.rec)
		newer.Fields["sql_statement"] = "SELECT 2"
		s.sigs = append(s.sigs, recordtest.Signing{Signer: s.signer, At: recordtest.At.Add(time.Minute)}.Sign(s.TB, newer)...)
	}},
	{"it is not valid yet", rejection.NotYetValid, "", "not before", func(s *scene) {
		s.sign(recordtest.Signing{NotBefore: s.trust.Now.Unix() + 1})
	}},
	{"it was signed in the future", rejection.NotYetValid, "", "not before", func(s *scene) {
		s.sign(recordtest.Signing{At: s.trust.Now.Add(time.Hour)})
	}},
	{"it has expired", rejection.Expired, "", "expiry", func(s *scene) { s.sign(recordtest.Signing{Expires: s.trust.Now.Unix()}) }},
	{"the signature is deleted", rejection.SigMissing, "", "", func(s *scene) { s.sigs = nil }},
	{"there are too many signatures", rejection.SigMalformed, "", "limit", func(s *scene) { s.sigs = slices.Repeat(s.sigs, record.MaxSignatures+1) }},
	{"the statement is no statement", rejection.SigMalformed, "", "", func(s *scene) { s.sigs[0].Statement = []byte{0xa0} }},
	{"the root is no root", rejection.SigMalformed, "", "", func(s *scene) { s.sigs[0].Root = []byte("root") }},
	{"the certificate is no certificate", rejection.SigMalformed, "", "", func(s *scene) {
		s.root(func(r *record.SignedRoot) { r.Certificates[0] = []byte{0x30, 0} })
	}},
	{"the statement is not in the job", rejection.SigInvalid, "", "path", func(s *scene) {
		s.rec.Fields["sql_statement"] = "DROP TABLE orders"
		forged := recordtest.Signing{Signer: s.signer}.Sign(s.TB, s.rec)
		s.sigs[0].Statement = forged[0].Statement
	}},
	{"the statement stands elsewhere", rejection.SigInvalid, "", "path", func(s *scene) { s.sigs[0].Index = 1 }},
	{"the root is another's", rejection.SigInvalid, "", "path", func(s *scene) {
		second := recordtest.Copy(s.rec)
		second.Fields["sql_statement"] = "SELECT 2"
		s.sigs[0].Root = recordtest.Signing{Signer: s.signer}.Sign(s.TB, second)[0].Root
	}},
	{"the key did not sign the root", rejection.SigInvalid, "", "root signature", func(s *scene) {
		r, err := record.DecodeSignedRoot(s.sigs[0].Root)
		if err != nil {
			s.Fatal(err)
		}
		r.Signature = s.signer.Sign(s, []byte("another message"))
		s.keep(r)
	}},
	{"the time of signing is changed", rejection.SigInvalid, "", "root signature", func(s *scene) {
		r, err := record.DecodeSignedRoot(s.sigs[0].Root)
		if err != nil {
			s.Fatal(err)
		}
		r.SignedAt -= 3600
		s.keep(r)
	}},
	{"the job describes another purpose", rejection.SigInvalid, "", "job", func(s *scene) { s.job(func(j *record.Job) { j.Purposes = []string{"harmless"} }) }},
	{"the job describes another table", rejection.SigInvalid, "", "job", func(s *scene) { s.job(func(j *record.Job) { j.Tables[0].Table = "harmless" }) }},
	{"the job describes another issuer", rejection.SigInvalid, "", "job", func(s *scene) { s.job(func(j *record.Job) { j.Issuer = "harmless" }) }},
	{"the job describes another audience", rejection.SigInvalid, "", "job", func(s *scene) { s.job(func(j *record.Job) { j.Audience = []string{"harmless"} }) }},
	{"the job describes another configuration", rejection.SigInvalid, "", "job", func(s *scene) { s.job(func(j *record.Job) { j.Configurations[0].Digest[0] ^= 1 }) }},
	{"the job describes other revisions", rejection.SigInvalid, "", "job", func(s *scene) { s.job(func(j *record.Job) { j.LowestRevision, j.LatestRevision = 2, 2 }) }},
	{"the job ends before the statement", rejection.SigInvalid, "", "job", func(s *scene) { s.job(func(j *record.Job) { j.Expires = recordtest.At.Unix() }) }},
	{"the key is too short", rejection.AlgNotAllowed, "", "algorithm", func(s *scene) { s.weak() }},
	{"an authority's key is too short", rejection.AlgNotAllowed, "", "algorithm", func(s *scene) { s.weakAuthority() }},
	{"the scheme is not one of the key", rejection.AlgNotAllowed, "rsa-pkcs1-sha256", "", func(s *scene) {
		s.root(func(r *record.SignedRoot) { r.Scheme = string(sigalg.RSAPKCS1SHA256) })
	}},
	{"the timestamp is over another signature", rejection.SigInvalid, "timestamp", "timestamp", func(s *scene) {
		r, err := record.DecodeSignedRoot(s.sigs[0].Root)
		if err != nil {
			s.Fatal(err)
		}
		r.Timestamp = s.signer.Timestamp(s, []byte("another"), recordtest.At)
		s.keep(r)
	}},
	{"the timestamp is older than the signature", rejection.SigInvalid, "timestamp", "timestamp", func(s *scene) {
		s.sign(recordtest.Signing{Stamped: recordtest.At.Add(-time.Hour)})
	}},
	{"the timestamp is nobody's", rejection.SigInvalid, "timestamp", "timestamp", func(s *scene) {
		s.sign(recordtest.Signing{Stamped: recordtest.At})
		s.trust.TimestampRoots = recordtest.Trust(recordtest.NewSigner(s.TB, sigalg.P256)).TimestampRoots
	}},
	{"the newest signature is of the deletion", rejection.ActionMismatch, "", "deletion", func(s *scene) {
		s.sigs = append(s.sigs, recordtest.Signing{Signer: s.signer, Deleted: true, Revision: 2, At: recordtest.At.Add(time.Minute)}.Sign(s.TB, s.rec)...)
	}},
	{"the reference names no record", rejection.RecordMismatch, "", "", func(s *scene) { s.rec.Ref.Key = nil }},
}

// Every attack is refused for its reason; without the step that it is for, it
// succeeds.
func TestAttacks(t *testing.T) {
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			s := newScene(t)
			if err := s.verify(""); err != nil {
				t.Fatalf("before the attack: %v", err)
			}
			s.marks = &recordtest.Marks{}
			a.set(s)
			err := s.verify("")
			if !errors.Is(err, &rejection.Error{Code: a.code, Subject: a.subject}) {
				t.Fatalf("%v: want %s(%s)", err, a.code, a.subject)
			}
			if rejection.Of(err).Subject != a.subject {
				t.Errorf("%v: want %s(%s)", err, a.code, a.subject)
			}
			if a.step != "" {
				if a.step == "marks" {
					s.marks = &recordtest.Marks{}
				}
				if err := s.verify(a.step); err != nil {
					t.Errorf("without the step %q: %v", a.step, err)
				}
			}
		})
	}
}

// Each step is the one that stops some attack, but for those behind which another
// one stands.
func TestStepsAreAttacked(t *testing.T) {
	doubled := []string{
		"statement", "root", // everything else reads what they give
		"usage",         // cms.VerifyChain wants the usage too
		"wild card",     // no configuration with the wild card is for another table
		"configuration", // later steps read it
	}
	for _, step := range record.Steps() {
		attacked := slices.ContainsFunc(attacks, func(a struct {
			name    string
			code    rejection.Code
			subject string
			step    string
			set     func(s *scene)
		}) bool {
			return a.step == step
		})
		if attacked == slices.Contains(doubled, step) {
			t.Errorf("step %q: attacked %v", step, attacked)
		}
	}
}

// Each reason that this package gives has an attack.
func TestReasonsAreAttacked(t *testing.T) {
	seen := map[rejection.Code]bool{rejection.DeleteUnsigned: true} // TestDeletion
	for _, a := range attacks {
		seen[a.code] = true
	}
	for _, c := range rejection.Codes() {
		if c == rejection.OrderMalformed {
			break // from here on they are those of orders, agents and updates
		}
		if !seen[c] {
			t.Errorf("%s has no attack", c)
		}
	}
	if !seen[rejection.ActionMismatch] {
		t.Error("ACTION_MISMATCH has no attack")
	}
}

// Invariant 3, and every byte of what is signed: a record with one bit of its
// signature changed is refused with a reason.
func TestEveryByte(t *testing.T) {
	s := newScene(t)
	recs := []*record.Record{s.rec}
	for i := range 4 {
		r := recordtest.Copy(s.rec)
		r.Ref.Key = []string{fmt.Sprint("key ", i)}
		recs = append(recs, r)
	}
	s.sigs = recordtest.Signing{Signer: s.signer, Stamped: time.Time{}}.Sign(t, recs...)[:1]
	v := recordtest.Verifier(t, s.trust)
	check := func(what string, i int, rec *record.Record, sig record.Signature) {
		t.Helper()
		_, err := v.Verify(t.Context(), rec, record.Queue, []record.Signature{sig}, s.marks)
		if rejection.Of(err) == nil {
			t.Errorf("byte %d of the %s: %v", i, what, err)
		}
	}
	good := s.sigs[0]
	for _, bit := range []byte{1, 0x80} {
		for _, part := range []struct {
			name string
			of   func(*record.Signature) *[]byte
		}{
			{"statement", func(s *record.Signature) *[]byte { return &s.Statement }},
			{"path", func(s *record.Signature) *[]byte { return &s.Path }},
			{"root", func(s *record.Signature) *[]byte { return &s.Root }},
		} {
			for i := range *part.of(&good) {
				bad := good
				b := slices.Clone(*part.of(&good))
				b[i] ^= bit
				*part.of(&bad) = b
				check(part.name, i, s.rec, bad)
			}
		}
		for name, value := range s.rec.Fields {
			if name == "last_run_datetime" {
				continue
			}
			for i := range value {
				r := recordtest.Copy(s.rec)
				b := []byte(value)
				b[i] ^= bit
				r.Fields[name] = string(b)
				check(name, i, r, good)
			}
		}
	}
	for _, index := range []int64{-1, 1, 4, 5, 1 << 40, -1 << 63} {
		bad := good
		bad.Index = index
		check("index", int(index), s.rec, bad)
	}
	if _, err := v.Verify(t.Context(), s.rec, record.Queue, s.sigs, s.marks); err != nil {
		t.Error(err)
	}
}

// An RSA signature whose padding a lenient verifier would take: the digest is right,
// and what is beside it is not. Each is made with the key itself.
func TestLenientPKCS1(t *testing.T) {
	key := cmstest.NewKey(t, sigalg.RSA3072).(*rsa.PrivateKey)
	k := key.Size()
	prefix := []byte{0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}
	full := func(info []byte) []byte {
		return slices.Concat([]byte{0, 1}, slices.Repeat([]byte{0xff}, k-3-len(info)), []byte{0}, info)
	}
	for _, c := range []struct {
		name  string
		good  bool
		block func(info []byte) []byte
	}{
		{"as RFC 8017 has it", true, full},
		{"garbage after the digest", false, func(info []byte) []byte {
			short := slices.Concat([]byte{0, 1}, slices.Repeat([]byte{0xff}, 8), []byte{0}, info)
			return append(short, make([]byte, k-len(short))...)
		}},
		{"garbage before the digest", false, func(info []byte) []byte {
			return slices.Concat([]byte{0, 1}, slices.Repeat([]byte{0xff}, 8), []byte{0}, make([]byte, k-11-len(info)), info)
		}},
		{"parameters left out", false, func(info []byte) []byte {
			return full(slices.Concat([]byte{0x30, 0x2f, 0x30, 0x0b}, info[4:15], info[17:]))
		}},
		{"parameters in two bytes of length", false, func(info []byte) []byte {
			return full(slices.Concat([]byte{0x30, 0x32, 0x30, 0x0e}, info[4:15], []byte{0x05, 0x81, 0x00}, info[17:]))
		}},
		{"block type 2", false, func(info []byte) []byte { b := full(info); b[1] = 2; return b }},
		{"no digest info", false, func(info []byte) []byte { return full(info[len(prefix):]) }},
	} {
		s := newScene(t).withKey(key, func(_ *record.SignedRoot, m []byte) []byte {
			digest := sha256.Sum256(m)
			block := c.block(append(slices.Clone(prefix), digest[:]...))
			return new(big.Int).Exp(new(big.Int).SetBytes(block), key.D, key.N).FillBytes(make([]byte, k))
		})
		err := s.verify("")
		if c.good && err != nil || !c.good && !errors.Is(err, &rejection.Error{Code: rejection.SigInvalid}) {
			t.Errorf("%s: %v", c.name, err)
		}
		if !c.good {
			continue
		}
		// The value in other encodings: longer by a zero, and with the modulus added.
		r, err := record.DecodeSignedRoot(s.sigs[0].Root)
		if err != nil {
			t.Fatal(err)
		}
		value := new(big.Int).SetBytes(r.Signature)
		for name, sig := range map[string][]byte{
			"a leading zero": append([]byte{0}, r.Signature...), "the modulus added": new(big.Int).Add(value, key.N).Bytes(), "one": big.NewInt(1).FillBytes(make([]byte, k)),
		} {
			r.Signature = sig
			s.marks = &recordtest.Marks{}
			if err := s.keep(r).verify(""); !errors.Is(err, &rejection.Error{Code: rejection.SigInvalid}) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// A signature that stands before thousands of others costs no more than the limit.
func TestManyRootsAreBounded(t *testing.T) {
	s := newScene(t)
	roots := record.NewRoots(2)
	v, err := record.NewVerifier(s.trust, roots)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		sigs := recordtest.Signing{Signer: s.signer, At: recordtest.At.Add(time.Duration(i) * time.Second)}.Sign(t, s.rec)
		for range 2 {
			if _, err := v.Verify(t.Context(), s.rec, record.Queue, sigs, s.marks); err != nil {
				t.Fatal(err)
			}
		}
		if n := roots.Len(); n > 2 {
			t.Errorf("the cache of 2 holds %d", n)
		}
	}
}

// A signature over the same record's other root says nothing: trees of other
// domains do not pass.
func TestOtherDomains(t *testing.T) {
	s := newScene(t)
	enc := s.sigs[0].Statement
	root, err := merkle.Root(merkle.Items, []merkle.Hash{merkle.Leaf(merkle.Items, enc)})
	if err != nil {
		t.Fatal(err)
	}
	s.job(func(j *record.Job) { j.Root = root[:] })
	if err := s.verify(""); !errors.Is(err, &rejection.Error{Code: rejection.SigInvalid}) {
		t.Error(err)
	}
}
