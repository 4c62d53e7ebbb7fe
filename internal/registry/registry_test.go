package registry

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	theirs "github.com/google/go-containerregistry/pkg/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/greatseal-io/greatseal/cms/cmstest"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/format/oci"
	"github.com/greatseal-io/greatseal/sigalg"
)

// world is a registry with one image in it.
type world struct {
	server *httptest.Server
	client *Client
	host   string
	ref    string // of the image, by digest
	spoil  func(path string, b []byte) []byte
}

func newWorld(t *testing.T, referrers bool) *world {
	t.Helper()
	w := &world{}
	inner := theirs.New(theirs.Logger(log.New(io.Discard, "", 0)), theirs.WithReferrersSupport(referrers))
	w.server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if w.spoil == nil || r.Method != http.MethodGet {
			inner.ServeHTTP(rw, r)
			return
		}
		rec := httptest.NewRecorder()
		inner.ServeHTTP(rec, r)
		b := w.spoil(r.URL.Path, rec.Body.Bytes())
		for k, v := range rec.Header() {
			rw.Header()[k] = v
		}
		rw.Header().Del("Content-Length")
		rw.WriteHeader(rec.Code)
		rw.Write(b)
	}))
	t.Cleanup(w.server.Close)
	w.host = strings.TrimPrefix(w.server.URL, "http://")
	w.client = &Client{HTTP: w.server.Client(), Plain: true, Now: func() time.Time { return formattest.At }}
	w.ref = w.push(t, "v1", "some program")
	return w
}

