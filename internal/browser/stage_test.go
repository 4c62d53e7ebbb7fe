package browser

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json/v2"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	_ "modernc.org/sqlite" // the application's database

	"github.com/greatseal-io/greatseal/internal/browser/chromiumtest"
	"github.com/greatseal-io/greatseal/internal/cli"
	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/internal/porttest"
	"github.com/greatseal-io/greatseal/internal/sso/dextest"
)

// envSeal makes the test's program be "greatseal".
const envSeal = "GREATSEAL_BROWSER_SEAL"

func TestMain(m *testing.M) {
	if code, is := cli.AgentHelper(os.Args); is {
		os.Exit(code)
	}
	if os.Getenv(envSeal) == "" {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.Main(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// stage is a deployment with its console, a provider and a browser.
type stage struct {
	testing.TB
	dir     string // of the deployment
	work    string // people's files
	url     string
	dex     *dextest.Dex
	browser *chromiumtest.Browser
	logFile string
	ca      *authority
}

// newStage founds a deployment as "greatseal dev" does, gives it TLS and a provider, and
// serves it.
func newStage(t testing.TB, edit ...func(*config.Server)) *stage {
	t.Helper()
	s := &stage{TB: t, dir: filepath.Join(t.TempDir(), "d"), work: t.TempDir()}
	port := freePort(t)
	s.url = fmt.Sprintf("https://localhost:%d", port)
	s.logFile = filepath.Join(s.work, "server.log")
	s.found()
	ca := s.certificates()
	s.dex = dextest.Start(t, s.url+"/console/login/dex/callback", s.url+"/console/")
	c, err := config.ReadServer(s.file("server.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	provider := s.dex.Config()
	provider.Claim, provider.Scopes, provider.People = config.ClaimUsername, nil, map[string]string{}
	for name, u := range s.dex.Users {
		if name == "alice" || name == "bob" || name == "carol" || name == "dave" {
			provider.People[u.Username] = name
		}
	}
	provider.Scopes = []string{"profile", "email", "groups"}
	c.Listen, c.URL = fmt.Sprintf("localhost:%d", port), s.url
	c.TLS = &config.TLS{Cert: s.file("tls.pem"), Key: s.file("tls.key")}
	c.SSO = []config.SSO{provider}
	c.Console.Roles.Auditor, c.Console.Roles.Operator = []string{"group:audit"}, []string{"dave"}
	for _, f := range edit {
		f(c)
	}
	if err := config.Write(s.file("server.yaml"), c); err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"alice", "bob", "carol", "dave", "scanner"} {
		path := s.file("people", n+".yaml")
		cc, err := config.ReadClient(path)
		if err != nil {
			t.Fatal(err)
		}
		cc.Server, cc.CA = s.url, ca
		if err := config.Write(path, cc); err != nil {
			t.Fatal(err)
		}
	}
	s.serve()
	s.browser = chromiumtest.Start(t, ca, s.dex.CAFile)
	return s
}

func (s *stage) file(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

func (s *stage) command(args ...string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		s.Fatal(err)
	}
	c := exec.Command(self, args...)
	c.Env = append(os.Environ(), envSeal+"=yes", "HOME="+s.work, "GREATSEAL_CONFIG=")
	c.Dir = s.work
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return c
}

// found makes the deployment and lets go of it.
func (s *stage) found() {
	s.Helper()
	s.application()
	c := s.command("dev", "--dir", s.dir, "--records", filepath.Join(s.work, "app.db"), "--listen", fmt.Sprintf("127.0.0.1:%d", freePort(s)))
	out := s.background(c)
	s.until("the deployment", func() bool { return strings.Contains(out.text(), "listens on") })
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		s.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		s.Fatalf("dev: %v\n%s", err, out.text())
	}
}

// application makes a database with records that execute.
func (s *stage) application() {
	s.Helper()
	db, err := sql.Open("sqlite", filepath.Join(s.work, "app.db"))
	if err != nil {
		s.Fatal(err)
	}
	defer db.Close()
	for _, q := range []string{
		`CREATE TABLE sys_data_source (sys_id TEXT PRIMARY KEY, name TEXT, type TEXT, format TEXT, instance_name TEXT, jdbc_server TEXT, database_port TEXT, database_name TEXT,
			connection_url TEXT, connection_url_parameters TEXT, import_set_table_name TEXT, mid_server TEXT, query TEXT, sql_statement TEXT, table_name TEXT, last_run_database_field TEXT, properties TEXT, credential TEXT)`,
		`INSERT INTO sys_data_source (sys_id, name, type, format, database_name, query, sql_statement)
			VALUES ('6f1c9b4e0a0a0a0a0a0a0a0a0a0a0a01', 'customers', 'JDBC', 'sqlite', 'target.db', 'Specific SQL', 'SELECT id, name FROM customers ORDER BY id')`,
	} {
		if _, err := db.Exec(q); err != nil {
			s.Fatal(err)
		}
	}
}

// serve runs the server until the test ends.
func (s *stage) serve() {
	s.Helper()
	c := s.command("server", "--config", s.file("server.yaml"))
	out := s.background(c)
	s.Cleanup(func() {
		_ = c.Process.Signal(syscall.SIGTERM)
		_ = c.Wait()
		if s.Failed() {
			s.Logf("the server said:\n%s", out.text())
		}
	})
	s.until("the server", func() bool { return strings.Contains(out.text(), "the server listens") || c.ProcessState != nil })
}

// background starts a program whose words are kept.
func (s *stage) background(c *exec.Cmd) *output {
	s.Helper()
	w := &output{path: filepath.Join(s.work, fmt.Sprintf("words-%d", time.Now().UnixNano()))}
	f, err := os.Create(w.path)
	if err != nil {
		s.Fatal(err)
	}
	c.Stdout, c.Stderr = f, f
	if err := c.Start(); err != nil {
		s.Fatal(err)
	}
	f.Close()
	return w
}

type output struct{ path string }

func (w *output) text() string {
	b, _ := os.ReadFile(w.path)
	return string(b)
}

func (s *stage) until(what string, f func() bool) {
	s.Helper()
	for end := time.Now().Add(2 * time.Minute); !f(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			s.Fatalf("%s: never", what)
		}
	}
}

// as runs a command of a person's, which must succeed.
func (s *stage) as(who string, args ...string) string {
	s.Helper()
	out, err := s.try(who, args...)
	if err != nil {
		s.Fatalf("%s: greatseal %s: %v\n%s", who, strings.Join(args, " "), err, out)
	}
	return out
}

func (s *stage) try(who string, args ...string) (string, error) {
	s.Helper()
	c := s.command(append([]string{"--config", s.file("people", who+".yaml")}, args...)...)
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	err := c.Run()
	if err != nil {
		return stdout.String() + stderr.String(), err
	}
	return stdout.String(), nil
}

// json runs a command of a person's and reads what it prints.
func (s *stage) json(v any, who string, args ...string) {
	s.Helper()
	if err := json.Unmarshal([]byte(s.as(who, append(args, "--json")...)), v); err != nil {
		s.Fatal(err)
	}
}

// asks hands in a file to be signed, and returns the request's ID.
func (s *stage) asks(who, file, policy string, more ...string) string {
	s.Helper()
	var v struct {
		Request string `json:"request"`
	}
	s.json(&v, who, append([]string{"sign", file, "--policy", policy, "--no-wait"}, more...)...)
	if v.Request == "" {
		s.Fatal("sign said no request")
	}
	return v.Request
}

// program writes a Windows program that says of itself what it is.
func (s *stage) program(name string, b []byte) string {
	s.Helper()
	path := filepath.Join(s.work, name)
	if err := os.WriteFile(path, b, 0o755); err != nil {
		s.Fatal(err)
	}
	return path
}

// signIn signs a person in through Dex and leaves the browser at the inbox.
func (s *stage) signIn(p *chromiumtest.Page, user string) {
	s.Helper()
	p.Open(s.url + "/console/")
	p.At("/console/login")
	p.Click(`a[href^="/console/login/dex"], form[action^="/console/login/dex"] button`)
	p.At("/dex/auth")
	p.Type("#login", s.dex.Users[user].Email)
	p.Type("#password", dextest.Password)
	p.Click("#submit-login")
	p.At("/console/")
}

func freePort(t testing.TB) int {
	port, err := porttest.Free()
	if err != nil {
		t.Fatal(err)
	}
	return port
}
