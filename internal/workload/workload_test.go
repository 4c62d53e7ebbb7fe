package workload_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/internal/workload"
)

func env(m map[string]string) func(string) string { return func(n string) string { return m[n] } }

func TestOpenRefuses(t *testing.T) {
	for _, s := range []string{"", "oidc", "oidc:", "oidc:github:x", "oidc:gitlab", "oidc:gitlab:", "oidc:env:A=B", "oidc:file:", "oidc:command:", "oidc:azure", "ssh:x"} {
		if _, err := workload.Open(s, workload.World{Getenv: env(nil)}); err == nil {
			t.Errorf("%q is an identity", s)
		}
	}
}

// GitHub's own protocol: the job's bearer token, an audience of its choice.
func TestGitHub(t *testing.T) {
	fail := 2
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer hunter2" || r.URL.Query().Get("api-version") != "2.0" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if fail--; fail >= 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintf(w, `{"count":1,"value":"token for %s"}`, r.URL.Query().Get("audience"))
	}))
	defer s.Close()
	vars := map[string]string{"ACTIONS_ID_TOKEN_REQUEST_URL": s.URL + "/x?api-version=2.0", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "hunter2"}
	src, err := workload.Open("oidc:github", workload.World{Getenv: env(vars)})
	if err != nil {
		t.Fatal(err)
	}
	got, err := src.Token(t.Context(), "https://seal.example.com/a&b", workload.Sign)
	if err != nil || string(got) != "token for https://seal.example.com/a&b" {
		t.Fatalf("%q, %v", got, err)
	}
	for name, change := range map[string]map[string]string{
		"no permission": {"ACTIONS_ID_TOKEN_REQUEST_URL": ""},
		"http":          {"ACTIONS_ID_TOKEN_REQUEST_URL": "http://token.example.com/?hunter2"},
		"refused":       {"ACTIONS_ID_TOKEN_REQUEST_TOKEN": "hunter2-wrong"},
		"nobody there":  {"ACTIONS_ID_TOKEN_REQUEST_URL": "https://127.0.0.1:1/?hunter2"},
	} {
		m := maps.Clone(vars)
		maps.Copy(m, change)
		src, err := workload.Open("oidc:github", workload.World{Getenv: env(m)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		if name == "nobody there" {
			cancel()
		}
		_, err = src.Token(ctx, "x", workload.Sign)
		cancel()
		if !errors.Is(err, workload.ErrNoToken) {
			t.Errorf("%s: %v", name, err)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error shows the secret: %v", name, err)
		}
	}
}

func TestOtherSources(t *testing.T) {
	dir := t.TempDir()
	for name, b := range map[string]string{"tok": "one\n", "tok_API": "two", "none": "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	script := filepath.Join(dir, "print token")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho \"tok:$1\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	broken := filepath.Join(dir, "broken")
	if err := os.WriteFile(broken, []byte("#!/bin/sh\necho secret; echo secret >&2; exit 3\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	w := workload.World{Getenv: env(map[string]string{"TOK": "one", "TOK_API": "two"})}
	for id, want := range map[string][2]string{
		"oidc:gitlab:TOK":                 {"one", "two"},
		"oidc:env:TOK":                    {"one", "two"},
		"oidc:env:OTHER":                  {},
		"oidc:file:" + dir + "/tok":       {"one", "two"},
		"oidc:file:" + dir + "/none":      {},
		"oidc:file:" + dir + "/x":         {},
		"oidc:command:" + script:          {"tok:aud", "tok:aud"},
		"oidc:command:" + broken:          {},
		"oidc:command:" + dir + "/absent": {},
	} {
		src, err := workload.Open(id, w)
		if err != nil {
			t.Fatal(err)
		}
		for i, use := range []workload.Use{workload.Sign, workload.Call} {
			got, err := src.Token(t.Context(), "aud", use)
			if string(got) != want[i] || (err == nil) != (want[i] != "") || err != nil && (!errors.Is(err, workload.ErrNoToken) || strings.Contains(err.Error(), "secret")) {
				t.Errorf("%s %d: %q, %v", id, use, got, err)
			}
		}
	}
}

func TestOrigin(t *testing.T) {
	for name, c := range map[string]struct{ env, want map[string]string }{
		"nowhere": {},
		"GitHub": {map[string]string{"GITHUB_ACTIONS": "true", "GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "acme/app", "GITHUB_SHA": "4f2a", "GITHUB_REF": "refs/tags/v1", "GITHUB_RUN_ID": "17", "GITHUB_RUN_ATTEMPT": "2"},
			map[string]string{"repository": "https://github.com/acme/app", "commit": "4f2a", "ref": "refs/tags/v1", "build": "https://github.com/acme/app/actions/runs/17/attempts/2"}},
		"GitLab": {map[string]string{"GITLAB_CI": "true", "CI_PROJECT_URL": "https://gitlab.com/acme/app", "CI_COMMIT_SHA": "4f2a", "CI_COMMIT_REF_NAME": "main", "CI_JOB_URL": "https://gitlab.com/acme/app/-/jobs/1"},
			map[string]string{"repository": "https://gitlab.com/acme/app", "commit": "4f2a", "ref": "main", "build": "https://gitlab.com/acme/app/-/jobs/1"}},
		"Jenkins": {map[string]string{"JENKINS_URL": "https://ci/", "GIT_URL": "https://bot:hunter2@git.example.com/app.git", "GIT_COMMIT": "4f2a", "BRANCH_NAME": "ma\x1b[2Jin\n", "BUILD_URL": "https://ci/job/app/7/"},
			map[string]string{"repository": "https://git.example.com/app.git", "commit": "4f2a", "ref": "ma[2Jin", "build": "https://ci/job/app/7/"}},
		"Jenkins over SSH":          {map[string]string{"JENKINS_URL": "https://ci/", "GIT_URL": "git@git.example.com:app.git"}, map[string]string{"repository": "git@git.example.com:app.git"}},
		"a password over SSH":       {map[string]string{"JENKINS_URL": "https://ci/", "GIT_URL": "ssh://git:hunter2@git.example.com:22/app.git"}, map[string]string{"repository": "ssh://git@git.example.com:22/app.git"}},
		"a token as a parameter":    {map[string]string{"JENKINS_URL": "https://ci/", "GIT_URL": "https://git.example.com/app.git?private_token=hunter2#hunter2"}, map[string]string{"repository": "https://git.example.com/app.git"}},
		"a token as a name":         {map[string]string{"JENKINS_URL": "https://ci/", "GIT_URL": "https://hunter2@git.example.com/app.git"}, map[string]string{"repository": "https://git.example.com/app.git"}},
		"neither URL nor host":      {map[string]string{"JENKINS_URL": "https://ci/", "GIT_URL": "bot:hunter2@git.example.com/app.git", "GIT_COMMIT": "x"}, map[string]string{"commit": "x"}},
		"a folder":                  {map[string]string{"JENKINS_URL": "https://ci/", "GIT_URL": "/srv/git/app.git"}, map[string]string{"repository": "/srv/git/app.git"}},
		"a password that is no URL": {map[string]string{"JENKINS_URL": "https://ci/", "GIT_URL": "https://bot:hunter%2@git.example.com/app.git", "GIT_COMMIT": "x"}, map[string]string{"commit": "x"}},
	} {
		if got := workload.Origin(env(c.env)); !maps.Equal(got, c.want) {
			t.Errorf("%s: %v", name, got)
		}
	}
}
