package attacks

import (
	"bytes"
	"encoding/binary"
	"errors"
	"go/build"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/author"
	"github.com/greatseal-io/greatseal/internal/keeper"
	"github.com/greatseal-io/greatseal/internal/keeper/wire"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/internal/trial"
	"github.com/greatseal-io/greatseal/key"
	"github.com/greatseal-io/greatseal/key/soft"
	"github.com/greatseal-io/greatseal/statement"
)

const module = "github.com/greatseal-io/greatseal/"

// Nothing reaches a key but what the keeper judges: its interface has no other
// door, its wire takes no other message, the keystore is nothing without its
// passphrase, and the server's program has no way to hold a key.
func TestLeakWayAroundTheQueue(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{stamps: true})
	t.Run("interface", func(t *testing.T) {
		// Execute judges; Checkpoint and Timestamp use keys of their own for one
		// purpose each; Consider checks signatures ahead and changes nothing; the
		// others read, or stop.
		want := []string{"Chain", "Checkpoint", "Close", "Consider", "Execute", "Found", "Observe", "Receipts", "Status", "Timestamp"}
		for what, typ := range map[string]reflect.Type{"interface": reflect.TypeFor[keeper.Keeper](), "keeper": reflect.TypeFor[*keeper.Local]()} {
			var got []string
			for i := range typ.NumMethod() {
				got = append(got, typ.Method(i).Name)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s has the methods %v: want %v; one that is added needs its reason here", what, got, want)
			}
		}
	})
	t.Run("types", func(t *testing.T) {
		held := typesWithin(reflect.TypeFor[server.Server]())
		if len(held) < 50 || !held[reflect.TypeFor[keeper.Keeper]()] {
			t.Fatalf("%d types were seen: does the walk work?", len(held))
		}
		for typ := range held {
			if p := typ.PkgPath(); strings.HasPrefix(p, module+"key") || p == module+"internal/keeper/host" || typ == reflect.TypeFor[keeper.Local]() {
				t.Errorf("a server holds a %s", typ)
			}
		}
	})
	t.Run("imports", func(t *testing.T) {
		for _, from := range []string{"internal/server", "internal/api", "internal/store", "internal/notify"} {
			seen := closure(t, from)
			for p := range seen {
				if strings.HasPrefix(p, "key/") || p == "internal/keeper/host" || strings.HasPrefix(p, "cmd/") {
					t.Errorf("%s reaches %s", from, p)
				}
			}
		}
		if !closure(t, "internal/keeper/host")["key/soft"] {
			t.Error("the walk does not find what is there")
		}
	})
	t.Run("wire", func(t *testing.T) { w.in(t).wireTakesNothingElse() })
	t.Run("keystore", func(t *testing.T) {
		path := filepath.Join(w.dir, "keystore")
		for _, pass := range []string{"", "wrong", passphrase + " ", "An attacker does not know this"} {
			if p, err := soft.Open(path, []byte(pass)); err == nil {
				p.Close()
				t.Errorf("%q opens the keystore", pass)
			}
		}
		b, err := os.ReadFile(path)
		check(t, err)
		for _, plain := range []string{"PRIVATE KEY", "soft:release", "release", "keeper-receipts"} {
			if bytes.Contains(b, []byte(plain)) {
				t.Errorf("the keystore says %q in plain", plain)
			}
		}
	})
	t.Run("own keys", func(t *testing.T) {
		// Receipts, checkpoints and timestamps are other keys than those of
		// policies, and the keeper does not sign a file with them.
		st := w.status()
		var keys [][]byte
		keys = append(keys, st.ReceiptKey, st.LogKey)
		for _, k := range st.Keys {
			keys = append(keys, k.PublicKey)
		}
		for i := range keys {
			for j := range i {
				if bytes.Equal(keys[i], keys[j]) || bytes.HasSuffix(keys[i], keys[j]) {
					t.Error("one key for two purposes")
				}
			}
		}
		w := w.in(t)
		for _, uri := range []key.URI{"soft:keeper-receipts", "soft:keeper-log", "soft:stamp"} {
			next, err := charter.Next(w.people.Charter, w.ref, w.people.Charter.Created)
			check(t, err)
			k := next.Keys["other"]
			k.URI = uri
			next.Keys["other"] = k
			payload, err := charter.Encode(next)
			if err != nil {
				continue // the charter's own check refuses it: two names for one key
			}
			env := w.request("alice", statement.Command{Name: statement.CharterReplace, Charter: &statement.CharterArgs{Statement: payload}})
			rc, _, err := w.keeperSays(env, nil, w.endorsement("carol", env), w.endorsement("dave", env))
			check(t, err)
			if rc.Outcome != statement.Refused {
				t.Errorf("a policy's key is %s now", uri)
			}
		}
	})
}

