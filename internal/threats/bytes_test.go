package threats

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"os"
	"strings"
	"testing"
	"unicode"

	"github.com/greatseal-io/greatseal/circle/trust"
	"github.com/greatseal-io/greatseal/internal/agent"
	"github.com/greatseal-io/greatseal/order"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/record/recordtest"
	"github.com/greatseal-io/greatseal/rejection"
	"github.com/greatseal-io/greatseal/sigalg"
)

// certify has the author's authority vouch for a key of the test's own.
func (w *world) certify(key crypto.Signer, authority bool) []byte {
	w.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(77), Subject: pkix.Name{CommonName: "own key"}, NotBefore: recordtest.At.AddDate(-1, 0, 0), NotAfter: recordtest.At.AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}
	if authority {
		c.KeyUsage, c.ExtKeyUsage, c.IsCA, c.BasicConstraintsValid = x509.KeyUsageCertSign, nil, true, true
	}
	der, err := x509.CreateCertificate(rand.Reader, c, w.author.Root.Certificate, key.Public(), w.author.Root.Key)
	w.must(err)
	return der
}

// block is an RSA signature over a block of the test's own making.
func block(key *rsa.PrivateKey, info []byte, padding int) []byte {
	size := key.Size()
	em := make([]byte, size)
	em[1] = 1
	for i := range padding {
		em[2+i] = 0xff
	}
	copy(em[3+padding:], info) // what follows it is not looked at by a lenient reader
	x := new(big.Int).Exp(new(big.Int).SetBytes(em), key.D, key.N)
	return x.FillBytes(make([]byte, size))
}

