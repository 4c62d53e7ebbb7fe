package gate

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/gate/rules"
)

const head = "server: https://sign.example.com\nroot: 0000000000000000000000000000000000000000000000000000000000000001\nname: scanner\nkey: gate.key\nstate: state\n"

func TestConfigRefused(t *testing.T) {
	for what, text := range map[string]string{
		"no check":          head,
		"two checks":        head + "clamav: {socket: /run/clamd}\ncommand: {command: [/bin/true]}\n",
		"unknown member":    head + "clamav: {socket: /run/clamd, sockets: x}\n",
		"repeated member":   head + "name: other\nclamav: {socket: /run/clamd}\n",
		"two documents":     head + "clamav: {socket: /run/clamd}\n---\nname: x\n",
		"no root":           strings.Replace(head, "root:", "#", 1) + "clamav: {socket: /run/clamd}\n",
		"no key":            strings.Replace(head, "key:", "#", 1) + "clamav: {socket: /run/clamd}\n",
		"public key":        strings.Replace(head, "gate.key", "gate.pub", 1) + "clamav: {socket: /run/clamd}\n",
		"bad name":          strings.Replace(head, "scanner", "../x", 1) + "clamav: {socket: /run/clamd}\n",
		"certificate alone": head + "cert: a.pem\nclamav: {socket: /run/clamd}\n",
		"metrics outside":   head + "metrics: 0.0.0.0:9\nclamav: {socket: /run/clamd}\n",
		"bad duration":      head + "retry: -1s\nclamav: {socket: /run/clamd}\n",
		"parallel":          head + "parallel: 1000\nclamav: {socket: /run/clamd}\n",
	} {
		if _, err := decodeConfig([]byte(text), "/etc/greatseal"); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	c, err := decodeConfig([]byte(head+"clamav: {socket: run/clamd.sock}\n"), "/etc/greatseal")
	if err != nil || c.Key != "/etc/greatseal/gate.key" || c.ClamAV.Socket != "/etc/greatseal/run/clamd.sock" {
		t.Errorf("%+v %v", c, err)
	}
}

// Keys and tokens that others can read are refused, before anything is sent.
func TestSecretsAreTheOwners(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(dir, "gate.key")
	if err := os.WriteFile(key, []byte("key"), 0o644); err != nil {
		t.Fatal(err)
	}
	c := &Config{Server: "http://127.0.0.1:1", Name: "gate", Key: key, State: dir, Rules: &RulesConfig{Rules: []RuleConfig{{Name: "r", Demand: "true"}}}}
	if err := Run(t.Context(), c, Host{Clock: time.Now, Logger: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("%v", err)
	}
	c.Rules.Rules[0].Demand = "true &&"
	if err := Run(t.Context(), c, Host{Clock: time.Now, Logger: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), "rule \"r\"") {
		t.Errorf("a rule that does not compile: %v", err)
	}
}

// Every configuration of the handbook is accepted, and its rules compile.
func TestHandbook(t *testing.T) {
	b, err := os.ReadFile("../../docs/operate/gates.md")
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]bool{}
	parts := strings.Split(string(b), "```yaml\n")
	for _, part := range parts[1:] {
		text, _, _ := strings.Cut(part, "```")
		if !strings.Contains(text, "server:") {
			text = head + text
		}
		c, err := decodeConfig([]byte(text), "/etc/greatseal")
		if err != nil {
			t.Errorf("%v in\n%s", err, text)
			continue
		}
		kinds["clamav"] = kinds["clamav"] || c.ClamAV != nil
		kinds["provenance"] = kinds["provenance"] || c.Provenance != nil
		kinds["rebuild"] = kinds["rebuild"] || c.Rebuild != nil
		kinds["command"] = kinds["command"] || c.Command != nil
		if c.Rules != nil {
			kinds["rules"] = true
			var list []rules.Rule
			for _, r := range c.Rules.Rules {
				list = append(list, rules.Rule(r))
			}
			if _, err := rules.New(list, c.Rules.PlanOnly); err != nil {
				t.Error(err)
			}
		}
	}
	for _, k := range []string{"clamav", "provenance", "rebuild", "command", "rules"} {
		if !kinds[k] {
			t.Errorf("the handbook has no example of %s", k)
		}
	}
}

func TestMetrics(t *testing.T) {
	g := &Gate{Kind: "test", Logger: slog.New(slog.DiscardHandler)}
	g.Metrics.Endorsed.Store(7)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var at string
	wait, err := g.serve(ctx, "127.0.0.1:0", func(a net.Addr) { at = a.String() })
	if err != nil {
		t.Fatal(err)
	}
	defer wait()
	resp, err := http.Get("http://" + at + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || !strings.Contains(string(b), `greatseal_gate_endorsed_total{gate="test"} 7`) {
		t.Errorf("%s %v", b, err)
	}
}
