package cli

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json/v2"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/internal/api/client"
	"github.com/greatseal-io/greatseal/internal/api/wire"
	"github.com/greatseal-io/greatseal/internal/author"
	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/internal/workload"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/statement"
)

// verdict is the exit code and the hint of an error.
func verdict(err error) (code int, hint string) {
	var f *fault
	if errors.As(err, &f) {
		return f.code, f.hint
	}
	var p *client.Problem
	if errors.As(err, &p) {
		switch p.Status {
		case http.StatusForbidden:
			return exitRefused, p.Hint
		case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			return exitUnavailable, orText(p.Hint, "try again in a moment; nothing was lost")
		case http.StatusUnauthorized:
			return exitFailed, orText(p.Hint, "greatseal login")
		}
		return exitFailed, p.Hint
	}
	if errors.Is(err, client.ErrAnother) {
		return exitUnverified, "tell the server's administrator"
	}
	var away *client.AwayError
	if errors.As(err, &away) {
		return exitUnavailable, "greatseal status; --server or \"server:\" in the configuration names the server"
	}
	return exitFailed, fileHint(err)
}

func orText(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// link is a server, and what was checked of what it says.
type link struct {
	*client.Client
	app *App
	cfg *config.Client

	known bool // what it sends says who asks: a certificate, a token or a session

	mu    sync.Mutex
	chain *quorum.Chain // checked against the pinned root

	opening sync.Mutex
	signer  credential.Signer
}

// connect makes the client of the configured server. It uses the session that is
// kept for it, if there is one, or the token in $GREATSEAL_TOKEN; it gets another
// session when the server wants one.
func (a *App) connect() (*link, error) {
	cfg, err := a.client()
	if err != nil {
		return nil, err
	}
	if cfg.Server == "" {
		path, _ := a.configPath()
		return nil, fail(exitUsage, fmt.Sprintf("--server https://HOST, or \"server:\" in %s; greatseal dev runs one to play with", orText(path, "the client configuration")), "no server is configured")
	}
	token := os.Getenv("GREATSEAL_TOKEN")
	if token == "" {
		if s := readSession(cfg, a.Now()); s != nil {
			token = s.Token
		}
	}
	c, err := client.New(client.Config{Server: cfg.Server, CA: cfg.CA, Cert: cfg.Cert, Key: cfg.Key, Token: token, Agent: "greatseal/" + Version})
	if err != nil {
		return nil, fail(exitUsage, "greatseal --help says how a server is named", "%v", err)
	}
	l := &link{Client: c, app: a, cfg: cfg, known: token != "" || cfg.Cert != ""}
	if cfg.Cert == "" && os.Getenv("GREATSEAL_TOKEN") == "" {
		l.Renew(func(ctx context.Context) error {
			_, err := l.login(ctx)
			return err
		})
	}
	return l, nil
}

// enter is connect for what the server shows to people of the charter only: it
// logs in where there is neither a certificate nor a session.
func (a *App) enter(ctx context.Context) (*link, error) {
	l, err := a.connect()
	if err != nil {
		return nil, err
	}
	if l.known { // another command may have logged in since: its session is not in use here
		return l, nil
	}
	if _, err := l.login(ctx); err != nil {
		return nil, err
	}
	return l, nil
}

// linkedRun is a command that talks to the server.
type linkedRun func(cmd *cobra.Command, l *link, args []string) error

// inside runs a command for which the server must know who asks.
func (a *App) inside(run linkedRun) func(*cobra.Command, []string) error {
	return linked(a.enter, run)
}

// outside runs a command about what the server shows to everybody.
func (a *App) outside(run linkedRun) func(*cobra.Command, []string) error {
	return linked(func(context.Context) (*link, error) { return a.connect() }, run)
}

func linked(open func(context.Context) (*link, error), run linkedRun) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		l, err := open(cmd.Context())
		if err != nil {
			return err
		}
		defer l.Close()
		return run(cmd, l, args)
	}
}

// login gets a session and keeps it.
func (l *link) login(ctx context.Context) (*wire.Session, error) {
	s, err := l.sign(ctx)
	if err != nil {
		return nil, err
	}
	deployment := ""
	if chain := l.fetched(); chain != nil {
		c, _ := chain.Head()
		deployment = c.Deployment
	}
	var out *wire.Session
	if w, ok := s.(*workload.Signer); ok && w.OIDC.Workload().Unbound {
		return l.loginToken(ctx, w)
	}
	if out, err = l.Login(ctx, deployment, l.cfg.Name, s); err != nil {
		return nil, err
	}
	if err := writeSession(l.cfg, out); err != nil {
		l.app.note("the session is not kept: %v", err)
	}
	return out, nil
}

// charters fetches the charter chain and checks it from the pinned root.
func (l *link) charters(ctx context.Context) (*quorum.Chain, error) {
	if c := l.fetched(); c != nil {
		return c, nil
	}
	return l.refetch(ctx)
}

