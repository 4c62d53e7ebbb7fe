package script

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/agent/agenttest"
	"github.com/greatseal-io/greatseal/internal/agent/exec"
	"github.com/greatseal-io/greatseal/internal/agent/sandbox"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/rejection"
)

func TestMain(m *testing.M) {
	if sandbox.Is(os.Args) {
		os.Exit(sandbox.Main(os.Args))
	}
	os.Exit(m.Run())
}

const table = "ecc_agent_script_file"

func author(t *testing.T) *agenttest.Author {
	return agenttest.NewAuthor(t, map[string][]string{table: {"attachment", "language", "name", "network", "script", "use_attachment"}}, "who")
}

func executor(t *testing.T) *Executor {
	t.Helper()
	s, err := sandbox.New(t.Context(), sandbox.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return &Executor{Sandbox: s}
}

func TestLanguages(t *testing.T) {
	e, a := executor(t), author(t)
	evil := "$(id)`id`; rm -rf / #\n--option"
	for _, c := range []struct{ topic, language, text string }{
		{"Command", "shell", `printf '%s' "$PARAM_who"; cat >&2; exit 4`},
		{"ShellScript", "shell", `printf '%s' "$PARAM_who"; cat >&2; exit 4`},
		{"PythonScript", "python", "import os,sys\nsys.stdout.write(os.environ['PARAM_who'])\nsys.stderr.write(sys.stdin.read())\nsys.exit(4)\n"},
	} {
		f := map[string]string{"script": c.text, "name": "x"}
		if c.language != "" {
			f["language"] = c.language
		}
		w := agenttest.Work(c.topic, a.Trusted(t, agenttest.Record(table, "a", f)), map[string]string{"who": evil})
		p, res, err := agenttest.Run(t.Context(), e, agenttest.Open(t, nil, nil), w)
		if err != nil || res.ExitCode != 4 || p.Text(Stdout) != evil || !strings.HasPrefix(p.Text(Stderr), `{"who":"$(id)`) {
			t.Errorf("%+v: %q %q %+v %v", c, p.Text(Stdout), p.Text(Stderr), res, err)
		}
	}
}

// Threat 10: the bytes that were verified are those that run.
func TestAttachment(t *testing.T) {
	e, a := executor(t), author(t)
	text := []byte("echo from the attachment\n")
	att := record.Attachment{Name: "run.sh", Type: "text/x-sh", Size: int64(len(text)), SHA256: sha256.Sum256(text)}
	r := agenttest.Record(table, "a", map[string]string{"language": "shell", "use_attachment": "true", "attachment": "run.sh"})
	r.Attachments = []record.Attachment{att}
	w := agenttest.Work("Command", a.Trusted(t, r), nil)
	w.Attachment = func(_ context.Context, _ *record.Trusted, got record.Attachment) ([]byte, error) {
		if got != att {
			t.Errorf("%+v", got)
		}
		return bytes.Clone(text), nil
	}
	p, _, err := agenttest.Run(t.Context(), e, agenttest.Open(t, nil, nil), w)
	if err != nil || p.Text(Stdout) != "from the attachment\n" {
		t.Errorf("%q %v", p.Text(Stdout), err)
	}
	second := att
	second.SHA256 = sha256.Sum256([]byte("other"))
	for name, c := range map[string]struct {
		fields      map[string]string
		attachments []record.Attachment
		code        rejection.Code
	}{
		"missing":   {map[string]string{"language": "shell", "use_attachment": "true", "attachment": "other.sh"}, []record.Attachment{att}, rejection.AttachmentMissing},
		"none":      {map[string]string{"language": "shell", "use_attachment": "true", "attachment": "run.sh"}, nil, rejection.AttachmentMissing},
		"unnamed":   {map[string]string{"language": "shell", "use_attachment": "true"}, []record.Attachment{att}, rejection.AttachmentMissing},
		"both":      {map[string]string{"language": "shell", "use_attachment": "true", "attachment": "run.sh", "script": "x"}, []record.Attachment{att}, rejection.PayloadMalformed},
		"not used":  {map[string]string{"language": "shell", "attachment": "run.sh", "script": "x"}, []record.Attachment{att}, rejection.PayloadMalformed},
		"language":  {map[string]string{"language": "perl", "script": "x"}, nil, rejection.PayloadMalformed},
		"no script": {map[string]string{"language": "shell"}, nil, rejection.PayloadMalformed},
		"network":   {map[string]string{"language": "shell", "script": "x", "network": "anywhere"}, nil, rejection.PayloadMalformed},
		"flag":      {map[string]string{"language": "shell", "script": "x", "use_attachment": "yes"}, nil, rejection.PayloadMalformed},
	} {
		r := agenttest.Record(table, "a", c.fields)
		r.Attachments = c.attachments
		_, err := e.Needs(agenttest.Work("Command", a.Trusted(t, r), nil))
		if !errors.Is(err, &rejection.Error{Code: c.code}) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err = e.Needs(agenttest.Work("Powershell", a.Trusted(t, agenttest.Record(table, "a", map[string]string{"language": "shell", "script": "x"})), nil))
	if !errors.Is(err, &rejection.Error{Code: rejection.PayloadMalformed}) {
		t.Errorf("another language than the topic's: %v", err)
	}
}

// A language that the host has not is said to be missing.
func TestMissingInterpreter(t *testing.T) {
	e, a := executor(t), author(t)
	e.Interpreters = map[string]string{"powershell": "/nonexistent/pwsh"}
	w := agenttest.Work("Powershell", a.Trusted(t, agenttest.Record(table, "a", map[string]string{"language": "powershell", "script": "Get-Date"})), nil)
	_, _, err := agenttest.Run(t.Context(), e, agenttest.Open(t, nil, nil), w)
	if err == nil || !strings.Contains(err.Error(), "powershell") {
		t.Error(err)
	}
	if _, _, err := agenttest.Run(t.Context(), &Executor{}, agenttest.Open(t, nil, nil), w); err == nil || !strings.Contains(err.Error(), "Linux") {
		t.Error(err)
	}
}

// The network is what is signed and what the firewall accepts, both.
func TestNetwork(t *testing.T) {
	e, a := executor(t), author(t)
	f := map[string]string{"language": "shell", "script": "echo hello", "network": "api.example:443"}
	w := agenttest.Work("Command", a.Trusted(t, agenttest.Record(table, "a", f)), nil)
	if _, _, err := agenttest.Run(t.Context(), e, agenttest.Open(t, nil, nil), w); !errors.Is(err, &rejection.Error{Code: rejection.FirewallDenied}) {
		t.Error(err)
	}
	if p, _, err := agenttest.Run(t.Context(), e, agenttest.Open(t, []string{"api.example:443"}, nil), w); err != nil || p.Text(Stdout) != "hello\n" {
		t.Error(err)
	}
}

func TestLimits(t *testing.T) {
	e, a := executor(t), author(t)
	for text, want := range map[string]string{"yes": exec.CutOutput, "sleep 100": exec.CutTime} {
		w := agenttest.Work("Command", a.Trusted(t, agenttest.Record(table, "a", map[string]string{"language": "shell", "script": text})), nil)
		w.Limits.Output, w.Limits.Time = 3<<20, time.Second
		if text == "yes" {
			w.Limits.Time = 20 * time.Second
		}
		p, res, err := agenttest.Run(context.Background(), e, agenttest.Open(t, nil, nil), w)
		if err != nil && want != err.Error() || err == nil && res.Truncated != want {
			t.Errorf("%s: %+v %v", text, res, err)
		}
		for _, b := range p.Body {
			if len(b) > exec.Page {
				t.Error("a page is too large")
			}
		}
	}
}

// The topic is the order's and decides nothing: a text whose author did not sign of which
// language it is, such as a JavaScript or a library, does not run as a command.
func TestTopicChoosesNoLanguage(t *testing.T) {
	e := &Executor{}
	signed := agenttest.NewAuthor(t, map[string][]string{table: {"language", "script"}})
	unsigned := agenttest.NewAuthor(t, map[string][]string{table: {"script"}})
	for _, topic := range e.Topics() {
		r := agenttest.Record(table, "a", map[string]string{"script": "x = 1 // $(id)"})
		if _, err := e.Needs(agenttest.Work(topic, signed.Trusted(t, r), nil)); rejection.Of(err) == nil || rejection.Of(err).Code != rejection.PayloadMalformed {
			t.Errorf("%s: without a language: %v", topic, err)
		}
		if _, err := e.Needs(agenttest.Work(topic, unsigned.Trusted(t, r), nil)); rejection.Of(err) == nil || rejection.Of(err).Code != rejection.FieldUncovered {
			t.Errorf("%s: a language that nobody signed: %v", topic, err)
		}
	}
}
