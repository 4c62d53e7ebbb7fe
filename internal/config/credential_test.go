package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func keeperFile(t *testing.T, passphrase string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keeper.yaml")
	text := "dir: state\nkeystore: keystore\nsocket: s\nroot: " + strings.Repeat("ab", 32) + "\npassphrase_file: " + passphrase + "\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCredentials(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	c, err := ReadKeeper(keeperFile(t, "credential:passphrase"))
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(dir, "passphrase"); c.PassphraseFile != want {
		t.Errorf("passphrase_file is %s, want %s", c.PassphraseFile, want)
	}
	for _, bad := range []string{"credential:", "credential:..", "credential:../x", "credential:/etc/passwd", "credential:a/b"} {
		if _, err := ReadKeeper(keeperFile(t, bad)); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	if _, err := ReadKeeper(keeperFile(t, "credential:passphrase")); err == nil || !strings.Contains(err.Error(), "CREDENTIALS_DIRECTORY") {
		t.Errorf("without the folder: %v", err)
	}
}

func TestSecretModes(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "secret")
	if err := os.WriteFile(path, []byte("x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		mode               os.FileMode
		plain, credentials bool
	}{
		{0o400, true, true}, {0o600, true, true}, {0o440, false, true}, {0o640, false, true},
		{0o644, false, false}, {0o460, false, false}, {0o404, false, false}, {0o450, false, false},
	} {
		if err := os.Chmod(path, c.mode); err != nil {
			t.Fatal(err)
		}
		for env, want := range map[string]bool{"": c.plain, t.TempDir(): c.plain, dir: c.credentials} {
			t.Setenv("CREDENTIALS_DIRECTORY", env)
			if _, err := Secret(path); (err == nil) != want {
				t.Errorf("mode %o, credentials in %q: %v", c.mode, env, err)
			}
		}
	}
}
