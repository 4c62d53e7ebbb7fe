package keeper

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/pe"
	"github.com/greatseal-io/greatseal/internal/keeper/ledger"
	"github.com/greatseal-io/greatseal/key"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/statement"
)

// unused fails when do uses a key.
func (w *world) unused(do func()) {
	w.Helper()
	before := w.provider.uses.Load()
	do()
	if n := w.provider.uses.Load() - before; n != 0 {
		w.Errorf("the key was used %d times", n)
	}
}

// Garbage of nobody known does not make the ledger grow.
func TestAttackForgedEvidence(t *testing.T) {
	w := newWorld(t)
	w.generate("release")
	items := plainItems(t, 2)
	good := w.signOrder("release", items, "bob", "carol")
	with := func(change func(o *Order)) *Order {
		o := &Order{Evidence: quorum.Evidence{Request: bytes.Clone(good.Evidence.Request)}, Items: items}
		for _, e := range good.Evidence.Endorsements {
			o.Evidence.Endorsements = append(o.Evidence.Endorsements, bytes.Clone(e))
		}
		change(o)
		return o
	}
	reenvelope := func(b []byte, change func(e *statement.Envelope)) []byte {
		e, err := statement.DecodeEnvelope(b)
		if err != nil {
			t.Fatal(err)
		}
		change(e)
		out, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	flip := func(e *statement.Envelope) { e.Signatures[0].Sig[len(e.Signatures[0].Sig)-1] ^= 1 }
	w.unused(func() {
		for what, change := range map[string]func(o *Order){
			"no request":            func(o *Order) { o.Evidence.Request = nil },
			"garbage":               func(o *Order) { o.Evidence.Request = []byte("{}") },
			"request cut short":     func(o *Order) { o.Evidence.Request = o.Evidence.Request[:100] },
			"white space":           func(o *Order) { o.Evidence.Request = append(o.Evidence.Request, '\n') },
			"requester's signature": func(o *Order) { o.Evidence.Request = reenvelope(o.Evidence.Request, flip) },
			"signed by another": func(o *Order) {
				e, _ := statement.DecodeEnvelope(o.Evidence.Request)
				o.Evidence.Request = envelope(t, e.Payload, "bob")
			},
			"signed by a stranger": func(o *Order) {
				e, _ := statement.DecodeEnvelope(o.Evidence.Request)
				o.Evidence.Request = envelope(t, e.Payload, "mallory")
			},
			"two signatures": func(o *Order) {
				e, _ := statement.DecodeEnvelope(o.Evidence.Request)
				o.Evidence.Request = envelope(t, e.Payload, "alice", "bob")
			},
			"another deployment": func(o *Order) {
				o.Evidence.Request = w.request("alice", w.signCommand("release", items), func(r *statement.Request) { r.Deployment = "other" })
			},
			"another charter": func(o *Order) {
				o.Evidence.Request = w.request("alice", w.signCommand("release", items), func(r *statement.Request) { r.Charter.ID[0] ^= 1 })
			},
			"a charter to come": func(o *Order) {
				o.Evidence.Request = w.request("alice", w.signCommand("release", items), func(r *statement.Request) { r.Charter.Version++ })
			},
			"an endorsement for a request": func(o *Order) { o.Evidence.Request = o.Evidence.Endorsements[0] },
		} {
			t.Log(what)
			w.errorIs(ErrMalformed, with(change))
		}
		other := w.signOrder("release", plainItems(t, 3), "bob", "carol")
		for what, change := range map[string]func(o *Order){
			"endorsement's signature": func(o *Order) { o.Evidence.Endorsements[1] = reenvelope(o.Evidence.Endorsements[1], flip) },
			"signed by another": func(o *Order) {
				e, _ := statement.DecodeEnvelope(o.Evidence.Endorsements[1])
				o.Evidence.Endorsements[1] = envelope(t, e.Payload, "mallory")
			},
			"name swapped": func(o *Order) {
				e, _ := statement.DecodeEnvelope(o.Evidence.Endorsements[1])
				o.Evidence.Endorsements[1] = envelope(t, bytes.ReplaceAll(e.Payload, []byte(`"carol"`), []byte(`"dave"`)), "bob")
			},
			"the same twice":          func(o *Order) { o.Evidence.Endorsements[1] = o.Evidence.Endorsements[0] },
			"of another request":      func(o *Order) { o.Evidence.Endorsements = other.Evidence.Endorsements },
			"one missing":             func(o *Order) { o.Evidence.Endorsements = o.Evidence.Endorsements[:1] },
			"a request among them":    func(o *Order) { o.Evidence.Endorsements[1] = o.Evidence.Request },
			"garbage among them":      func(o *Order) { o.Evidence.Endorsements[1] = []byte("x") },
			"the requester's own":     func(o *Order) { o.Evidence.Endorsements[1] = w.say(statement.Endorse, "alice", o.Evidence.Request) },
			"of nobody in the quorum": func(o *Order) { o.Evidence.Endorsements[1] = w.say(statement.Endorse, "ann", o.Evidence.Request) },
		} {
			t.Log(what)
			w.refusedWith("quorum-pending", with(change))
		}
	})
	// In another order they are the same endorsements.
	r, _ := w.executed(with(func(o *Order) {
		o.Evidence.Endorsements[0], o.Evidence.Endorsements[1] = o.Evidence.Endorsements[1], o.Evidence.Endorsements[0]
	}))
	if len(r.Endorsements) != 2 {
		t.Error(r.Endorsements)
	}
	w.sound()
}

func TestAttackOversizedEvidence(t *testing.T) {
	w := newWorld(t)
	w.generate("release")
	w.k.c.Limits.Order = 100_000
	o := w.signOrder("release", plainItems(t, 1), "bob", "carol")
	o.Items = [][]byte{make([]byte, 100_000)}
	w.errorIs(ErrLimit, o)
	o.Items = make([][]byte, statement.MaxItems+1)
	w.errorIs(ErrLimit, o)
	o = w.signOrder("release", plainItems(t, 1), "bob", "carol")
	for range 300 {
		o.Evidence.Endorsements = append(o.Evidence.Endorsements, []byte("x"))
	}
	w.errorIs(ErrMalformed, o)
}

// Two plans under one endorsement.
func TestAttackItemsSwapped(t *testing.T) {
	w := newWorld(t)
	w.generate("release")
	items := plainItems(t, 4)
	good := w.signOrder("release", items, "bob", "carol")
	evil := plainItem(t, "evil", "")
	w.unused(func() {
		for what, its := range map[string][][]byte{
			"none": nil, "one missing": items[:3], "one more": append(append([][]byte{}, items...), evil),
			"one replaced": {items[0], items[1], evil, items[3]}, "two swapped": {items[1], items[0], items[2], items[3]},
			"one twice": {items[0], items[1], items[2], items[2]}, "empty": {items[0], items[1], items[2], {}},
			"trailing byte": {items[0], items[1], items[2], append(bytes.Clone(items[3]), 0)},
		} {
			t.Log(what)
			w.refusedWith("items-mismatch", &Order{Evidence: good.Evidence, Items: its})
		}
	})
	w.executed(good)
}

// What a format refuses, or what it does wrong, is not signed.
func TestAttackHostilePlans(t *testing.T) {
	w := newWorld(t)
	w.generate("nightly", "release")
	try := func(code string, items [][]byte, formats ...string) {
		t.Helper()
		o := w.order(w.request("alice", w.signCommand("nightly", items, formats...)))
		o.Items = items
		w.refusedWith(code, o)
	}
	w.unused(func() {
		try("plan-invalid", [][]byte{plainItem(t, "a", ""), plainItem(t, "b", "panic")})
		try("plan-invalid", [][]byte{plainItem(t, "a", "scheme")})
		p := &format.Plan{Format: "unknown", Version: 1, Digest: "sha256", Content: make([]byte, 32)}
		try("format-unknown", [][]byte{encodeItem(t, p, "x")}, "unknown")
		p.Format, p.Version = "plain", 2
		try("plan-invalid", [][]byte{encodeItem(t, p, "x")})
		try("malformed", [][]byte{[]byte("not an item")})
		try("format-not-allowed", plainItems(t, 1), "two-rounds")
	})
	try("plan-invalid", [][]byte{plainItem(t, "a", "endless")}) // the key is used and nothing is let out
	w.sound()
}

// A PE plan whose digests do not follow from its structure.
func TestAttackPlanContradictsItself(t *testing.T) {
	w := newWorld(t)
	w.k.formats["pe"] = pe.New()
	w.generate("release")
	file := peFile(t)
	p, err := pe.New().Plan(context.Background(), format.BytesArtifact("a.exe", file), nil)
	if err != nil {
		t.Fatal(err)
	}
	try := func(items [][]byte) *Order {
		o := w.order(w.request("alice", w.signCommand("fast", items, "pe")))
		o.Items = items
		return o
	}
	w.unused(func() {
		for what, change := range map[string]func(p *format.Plan){
			"smaller than its structure": func(p *format.Plan) { p.Size = 100 },
			"larger than its structure":  func(p *format.Plan) { p.Size += 8 },
			"facts left out":             func(p *format.Plan) { p.Facts = nil },
			"another fact":               func(p *format.Plan) { p.Facts[0].Value += "x" },
			"another option":             func(p *format.Plan) { p.Params[0].Name = "a" },
			"options left out":           func(p *format.Plan) { p.Params = nil },
			"another hash":               func(p *format.Plan) { p.Digest, p.Content = "sha384", make([]byte, 48) },
			"another version":            func(p *format.Plan) { p.Version++ },
			"another format's":           func(p *format.Plan) { p.Format = "plain" },
			"no structure":               func(p *format.Plan) { p.Body = []byte{} },
			"structure cut short":        func(p *format.Plan) { p.Body = p.Body[:len(p.Body)-1] },
			"structure and more":         func(p *format.Plan) { p.Body = append(bytes.Clone(p.Body), 0) },
			"another kind of image":      func(p *format.Plan) { p.Body = bytes.Clone(p.Body); p.Body[3] ^= 0x40 },
		} {
			other := *p
			other.Facts, other.Params = slices.Clone(p.Facts), slices.Clone(p.Params)
			change(&other)
			formats := []string{"pe"}
			if other.Format == "plain" {
				formats = nil
			}
			items := [][]byte{encodeItem(t, &other, "a.exe")}
			o := w.order(w.request("alice", w.signCommand("fast", items, formats...)))
			o.Items = items
			t.Log(what)
			w.refusedWith("plan-invalid", o)
		}
	})
	w.executed(try([][]byte{encodeItem(t, p, "a.exe")}))
}

func TestAttackKeyUnderAnotherPolicy(t *testing.T) {
	w := newWorld(t)
	w.generate("release", "nightly")
	items := plainItems(t, 1)
	c := w.signCommand("nightly", items)
	c.Sign.Key = "release"
	o := w.order(w.request("alice", c))
	o.Items = items
	w.unused(func() {
		w.refusedWith("key-mismatch", o)
		c := w.signCommand("nightly", items)
		c.Sign.Policy = "nobody"
		o := w.order(w.request("alice", c))
		o.Items = items
		w.refusedWith("policy-unknown", o)
		w.refusedWith("requester-not-allowed", func() *Order {
			o := w.order(w.request("bob", w.signCommand("nightly", items)))
			o.Items = items
			return o
		}())
		w.refusedWith("key-unknown", w.order(w.request("alice", generateCommand("nobody", 0)), "bob"))
	})
}

// A faulty key: wrong signatures do not leave, and the request can be asked again.
func TestAttackFaultyKey(t *testing.T) {
	w := newWorld(t)
	w.generate("release", "rsa", "nightly")
	for _, policy := range []string{"release", "rsa", "nightly"} {
		o := w.signOrder(policy, plainItems(t, 3), "bob", "carol")
		w.provider.mu.Lock()
		w.provider.fault = func(sig []byte) []byte { sig = bytes.Clone(sig); sig[len(sig)-1] ^= 1; return sig }
		w.provider.mu.Unlock()
		r := w.refusedWith("key-faulty", o)
		for _, s := range []string{"0x", "["} {
			if strings.Contains(r.Detail, s) {
				t.Errorf("detail %q", r.Detail)
			}
		}
		w.provider.mu.Lock()
		w.provider.fault = nil
		w.provider.mu.Unlock()
		w.executed(o)
	}
	w.provider.mu.Lock()
	w.provider.fault = func(sig []byte) []byte { return make([]byte, len(sig)) }
	w.provider.mu.Unlock()
	o := w.order(w.request("alice", generateCommand("tsa", 10)), "bob")
	w.refusedWith("key-faulty", o)
	w.provider.mu.Lock()
	w.provider.fault = nil
	w.provider.mu.Unlock()
	w.executed(o) // the key that was made is adopted
	w.sound()
}

func TestProviderUnavailable(t *testing.T) {
	w := newWorld(t)
	w.generate("release")
	o := w.signOrder("fast", plainItems(t, 3))
	w.provider.mu.Lock()
	w.provider.fail = key.ErrUnavailable
	w.provider.mu.Unlock()
	if _, err := w.k.Execute(context.Background(), o); !errors.Is(err, ErrUnavailable) {
		t.Fatal(err)
	}
	w.provider.mu.Lock()
	w.provider.fail = nil
	w.provider.mu.Unlock()
	w.executed(o)
	w.sound()
}

// The provider's key is replaced by another one.
func TestAttackKeyReplacedInProvider(t *testing.T) {
	w := newWorld(t)
	w.generate("release")
	if err := os.Remove(w.provider.path("test:release")); err != nil {
		t.Fatal(err)
	}
	w.config.Providers = map[string]key.Provider{"test": &folder{dir: w.provider.dir}}
	w.provider = w.config.Providers["test"].(*folder)
	if _, err := w.provider.Generate(context.Background(), "test:release", sigalg.P256); err != nil {
		t.Fatal(err)
	}
	w.reopen()
	w.unused(func() { w.refusedWith("key-changed", w.signOrder("fast", plainItems(t, 1))) })
}

// A key that somebody put there is not taken for one that was generated.
func TestAttackKeyPlanted(t *testing.T) {
	w := newWorld(t)
	if _, err := w.provider.Generate(context.Background(), "test:release", sigalg.P256); err != nil {
		t.Fatal(err)
	}
	w.unused(func() { w.refusedWith("key-exists", w.order(w.request("alice", generateCommand("release", 0)), "bob")) })
}

func TestAttackSubject(t *testing.T) {
	w := newWorld(t)
	for _, s := range []string{"x", "=", "CN=", "CN=a,", ",CN=a", "CN=a+O=b", "XX=a", "CN=#04", "CN=a\tb", "C=ch", "C=CHE", `CN="a"`, `CN=a\`, "CN=a\nb"} {
		c := generateCommand("release", 0)
		c.Generate.Subject = s
		t.Logf("%q", s)
		w.refusedWith("subject-invalid", w.order(w.request("alice", c), "bob"))
	}
	for s, want := range map[string]string{
		`CN=Example\, Ltd,C=CH`: `CN=Example\, Ltd,C=CH`, "CN= spaced  , O=x": "CN=spaced,O=x", `CN=a\+b`: `CN=a\+b`, `CN=Ünï`: "CN=Ünï",
	} {
		der, err := parseName(s)
		if err != nil {
			t.Errorf("%q: %v", s, err)
			continue
		}
		var seq pkix.RDNSequence
		if _, err := asn1.Unmarshal(der, &seq); err != nil || seq.String() != want {
			t.Errorf("%q became %q, %v", s, seq.String(), err)
		}
	}
}

// issuer is a certificate authority of the tests.
type issuer struct {
	cert *x509.Certificate
	key  *folderKey
}

func newIssuer(t *testing.T, kind sigalg.Key, ca bool) *issuer {
	t.Helper()
	s, err := newPrivate(kind)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, IsCA: ca, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: start.Add(-time.Hour), NotAfter: start.Add(1000 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, s.Public(), s)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &issuer{c, &folderKey{s: s, a: kind}}
}

func (i *issuer) issue(t *testing.T, pub any, change ...func(*x509.Certificate)) []byte {
	t.Helper()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "Leaf"}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}, NotBefore: start.Add(-time.Hour), NotAfter: start.Add(100 * time.Hour)}
	for _, f := range change {
		f(tmpl)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, i.cert, pub, i.key.s)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// Certificates swapped for another key's, and others that are not the key's own.
func TestAttackCertificateSwapped(t *testing.T) {
	w := newWorld(t)
	w.generate("release", "nightly", "tsa")
	ca, other := newIssuer(t, sigalg.P256, true), newIssuer(t, sigalg.P256, true)
	notCA := newIssuer(t, sigalg.P256, false)
	pub := w.k.state("release").pub
	order := func(k string, chain ...[]byte) *Order {
		return w.order(w.request("alice", statement.Command{Name: statement.KeyImportCert, Certificate: &statement.CertificateArgs{Key: k, Chain: chain}}), "bob")
	}
	good := ca.issue(t, pub)
	usage := func(u ...x509.ExtKeyUsage) []byte {
		return ca.issue(t, pub, func(c *x509.Certificate) { c.ExtKeyUsage = u })
	}
	for what, chain := range map[string][][]byte{
		"another key's":   {ca.issue(t, w.k.state("tsa").pub), ca.cert.Raw},
		"wrong issuer":    {good, other.cert.Raw},
		"issuer is no CA": {notCA.issue(t, pub), notCA.cert.Raw},
		"order":           {ca.cert.Raw, good},
		"trailing byte":   {append(bytes.Clone(good), 0)},
		"garbage":         {[]byte("x")},
		"signature":       {flipLast(good), ca.cert.Raw},
		"something after": {good, ca.cert.Raw, other.cert.Raw},
		"expired":         {ca.issue(t, pub, func(c *x509.Certificate) { c.NotAfter = start.Add(-time.Minute) }), ca.cert.Raw},
		"not yet valid":   {ca.issue(t, pub, func(c *x509.Certificate) { c.NotBefore = start.Add(time.Minute) }), ca.cert.Raw},
		"server's":        {usage(x509.ExtKeyUsageServerAuth), ca.cert.Raw},
		"any usage":       {usage(x509.ExtKeyUsageCodeSigning, x509.ExtKeyUsageAny), ca.cert.Raw},
		"no usage":        {usage(), ca.cert.Raw},
		"time stamping":   {usage(x509.ExtKeyUsageTimeStamping), ca.cert.Raw},
		"authority's":     {ca.issue(t, pub, func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }), ca.cert.Raw},
		"other key usage": {ca.issue(t, pub, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }), ca.cert.Raw},
		"critical extension": {ca.issue(t, pub, func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
		}), ca.cert.Raw},
	} {
		t.Log(what)
		w.refusedWith("certificate-invalid", order("release", chain...))
	}
	w.refusedWith("key-not-generated", order("rsa", good, ca.cert.Raw))
	r, _ := w.executed(order("release", good, ca.cert.Raw))
	if len(r.Key.Chain) != 2 {
		t.Error("no chain in the receipt")
	}
	w.reopen()
	if _, out := w.executed(w.signOrder("fast", plainItems(t, 1))); len(out.Chain) != 2 || !bytes.Equal(out.Chain[0], good) {
		t.Error("the imported certificate is not in force")
	}
	// The authority's certificate: time stamping alone, and critical.
	tsa := w.k.state("tsa").pub
	w.refusedWith("certificate-invalid", order("tsa", ca.issue(t, tsa), ca.cert.Raw))
	w.refusedWith("certificate-invalid", order("tsa", ca.issue(t, tsa, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping} }), ca.cert.Raw))
	eku, _ := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}})
	w.executed(order("tsa", ca.issue(t, tsa, func(c *x509.Certificate) {
		c.ExtKeyUsage, c.ExtraExtensions = nil, []pkix.Extension{{Id: oidExtKeyUsage, Critical: true, Value: eku}}
	}), ca.cert.Raw))
	if _, err := w.k.Timestamp(context.Background(), stampRequest(t, "x")); err != nil {
		t.Error(err)
	}
}

func flipLast(b []byte) []byte { b = bytes.Clone(b); b[len(b)-1] ^= 1; return b }

// An older ledger in the place of the ledger: whoever holds a receipt shows it.
func TestAttackLedgerRolledBack(t *testing.T) {
	w := newWorld(t)
	w.generate("nightly")
	ctx := context.Background()
	path := ledgerPath(w.config.Dir)
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, held := w.executed(w.signOrder("nightly", plainItems(t, 1)))
	if err := w.k.Observe(ctx, held.Receipt); err != nil {
		t.Fatalf("its own last receipt: %v", err)
	}
	w.k.Close()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	restore := func(b []byte) {
		t.Helper()
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		w.open()
	}
	for what, prepare := range map[string]func(){
		"rolled back":             func() {},
		"rolled back and went on": func() { w.executed(w.signOrder("nightly", plainItems(t, 2))) },
	} {
		restore(old)
		prepare()
		if err := w.k.Observe(ctx, held.Receipt); !errors.Is(err, ErrRollback) {
			t.Fatalf("%s: %v", what, err)
		}
		for range 2 {
			w.errorIs(ErrStopped, w.signOrder("nightly", plainItems(t, 4)))
			if st, err := w.k.Status(ctx); err != nil || !strings.Contains(st.Stopped, "rolled back") {
				t.Fatalf("%s: status %q, %v", what, st.Stopped, err)
			}
			if _, err := w.k.Checkpoint(ctx, extend(0, 1)); !errors.Is(err, ErrStopped) {
				t.Errorf("%s: checkpoint: %v", what, err)
			}
			if _, err := w.k.Timestamp(ctx, stampRequest(t, "x")); !errors.Is(err, ErrStopped) {
				t.Errorf("%s: timestamp: %v", what, err)
			}
			w.reopen() // it stays stopped
		}
		w.k.Close()
	}
	restore(whole)
	w.executed(w.signOrder("nightly", plainItems(t, 3)))
	w.sound()
}

func TestAttackObserveForged(t *testing.T) {
	w, other := newWorld(t), newWorld(t)
	w.generate("nightly")
	other.generate("nightly")
	_, theirs := other.executed(other.signOrder("nightly", plainItems(t, 1)))
	_, ours := w.executed(w.signOrder("nightly", plainItems(t, 1)))
	e, err := statement.DecodeEnvelope(ours.Receipt)
	if err != nil {
		t.Fatal(err)
	}
	e.Payload = bytes.Replace(e.Payload, []byte(`"number":2`), []byte(`"number":9`), 1)
	forged, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for what, b := range map[string][]byte{"another keeper's": theirs.Receipt, "forged": forged, "garbage": []byte("x"), "nothing": nil,
		"a request": w.request("alice", generateCommand("rsa", 0))} {
		if err := w.k.Observe(context.Background(), b); !errors.Is(err, ErrReceipt) {
			t.Errorf("%s: %v", what, err)
		}
	}
	w.executed(w.signOrder("nightly", plainItems(t, 2)))
}

// A ledger that was changed does not open.
func TestAttackLedgerChanged(t *testing.T) {
	w := newWorld(t)
	w.generate("nightly")
	w.k.Close()
	path := ledgerPath(w.config.Dir)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{10, 30, 80, 300, len(whole) / 2, len(whole) - 40, len(whole) - 1} {
		b := bytes.Clone(whole)
		b[at] ^= 4
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if k, err := Open(context.Background(), w.config); err == nil {
			k.Close()
			t.Errorf("byte %d changed: opened", at)
		}
	}
	// A ledger written by somebody who does not have the receipts' key.
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := ledger.OpenFile(path, ledger.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := statement.Receipt{Deployment: "test", Number: 2, Previous: w.k.tail.id, Request: statement.ID{1}, Charter: statement.CharterRef{Version: 1, ID: w.pin},
		Command: statement.KeyResume, Outcome: statement.Executed, Time: start, Endorsements: []statement.ID{}, Key: w.k.state("nightly").result("nightly", Suspended)}
	payload, err := statement.Encode(r)
	if err != nil {
		t.Fatal(err)
	}
	body, err := format.Encode(outcomeRecord{Receipt: envelope(t, payload, "mallory"), URI: "test:nightly"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(context.Background(), ledger.Record{Type: recOutcome, Body: body}); err != nil {
		t.Fatal(err)
	}
	l.Close()
	if k, err := Open(context.Background(), w.config); !errors.Is(err, ErrReceipt) {
		if err == nil {
			k.Close()
		}
		t.Errorf("receipt of somebody else in the ledger: %v", err)
	}
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	w.open()
}

// The keys of one keeper under the ledger of another.
func TestAttackOtherKeepersLedger(t *testing.T) {
	a, b := newWorld(t), newWorld(t)
	a.k.Close()
	b.k.Close()
	whole, err := os.ReadFile(ledgerPath(b.config.Dir))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ledgerPath(a.config.Dir), whole, 0o600); err != nil {
		t.Fatal(err)
	}
	c := a.config
	c.Pin = b.pin
	if _, err := Open(context.Background(), c); err == nil {
		t.Error("opened")
	}
}

// A disk that fails: nothing leaves, and nothing is executed on a ledger that
// stopped.
func TestDiskFails(t *testing.T) {
	w := newWorld(t)
	w.generate("nightly")
	w.k.ledger.Close() // as good as a disk that is gone
	o := w.signOrder("nightly", plainItems(t, 1))
	if out, err := w.k.Execute(context.Background(), o); err == nil {
		t.Fatalf("executed without a ledger: %v", out)
	}
}

// Removed members and credentials do not count, requests under old charters are
// judged by the new one.
func TestAttackOldMembership(t *testing.T) {
	w := newWorld(t)
	w.generate("release")
	items := plainItems(t, 1)
	o := w.signOrder("release", items, "bob", "carol")
	byAlice := w.signOrder("fast", items)
	w.pass(time.Minute)
	w.executed(w.replacement(func(c *charter.Charter) {
		c.People["erin"] = person("erin")
		c.People["bob"] = person("bob's new key")
		c.Groups = map[string]charter.Group{"dev": {Members: []string{"alice", "ann"}}, "officers": {Members: []string{"bob", "dave", "erin"}}}
	}, "bob", "dave"))
	w.unused(func() { w.refusedWith("quorum-pending", o) })
	o.Evidence.Endorsements = append(o.Evidence.Endorsements, w.say(statement.Endorse, "dave", o.Evidence.Request), w.say(statement.Endorse, "erin", o.Evidence.Request))
	if r, _ := w.executed(o); len(r.Endorsements) != 2 {
		t.Errorf("counted: %v", r.Endorsements)
	}
	w.pass(time.Minute)
	w.executed(w.replacement(func(c *charter.Charter) {
		delete(c.People, "alice")
		c.Groups["dev"] = charter.Group{Members: []string{"ann"}}
	}, "dave", "erin"))
	w.unused(func() { w.errorIs(ErrMalformed, byAlice) }) // nobody of that name
}

// A veto ends a request.
func TestAttackVetoLeftOut(t *testing.T) {
	w := newWorld(t, func(c *charter.Charter) {
		p := c.Policies["release"]
		p.Rule.Veto = []string{"officers"}
		c.Policies["release"] = p
	})
	w.generate("release")
	o := w.signOrder("release", plainItems(t, 1), "bob", "carol")
	o.Evidence.Endorsements = append(o.Evidence.Endorsements, w.say(statement.Disapprove, "dave", o.Evidence.Request))
	w.unused(func() { w.refusedWith("disapproved", o) })
}

// Parallel hostile and honest orders for one request: the honest one wins in the end.
func TestAttackBlockedByBadEvidence(t *testing.T) {
	w := newWorld(t)
	w.generate("release")
	good := w.signOrder("release", plainItems(t, 1), "bob", "carol")
	bad := &Order{Evidence: quorum.Evidence{Request: good.Evidence.Request}, Items: good.Items}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if i%2 == 0 {
				w.do(bad)
				return
			}
			if r, _ := w.do(good); r.Outcome != statement.Executed {
				t.Errorf("honest order: %s", r.Code)
			}
		})
	}
	wg.Wait()
	w.sound()
}

// peFile is a small PE image.
func peFile(t *testing.T) []byte {
	t.Helper()
	b, err := os.ReadFile("../../format/pe/testdata/signed.exe")
	if err != nil {
		t.Fatal(err)
	}
	return b
}
