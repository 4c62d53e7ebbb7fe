package cli

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/internal/api"
	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/server/servertest"
	"github.com/greatseal-io/greatseal/internal/store"
)

// desk is a server, and the command line of bob, who has an SSH key and folders of his
// own.
type desk struct {
	t   *testing.T
	w   *servertest.World
	srv *server.Server
	st  *store.SQL
	cfg string // his configuration
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, home := range []string{"XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"} {
		t.Setenv(home, t.TempDir())
	}
	dir := t.TempDir()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(err)
	block, err := ssh.MarshalPrivateKey(key, "")
	must(err)
	must(os.WriteFile(filepath.Join(dir, "bob"), pem.EncodeToMemory(block), 0o600))
	pub, err := ssh.NewPublicKey(key.Public())
	must(err)
	cred, err := credential.Parse(credential.KindSSH, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(pub))))
	must(err)
	d := &desk{t: t, cfg: filepath.Join(dir, "bob.yaml")}
	d.w = servertest.New(t, func(c *charter.Charter) {
		bob := c.People["bob"]
		bob.Credentials = append(bob.Credentials, charter.CredentialOf(cred))
		c.People["bob"] = bob
	})
	d.st = d.w.Store("").(*store.SQL)
	d.srv, _ = d.w.Server(d.st)
	a, err := api.New(api.Config{Server: d.srv, Store: d.st, Clock: d.w.Now, Version: "test", Limits: api.Limits{PerSecond: 1e6, Burst: 1e6, AnonPerSecond: 1e6}})
	must(err)
	h := httptest.NewServer(a.Handler())
	t.Cleanup(func() { a.Stop(); h.Close() })
	must(config.Write(d.cfg, config.Client{Server: h.URL, Name: "bob", Identity: "bob", Root: d.w.Pin}))
	return d
}

// run runs a command of bob's by a clock, and returns what it prints.
func (d *desk) run(now func() time.Time, args ...string) (out string, code int) {
	d.t.Helper()
	var b, e bytes.Buffer
	app := &App{In: strings.NewReader(""), Out: &b, Err: &e, Now: now}
	root := app.Root()
	root.SetArgs(append([]string{"--config", d.cfg}, args...))
	code = app.report(root.ExecuteContext(d.t.Context()))
	return b.String() + e.String(), code
}
