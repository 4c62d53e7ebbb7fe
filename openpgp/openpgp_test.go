package openpgp

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/sigalg"
)

var update = flag.Bool("update", false, "write the seeds anew")

var (
	created = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	at      = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
)

// signer is a key in memory.
type signer struct {
	crypto.Signer
	scheme sigalg.Scheme
	hash   crypto.Hash
}

func signers(t testing.TB) map[string]signer {
	t.Helper()
	r, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]signer{
		"rsa": {r, sigalg.RSAPKCS1SHA256, crypto.SHA256}, "p256": {p256, sigalg.ECDSASHA256, crypto.SHA256},
		"p384": {p384, sigalg.ECDSASHA384, crypto.SHA384}, "ed25519": {ed, sigalg.PureEd25519, crypto.SHA512},
	}
}

// packet signs a message and returns the body of the packet.
func (s signer) packet(t testing.TB, spec *Spec, message []byte) []byte {
	t.Helper()
	trailer, err := spec.Trailer()
	if err != nil {
		t.Fatal(err)
	}
	x := spec.Hash.New()
	x.Write(spec.Salt)
	x.Write(message)
	x.Write(trailer)
	digest := x.Sum(nil)
	v, err := s.Sign(rand.Reader, digest, s.scheme.SignerOpts())
	if err != nil {
		t.Fatal(err)
	}
	b, err := spec.Body(digest, v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (s signer) spec(t testing.TB, version int, typ Type) *Spec {
	t.Helper()
	k, err := NewKey(version, created, s.Public())
	if err != nil {
		t.Fatal(err)
	}
	spec := &Spec{Type: typ, Hash: s.hash, Created: at, Key: k}
	if version == 6 {
		spec.Salt = bytes.Repeat([]byte{7}, SaltSize(s.hash))
	}
	if err := spec.CheckScheme(s.scheme); err != nil {
		t.Fatal(err)
	}
	return spec
}

// Invariant 1: keys and signatures re-encode to themselves; and a signature is of its
// key over its message alone.
func TestSignatures(t *testing.T) {
	all := signers(t)
	for name, s := range all {
		for _, version := range []int{4, 6} {
			spec := s.spec(t, version, Binary)
			k, err := ParseKey(spec.Key.Body())
			if err != nil || !bytes.Equal(k.Body(), spec.Key.Body()) || !bytes.Equal(k.Fingerprint(), spec.Key.Fingerprint()) {
				t.Fatalf("%s %d: %v", name, version, err)
			}
			body := s.packet(t, spec, []byte("message"))
			sig, err := ParseSignature(body)
			if err != nil || !bytes.Equal(sig.Body(), body) {
				t.Fatalf("%s %d: %v", name, version, err)
			}
			if !sig.Created.Equal(at) || !bytes.Equal(sig.Fingerprint, k.Fingerprint()) || !bytes.Equal(sig.KeyID, k.ID()) || len(sig.Unhashed) > 0 {
				t.Errorf("%s %d: %+v", name, version, sig)
			}
			good := sum(sig, []byte("message"))
			if err := sig.Verify(s.Public(), good); err != nil {
				t.Errorf("%s %d: %v", name, version, err)
			}
			if sig.Verify(s.Public(), sum(sig, []byte("massage"))) == nil {
				t.Errorf("%s %d: another message is accepted", name, version)
			}
			for other, o := range all {
				if other != name && sig.Verify(o.Public(), good) == nil {
					t.Errorf("%s %d: accepted by %s", name, version, other)
				}
			}
			for i := range body {
				for _, x := range []byte{1, 0x80, 0xff} {
					b := bytes.Clone(body)
					b[i] ^= x
					if p, err := ParseSignature(b); err == nil && p.Verify(s.Public(), sum(p, []byte("message"))) == nil {
						t.Errorf("%s %d: byte %d ^ %#x is accepted", name, version, i, x)
					}
				}
				if _, err := ParseSignature(body[:i]); err == nil {
					t.Errorf("%s %d: the first %d bytes are a signature", name, version, i)
				}
			}
		}
	}
}

// The examples of RFC 9580: key and signature of appendices A.3 and A.7.
func TestPublishedVectors(t *testing.T) {
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	// A.1 and A.2: a version 4 Ed25519Legacy key, and its signature over "OpenPGP".
	v4, err := ParseKey(unhex("04 53f35f0b 16 09 2b06010401da470f01 0107 403f098994bdd916ed4053197934e4a87c80733a1280d62f8010992e43ee3b2406"))
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(v4.Fingerprint()); got != "c959bdbafa32a2f89a153b678cfde12197965a9a" {
		t.Errorf("fingerprint %s", got)
	}
	sig, err := ParseSignature(unhex(`04 00 16 08 0006 0502 55f95f95 000a 0910 8cfde12197965a9a f622
		00ff 56f90cca98e2102637bd983fdb16c131dfd27ed82bf4dde5606e0d756aed3366
		0100 d09c4fa11527f038e0f57f2201d82f2ea2c9033265fa6ceb489e854bae61b404`))
	if err != nil {
		t.Fatal(err)
	}
	if err := sig.Verify(v4.Public, sum(sig, []byte("OpenPGP"))); err != nil {
		t.Error(err)
	}
	// A.3: a version 6 key.
	v6, err := ParseKey(unhex("06 63877fe3 1b 00000020 f94da7bb48d60a61e567706a6587d0331999bb9d891a08242ead84543df895a3"))
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(v6.Fingerprint()); got != "cb186c4f0609a697e4d52dfa6c722b0c1f1e27c18a56708f6525ec27bad9acc9" {
		t.Errorf("fingerprint %s", got)
	}
}

// A signature with what is too weak, or not understood, is refused whoever made it.
func TestRefused(t *testing.T) {
	s := signers(t)["ed25519"]
	spec := s.spec(t, 4, Binary)
	body := s.packet(t, spec, nil)
	for name, i := range map[string][2]byte{"sha1": {3, 2}, "md5": {3, 1}, "sha224": {3, 11}, "sha3": {3, 12}, "dsa": {2, 17}, "ed448": {2, 28}, "version 3": {0, 3}, "version 5": {0, 5}} {
		b := bytes.Clone(body)
		b[i[0]] = i[1]
		if _, err := ParseSignature(b); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	for name, p := range map[string]Subpacket{
		"critical unknown":     {Type: 100, Critical: true},
		"critical notation":    {Type: SubNotation, Critical: true, Data: make([]byte, 8)},
		"a second time":        {Type: SubCreated, Data: make([]byte, 4)},
		"a short expiration":   {Type: SubExpires, Data: make([]byte, 3)},
		"another issuer":       {Type: SubIssuer, Data: make([]byte, 8)},
		"another fingerprint":  {Type: SubFingerprint, Data: append([]byte{4}, make([]byte, 20)...)},
		"a version 6 issuer":   {Type: SubFingerprint, Data: append([]byte{6}, make([]byte, 32)...)},
		"a fingerprint cut":    {Type: SubFingerprint, Data: []byte{4, 1}},
		"too many subpackets?": {Type: SubPolicy, Data: make([]byte, maxArea)},
	} {
		spec := *spec
		spec.More = []Subpacket{p}
		trailer, err := spec.Trailer()
		if err != nil {
			continue // refused when it is made
		}
		x := spec.Hash.New()
		x.Write(trailer)
		d := x.Sum(nil)
		v, _ := s.Sign(rand.Reader, d, crypto.Hash(0))
		if _, err := spec.Body(d, v); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	expiring := *spec
	expiring.More = []Subpacket{{Type: SubExpires, Data: []byte{0, 0, 0, 10}}}
	sig, err := ParseSignature(s.packet(t, &expiring, nil))
	if err != nil || sig.ValidAt(at.Add(9*time.Second)) != nil || sig.ValidAt(at.Add(10*time.Second)) == nil || sig.ValidAt(at.Add(-time.Hour)) == nil || sig.ValidAt(time.Time{}) == nil {
		t.Errorf("%v: %+v", err, sig)
	}
	early := *spec
	early.Created = created.Add(-time.Second)
	if _, err := early.Trailer(); err == nil {
		t.Error("made before its key")
	}
	for _, k := range []crypto.PublicKey{nil, ed25519.PublicKey{1}, &ecdsa.PublicKey{Curve: elliptic.P224()}, "key"} {
		if _, err := NewKey(4, created, k); err == nil {
			t.Errorf("%T is accepted", k)
		}
	}
	if _, err := NewKey(5, created, s.Public()); err == nil {
		t.Error("version 5")
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewKey(4, created, small.Public()); err == nil {
		t.Error("1024 bits")
	}
}

// Invariant 5: a state continues to what hashing at once gives, at every length.
func TestState(t *testing.T) {
	content := make([]byte, 300)
	rand.Read(content)
	for _, h := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		for n := range content {
			x := h.New()
			x.Write(content[:n])
			st, err := StateOf(h, x)
			if err != nil {
				t.Fatal(err)
			}
			y, err := st.Resume(h)
			if err != nil {
				t.Fatal(err)
			}
			again, err := StateOf(h, y)
			if err != nil || !bytes.Equal(again.Chain, st.Chain) || again.Count != st.Count || !bytes.Equal(again.Tail, st.Tail) {
				t.Fatalf("%v: state of the resumed hash differs: %v", h, err)
			}
			y.Write(content[n:])
			want := h.New()
			want.Write(content)
			if !bytes.Equal(y.Sum(nil), want.Sum(nil)) {
				t.Fatalf("%v: %d bytes and the rest", h, n)
			}
		}
	}
	// The layout is FIPS 180-4's: the initial values, and those after "abc" filled up
	// to a block, which is the published digest.
	x := crypto.SHA256.New()
	st, err := StateOf(crypto.SHA256, x)
	if err != nil || hex.EncodeToString(st.Chain) != "6a09e667bb67ae853c6ef372a54ff53a510e527f9b05688c1f83d9ab5be0cd19" || st.Count != 0 || len(st.Tail) != 0 {
		t.Errorf("%x, %v", st.Chain, err)
	}
	block := append([]byte("abc\x80"), make([]byte, 60)...)
	block[63] = 24
	x.Write(block)
	if st, err = StateOf(crypto.SHA256, x); err != nil || hex.EncodeToString(st.Chain) != "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" {
		t.Errorf("%x, %v", st.Chain, err)
	}
	if _, err := StateOf(crypto.SHA256, crypto.SHA512.New()); err == nil {
		t.Error("a state of another hash")
	}
	if _, err := StateOf(crypto.SHA1, crypto.SHA256.New()); err == nil {
		t.Error("a state of SHA-1")
	}
	for name, change := range map[string]func(*State){
		"chain": func(s *State) { s.Chain = s.Chain[1:] }, "tail": func(s *State) { s.Tail = []byte{1} },
		"count": func(s *State) { s.Count = 1 << 60 }, "initial values": func(s *State) { s.Chain[3]++; s.Count = 0 },
		"another count of the same bits": func(s *State) { s.Count += 1 << 61 },
	} {
		c := State{Chain: bytes.Clone(st.Chain), Count: st.Count, Tail: bytes.Clone(st.Tail)}
		change(&c)
		if _, err := c.Resume(crypto.SHA256); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestArmor(t *testing.T) {
	for n := 1; n < 200; n++ {
		data := make([]byte, n)
		rand.Read(data)
		a := Armor(ArmorSignature, data)
		got, headers, err := Dearmor(ArmorSignature, a)
		if err != nil || !bytes.Equal(got, data) || len(headers) > 0 {
			t.Fatalf("%d bytes: %v", n, err)
		}
		crlf := bytes.ReplaceAll(a, []byte("\n"), []byte("\r\n"))
		if got, _, err = Dearmor(ArmorSignature, crlf); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%d bytes with CRLF: %v", n, err)
		}
	}
	good := string(Armor(ArmorSignature, bytes.Repeat([]byte("data"), 40)))
	lines := strings.Split(good, "\n")
	for name, s := range map[string]string{
		"text before":       "x\n" + good,
		"text after":        good + "x\n",
		"line end after":    good + "\n",
		"no line end":       strings.TrimSuffix(good, "\n"),
		"another kind":      strings.ReplaceAll(good, "SIGNATURE", "MESSAGE"),
		"ends otherwise":    strings.Replace(good, "END PGP SIGNATURE", "END PGP MESSAGE", 1),
		"no empty line":     strings.Replace(good, "\n\n", "\n", 1),
		"space for empty":   strings.Replace(good, "\n\n", "\n \n", 1),
		"wrong checksum":    strings.Replace(good, "\n=", "\n=AAAA\n=", 1),
		"empty line inside": strings.Replace(good, lines[3], lines[3]+"\n", 1),
		"mixed line ends":   strings.Replace(good, "\n\n", "\r\n\n", 1),
		"ragged lines":      strings.Replace(good, lines[2], lines[2][:32]+"\n"+lines[2][32:], 1),
		"header with zero":  strings.Replace(good, "\n\n", "\nVersion: a\x00b\n\n", 1),
		"header unnamed":    strings.Replace(good, "\n\n", "\nVersion\n\n", 1),
	} {
		if _, _, err := Dearmor(ArmorSignature, []byte(s)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, h, err := Dearmor(ArmorSignature, []byte(strings.Replace(good, "\n\n", "\nVersion: X\n\n", 1))); err != nil || len(h) != 1 {
		t.Errorf("%v, %v", h, err)
	}
}

// A text reads the same in whatever pieces it arrives.
func TestCanonical(t *testing.T) {
	for _, c := range []struct {
		in, text, clear string // "!" where it is refused
		trailing        bool
	}{
		{"", "", "", false},
		{"a", "a", "a", false},
		{"a\n", "a\r\n", "a", false},
		{"a\r\n", "a\r\n", "a", false},
		{"a\nb\r\n\n", "a\r\nb\r\n\r\n", "a\r\nb\r\n", false},
		{"a \t\nb ", "a \t\r\nb ", "a\r\nb", true},
		{"a \r\n", "a \r\n", "a", true},
		{" a\n", " a\r\n", " a", false},
		{"a\rb", "!", "!", false},
		{"a\r", "!", "!", false},
		{"a\r\r\n", "!", "!", false},
		{"a\x00b\n", "a\x00b\r\n", "!", false},
		{"a \x01\n", "a \x01\r\n", "!", false},
	} {
		for size := 1; size <= len(c.in)+1; size++ {
			for _, clear := range []bool{false, true} {
				var out bytes.Buffer
				w := &Canonical{W: &out, Cleartext: clear}
				var err error
				for rest := []byte(c.in); len(rest) > 0 && err == nil; rest = rest[min(size, len(rest)):] {
					_, err = w.Write(rest[:min(size, len(rest))])
				}
				if err == nil {
					err = w.Close()
				}
				want := c.text
				if clear {
					want = c.clear
				}
				if want == "!" {
					if err == nil {
						t.Errorf("%q in pieces of %d, cleartext %t: accepted", c.in, size, clear)
					}
					continue
				}
				if err != nil || out.String() != want || clear && w.Trailing != c.trailing {
					t.Errorf("%q in pieces of %d, cleartext %t: %q, trailing %t, %v: want %q", c.in, size, clear, out.String(), w.Trailing, err, want)
				}
			}
		}
	}
}

// certificate makes a transferable public key.
func (s signer) certificate(t testing.TB, version int, more ...Packet) []byte {
	t.Helper()
	spec := s.spec(t, version, Binary)
	self := func(typ Type, m []byte) []byte {
		return s.packet(t, SelfSpec(spec.Key, typ, s.hash, at, spec.Salt), m)
	}
	var direct [][]byte
	if version == 6 {
		direct = [][]byte{self(DirectKey, spec.Key.DirectMessage())}
	}
	b := NewCertificate(spec.Key, direct, "A <a@example.com>", self(CertifyPositive, spec.Key.CertifyMessage("A <a@example.com>")))
	for _, p := range more {
		b = AppendPacket(b, p.Tag, p.Body)
	}
	return b
}

func TestCertificates(t *testing.T) {
	for name, s := range signers(t) {
		for _, version := range []int{4, 6} {
			b := s.certificate(t, version)
			for _, in := range [][]byte{b, Armor(ArmorPublicKey, b)} {
				cs, err := ReadCertificates(in, at)
				if err != nil || len(cs) != 1 || len(cs[0].UserIDs) != 1 || len(cs[0].Signing) != 1 {
					t.Fatalf("%s %d: %+v, %v", name, version, cs, err)
				}
			}
			if _, err := ReadCertificates(b, created); err == nil {
				t.Errorf("%s %d: valid before it was signed", name, version)
			}
			spec := s.spec(t, version, KeyRevocation)
			revocation := s.packet(t, spec, spec.Key.DirectMessage())
			if _, err := ReadCertificates(insert(t, b, revocation), at); err == nil {
				t.Errorf("%s %d: revoked", name, version)
			}
			revocation[3] = 2 // SHA-1: it cannot be checked
			if _, err := ReadCertificates(insert(t, b, revocation), at); err == nil {
				t.Errorf("%s %d: a revocation that cannot be read", name, version)
			}
			// Somebody else's user ID is not the key's.
			cs, err := ReadCertificates(AppendPacket(bytes.Clone(b), TagUserID, []byte("Evil")), at)
			if err != nil || len(cs[0].UserIDs) != 1 {
				t.Errorf("%s %d: %+v, %v", name, version, cs, err)
			}
			if _, err := ReadCertificates(AppendPacket(AppendPacket(nil, TagPublicKey, spec.Key.Body()), TagUserID, []byte("A")), at); err == nil {
				t.Errorf("%s %d: no self-signature", name, version)
			}
		}
	}
}

// insert puts a signature behind the primary key.
func insert(t *testing.T, cert, sig []byte) []byte {
	t.Helper()
	_, rest, err := ReadPacket(cert)
	if err != nil {
		t.Fatal(err)
	}
	out := AppendPacket(bytes.Clone(cert[:len(cert)-len(rest)]), TagSignature, sig)
	return append(out, rest...)
}

// A subkey that the primary key claims and that does not claim it back may not sign
// for it: anybody could take another's signing key for his own.
func TestSubkeyMustBindBack(t *testing.T) {
	all := signers(t)
	primary, sub := all["ed25519"], all["p256"]
	spec := primary.spec(t, 4, SubkeyBinding)
	subSpec := sub.spec(t, 4, PrimaryKeyBinding)
	message := append(spec.Key.hashed(), subSpec.Key.hashed()...)
	for name, back := range map[string][]byte{
		"bound":        sub.packet(t, subSpec, message),
		"not bound":    nil,
		"by another":   primary.packet(t, primary.spec(t, 4, PrimaryKeyBinding), message),
		"over another": sub.packet(t, subSpec, append(subSpec.Key.hashed(), spec.Key.hashed()...)),
	} {
		b := *spec
		b.More = []Subpacket{{Type: SubFlags, Data: []byte{flagSign}}}
		if back != nil {
			b.More = append(b.More, Subpacket{Type: SubEmbedded, Data: back})
		}
		cert := primary.certificate(t, 4, Packet{Tag: TagPublicSubkey, Body: subSpec.Key.Body()}, Packet{Tag: TagSignature, Body: primary.packet(t, &b, message)})
		cs, err := ReadCertificates(cert, at)
		if err != nil || (len(cs[0].Signing) == 2) != (name == "bound") {
			t.Errorf("%s: %+v, %v", name, cs, err)
		}
	}
}

func TestPacketLengths(t *testing.T) {
	for _, n := range []int{0, 1, 191, 192, 8383, 8384, 70000} {
		b := AppendPacket(nil, TagUserID, make([]byte, n))
		p, rest, err := ReadPacket(append(b, 1))
		if err != nil || len(p.Body) != n || len(rest) != 1 || p.Tag != TagUserID {
			t.Errorf("%d: %v", n, err)
		}
	}
	huge := binary.BigEndian.AppendUint32([]byte{0xc0 | byte(TagUserID), 255}, 1<<31)
	for name, b := range map[string][]byte{"partial": {0xcb, 0xe1, 0, 0}, "indeterminate": {0xa3, 0}, "huge": huge, "no packet": {0x40, 0}, "cut": {0xc2, 5, 1}, "empty": {}} {
		if _, _, err := ReadPacket(b); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := ReadPackets(bytes.Repeat([]byte{0xcd, 0}, 11), 10); err == nil {
		t.Error("11 of 10 packets")
	}
}

// seeds are the files of testdata; none is a failure.
func seeds(f *testing.F) (out [][]byte) {
	f.Helper()
	if *update {
		for name, s := range signers(f) {
			for _, version := range []int{4, 6} {
				sig := AppendPacket(nil, TagSignature, s.packet(f, s.spec(f, version, Binary), []byte("message")))
				base := filepath.Join("testdata", name+"."+string(rune('0'+version)))
				for suffix, b := range map[string][]byte{".sig": sig, ".asc": Armor(ArmorSignature, sig), ".key": s.certificate(f, version)} {
					if err := os.WriteFile(base+suffix, b, 0o644); err != nil {
						f.Fatal(err)
					}
				}
			}
		}
	}
	names, err := filepath.Glob("testdata/*.[0-9].*")
	if err != nil || len(names) < 24 {
		f.Fatalf("%d seeds in testdata: want 24 and more", len(names))
	}
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			f.Fatal(err)
		}
		out = append(out, b)
	}
	return out
}

func FuzzPackets(f *testing.F) {
	for _, b := range seeds(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		ReadCertificates(b, at)
		if d, _, err := Dearmor(ArmorSignature, b); err == nil {
			b = d
		}
		ps, err := ReadPackets(b, 100)
		if err != nil {
			return
		}
		var again []byte
		for _, p := range ps {
			again = append(again, p.Raw...)
			switch p.Tag {
			case TagSignature:
				s, err := ParseSignature(p.Body)
				if err != nil {
					continue
				}
				if !bytes.Equal(s.Body(), p.Body) {
					t.Fatal("signature changed")
				}
				s.Verify(ed25519.PublicKey(make([]byte, 32)), sum(s, nil))
			case TagPublicKey, TagPublicSubkey:
				k, err := ParseKey(p.Body)
				if err != nil {
					continue
				}
				made, err := NewKey(k.Version, k.Created, k.Public)
				if err != nil {
					t.Fatal(err)
				}
				if k.algo == made.algo && !bytes.Equal(made.Body(), p.Body) {
					t.Fatalf("%x is accepted and written as %x", p.Body, made.Body())
				}
			}
		}
		if !bytes.Equal(again, b) {
			t.Fatal("packets changed")
		}
	})
}

func FuzzCanonical(f *testing.F) {
	f.Add([]byte("a \r\n- b\n"), 3, true)
	f.Fuzz(func(t *testing.T, b []byte, cut int, clear bool) {
		whole := func(pieces ...[]byte) (string, error) {
			var out bytes.Buffer
			w := &Canonical{W: &out, Cleartext: clear}
			for _, p := range pieces {
				if _, err := w.Write(p); err != nil {
					return "", err
				}
			}
			return out.String(), w.Close()
		}
		if cut < 0 || cut > len(b) {
			return
		}
		one, err1 := whole(b)
		two, err2 := whole(b[:cut], b[cut:])
		if (err1 == nil) != (err2 == nil) || err1 == nil && one != two {
			t.Fatalf("%q and %q, %v and %v", one, two, err1, err2)
		}
	})
}
