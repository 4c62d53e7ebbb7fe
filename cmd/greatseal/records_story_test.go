package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"database/sql"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	_ "modernc.org/sqlite"

	"github.com/greatseal-io/greatseal/internal/porttest"
)

// TestRecordsStories runs testdata/records/*.txt: a trusted server, a protected one
// and an agent, each a process of its own, over real connections.
//
// Beside the commands of TestStories there are
//
//	sqlite FILE SQL     runs SQL in a database
//	port VAR            sets VAR to a port of this machine that is free
//	certificate NAME    makes NAME.crt and NAME.key for a listener on 127.0.0.1
//	passphrase FILE     writes a file that its owner alone reads
//	expand FROM TO      writes a file with the variables in it replaced
//	runs NAME ARG…      has "greatseal ARG…" run until the story ends, or "ends NAME"; NAME.log
//	ends NAME           tells it to end, and wants that it ends well
//	until ARG…          runs "greatseal ARG…" until it succeeds
//	shows TEXT ARG…     runs it until it shows a text
func TestRecordsStories(t *testing.T) {
	dir := filepath.Join("testdata", "records")
	files, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s holds no story: %v", dir, err)
	}
	testscript.Run(t, testscript.Params{
		Dir: dir,
		Setup: func(e *testscript.Env) error {
			for _, n := range []string{"alice", "bob", "carol", "dave", "scanner"} {
				e.Setenv(strings.ToUpper(n), filepath.Join(e.WorkDir, "d", "people", n+".yaml"))
			}
			e.Setenv("GREATSEAL_CONFIG", filepath.Join(e.WorkDir, "d", "people", "alice.yaml"))
			e.Values[processes{}] = map[string]*exec.Cmd{}
			e.Setenv("HOME", filepath.Join(e.WorkDir, "home"))
			return os.Mkdir(filepath.Join(e.WorkDir, "home"), 0o700)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"pending": pending, "member": member, "isjson": isJSON,
			"sqlite": runSQL, "port": freePort, "certificate": makeCertificate, "passphrase": passphrase, "expand": expand, "runs": runs, "ends": ends, "until": until, "shows": shows,
		},
	})
}

func runSQL(ts *testscript.TestScript, _ bool, args []string) {
	db, err := sql.Open("sqlite", "file:"+ts.MkAbs(args[0])+"?_pragma=busy_timeout(10000)")
	ts.Check(err)
	defer db.Close()
	for _, q := range args[1:] {
		_, err := db.Exec(q)
		ts.Check(err)
	}
}

func freePort(ts *testscript.TestScript, _ bool, args []string) {
	port, err := porttest.Free()
	ts.Check(err)
	ts.Setenv(args[0], strconv.Itoa(port))
}

func makeCertificate(ts *testscript.TestScript, _ bool, args []string) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: args[0]}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	ts.Check(err)
	priv, err := x509.MarshalPKCS8PrivateKey(k)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: priv}), 0o600))
}

func passphrase(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(rand.Text()+"\n"), 0o600))
}

func expand(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(os.Expand(ts.ReadFile(args[0]), ts.Getenv)), 0o600))
}

func greatseal(ts *testscript.TestScript, args []string) *exec.Cmd {
	exe, err := exec.LookPath("greatseal")
	ts.Check(err)
	c := exec.Command(exe, args...)
	c.Dir = ts.MkAbs(".")
	c.Env = append(os.Environ(), "HOME="+ts.Getenv("HOME"), "GREATSEAL_CONFIG="+ts.Getenv("GREATSEAL_CONFIG"))
	return c
}

// processes is the key of a story's processes, by name.
type processes struct{}

func background(ts *testscript.TestScript) map[string]*exec.Cmd {
	return ts.Value(processes{}).(map[string]*exec.Cmd)
}

func runs(ts *testscript.TestScript, _ bool, args []string) {
	c := greatseal(ts, args[1:])
	log, err := os.Create(ts.MkAbs(args[0] + ".log"))
	ts.Check(err)
	c.Stdout, c.Stderr = log, log
	ts.Check(c.Start())
	background(ts)[args[0]] = c
	ts.Defer(func() {
		if background(ts)[args[0]] == c {
			_ = c.Process.Signal(syscall.SIGTERM)
			_ = c.Wait()
		}
		log.Close()
		if b, err := os.ReadFile(log.Name()); err == nil {
			ts.Logf("%s:\n%s", filepath.Base(log.Name()), b)
		}
	})
}

func ends(ts *testscript.TestScript, _ bool, args []string) {
	c := background(ts)[args[0]]
	delete(background(ts), args[0])
	ts.Check(c.Process.Signal(syscall.SIGTERM))
	ts.Check(c.Wait())
}

func until(ts *testscript.TestScript, _ bool, args []string) { repeat(ts, "", args) }

func shows(ts *testscript.TestScript, _ bool, args []string) { repeat(ts, args[0], args[1:]) }

// repeat runs a command until it succeeds and shows a text.
func repeat(ts *testscript.TestScript, text string, args []string) {
	var last []byte
	for end := time.Now().Add(2 * patience); time.Now().Before(end); time.Sleep(300 * time.Millisecond) {
		out, err := greatseal(ts, args).CombinedOutput()
		if err == nil && strings.Contains(string(out), text) {
			return
		}
		last = out
	}
	ts.Fatalf("%s: it does not come: %s", fmt.Sprint(args), last)
}
