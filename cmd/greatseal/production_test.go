package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/all"
	"github.com/greatseal-io/greatseal/format/pe"
	"github.com/greatseal-io/greatseal/internal/store/pgtest"
	"github.com/greatseal-io/greatseal/internal/trial"
	"github.com/greatseal-io/greatseal/statement"
	"github.com/greatseal-io/greatseal/verify"
)

const operate = "../../docs/operate/"

// TestProduction founds a deployment as docs/operate/found.md says, block by block:
// keys in a PKCS #11 token, a keeper and a server of their own with mutual TLS
// between them, PostgreSQL, and three people with ssh-agents. It goes on with the
// pages about officers, incidents and backups, and does what no page does: another
// authority's timestamps, every byte flipped, a ledger set back, and what is refused.
func TestProduction(t *testing.T) {
	for _, tool := range [][2]string{{"softhsm2-util", "softhsm2"}, {"ssh-agent", "openssh-client"}, {"openssl", "openssl"}, {"osslsigncode", "osslsigncode"}} {
		if _, err := exec.LookPath(tool[0]); err != nil {
			t.Fatalf("%v: apt-get install %s", err, tool[1])
		}
	}
	w := newWorld(t)
	pg := pgtest.Start(t)
	tsa := newAuthority(t, w.dir)
	keeper, server := w.port(), w.port()
	w.replace = append(w.replace, "0.0.0.0:7787", "0.0.0.0:"+keeper, "keeper.example.com:7787", "localhost:"+keeper,
		"0.0.0.0:7788", "0.0.0.0:"+server, "sign.example.com:7788", "localhost:"+server,
		"--host keeper.example.com", "--host localhost", "--host sign.example.com", "--host localhost",
		"/run/postgresql", pg.Socket, "http://timestamp.example.com/", tsa.url)
	w.env = append(w.env, "PGHOST="+pg.Socket, "PGUSER=greatseal") // the superuser of the test cluster
	w.mkdir(w.home("postgres"))

	// Alice's build, Bob's build of the same commit, and a larger program.
	small := trial.Program()
	for _, who := range []string{"alice", "bob"} {
		w.mkdir(w.home(who))
		w.write(filepath.Join(w.home(who), "app.exe"), small)
	}
	if _, err := trial.BuildProgram(t.Context(), filepath.Join(w.home("alice"), "tool.exe")); err != nil {
		t.Fatal(err)
	}

	w.address = map[string]string{"greatseal-keeper": "localhost:" + keeper, "greatseal-server": "localhost:" + server}
	w.follow(operate + "found.md")

	w.keysAreInToken()
	w.foreignTimestamp(tsa)
	w.refusals()
	w.officers()
	w.follow(operate + "monitoring.md")
	w.metrics()
	w.clients()
	w.follow(operate + "incidents.md")
	w.follow(operate + "backup.md")
	w.setBack()
	w.databaseSetBack()

	w.services["greatseal-server"].stop(t)
	w.services["greatseal-keeper"].stop(t)
	pg.Down()
	defer pg.Up() // what started it stops it
	w.offline(small)
	t.Run("flips", w.flips)
}

