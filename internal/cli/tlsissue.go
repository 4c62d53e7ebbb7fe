package cli

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/statement"
)

// minRSA is how long RSA keys are at the least, in bits.
const minRSA = 3072

// connecting is a certificate of a connection: of somebody who connects, and where
// it has hosts of a server that is connected to.
type connecting struct {
	name            string
	hosts, dns, ips []string // hosts are of both kinds, until they are checked
	now             time.Time
}

// check tells names from addresses and refuses what is neither: a certificate for
// "10.0.0.300" would be for a host of that name.
func (k *connecting) check() error {
	if err := statement.CheckName("name", k.name); err != nil {
		return fail(exitUsage, "NAME is a name of the charter; --dns and --ip take hosts", "%q is not a name: want a-z 0-9 . _ -", k.name)
	}
	if k.name == "ca" {
		return fail(exitUsage, "choose another name", "the authority's own files are called ca")
	}
	for _, h := range k.hosts {
		if _, err := netip.ParseAddr(h); err == nil {
			k.ips = append(k.ips, h)
		} else {
			k.dns = append(k.dns, h)
		}
	}
	k.hosts = nil
	for i, h := range k.dns {
		k.dns[i] = strings.ToLower(h)
		if !hostName(k.dns[i]) {
			return fail(exitUsage, "--dns sign.example.com, --ip 192.0.2.7", "%q is neither the name nor the address of a host", h)
		}
	}
	for i, h := range k.ips {
		ip, err := netip.ParseAddr(h)
		if err != nil || ip.Zone() != "" {
			return fail(exitUsage, "--ip 192.0.2.7, --dns sign.example.com", "%q is not the address of a host", h)
		}
		k.ips[i] = ip.Unmap().String()
	}
	for _, l := range []*[]string{&k.dns, &k.ips} {
		slices.Sort(*l)
		*l = slices.Compact(*l)
	}
	return nil
}

// hostName reports whether s is a host's name (RFC 1123 section 2.1), without
// wildcards and not of the form of an address.
func hostName(s string) bool {
	labels := strings.Split(s, ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 || strings.Trim(l, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || l[0] == '-' || l[len(l)-1] == '-' {
			return false
		}
	}
	return len(s) <= 253 && strings.Trim(labels[len(labels)-1], "0123456789") != ""
}

// self is how a certificate names its holder in the charter.
func (k *connecting) self() *url.URL { return &url.URL{Scheme: "greatseal", Opaque: k.name} }

// allows refuses a request that asks for more than is given here, or with a key
// that is too weak.
func (k *connecting) allows(r *x509.CertificateRequest) error {
	more := func(what, hint string) error {
		return fail(exitRefused, hint, "the certificate request asks for %s, which is not given to %s", what, k.name)
	}
	if cn := r.Subject.CommonName; cn != "" && cn != k.name && !slices.Contains(k.dns, strings.ToLower(cn)) && !slices.Contains(k.ips, cn) {
		return more("the name "+cn, "a request for CN="+k.name+", or for no name")
	}
	for _, n := range r.DNSNames {
		if !slices.Contains(k.dns, strings.ToLower(n)) {
			return more("the host "+n, "--dns "+n+", if it is to be that host")
		}
	}
	for _, n := range r.IPAddresses {
		if !slices.Contains(k.ips, n.String()) {
			return more("the address "+n.String(), "--ip "+n.String()+", if it is to be that host")
		}
	}
	for _, n := range r.URIs {
		if n.String() != k.self().String() {
			return more("the URI "+n.String(), "a request for "+k.self().String()+", or for no URI")
		}
	}
	for _, n := range r.EmailAddresses {
		return more("the address "+n, "a request without mail addresses")
	}
	switch p := r.PublicKey.(type) {
	case *ecdsa.PublicKey:
		if p.Curve != elliptic.P224() {
			return nil
		}
	case ed25519.PublicKey:
		return nil
	case *rsa.PublicKey:
		if p.N.BitLen() >= minRSA {
			return nil
		}
	}
	return fail(exitRefused, fmt.Sprintf("P-256, P-384, P-521, Ed25519, or RSA from %d bits", minRSA), "the key of the certificate request is not strong enough")
}

// issue makes DIR/NAME.crt and DIR/NAME.key from DIR/ca.
func (k *connecting) issue(dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	cert, err := k.certificate(dir, key.Public())
	if err != nil {
		return err
	}
	return writePair(filepath.Join(dir, k.name), key, cert)
}

// issueFor makes DIR/NAME.crt from DIR/ca for a key that is elsewhere.
func (k *connecting) issueFor(dir string, pub crypto.PublicKey) error {
	cert, err := k.certificate(dir, pub)
	if err != nil {
		return err
	}
	return writeOnce(filepath.Join(dir, k.name)+".crt", certificatesPEM(cert), 0o644)
}

func (k *connecting) certificate(dir string, pub crypto.PublicKey) (*x509.Certificate, error) {
	ca, caKey, err := readPair(filepath.Join(dir, "ca"))
	if err != nil {
		return nil, fail(exitFailed, "greatseal tls ca --dir "+dir, "%v", err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: k.name}, NotBefore: k.now.Add(-time.Hour), NotAfter: k.now.AddDate(0, 0, leafDays),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		URIs: []*url.URL{k.self()}, DNSNames: k.dns,
	}
	for _, ip := range k.ips {
		t.IPAddresses = append(t.IPAddresses, net.ParseIP(ip))
	}
	if len(k.dns)+len(k.ips) > 0 {
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, ca, pub, caKey)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// readRequest reads a certificate request (PKCS #10) in PEM, whose signature
// proves that whoever made it has the key.
func readRequest(path, hint string) (*x509.CertificateRequest, error) {
	b, err := readSmall(path)
	if err != nil {
		return nil, err
	}
	p, rest := pem.Decode(b)
	if p == nil || p.Type != "CERTIFICATE REQUEST" && p.Type != "NEW CERTIFICATE REQUEST" || strings.TrimSpace(string(rest)) != "" {
		return nil, fail(exitFailed, hint, "%s is no certificate request in PEM", path)
	}
	r, err := x509.ParseCertificateRequest(p.Bytes)
	if err == nil {
		err = r.CheckSignature()
	}
	if err != nil {
		return nil, fail(exitFailed, hint, "%s: %v", path, err)
	}
	return r, nil
}
