package chromiumtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A browser checks certificates, has passkeys, tells what it complains of and
// sees what sticks out.
func TestBrowser(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'self'")
		fmt.Fprint(w, `<!doctype html><meta name=viewport content="width=device-width"><title>t</title><main><h1>hello</h1><div>wide</div><script>document.title = "inline"</script></main>`)
	}))
	ca, pair := authority(t)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	s.StartTLS()
	defer s.Close()
	address := strings.Replace(s.URL, "127.0.0.1", "localhost", 1)
	p := Start(t, ca).Person("ann", Authenticator{})
	p.Open(address)
	p.See("h1", "hello")
	if got := Eval[string](p, "document.title"); got != "t" {
		t.Errorf("title %q: an inline script ran", got)
	}
	if heard := p.Complaints(); len(heard) == 0 || !strings.Contains(strings.Join(heard, " "), "Content Security Policy") {
		t.Errorf("the browser said nothing of the policy: %q", heard)
	}
	made := Eval[string](p, `navigator.credentials.create({publicKey: {rp: {name: "t"}, user: {id: new Uint8Array(8), name: "ann", displayName: "Ann"},
		challenge: new Uint8Array(32), pubKeyCredParams: [{type: "public-key", alg: -7}], authenticatorSelection: {userVerification: "required"}}}).then(c => c.type)`)
	if made != "public-key" || p.Passkeys() != 1 {
		t.Errorf("made %q, %d passkeys", made, p.Passkeys())
	}
	p.Absent(true)
	if said := Eval[string](p, `navigator.credentials.get({publicKey: {challenge: new Uint8Array(32), userVerification: "required", timeout: 2000}}).then(() => "signed", e => e.name)`); said != "NotAllowedError" {
		t.Errorf("somebody unknown: %s", said)
	}
	p.Look(390, true)
	if out := p.Overflow(); len(out) != 0 {
		t.Errorf("overflow: %q", out)
	}
	Eval[int](p, "document.querySelector('div').style.width = '900px', 1")
	if out := p.Overflow(); len(out) == 0 {
		t.Error("900 px fit into 390")
	}
	if len(p.Shot()) < 1000 {
		t.Error("no picture")
	}
}

// A certificate is shown to the site that it is for, and to no other.
func TestCertificate(t *testing.T) {
	ca, pair := authority(t)
	roots := x509.NewCertPool()
	b, err := os.ReadFile(ca)
	if err != nil || !roots.AppendCertsFromPEM(b) {
		t.Fatal(err)
	}
	shown := map[string]*atomic.Int64{}
	serve := func() string {
		n := new(atomic.Int64)
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n.Add(int64(len(r.TLS.PeerCertificates)))
			fmt.Fprintf(w, "<!doctype html><title>t</title><h1>%d shown</h1>", len(r.TLS.PeerCertificates))
		}))
		s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: roots}
		s.StartTLS()
		t.Cleanup(s.Close)
		at := strings.Replace(s.URL, "127.0.0.1", "localhost", 1)
		shown[at] = n
		return at
	}
	here, elsewhere := serve(), serve()
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	signer, err := x509.ParseCertificate(pair.Certificate[1])
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "olga"}, NotBefore: signer.NotBefore, NotAfter: signer.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	key := pair.PrivateKey.(*ecdsa.PrivateKey)
	der, err := x509.CreateCertificate(rand.Reader, leaf, signer, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	p := StartWith(t, Certificate{File: write("olga.pem", "CERTIFICATE", der), Key: write("olga.key", "PRIVATE KEY", private), Site: here}, ca).Person("olga", Authenticator{})
	p.Open(here)
	p.See("h1", "1 shown")
	// Where nothing was chosen the browser asks, and shows nobody anything by itself.
	Eval[bool](p, "fetch("+quote(elsewhere)+", {mode: 'no-cors', signal: AbortSignal.timeout(3000)}).then(() => true, () => false)")
	if n := shown[elsewhere].Load(); n != 0 || shown[here].Load() == 0 {
		t.Errorf("%d certificates were shown to a site that nobody chose", n)
	}
}

// What the keyboard reaches is seen to be reached.
func TestKeyboard(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `<!doctype html><title>t</title><style>.none:focus{outline:none} .moved:focus{outline:none;position:absolute;left:-900px}</style>
<a href="#a">good</a> <button class=none>unseen</button> <input class=moved aria-label="gone"> <button disabled>not reached</button> <div onclick="1" class=none>no control</div>`)
	}))
	defer s.Close()
	p := Start(t).Person("ann", Authenticator{})
	p.Open(s.URL)
	if got := p.Unseen(); len(got) != 2 || !strings.Contains(got[0], "unseen") || !strings.Contains(got[1], "INPUT") {
		t.Errorf("%q", got)
	}
	if got := p.Walk(10); len(got) != 3 || !strings.Contains(got[0], "good") {
		t.Errorf("walked over %q", got)
	}
}

// authority makes a CA in a file, and a certificate of localhost.
func authority(t *testing.T) (string, tls.Certificate) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "browser test CA"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, tls.Certificate{Certificate: [][]byte{der, caDER}, PrivateKey: key}
}