func (w *world) write(path string, b []byte) {
	w.t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// keysAreInToken looks where the keys are: two pairs in the token, none in the
// keystore.
func (w *world) keysAreInToken() {
	if list := w.run("keeper", "SOFTHSM2_CONF=/etc/greatseal/softhsm2.conf softhsm2-util --show-slots\n"); !strings.Contains(list, "greatseal") {
		w.t.Errorf("no token:\n%s", list)
	}
	objects, err := filepath.Glob(filepath.Join(w.host("keeper"), "lib-keeper", "softhsm", "*", "*.object"))
	objects = slices.DeleteFunc(objects, func(p string) bool { return filepath.Base(p) == "token.object" })
	if err != nil || len(objects) != 4 { // two private keys and their public halves
		w.t.Errorf("the token holds %d objects, want 4", len(objects))
	}
	keystore := read(w.t, filepath.Join(w.host("keeper"), "lib-keeper", "keystore"))
	if bytes.Contains(keystore, []byte("keeper-receipts")) || bytes.Contains(keystore, []byte("PRIVATE KEY")) {
		w.t.Error("the keystore is not encrypted")
	}
	for who, kind := range map[string]string{"alice": "ssh-ed25519", "bob": "ecdsa-sha2-nistp256", "carol": "ssh-rsa"} {
		if got := w.run(who, "ssh-add -L\n"); !strings.HasPrefix(got, kind) || w.shells[who].agent == "" {
			w.t.Errorf("%s's agent holds %q, want %s", who, got, kind)
		}
	}
}

const endorse = `greatseal endorse "$(greatseal inbox | awk 'END {print $1}')" --yes` + "\n"

// foreignTimestamp signs under the policy that asks openssl's authority, and again
// while that one is away: then the deployment's own answers.
func (w *world) foreignTimestamp(tsa *authority) {
	sign := func(file, ca string) {
		w.run("alice", "greatseal sign "+file+" --policy public --no-wait\n")
		w.run("bob", endorse)
		w.run("carol", endorse)
		w.run("alice", `greatseal collect --wait "$(greatseal request list --name `+file+` | awk 'END {print $1}')" `+file+"\n")
		w.run("alice", "greatseal verify "+file+` --root "$(cat /srv/exchange/root)" --ca /srv/exchange/code-ca.crt --tsa-ca `+ca+"\n"+
			"osslsigncode verify -CAfile /srv/exchange/code-ca.crt -TSA-CAfile "+ca+" -in "+file+"\n")
	}
	w.run("alice", "cp tool.exe unsigned.exe; cp tool.exe later.exe; printf 0 >> later.exe\n")
	sign("tool.exe", tsa.root)
	if tsa.answers.Load() != 1 {
		w.t.Errorf("the authority answered %d times", tsa.answers.Load())
	}
	tsa.away.Store(true)
	sign("later.exe", "/srv/exchange/code-ca.crt")
	if tsa.answers.Load() != 1 || tsa.refused.Load() == 0 {
		w.t.Errorf("the authority that is away answered %d times and refused %d", tsa.answers.Load(), tsa.refused.Load())
	}
}

// refusals are what must not work in a deployment as the page founds it.
func (w *world) refusals() {
	const connect = "openssl s_client -tls1_3 -ign_eof -CAfile ~/.config/greatseal/ca.crt -connect "
	w.refused("alice", connect+"sign.example.com:7788 2>&1", 1, "alert certificate required")
	w.refused("alice", connect+"keeper.example.com:7787 -cert ~/.config/greatseal/tls.crt -key ~/.config/greatseal/tls.key 2>&1", 1, "alert bad certificate")
	w.run("alice", "cp unsigned.exe again.exe; printf x >> again.exe\n")
	w.run("alice", "greatseal sign again.exe --policy windows --no-wait\n")
	mine := `"$(greatseal request list --requester alice --state pending | awk 'END {print $1}')"`
	w.refused("alice", "greatseal endorse "+mine+" --yes", 3, "requester")
	w.refused("bob", "greatseal endorse "+mine+" --file app.exe --yes", 3, "app.exe")
	w.refused("alice", "greatseal collect "+mine+" again.exe", 4, "waits")
	w.run("carol", `greatseal disapprove "$(greatseal inbox | awk 'END {print $1}')" --comment "no such release" --yes`+"\n")
	w.refused("alice", `greatseal collect "$(greatseal request list --state disapproved | awk 'END {print $1}')" again.exe`, 3, "disapproved")
	w.refused("alice", "greatseal sign again.exe --policy nightly", 3, "nightly")
	w.refused("alice", "greatseal sign again.exe --policy windows --no-wait --as bob", 1, "not a credential of bob")
	w.refused("alice", "GREATSEAL_ROOT="+strings.Repeat("ab", 32)+" greatseal charter show", 5, "pinned")
}

// editor gives Alice an editor that types what the pages tell her to: the next
// file of testdata/production/edit-*.sed, with @NAME@ the key that NAME has sent.
func (w *world) editor() {
	edits, err := filepath.Glob("testdata/production/edit-*.sed")
	if err != nil || len(edits) == 0 {
		w.t.Fatalf("there are no edits: %v", err)
	}
	for _, e := range edits {
		w.write(filepath.Join(w.home("alice"), filepath.Base(e)), read(w.t, e))
	}
	w.run("alice", `cat > editor <<'EOF'
#!/bin/sh
set -e
next=$(ls edit-*.sed | head -n 1)
for key in /srv/exchange/*.pub; do
  sed -i "s|@$(basename $key .pub)@|$(cat $key)|" $next
done
sed -i -f $next "$1"
rm $next
EOF
chmod +x editor
export EDITOR=$PWD/editor
`)
}

// officers does what stands in the page.
func (w *world) officers() {
	w.editor()
	w.follow(operate + "officers.md")
	shown := w.run("alice", "greatseal charter show --yaml\n")
	carol := shown[strings.Index(shown, "\n  carol:"):strings.Index(shown, "\ngroups:")]
	if !strings.Contains(shown, "version: 3") || strings.Contains(carol, "ssh-rsa") || strings.Count(carol, "ssh-ed25519") != 2 {
		w.t.Errorf("the charter is not what was decided:\n%s", shown)
	}
	// The lost key endorses nothing any more.
	w.run("carol", "ssh-add ~/.ssh/greatseal\n")
	w.refused("carol", "greatseal key suspend release --identity ~/.ssh/greatseal.pub", 1, "not a credential of carol")
}

// clients sets up a build machine, which signs alone what a policy lets it and
// nothing else.
func (w *world) clients() {
	w.mkdir(w.home("ci"))
	for _, name := range []string{"nightly-7.exe", "release.exe", "other.exe"} {
		w.write(filepath.Join(w.home("ci"), name), append(trial.Program(), name...))
	}
	w.follow(operate + "clients.md")
	w.run("ci", `greatseal verify nightly-7.exe --root "$(cat /srv/exchange/root)" --ca /srv/exchange/code-ca.crt`+"\n")
	w.refused("ci", "greatseal sign other.exe --policy nightly", 3, "nightly-*")
	w.refused("ci", "greatseal sign release.exe --policy windows --timeout 1s", 4, "waits")
	w.refused("ci", `greatseal endorse "$(greatseal request list --state pending | awk 'END {print $1}')" --yes`, 3, "")
	// A token is not a signature: with Alice's name and no key of hers there is none.
	w.refused("ci", "greatseal sign other.exe --policy windows --no-wait --as alice", 1, "none of the keys")
	w.run("bob", endorse)
	w.run("carol", endorse)
	w.run("ci", `greatseal sign release.exe --policy windows`+"\n") // collects
}

var metricName = regexp.MustCompile(`\bgreatseal_[a-z_]+`)

// metrics scrapes the server as the page says: every metric that is named there is
// there, and the certificate alone opens nothing.
func (w *world) metrics() {
	dir := filepath.Join(w.dir, "handover", "prometheus")
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"))
	if err != nil {
		w.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(read(w.t, filepath.Join(w.dir, "handover", "alice", "ca.crt")))
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: pool}}}
	defer c.CloseIdleConnections()
	token := strings.TrimSpace(string(read(w.t, filepath.Join(dir, "token"))))
	get := func(path, token string) (int, string) {
		q, err := http.NewRequestWithContext(w.t.Context(), "GET", "https://"+w.address["greatseal-server"]+path, nil)
		if err != nil {
			w.t.Fatal(err)
		}
		if token != "" {
			q.Header.Set("Authorization", "Bearer "+token)
		}
		q.Header.Set("Via", "1.1 elsewhere") // not from this machine
		r, err := c.Do(q)
		if err != nil {
			w.t.Fatal(err)
		}
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		if err != nil {
			w.t.Fatal(err)
		}
		return r.StatusCode, string(b)
	}
	if code, _ := get("/readyz", ""); code != 200 {
		w.t.Errorf("readyz is %d", code)
	}
	if code, _ := get("/metrics", ""); code != 401 {
		w.t.Errorf("without a token metrics are %d", code)
	}
	if code, _ := get("/v1/requests", token); code != 403 {
		w.t.Errorf("with the token of metrics, requests are %d", code)
	}
	code, body := get("/metrics", token)
	if code != 200 {
		w.t.Fatalf("metrics are %d: %s", code, body)
	}
	names := metricName.FindAllString(string(read(w.t, operate+"monitoring.md")), -1)
	if len(names) < 10 {
		w.t.Fatalf("the page names %d metrics", len(names))
	}
	for _, n := range names {
		// Those of mail and of issuers are there with mail and issuers; tests of
		// internal/api want them.
		if strings.HasPrefix(n, "greatseal_notices_") || strings.HasPrefix(n, "greatseal_issuer_") {
			continue
		}
		if !strings.Contains(body, "\n"+n) {
			w.t.Errorf("there is no metric %s", n)
		}
	}
}

