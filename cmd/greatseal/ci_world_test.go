package main

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential/credentialtest"
	"github.com/greatseal-io/greatseal/format/formattest"
)

const (
	integrations = "../../integrations"
	ciAudience   = "https://seal.example.com"
)

// ci is a deployment, and the issuer of three CIs whose jobs may ask for signatures.
type ci struct {
	t       *testing.T
	dir     string // the deployment
	env     []string
	stop    func()
	shell   string
	root    string
	issuers map[string]*ciIssuer
	ca      string
	secrets []string // tokens that were made
	said    bytes.Buffer
	mu      sync.Mutex
}

// ciIssuer is an OpenID Connect issuer over HTTPS with a key of its own.
type ciIssuer struct {
	*credentialtest.Issuer
	site *httptest.Server
	mu   sync.Mutex
	more []string // further keys that it publishes
	away bool
}

func newCIIssuer(t *testing.T, kid string) *ciIssuer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	i := &ciIssuer{}
	i.site = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.mu.Lock()
		defer i.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		switch {
		case i.away:
			w.WriteHeader(http.StatusServiceUnavailable)
		case r.URL.Path == "/.well-known/openid-configuration":
			fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, i.URL, i.URL+"/keys")
		case r.URL.Path == "/keys":
			fmt.Fprintf(w, `{"keys":[%s]}`, strings.Join(append([]string{i.JWK()}, i.more...), ","))
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(i.site.Close)
	i.Issuer = credentialtest.NewIssuer(i.site.URL, kid, key)
	return i
}

func (i *ciIssuer) set(f func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	f()
}

// token makes a token for an audience, and remembers that it is a secret.
func (c *ci) token(issuer, aud string, claims map[string]any) string {
	i := c.issuers[issuer]
	tok := string(i.Token(i.Claims(aud, time.Now(), claims)))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.secrets = append(c.secrets, tok, strings.Split(tok, ".")[1])
	return tok
}

