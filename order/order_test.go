package order_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/order"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/rejection"
)

var update = flag.Bool("update", false, "write the vectors anew")

var epoch = time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)

func keyFor(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func must[T any](t testing.TB, v T, err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func rec(key, sql string) *record.Record {
	return &record.Record{Ref: record.Ref{Table: "sys_data_source", Key: []string{key}}, Fields: map[string]string{"sql_statement": sql, "name": "nightly"},
		Attachments: []record.Attachment{{Name: "driver.jar", Type: "application/java-archive", Size: 3, SHA256: sha256.Sum256([]byte("jar"))}}}
}

// example is an order with its delivery.
func example(t testing.TB) (*order.Order, *order.Delivery) {
	t.Helper()
	r := rec("0123456789abcdef0123456789abcdef", "SELECT 1")
	o := &order.Order{Version: 1, ID: "00112233445566778899aabbccddeeff", Attempt: 1, Instance: "prod", Agent: "mid-1", Cluster: "dc-1", Topic: "JDBCProbe", Name: "nightly import",
		Priority: order.Expedited, Records: []order.Record{{Ref: r.Ref, Purpose: record.Queue, Digest: must(t, [32]byte{}, nil)}}, Params: map[string]string{"limit": "10", "since": "2026-01-01"},
		IssuedAt: epoch.Unix(), Expires: epoch.Add(order.DefaultLife).Unix(), Nonce: bytes.Repeat([]byte{7}, order.NonceSize)}
	sum, err := order.Content(r)
	o.Records[0].Digest = must(t, sum, err)
	return o, &order.Delivery{Records: []order.Item{order.ItemOf(r, nil)}}
}

func verifier() *order.Verifier {
	return &order.Verifier{Instance: "prod", Keys: []crypto.PublicKey{keyFor("other").Public(), keyFor("runtime").Public()}, Agent: "mid-1", Clusters: []string{"dc-1"}}
}

func sign(t testing.TB, o *order.Order) *order.Signed {
	t.Helper()
	s, err := order.Sign(o, keyFor("runtime"))
	return must(t, s, err)
}

func TestInvariant1OnlyOrdersForThisAgentNow(t *testing.T) {
	o, _ := example(t)
	now := epoch.Add(time.Minute)
	v, err := verifier().Verify(sign(t, o), now)
	if err != nil {
		t.Fatal(err)
	}
	if got := v.Order(); got.Params["limit"] != "10" || got.ID != o.ID || got.Records[0].Ref.Table != "sys_data_source" {
		t.Fatalf("%+v", got)
	}
	got := v.Order()
	got.Params["limit"], got.Nonce[0], got.Records[0].Ref.Key[0] = "11", 9, "changed"
	if again := v.Order(); again.Params["limit"] != "10" || again.Nonce[0] != 7 || again.Records[0].Ref.Key[0] == "changed" {
		t.Fatal("what was verified was changed through a copy")
	}
	for _, c := range []struct {
		name   string
		change func(*order.Order, *order.Verifier, *time.Time)
		want   rejection.Code
	}{
		{"another agent", func(o *order.Order, v *order.Verifier, _ *time.Time) { v.Agent = "mid-2" }, rejection.WrongAgent},
		{"an agent without a name", func(o *order.Order, v *order.Verifier, _ *time.Time) { v.Agent = "" }, rejection.WrongAgent},
		{"no member", func(o *order.Order, v *order.Verifier, _ *time.Time) { v.Clusters = nil }, rejection.WrongAgent},
		{"expired", func(o *order.Order, v *order.Verifier, now *time.Time) { *now = epoch.Add(order.DefaultLife) }, rejection.OrderExpired},
		{"long expired", func(o *order.Order, v *order.Verifier, now *time.Time) { *now = epoch.Add(1000 * time.Hour) }, rejection.OrderExpired},
		{"of the future", func(o *order.Order, v *order.Verifier, now *time.Time) { *now = epoch.Add(-time.Hour) }, rejection.NotYetValid},
		{"no keys", func(o *order.Order, v *order.Verifier, _ *time.Time) { v.Keys = nil }, rejection.OrderUnsigned},
		{"another key", func(o *order.Order, v *order.Verifier, _ *time.Time) { v.Keys = v.Keys[:1] }, rejection.OrderUnsigned},
		{"another instance", func(o *order.Order, v *order.Verifier, _ *time.Time) { v.Instance = "test" }, rejection.OrderUnsigned},
		{"no instance", func(o *order.Order, v *order.Verifier, _ *time.Time) { v.Instance = "" }, rejection.OrderUnsigned},
		{"another algorithm", func(o *order.Order, v *order.Verifier, _ *time.Time) {
			k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			v.Keys = []crypto.PublicKey{must(t, k, err).Public(), nil, "text", ed25519.PublicKey{1}}
		}, rejection.OrderUnsigned},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, _ := example(t)
			v, at := verifier(), now
			c.change(o, v, &at)
			if got, err := v.Verify(sign(t, o), at); got != nil || !errors.Is(err, &rejection.Error{Code: c.want}) {
				t.Fatalf("got %v: want %s", err, c.want)
			}
		})
	}
	if _, err := verifier().Verify(nil, now); !errors.Is(err, &rejection.Error{Code: rejection.OrderUnsigned}) {
		t.Fatalf("nil: %v", err)
	}
	if _, err := order.Sign(o, must(t, must1(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)), nil)); err == nil {
		t.Fatal("an ECDSA key signs orders")
	}
}