// push puts an image of one layer into the registry.
func (w *world) push(t *testing.T, tag, content string) string {
	t.Helper()
	repo, err := w.client.repository(w.host + "/test/app:" + tag)
	if err != nil {
		t.Fatal(err)
	}
	config, layer := []byte(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`), []byte(content)
	for _, b := range [][]byte{config, layer} {
		if err := repo.Blobs().Push(t.Context(), describe("application/octet-stream", b), bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
	}
	b, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": oci.MediaManifest, "config": describe(ocispec.MediaTypeImageConfig, config), "layers": []any{describe(ocispec.MediaTypeImageLayer, layer)},
	})
	if err != nil {
		t.Fatal(err)
	}
	d := describe(oci.MediaManifest, b)
	if err := repo.Manifests().PushReference(t.Context(), d, bytes.NewReader(b), tag); err != nil {
		t.Fatal(err)
	}
	return w.host + "/test/app@" + d.Digest.String()
}

func sign(t *testing.T, m *Manifest, s *formattest.Signer, form string) []byte {
	t.Helper()
	a := format.BytesArtifact("manifest.json", m.Bytes)
	plan, err := oci.New().Plan(t.Context(), a, format.Params{"form": form})
	if err != nil {
		t.Fatal(err)
	}
	p, err := oci.New().Attach(t.Context(), a, plan, s.Identity, formattest.At, formattest.SignAll(t, oci.New(), plan, s, formattest.At))
	if err != nil {
		t.Fatal(err)
	}
	return p.Sidecar.Data
}

func verify(t *testing.T, m *Manifest, sig []byte, trust format.Trust) error {
	t.Helper()
	trust.Detached = sig
	_, err := oci.New().Verify(t.Context(), format.BytesArtifact("manifest.json", m.Bytes), trust)
	return err
}

// whole is a signer as the form wants it.
func whole(t *testing.T, kind sigalg.Key, form string) *formattest.Signer {
	t.Helper()
	s := formattest.Identity(t, kind)
	s.Chain = append(slices.Clone(s.Chain), s.Root.Certificate)
	if kind == sigalg.RSA3072 && form != oci.FormCosign {
		s = s.With(sigalg.RSAPSSSHA384)
	}
	return s
}

// Registries with and without the referrers API.
func TestPush(t *testing.T) {
	for _, referrers := range []bool{true, false} {
		w := newWorld(t, referrers)
		m, err := w.client.Manifest(t.Context(), w.host+"/test/app:v1")
		if err != nil || m.Reference != w.ref || m.MediaType != oci.MediaManifest {
			t.Fatalf("%+v, %v", m, err)
		}
		var want [][]byte
		for _, form := range []string{oci.FormCosign, oci.FormNotationJWS, oci.FormNotationCOSE} {
			sig := sign(t, m, whole(t, sigalg.P256, form), form)
			for range 2 { // the same again changes nothing
				if _, err := w.client.Push(t.Context(), w.ref, sig); err != nil {
					t.Fatalf("%s: %v", form, err)
				}
			}
			want = append(want, sig)
		}
		other := w.push(t, "v2", "another program")
		got, err := w.client.Signatures(t.Context(), m)
		if err != nil || len(got) != len(want) {
			t.Fatalf("%d signatures, %v", len(got), err)
		}
		for _, sig := range want {
			if !slices.ContainsFunc(got, func(b []byte) bool { return bytes.Equal(b, sig) }) {
				t.Error("a signature is missing")
			}
			// Invariant 2.
			if _, err := w.client.Push(t.Context(), other, sig); err == nil {
				t.Error("a signature is pushed to another image")
			}
			if _, err := w.client.Push(t.Context(), w.host+"/test/elsewhere@"+strings.SplitAfter(w.ref, "@")[1], sig); err == nil {
				t.Error("a signature is pushed to where its image is not")
			}
		}
		if _, err := w.client.Push(t.Context(), w.ref, []byte("{}")); err == nil {
			t.Error("something is pushed that is no signature")
		}
		m2, err := w.client.Manifest(t.Context(), other)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := w.client.Signatures(t.Context(), m2); err != nil || len(got) != 0 {
			t.Errorf("%d signatures of another image, %v", len(got), err)
		}
	}
}

// The configuration is the blob that the manifest names, or an error.
func TestConfig(t *testing.T) {
	w := newWorld(t, true)
	m, err := w.client.Manifest(t.Context(), w.ref)
	if err != nil {
		t.Fatal(err)
	}
	b, err := w.client.Config(t.Context(), m)
	if err != nil || !bytes.HasPrefix(b, []byte(`{"architecture":"amd64"`)) {
		t.Fatalf("%q, %v", b, err)
	}
	option, err := oci.ConfigOption(b)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := oci.New().Plan(t.Context(), format.BytesArtifact("m", m.Bytes), format.Params{"config": option}); err != nil || !slices.Contains(p.Facts, format.Fact{Name: "architecture", Value: "amd64"}) {
		t.Errorf("%v, %v", p, err)
	}
	for name, spoil := range map[string]func(b []byte) []byte{
		"another architecture": func(b []byte) []byte { return bytes.Replace(b, []byte("amd64"), []byte("arm64"), 1) },
		"longer":               func(b []byte) []byte { return append(b, ' ') },
		"endless":              func(b []byte) []byte { return append(b, make([]byte, 1<<20)...) },
		"cut":                  func(b []byte) []byte { return b[:len(b)-1] },
	} {
		w.spoil = func(path string, b []byte) []byte {
			if strings.Contains(path, "/blobs/") {
				return spoil(bytes.Clone(b))
			}
			return b
		}
		if b, err := w.client.Config(t.Context(), m); err == nil {
			t.Errorf("%s: %q", name, b)
		}
	}
}

// Invariants 1 and 3: a registry that lies.
func TestHostileRegistry(t *testing.T) {
	w := newWorld(t, true)
	m, err := w.client.Manifest(t.Context(), w.ref)
	if err != nil {
		t.Fatal(err)
	}
	sig := sign(t, m, whole(t, sigalg.P256, oci.FormCosign), oci.FormCosign)
	if _, err := w.client.Push(t.Context(), w.ref, sig); err != nil {
		t.Fatal(err)
	}
	digest := strings.SplitAfter(w.ref, "@")[1]
	for name, spoil := range map[string]func(path string, b []byte) []byte{
		"another manifest":    func(_ string, b []byte) []byte { return append(b, ' ') },
		"an endless manifest": func(_ string, b []byte) []byte { return append(b, make([]byte, oci.MaxManifest)...) },
		"nothing":             func(string, []byte) []byte { return nil },
	} {
		w.spoil = func(path string, b []byte) []byte {
			if strings.Contains(path, "/manifests/") {
				return spoil(path, b)
			}
			return b
		}
		for _, ref := range []string{w.ref, w.host + "/test/app:v1"} {
			if _, err := w.client.Manifest(t.Context(), ref); err == nil {
				t.Errorf("%s for %s is taken", name, ref)
			}
		}
		if _, err := w.client.Signatures(t.Context(), m); err == nil {
			t.Errorf("%s: the signatures are taken", name)
		}
	}
	for name, spoil := range map[string]func(path string, b []byte) []byte{
		"another signature": func(path string, b []byte) []byte {
			if strings.Contains(path, "/blobs/") {
				return bytes.Replace(b, []byte("a"), []byte("b"), 1)
			}
			return b
		},
		"too many referrers": func(path string, b []byte) []byte {
			if !strings.Contains(path, "/referrers/") {
				return b
			}
			d := `{"mediaType":"` + oci.MediaManifest + `","digest":"` + digest + `","size":3}`
			return []byte(`{"schemaVersion":2,"mediaType":"` + oci.MediaIndex + `","manifests":[` + strings.Repeat(d+",", MaxSignatures) + d + `]}`)
		},
		"a large signature": func(path string, b []byte) []byte {
			if !strings.Contains(path, "/referrers/") {
				return b
			}
			return []byte(`{"schemaVersion":2,"mediaType":"` + oci.MediaIndex + `","manifests":[{"mediaType":"` + oci.MediaManifest + `","digest":"` + digest + `","size":99999999999}]}`)
		},
	} {
		w.spoil = spoil
		if got, err := w.client.Signatures(t.Context(), m); err == nil {
			t.Errorf("%s: taken: %q", name, got)
		}
	}
	w.spoil = nil
	for _, ref := range []string{"", "app", w.host + "/test/app", w.host + "/test/app@sha256:00", w.host + "/test/app:none", "https://" + w.host + "/test/app:v1"} {
		if _, err := w.client.Manifest(t.Context(), ref); err == nil {
			t.Errorf("%q names a manifest", ref)
		}
	}
}

// Invariant 4.
func TestPasswordStaysHome(t *testing.T) {
	const password = "correct horse battery staple"
	var asked []string
	w := newWorld(t, true)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Error("the password goes to another host")
		}
		http.Error(rw, "no", http.StatusUnauthorized)
	}))
	defer elsewhere.Close()
	front := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		name, pass, _ := r.BasicAuth()
		switch {
		case name != "me" || pass != password:
			rw.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			http.Error(rw, "no", http.StatusUnauthorized)
		case strings.Contains(r.URL.Path, "moved"):
			http.Redirect(rw, r, strings.Replace(elsewhere.URL, "127.0.0.1", "localhost", 1)+r.URL.Path, http.StatusTemporaryRedirect)
		default:
			w.server.Config.Handler.ServeHTTP(rw, r)
		}
	}))
	defer front.Close()
	host := strings.TrimPrefix(front.URL, "http://")
	c := *w.client
	c.HTTP = front.Client()
	if _, err := c.Manifest(t.Context(), host+"/test/app:v1"); err == nil {
		t.Error("without a password")
	}
	c.Credential = func(_ context.Context, h string) (string, string, error) {
		asked = append(asked, h)
		return "me", password, nil
	}
	if _, err := c.Manifest(t.Context(), host+"/test/app:v1"); err != nil {
		t.Error(err)
	}
	if _, err := c.Manifest(t.Context(), host+"/test/moved:v1"); err == nil || strings.Contains(err.Error(), password) {
		t.Errorf("a manifest that was moved: %v", err)
	}
	for _, h := range asked {
		if h != host {
			t.Errorf("the password for %s is asked for", h)
		}
	}
}

func writeFile(t *testing.T, path string, b []byte) string {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, b, 0o600)); err != nil {
		t.Fatal(err)
	}
	return path
}

func run(t *testing.T, home, program string, args ...string) error {
	t.Helper()
	c := exec.CommandContext(t.Context(), program, args...)
	c.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home, "COSIGN_PASSWORD=", "NO_PROXY=127.0.0.1")
	c.Dir = home
	b, err := c.CombinedOutput()
	if err != nil {
		return errors.New(filepath.Base(program) + ": " + err.Error() + ": " + string(b))
	}
	return nil
}

func publicPEM(t *testing.T, pub crypto.PublicKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// cosign judges what stands in the registry, and is the peer.
func TestOracleOCIbyCosign(t *testing.T) {
	cosign := formattest.Program(t, "cosign", "make judges")
	v := formattest.Judge(t, oci.Name, "cosign 3.0.2")
	for _, kind := range []sigalg.Key{sigalg.P256, sigalg.P384, sigalg.RSA3072, sigalg.Ed25519} {
		w := newWorld(t, true)
		m, err := w.client.Manifest(t.Context(), w.ref)
		if err != nil {
			t.Fatal(err)
		}
		s := whole(t, kind, oci.FormCosign)
		home := t.TempDir()
		key := writeFile(t, filepath.Join(home, "key.pub"), publicPEM(t, s.Public))
		// No authorities and logs are trusted: the key is.
		nobody := writeFile(t, filepath.Join(home, "root.json"), []byte(`{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}`))
		judge := func(ref string) error {
			// cosign does not guess the hash of a key that it is given.
			hash := map[bool]string{true: "sha384", false: "sha256"}[kind == sigalg.P384]
			return run(t, home, cosign, "verify", "--key", key, "--signature-digest-algorithm", hash, "--trusted-root", nobody, "--insecure-ignore-tlog=true", "--allow-http-registry", ref)
		}
		if err := judge(w.ref); err == nil {
			t.Fatal("cosign takes an image without a signature")
		}
		sig := sign(t, m, s, oci.FormCosign)
		if _, err := w.client.Push(t.Context(), w.ref, sig); err != nil {
			t.Fatal(err)
		}
		v.Accepts(string(kind), string(kind), judge(w.ref))

		w2 := newWorld(t, true)
		bad := bytes.Clone(sig)
		at := bytes.LastIndex(sig, []byte(`"sig":"`)) + 30
		bad[at] = map[bool]byte{true: 'B', false: 'A'}[sig[at] == 'A']
		if _, err := w2.client.Push(t.Context(), w2.ref, bad); err != nil {
			t.Fatal(err)
		}
		v.Rejects(string(kind), verify(t, m, bad, s.Trust()), judge(w2.ref))
	}
	root := cmstest.NewRoot(t)
	peer := root.Issue(t, "Signer", sigalg.P256)
	home := t.TempDir()
	_, private, _ := peer.WriteFiles(t, home, "peer")
	if err := run(t, home, cosign, "import-key-pair", "--key", private, "--output-key-prefix", "peer-cosign", "-y"); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, true)
	if err := run(t, home, cosign, "sign", "--key", "peer-cosign.key", "--tlog-upload=false", "--use-signing-config=false", "--allow-http-registry", "-y", w.ref); err != nil {
		t.Fatal(err)
	}
	takes(t, v, w, format.Trust{Keys: []crypto.PublicKey{peer.Key.Public()}, Now: formattest.At})
}