// One algorithm is taken for another, or for more than it is.
func TestThreat18Algorithms(t *testing.T) {
	w := newWorld(t, options{})
	source := w.source()
	sigs := w.sign(source)
	weak, err := rsa.GenerateKey(rand.Reader, 2048)
	w.must(err)
	strong, err := rsa.GenerateKey(rand.Reader, 3072)
	w.must(err)
	use := func(s []record.Signature) delivery { return delivery{record: source, sigs: s, params: asked()} }
	// rsaSigned signs the root with an RSA key that the author's authority vouches for.
	rsaSigned := func(key *rsa.PrivateKey, scheme sigalg.Scheme, sign func(m []byte) []byte) []record.Signature {
		der := w.certify(key, false)
		return w.reroot(sigs, func(r *record.SignedRoot) { r.Certificates, r.Scheme = [][]byte{der}, string(scheme) }, sign)
	}
	honestly := func(key *rsa.PrivateKey, s sigalg.Scheme) func([]byte) []byte {
		return func(m []byte) []byte {
			sig, err := key.Sign(rand.Reader, s.Input(m), s.SignerOpts())
			w.must(err)
			return sig
		}
	}
	pkcs1, pss := sigalg.RSAPKCS1SHA256, sigalg.RSAPSSSHA256
	t.Run("honest", func(t *testing.T) {
		w.plain(t)
		w.runs(use(rsaSigned(strong, pkcs1, honestly(strong, pkcs1))))
		w.runs(use(rsaSigned(strong, pss, honestly(strong, pss))))
	})
	info := func(m []byte, null bool) []byte {
		sum := sha256.Sum256(m)
		prefix := []byte{0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}
		if !null {
			prefix = []byte{0x30, 0x2f, 0x30, 0x0b, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x04, 0x20}
		}
		return append(prefix, sum[:]...)
	}
	full := strong.Size() - 3 - len(info(nil, true))
	t.Run("the block is made as it is made honestly", func(t *testing.T) { // so that what follows fails for what is wrong with it
		w.runs(use(rsaSigned(strong, pkcs1, func(m []byte) []byte { return block(strong, info(m, true), full) })))
	})
	key := w.author
	for name, c := range map[string]struct {
		sigs []record.Signature
		code rejection.Code
	}{
		"a key that is too short":                 {rsaSigned(weak, pkcs1, honestly(weak, pkcs1)), rejection.AlgNotAllowed},
		"garbage behind the digest":               {rsaSigned(strong, pkcs1, func(m []byte) []byte { return block(strong, info(m, true), 8) }), rejection.SigInvalid},
		"a digest without its parameters":         {rsaSigned(strong, pkcs1, func(m []byte) []byte { return block(strong, info(m, false), full+2) }), rejection.SigInvalid},
		"no padding":                              {rsaSigned(strong, pkcs1, func(m []byte) []byte { return block(strong, info(m, true), 0) }), rejection.SigInvalid},
		"PKCS #1 said to be PSS":                  {rsaSigned(strong, pss, honestly(strong, pkcs1)), rejection.SigInvalid},
		"PSS said to be PKCS #1":                  {rsaSigned(strong, pkcs1, honestly(strong, pss)), rejection.SigInvalid},
		"a scheme of another kind of key":         {w.reroot(sigs, func(r *record.SignedRoot) { r.Scheme = string(pkcs1) }, func(m []byte) []byte { return key.Sign(t, m) }), rejection.AlgNotAllowed},
		"another scheme of the curve":             {w.reroot(sigs, func(r *record.SignedRoot) { r.Scheme = string(sigalg.ECDSASHA384) }, func(m []byte) []byte { return key.Sign(t, m) }), rejection.SigInvalid},
		"no scheme":                               {w.reroot(sigs, func(r *record.SignedRoot) { r.Scheme = "none" }, nil), rejection.SigMalformed},
		"an empty signature":                      {w.reroot(sigs, func(r *record.SignedRoot) { r.Signature = nil }, nil), rejection.SigMalformed},
		"a signature of zeros":                    {w.reroot(sigs, func(r *record.SignedRoot) { r.Signature = []byte{0x30, 6, 2, 1, 0, 2, 1, 0} }, nil), rejection.SigInvalid},
		"a signature in another encoding":         {w.reroot(sigs, func(r *record.SignedRoot) { r.Signature = longForm(t, r.Signature) }, nil), rejection.SigInvalid},
		"a signature with something behind it":    {w.reroot(sigs, func(r *record.SignedRoot) { r.Signature = append(r.Signature, 0) }, nil), rejection.SigInvalid},
		"a signature of the digest's digest":      {w.reroot(sigs, func(*record.SignedRoot) {}, func(m []byte) []byte { s := sha256.Sum256(m); return key.Sign(t, s[:]) }), rejection.SigInvalid},
		"a signature of the job without domain":   {w.reroot(sigs, func(r *record.SignedRoot) { r.Signature = key.Sign(t, r.Job) }, nil), rejection.SigInvalid},
		"a weak authority among the certificates": {w.reroot(sigs, func(r *record.SignedRoot) { r.Certificates = append(r.Certificates, w.certify(weak, true)) }, func(m []byte) []byte { return key.Sign(t, m) }), rejection.AlgNotAllowed},
	} {
		t.Run(name, func(t *testing.T) { w.refused(t, use(c.sigs), c.code, "") })
	}
	t.Run("an order signed as something else", func(t *testing.T) {
		w.refused(t, delivery{after: func(j *agent.Job) {
			s, err := order.DecodeSigned(j.Order)
			w.must(err)
			s.Signature = ed25519.Sign(w.instance, s.Order) // without the domain
			j.Order, err = s.Encode()
			w.must(err)
		}}, rejection.OrderUnsigned, "signature")
	})
}

// longForm is an ECDSA signature whose first length takes two bytes.
func longForm(t *testing.T, sig []byte) []byte {
	t.Helper()
	var rs struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(sig, &rs); err != nil || sig[1] >= 0x80 {
		t.Fatalf("%x: %v", sig, err)
	}
	return append([]byte{0x30, 0x81, sig[1]}, sig[2:]...)
}

