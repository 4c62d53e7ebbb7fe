package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/credential/credentialtest"
	"github.com/greatseal-io/greatseal/format/formattest"
)

func TestGitHubAction(t *testing.T) {
	c := newCI(t)
	c.must("alice", "charter", "issuers", "check", "--ca", c.ca)
	work := c.work(map[string]string{"my app.bin": "one", "-rf.bin": "two", "dir/lib $(touch pwned).bin": "three"})
	in := map[string]string{"mode": "submit", "policy": "ci", "format": "cms", "files": "my app.bin\n-rf.bin\ndir", "recursive": "true", "reason": "it's \"1.4\" `touch pwned` ${{ secrets.X }}"}
	out, code := c.github(work, "refs/heads/main", in)
	if code != 0 || out["state"] != "pending" || len(out["request"]) != 64 || out["exit-code"] != "0" {
		t.Fatalf("%d %v", code, out)
	}
	// Asked again, it is the same request.
	again, code := c.github(work, "refs/heads/main", in)
	if code != 0 || again["request"] != out["request"] {
		t.Errorf("%d %v", code, again)
	}
	// Before anybody has endorsed: still waiting, with the code that the job wants.
	collect := map[string]string{"mode": "collect", "request": out["request"], "timeout": "0", "files": in["files"], "recursive": "true"}
	if got, code := c.github(work, "refs/heads/main", collect); code != 4 || got["state"] != "pending" {
		t.Errorf("%d %v", code, got)
	}
	collect["pending-exit"] = "75"
	if got, code := c.github(work, "refs/heads/main", collect); code != 75 || got["exit-code"] != "75" {
		t.Errorf("%d %v", code, got)
	}
	// Endorsers see where it comes from.
	var v struct {
		Requester string
		Origin    []struct{ Name, Value string }
	}
	c.json(&v, "carol", "request", "show", out["request"])
	if v.Requester != "actions" || fmt.Sprint(v.Origin) != "[{build https://github.com/acme/app/actions/runs/17/attempts/1} {commit 4f2a91c} {ref refs/heads/main} {repository https://github.com/acme/app}]" {
		t.Errorf("%+v", v)
	}
	c.must("carol", "endorse", out["request"], "--yes")
	if got, code := c.github(work, "refs/heads/main", collect); code != 0 || got["state"] != "executed" {
		t.Fatalf("%d %v", code, got)
	}
	c.signed(work, "my app.bin", "-rf.bin", "dir/lib $(touch pwned).bin")
	if _, err := os.Stat(filepath.Join(work, "pwned")); err == nil {
		t.Error("an input was run")
	}
	// Run once more, the job finds everything done.
	if got, code := c.github(work, "refs/heads/main", collect); code != 0 || got["state"] != "executed" {
		t.Errorf("%d %v", code, got)
	}
	// Disapproved.
	c.write(filepath.Join(work, "bad.bin"), "bad")
	in["files"], in["recursive"] = "bad.bin", "false"
	out, code = c.github(work, "refs/heads/main", in)
	if code != 0 {
		t.Fatal(code)
	}
	c.must("dave", "disapprove", out["request"], "--yes", "--comment", "no")
	delete(collect, "pending-exit")
	collect["files"], collect["request"] = "bad.bin", out["request"]
	if got, code := c.github(work, "refs/heads/main", collect); code != 3 || got["state"] != "disapproved" {
		t.Errorf("%d %v", code, got)
	}
	// Nobody is asked: signed at once, by a token for this request alone.
	c.write(filepath.Join(work, "auto.bin"), "auto")
	if got, code := c.github(work, "refs/heads/main", map[string]string{"policy": "automatic", "format": "cms", "files": "auto.bin"}); code != 0 || got["state"] != "executed" {
		t.Errorf("%d %v", code, got)
	}
	c.signed(work, "auto.bin")
	// A pull request's job is nobody.
	c.write(filepath.Join(work, "evil.bin"), "evil")
	if got, code := c.github(work, "refs/pull/7/merge", map[string]string{"policy": "automatic", "format": "cms", "files": "evil.bin"}); code != 1 || got["request"] != "" {
		t.Errorf("a pull request: %d %v", code, got)
	}
	for name, in := range map[string]map[string]string{
		"no policy":     {"files": "auto.bin"},
		"no files":      {"policy": "ci"},
		"no such mode":  {"mode": "steal", "policy": "ci", "files": "auto.bin"},
		"no request":    {"mode": "collect"},
		"not a request": {"mode": "collect", "request": "--help"},
	} {
		if got, code := c.github(work, "refs/heads/main", in); code != 2 {
			t.Errorf("%s: %d %v", name, code, got)
		}
	}
	c.nothingSecret(work)
}