// refetch is charters for a chain that has grown since.
func (l *link) refetch(ctx context.Context) (*quorum.Chain, error) {
	if l.cfg.Root.IsZero() {
		return nil, fail(exitUsage, `put "root: ID" into the client configuration; an officer prints the ID with "greatseal charter id charter-v1.json"`,
			"no charter is pinned: without its ID nothing that the server says can be checked")
	}
	b, err := l.Chain(ctx)
	if err != nil {
		return nil, err
	}
	c, err := quorum.DecodeChain(&l.cfg.Root, b)
	if err != nil {
		return nil, fail(exitUnverified, "compare the root in the client configuration with an officer's", "the server's charters: %v", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.chain = c
	return c, nil
}

// fetched is the chain as it was fetched last, or nil.
func (l *link) fetched() *quorum.Chain {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.chain
}

// sign opens the user's key, once: one that the charter has for him.
func (l *link) sign(ctx context.Context) (credential.Signer, error) {
	if l.cfg.Name == "" {
		return nil, fail(exitUsage, `--as NAME, or "name: NAME" in the client configuration`, "who are you in the charter?")
	}
	chain, err := l.charters(ctx)
	if err != nil {
		return nil, err
	}
	l.opening.Lock() // from here on the server is not asked: who logs in again opens the key too
	defer l.opening.Unlock()
	if l.signer != nil {
		return l.signer, nil
	}
	head, _ := chain.Head()
	creds := credentialsOf(head, l.cfg.Name)
	if len(creds) == 0 {
		return nil, fail(exitFailed, orText(suggest(l.cfg.Name, names(head)), "greatseal charter show lists people and machines"), "nobody in the charter is called %q", l.cfg.Name)
	}
	if strings.HasPrefix(l.cfg.Identity, workload.Prefix) {
		if l.signer, err = l.workload(ctx, head); err != nil {
			l.signer = nil
			return nil, err
		}
		return l.signer, nil
	}
	s, err := l.app.signer(ctx, l.cfg, creds)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(ids(creds), s.Credential().ID()) {
		return nil, fail(exitFailed, "greatseal charter show lists the credentials; --identity names another key", "%s is not a credential of %s in the charter", s.Credential().Describe(), l.cfg.Name)
	}
	l.signer = s
	return s, nil
}

// author is the user as somebody who signs statements.
func (l *link) author(ctx context.Context) (*author.Author, error) {
	s, err := l.sign(ctx)
	if err != nil {
		return nil, err
	}
	return &author.Author{Name: l.cfg.Name, Signer: s, Now: l.app.Now, Rand: rand.Reader}, nil
}

// session is what is kept of a login.
type session struct {
	Server  string    `json:"server"`
	Name    string    `json:"name"`
	Token   string    `json:"token"`
	Expires time.Time `json:"expires"`
}

// sessionMargin is how long a session must last to be used.
const sessionMargin = time.Minute

func sessionPath(cfg *config.Client) (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	h := sha256.Sum256([]byte(cfg.Server + "\x00" + cfg.Name + "\x00" + cfg.Root.String()))
	return filepath.Join(dir, "greatseal", "session-"+hex.EncodeToString(h[:8])+".json"), nil
}

// readSession finds the session that is kept for a server, if it can be used.
func readSession(cfg *config.Client, now time.Time) *session {
	path, err := sessionPath(cfg)
	if err != nil {
		return nil
	}
	b, err := config.Secret(path) // refuses a file that others can read
	if err != nil {
		return nil
	}
	var s session
	if json.Unmarshal(b, &s) != nil || s.Server != cfg.Server || s.Name != cfg.Name || s.Token == "" || s.Expires.Before(now.Add(sessionMargin)) {
		return nil
	}
	return &s
}

func writeSession(cfg *config.Client, s *wire.Session) error {
	path, err := sessionPath(cfg)
	if err != nil {
		return err
	}
	b, err := json.Marshal(session{cfg.Server, cfg.Name, s.Token, s.Expires})
	if err != nil {
		return err
	}
	return keep(path, b)
}

func dropSession(cfg *config.Client) error {
	path, err := sessionPath(cfg)
	if err != nil {
		return err
	}
	if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// names are the people and machines of a charter.
func names(c *charter.Charter) []string {
	var out []string
	for n := range c.People {
		out = append(out, n)
	}
	for n := range c.Machines {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

// suggest says what of have somebody may have meant.
func suggest(got string, have []string) string {
	best, at := "", 3
	for _, h := range have {
		if d := distance(got, h); d < at {
			best, at = h, d
		}
	}
	switch {
	case best != "":
		return "did you mean " + best + "?"
	case len(have) > 0 && len(have) <= 12:
		return "there are: " + strings.Join(have, ", ")
	}
	return ""
}

// distance is how many letters must change to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		last := row[0]
		row[0] = i + 1
		for j := range len(b) {
			d := last
			if a[i] != b[j] {
				d = 1 + min(last, row[j], row[j+1])
			}
			last, row[j+1] = row[j+1], d
		}
	}
	return row[len(b)]
}

// short is an ID as people write it.
func short(id string) string {
	if len(id) > 12 {
		return id[:12]
	}
	return id
}

// idOf reads the ID of a request that the user gave, whole or its beginning.
func idOf(s string) (string, error) {
	s = strings.ToLower(strings.TrimSpace(s))
	if len(s) < 4 || len(s) > 2*len(statement.ID{}) || strings.Trim(s, "0123456789abcdef") != "" {
		return "", fail(exitUsage, "greatseal request list shows the IDs", "%q is not the ID of a request: want at least 4 of its hexadecimal digits", s)
	}
	return s, nil
}
