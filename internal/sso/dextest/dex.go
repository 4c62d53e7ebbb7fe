// Package dextest runs Dex, an OpenID provider, for tests: the real program that
// tools/judges builds, with people of the test's, on free ports of this machine, over
// TLS by an authority of the test's own.
//
// Dex keeps everything in memory: one that is started again has other signing keys.
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
	"encoding/json/v2"
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

	"golang.org/x/crypto/bcrypt"

	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/internal/config"
)

// Password is everybody's.
const Password = "correct horse battery staple"

// User is somebody who can log in at Dex, with his e-mail address.
type User struct {
	Email    string
	Username string // the claim preferred_username
	Verified bool   // Dex vouches for the address
	Groups   []string
}

// Users are those that every Dex of this package has, by the names that their charter
// would have.
func Users() map[string]User {
	return map[string]User{
		"alice":   {Email: "alice@example.com", Username: "alice.a", Verified: true, Groups: []string{"developers"}},
		"bob":     {Email: "bob@example.com", Username: "bob.b", Verified: true, Groups: []string{"developers", "releases"}},
		"carol":   {Email: "carol@example.com", Username: "carol.c", Verified: true, Groups: []string{"officers"}},
		"dave":    {Email: "dave@example.com", Username: "dave.d", Verified: true, Groups: []string{"operations"}},
		"erin":    {Email: "erin@audit.example", Username: "erin.e", Verified: true, Groups: []string{"audit"}},
		"frank":   {Email: "frank@elsewhere.example", Username: "frank.f", Verified: true},
		"mallory": {Email: "mallory@example.com", Username: "mallory.m", Groups: []string{"audit"}},
	}
}

// Client is a program that is registered at Dex.
type Client struct {
	ID         string
	Secret     string // empty: a public client
	SecretFile string // mode 0600; empty for a public client
}

// Dex is one that runs.
type Dex struct {
	Issuer     string // https://127.0.0.1:PORT/dex
	ClientID   string // Greatseal's
	Secret     string
	SecretFile string
	CAFile     string // of the authority of Dex's certificate
	CA         *x509.CertPool
	Users      map[string]User

	Other  Client // another confidential client, with the same redirect addresses
	Public Client // one without a secret

	tb   testing.TB
	dir  string
	log  output
	cmd  *exec.Cmd
	done chan struct{}
}

// Start runs a Dex that sends people back to the addresses that are given, until the
// test ends.
func Start(tb testing.TB, redirectURLs ...string) *Dex {
	tb.Helper()
	d := &Dex{tb: tb, dir: tb.TempDir(), ClientID: "greatseal", Secret: "dex-test-secret-" + random(tb), Users: Users()}
	d.SecretFile = d.write("secret", []byte(d.Secret+"\n"))
	d.Other = Client{ID: "other", Secret: "dex-test-secret-" + random(tb)}
	d.Other.SecretFile = d.write("secret-other", []byte(d.Other.Secret+"\n"))
	d.Public = Client{ID: "greatseal-public"}
	d.certificates()
	port := freePort(tb)
	d.Issuer = fmt.Sprintf("https://127.0.0.1:%d/dex", port)
	hash, err := bcrypt.GenerateFromPassword([]byte(Password), bcrypt.MinCost+6) // Dex wants 10 at least
	if err != nil {
		tb.Fatal(err)
	}
	var people []map[string]any
	for name, u := range d.Users {
		people = append(people, map[string]any{"email": u.Email, "username": name, "preferredUsername": u.Username,
			"emailVerified": u.Verified, "userID": "id-of-" + name, "hash": string(hash), "groups": u.Groups})
	}
	b, err := json.Marshal(map[string]any{
		"issuer":  d.Issuer,
		"storage": map[string]any{"type": "memory"},
		"web":     map[string]any{"https": fmt.Sprintf("127.0.0.1:%d", port), "tlsCert": filepath.Join(d.dir, "dex.pem"), "tlsKey": filepath.Join(d.dir, "dex.key")},
		"oauth2":  map[string]any{"skipApprovalScreen": true},
		"logger":  map[string]any{"level": "warn"},
		"staticClients": []map[string]any{
			{"id": d.ClientID, "name": "Greatseal", "secret": d.Secret, "redirectURIs": redirectURLs},
			{"id": d.Other.ID, "name": "Another", "secret": d.Other.Secret, "redirectURIs": redirectURLs},
			{"id": d.Public.ID, "name": "Greatseal without a secret", "public": true, "redirectURIs": redirectURLs},
		},
		"enablePasswordDB": true,
		"staticPasswords":  people,
	})
	if err != nil {
		tb.Fatal(err)
	}
	d.write("config.yaml", b) // JSON is YAML
	tb.Cleanup(d.Stop)
	d.Up()
	return d
}

// Config is the provider "dex" of a server's configuration.
func (d *Dex) Config() config.SSO {
	return config.SSO{Name: "dex", Title: "Dex", Issuer: d.Issuer, ClientID: d.ClientID, ClientSecretFile: d.SecretFile, CA: d.CAFile,
		Claim: config.ClaimEmail, Scopes: []string{"email", "profile", "groups"}, Groups: "groups"}
}

// Up starts Dex again, at the same address, and waits until it answers.
func (d *Dex) Up() {
	d.tb.Helper()
	name := formattest.Program(d.tb, "dex", "make judges")
	c := exec.Command(name, "serve", filepath.Join(d.dir, "config.yaml"))
	c.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + d.dir, "TMPDIR=" + d.dir}
	c.Stdout, c.Stderr = &d.log, &d.log
	c.SysProcAttr = dieWithTest()
	if err := c.Start(); err != nil {
		d.tb.Fatal(err)
	}
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
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.Issuer+"/.well-known/openid-configuration", nil)
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
			d.tb.Fatalf("dex has ended:\n%s", d.log.String())
		case <-ctx.Done():
			d.tb.Fatalf("dex does not answer:\n%s", d.log.String())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Stop kills Dex. Up starts it again.
func (d *Dex) Stop() {
	if d.cmd == nil {
		return
	}
	_ = d.cmd.Process.Kill() // it may have ended
	<-d.done
	d.cmd = nil
}

// HTTPClient is a client that trusts Dex's authority, without cookies.
func (d *Dex) HTTPClient() *http.Client {
	return &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: d.CA}}}
}

func (d *Dex) write(name string, b []byte) string {
	path := filepath.Join(d.dir, name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		d.tb.Fatal(err)
	}
	return path
}

// certificates makes the authority and Dex's certificate.
func (d *Dex) certificates() {
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
	leaf, leafKey := make(2, "dex", false, ca, caKey)
	der, err := x509.MarshalPKCS8PrivateKey(leafKey)
	must(err)
	d.CAFile = d.write("ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw}))
	d.write("dex.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw}))
	d.write("dex.key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	d.CA = x509.NewCertPool()
	d.CA.AddCert(ca)
}

func freePort(tb testing.TB) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
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