// typesWithin walks all types that a value of type t can hold without an
// interface being looked behind, and the types in the methods of interfaces.
func typesWithin(t reflect.Type) map[reflect.Type]bool {
	seen := map[reflect.Type]bool{}
	var walk func(reflect.Type)
	walk = func(t reflect.Type) {
		if seen[t] {
			return
		}
		seen[t] = true
		switch t.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Chan:
			walk(t.Elem())
		case reflect.Map:
			walk(t.Key())
			walk(t.Elem())
		case reflect.Struct:
			for i := range t.NumField() {
				walk(t.Field(i).Type)
			}
		case reflect.Func:
			for i := range t.NumIn() {
				walk(t.In(i))
			}
			for i := range t.NumOut() {
				walk(t.Out(i))
			}
		case reflect.Interface:
			if strings.HasPrefix(t.PkgPath(), module) {
				for i := range t.NumMethod() {
					walk(t.Method(i).Type)
				}
			}
		}
	}
	walk(t)
	// Strings and numbers of package key are names, not keys.
	for typ := range seen {
		if k := typ.Kind(); k != reflect.Struct && k != reflect.Interface && k != reflect.Pointer {
			delete(seen, typ)
		}
	}
	return seen
}

// closure is the packages of this module that pkg needs, tests left out.
func closure(t *testing.T, pkg string) map[string]bool {
	t.Helper()
	seen := map[string]bool{}
	var walk func(string)
	walk = func(p string) {
		if seen[p] {
			return
		}
		seen[p] = true
		b, err := build.ImportDir(filepath.Join("..", "..", filepath.FromSlash(p)), 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range b.Imports {
			if rel, own := strings.CutPrefix(i, module); own {
				walk(rel)
			}
		}
	}
	walk(pkg)
	delete(seen, pkg)
	return seen
}

// wireHead is a frame's head, as the wire's documentation has it.
type wireHead struct {
	Kind     uint8    `cbor:"1,keyasint"`
	ID       uint64   `cbor:"2,keyasint"`
	Method   string   `cbor:"3,keyasint"`
	Code     string   `cbor:"4,keyasint"`
	Text     string   `cbor:"5,keyasint"`
	Protocol string   `cbor:"6,keyasint"`
	Versions []uint64 `cbor:"7,keyasint"`
}

// wireTakesNothingElse speaks to the keeper's socket by hand.
func (w *world) wireTakesNothingElse() {
	dir := w.TempDir()
	ln, err := wire.Listen(filepath.Join(dir, "s", "k"))
	check(w, err)
	go wire.Server{Keeper: w.local, UIDs: []uint32{uint32(os.Geteuid())}}.Serve(w.ctx, ln)
	c, err := net.Dial("unix", ln.Addr().String())
	check(w, err)
	defer c.Close()
	check(w, c.SetDeadline(time.Now().Add(4*time.Minute)))
	send := func(h wireHead, body []byte) {
		hb, err := format.Encode(h)
		check(w, err)
		p := binary.BigEndian.AppendUint32(nil, uint32(2+len(hb)+len(body)))
		p = binary.BigEndian.AppendUint16(p, uint16(len(hb)))
		_, err = c.Write(append(append(p, hb...), body...))
		check(w, err)
	}
	receive := func() (h wireHead, body []byte) {
		var p [6]byte
		_, err := io.ReadFull(c, p[:])
		check(w, err)
		b := make([]byte, binary.BigEndian.Uint32(p[:])-2)
		_, err = io.ReadFull(c, b)
		check(w, err)
		n := binary.BigEndian.Uint16(p[4:])
		check(w, format.Decode(b[:n], &h))
		return h, b[n:]
	}
	send(wireHead{Kind: 1, Protocol: "greatseal keeper", Versions: []uint64{1}}, nil)
	if h, _ := receive(); h.Kind != 1 || len(h.Versions) != 1 {
		w.Fatalf("hello was answered by %+v", h)
	}
	uses := func() int {
		return w.soft.used("soft:release") + w.soft.used("soft:other") + w.soft.used("soft:stamp") + w.soft.used("soft:keeper-receipts") + w.soft.used("soft:keeper-log")
	}
	id := uint64(0)
	call := func(method string, body []byte) wireHead {
		id++
		send(wireHead{Kind: 2, ID: id, Method: method}, body)
		h, _ := receive()
		return h
	}
	if h := call("status", nil); h.Code != "" {
		w.Fatalf("status: %s", h.Text)
	}
	w.published() // the server uses the log's key when it likes
	before := uses()
	digest := bytes.Repeat([]byte{7}, 32)
	for _, m := range []string{"", "sign", "Sign", "Execute", "execute ", "open", "generate", "destroy", "close", "Close", "key", "provider", "export", "reset", "observe2", "chain\x00"} {
		if h := call(m, digest); h.Code != "malformed" {
			w.Errorf("method %q: %s %s", m, h.Code, h.Text)
		}
	}
	for _, m := range []string{"execute", "checkpoint", "receipts", "observe", "found", "chain", "status"} {
		if h := call(m, digest); h.Code == "" {
			w.Errorf("%s of a bare digest was answered", m)
		}
	}
	call("timestamp", digest) // answered by a rejection, as RFC 3161 wants it
	if n := uses() - before; n != 0 {
		w.Errorf("keys were used %d times", n)
	}
}

// An endorsement is for these bytes, this format, key, policy and time, and for
// no others.
func TestLeakApprovalNotTiedToBytes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	items := w.items("what was endorsed", "and this")
	env := w.ask("alice", "release", items)
	w.submit(env, items)
	votes := w.everyone(env)
	evil := w.items("what was not", "and this")
	with := func(change func(r *statement.Request)) []byte {
		req, _ := decode[statement.Request](t, env)
		change(&req)
		payload, err := statement.Encode(req)
		check(t, err)
		return w.envelope(payload, "alice")
	}
	evilRoot, err := format.ItemsRoot(evil)
	check(t, err)

	w.denied("other items", env, evil, votes...)
	w.denied("fewer items", env, items[:1], votes...)
	w.denied("more items", env, append(slices.Clone(items), evil[0]), votes...)
	w.denied("items in another order", env, [][]byte{items[1], items[0]}, votes...)
	w.denied("no items", env, nil, votes...)
	for what, request := range map[string][]byte{
		"another root":       with(func(r *statement.Request) { r.Command.Sign.Items = evilRoot.String() }),
		"another format":     with(func(r *statement.Request) { r.Command.Sign.Formats = []string{"pe"} }),
		"another key":        with(func(r *statement.Request) { r.Command.Sign.Key = "other" }),
		"key and its policy": with(func(r *statement.Request) { r.Command.Sign.Key, r.Command.Sign.Policy = "other", "release-other" }),
		"another policy":     with(func(r *statement.Request) { r.Command.Sign.Policy = "inspected" }),
		"another purpose":    with(func(r *statement.Request) { r.Command.Sign.Purpose = "firmware" }),
		"a longer life":      with(func(r *statement.Request) { r.Expires = r.Expires.Add(-time.Hour) }),
		"an earlier start":   with(func(r *statement.Request) { r.NotBefore = r.Created.Add(time.Second) }),
		"another requester": with(func(r *statement.Request) {
			r.Requester = "bob"
		}),
		"the same again": with(func(r *statement.Request) { r.Nonce = strings.Repeat("0", 32) }),
	} {
		w.denied(what, request, items, votes...)
		w.denied(what+", and items", request, evil, votes...)
	}
	// Altered without the requester's key, whoever endorsed the original.
	e, err := statement.DecodeEnvelope(env)
	check(t, err)
	e.Payload = bytes.Replace(e.Payload, []byte(`"policy":"release"`), []byte(`"policy":"nightly"`), 1)
	forged, err := e.Encode()
	check(t, err)
	if _, _, err := w.keeperSays(forged, items, votes...); !errors.Is(err, keeper.ErrMalformed) {
		t.Errorf("an altered request: %v", err)
	}
	w.endorse(env, "bob", "carol", "scanner")
	w.await(idOf(t, env), store.Executed)
	if n := w.signedBy("release"); n != 1 {
		t.Errorf("%d requests were executed", n)
	}
	// A window of time or a count is nothing that an endorsement can be for: once
	// executed, it is used up, for the same bytes too.
	w.denied("once more", with(func(r *statement.Request) { r.Nonce = strings.Repeat("1", 32) }), items, votes...)
}

