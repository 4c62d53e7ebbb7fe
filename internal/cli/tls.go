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
	var k connecting
	var csr string
	issue := &cobra.Command{
		Use:   "issue NAME --dir DIR [--csr FILE] [--host HOST …]",
		Short: "make a certificate: for a person or machine, or with --host for a server",
		Long: `Makes DIR/NAME.crt with DIR/NAME.key. NAME is who the charter says it is: a person or
a machine; a server's or keeper's certificate also says by which hosts it is reached.

With --csr the key stays where it was made: NAME.crt is for the key of a certificate
request (PKCS #10), which proves that it is the asker's. Of the request nothing else
is taken: it may ask for NAME and for the hosts that are given here, and is refused
when it asks for more.`,
		Example: `  greatseal tls issue alice --dir tls
  greatseal tls issue server --dir tls --dns sign.example.com --ip 192.0.2.7
  greatseal tls issue ci --dir tls --csr ci.csr`,
		Args: exactly("NAME"),
		RunE: func(_ *cobra.Command, args []string) error {
			k.name, k.now = args[0], a.Now()
			if err := k.check(); err != nil {
				return err
			}
			base := filepath.Join(dir, k.name)
			made := map[string]string{"certificate": base + ".crt"}
			if csr != "" {
				r, err := readRequest(csr, "openssl req -new makes one")
				if err != nil {
					return err
				}
				if err := k.allows(r); err != nil {
					return err
				}
				if err := k.issueFor(dir, r.PublicKey); err != nil {
					return err
				}
			} else {
				if err := k.issue(dir); err != nil {
					return err
				}
				made["key"] = base + ".key"
			}
			return a.print(made, func(w io.Writer) {
				fmt.Fprintln(w, printable(made["certificate"]))
				if f, ok := made["key"]; ok {
					fmt.Fprintln(w, printable(f))
				}
			})
		},
	}
	for _, x := range []*cobra.Command{ca, issue} {
		x.Flags().StringVar(&dir, "dir", "tls", "folder")
	}
	f := issue.Flags()
	f.StringSliceVar(&k.hosts, "host", nil, "name or address of a server; repeatable")
	f.StringSliceVar(&k.dns, "dns", nil, "name of a server; repeatable")
	f.StringSliceVar(&k.ips, "ip", nil, "address of a server; repeatable")
	f.StringVar(&csr, "csr", "", "certificate request in PEM: the key is made elsewhere")
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

func newSerial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
}

func certificatesPEM(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

// absent refuses a path where there is something already.
func absent(path string) error {
	_, err := os.Lstat(path)
	switch {
	case err == nil:
		return fail(exitFailed, "remove it, or choose another name", "%s exists already", path)
	case errors.Is(err, os.ErrNotExist):
		return nil
	}
	return err
}

// writePair writes base.crt and base.key and replaces neither.
func writePair(base string, key crypto.Signer, certs ...*x509.Certificate) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	k := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	defer clear(k)
	c := certificatesPEM(certs...)
	if err := absent(base + ".crt"); err != nil {
		return err // before there is a key without its certificate
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