func TestGitHubActionWaits(t *testing.T) {
	c := newCI(t)
	work := c.work(map[string]string{"app.bin": "one"})
	// sign waits, and ends when somebody endorses.
	r, w := io.Pipe()
	endorsed := make(chan struct{})
	go func() {
		defer close(endorsed)
		s := bufio.NewScanner(r)
		for s.Scan() {
			if m := regexp.MustCompile(`request ([0-9a-f]{12}) waits`).FindStringSubmatch(s.Text()); m != nil {
				c.as("carol", "endorse", m[1], "--yes")
				break
			}
		}
		_, _ = io.Copy(io.Discard, r)
	}()
	out, code := c.github(work, "refs/heads/main", map[string]string{"policy": "ci", "format": "cms", "files": "app.bin"}, w)
	w.Close()
	<-endorsed
	if code != 0 || out["state"] != "executed" {
		t.Fatalf("%d %v", code, out)
	}
	c.signed(work, "app.bin")
	// Nobody does, and the job ends before: what was asked stays.
	c.write(filepath.Join(work, "late.bin"), "late")
	out, code = c.github(work, "refs/heads/main", map[string]string{"policy": "ci", "format": "cms", "files": "late.bin", "timeout": "1s"})
	if code != 4 {
		t.Errorf("%d %v", code, out)
	}
	// An issuer's new key is seen, and is pinned by the charter alone.
	i := c.issuers["gitlab"]
	i.set(func() { i.more = []string{credentialtest.NewIssuer(i.URL, "gitlab-2", nil).JWK()} })
	got, code, _ := c.as("alice", "charter", "issuers", "check", "--ca", c.ca)
	if code != 5 || !bytes.Contains(got, []byte("new, not pinned: gitlab-2")) {
		t.Errorf("%d %s", code, got)
	}
	draft, code, bad := c.as("alice", "charter", "issuers", "draft", "--ca", c.ca)
	if code != 0 || !bytes.Contains(draft, []byte("gitlab-2")) || !strings.Contains(bad, "issuers.gitlab.keys: gains gitlab-2") {
		t.Errorf("%d %s", code, bad)
	}
	i.set(func() { i.away, i.more = true, nil })
	if _, code, bad := c.as("alice", "charter", "issuers", "check", "--ca", c.ca); code != 6 || !strings.Contains(bad, "gitlab cannot be asked") {
		t.Errorf("%d %s", code, bad)
	}
	c.nothingSecret(work)
}

func TestGitLabTemplate(t *testing.T) {
	c := newCI(t)
	work := c.work(map[string]string{"dist/my app.bin": "one"})
	set := map[string]string{"GREATSEAL_CI_POLICY": "ci", "GREATSEAL_CI_FORMAT": "cms", "GREATSEAL_CI_FILES": "dist/my app.bin"}
	tokens := map[string]string{}
	out, code := c.gitlab(work, ".greatseal-submit", set, tokens)
	if code != 0 || out["GREATSEAL_STATE"] != "pending" {
		t.Fatalf("%d %v", code, out)
	}
	// The next job has the dotenv report's variables, and another home: the tokens are
	// the same, as after a retry, and the one for the server was exchanged already.
	set["GREATSEAL_REQUEST"], set["GREATSEAL_CI_TIMEOUT"] = out["GREATSEAL_REQUEST"], "0"
	if got, code := c.gitlab(work, ".greatseal-collect", set, tokens); code != 4 || got["GREATSEAL_STATE"] != "pending" {
		t.Errorf("%d %v", code, got)
	}
	c.must("carol", "endorse", out["GREATSEAL_REQUEST"], "--yes")
	delete(set, "GREATSEAL_CI_TIMEOUT")
	if got, code := c.gitlab(work, ".greatseal-collect", set, map[string]string{}); code != 0 || got["GREATSEAL_STATE"] != "executed" {
		t.Fatalf("%d %v", code, got)
	}
	c.signed(work, "dist/my app.bin")
	// Expired.
	c.write(filepath.Join(work, "late.bin"), "late")
	set = map[string]string{"GREATSEAL_CI_POLICY": "ci", "GREATSEAL_CI_FORMAT": "cms", "GREATSEAL_CI_FILES": "late.bin", "GREATSEAL_CI_EXPIRES": "2s"}
	if out, code = c.gitlab(work, ".greatseal-submit", set, map[string]string{}); code != 0 {
		t.Fatal(code)
	}
	set["GREATSEAL_REQUEST"] = out["GREATSEAL_REQUEST"]
	if got, code := c.gitlab(work, ".greatseal-collect", set, map[string]string{}); code != 3 || got["GREATSEAL_STATE"] != "expired" {
		t.Errorf("%d %v", code, got)
	}
	// The token of a request's evidence logs in nowhere.
	if _, code := c.gitlab(work, ".greatseal-submit", set, map[string]string{"GREATSEAL_ID_TOKEN_API": tokens["GREATSEAL_ID_TOKEN"]}); code != 1 {
		t.Errorf("the token that signs is taken for the one of the server: %d", code)
	}
	// The server is away, and comes back.
	c.write(filepath.Join(work, "away.bin"), "away")
	set = map[string]string{"GREATSEAL_CI_POLICY": "ci", "GREATSEAL_CI_FORMAT": "cms", "GREATSEAL_CI_FILES": "away.bin", "GREATSEAL_CI_RETRIES": "0"}
	c.stop()
	if got, code := c.gitlab(work, ".greatseal-submit", set, map[string]string{}); code != 6 || got["GREATSEAL_STATE"] != "" {
		t.Errorf("%d %v", code, got)
	}
	delete(set, "GREATSEAL_CI_RETRIES")
	r, w := io.Pipe()
	back := make(chan struct{})
	go func() {
		defer close(back)
		s := bufio.NewScanner(r)
		for s.Scan() {
			if strings.Contains(s.Text(), "the server is away: try 1") {
				break
			}
		}
		c.start()
		_, _ = io.Copy(io.Discard, r)
	}()
	vars := c.common("pipelines")
	maps.Copy(vars, set)
	vars["GREATSEAL_IDENTITY"], vars["GREATSEAL_ID_TOKEN"] = "oidc:gitlab:GREATSEAL_ID_TOKEN", c.token("gitlab", ciAudience, map[string]any{"project_path": "acme/app", "ref_protected": "true"})
	vars["GREATSEAL_ID_TOKEN_API"] = c.token("gitlab", ciAudience+"/api", map[string]any{"project_path": "acme/app", "ref_protected": "true"})
	code = (&job{c: c, work: work, vars: vars, stderr: w}).run("greatseal-ci.sh submit")
	w.Close()
	<-back
	if code != 0 || dotenv(t, filepath.Join(work, "greatseal.env"))["GREATSEAL_STATE"] != "pending" {
		t.Errorf("after the server has come back: %d", code)
	}
	c.nothingSecret(work)
}

