package credentials

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func write(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "credentials.yaml")
	if err := os.WriteFile(name, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
	return name
}

const good = "reporting: {user: report, password: hunter2}\napi: {token: t0ken}\n"

// Invariant 2.
func TestNothingPrints(t *testing.T) {
	s, err := Open(write(t, good, 0o600), os.Geteuid())
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.Get("reporting")
	if err != nil {
		t.Fatal(err)
	}
	if u, p := c.Login(); u != "report" || p != "hunter2" {
		t.Error("Login")
	}
	j, err := json.Marshal(map[string]any{"c": c})
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "c", c)
	all := fmt.Sprintf("%v %+v %#v %s %d %x %q", c, c, c, c, c, c, c) + fmt.Sprint(struct{ C *Credential }{c}) + string(j) + log.String()
	if strings.Contains(all, "hunter2") || strings.Contains(all, "report ") || strings.Contains(all, "68756e746572") || !strings.Contains(all, "reporting") {
		t.Error(all)
	}
	if _, err := s.Get("none"); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
	if _, err := (*Store)(nil).Get("reporting"); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
}

// Invariant 1; and no refusal quotes the file.
func TestOpenRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
	}{
		"group": {good, 0o640}, "world": {good, 0o604}, "unknown member": {"a: {user: x, pasword: hunter2}", 0o600},
		"not a map": {"hunter2", 0o600}, "two": {good + "---\na: {}\n", 0o600}, "both": {"a: {user: x, token: hunter2}", 0o600},
		"ca": {"a: {ca: none.pem}", 0o600}, "large": {"# " + strings.Repeat("x", maxFile), 0o600},
	} {
		_, err := Open(write(t, c.text, c.mode), os.Geteuid())
		if !errors.Is(err, ErrFile) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
	f := write(t, good, 0o600)
	if err := os.Symlink(f, f+".link"); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(f+".link", os.Geteuid()); !errors.Is(err, ErrFile) {
		t.Error(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(f, 12345, -1); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(f, 0); !errors.Is(err, ErrFile) {
			t.Error(err)
		}
	}
}
