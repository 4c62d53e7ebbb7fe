package command_test

import (
	"context"
	"encoding/json/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/gate/check"
	"github.com/greatseal-io/greatseal/internal/gate/command"
	"github.com/greatseal-io/greatseal/statement"
)

func file() *check.File {
	return &check.File{
		Request: &statement.Request{Requester: "alice", Command: statement.Command{Sign: &statement.SignArgs{Policy: "release", Count: 1}}},
		Item:    &format.Item{Name: "app.bin", Plan: []byte("plan")}, Plan: &format.Plan{Format: "cms", Digest: "sha256", Size: 3, Content: []byte{0xab}}, Path: "/tmp/artifact",
	}
}

func program(t *testing.T, script string) check.Program {
	t.Helper()
	p := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(p, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return check.Program{Command: []string{p}, Env: []string{"MODE=test"}}
}

func TestAnswers(t *testing.T) {
	for _, c := range []struct {
		script  string
		endorse bool
		reason  string // "": no answer
	}{
		{"echo fine; echo more; exit 0", true, "fine"},
		{"exit 0", true, "the program found nothing against it"},
		{"echo bad; exit 1", false, "bad"},
		{"echo secret >&2; exit 1", false, "the program refused it without a reason"},
		{"exit 2", false, ""},
		{"exit 127", false, ""},
		{"kill -9 $$", false, ""},
		{"yes | head -c 10000000; exit 0", true, "y"},
		{"exec <&-; echo unread; exit 0", true, "unread"},
	} {
		x, err := command.New(program(t, c.script), false)
		if err != nil {
			t.Fatal(err)
		}
		o, err := x.File(t.Context(), file())
		if c.reason == "" {
			if err == nil {
				t.Errorf("%s: %+v", c.script, o)
			}
			continue
		}
		if err != nil || o.Endorse != c.endorse || o.Reason != c.reason {
			t.Errorf("%s: %+v %v", c.script, o, err)
		}
	}
}

// A program that does not end, or leaves another one behind, is ended with it.
func TestTime(t *testing.T) {
	dir := t.TempDir()
	p := program(t, "(sleep 1000; echo late >"+dir+"/late) & echo $! >"+dir+"/pid; sleep 1000")
	p.Time = 500 * time.Millisecond
	x, err := command.New(p, false)
	if err != nil {
		t.Fatal(err)
	}
	if o, err := x.File(t.Context(), file()); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("%+v %v", o, err)
	}
	pid, err := os.ReadFile(dir + "/pid")
	if err != nil {
		t.Fatal(err)
	}
	for range 6000 {
		b, err := os.ReadFile("/proc/" + strings.TrimSpace(string(pid)) + "/stat")
		if err != nil || strings.Contains(string(b), ") Z ") {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("what the program had started lives on")
}

// The program sees the description and its own environment, and nothing of the gate's.
func TestInput(t *testing.T) {
	t.Setenv("GREATSEAL_TOKEN", "secret")
	dir := t.TempDir()
	x, err := command.New(program(t, "cat >"+dir+"/in; env >"+dir+"/env"), false)
	if err != nil {
		t.Fatal(err)
	}
	if o, err := x.File(t.Context(), file()); err != nil || !o.Endorse {
		t.Fatalf("%+v %v", o, err)
	}
	b, err := os.ReadFile(dir + "/in")
	if err != nil {
		t.Fatal(err)
	}
	var d check.Description
	if err := json.Unmarshal(b, &d, json.RejectUnknownMembers(true)); err != nil {
		t.Fatal(err)
	}
	if d.Name != "app.bin" || d.Content != "ab" || d.Artifact != "/tmp/artifact" || string(d.Plan) != "plan" || d.Requester != "alice" || d.Policy != "release" {
		t.Errorf("%+v", d)
	}
	env, err := os.ReadFile(dir + "/env")
	if err != nil || strings.Contains(string(env), "secret") || !strings.Contains(string(env), "MODE=test") {
		t.Errorf("environment: %s %v", env, err)
	}
}

func TestCancelled(t *testing.T) {
	x, err := command.New(program(t, "sleep 1000"), true)
	if err != nil || x.Bytes() {
		t.Fatalf("%v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if o, err := x.File(ctx, file()); err == nil {
		t.Errorf("%+v", o)
	}
}

func TestRefused(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range []check.Program{{}, {Command: []string{"sh"}}, {Command: []string{"/nonexistent"}}, {Command: []string{"/tmp"}}, {Command: []string{plain}}, {Command: []string{"/bin/sh"}, Env: []string{"=x"}}} {
		if _, err := command.New(p, false); err == nil {
			t.Errorf("%v was accepted", p)
		}
	}
}