// setBack puts the ledger of the backup in place after something was signed: the
// keeper notices, stops, and goes on with the newer one.
func (w *world) setBack() {
	w.run("carol", "greatseal key suspend release --reason 'after the backup'\n")
	w.services["greatseal-server"].stop(w.t)
	w.services["greatseal-keeper"].stop(w.t)
	w.run("keeper", `mv /var/lib/greatseal-keeper /var/lib/greatseal-keeper.newest
mkdir -m 700 /var/lib/greatseal-keeper
tar -C /var/lib/greatseal-keeper -xzf /srv/backup/keeper.tar.gz
`)
	w.start("keeper", "greatseal-keeper", w.address["greatseal-keeper"])
	w.run("server", "export CREDENTIALS_DIRECTORY=/etc/greatseal/credentials\n")
	w.refused("server", "greatseal server --config /etc/greatseal/server.yaml", 1, "it has been rolled back")
	w.services["greatseal-keeper"].stop(w.t)
	// It stays stopped, also when it is started again.
	w.start("keeper", "greatseal-keeper", w.address["greatseal-keeper"])
	w.refused("server", "greatseal server --config /etc/greatseal/server.yaml", 1, "it has been rolled back")
	w.services["greatseal-keeper"].stop(w.t)
	w.run("keeper", "mv /var/lib/greatseal-keeper /var/lib/greatseal-keeper.stopped; mv /var/lib/greatseal-keeper.newest /var/lib/greatseal-keeper\n")
	w.start("keeper", "greatseal-keeper", w.address["greatseal-keeper"])
	w.start("server", "greatseal-server", w.address["greatseal-server"])
	if out := w.run("alice", "greatseal key list\ngreatseal log verify\n"); !strings.Contains(out, "suspended") {
		w.t.Errorf("what was done after the backup is lost:\n%s", out)
	}
}

