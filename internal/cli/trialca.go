package cli

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/greatseal-io/greatseal/format/file"
)

// RFC 3161 section 2.3: a timestamp authority's certificate has this usage alone,
// and it is critical.
var (
	extKeyUsage  = asn1.ObjectIdentifier{2, 5, 29, 37}
	timestamping = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 8}
)

const (
	trialCADays   = 1825
	trialLeafDays = 365
)

func (a *App) keyTrialCA() *cobra.Command {
	var csr, out, dir string
	var stamps bool
	c := &cobra.Command{
		Use:   "trial-ca --csr KEY.csr --out CHAIN.pem",
		Short: "issue a certificate for trying out, from a small authority on this machine",
		Long: `Makes an authority in --dir where there is none, and issues a code-signing
certificate for the certificate request. Nobody else trusts it: use it to try a
deployment before a real authority has answered.`,
		Args: exactly(),
		RunE: func(*cobra.Command, []string) error {
			if csr == "" || out == "" {
				return fail(exitUsage, "greatseal key trial-ca --csr KEY.csr --out CHAIN.pem", "--csr and --out are wanted")
			}
			b, err := readSmall(csr)
			if err != nil {
				return err
			}
			p, _ := pem.Decode(b)
			if p == nil || p.Type != "CERTIFICATE REQUEST" {
				return fail(exitFailed, "greatseal key csr KEY --out "+csr, "%s is no certificate request in PEM", csr)
			}
			req, err := x509.ParseCertificateRequest(p.Bytes)
			if err == nil {
				err = req.CheckSignature()
			}
			if err != nil {
				return fail(exitFailed, "greatseal key csr KEY --out "+csr, "%s: %v", csr, err)
			}
			ca, key, err := trialAuthority(dir, a.Now())
			if err != nil {
				return err
			}
			der, err := trialIssue(ca, key, req, stamps, a.Now())
			if err != nil {
				return err
			}
			text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw})...)
			if err := file.WriteFile(out, text, 0o644); err != nil {
				return err
			}
			root := filepath.Join(dir, "ca.crt")
			return a.print(map[string]string{"chain": out, "root": root, "subject": req.Subject.String()}, func(w io.Writer) {
				fmt.Fprintf(w, "%s\ngreatseal key import-certificate KEY %[1]s\ngreatseal verify FILE --ca %s\n", printable(out), printable(root))
			})
		},
	}
	f := c.Flags()
	f.StringVar(&csr, "csr", "", "certificate request")
	f.StringVarP(&out, "out", "o", "", "chain to write")
	f.StringVar(&dir, "dir", "trial-ca", "folder of the authority")
	f.BoolVar(&stamps, "timestamping", false, "for a timestamp authority instead of code signing")
	return c
}

// trialAuthority is the authority in dir, made where there is none.
func trialAuthority(dir string, now time.Time) (*x509.Certificate, crypto.Signer, error) {
	base := filepath.Join(dir, "ca")
	cert, key, err := readPair(base)
	if !errors.Is(err, os.ErrNotExist) {
		return cert, key, err
	}
	k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "Trial authority"}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(0, 0, trialCADays),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, k.Public(), k)
	if err != nil {
		return nil, nil, err
	}
	if cert, err = x509.ParseCertificate(der); err != nil {
		return nil, nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, err
	}
	return cert, k, writePair(base, k, cert)
}

func trialIssue(ca *x509.Certificate, key crypto.Signer, req *x509.CertificateRequest, stamps bool, now time.Time) ([]byte, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial, RawSubject: req.RawSubject, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(0, 0, trialLeafDays),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}
	if stamps {
		usage, err := asn1.Marshal([]asn1.ObjectIdentifier{timestamping})
		if err != nil {
			return nil, err
		}
		t.ExtKeyUsage, t.ExtraExtensions = nil, []pkix.Extension{{Id: extKeyUsage, Critical: true, Value: usage}}
	}
	return x509.CreateCertificate(rand.Reader, t, ca, req.PublicKey, key)
}