func must1[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A runtime key that signs for one purpose signs for no other.
func TestSignatureIsDomainSeparated(t *testing.T) {
	o, _ := example(t)
	s := sign(t, o)
	s.Signature = ed25519.Sign(keyFor("runtime"), s.Order)
	if _, err := verifier().Verify(s, epoch); !errors.Is(err, &rejection.Error{Code: rejection.OrderUnsigned}) {
		t.Fatalf("%v", err)
	}
}

// Every byte of a signed order counts.
func TestEveryByteFlipped(t *testing.T) {
	o, _ := example(t)
	b, err := sign(t, o).Encode()
	must(t, b, err)
	now := epoch.Add(time.Minute)
	if s, err := order.DecodeSigned(b); err != nil {
		t.Fatal(err)
	} else if _, err := verifier().Verify(s, now); err != nil {
		t.Fatal(err)
	}
	for i := range b {
		for _, bit := range []byte{1, 0x80, 0xff} {
			x := bytes.Clone(b)
			x[i] ^= bit
			s, err := order.DecodeSigned(x)
			if err == nil {
				_, err = verifier().Verify(s, now)
			}
			if err == nil || rejection.Of(err) == nil {
				t.Fatalf("byte %d, %#x: %v", i, bit, err)
			}
		}
		if s, err := order.DecodeSigned(b[:i]); err == nil {
			t.Fatalf("cut at %d: %+v", i, s)
		}
	}
	if _, err := order.DecodeSigned(append(bytes.Clone(b), 0)); err == nil {
		t.Fatal("bytes behind it are accepted")
	}
}

func TestInvariant2Limits(t *testing.T) {
	long := strings.Repeat("x", 200)
	for name, change := range map[string]func(*order.Order){
		"version":                 func(o *order.Order) { o.Version = 2 },
		"id":                      func(o *order.Order) { o.ID = strings.ToUpper(o.ID) },
		"short id":                func(o *order.Order) { o.ID = "00" },
		"attempt":                 func(o *order.Order) { o.Attempt = 0 },
		"no instance":             func(o *order.Order) { o.Instance = "" },
		"two lines":               func(o *order.Order) { o.Instance = "prod\ntest" },
		"no agent":                func(o *order.Order) { o.Agent = "" },
		"everybody":               func(o *order.Order) { o.Agent = "*" },
		"path":                    func(o *order.Order) { o.Agent = "../mid" },
		"cluster":                 func(o *order.Order) { o.Cluster = long },
		"topic":                   func(o *order.Order) { o.Topic = "" },
		"topic with space":        func(o *order.Order) { o.Topic = "JDBC Probe" },
		"long name":               func(o *order.Order) { o.Name = strings.Repeat("ä", 121) },
		"name turns":              func(o *order.Order) { o.Name = "a\u202eb" },
		"priority":                func(o *order.Order) { o.Priority = 3 },
		"no records":              func(o *order.Order) { o.Records = nil },
		"many records":            func(o *order.Order) { o.Records = make([]order.Record, order.MaxRecords+1) },
		"a record twice":          func(o *order.Order) { o.Records = append(o.Records, o.Records[0]) },
		"no table":                func(o *order.Order) { o.Records[0].Ref.Table = "" },
		"no key":                  func(o *order.Order) { o.Records[0].Ref.Key = nil },
		"an empty key":            func(o *order.Order) { o.Records[0].Ref.Key = []string{""} },
		"long key":                func(o *order.Order) { o.Records[0].Ref.Key = []string{strings.Repeat("x", 2000)} },
		"wild card":               func(o *order.Order) { o.Records[0].Purpose = record.Wildcard },
		"no purpose":              func(o *order.Order) { o.Records[0].Purpose = "" },
		"no time":                 func(o *order.Order) { o.IssuedAt = 0 },
		"ends before it begins":   func(o *order.Order) { o.Expires = o.IssuedAt },
		"lives for ever":          func(o *order.Order) { o.Expires = o.IssuedAt + 3601 },
		"nonce":                   func(o *order.Order) { o.Nonce = o.Nonce[1:] },
		"parameter's name":        func(o *order.Order) { o.Params = map[string]string{"a b": ""} },
		"parameter without name":  func(o *order.Order) { o.Params = map[string]string{"": "x"} },
		"long parameter":          func(o *order.Order) { o.Params = map[string]string{"a": strings.Repeat("x", order.MaxParam+1)} },
		"parameter no text":       func(o *order.Order) { o.Params = map[string]string{"a": "\xff"} },
		"long parameters":         func(o *order.Order) { o.Params = many(5, order.MaxParam) },
		"many parameters":         func(o *order.Order) { o.Params = many(order.MaxParams+1, 1) },
		"a wild parameter's name": func(o *order.Order) { o.Params = map[string]string{"../x": ""} },
	} {
		t.Run(name, func(t *testing.T) {
			o, _ := example(t)
			change(o)
			if _, err := o.Encode(); !errors.Is(err, &rejection.Error{Code: rejection.OrderMalformed}) {
				t.Fatalf("%v", err)
			}
		})
	}
}

func many(n, size int) map[string]string {
	out := map[string]string{}
	for i := range n {
		out["p"+strings.Repeat("x", i%50)+hex.EncodeToString([]byte{byte(i)})] = strings.Repeat("x", size)
	}
	return out
}

func TestInvariant4Keys(t *testing.T) {
	key := func(change func(*order.Order)) [32]byte {
		o, _ := example(t)
		change(o)
		v, err := verifier().Verify(sign(t, o), epoch.Add(time.Minute))
		return must(t, v, err).Key()
	}
	first := key(func(*order.Order) {})
	if first != key(func(o *order.Order) { o.Attempt, o.Nonce = 2, bytes.Repeat([]byte{8}, 16) }) {
		t.Error("another attempt has another key")
	}
	if first == key(func(o *order.Order) { o.ID = "10112233445566778899aabbccddeeff" }) {
		t.Error("another job has the same key")
	}
	again := key(func(o *order.Order) { o.Repeatable = true })
	if again == first || again == key(func(o *order.Order) { o.Repeatable, o.Attempt = true, 2 }) {
		t.Error("attempts of a repeatable job have one key")
	}
}

func TestInvariant5Parameters(t *testing.T) {
	o, _ := example(t)
	v, err := verifier().Verify(sign(t, o), epoch.Add(time.Minute))
	must(t, v, err)
	for _, c := range []struct {
		allowed []string
		want    string
	}{{[]string{"limit", "since"}, ""}, {[]string{"limit", "since", "x"}, ""}, {[]string{"limit"}, "since"}, {nil, "limit"}, {[]string{"Limit", "since"}, "limit"}} {
		err := v.CheckParams(c.allowed)
		if c.want == "" && err != nil || c.want != "" && !errors.Is(err, &rejection.Error{Code: rejection.ParamNotAllowed, Subject: c.want}) {
			t.Errorf("%v: %v", c.allowed, err)
		}
	}
	if err := v.WantParams("limit", "missing"); !errors.Is(err, &rejection.Error{Code: rejection.ParamMissing, Subject: "missing"}) {
		t.Errorf("%v", err)
	}
	if err := v.WantParams("limit", "since"); err != nil {
		t.Error(err)
	}
}

func TestInvariant6Deliveries(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*order.Delivery)
		bad    bool
	}{
		"as ordered":        {func(*order.Delivery) {}, false},
		"with a dependency": {func(d *order.Delivery) { d.Records = append(d.Records, order.ItemOf(rec("x", "y"), nil)) }, false},
		"nothing":           {func(d *order.Delivery) { d.Records = nil }, true},
		"another record":    {func(d *order.Delivery) { d.Records[0].Ref.Key = []string{"x"} }, true},
		"another table":     {func(d *order.Delivery) { d.Records[0].Ref.Table = "x" }, true},
		"a dependency first": {func(d *order.Delivery) {
			d.Records = append([]order.Item{order.ItemOf(rec("x", "y"), nil)}, d.Records...)
		}, true},
		"a changed field":     {func(d *order.Delivery) { d.Records[0].Fields["sql_statement"] = "DROP" }, true},
		"one field more":      {func(d *order.Delivery) { d.Records[0].Fields["extra"] = "1" }, true},
		"one field less":      {func(d *order.Delivery) { delete(d.Records[0].Fields, "name") }, true},
		"another attachment":  {func(d *order.Delivery) { d.Records[0].Attachments[0].SHA256[0] ^= 1 }, true},
		"one attachment less": {func(d *order.Delivery) { d.Records[0].Attachments = nil }, true},
	} {
		t.Run(name, func(t *testing.T) {
			o, d := example(t)
			s := sign(t, o)
			b, err := s.Encode()
			d.Order = must(t, b, err)
			v, err := verifier().Verify(s, epoch.Add(time.Minute))
			must(t, v, err)
			c.change(d)
			b, err = d.Encode()
			got, err := order.DecodeDelivery(must(t, b, err))
			must(t, got, err)
			named, others, err := v.Open(got)
			if c.bad {
				if !errors.Is(err, &rejection.Error{Code: rejection.RecordMismatch}) || named != nil || others != nil {
					t.Fatalf("%v", err)
				}
				return
			}
			if err != nil || len(named) != 1 || len(others) != len(d.Records)-1 {
				t.Fatalf("%v, %v, %v", named, others, err)
			}
		})
	}
}