// Whoever endorses is shown what a signature will cover, decoded, and what of it
// is the requester's word; his tool can check that it is what will be signed.
func TestLeakApproverSeesAHash(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	content := string(trial.Program())
	_, plan := w.item("pe", "setup.exe", content)
	item, err := author.Item(plan, "setup.exe", map[string]string{"FileVersion": "9.9.9", "signatures": "0 (promise)"})
	check(t, err)
	items := [][]byte{item}
	env := w.ask("alice", "release", items)
	r := w.submit(env, items)

	v, err := w.server.View(w.ctx, r, true)
	check(t, err)
	if v.Command.Sign == nil || v.Command.Sign.Policy != "release" || v.Requester != "alice" || v.Count != 1 || v.Decision.Missing == "" ||
		!slices.Equal(v.Awaits, []string{"bob", "carol", "dave", "scanner"}) {
		t.Errorf("the request is shown as %+v", v)
	}
	got, err := w.server.Items(w.ctx, r.ID)
	check(t, err)
	root, err := format.ItemsRoot(got)
	check(t, err)
	if root.String() != v.Command.Sign.Items {
		t.Error("the items shown are not those that are endorsed")
	}
	files, err := server.Files(got, 0, len(got))
	check(t, err)
	f := files[0]
	if f.Name != "setup.exe" || f.Format != "pe" || f.Size != int64(len(content)) || f.Digest != "sha256" || len(f.Content) != 64 || len(f.Params) == 0 || len(f.Facts) == 0 {
		t.Errorf("the file is shown as %+v", f)
	}
	// Claims stay claims: they do not appear among the facts or in the search.
	for _, x := range f.Facts {
		if x.Value == "9.9.9" || x.Value == "0 (promise)" {
			t.Errorf("a claim is shown as the fact %s", x.Name)
		}
	}
	if len(f.Claims) != 2 || f.Claims[0].Value != "9.9.9" {
		t.Errorf("claims are shown as %v", f.Claims)
	}
	found, err := w.store.Files(w.ctx, r.ID)
	check(t, err)
	if found[0].Version == "9.9.9" {
		t.Error("the search takes the requester's word for a version")
	}
	// An endorser's own build gives the same plan, byte by byte; another build does not.
	_, again := w.item("pe", "whatever.exe", content)
	a, err := plan.Encode()
	check(t, err)
	b, err := again.Encode()
	check(t, err)
	if !bytes.Equal(a, b) {
		t.Error("a plan is not the same when it is made again")
	}
	other := []byte(content)
	other[0x200] ^= 1
	_, again = w.item("pe", "setup.exe", string(other))
	if b, err = again.Encode(); err != nil || bytes.Equal(a, b) {
		t.Error("another program has the same plan")
	}
	// Facts that only the requester read are not said to be found by others.
	if len(v.Recomputed) != 0 {
		t.Errorf("recomputed by %v", v.Recomputed)
	}
	w.endorse(env, "bob")
	req, id := decode[statement.Request](t, env)
	said, err := w.people.People["scanner"].Endorsement(w.ctx, &req, id, statement.Endorse, "", 0, map[string]string{server.FindingRecomputed: "1 of 1"})
	check(t, err)
	r, err = w.server.Endorse(w.ctx, said)
	check(t, err)
	if v, err = w.server.View(w.ctx, r, false); err != nil || !slices.Equal(v.Recomputed, []string{"scanner"}) {
		t.Errorf("recomputed by %v, %v", v.Recomputed, err)
	}
	// A requester who lies about a fact is found out: by the structure beside it,
	// where the fact follows from that, and by whoever makes the plan from the file.
	lie := *plan
	lie.Facts = slices.Clone(plan.Facts)
	lie.Facts[0].Value = "DLL"
	item, err = author.Item(&lie, "setup.exe", nil)
	check(t, err)
	if _, _, err := w.server.Submit(w.ctx, w.ask("alice", "release", [][]byte{item}), [][]byte{item}); server.AsProblem(err).Code != "plan-refused" {
		t.Errorf("a fact that is not so: %v", err)
	}
	lie.Facts = append(slices.Clone(plan.Facts), format.Fact{Name: "ProductName", Value: "Somebody else's product"})
	if b, err = lie.Encode(); err != nil || bytes.Equal(a, b) {
		t.Error("a lie is not seen in the plan")
	}
}
