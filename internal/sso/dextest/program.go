package dextest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/porttest"
)

// program is a provider's process.
type program struct {
	tb    testing.TB
	dir   string
	name  string
	args  []string
	url   string // the issuer
	roots *x509.CertPool
	log   *output
	cmd   *exec.Cmd
	done  chan struct{}
}

func newProgram(tb testing.TB) program {
	return program{tb: tb, dir: tb.TempDir(), log: &output{}}
}

// Up starts the provider again, at the same address, and waits until it answers.
func (d *program) Up() {
	d.tb.Helper()
	c := exec.Command(d.name, d.args...)
	c.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + d.dir, "TMPDIR=" + d.dir}
	c.Stdout, c.Stderr = d.log, d.log
	c.SysProcAttr = dieWithTest()
	if err := c.Start(); err != nil {
		d.tb.Fatal(err)
	}
	d.tb.Cleanup(d.Stop)
	done := make(chan struct{})
	go func() {
		_ = c.Wait() // it is killed
		close(done)
	}()
	d.cmd, d.done = c, done
	client := d.HTTPClient()
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(d.tb.Context(), time.Minute)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url+"/.well-known/openid-configuration", nil)
		if err != nil {
			d.tb.Fatal(err)
		}
		if resp, err := client.Do(req); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-done:
			d.tb.Fatalf("%s has ended:\n%s", d.name, d.log)
		case <-ctx.Done():
			d.tb.Fatalf("%s does not answer:\n%s", d.name, d.log)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Stop kills the provider. Up starts it again.
func (d *program) Stop() {
	if d.cmd == nil {
		return
	}
	_ = d.cmd.Process.Kill() // it may have ended
	<-d.done
	d.cmd = nil
}

// Said is what the provider has written.
func (d *program) Said() string { return d.log.String() }

// HTTPClient is a client that trusts the provider's authority, without cookies.
func (d *program) HTTPClient() *http.Client {
	return &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: d.roots}}}
}

func (d *program) write(name string, b []byte) string {
	path := filepath.Join(d.dir, name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		d.tb.Fatal(err)
	}
	return path
}

const certFile, keyFile = "provider.pem", "provider.key"

// certificates makes the authority and the provider's certificate.
func (d *program) certificates() (caFile string, roots *x509.CertPool) {
	must := func(err error) {
		if err != nil {
			d.tb.Fatal(err)
		}
	}
	now := time.Now()
	make := func(serial int64, name string, ca bool, parent *x509.Certificate, by *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		must(err)
		c := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(48 * time.Hour), BasicConstraintsValid: true, IsCA: ca}
		if ca {
			c.KeyUsage = x509.KeyUsageCertSign
			parent, by = c, k
		} else {
			c.KeyUsage, c.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
			c.IPAddresses, c.DNSNames = []net.IP{net.IPv4(127, 0, 0, 1)}, []string{"localhost"}
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, k.Public(), by)
		must(err)
		c, err = x509.ParseCertificate(der)
		must(err)
		return c, k
	}
	ca, caKey := make(1, "Authority of the test's provider", true, nil, nil)
	leaf, leafKey := make(2, "provider", false, ca, caKey)
	der, err := x509.MarshalPKCS8PrivateKey(leafKey)
	must(err)
	caFile = d.write("ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw}))
	d.write(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw}))
	d.write(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	d.roots = x509.NewCertPool()
	d.roots.AddCert(ca)
	return caFile, d.roots
}

func freePort(tb testing.TB) int {
	port, err := porttest.Free()
	if err != nil {
		tb.Fatal(err)
	}
	return port
}

func random(tb testing.TB) string {
	b := make([]byte, 12)
	if _, err := rand.Read(b); err != nil {
		tb.Fatal(err)
	}
	return fmt.Sprintf("%x", b)
}

// output is what Dex says, for when something is wrong.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}