func TestDeliveriesAreLimited(t *testing.T) {
	for name, change := range map[string]func(*order.Delivery){
		"signatures":     func(d *order.Delivery) { d.Records[0].Signatures = make([]record.Signature, order.MaxSignatures+1) },
		"records":        func(d *order.Delivery) { d.Records = make([]order.Item, order.MaxRecords+1) },
		"an empty field": func(d *order.Delivery) { d.Records[0].Fields["x"] = "" },
		"order of attachments": func(d *order.Delivery) {
			d.Records[0].Attachments = append(d.Records[0].Attachments, record.Attachment{Name: "a.jar"})
		},
		"size": func(d *order.Delivery) { d.Records[0].Fields["x"] = strings.Repeat("x", order.MaxDelivery) },
	} {
		_, d := example(t)
		change(d)
		if _, err := d.Encode(); rejection.Of(err) == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := order.DecodeDelivery(make([]byte, order.MaxDelivery+1)); !errors.Is(err, &rejection.Error{Code: rejection.PayloadTooLarge}) {
		t.Errorf("%v", err)
	}
}

func TestPriorities(t *testing.T) {
	for _, p := range []order.Priority{order.Interactive, order.Expedited, order.Standard} {
		if got, err := order.ParsePriority(p.String()); err != nil || got != p {
			t.Errorf("%v: %v, %v", p, got, err)
		}
	}
	if p, err := order.ParsePriority(""); err != nil || p != order.Standard {
		t.Errorf("%v, %v", p, err)
	}
	if _, err := order.ParsePriority("Interactive"); err == nil {
		t.Error("another word is accepted")
	}
}

// vector is one example for other implementations.
type vector struct {
	Name      string `json:"name"`
	PublicKey string `json:"publicKey"` // raw Ed25519
	Signed    string `json:"signed"`
	Agent     string `json:"agent"`
	Cluster   string `json:"cluster"`
	Time      int64  `json:"time"`
	Key       string `json:"key,omitzero"`
	Refused   string `json:"refused,omitzero"`
}

// The vectors are those that this implementation makes, and it judges them so.
func TestVectors(t *testing.T) {
	path := filepath.Join("..", "docs", "spec", "vectors", "orders.json")
	runtime := keyFor("runtime")
	var made []vector
	add := func(name string, agent string, at time.Time, change func(*order.Order, *order.Signed)) {
		o, _ := example(t)
		change(o, nil)
		s := sign(t, o)
		change(&order.Order{}, s)
		b, err := s.Encode()
		x := vector{Name: name, PublicKey: hex.EncodeToString(runtime.Public().(ed25519.PublicKey)), Signed: hex.EncodeToString(must(t, b, err)), Agent: agent, Cluster: "dc-1", Time: at.Unix()}
		v := verifier()
		v.Agent = agent
		got, err := v.Verify(s, at)
		if err != nil {
			x.Refused = string(rejection.Of(err).Code)
		} else {
			k := got.Key()
			x.Key = hex.EncodeToString(k[:])
		}
		made = append(made, x)
	}
	none := func(*order.Order, *order.Signed) {}
	now := epoch.Add(time.Minute)
	add("accepted", "mid-1", now, none)
	add("accepted, repeatable, third attempt", "mid-1", now, func(o *order.Order, s *order.Signed) { o.Repeatable, o.Attempt = true, 3 })
	add("for another agent", "mid-2", now, none)
	add("expired", "mid-1", epoch.Add(order.DefaultLife), none)
	add("signed without its domain", "mid-1", now, func(_ *order.Order, s *order.Signed) {
		if s != nil {
			s.Signature = ed25519.Sign(runtime, s.Order)
		}
	})
	add("changed after it was signed", "mid-1", now, func(_ *order.Order, s *order.Signed) {
		if s != nil {
			s.Order = bytes.Replace(s.Order, []byte("mid-1"), []byte("mid-2"), 1)
		}
	})
	add("not in the one encoding", "mid-1", now, func(_ *order.Order, s *order.Signed) {
		if s != nil {
			s.Order = append(s.Order, 0xf6)
			s.Signature = ed25519.Sign(runtime, order.Message(s.Order))
		}
	})
	b, err := json.Marshal(made, jsontext.WithIndent("  "))
	must(t, b, err)
	b = append(b, '\n')
	if *update {
		must(t, 0, os.WriteFile(path, b, 0o644))
	}
	want, err := os.ReadFile(path)
	if !bytes.Equal(must(t, want, err), b) {
		t.Error("docs/spec/vectors/orders.json is not what is made: go test ./order -run TestVectors -update")
	}
	refused := 0
	for _, v := range made {
		if v.Refused != "" {
			refused++
		}
	}
	if len(made)-refused != 2 {
		t.Errorf("%d of %d are accepted", len(made)-refused, len(made))
	}
}

func seeds(f *testing.F) {
	o, d := example(f)
	s := sign(f, o)
	b, err := s.Encode()
	d.Order = must(f, b, err)
	f.Add(b)
	f.Add(s.Order)
	b, err = d.Encode()
	f.Add(must(f, b, err))
	f.Add([]byte{0xa0})
}

// Whatever is accepted encodes to itself, and refusals are rejections.
func FuzzOrder(f *testing.F) {
	seeds(f)
	v := verifier()
	f.Fuzz(func(t *testing.T, b []byte) {
		if o, err := order.Decode(b); err != nil {
			if rejection.Of(err) == nil {
				t.Fatal(err)
			}
		} else if again, err := o.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x is %x again, %v", b, again, err)
		}
		s, err := order.DecodeSigned(b)
		if err != nil {
			if rejection.Of(err) == nil {
				t.Fatal(err)
			}
			return
		}
		if again, err := s.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x is %x again, %v", b, again, err)
		}
		if _, err := v.Verify(s, epoch); err != nil && rejection.Of(err) == nil {
			t.Fatal(err)
		}
	})
}

func FuzzDelivery(f *testing.F) {
	seeds(f)
	o, _ := example(f)
	v, err := verifier().Verify(sign(f, o), epoch.Add(time.Minute))
	must(f, v, err)
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := order.DecodeDelivery(b)
		if err != nil {
			if rejection.Of(err) == nil {
				t.Fatal(err)
			}
			return
		}
		if again, err := d.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x is %x again, %v", b, again, err)
		}
		if _, _, err := v.Open(d); err != nil && rejection.Of(err) == nil {
			t.Fatal(err)
		}
	})
}

func BenchmarkSign(b *testing.B) {
	o, _ := example(b)
	k := keyFor("runtime")
	for b.Loop() {
		if _, err := order.Sign(o, k); err != nil {
			b.Fatal(err)
		}
	}
}