// databaseSetBack restores the database of the backup beside the newest ledger: the
// server fetches what it lacks, and the keeper signs no shorter log.
func (w *world) databaseSetBack() {
	restore := func(dump string) {
		w.services["greatseal-server"].stop(w.t)
		w.run("postgres", "dropdb greatseal\ncreatedb --owner greatseal-server greatseal\npg_restore --dbname greatseal "+dump+"\n")
		w.start("server", "greatseal-server", w.address["greatseal-server"])
	}
	w.run("postgres", "pg_dump --format=custom --file /srv/backup/newest.dump greatseal\n")
	restore("/srv/backup/greatseal.dump")
	w.says("greatseal-server", "a receipt that was missing here was fetched from the keeper")
	w.says("greatseal-server", "it was set back; restore it")
	restore("/srv/backup/newest.dump")
	if out := w.run("alice", "greatseal log verify --full\n"); !strings.Contains(out, "everything that was executed was authorised") {
		w.t.Errorf("after the newest database is back:\n%s", out)
	}
}

// offline verifies with nothing but files: server, keeper and database are down.
func (w *world) offline(unsigned []byte) {
	const judge = `greatseal verify /srv/exchange/app.exe --root "$(cat /srv/exchange/root)"`
	out := w.run("dave", judge+" --ca /srv/exchange/code-ca.crt --tsa-ca /srv/exchange/code-ca.crt --json\n")
	for _, want := range []string{`"alice"`, `"bob"`, `"carol"`, `"windows"`} {
		if !strings.Contains(out, want) {
			w.t.Errorf("the verification does not name %s:\n%s", want, out)
		}
	}
	w.refused("dave", judge+" --ca "+filepath.Join(w.dir, "handover/alice/ca.crt"), 5, "")
	w.refused("dave", strings.Replace(judge, "$(cat /srv/exchange/root)", strings.Repeat("ab", 32), 1)+" --ca /srv/exchange/code-ca.crt", 5, "")
	if bytes.Equal(read(w.t, filepath.Join(w.dir, "exchange", "app.exe")), unsigned) {
		w.t.Error("the file was not changed")
	}
}

