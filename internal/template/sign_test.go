package template_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/all"
	"github.com/greatseal-io/greatseal/internal/author"
	"github.com/greatseal-io/greatseal/internal/bench"
	"github.com/greatseal-io/greatseal/internal/keeper"
	"github.com/greatseal-io/greatseal/internal/server/servertest"
	"github.com/greatseal-io/greatseal/internal/template"
	"github.com/greatseal-io/greatseal/internal/trial"
	"github.com/greatseal-io/greatseal/key"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/receipt"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/statement"
)

// memory is a provider whose RSA keys are made once for the whole test: they take
// their time.
type memory struct {
	mu   sync.Mutex
	keys map[key.URI]memoryKey
	rsa  map[sigalg.Key]crypto.Signer
}

type memoryKey struct {
	crypto.Signer
	a sigalg.Key
}

func (m *memory) Name() string { return "memory" }

func (m *memory) Open(_ context.Context, uri key.URI) (key.Key, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if k, ok := m.keys[uri]; ok {
		return k, nil
	}
	return nil, fmt.Errorf("%w: %s", key.ErrNotFound, uri)
}

func (m *memory) Generate(_ context.Context, uri key.URI, a sigalg.Key) (key.Key, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var s crypto.Signer
	var err error
	switch a {
	case sigalg.P256:
		s, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case sigalg.P384:
		s, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case sigalg.Ed25519:
		_, s, err = ed25519.GenerateKey(rand.Reader)
	case sigalg.RSA3072, sigalg.RSA4096:
		if s = m.rsa[a]; s == nil {
			s, err = rsa.GenerateKey(rand.Reader, map[sigalg.Key]int{sigalg.RSA3072: 3072, sigalg.RSA4096: 4096}[a])
			m.rsa[a] = s
		}
	default:
		err = key.ErrScheme
	}
	if err != nil {
		return nil, err
	}
	m.keys[uri] = memoryKey{s, a}
	return m.keys[uri], nil
}

func (m *memory) Health(context.Context) error { return nil }
func (m *memory) Close() error                 { return nil }

func (k memoryKey) Algorithm() sigalg.Key { return k.a }
func (k memoryKey) Sign(_ context.Context, s sigalg.Scheme, input []byte) ([]byte, error) {
	return k.Signer.Sign(rand.Reader, input, s.SignerOpts())
}

// house is a keeper with every format, and the people of servertest.
type house struct {
	testing.TB
	keeper   *keeper.Local
	receipts []byte
	ca       *trial.Authority
}

func newHouse(t testing.TB) *house {
	ctx := t.Context()
	cfg := keeper.Config{Dir: filepath.Join(t.TempDir(), "keeper"), Providers: map[string]key.Provider{"soft": &memory{keys: map[key.URI]memoryKey{}, rsa: map[sigalg.Key]crypto.Signer{}}},
		Formats: all.Formats(), ReceiptKey: "soft:keeper-receipts", LogKey: "soft:keeper-log", Clock: time.Now, Rand: rand.Reader, Version: "test"}
	h := &house{TB: t}
	h.must(keeper.Init(ctx, cfg))
	k, err := keeper.Open(ctx, cfg)
	h.must(err)
	st, err := k.Status(ctx)
	h.must(err)
	h.must(k.Close())
	c := servertest.Charter(st.ReceiptKey, st.LogKey)
	c.Commands[statement.KeyImportCert] = c.Commands[statement.KeyGenerate]
	c.Keys, c.Policies, c.Timestamping = nil, nil, nil
	payload, err := charter.Encode(c)
	h.must(err)
	cfg.Pin = statement.IDOf(payload)
	h.keeper, err = keeper.Open(ctx, cfg)
	h.must(err)
	t.Cleanup(func() { h.keeper.Close() })
	h.receipts = st.ReceiptKey
	h.must(h.keeper.Found(ctx, h.seal(payload, "bob", "carol")))
	h.ca, err = trial.NewAuthority(time.Now())
	h.must(err)
	return h
}

