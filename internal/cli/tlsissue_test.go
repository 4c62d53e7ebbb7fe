package cli

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestHosts: a host is a name or an address, and nothing that only looks like one.
func TestHosts(t *testing.T) {
	for _, c := range []struct {
		k       connecting
		dns, ip string // "-": refused
	}{
		{connecting{name: "server", hosts: []string{"sign.example.com", "192.0.2.7", "::1", "localhost"}}, "localhost sign.example.com", "192.0.2.7 ::1"},
		{connecting{name: "server", dns: []string{"Sign.Example.com", "sign.example.com"}}, "sign.example.com", ""},
		{connecting{name: "server", ips: []string{"::ffff:192.0.2.7", "192.0.2.7"}}, "", "192.0.2.7"},
		{connecting{name: "server", hosts: []string{"10.0.0.300"}}, "-", ""},
		{connecting{name: "server", hosts: []string{"*.example.com"}}, "-", ""},
		{connecting{name: "server", hosts: []string{"https://sign.example.com"}}, "-", ""},
		{connecting{name: "server", hosts: []string{"sign.example.com:443"}}, "-", ""},
		{connecting{name: "server", hosts: []string{"a..b"}}, "-", ""},
		{connecting{name: "server", hosts: []string{"-a.b"}}, "-", ""},
		{connecting{name: "server", hosts: []string{""}}, "-", ""},
		{connecting{name: "server", dns: []string{"192.0.2.7"}}, "-", ""},
		{connecting{name: "server", ips: []string{"sign.example.com"}}, "-", ""},
		{connecting{name: "server", ips: []string{"fe80::1%eth0"}}, "-", ""},
		{connecting{name: "../alice"}, "-", ""},
		{connecting{name: "Alice"}, "-", ""},
		{connecting{name: ""}, "-", ""},
		{connecting{name: "ca"}, "-", ""},
	} {
		err := c.k.check()
		if c.dns == "-" {
			if f := (*fault)(nil); !errors.As(err, &f) || f.code != exitUsage || f.hint == "" {
				t.Errorf("%+v: %v", c.k, err)
			}
			continue
		}
		if err != nil || strings.Join(c.k.dns, " ") != c.dns || strings.Join(c.k.ips, " ") != c.ip {
			t.Errorf("%+v: %v", c.k, err)
		}
	}
}

// TestRequestsForMore: a certificate request gets what is given, or nothing.
func TestRequestsForMore(t *testing.T) {
	key := func(k crypto.Signer, err error) crypto.Signer {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	good := key(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	uri := func(s string) []*url.URL {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return []*url.URL{u}
	}
	for _, c := range []struct {
		what string
		r    x509.CertificateRequest
		key  crypto.Signer
		want string // in the error
	}{
		{"nothing", x509.CertificateRequest{}, good, ""},
		{"itself", x509.CertificateRequest{Subject: pkix.Name{CommonName: "ci", Organization: []string{"Other"}}, URIs: uri("greatseal:ci")}, good, ""},
		{"its hosts", x509.CertificateRequest{Subject: pkix.Name{CommonName: "sign.example.com"}, DNSNames: []string{"Sign.example.com"}, IPAddresses: []net.IP{net.IPv4(192, 0, 2, 7)}}, good, ""},
		{"somebody else", x509.CertificateRequest{Subject: pkix.Name{CommonName: "alice"}}, good, "the name alice"},
		{"somebody else's URI", x509.CertificateRequest{URIs: uri("greatseal:alice")}, good, "the URI greatseal:alice"},
		{"another URI", x509.CertificateRequest{URIs: uri("spiffe://example.com/ci")}, good, "the URI spiffe:"},
		{"another host", x509.CertificateRequest{DNSNames: []string{"sign.example.com", "www.example.com"}}, good, "the host www.example.com"},
		{"all hosts", x509.CertificateRequest{DNSNames: []string{"*.example.com"}}, good, `the host *.example.com`},
		{"another address", x509.CertificateRequest{IPAddresses: []net.IP{net.IPv4(192, 0, 2, 8)}}, good, "the address 192.0.2.8"},
		{"mail", x509.CertificateRequest{EmailAddresses: []string{"ci@example.com"}}, good, "the address ci@example.com"},
		{"P-224", x509.CertificateRequest{}, key(ecdsa.GenerateKey(elliptic.P224(), rand.Reader)), "not strong enough"},
		{"RSA-2048", x509.CertificateRequest{}, key(rsa.GenerateKey(rand.Reader, 2048)), "not strong enough"},
	} {
		der, err := x509.CreateCertificateRequest(rand.Reader, &c.r, c.key)
		if err != nil {
			t.Fatal(err)
		}
		r, err := x509.ParseCertificateRequest(der)
		if err != nil {
			t.Fatal(err)
		}
		k := connecting{name: "ci", dns: []string{"sign.example.com"}, ips: []string{"192.0.2.7"}}
		switch err := k.allows(r); {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.what, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: got %v, want %s", c.what, err, c.want)
		}
	}
}

// TestRequestTakesOnlyTheKey: what else a request holds is not in the certificate.
func TestRequestTakesOnlyTheKey(t *testing.T) {
	now, dir := time.Now(), t.TempDir()
	caKey, ca, err := newCA(now)
	if err != nil {
		t.Fatal(err)
	}
	if err := writePair(filepath.Join(dir, "ca"), caKey, ca); err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	authority := pkix.Extension{Id: []int{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 3, 1, 1, 0xff}} // CA: true
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "ci", Organization: []string{"Other"}},
		ExtraExtensions: []pkix.Extension{authority}}, key)
	if err != nil {
		t.Fatal(err)
	}
	r, err := x509.ParseCertificateRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	k := connecting{name: "ci", now: now}
	if err := k.allows(r); err != nil {
		t.Fatal(err)
	}
	if err := k.issueFor(dir, r.PublicKey); err != nil {
		t.Fatal(err)
	}
	certs, err := readCertificates(filepath.Join(dir, "ci.crt"))
	if err != nil {
		t.Fatal(err)
	}
	c := certs[0]
	if !key.PublicKey.Equal(c.PublicKey) || c.Subject.String() != "CN=ci" || c.IsCA || len(c.DNSNames)+len(c.IPAddresses) > 0 ||
		len(c.URIs) != 1 || c.URIs[0].String() != "greatseal:ci" || len(c.ExtKeyUsage) != 1 || c.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth {
		t.Errorf("%+v", c)
	}
	if err := c.CheckSignatureFrom(ca); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "ci.key")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a key was written: %v", err)
	}
	if err := k.issueFor(dir, r.PublicKey); err == nil {
		t.Error("a certificate was replaced")
	}
}

// TestRequestsThatProveNothing: a request whose signature is not its key's, or that
// is something else, is refused.
func TestRequestsThatProveNothing(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	text := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	const kind = "CERTIFICATE REQUEST"
	path := filepath.Join(t.TempDir(), "r.csr")
	try := func(s string) error {
		t.Helper()
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := readRequest(path, "make one")
		return err
	}
	if err := try(text(kind, der)); err != nil {
		t.Fatal(err)
	}
	forged := append([]byte{}, der...)
	forged[len(forged)-1] ^= 1
	for what, s := range map[string]string{
		"a forged signature": text(kind, forged),
		"a certificate":      text("CERTIFICATE", der),
		"two":                text(kind, der) + text(kind, der),
		"half":               text(kind, der[:len(der)/2]),
		"nothing":            "",
	} {
		if f := (*fault)(nil); !errors.As(try(s), &f) || f.hint == "" {
			t.Errorf("%s is taken", what)
		}
	}
}
