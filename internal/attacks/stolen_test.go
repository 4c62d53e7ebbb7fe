package attacks

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json/v2"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/format/all"
	"github.com/greatseal-io/greatseal/internal/api"
	apiwire "github.com/greatseal-io/greatseal/internal/api/wire"
	"github.com/greatseal-io/greatseal/internal/author"
	"github.com/greatseal-io/greatseal/internal/keeper"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/key/soft"
	"github.com/greatseal-io/greatseal/statement"
	"github.com/greatseal-io/greatseal/verify"
)

// Somebody with the server's whole host (its database, its connection to the
// keeper, the inspector's key, every token) gets no signature under a policy
// that people endorse, and no change of charter or keys.
func TestAttackStolenServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	host := w.people.People["inspector"] // the one key that a server's host has
	items := w.items("ransomware")

	// Requests of his own making, in all names, with the key that he has.
	for _, who := range []string{"alice", "bob", "carol", "inspector"} {
		for _, policy := range []string{"release", "release-other", "inspected", "nightly"} {
			items := items
			if policy == "nightly" {
				b, _ := w.item("cms", "nightly-1.bin", "ransomware")
				items = [][]byte{b}
			}
			thief := &author.Author{Name: who, Signer: host.Signer, Now: w.now, Rand: zeros{}}
			env, _, err := thief.Request(w.ctx, w.people.Charter, w.ref, w.signCommand(policy, items), author.RequestOptions{})
			check(t, err)
			var votes [][]byte
			req, id := decode[statement.Request](t, env)
			for _, e := range []string{"bob", "carol", "scanner", "inspector"} {
				a := &author.Author{Name: e, Signer: host.Signer, Now: w.now}
				b, err := a.Endorsement(w.ctx, &req, id, statement.Endorse, "", 0, map[string]string{"plans-recomputed": "1 of 1"})
				check(t, err)
				votes = append(votes, b)
			}
			w.denied(who+" under "+policy, env, items, votes...)
			if _, _, err := w.server.Submit(w.ctx, env, items); err == nil {
				t.Errorf("%s under %s: the server took it", who, policy)
			}
		}
	}
	// Genuine requests that wait, pushed along: with endorsements that there are,
	// and the inspector's.
	env := w.ask("alice", "release", items)
	id := w.submit(env, items).ID
	w.endorse(env, "bob", "scanner")
	w.denied("a genuine request, one vote short", env, items, w.endorsement("bob", env), w.endorsement("scanner", env), w.endorsement("inspector", env))
	_, err := w.db.Exec("UPDATE requests SET state = 'endorsed', code = '' WHERE id = $1", id[:])
	check(t, err)
	_ = w.server.Execute(w.ctx, id)

	// Privileged commands, in the inspector's name and in those of officers.
	payload := payloadOf(t, w.people.Found)
	for _, cmd := range []statement.Command{
		{Name: statement.KeyGenerate, Generate: &statement.GenerateArgs{Key: "release", Subject: "CN=x"}},
		{Name: statement.KeySuspend, Key: &statement.KeyArgs{Key: "release"}},
		{Name: statement.KeyDestroy, Key: &statement.KeyArgs{Key: "release"}},
		{Name: statement.CharterReplace, Charter: &statement.CharterArgs{Statement: payload}},
	} {
		for _, who := range []string{"alice", "inspector"} {
			thief := &author.Author{Name: who, Signer: host.Signer, Now: w.now, Rand: zeros{}}
			env, _, err := thief.Request(w.ctx, w.people.Charter, w.ref, cmd, author.RequestOptions{})
			check(t, err)
			w.denied(string(cmd.Name)+" by "+who, env, nil, w.endorsement("inspector", env))
		}
	}
	// What else the keeper's wire offers.
	if err := w.keeper.Found(w.ctx, w.people.Found); err != nil {
		t.Errorf("the same founding again: %v", err) // and nothing changes
	}
	if _, err := w.keeper.Timestamp(w.ctx, []byte("x")); keeper.ErrorCode(err) != "timestamp" {
		t.Errorf("a timestamp where there is no authority: %v", err)
	}
	if n := w.signedBy("release") + w.signedBy("release-other") + w.signedBy("inspected") + w.signedBy("nightly"); n != 0 {
		t.Errorf("%d requests were executed", n)
	}
	st := w.status()
	if st.Charter.Version != 1 || slices.ContainsFunc(st.Keys, func(k keeper.KeyStatus) bool { return k.State != "active" }) {
		t.Errorf("charter %d, keys %v", st.Charter.Version, st.Keys)
	}
	// With the keystore's file too, but without its passphrase.
	b, err := os.ReadFile(filepath.Join(w.dir, "keystore"))
	check(t, err)
	copied := filepath.Join(t.TempDir(), "keystore")
	check(t, os.WriteFile(copied, b, 0o600))
	for _, guess := range []string{"", "greatseal", "passphrase", w.people.Root.String()} {
		if p, err := soft.Open(copied, []byte(guess)); err == nil {
			p.Close()
			t.Errorf("%q opens the keystore", guess)
		}
	}
}

