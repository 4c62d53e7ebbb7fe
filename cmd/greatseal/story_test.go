package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/internal/cli"
)

func TestMain(m *testing.M) {
	// An agent starts its own program, which is this one, for sandboxes.
	if code, is := cli.AgentHelper(os.Args); is {
		os.Exit(code)
	}
	testscript.Main(m, map[string]func(){"greatseal": main, "greatseal-git-ssh": main, "greatseal-git-openpgp": main, "greatseal-git-x509": main})
}

// patience is how long a story waits for what must come. It is never reached.
const patience = time.Minute

// TestStories runs testdata/*.txt: each is one promise to the user, kept by the
// real binary against a deployment of its own.
//
// Beside testscript's own commands there are
//
//	deployment          starts a deployment in $WORK/d; $GREATSEAL_CONFIG is Alice's
//	pending VAR         sets VAR to the ID of the open request, as soon as there is one
//	asked NAME          waits until there is an open request about a file of that name
//	member VAR PATH     sets VAR to a member of the JSON on standard output: "files.0.output"
//	isjson              wants standard output to be one JSON document
//	arow FILE VAR PATH  as member, of the first line of FILE, as soon as there is one
//	registry NAME:TAG   a registry with the image $REGISTRY/team/NAME:TAG
//	proxy N             a proxy in front of the server, which passes N uploads and refuses the next; $PROXY
//	lie SUFFIX          has the proxy alter answers to paths that end in SUFFIX; none: no more
//	swap A B            has the proxy answer for request A with request B
//	passed N            wants the proxy to have passed N bytes of uploads
//	flip FILE N         inverts byte N of a file, from the end if negative
func TestStories(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "*.txt"))
	if err != nil || len(files) < 15 {
		t.Fatalf("testdata holds %d stories: %v", len(files), err)
	}
	template := found(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			for _, n := range []string{"alice", "bob", "carol", "dave", "scanner"} {
				e.Setenv(strings.ToUpper(n), filepath.Join(e.WorkDir, "d", "people", n+".yaml"))
			}
			e.Setenv("GREATSEAL_CONFIG", filepath.Join(e.WorkDir, "d", "people", "alice.yaml"))
			e.Setenv("HOME", filepath.Join(e.WorkDir, "home"))
			e.Setenv("TEMPLATE", template)
			e.Setenv("OSSLSIGNCODE", formattest.Program(t, "osslsigncode", "make judges"))
			e.Setenv("COSIGN", formattest.Program(t, "cosign", "make judges"))
			e.Setenv("MACHO", must(filepath.Abs(filepath.Join("..", "..", "format", "bundle", "testdata", "program"))))
			e.Setenv("PE", must(filepath.Abs(filepath.Join("..", "..", "format", "pe", "testdata", "signed.exe"))))
			e.Values[proxyKey{}] = &proxied{}
			return os.Mkdir(filepath.Join(e.WorkDir, "home"), 0o700)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"deployment": deployment, "pending": pending, "asked": asked, "member": member, "isjson": isJSON,
			"arow": aRow, "registry": registryWith, "proxy": proxy, "lie": lie, "swap": swap, "passed": passed, "flip": flip,
		},
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// start runs the server of a deployment until it listens, and returns what ends it.
func start(dir string, env []string) (stop func(), err error) {
	exe, err := exec.LookPath("greatseal")
	if err != nil {
		return nil, err
	}
	c := exec.Command(exe, "dev", "--dir", dir, "--listen", "unix:"+filepath.Join(dir, "s.sock"))
	c.Env = env
	var bad bytes.Buffer
	c.Stderr = &bad
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	listens := make(chan error, 1)
	go func() {
		b := make([]byte, 1)
		_, err := io.ReadFull(out, b) // the first word comes when it listens
		listens <- err
		_, _ = io.Copy(io.Discard, out)
	}()
	stop = func() {
		_ = c.Process.Signal(syscall.SIGTERM)
		_ = c.Wait()
	}
	select {
	case err = <-listens:
	case <-time.After(patience):
		err = errors.New("it does not listen")
	}
	if err != nil {
		stop()
		return nil, fmt.Errorf("deployment: %w: %s", err, bad.String())
	}
	return stop, nil
}

// found makes one deployment, of which every story gets a copy.
func found(t *testing.T) string {
	dir, err := os.MkdirTemp("", "gs") // short: a socket's path has little room
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	stop, err := start(filepath.Join(dir, "d"), append(os.Environ(), "HOME="+dir))
	if err != nil {
		t.Fatal(err)
	}
	stop()
	return filepath.Join(dir, "d")
}

func deployment(ts *testscript.TestScript, _ bool, _ []string) {
	dir := ts.MkAbs("d")
	ts.Check(copyTree(dir, ts.Getenv("TEMPLATE")))
	stop, err := start(dir, append(os.Environ(), "HOME="+ts.Getenv("HOME")))
	ts.Check(err)
	ts.Defer(stop)
}

// copyTree copies regular files with their modes, which matter: keys are private.
func copyTree(to, from string) error {
	return filepath.WalkDir(from, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			return os.MkdirAll(filepath.Join(to, rel), st.Mode().Perm())
		case !d.Type().IsRegular():
			return nil
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), b, st.Mode().Perm())
	})
}

// eventually asks until it is answered.
func eventually(ts *testscript.TestScript, what string, f func() bool) {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if f() {
			return
		}
	}
	ts.Fatalf("%s: it does not come", what)
}