// Names that a shell could stumble over, given as arguments.
func TestCIScriptNames(t *testing.T) {
	c := newCI(t)
	names := []string{"--policy=x.bin", "quote'\".bin", "  spaces .bin", "*.bin", "$(touch pwned).bin", "-- -x.bin"}
	files := map[string]string{}
	for i, n := range names {
		files[n] = fmt.Sprint("file ", i)
	}
	work := c.work(files)
	vars := c.common("jenkins")
	maps.Copy(vars, map[string]string{"GREATSEAL_CI_POLICY": "ci", "GREATSEAL_CI_FORMAT": "cms", "GREATSEAL_IDENTITY": "oidc:env:T", "JENKINS_URL": "https://ci.example.com/"})
	vars["T"] = c.token("jenkins", ciAudience, map[string]any{"sub": "https://ci.example.com/job/app/"})
	vars["T_API"] = c.token("jenkins", ciAudience+"/api", map[string]any{"sub": "https://ci.example.com/job/app/"})
	quoted := ""
	for _, n := range names {
		quoted += " '" + strings.ReplaceAll(n, "'", `'\''`) + "'"
	}
	j := &job{c: c, work: work, vars: vars}
	// A name of two lines is nothing that people could be shown: it is refused, and is
	// not two files of the next request.
	c.write(filepath.Join(work, "two\nlines.bin"), "x")
	if code := j.run("greatseal-ci.sh submit 'two\nlines.bin'"); code != 1 || dotenv(t, filepath.Join(work, "greatseal.env"))["GREATSEAL_REQUEST"] != "" {
		t.Errorf("a name with a line end: %d", code)
	}
	if code := j.run("greatseal-ci.sh submit" + quoted); code != 0 {
		t.Fatal(code)
	}
	if _, err := os.Stat(filepath.Join(work, "pwned")); err == nil {
		t.Error("a name was run")
	}
	id := dotenv(t, filepath.Join(work, "greatseal.env"))["GREATSEAL_REQUEST"]
	c.must("carol", "endorse", id, "--yes")
	vars["GREATSEAL_REQUEST"] = id
	if code := j.run("greatseal-ci.sh collect" + quoted); code != 0 {
		t.Fatal(code)
	}
	c.signed(work, names...)
	c.nothingSecret(work)
}