func newCI(t *testing.T) *ci {
	t.Helper()
	c := &ci{t: t, issuers: map[string]*ciIssuer{}, shell: formattest.Program(t, "sh", "install a POSIX shell")}
	base, err := os.MkdirTemp("", "gs")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	c.dir = filepath.Join(base, "d")
	if err := copyTree(c.dir, found(t)); err != nil {
		t.Fatal(err)
	}
	c.env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + base, "TMPDIR=" + base}
	c.start()
	t.Cleanup(func() { c.stop() })
	var pool bytes.Buffer
	args := []string{"charter", "issuers", "draft", "--out", filepath.Join(base, "next.yaml"), "--ca", filepath.Join(base, "ca.pem")}
	for _, n := range []string{"github", "gitlab", "jenkins"} {
		c.issuers[n] = newCIIssuer(t, n+"-1")
		args = append(args, "--add", n+"="+c.issuers[n].URL)
		if err := pem.Encode(&pool, &pem.Block{Type: "CERTIFICATE", Bytes: c.issuers[n].site.Certificate().Raw}); err != nil {
			t.Fatal(err)
		}
	}
	c.ca = filepath.Join(base, "ca.pem")
	c.write(c.ca, pool.String())
	c.must("alice", args...)
	b, err := os.ReadFile(filepath.Join(base, "next.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	next, err := charter.ParseYAML(b)
	if err != nil {
		t.Fatalf("the draft: %v", err)
	}
	c.admit(next)
	if b, err = next.YAML(); err != nil {
		t.Fatal(err)
	}
	c.write(filepath.Join(base, "next.yaml"), string(b))
	var asked struct{ Request string }
	c.json(&asked, "alice", "charter", "propose", filepath.Join(base, "next.yaml"), "--no-wait")
	for _, n := range []string{"carol", "dave"} {
		c.must(n, "endorse", asked.Request, "--yes")
	}
	var shown struct{ Root string }
	c.json(&shown, "alice", "status")
	cfg, err := os.ReadFile(filepath.Join(c.dir, "people", "alice.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	c.root = regexp.MustCompile(`root: "?([0-9a-f]{64})`).FindStringSubmatch(string(cfg))[1]
	return c
}

// admit gives each CI a machine, and the policies ci (one of security) and automatic
// (nobody, for GitHub's bound tokens alone).
func (c *ci) admit(next *charter.Charter) {
	for n, p := range map[string]string{"github": charter.GitHub, "gitlab": charter.GitLab} {
		i := next.Issuers[n]
		i.Provider = p
		next.Issuers[n] = i
	}
	for n, o := range map[string]*charter.OIDC{
		"actions":   {Issuer: "github", Claims: map[string]string{"repository": "acme/app"}, Patterns: map[string]string{"ref": "refs/heads/*"}},
		"pipelines": {Issuer: "gitlab", Claims: map[string]string{"project_path": "acme/app", "ref_protected": "true"}, Unbound: true},
		"jenkins":   {Issuer: "jenkins", Claims: map[string]string{"sub": "https://ci.example.com/job/app/"}, Unbound: true},
	} {
		o.Audience = ciAudience
		next.Machines[n] = charter.Machine{Credentials: []charter.Credential{{OIDC: o}}}
	}
	next.Groups["builds"] = charter.Group{Members: []string{"actions", "pipelines", "jenkins"}}
	p := next.Policies["release"]
	p.Timestamp, p.Formats = nil, []string{"cms"}
	p.Rule = charter.Rule{Requesters: []string{"builds"}, Quorum: &charter.Node{Group: "security"}, Veto: []string{"security"}}
	next.Policies["ci"] = p
	p.Rule = charter.Rule{Requesters: []string{"actions"}, Unattended: true}
	next.Policies["automatic"] = p
}

func (c *ci) start() {
	c.t.Helper()
	stop, err := start(c.dir, c.env)
	if err != nil {
		c.t.Fatal(err)
	}
	c.stop = stop
}

func (c *ci) write(path, text string) {
	c.t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// as runs greatseal as somebody of the deployment.
func (c *ci) as(name string, args ...string) ([]byte, int, string) {
	c.t.Helper()
	x := exec.Command("greatseal", args...)
	x.Env = append(slices.Clone(c.env), "GREATSEAL_CONFIG="+filepath.Join(c.dir, "people", name+".yaml"))
	var out, bad bytes.Buffer
	x.Stdout, x.Stderr = &out, &bad
	err := x.Run()
	var ee *exec.ExitError
	if err != nil && !errors.As(err, &ee) {
		c.t.Fatal(err)
	}
	return out.Bytes(), x.ProcessState.ExitCode(), bad.String()
}

func (c *ci) must(name string, args ...string) []byte {
	c.t.Helper()
	out, code, bad := c.as(name, args...)
	if code != 0 {
		c.t.Fatalf("greatseal %s: exit code %d\n%s", strings.Join(args, " "), code, bad)
	}
	return out
}

func (c *ci) json(v any, name string, args ...string) {
	c.t.Helper()
	if err := json.Unmarshal(c.must(name, append([]string{"--json"}, args...)...), v); err != nil {
		c.t.Fatal(err)
	}
}

// job is one job of a CI: a script in a folder, with the variables that the CI sets.
type job struct {
	c      *ci
	work   string
	vars   map[string]string
	stderr io.Writer // besides, for those who wait for a line
}

// common are the variables that say which server and who.
func (c *ci) common(as string) map[string]string {
	home := filepath.Join(c.t.TempDir(), "home")
	if err := os.MkdirAll(home, 0o700); err != nil {
		c.t.Fatal(err)
	}
	bin, err := filepath.Abs(integrations)
	if err != nil {
		c.t.Fatal(err)
	}
	return map[string]string{
		"PATH": os.Getenv("PATH") + ":" + bin, "HOME": home, "GREATSEAL_SERVER": "unix:" + filepath.Join(c.dir, "s.sock"), "GREATSEAL_ROOT": c.root, "GREATSEAL_AS": as,
	}
}

// run runs a script as CIs do: from a file, with "sh -e" and flags.
func (j *job) run(script string, flags ...string) int {
	j.c.t.Helper()
	f := filepath.Join(j.c.t.TempDir(), "step.sh")
	j.c.write(f, script)
	x := exec.Command(j.c.shell, append(append([]string{"-e"}, flags...), f)...)
	x.Dir = j.work
	x.Env = []string{}
	for n, v := range j.vars {
		x.Env = append(x.Env, n+"="+v)
	}
	var said bytes.Buffer
	x.Stdout, x.Stderr = &said, &said
	if j.stderr != nil {
		x.Stderr = io.MultiWriter(&said, j.stderr)
		x.Stdout = io.Discard
	}
	err := x.Run()
	var ee *exec.ExitError
	if err != nil && !errors.As(err, &ee) {
		j.c.t.Fatal(err)
	}
	j.c.mu.Lock()
	defer j.c.mu.Unlock()
	j.c.said.Write(said.Bytes())
	j.c.t.Logf("%s", said.Bytes())
	return x.ProcessState.ExitCode()
}

// dotenv reads NAME=VALUE lines.
func dotenv(t *testing.T, path string) map[string]string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for l := range strings.Lines(string(b)) {
		n, v, ok := strings.Cut(strings.TrimSuffix(l, "\n"), "=")
		if !ok || strings.Trim(v, "0123456789abcdefghijklmnopqrstuvwxyz-") != "" {
			t.Fatalf("%s has the line %q", path, l)
		}
		out[n] = v
	}
	return out
}

// action is integrations/github/action.yml.
type action struct {
	Inputs  map[string]struct{ Default string }
	Outputs map[string]struct{ Value string }
	Runs    struct {
		Using string
		Steps []struct {
			ID, Shell, Run string
			Env            map[string]string
		}
	}
}

func readYAML(t *testing.T, path string, v any) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(integrations, path))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(b, v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

var expression = regexp.MustCompile(`\$\{\{ *(inputs|steps\.[a-z]+\.outputs)\.([a-z-]+) *\}\}`)

// github runs the action with inputs, in a workflow on a ref.
func (c *ci) github(work, ref string, inputs map[string]string, say ...io.Writer) (outputs map[string]string, code int) {
	c.t.Helper()
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer job-secret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprintf(w, `{"value":%q}`, c.token("github", r.URL.Query().Get("audience"), map[string]any{"repository": "acme/app", "ref": ref, "sha": "4f2a91c"}))
	}))
	defer service.Close()
	var a action
	readYAML(c.t, "github/action.yml", &a)
	if a.Runs.Using != "composite" || len(a.Runs.Steps) != 1 || a.Runs.Steps[0].Shell != "sh" {
		c.t.Fatalf("%+v", a.Runs)
	}
	step := a.Runs.Steps[0]
	if strings.Contains(step.Run, "${{") {
		c.t.Fatal("an input stands in the text of the script")
	}
	given := maps.Clone(inputs)
	vars := c.common("actions")
	given["server"], given["root"], given["as"] = vars["GREATSEAL_SERVER"], vars["GREATSEAL_ROOT"], vars["GREATSEAL_AS"]
	for n := range given {
		if _, ok := a.Inputs[n]; !ok {
			c.t.Fatalf("the action has no input %q", n)
		}
	}
	path, err := filepath.Abs(filepath.Join(integrations, "github"))
	if err != nil {
		c.t.Fatal(err)
	}
	out := filepath.Join(c.t.TempDir(), "output")
	c.write(out, "")
	maps.Copy(vars, map[string]string{
		"GITHUB_ACTIONS": "true", "GITHUB_ACTION_PATH": path, "GITHUB_OUTPUT": out, "GITHUB_STEP_SUMMARY": out + ".md", "GITHUB_SERVER_URL": "https://github.com",
		"GITHUB_REPOSITORY": "acme/app", "GITHUB_SHA": "4f2a91c", "GITHUB_REF": ref, "GITHUB_RUN_ID": "17", "CI": "true",
		"ACTIONS_ID_TOKEN_REQUEST_URL": service.URL + "/?api-version=2.0", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "job-secret",
	})
	for n, v := range step.Env {
		vars[n] = expression.ReplaceAllStringFunc(v, func(s string) string {
			name := expression.FindStringSubmatch(s)[2]
			in, ok := a.Inputs[name]
			if !ok {
				c.t.Fatalf("the action uses the input %q, which it has not", name)
			}
			if v, ok := given[name]; ok {
				return v
			}
			return in.Default
		})
		if strings.Contains(vars[n], "${{") && inputs == nil {
			c.t.Fatalf("%s: %s", n, v)
		}
	}
	j := &job{c: c, work: work, vars: vars}
	if len(say) > 0 {
		j.stderr = say[0]
	}
	code = j.run(step.Run)
	set := dotenv(c.t, out)
	outputs = map[string]string{}
	for n, o := range a.Outputs {
		m := expression.FindStringSubmatch(o.Value)
		if m == nil || m[1] != "steps."+step.ID+".outputs" {
			c.t.Fatalf("output %s: %q", n, o.Value)
		}
		outputs[n] = set[m[2]]
	}
	return outputs, code
}

// nothingSecret looks at all that scripts have printed and left behind.
func (c *ci) nothingSecret(dirs ...string) {
	c.t.Helper()
	look := func(where string, b []byte) {
		for _, s := range append(c.secrets, "job-secret", "gs_") {
			if bytes.Contains(b, []byte(s)) {
				c.t.Errorf("%s shows a secret: %.20s…", where, s)
			}
		}
	}
	look("the output", c.said.Bytes())
	for _, d := range dirs {
		for _, n := range []string{"greatseal-result.json", "greatseal.env"} {
			if b, err := os.ReadFile(filepath.Join(d, n)); err == nil {
				look(n, b)
			}
		}
	}
}

func (c *ci) work(files map[string]string) string {
	c.t.Helper()
	dir := c.t.TempDir()
	for n, text := range files {
		c.write(filepath.Join(dir, n), text)
	}
	return dir
}

func (c *ci) signed(dir string, names ...string) {
	c.t.Helper()
	for _, n := range names {
		c.must("bob", "verify", "--", filepath.Join(dir, n))
	}
}

// pipeline is integrations/gitlab/greatseal.yml.
type pipeline map[string]struct {
	Extends   string
	Variables map[string]string
	IDTokens  map[string]struct{ Aud string } `yaml:"id_tokens"`
	Script    []string
	Artifacts struct {
		Reports struct{ Dotenv string }
	}
	AllowFailure struct {
		ExitCodes []int `yaml:"exit_codes"`
	} `yaml:"allow_failure"`
}

// gitlab runs a job of the template as GitLab does: variables, ID tokens, the lines of
// its script; tokens are those of one job unless kept says otherwise.
func (c *ci) gitlab(work, name string, set map[string]string, tokens map[string]string) (map[string]string, int) {
	c.t.Helper()
	var p pipeline
	readYAML(c.t, "gitlab/greatseal.yml", &p)
	j := p[name]
	base := p[j.Extends]
	if len(j.Script) == 0 || len(base.IDTokens) != 2 {
		c.t.Fatalf("job %s: %+v", name, j)
	}
	vars := c.common("pipelines")
	maps.Copy(vars, map[string]string{
		"GITLAB_CI": "true", "CI": "true", "CI_PROJECT_URL": "https://gitlab.com/acme/app", "CI_COMMIT_SHA": "4f2a91c", "CI_COMMIT_REF_NAME": "main",
		"CI_JOB_URL": "https://gitlab.com/acme/app/-/jobs/1", "GREATSEAL_AUDIENCE": ciAudience,
	})
	maps.Copy(vars, base.Variables)
	maps.Copy(vars, j.Variables)
	maps.Copy(vars, set)
	for n, t := range base.IDTokens {
		if tokens[n] == "" {
			aud := os.Expand(t.Aud, func(n string) string { return vars[n] })
			tokens[n] = c.token("gitlab", aud, map[string]any{"project_path": "acme/app", "ref": "main", "ref_protected": "true"})
		}
		vars[n] = tokens[n]
	}
	code := (&job{c: c, work: work, vars: vars}).run(strings.Join(j.Script, "\n"))
	return dotenv(c.t, filepath.Join(work, base.Artifacts.Reports.Dotenv)), code
}
