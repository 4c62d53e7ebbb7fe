package browser

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/url"
	"os"
	"time"

	"github.com/greatseal-io/greatseal/internal/browser/chromiumtest"
)

// authority is who signs the certificates of a stage's connections.
type authority struct {
	file string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func (s *stage) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// certificates makes an authority and the server's certificate, and returns the
// authority's file.
func (s *stage) certificates() string {
	s.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	s.must(err)
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "console test CA"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, &key.PublicKey, key)
	s.must(err)
	cert, err := x509.ParseCertificate(der)
	s.must(err)
	s.ca = &authority{s.pem("console-ca.pem", "CERTIFICATE", der), cert, key}
	s.issue("tls", &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	return s.ca.file
}

// shows makes the certificate that somebody's browser shows this server.
func (s *stage) shows(who string) chromiumtest.Certificate {
	s.Helper()
	s.issue("shown-by-"+who, &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: who}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		URIs: []*url.URL{{Scheme: "greatseal", Opaque: who}}})
	return chromiumtest.Certificate{File: s.file("shown-by-" + who + ".pem"), Key: s.file("shown-by-" + who + ".key"), Site: s.url}
}

// issue writes NAME.pem and NAME.key.
func (s *stage) issue(name string, leaf *x509.Certificate) {
	s.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	s.must(err)
	leaf.NotBefore, leaf.NotAfter, leaf.KeyUsage = s.ca.cert.NotBefore, s.ca.cert.NotAfter, x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, leaf, s.ca.cert, &key.PublicKey, s.ca.key)
	s.must(err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	s.must(err)
	s.pem(name+".pem", "CERTIFICATE", der)
	s.pem(name+".key", "PRIVATE KEY", private)
}

func (s *stage) pem(name, kind string, der []byte) string {
	s.Helper()
	path := s.file(name)
	s.must(os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	return path
}
