package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Beyond loopback a client shows a certificate, unless somebody has said that jobs of CI
// come without one.
func TestJobsWithoutCertificate(t *testing.T) {
	const base = `listen: 0.0.0.0:7788
url: https://sign.example.com:7788
database: sqlite:db
root: 4f2a91c03bde4f2a91c03bde4f2a91c03bde4f2a91c03bde4f2a91c03bde4f2a
keeper: {socket: keeper.sock}
tls: {cert: tls.crt, key: tls.key}
`
	dir := t.TempDir()
	read := func(more string) (*Server, error) {
		p := filepath.Join(dir, "server.yaml")
		if err := os.WriteFile(p, []byte(base+more), 0o600); err != nil {
			t.Fatal(err)
		}
		return ReadServer(p)
	}
	for _, more := range []string{"", "issuers: {off: true}\n", "issuers: {without_certificate: false}\n"} {
		if _, err := read(more); err == nil || !strings.Contains(err.Error(), "ca is missing") {
			t.Errorf("%q: %v", more, err)
		}
	}
	c, err := read("issuers: {ca: own.pem, without_certificate: true}\n")
	if err != nil || c.Issuers.CA != filepath.Join(dir, "own.pem") {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := read("issuers: {insecure: true}\n"); err == nil {
		t.Error("an unknown field is taken")
	}
}
