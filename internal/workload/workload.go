// Package workload is a job of CI as somebody who signs: it gets ID tokens where the
// job gets them, and says where the job comes from.
//
// Invariants:
//
//  1. A token stands in memory only: in no error, no log, no argument of a program,
//     no file.
//  2. A token is asked for anew for every signature, where the CI lets a job ask.
//
// What a caller may not conclude: that a token is good. The credential says so
// (package credential), with the keys that the charter pins.
package workload

import (
	"bytes"
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/credential"
)

// Prefix begins the identities that are workloads: "oidc:github".
const Prefix = "oidc:"

// suffix of a variable or file which holds the token for the server, where the
// token that signs has a fixed audience.
const suffix = "_API"

// ErrNoToken is wrapped by errors about tokens that cannot be had.
var ErrNoToken = errors.New("workload: no token")

// Source gives tokens for an audience. Use says whether the token is to sign, or to
// be shown to the server.
type Source interface {
	Token(ctx context.Context, audience string, use Use) ([]byte, error)
}

// Use is what a token is for.
type Use int

// The uses.
const (
	Sign Use = iota
	Call
)

// World is what a job has around it.
type World struct {
	Getenv func(string) string
	HTTP   *http.Client // nil: one that follows no redirect
}

// Open makes the source of an identity:
//
//	oidc:github            GitHub Actions: asks $ACTIONS_ID_TOKEN_REQUEST_URL
//	oidc:gitlab:NAME       GitLab: the variable that id_tokens: names
//	oidc:env:NAME          any CI that puts a token into a variable
//	oidc:file:PATH         any that puts it into a file
//	oidc:command:PATH      a program that prints a token for the audience in its argument
//
// A variable NAME or file PATH holds the token that signs; NAME_API, or PATH_API, the
// one for the server.
func Open(identity string, w World) (Source, error) {
	rest, ok := strings.CutPrefix(identity, Prefix)
	if !ok {
		return nil, fmt.Errorf("workload: %q: want %s…", identity, Prefix)
	}
	kind, arg, _ := strings.Cut(rest, ":")
	switch {
	case kind == "github" && arg == "":
		return github{w}, nil
	case (kind == "gitlab" || kind == "env") && arg != "" && !strings.ContainsAny(arg, "= \x00"):
		return variable{w, arg}, nil
	case kind == "file" && arg != "":
		return file(arg), nil
	case kind == "command" && arg != "":
		return command(arg), nil
	}
	return nil, fmt.Errorf("workload: %q: want oidc:github, oidc:gitlab:VARIABLE, oidc:env:VARIABLE, oidc:file:PATH or oidc:command:PATH", identity)
}

// github asks the service that GitHub Actions gives a job with the permission
// "id-token: write".
type github struct{ w World }

const maxAnswer = 64 << 10

func (g github) Token(ctx context.Context, audience string, _ Use) ([]byte, error) {
	at, secret := g.w.Getenv("ACTIONS_ID_TOKEN_REQUEST_URL"), g.w.Getenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN")
	if at == "" || secret == "" {
		return nil, fmt.Errorf("%w: the job has no permission to ask for one: set \"permissions: {id-token: write}\"", ErrNoToken)
	}
	u, err := url.Parse(at)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && !(u.Scheme == "http" && loopback(u.Hostname())) {
		return nil, fmt.Errorf("%w: $ACTIONS_ID_TOKEN_REQUEST_URL is no https URL", ErrNoToken)
	}
	q := u.Query()
	q.Set("audience", audience)
	u.RawQuery = q.Encode()
	wait := time.Second
	for try := 1; ; try++ {
		tok, again, err := g.ask(ctx, u.String(), secret)
		if err == nil || !again || try == 5 {
			return tok, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrNoToken, ctx.Err())
		case <-time.After(wait):
			wait *= 2
		}
	}
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (g github) ask(ctx context.Context, at, secret string) (tok []byte, again bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, false, fmt.Errorf("%w: $ACTIONS_ID_TOKEN_REQUEST_URL is no URL", ErrNoToken)
	}
	r.Header.Set("Authorization", "Bearer "+secret)
	r.Header.Set("Accept", "application/json")
	c := http.Client{}
	if g.w.HTTP != nil {
		c = *g.w.HTTP
	}
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := c.Do(r)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err // without the URL, which has parameters of the job's
		}
		return nil, true, fmt.Errorf("%w: GitHub's token service: %w", ErrNoToken, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, true, fmt.Errorf("%w: GitHub's token service: %w", ErrNoToken, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests, fmt.Errorf("%w: GitHub's token service answers with status %d", ErrNoToken, resp.StatusCode)
	}
	var out struct {
		Value string `json:"value"`
	}
	if json.Unmarshal(b, &out) != nil || out.Value == "" {
		return nil, false, fmt.Errorf("%w: GitHub's token service answers without one", ErrNoToken)
	}
	return []byte(out.Value), false, nil
}

// variable is a token, or two, in the environment.
type variable struct {
	w    World
	name string
}

func (v variable) Token(_ context.Context, audience string, use Use) ([]byte, error) {
	name := v.name
	if use == Call {
		name += suffix
	}
	tok := strings.TrimSpace(v.w.Getenv(name))
	if tok == "" {
		return nil, fmt.Errorf("%w: $%s is not set: the job's definition asks for a token with the audience %s in it", ErrNoToken, name, audience)
	}
	return []byte(tok), nil
}

// file is a token in a file, and one for the server beside it.
type file string

func (f file) Token(_ context.Context, audience string, use Use) ([]byte, error) {
	name := string(f)
	if use == Call {
		name += suffix
	}
	r, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("%w: want a token with the audience %s: %w", ErrNoToken, audience, err)
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, credential.MaxToken+16))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoToken, err)
	}
	if b = bytes.TrimSpace(b); len(b) == 0 {
		return nil, fmt.Errorf("%w: %s is empty", ErrNoToken, name)
	}
	return b, nil
}

// command is a program that prints a token, for a CI that has one:
// "buildkite-agent oidc request-token --audience", say, in a script.
type command string

func (c command) Token(ctx context.Context, audience string, _ Use) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	x := exec.CommandContext(ctx, string(c), audience)
	var out bytes.Buffer
	x.Stdout = &limited{&out, maxAnswer}
	x.WaitDelay = 5 * time.Second
	if err := x.Run(); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrNoToken, string(c), err)
	}
	b := bytes.TrimSpace(out.Bytes())
	if len(b) == 0 {
		return nil, fmt.Errorf("%w: %s prints none", ErrNoToken, string(c))
	}
	return b, nil
}

// limited takes no more than so many bytes.
type limited struct {
	to   *bytes.Buffer
	left int
}

func (l *limited) Write(b []byte) (int, error) {
	if l.left -= len(b); l.left < 0 {
		return 0, errors.New("too much output")
	}
	return l.to.Write(b)
}

// Signer signs as a workload with the tokens of a source.
type Signer struct {
	OIDC   *credential.OIDC
	Source Source
}

// Credential implements credential.Signer.
func (s *Signer) Credential() credential.Credential { return s.OIDC }

// Sign implements credential.Signer: the signature is a token.
func (s *Signer) Sign(ctx context.Context, p credential.Purpose, message []byte) ([]byte, error) {
	aud, err := s.OIDC.Audience(p, message)
	if err != nil {
		return nil, err
	}
	return s.Source.Token(ctx, aud, Sign)
}

// APIToken is a token to show to the server.
func (s *Signer) APIToken(ctx context.Context) ([]byte, error) {
	return s.Source.Token(ctx, s.OIDC.APIAudience(), Call)
}