// flips changes every byte of the signed file, one after the other; no change is
// accepted.
func (w *world) flips(t *testing.T) {
	dir := filepath.Join(w.dir, "exchange")
	signed := read(t, filepath.Join(dir, "app.exe"))
	e, err := verify.DecodeEvidence(read(t, filepath.Join(dir, "app.exe.evidence.json")))
	if err != nil {
		t.Fatal(err)
	}
	root, err := statement.ParseID(strings.TrimSpace(string(read(t, filepath.Join(dir, "root")))))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(read(t, filepath.Join(dir, "code-ca.crt"))) {
		t.Fatal("no certificate")
	}
	trust := format.Trust{Roots: pool, TimestampRoots: pool, Now: time.Now()}
	formats := all.Formats()
	accepted := func(b []byte) bool {
		// What the format refuses, verify.File refuses: the cheaper one first.
		if _, err := (pe.Format{}).Verify(t.Context(), format.BytesArtifact("app.exe", b), trust); err != nil {
			return false
		}
		_, err := verify.File(t.Context(), format.BytesArtifact("app.exe", b), nil, e, root, trust, formats, verify.Options{})
		return err == nil
	}
	if !accepted(signed) {
		t.Fatal("the file itself is refused")
	}
	var wg sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for k := range workers {
		wg.Go(func() {
			b := bytes.Clone(signed)
			for i := k; i < len(b); i += workers {
				for _, x := range []byte{1, 2, 4, 8, 16, 32, 64, 128, 0xff} {
					b[i] ^= x
					if accepted(b) {
						t.Errorf("byte %d of %d is free: xor %#02x is accepted", i, len(b), x)
					}
					b[i] ^= x
				}
			}
		})
	}
	wg.Wait()
	for _, n := range []int{0, 1, len(signed) / 2, len(signed) - 8, len(signed) - 1} {
		if accepted(signed[:n]) {
			t.Errorf("the first %d bytes are accepted", n)
		}
	}
	if accepted(append(bytes.Clone(signed), make([]byte, 8)...)) {
		t.Error("eight more bytes are accepted")
	}
}

// authority is "openssl ts" behind HTTP on this machine: somebody else's
// timestamp authority.
type authority struct {
	url, root string
	away      atomic.Bool // it refuses

	answers, refused atomic.Int64
}

func newAuthority(t *testing.T, dir string) *authority {
	t.Helper()
	dir = filepath.Join(dir, "tsa")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	config, err := filepath.Abs("testdata/production/tsa.cnf")
	if err != nil {
		t.Fatal(err)
	}
	openssl := func(ctx context.Context, args ...string) error {
		c := exec.CommandContext(ctx, "openssl", args...)
		c.Dir = dir
		out, err := c.CombinedOutput()
		if err != nil {
			t.Errorf("openssl %v: %v\n%s", args, err, out)
		}
		return err
	}
	for _, args := range [][]string{
		{"req", "-x509", "-config", config, "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Foreign authority", "-extensions", "ca", "-days", "30"},
		{"req", "-config", config, "-newkey", "rsa:3072", "-nodes", "-keyout", "tsa.key", "-out", "tsa.csr", "-subj", "/CN=Foreign timestamps"},
		{"x509", "-req", "-in", "tsa.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", "tsa.pem", "-extfile", config, "-extensions", "leaf", "-days", "30"},
	} {
		if openssl(t.Context(), args...) != nil {
			t.FailNow()
		}
	}
	a := &authority{root: filepath.Join(dir, "ca.pem")}
	if err := os.WriteFile(filepath.Join(dir, "serial"), []byte("01\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var one sync.Mutex // the file of serial numbers
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		one.Lock()
		defer one.Unlock()
		if a.away.Load() {
			a.refused.Add(1)
			http.Error(rw, "closed today", http.StatusForbidden)
			return
		}
		q, err := io.ReadAll(r.Body)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "q"), q, 0o600)
		}
		if err == nil {
			err = openssl(context.WithoutCancel(r.Context()), "ts", "-reply", "-config", config, "-queryfile", "q", "-inkey", "tsa.key", "-signer", "tsa.pem", "-chain", "ca.pem", "-out", "a")
		}
		reply, rerr := os.ReadFile(filepath.Join(dir, "a"))
		if err != nil || rerr != nil {
			http.Error(rw, "no", 500)
			return
		}
		a.answers.Add(1)
		rw.Header().Set("Content-Type", "application/timestamp-reply")
		rw.Write(reply)
	}))
	t.Cleanup(s.Close)
	a.url = s.URL + "/"
	return a
}