// zeros is randomness for requests that nobody should take.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// A token or session opens doors to reading and handing in. It signs nothing:
// what its thief hands in needs the signatures that he does not have.
func TestAttackStolenToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	a, err := api.New(api.Config{Server: w.server, Store: w.store, Clock: w.now, Admins: []string{"alice"}})
	check(t, err)
	srv := httptest.NewServer(a.Handler())
	t.Cleanup(srv.Close)
	t.Cleanup(a.Stop)

	items := w.items("malware")
	waiting := w.ask("alice", "release", items)
	id := w.submit(waiting, items).ID
	call := func(token, method, path string, body any) (int, string) {
		t.Helper()
		var r io.Reader
		if body != nil {
			b, err := json.Marshal(body)
			check(t, err)
			r = bytes.NewReader(b)
		}
		q, err := http.NewRequestWithContext(w.ctx, method, srv.URL+"/v1"+path, r)
		check(t, err)
		q.Header.Set("Content-Type", "application/json")
		q.Header.Set("Authorization", "Bearer "+token)
		resp, err := srv.Client().Do(q)
		check(t, err)
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		check(t, err)
		return resp.StatusCode, string(b)
	}
	refused := func(what, token, path string, body any) {
		t.Helper()
		if code, b := call(token, "POST", path, body); code != 400 && code != 401 && code != 403 {
			t.Errorf("%s: %d %s", what, code, b)
		}
	}
	// Sessions of everybody and tokens with every scope, as if all were stolen.
	for _, name := range []string{"alice", "bob", "carol", "scanner", "inspector"} {
		for _, scopes := range [][]string{{"session"}, api.Scopes()} {
			token := w.plant(name, scopes)
			if code, body := call(token, "GET", "/requests/"+id.String(), nil); code != 200 {
				t.Fatalf("%s %v: the token does not work, and the test shows nothing: %d %s", name, scopes, code, body)
			}
			// A request in the owner's name, signed by nobody or with another key.
			for what, env := range map[string][]byte{
				"another's signature": w.envelope(payloadOf(t, w.ask("alice", "release", w.items("x"))), "inspector"),
				"a signature altered": twist(t, w.ask("alice", "release", w.items("x")), flip),
			} {
				refused(name+" requests with "+what, token, "/requests", apiwire.Submission{Envelope: env, Items: w.items("x")})
			}
			for _, who := range []string{"bob", "carol", "scanner"} {
				for what, e := range map[string][]byte{
					"another's signature": w.envelope(payloadOf(t, w.endorsement(who, waiting)), "inspector"),
					"a signature altered": twist(t, w.endorsement(who, waiting), flip),
				} {
					refused(name+" endorses as "+who+" with "+what, token, "/endorsements", apiwire.Endorsing{Envelope: e})
				}
			}
			sig := w.signature(w.people.People["inspector"].Signer, server.CancelMessage(id))
			refused(name+" withdraws", token, "/requests/"+id.String()+"/cancel",
				apiwire.Cancelling{Requester: "alice", Signature: apiwire.Signature{KeyID: string(w.people.People["alice"].Signer.Credential().ID()), Sig: sig.Sig}})
		}
	}
	r, err := w.server.Get(w.ctx, id)
	check(t, err)
	if r.State != store.Pending || len(r.Endorsements) != 0 {
		t.Errorf("the request is %s with %d endorsements", r.State, len(r.Endorsements))
	}
	list, err := w.server.List(w.ctx, store.Filter{States: []store.State{store.Pending, store.Endorsed}})
	check(t, err)
	if len(list) != 1 {
		t.Errorf("%d requests are open", len(list))
	}
	// The owner's own signature is what was missing, whoever hands it in.
	if code, body := call(w.plant("carol", []string{"session"}), "POST", "/endorsements", apiwire.Endorsing{Envelope: w.endorsement("bob", waiting)}); code != 200 {
		t.Errorf("a genuine endorsement: %d %s", code, body)
	}
	// A token whose principal has left the charter, and one that is over, open nothing.
	for what, token := range map[string]string{"of nobody": w.plant("mallory", []string{"session"}), "guessed": "gs_0000000000000000_" + strings.Repeat("A", 43)} {
		if code, _ := call(token, "GET", "/requests/"+id.String(), nil); code != 401 && code != 403 {
			t.Errorf("a token %s: %d", what, code)
		}
	}
}