// takes verifies the one signature that the peer pushed.
func takes(t *testing.T, v *formattest.Verdicts, w *world, trust format.Trust) {
	t.Helper()
	m, err := w.client.Manifest(t.Context(), w.ref)
	if err != nil {
		t.Fatal(err)
	}
	sigs, err := w.client.Signatures(t.Context(), m)
	if err != nil || len(sigs) != 1 {
		t.Fatalf("%d signatures, %v", len(sigs), err)
	}
	v.Takes(w.ref, verify(t, m, sigs[0], trust))
	m2, err := w.client.Manifest(t.Context(), w.push(t, "v2", "another program"))
	if err != nil {
		t.Fatal(err)
	}
	if err := verify(t, m2, sigs[0], trust); err == nil {
		t.Error("theirs is good for another image")
	}
}

// notation judges what stands in the registry, and is the peer.
func TestOracleOCIbyNotation(t *testing.T) {
	notation := formattest.Program(t, "notation", "make judges")
	v := formattest.Judge(t, oci.Name, "notation 1.3.2")
	policy := []byte(`{"version":"1.0","trustPolicies":[{"name":"test","registryScopes":["*"],"signatureVerification":{"level":"strict","override":{"revocation":"skip"}},"trustStores":["ca:test"],"trustedIdentities":["*"]}]}`)
	certificate := func(c *x509.Certificate) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	}
	trusting := func(root *x509.Certificate) string {
		home := t.TempDir()
		writeFile(t, filepath.Join(home, "notation", "trustpolicy.json"), policy)
		writeFile(t, filepath.Join(home, "notation", "truststore", "x509", "ca", "test", "root.pem"), certificate(root))
		return home
	}
	for _, form := range []string{oci.FormNotationJWS, oci.FormNotationCOSE} {
		for _, kind := range []sigalg.Key{sigalg.P256, sigalg.P384, sigalg.RSA3072} {
			what := form + " " + string(kind)
			w := newWorld(t, true)
			m, err := w.client.Manifest(t.Context(), w.ref)
			if err != nil {
				t.Fatal(err)
			}
			s := whole(t, kind, form)
			home := trusting(s.Root.Certificate)
			judge := func(ref string) error { return run(t, home, notation, "verify", "--insecure-registry", ref) }
			sig := sign(t, m, s, form)
			if _, err := w.client.Push(t.Context(), w.ref, sig); err != nil {
				t.Fatal(err)
			}
			v.Accepts(what, string(kind), judge(w.ref))
			w2 := newWorld(t, true)
			at := bytes.LastIndex(sig, []byte(`"signature":"`)) + 20 // in JSON
			if form == oci.FormNotationCOSE {
				at = len(sig) - 20
			}
			bad := bytes.Clone(sig)
			if bad[at]++; form == oci.FormNotationJWS {
				bad[at] = map[bool]byte{true: 'B', false: 'A'}[sig[at] == 'A']
			}
			if _, err := w2.client.Push(t.Context(), w2.ref, bad); err != nil {
				t.Fatal(err)
			}
			v.Rejects(what, verify(t, m, bad, s.Trust()), judge(w2.ref))
		}
		root := cmstest.NewRoot(t)
		peer := root.Issue(t, "Signer", sigalg.P256)
		home := trusting(root.Certificate)
		_, private, _ := peer.WriteFiles(t, home, "peer")
		chain := append(certificate(peer.Certificate), certificate(root.Certificate)...)
		keys, err := json.Marshal(map[string]any{"default": "peer", "keys": []any{map[string]string{"name": "peer", "keyPath": private, "certPath": writeFile(t, filepath.Join(home, "chain.pem"), chain)}}})
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(home, "notation", "signingkeys.json"), keys)
		w := newWorld(t, true)
		if err := run(t, home, notation, "sign", "--insecure-registry", "--signature-format", strings.TrimPrefix(form, "notation-"), w.ref); err != nil {
			t.Fatal(err)
		}
		takes(t, v, w, format.Trust{Roots: root.Pool(), Now: time.Now()})
	}
}
