package browser

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/greatseal-io/greatseal/internal/config"
)

// What "greatseal demo" leaves behind in its folder.
const (
	plantName   = "plant"
	plantAgent  = "agent-1"
	plantTable  = "sys_data_source"
	plantRecord = "9c573169c611228700193229fff72400"
)

// newPlant takes the protected instance that "greatseal demo" has left, with everything
// that was tried on it, and runs it as "greatseal server" does: its people come with
// client certificates, its agent is started again, another one waits to be let in. An
// edited record is run there, so that it is refused now.
func newPlant(t testing.TB) *stage {
	t.Helper()
	s := &stage{TB: t, dir: filepath.Join(t.TempDir(), "d"), work: t.TempDir()}
	if out, err := s.command("demo", "--dir", s.dir).CombinedOutput(); err != nil {
		t.Fatalf("demo: %v\n%s", err, out)
	}
	s.url = fmt.Sprintf("https://localhost:%d", freePort(t))
	ca := s.certificates()
	agents := freePort(t)
	b, err := os.ReadFile(s.file("agent", "agent.yaml"))
	s.must(err)
	root := regexp.MustCompile(`roots: \[([0-9a-f]{64})\]`).FindStringSubmatch(string(b))
	if root == nil {
		t.Fatalf("the agent pins nothing:\n%s", b)
	}
	s.must(os.WriteFile(s.file("server.yaml"), fmt.Appendf(nil, `listen: %[1]s
url: %[2]s
database: sqlite:%[3]s/plant/greatseal.db
tls: {cert: %[3]s/tls.pem, key: %[3]s/tls.key, ca: %[4]s}
instance:
  name: %[5]s
  role: protected
  state: %[3]s/plant/circle.state
  platforms: {app: {database: 'sqlite:%[3]s/plant/app.db'}}
  sides: [{root: %[6]s}]
  roles: {administrators: [ann], operators: [olga], auditors: [audrey]}
  agents: {listen: '127.0.0.1:%[7]d', cert: %[3]s/plant/agents.crt, key: %[3]s/plant/agents.key, keystore: %[3]s/plant/keystore, passphrase_file: %[3]s/plant/passphrase}
`, strings.TrimPrefix(s.url, "https://"), s.url, s.dir, ca, plantName, root[1], agents), 0o600))
	shown := s.shows("ann")
	s.must(config.Write(s.file("people", "ann.yaml"), &config.Client{Server: s.url, CA: ca, Cert: shown.File, Key: shown.Key}))
	s.serve()
	s.edit(filepath.Join("plant", "app.db"), `UPDATE sys_data_source SET sql_statement = 'SELECT login, password FROM accounts'`)

	at := regexp.MustCompile(`server: .*`)
	run := func(name, text string) {
		path := s.file("agent", name+".yaml")
		s.must(os.WriteFile(path, []byte(at.ReplaceAllString(text, fmt.Sprintf("server: https://127.0.0.1:%d", agents))), 0o600))
		c := s.command("agent", "--config", path)
		out := s.background(c)
		t.Cleanup(func() {
			_ = c.Process.Signal(syscall.SIGTERM)
			_ = c.Wait()
			if t.Failed() {
				t.Logf("agent %s said:\n%s", name, out.text())
			}
		})
	}
	run("first", string(b))
	long := longName("agent")
	s.must(os.MkdirAll(s.file("agent", "other"), 0o700))
	run("second", strings.NewReplacer("name: "+plantAgent, "name: "+long, s.file("agent", "state"), s.file("agent", "other")).Replace(string(b)))
	s.until("the agents ask", func() bool {
		return strings.Contains(s.as("ann", "agents", "waiting"), long) && regexp.MustCompile(`valid +yes`).MatchString(s.as("ann", "agents", "list"))
	})
	s.as("ann", "agents", "cluster", "set", longName("cluster"), plantAgent)
	for _, name := range []string{"open orders", strings.Repeat("all-orders-of-the-year-", 8)} {
		_, _ = s.try("ann", "queue", "submit", "--topic", "JDBCProbe", "--table", plantTable, "--key", plantRecord, "--agent", plantAgent, "--name", name, "--param", "minimum=100", "--wait")
	}
	if out := s.as("ann", "queue", "rejections"); !strings.Contains(out, "FIELD_CHANGED") && !strings.Contains(out, "SIG_") {
		t.Fatalf("the edited record was not refused:\n%s", out)
	}
	return s
}

// longName is the longest name that statements take, without a place to break it.
func longName(what string) string { return what + strings.Repeat("x", 64-len(what)) }

// edit changes a database by hand, as somebody would who has its password.
func (s *stage) edit(path, q string) {
	s.Helper()
	db, err := sql.Open("sqlite", s.file(path)+"?_pragma=busy_timeout(10000)")
	s.must(err)
	defer db.Close()
	r, err := db.ExecContext(context.Background(), q)
	s.must(err)
	if n, err := r.RowsAffected(); err != nil || n == 0 {
		s.Fatalf("nothing was changed: %v", err)
	}
}