func (h *house) must(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

func (h *house) seal(payload []byte, names ...string) []byte {
	e := statement.Envelope{Payload: payload}
	for _, n := range names {
		s := servertest.Signer(n)
		sig, err := s.Sign(h.Context(), credential.Statement, statement.PAE(payload))
		h.must(err)
		e.Signatures = append(e.Signatures, statement.Signature{KeyID: string(s.Credential().ID()), Sig: sig})
	}
	b, err := e.Encode()
	h.must(err)
	return b
}

func (h *house) chain() *quorum.Chain {
	b, err := h.keeper.Chain(h.Context())
	h.must(err)
	c, err := quorum.DecodeChain(nil, b)
	h.must(err)
	return c
}

func (h *house) author(name string) *author.Author {
	return &author.Author{Name: name, Signer: servertest.Signer(name), Now: time.Now, Rand: rand.Reader}
}

// do has a command requested, endorsed and executed.
func (h *house) do(who string, cmd statement.Command, items [][]byte, endorsers ...string) (*keeper.Outcome, *statement.Receipt) {
	h.Helper()
	c, ref := h.chain().Head()
	env, id, err := h.author(who).Request(h.Context(), c, ref, cmd, author.RequestOptions{})
	h.must(err)
	e, err := statement.DecodeEnvelope(env)
	h.must(err)
	req, err := statement.Decode[statement.Request](e.Payload)
	h.must(err)
	ev := quorum.Evidence{Request: env}
	for _, n := range endorsers {
		b, err := h.author(n).Endorsement(h.Context(), &req, id, statement.Endorse, "", 0, nil)
		h.must(err)
		ev.Endorsements = append(ev.Endorsements, b)
	}
	out, err := h.keeper.Execute(h.Context(), &keeper.Order{Evidence: ev, Items: items})
	h.must(err)
	rc, _, err := receipt.Verify(h.receipts, out.Receipt)
	h.must(err)
	if rc.Outcome != statement.Executed {
		h.Fatalf("%s: %s: %s", cmd.Name, rc.Code, rc.Detail)
	}
	return out, rc
}

// sample is a real file for a template: one that the format's benchmark makes, or one
// of the format's own tests.
func sample(t testing.TB, x *template.Template, ft string) (name string, content []byte, params format.Params) {
	t.Helper()
	params = format.Params{}
	read := func(path string) []byte {
		b, err := os.ReadFile(filepath.Join("..", "..", "format", path))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	switch ft {
	case "oci":
		return "image.json", []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}`), params
	case "apt":
		return "Release", []byte("Origin: Example\nSuite: stable\nCodename: stable\nDate: Sun, 22 Nov 2026 04:00:00 UTC\nArchitectures: amd64\nComponents: main\nSHA256:\n " + strings.Repeat("0", 64) + " 0 main/binary-amd64/Packages\n"), params
	case "pgp-key":
		return "KeyRelease", []byte("Example Releases <releases@example.com>\n"), params
	case "macho":
		params["identifier"], params["replace"] = "com.example.app", "true"
		return "program", read("bundle/testdata/program"), params
	}
	from := ft
	if ft == "cms" || ft == "pgp" || ft == "minisign" {
		from = "cms"
	}
	path := filepath.Join(t.TempDir(), "sample")
	list, err := bench.Sample(t.Context(), from, path)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range list {
		n, v, _ := strings.Cut(p, "=")
		params[n] = v
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return "sample", b, params
}

// first names the format that a template is tried with.
func firstFormat(x *template.Template) string {
	prefer := []string{"pe", "macho", "apk"}
	formats := x.Formats
	if len(formats) == 0 {
		formats = []string{"cms"}
	}
	for _, f := range prefer {
		if slices.Contains(formats, f) {
			return f
		}
	}
	return slices.DeleteFunc(slices.Clone(formats), func(f string) bool { return f == "pgp-key" })[0]
}

// A file of its kind is signed under the policy of every template, by the keeper, after
// the charter was replaced by its own rules; and the format's verifier believes it.
func TestTemplatesSign(t *testing.T) {
	h := newHouse(t)
	for i, x := range template.List() {
		name := "app-" + x.Name
		head, ref := h.chain().Head()
		a := template.Answers{Name: name, Requesters: []string{"dev"}, Timestamp: []string{"none"}}
		if !x.Unattended {
			a.Quorum = "1 of officers"
		}
		d, err := x.Draft(head, ref, a, time.Now())
		if err != nil {
			t.Fatalf("%s: %v", x.Name, err)
		}
		payload, err := charter.Encode(d.Charter)
		h.must(err)
		h.do("bob", statement.Command{Name: statement.CharterReplace, Charter: &statement.CharterArgs{Statement: payload}}, nil, "carol", "dave")
		days := 0
		if d.NeedsCert == template.OwnCertificate {
			days = 365
		}
		_, rc := h.do("bob", statement.Command{Name: statement.KeyGenerate, Generate: &statement.GenerateArgs{Key: name, Subject: "CN=" + name, SelfSignedDays: days}}, nil, "carol")
		if d.NeedsCert == template.OfAuthority {
			csr, err := x509.ParseCertificateRequest(rc.Key.Request)
			h.must(err)
			leaf, err := h.ca.Issue(csr.PublicKey, csr.RawSubject, false, time.Now())
			h.must(err)
			h.do("bob", statement.Command{Name: statement.KeyImportCert, Certificate: &statement.CertificateArgs{Key: name, Chain: [][]byte{leaf, h.ca.Certificate.Raw}}}, nil, "carol")
		}
		ft := firstFormat(x)
		if err := h.sign(t, d, x, name, ft); err != nil {
			t.Errorf("%d %s (%s): %v", i, x.Name, ft, err)
		}
		if slices.Contains(x.Formats, "pgp-key") { // the public key certifies itself under the same policy
			if err := h.sign(t, d, x, name, "pgp-key"); err != nil {
				t.Errorf("%d %s (pgp-key): %v", i, x.Name, err)
			}
		}
	}
}

func (h *house) sign(t *testing.T, d *template.Draft, x *template.Template, policy, ft string) error {
	f, ok := all.ByName(ft)
	if !ok {
		return fmt.Errorf("there is no format %s", ft)
	}
	p := d.Charter.Policies[policy]
	file, content, params := sample(t, x, ft)
	if len(p.Names) > 0 { // a name that the policy takes
		file = strings.ReplaceAll(p.Names[0], "*", "app")
	}
	for n, v := range p.Params {
		params[n] = v
	}
	k := d.Charter.Keys[p.Key]
	if hash := k.SignatureScheme().Hash(); hash != 0 {
		for _, o := range f.Options() {
			if o.Name == "digest" && slices.Contains(o.Values, format.HashName(hash)) {
				params["digest"] = format.HashName(hash)
			}
		}
	}
	checked, err := params.Check(f)
	if err != nil {
		return err
	}
	art := format.BytesArtifact(file, content)
	plan, err := f.Plan(t.Context(), art, checked)
	if err != nil {
		return err
	}
	item, err := author.Item(plan, file, nil)
	if err != nil {
		return err
	}
	cmd, err := author.SignCommand(d.Charter, policy, "", [][]byte{item})
	if err != nil {
		return err
	}
	var endorsers []string
	if !x.Unattended {
		endorsers = []string{"carol"}
	}
	out, rc := h.do("alice", cmd, [][]byte{item}, endorsers...)
	id := format.Identity{Scheme: k.SignatureScheme()}
	st, err := h.keeper.Status(t.Context())
	if err != nil {
		return err
	}
	for _, ks := range st.Keys {
		if ks.Name == p.Key {
			if id.Public, err = x509.ParsePKIXPublicKey(ks.PublicKey); err != nil {
				return err
			}
		}
	}
	trust := format.Trust{Roots: x509.NewCertPool(), Keys: []crypto.PublicKey{id.Public}, Now: time.Now()}
	trust.Roots.AddCert(h.ca.Certificate)
	for _, der := range out.Chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		id.Chain = append(id.Chain, c)
		if d.NeedsCert == template.OwnCertificate {
			trust.Roots.AddCert(c)
		}
	}
	var sigs []format.Signature
	for _, s := range out.Signatures[0] {
		sigs = append(sigs, format.Signature{Value: s})
	}
	patch, err := f.Attach(t.Context(), art, plan, id, rc.Time, sigs)
	if err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	signed := format.Artifact(art)
	if patch.Sidecar != nil {
		trust.Detached = patch.Sidecar.Data
	} else {
		b, err := patch.Bytes(art)
		if err != nil {
			return err
		}
		signed = format.BytesArtifact(file, b)
	}
	rep, err := f.Verify(t.Context(), signed, trust)
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	if len(rep.Signatures) == 0 {
		return fmt.Errorf("verify: no signature")
	}
	return nil
}
