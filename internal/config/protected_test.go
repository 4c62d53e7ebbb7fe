package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A protected instance has no logins: on TCP it takes certificates, also on loopback,
// which every user of the machine reaches.
func TestListenOfProtectedInstance(t *testing.T) {
	const part = "\ndatabase: sqlite:x.db\ninstance:\n  name: prod\n  role: protected\n  sides:\n    - root: 0101010101010101010101010101010101010101010101010101010101010101\n"
	for text, want := range map[string]string{
		"listen: unix:/run/x.sock":                            "",
		"listen: 127.0.0.1:1":                                 "listens on unix:PATH",
		"listen: localhost:1":                                 "listens on unix:PATH",
		"listen: '[::1]:1'":                                   "listens on unix:PATH",
		"listen: 127.0.0.1:1\ntls: {cert: c.pem, key: k.pem}": "listens on unix:PATH",
		"listen: 127.0.0.1:1\ntls: {cert: c.pem, key: k.pem, ca: ca.pem}": "",
	} {
		path := filepath.Join(t.TempDir(), "server.yaml")
		if err := os.WriteFile(path, []byte(text+part), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := ReadServer(path)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