// open lists the open requests.
func open(ts *testscript.TestScript, args ...string) (ids []string) {
	exe, err := exec.LookPath("greatseal")
	ts.Check(err)
	c := exec.Command(exe, append([]string{"--json", "request", "list", "--state", "pending,endorsed"}, args...)...)
	c.Env = append(os.Environ(), "HOME="+ts.Getenv("HOME"), "GREATSEAL_CONFIG="+ts.Getenv("GREATSEAL_CONFIG"))
	b, err := c.Output()
	ts.Check(err)
	var list struct{ Requests []struct{ ID string } }
	ts.Check(json.Unmarshal(b, &list))
	for _, v := range list.Requests {
		ids = append(ids, v.ID)
	}
	return ids
}

func pending(ts *testscript.TestScript, _ bool, args []string) {
	eventually(ts, "an open request", func() bool {
		ids := open(ts)
		if len(ids) > 0 {
			ts.Setenv(args[0], ids[0])
		}
		return len(ids) > 0
	})
}

func asked(ts *testscript.TestScript, _ bool, args []string) {
	eventually(ts, "a request about "+args[0], func() bool { return len(open(ts, "--name", args[0])) > 0 })
}

// lookup finds a member by its path.
func lookup(b []byte, path string) (string, error) {
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return "", err
	}
	for _, p := range strings.Split(path, ".") {
		switch x := v.(type) {
		case map[string]any:
			var ok bool
			if v, ok = x[p]; !ok {
				return "", fmt.Errorf("no member %s in %s", p, b)
			}
		case []any:
			i, err := strconv.Atoi(p)
			if err != nil || i >= len(x) {
				return "", fmt.Errorf("no element %s in %s", p, b)
			}
			v = x[i]
		default:
			return "", fmt.Errorf("nothing below %s in %s", p, b)
		}
	}
	return fmt.Sprint(v), nil
}

func member(ts *testscript.TestScript, _ bool, args []string) {
	v, err := lookup([]byte(ts.ReadFile("stdout")), args[1])
	ts.Check(err)
	ts.Setenv(args[0], v)
}

func isJSON(ts *testscript.TestScript, _ bool, _ []string) {
	d := json.NewDecoder(strings.NewReader(ts.ReadFile("stdout")))
	var v any
	if err := d.Decode(&v); err != nil {
		ts.Fatalf("standard output is no JSON: %v", err)
	}
	if err := d.Decode(&v); !errors.Is(err, io.EOF) {
		ts.Fatalf("more than one document on standard output: %v", err)
	}
}

func aRow(ts *testscript.TestScript, _ bool, args []string) {
	eventually(ts, "a line of "+args[0], func() bool {
		b, err := os.ReadFile(ts.MkAbs(args[0]))
		i := bytes.IndexByte(b, '\n')
		if err != nil || i < 0 {
			return false
		}
		v, err := lookup(b[:i], args[2])
		ts.Check(err)
		ts.Setenv(args[1], v)
		return true
	})
}

type proxyKey struct{}

type proxied struct {
	left, bytes atomic.Int64
	lie         atomic.Value // string
	swap        atomic.Value // *strings.Replacer
}

// lie alters one letter, or one byte, in the middle of an answer.
func (p *proxied) alter(r *http.Response) error {
	suffix, ok := p.lie.Load().(string)
	if !ok || suffix == "" || !strings.HasSuffix(r.Request.URL.Path, suffix) {
		return nil
	}
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	if i := len(b) / 2; r.Header.Get("Content-Type") == "application/cbor-seq" {
		b[i] ^= 1
	} else {
		for i < len(b)-1 && (b[i] < 'a' || b[i] > 'y') {
			i++
		}
		b[i]++
	}
	r.Body = io.NopCloser(bytes.NewReader(b))
	return nil
}

func lie(ts *testscript.TestScript, _ bool, args []string) {
	ts.Value(proxyKey{}).(*proxied).lie.Store(strings.Join(args, ""))
}

func swap(ts *testscript.TestScript, _ bool, args []string) {
	ts.Value(proxyKey{}).(*proxied).swap.Store(strings.NewReplacer("/requests/"+args[0], "/requests/"+args[1]))
}

func proxy(ts *testscript.TestScript, _ bool, args []string) {
	p := ts.Value(proxyKey{}).(*proxied)
	n, err := strconv.ParseInt(args[0], 10, 64)
	ts.Check(err)
	p.left.Store(n)
	if ts.Getenv("PROXY") != "" {
		return
	}
	socket := ts.MkAbs(filepath.Join("d", "s.sock"))
	r := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			path := r.In.URL.Path
			if s, ok := p.swap.Load().(*strings.Replacer); ok {
				path = s.Replace(path)
			}
			r.Out.URL = &url.URL{Scheme: "http", Host: "server", Path: path, RawQuery: r.In.URL.RawQuery}
			r.Out.Host = r.In.Host
		},
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}},
		ModifyResponse: p.alter,
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.Method == http.MethodPatch {
			if p.left.Add(-1) < 0 {
				http.Error(w, "cut", http.StatusForbidden)
				return
			}
			p.bytes.Add(q.ContentLength)
		}
		r.ServeHTTP(w, q)
	})}
	go func() { _ = s.Serve(l) }()
	ts.Defer(func() { _ = s.Close() })
	ts.Setenv("PROXY", "http://"+l.Addr().String())
}

func passed(ts *testscript.TestScript, _ bool, args []string) {
	if got := ts.Value(proxyKey{}).(*proxied).bytes.Load(); fmt.Sprint(got) != args[0] {
		ts.Fatalf("%d bytes were uploaded, want %s", got, args[0])
	}
}

func flip(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	b, err := os.ReadFile(path)
	ts.Check(err)
	i, err := strconv.Atoi(args[1])
	ts.Check(err)
	if i < 0 {
		i += len(b)
	}
	b[i] ^= 0xff
	ts.Check(os.WriteFile(path, b, 0o644))
}
