package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// A new application goes from its template to its first endorsed, verified signature
// with the commands that "app status" names; the time that it takes is printed. People
// add theirs: each step waits for nobody but them.
func TestNewApplication(t *testing.T) {
	template := found(t)
	dir, err := os.MkdirTemp("", "gs") // short: a socket's path has little room
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	home := filepath.Join(dir, "d")
	if err := copyTree(home, template); err != nil {
		t.Fatal(err)
	}
	stop, err := start(home, append(os.Environ(), "HOME="+dir))
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	exe, err := exec.LookPath("greatseal")
	if err != nil {
		t.Fatal(err)
	}
	commands := 0
	run := func(who string, args ...string) []byte {
		t.Helper()
		commands++
		c := exec.Command(exe, append([]string{"--json", "--config", filepath.Join(home, "people", who+".yaml")}, args...)...)
		c.Dir, c.Env = dir, append(os.Environ(), "HOME="+dir)
		var bad bytes.Buffer
		c.Stderr = &bad
		out, err := c.Output()
		if err != nil {
			t.Fatalf("%s: %v: %v: %s", who, args, err, bad.Bytes())
		}
		return out
	}
	// asked makes a request, which others endorse.
	asked := func(who string, endorsers []string, args ...string) string {
		t.Helper()
		id, err := lookup(run(who, append(args, "--no-wait")...), "request")
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range endorsers {
			run(e, "endorse", id, "--yes")
		}
		return id
	}
	next := func() (step string) {
		t.Helper()
		var s struct {
			Ready bool
			Steps []struct{ Name, State string }
		}
		if err := json.Unmarshal(run("bob", "app", "status", "windows-app"), &s); err != nil {
			t.Fatal(err)
		}
		for _, x := range s.Steps {
			if x.State != "done" && x.State != "not needed" {
				return x.Name + " " + x.State
			}
		}
		return "ready"
	}
	want := func(step string) {
		t.Helper()
		if got := next(); got != step {
			t.Fatalf("the next step is %q: want %q", got, step)
		}
	}
	program, err := os.ReadFile(filepath.Join("..", "..", "format", "pe", "testdata", "signed.exe"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "setup.exe"), program, 0o644); err != nil {
		t.Fatal(err)
	}

	begin := time.Now()
	want("charter next")
	asked("alice", []string{"carol", "dave"}, "app", "new", "windows-release", "--name", "windows-app", "--requesters", "release", "--quorum", "1 of release, 1 of security", "--timestamp", "none")
	want("key next")
	asked("alice", []string{"carol"}, "key", "generate", "windows-app", "--subject", "CN=Example Ltd,O=Example Ltd")
	want("certificate next")
	run("alice", "key", "csr", "windows-app", "--out", "app.csr")
	run("alice", "key", "trial-ca", "--csr", "app.csr", "--out", "app.pem")
	asked("alice", []string{"carol"}, "key", "import-certificate", "windows-app", "app.pem")
	want("signature next")
	id := asked("alice", []string{"bob", "carol"}, "sign", "setup.exe", "--policy", "windows-app", "--param", "existing=replace")
	run("alice", "collect", id, "setup.exe", "--wait")
	want("ready")
	verdict := run("alice", "verify", "setup.exe", "--ca", filepath.Join("trial-ca", "ca.crt"))
	took := time.Since(begin)
	if !bytes.Contains(verdict, []byte("windows-app")) {
		t.Errorf("verified, and not under the policy: %s", verdict)
	}
	signed, err := os.ReadFile(filepath.Join(dir, "setup.exe"))
	if err != nil || slices.Equal(signed, program) {
		t.Errorf("the file was not changed: %v", err)
	}
	t.Logf("from the template to the first endorsed, verified signature: %s, %d commands", took.Round(10*time.Millisecond), commands)
}