// Names that would be lines of a log, and values that would be read there.
func TestThreat20Logs(t *testing.T) {
	w := newWorld(t, options{scripts: true})
	source := w.source()
	forged := "\n" + `time=2026-01-01T00:00:00Z level=ERROR msg=forged code=NONE` + "\x1b[2K\r\u202e\u2028\xc2\x85{\"reason\":null}"
	t.Run("honest", w.plain)
	run := &record.Record{Ref: record.Ref{Table: files, Key: []string{"f1"}}, Fields: map[string]string{"language": "shell", "script": "true # " + word}}
	extra := recordtest.Copy(run)
	extra.Attachments = []record.Attachment{{Name: "x" + forged, Type: "text/plain", Size: 1}}
	needs := include("main", "", "1 // "+word)
	needs.Fields["includes"] = "lib\u202e\x1b[2Klevel=ERROR"
	for name, c := range map[string]struct {
		d    delivery
		code rejection.Code
	}{
		"an attachment's name":   {delivery{record: extra, sigs: w.sign(run)}, rejection.AttachmentExtra},
		"a name of an include":   {delivery{record: needs}, rejection.DependencyUnsigned},
		"a table's name":         {delivery{record: renamed(source, forged), sigs: w.sign(source), topic: probe, params: asked()}, rejection.OrderMalformed},
		"a parameter's name":     {delivery{params: map[string]string{"name" + forged: word}}, rejection.OrderMalformed},
		"a topic":                {delivery{order: func(o *order.Order) { o.Topic = "JDBC" + forged }}, rejection.OrderMalformed},
		"an agent's name":        {delivery{order: func(o *order.Order) { o.Agent = agentName + forged }}, rejection.OrderMalformed},
		"a purpose":              {delivery{order: func(o *order.Order) { o.Records[0].Purpose = "x" + forged }}, rejection.OrderMalformed},
		"a scheme":               {delivery{record: source, params: asked(), sigs: w.reroot(w.sign(source), func(r *record.SignedRoot) { r.Scheme = "x" + forged }, nil)}, rejection.SigMalformed},
		"a key of the record":    {delivery{record: keyed(source, "k"+forged), sigs: w.sign(keyed(source, "other"+forged)), params: asked()}, rejection.RecordMismatch},
		"a field of the record":  {delivery{record: with(source, "x"+forged, word), sigs: w.sign(renamed(source, sources)), params: map[string]string{"x": word}}, rejection.ParamNotAllowed},
		"a long name":            {delivery{record: longName(run), sigs: w.sign(run)}, rejection.AttachmentExtra},
		"changed, with a secret": {delivery{record: with(source, "sql_statement", "SELECT '"+word+"' AS password"), sigs: w.sign(source), params: map[string]string{"name": "password-" + word}}, rejection.FieldChanged},
	} {
		t.Run(name, func(t *testing.T) {
			before := strings.Count(w.logged(), "\n")
			j := w.job(c.d)
			w.jobRefused(t, j, c.code, "")
			own, err := agent.Explain(w.cfg.State, j.Lease.Job)
			w.must(err)
			for _, s := range []string{own[0].Reason.Subject, own[0].Reason.Detail, own[0].Table, own[0].Topic} {
				if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsGraphic(r) || unicode.Is(unicode.Bidi_Control, r) }) || len(s) > 500 {
					t.Errorf("%q", s)
				}
			}
			if n := strings.Count(w.logged(), "\n"); n != before+1 {
				t.Errorf("%d lines of log", n-before)
			}
		})
	}
	for line := range strings.Lines(w.logged()) {
		if strings.HasPrefix(line, "time=2026-01-01") || strings.ContainsFunc(strings.TrimSuffix(line, "\n"), unicode.IsControl) {
			t.Errorf("forged: %q", line)
		}
	}
	b, err := os.ReadFile(w.path("state/rejections.jsonl"))
	w.must(err)
	all, err := agent.Explain(w.cfg.State, "")
	if err != nil || len(all) == 0 || strings.Count(string(b), "\n") != len(all) {
		t.Errorf("%d refusals in %d lines, %v", len(all), strings.Count(string(b), "\n"), err)
	}
	t.Run("a run that fails tells no value", func(t *testing.T) {
		e := w.up.put(t, w.job(delivery{record: with(source, "sql_statement", "SELECT "+word+" FROM missing_"+word+" WHERE n = :name"), params: asked()}))[0]
		if e.rejected != nil || e.outcome.Error == "" {
			t.Fatalf("%v %+v", e.rejected, e.outcome)
		}
		w.silent(t, e.outcome.Error)
	})
}

func renamed(r *record.Record, table string) *record.Record {
	c := recordtest.Copy(r)
	c.Ref.Table = table
	return c
}

func keyed(r *record.Record, key string) *record.Record {
	c := recordtest.Copy(r)
	c.Ref.Key = []string{key}
	return c
}

