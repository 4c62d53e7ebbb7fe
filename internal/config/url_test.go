package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// An address that nobody could log in by is found when the configuration is read.
func TestURL(t *testing.T) {
	const local, public = "127.0.0.1:7788", "0.0.0.0:7788"
	for _, c := range []struct {
		listen, url string
		ok          bool
	}{
		{local, "", true}, {"unix:s", "", true}, {public, "", false},
		{public, "https://sign.example.com:7788", true}, {public, "https://sign.example.com/", true}, {local, "https://sign.example.com", true},
		{local, "http://127.0.0.1:7788", true}, {local, "http://localhost:7788", true}, {local, "http://[::1]:7788", true},
		{public, "http://sign.example.com", false}, {public, "sign.example.com:7788", false}, {public, "https://", false}, {public, "https://:7788", false},
		{public, "https://user@sign.example.com", false}, {public, "https://sign.example.com/greatseal", false},
		{public, "https://sign.example.com?a=b", false}, {public, "https://sign.example.com?", false}, {public, "https://sign.example.com#x", false}, {local, "ftp://sign.example.com", false},
		{local, "https://sign example.com", false},
	} {
		path := filepath.Join(t.TempDir(), "server.yaml")
		text := "listen: " + c.listen + "\ndatabase: sqlite:x.db\nroot: " + strings.Repeat("ab", 32) + "\nkeeper: {socket: k}\ntls: {cert: c, key: k, ca: a}\n"
		if c.url != "" {
			text += "url: \"" + c.url + "\"\n"
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := ReadServer(path)
		if (err == nil) != c.ok || err != nil && !strings.Contains(err.Error(), "url") {
			t.Errorf("listen %s, url %q: %v", c.listen, c.url, err)
		}
	}
}