func TestJenkinsfile(t *testing.T) {
	c := newCI(t)
	b, err := os.ReadFile(filepath.Join(integrations, "jenkins", "Jenkinsfile"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	if strings.Count(text, "{") != strings.Count(text, "}") || strings.Contains(text, `sh """`) || strings.Contains(text, `sh "`) {
		t.Fatal("the Jenkinsfile's braces do not match, or Groovy puts values into a script")
	}
	stages := regexp.MustCompile(`(?s)stage\('([A-Za-z]+)'\).*?sh '''(.*?)'''`).FindAllStringSubmatch(text, -1)
	if len(stages) != 2 || stages[0][1] != "Ask" || stages[1][1] != "Collect" {
		t.Fatalf("%q", stages)
	}
	vars := c.common("jenkins")
	block := regexp.MustCompile(`(?s)environment \{(.*?)\n  \}`).FindStringSubmatch(text)
	for _, m := range regexp.MustCompile(`(?m)^ +([A-Z_]+) = '([^']*)'$`).FindAllStringSubmatch(block[1], -1) {
		if _, mine := vars[m[1]]; !mine {
			vars[m[1]] = m[2]
		}
	}
	if vars["GREATSEAL_CI_POLICY"] != "release" || vars["GREATSEAL_CI_FILES"] != "dist/app.exe" {
		t.Fatalf("%v", vars)
	}
	maps.Copy(vars, map[string]string{"GREATSEAL_CI_POLICY": "ci", "GREATSEAL_CI_FORMAT": "cms", "JENKINS_URL": "https://ci.example.com/", "BUILD_URL": "https://ci.example.com/job/app/7/",
		"GIT_URL": "https://bot:job-secret@git.example.com/app.git", "GIT_COMMIT": "4f2a91c", "BRANCH_NAME": "main", "GREATSEAL_REQUEST": ""})
	suffix := map[string]string{"greatseal": "", "greatseal-api": "/api"}
	bindings := regexp.MustCompile(`credentialsId: '([a-z-]+)', variable: '([A-Z_]+)'`).FindAllStringSubmatch(text, -1)
	if len(bindings) != 4 {
		t.Fatalf("%q", bindings)
	}
	work := c.work(map[string]string{"dist/app.exe": "one"})
	stage := func(script string) int {
		for _, m := range bindings { // the plugin makes tokens anew for every use
			vars[m[2]] = c.token("jenkins", ciAudience+suffix[m[1]], map[string]any{"sub": "https://ci.example.com/job/app/", "build_number": 7})
		}
		return (&job{c: c, work: work, vars: vars}).run(script, "-x") // as Jenkins does
	}
	if code := stage(stages[0][2]); code != 0 {
		t.Fatal(code)
	}
	id := dotenv(t, filepath.Join(work, "greatseal.env"))["GREATSEAL_REQUEST"]
	c.must("dave", "endorse", id, "--yes")
	if code := stage(stages[1][2]); code != 0 {
		t.Fatal(code)
	}
	c.signed(work, "dist/app.exe")
	var v struct {
		Origin []struct{ Name, Value string }
	}
	c.json(&v, "carol", "request", "show", id)
	if !strings.Contains(fmt.Sprint(v.Origin), "{repository https://git.example.com/app.git}") {
		t.Errorf("%+v", v)
	}
	c.nothingSecret(work)
}

// The scripts are POSIX, as a checker of scripts sees it.
func TestCIScripts(t *testing.T) {
	check := formattest.Program(t, "shellcheck", "apt-get install shellcheck")
	dash := formattest.Program(t, "dash", "apt-get install dash")
	scripts := map[string]string{}
	b, err := os.ReadFile(filepath.Join(integrations, "greatseal-ci.sh"))
	if err != nil {
		t.Fatal(err)
	}
	scripts["greatseal-ci.sh"] = string(b)
	var a action
	readYAML(t, "github/action.yml", &a)
	scripts["action.yml"] = "#!/bin/sh\n" + a.Runs.Steps[0].Run
	var p pipeline
	readYAML(t, "gitlab/greatseal.yml", &p)
	for n, j := range p {
		if len(j.Script) > 0 {
			scripts[n] = "#!/bin/sh\n" + strings.Join(j.Script, "\n")
		}
	}
	if b, err = os.ReadFile(filepath.Join(integrations, "jenkins", "Jenkinsfile")); err != nil {
		t.Fatal(err)
	}
	for i, m := range regexp.MustCompile(`(?s)sh '''(.*?)'''`).FindAllStringSubmatch(string(b), -1) {
		scripts[fmt.Sprint("Jenkinsfile ", i)] = "#!/bin/sh\n" + m[1]
	}
	if len(scripts) != 7 {
		t.Fatalf("%d scripts", len(scripts))
	}
	for n, s := range scripts {
		for _, args := range [][]string{{check, "-"}, {dash, "-n"}} {
			x := exec.Command(args[0], args[1:]...)
			x.Stdin = strings.NewReader(s)
			if out, err := x.CombinedOutput(); err != nil {
				t.Errorf("%s: %s: %v\n%s", n, args[0], err, out)
			}
		}
	}
}
