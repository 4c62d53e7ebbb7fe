package cli

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
)

const (
	caDays   = 3650
	leafDays = 397
)

// tlsCommand makes the certificates of the deployment's own connections. They
// authenticate; they authorise nothing that is signed.
func (a *App) tlsCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "tls",
		GroupID: "run",
		Short:   "make certificates for mutual TLS",
		Long: `A small certificate authority for the connections between clients, server and
keeper. Its certificates say who is connected; nobody can sign or endorse
anything with them alone.`,
	}
	var dir string
	ca := &cobra.Command{
		Use:   "ca --dir DIR",
		Short: "make an authority: DIR/ca.crt and DIR/ca.key",
		Args:  exactly(),
		RunE: func(*cobra.Command, []string) error {
			key, cert, err := newCA(a.Now())
			if err != nil {
				return err
			}
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return err
			}
			if err := writePair(filepath.Join(dir, "ca"), key, cert); err != nil {
				return err
			}
			return a.print(map[string]string{"certificate": filepath.Join(dir, "ca.crt"), "key": filepath.Join(dir, "ca.key")}, func(w io.Writer) {
				fmt.Fprintf(w, "%s\n%s\n", filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key"))
			})
		},
	}
	var hosts []string
	issue := &cobra.Command{
		Use:   "issue NAME --dir DIR [--host HOST …]",
		Short: "make a certificate: for a person or machine, or with --host for a server",
		Args:  exactly("NAME"),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := issueTLS(dir, args[0], hosts, a.Now()); err != nil {
				return err
			}
			base := filepath.Join(dir, args[0])
			return a.print(map[string]string{"certificate": base + ".crt", "key": base + ".key"}, func(w io.Writer) {
				fmt.Fprintf(w, "%s.crt\n%s.key\n", base, base)
			})
		},
	}
	for _, x := range []*cobra.Command{ca, issue} {
		x.Flags().StringVar(&dir, "dir", "tls", "folder")
	}
	issue.Flags().StringSliceVar(&hosts, "host", nil, "name or address of a server; repeatable")
	c.AddCommand(ca, issue)
	return c
}

func newCA(now time.Time) (crypto.Signer, *x509.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "Greatseal connections"}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(0, 0, caDays),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return key, cert, err
}

// issueTLS makes DIR/NAME.crt and DIR/NAME.key from DIR/ca.
func issueTLS(dir, name string, hosts []string, now time.Time) error {
	ca, caKey, err := readPair(filepath.Join(dir, "ca"))
	if err != nil {
		return fail(exitFailed, "greatseal tls ca --dir "+dir, "%v", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := newSerial()
	if err != nil {
		return err
	}
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(0, 0, leafDays),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		URIs: []*url.URL{{Scheme: "greatseal", Opaque: name}},
	}
	for _, h := range hosts {
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
		if ip := net.ParseIP(h); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, ca, key.Public(), caKey)
	if err != nil {
		return err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	return writePair(filepath.Join(dir, name), key, cert)
}

func newSerial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
}

// writePair writes base.crt and base.key and replaces neither.
func writePair(base string, key crypto.Signer, certs ...*x509.Certificate) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	k := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	defer clear(k)
	var c []byte
	for _, cert := range certs {
		c = append(c, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
	}
	if err := writeOnce(base+".key", k, 0o600); err != nil {
		return err
	}
	return writeOnce(base+".crt", c, 0o644)
}

// writeOnce writes a file that must not exist yet.
func writeOnce(path string, data []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, os.ErrExist) {
		return fail(exitFailed, "remove it, or choose another name", "%s exists already", path)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

func readPair(base string) (*x509.Certificate, crypto.Signer, error) {
	c, err := os.ReadFile(base + ".crt")
	if err != nil {
		return nil, nil, err
	}
	k, err := os.ReadFile(base + ".key")
	if err != nil {
		return nil, nil, err
	}
	cb, _ := pem.Decode(c)
	kb, _ := pem.Decode(k)
	if cb == nil || kb == nil {
		return nil, nil, fmt.Errorf("%s.crt and %s.key are not PEM", base, base)
	}
	cert, err := x509.ParseCertificate(cb.Bytes)
	if err != nil {
		return nil, nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(kb.Bytes)
	if err != nil {
		return nil, nil, err
	}
	s, ok := key.(crypto.Signer)
	if !ok {
		return nil, nil, fmt.Errorf("%s.key cannot sign", base)
	}
	return cert, s, nil
}