// plant writes a token into the database, as somebody would who steals one.
func (w *world) plant(name string, scopes []string) string {
	w.Helper()
	b := make([]byte, 40)
	rand.Read(b)
	id := hex.EncodeToString(b[:8])
	token := "gs_" + id + "_" + base64.RawURLEncoding.EncodeToString(b[8:])
	pin := ""
	if p, ok := w.people.People[name]; ok {
		pin = credential.Pin(p.Signer.Credential())
	}
	check(w, w.store.PutToken(w.ctx, store.Token{Hash: sha256.Sum256([]byte(token)), ID: id, Principal: name, Scopes: scopes, Credential: pin, Created: w.now(), Expires: w.now().Add(time.Hour)}))
	return token
}

// A client finishes its files from what a server gives it, and finds out when
// that is another request's result or another file's evidence.
func TestAttackResultOfAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	contents := [][]string{{"mine", "mine too"}, {"theirs", "theirs too"}}
	var ids []statement.ID
	var items [][][]byte
	for _, c := range contents {
		it := w.items(c...)
		ids = append(ids, idOf(t, w.sign(it)))
		items = append(items, it)
	}
	w.published()
	evidence := func(request, file int) *verify.Evidence {
		ev, err := w.server.Evidence(w.ctx, ids[request], file)
		check(t, err)
		return ev
	}
	res0, err := w.server.Collect(w.ctx, ids[0])
	check(t, err)
	res1, err := w.server.Collect(w.ctx, ids[1])
	check(t, err)
	if _, err := finish(w, res0, evidence(0, 0), 0, items[0][0], "mine"); err != nil {
		t.Fatalf("an honest result: %v", err)
	}
	if _, err := finish(w, res1, evidence(0, 0), 0, items[0][0], "mine"); err == nil {
		t.Error("the result of another request was taken")
	}
	if _, err := finish(w, res1, evidence(1, 0), 0, items[0][0], "mine"); err == nil {
		t.Error("result and evidence of another request were taken")
	}
	if _, err := finish(w, res0, evidence(0, 0), 1, items[0][1], "mine too"); err == nil {
		t.Error("evidence of another file of the request was taken")
	}
	if _, err := finish(w, res0, evidence(0, 1), 0, items[0][1], "mine too"); err == nil {
		t.Error("the signature of another file of the request was taken")
	}
	if _, err := finish(w, res0, evidence(1, 0), 0, items[0][0], "mine"); err == nil {
		t.Error("evidence of another request was taken")
	}
	if _, err := finish(w, res0, evidence(0, 0), 0, items[0][0], "not mine"); err == nil {
		t.Error("another file was taken")
	}
	// Parts exchanged: each is genuine, together they are nothing.
	a, b := evidence(0, 0), evidence(1, 0)
	_, thief, err := newCertificate(w)
	check(t, err)
	for what, mix := range map[string]func(e *verify.Evidence){
		"request":         func(e *verify.Evidence) { e.Request = b.Request },
		"endorsements":    func(e *verify.Evidence) { e.Endorsements = b.Endorsements },
		"one endorsement": func(e *verify.Evidence) { e.Endorsements = append(slices.Clone(e.Endorsements), b.Endorsements[0]) },
		"one left out":    func(e *verify.Evidence) { e.Endorsements = e.Endorsements[1:] },
		"receipt":         func(e *verify.Evidence) { e.Receipt = b.Receipt },
		"item":            func(e *verify.Evidence) { e.File.Item = b.File.Item },
		"item and proof":  func(e *verify.Evidence) { e.File.Item, e.File.ItemProof = b.File.Item, b.File.ItemProof },
		"signatures":      func(e *verify.Evidence) { e.File.Signatures = b.File.Signatures },
		"log":             func(e *verify.Evidence) { e.Log = b.Log },
		"entry":           func(e *verify.Evidence) { e.Log.Entry = b.Log.Entry },
		"certificate": func(e *verify.Evidence) {
			e.File.Certificates = append([][]byte{thief}, e.File.Certificates[1:]...)
		},
		"certificates' order": func(e *verify.Evidence) {
			e.File.Certificates = slices.Clone(e.File.Certificates)
			slices.Reverse(e.File.Certificates)
		},
		"file": func(e *verify.Evidence) { e.File = b.File },
	} {
		e := *a
		mix(&e)
		if _, err := verify.Judge(&e, w.people.Root, all.Formats()); err == nil {
			t.Errorf("the %s of another document was taken", what)
		}
	}
	// A row of results under another request: the server itself notices.
	_, err = w.db.Exec("UPDATE results SET data = (SELECT data FROM results WHERE request = $1) WHERE request = $2", ids[1][:], ids[0][:])
	check(t, err)
	if _, err := w.server.Collect(w.ctx, ids[0]); err == nil {
		t.Error("the server hands out the result of another request")
	}
}