func longName(r *record.Record) *record.Record {
	c := recordtest.Copy(r)
	c.Attachments = []record.Attachment{{Name: strings.Repeat("é", record.MaxFileName/2), Type: "text/plain", Size: 1}}
	return c
}

// What a script needs, and nobody who counts has signed.
func TestThreat21Dependency(t *testing.T) {
	gone := recordtest.NewSigner(t, sigalg.P256)
	w := newWorld(t, options{scripts: true, publish: func(n *trust.Statement) {
		n.Anchors = append(n.Anchors, anchor("gone", gone))
		revoke(leaf(gone).Raw, false)(n)
	}})
	lib := include("lib", "", "function f(x) { return x + 1 } // "+word)
	deep := include("mid", "lib", "function g(x) { return f(f(x)) } // "+word)
	main := include("main", "mid", "g(40) // "+word)
	alone := include("alone", "", "41 + 1 // "+word)
	item := func(r *record.Record, sigs []record.Signature) agent.Item {
		return agent.Item{Record: *recordtest.Copy(r), Signatures: sigs}
	}
	t.Run("honest", func(t *testing.T) {
		if got := w.runs(delivery{record: main, others: []agent.Item{w.item(lib), w.item(deep)}}); got != "42" {
			t.Error(got)
		}
		if got := w.runs(delivery{record: alone, others: []agent.Item{w.item(lib)}}); got != "42" {
			t.Error(got)
		}
	})
	evil := with(lib, "script", "function f(x) { return 666 } // "+word)
	for name, c := range map[string]struct {
		record *record.Record
		others []agent.Item
		subj   string
	}{
		"unsigned":                     {main, []agent.Item{w.item(deep), item(lib, nil)}, includes},
		"unsigned, and not needed":     {alone, []agent.Item{item(lib, nil)}, includes},
		"changed":                      {main, []agent.Item{w.item(deep), item(evil, w.sign(lib))}, includes},
		"by nobody known":              {main, []agent.Item{w.item(deep), item(evil, w.sign(evil, by(recordtest.NewSigner(t, sigalg.P256))))}, includes},
		"by somebody revoked":          {main, []agent.Item{w.item(deep), item(evil, w.sign(evil, by(gone)))}, includes},
		"with another one's signature": {main, []agent.Item{w.item(deep), item(lib, w.sign(deep))}, includes},
		"not there":                    {main, []agent.Item{w.item(deep)}, "lib"},
		"the first of them not there":  {main, []agent.Item{w.item(lib)}, "mid"},
		"by another name":              {main, []agent.Item{w.item(deep), w.item(include("Lib", "", "function f(x) { return 666 } // "+word))}, "lib"},
		"by another kind of record":    {main, []agent.Item{w.item(deep), w.item(&record.Record{Ref: record.Ref{Table: files, Key: []string{"x"}}, Fields: map[string]string{"language": "shell", "script": "true # " + word}})}, "lib"},
	} {
		t.Run(name, func(t *testing.T) {
			w.refused(t, delivery{record: c.record, others: c.others}, rejection.DependencyUnsigned, c.subj)
		})
	}
	t.Run("two of one name", func(t *testing.T) {
		second := include("lib", "", "function f(x) { return 666 } // "+word)
		second.Ref.Key = []string{"another"}
		w.refused(t, delivery{record: main, others: []agent.Item{w.item(deep), w.item(lib), w.item(second)}}, rejection.PayloadMalformed, "name")
	})
	t.Run("in a circle", func(t *testing.T) {
		w.refused(t, delivery{record: main, others: []agent.Item{w.item(deep), w.item(include("lib", "mid", "1 // "+word))}}, rejection.PayloadMalformed, "includes")
	})
	t.Run("an older one", func(t *testing.T) {
		newer := with(lib, "script", "function f(x) { return x + 1 } // v2 "+word)
		w.runs(delivery{record: main, others: []agent.Item{w.item(deep), item(newer, w.sign(newer, revision(2)))}})
		w.refused(t, delivery{record: main, others: []agent.Item{w.item(deep), item(lib, w.sign(lib, revision(1)))}}, rejection.DependencyUnsigned, includes)
	})
}
