package credential_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/credential/credentialtest"
)

// sshKinds are the arguments of ssh-keygen for every type that it can make
// without hardware.
var sshKinds = [][]string{
	{"-t", "ed25519"},
	{"-t", "ecdsa", "-b", "256"},
	{"-t", "ecdsa", "-b", "384"},
	{"-t", "ecdsa", "-b", "521"},
	{"-t", "rsa", "-b", "3072"},
}

// What ssh-keygen signs is accepted, for its namespace and message alone, and
// fingerprints are those that it prints.
func TestSSHKeygenSigns(t *testing.T) {
	for _, args := range sshKinds {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			key := filepath.Join(t.TempDir(), "key")
			mustTool(t, nil, "ssh-keygen", append(args, "-q", "-N", "", "-C", "alice@example.com", "-f", key)...)
			text, err := os.ReadFile(key + ".pub")
			if err != nil {
				t.Fatal(err)
			}
			c := mustParse(t, credential.KindSSH, string(text))
			if again := mustParse(t, credential.KindSSH, c.Text()); again.Text() != c.Text() || again.ID() != c.ID() {
				t.Error("Parse(Text) is another credential")
			}
			if want := strings.TrimSuffix(string(text), " alice@example.com\n"); c.Text() != want {
				t.Errorf("text %q: want %q", c.Text(), want)
			}
			listed := strings.Fields(string(mustTool(t, nil, "ssh-keygen", "-l", "-f", key+".pub")))
			if "ssh:"+listed[1] != string(c.ID()) {
				t.Errorf("id %s: ssh-keygen says %s", c.ID(), listed[1])
			}
			for _, hash := range []string{"sha256", "sha512"} {
				for _, p := range []credential.Purpose{credential.Statement, credential.Login} {
					armored := mustTool(t, message, "ssh-keygen", "-Y", "sign", "-O", "hashalg="+hash, "-f", key, "-n", credential.SSHNamespace(p))
					block, _ := pem.Decode(armored)
					if block == nil {
						t.Fatal("no armoured signature")
					}
					if err := c.Verify(p, message, block.Bytes); err != nil {
						t.Errorf("%s %s: %v", p, hash, err)
					}
					wantRefused(t, c.Verify(p, message[1:], block.Bytes))
					wantRefused(t, c.Verify(map[credential.Purpose]credential.Purpose{"statement": "login", "login": "statement"}[p], message, block.Bytes))
					wantRefused(t, c.Verify(p, message, armored))
					wantRefused(t, credentialtest.SSH("other").Credential().Verify(p, message, block.Bytes))
				}
			}
			block, _ := pem.Decode(mustTool(t, message, "ssh-keygen", "-Y", "sign", "-f", key, "-n", "file"))
			wantRefused(t, c.Verify(credential.Statement, message, block.Bytes))
			wantRefused(t, c.Verify("file", message, block.Bytes))
		})
	}
}

// What our signers make is accepted by ssh-keygen -Y verify.
func TestSSHKeygenVerifies(t *testing.T) {
	for name, s := range map[string]credential.Signer{"ed25519": credentialtest.SSH("alice"), "fido": credentialtest.FIDO("alice")} {
		t.Run(name, func(t *testing.T) {
			sig, err := s.Sign(t.Context(), credential.Statement, message)
			if err != nil {
				t.Fatal(err)
			}
			if err := keygenVerify(t, s.Credential(), "statement@greatseal.io", message, sig); err != nil {
				t.Error(err)
			}
			if keygenVerify(t, s.Credential(), "login@greatseal.io", message, sig) == nil {
				t.Error("ssh-keygen accepts another namespace: the test proves nothing")
			}
		})
	}
}

func TestSSHParseRefuses(t *testing.T) {
	good := credentialtest.SSH("alice").Credential().Text()
	blob := func(algorithm string, fields ...string) string {
		b := ssh.Marshal(struct{ A string }{algorithm})
		for _, f := range fields {
			b = append(b, ssh.Marshal(struct{ A string }{f})...)
		}
		return algorithm + " " + base64.StdEncoding.EncodeToString(b)
	}
	ed := strings.Repeat("\x58", 1) + strings.Repeat("\x66", 31) // the base point
	if _, err := credential.Parse(credential.KindSSH, blob("ssh-ed25519", ed)); err != nil {
		t.Fatalf("the table's own key: %v", err)
	}
	rsa2048, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	big3072 := new(big.Int).SetBit(big.NewInt(1), 3071, 1)
	rsaBlob := func(e int64, n *big.Int) string {
		return "ssh-rsa " + base64.StdEncoding.EncodeToString(ssh.Marshal(struct {
			A    string
			E, N *big.Int
		}{"ssh-rsa", big.NewInt(e), n}))
	}
	if _, err := credential.Parse(credential.KindSSH, rsaBlob(65537, big3072)); err != nil {
		t.Fatalf("the table's own RSA key: %v", err)
	}
	cert := &ssh.Certificate{Key: func() ssh.PublicKey {
		k, err := ssh.NewPublicKey(ed25519.NewKeyFromSeed(make([]byte, 32)).Public())
		if err != nil {
			t.Fatal(err)
		}
		return k
	}(), CertType: ssh.UserCert}
	ca, err := ssh.NewSignerFromKey(ed25519.NewKeyFromSeed(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	if err := cert.SignCert(rand.Reader, ca); err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := p224.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"empty":                  "",
		"type alone":             "ssh-ed25519",
		"options":                "no-pty " + good,
		"two lines":              good + "\n" + good,
		"comment with a line":    good + " a\nb",
		"two spaces":             strings.Replace(good, " ", "  ", 1),
		"tab":                    strings.Replace(good, " ", "\t", 1),
		"leading space":          " " + good,
		"base64 tail":            good[:len(good)-1],
		"base64 url":             strings.Replace(good, "A", "-", 1),
		"line break in base64":   good[:40] + "\n" + good[40:],
		"type of another":        strings.Replace(good, "ssh-ed25519", "ssh-rsa", 1),
		"bytes after the key":    blob("ssh-ed25519", ed, ""),
		"ed25519 short":          blob("ssh-ed25519", ed[:31]),
		"ed25519 long":           blob("ssh-ed25519", ed+"\x00"),
		"dsa":                    blob("ssh-dss", "\x7f", "\x7f", "\x02", "\x02"),
		"certificate":            string(ssh.MarshalAuthorizedKey(cert)),
		"rsa 2048":               sshText(t, rsa2048.Public()),
		"rsa 3071":               rsaBlob(65537, new(big.Int).SetBit(big.NewInt(1), 3070, 1)),
		"rsa too large":          rsaBlob(65537, new(big.Int).SetBit(big.NewInt(1), 8192, 1)),
		"rsa exponent 3":         rsaBlob(3, big3072),
		"rsa even exponent":      rsaBlob(65538, big3072),
		"rsa even modulus":       rsaBlob(65537, new(big.Int).Lsh(big.NewInt(1), 3071)),
		"rsa negative":           rsaBlob(65537, new(big.Int).Neg(big3072)),
		"rsa padded modulus":     blob("ssh-rsa", "\x01\x00\x01", "\x00\x00"+string(big3072.Bytes())),
		"rsa padded exponent":    blob("ssh-rsa", "\x00\x01\x00\x01", "\x00"+string(big3072.Bytes())),
		"p224":                   blob("ecdsa-sha2-nistp224", "nistp224", string(point)),
		"p256 of another curve":  blob("ecdsa-sha2-nistp256", "nistp256", string(point)),
		"p256 at infinity":       blob("ecdsa-sha2-nistp256", "nistp256", "\x00"),
		"sk without application": blob("sk-ssh-ed25519@openssh.com", ed, ""),
		"sk for the web":         blob("sk-ssh-ed25519@openssh.com", ed, "example.com"),
		"sk control character":   blob("sk-ssh-ed25519@openssh.com", ed, "ssh:\x1b[2J"),
		"sk long application":    blob("sk-ssh-ed25519@openssh.com", ed, "ssh:"+strings.Repeat("a", 252)),
		"too long":               good + " " + strings.Repeat("a", credential.MaxText),
	} {
		t.Run(name, func(t *testing.T) {
			c, err := credential.Parse(credential.KindSSH, text)
			if err == nil {
				t.Fatalf("accepted as %s", c.Describe())
			}
			if !errors.Is(err, credential.ErrCredential) || c != nil {
				t.Errorf("got %v, %v", c, err)
			}
		})
	}
}

// Invariant 3: with a point of small order anybody signs. The library takes such
// keys; each of those that it verifies a forgery with is refused here.
func TestSmallOrderKeys(t *testing.T) {
	forged := 0
	for _, h := range []string{
		"0100000000000000000000000000000000000000000000000000000000000000",
		"0100000000000000000000000000000000000000000000000000000000000080",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
		"0000000000000000000000000000000000000000000000000000000000000000",
		"0000000000000000000000000000000000000000000000000000000000000080",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // 0, not canonical
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // 1, not canonical
	} {
		pub, err := hex.DecodeString(h)
		if err != nil {
			t.Fatal(err)
		}
		// R is the neutral element, S is zero: valid whenever the hash is a
		// multiple of the point's order.
		sig := make([]byte, 64)
		sig[0] = 1
		for i := range 64 {
			if ed25519.Verify(pub, []byte{byte(i)}, sig) {
				forged++
				break
			}
		}
		if c, err := credential.Parse(credential.KindSSH, sshText(t, ed25519.PublicKey(pub))); err == nil {
			t.Errorf("%s accepted as %s", h, c.ID())
		}
	}
	if forged < 8 {
		t.Errorf("forged with %d points: the test does not attack", forged)
	}
	// Not on the curve at all.
	if _, err := credential.Parse(credential.KindSSH, sshText(t, ed25519.PublicKey(append([]byte{2}, make([]byte, 31)...)))); err == nil {
		t.Error("accepted what is no point")
	}
}

// sshParts are the parts of an SSHSIG, to build bad ones from.
type sshParts struct {
	magic, key, namespace, reserved, hash string
	version                               uint32
	format, blob, rest, tail              string
}

func (p sshParts) encode() []byte {
	inner := append(ssh.Marshal(struct{ A, B string }{p.format, p.blob}), p.rest...)
	b := append([]byte(p.magic), ssh.Marshal(struct {
		V             uint32
		K, N, R, H, S string
	}{p.version, p.key, p.namespace, p.reserved, p.hash, string(inner)})...)
	return append(b, p.tail...)
}

// signed is what the key signs: with the parts as they are, so that a refusal is
// one of the parts and not of the mathematics.
func (p sshParts) signed(t testing.TB) []byte {
	t.Helper()
	d := sha256.Sum256(message)
	return append([]byte("SSHSIG"), ssh.Marshal(struct{ N, R, H, D string }{p.namespace, p.reserved, p.hash, string(d[:])})...)
}

func goodParts(c *credential.SSH) sshParts {
	return sshParts{magic: "SSHSIG", version: 1, key: string(c.Blob()), namespace: "statement@greatseal.io", hash: "sha256"}
}

// Every deviation is signed properly and refused all the same.
func TestSSHSigRefuses(t *testing.T) {
	priv := ed25519.NewKeyFromSeed(make([]byte, 32))
	c := mustParse(t, credential.KindSSH, sshText(t, priv.Public())).(*credential.SSH)
	other := credentialtest.SSH("bob").Credential().(*credential.SSH)
	for name, tc := range map[string]struct {
		change func(*sshParts)
		ok     bool
	}{
		"nothing":          {func(*sshParts) {}, true},
		"magic":            {func(p *sshParts) { p.magic = "SSHSIH" }, false},
		"version 0":        {func(p *sshParts) { p.version = 0 }, false},
		"version 2":        {func(p *sshParts) { p.version = 2 }, false},
		"another key":      {func(p *sshParts) { p.key = string(other.Blob()) }, false},
		"no key":           {func(p *sshParts) { p.key = "" }, false},
		"namespace login":  {func(p *sshParts) { p.namespace = "login@greatseal.io" }, false},
		"namespace file":   {func(p *sshParts) { p.namespace = "file" }, false},
		"namespace git":    {func(p *sshParts) { p.namespace = "git" }, false},
		"namespace empty":  {func(p *sshParts) { p.namespace = "" }, false},
		"namespace longer": {func(p *sshParts) { p.namespace += "\x00" }, false},
		"reserved":         {func(p *sshParts) { p.reserved = "x" }, false},
		"hash sha1":        {func(p *sshParts) { p.hash = "sha1" }, false},
		"hash SHA256":      {func(p *sshParts) { p.hash = "SHA256" }, false},
		"hash empty":       {func(p *sshParts) { p.hash = "" }, false},
		"tail":             {func(p *sshParts) { p.tail = "\x00" }, false},
		"inner tail":       {func(p *sshParts) { p.rest = "\x00" }, false},
		"flags on a plain": {func(p *sshParts) { p.rest = "\x01\x00\x00\x00\x01" }, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := goodParts(c)
			tc.change(&p)
			p.format, p.blob = "ssh-ed25519", string(ed25519.Sign(priv, p.signed(t)))
			err := c.Verify(credential.Statement, message, p.encode())
			if tc.ok && err != nil {
				t.Error(err)
			}
			if !tc.ok {
				wantRefused(t, err)
			}
		})
	}
	wantRefused(t, c.Verify(credential.Statement, message, nil))
	wantRefused(t, c.Verify(credential.Statement, message, make([]byte, credential.MaxSignature+1)))
	wantRefused(t, c.Verify("", message, nil))
	wantRefused(t, new(credential.SSH).Verify(credential.Statement, message, nil))
	// A length that is larger than memory.
	wantRefused(t, c.Verify(credential.Statement, message, []byte("SSHSIG\x00\x00\x00\x01\xff\xff\xff\xff")))
}

// RSA: SHA-1, other paddings and short signatures are refused, although the
// library below takes the first and the last.
func TestSSHSigRSA(t *testing.T) {
	key := rsaKey(t)
	c := mustParse(t, credential.KindSSH, sshText(t, key.Public())).(*credential.SSH)
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for algorithm, ok := range map[string]bool{ssh.KeyAlgoRSASHA256: true, ssh.KeyAlgoRSASHA512: true, ssh.KeyAlgoRSA: false} {
		p := goodParts(c)
		sig, err := s.(ssh.AlgorithmSigner).SignWithAlgorithm(rand.Reader, p.signed(t), algorithm)
		if err != nil {
			t.Fatal(err)
		}
		p.format, p.blob = sig.Format, string(sig.Blob)
		if p.format != algorithm {
			t.Fatalf("signed with %s", p.format)
		}
		err = c.Verify(credential.Statement, message, p.encode())
		if ok && err != nil {
			t.Errorf("%s: %v", algorithm, err)
		}
		if !ok {
			wantRefused(t, err)
		}
		p.blob = "\x00" + p.blob
		wantRefused(t, c.Verify(credential.Statement, message, p.encode()))
		p.format = "ssh-ed25519"
		wantRefused(t, c.Verify(credential.Statement, message, p.encode()))
	}
	// A signature with a leading zero byte, without it.
	for n := byte(0); ; n++ {
		p := goodParts(c)
		m := append([]byte{n}, message...)
		d := sha256.Sum256(m)
		data := append([]byte("SSHSIG"), ssh.Marshal(struct{ N, R, H, D string }{p.namespace, "", p.hash, string(d[:])})...)
		sig, err := s.(ssh.AlgorithmSigner).SignWithAlgorithm(rand.Reader, data, ssh.KeyAlgoRSASHA256)
		if err != nil {
			t.Fatal(err)
		}
		if sig.Blob[0] != 0 && n < 255 {
			continue
		}
		p.format, p.blob = sig.Format, string(sig.Blob)
		if err := c.Verify(credential.Statement, m, p.encode()); err != nil {
			t.Error(err)
		}
		p.blob = p.blob[1:]
		wantRefused(t, c.Verify(credential.Statement, m, p.encode()))
		if sig.Blob[0] != 0 {
			t.Error("no signature with a leading zero: the test does not attack")
		}
		break
	}
}

// ECDSA: the integers are canonical mpints; (r, n-s) verifies too, as the package
// comment says.
func TestSSHSigECDSA(t *testing.T) {
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := mustParse(t, credential.KindSSH, sshText(t, priv.Public())).(*credential.SSH)
	p := goodParts(c)
	d := sha256.Sum256(p.signed(t))
	r, s, err := ecdsa.Sign(rand.Reader, priv, d[:])
	if err != nil {
		t.Fatal(err)
	}
	n := elliptic.P256().Params().N
	mpints := func(r, s *big.Int) string { return string(ssh.Marshal(struct{ R, S *big.Int }{r, s})) }
	raw := func(r, s []byte) string { return string(ssh.Marshal(struct{ R, S []byte }{r, s})) }
	pad := func(v *big.Int) []byte { return append([]byte{0, 0}, v.Bytes()...) }
	for name, tc := range map[string]struct {
		blob string
		ok   bool
	}{
		"r, s":       {mpints(r, s), true},
		"r, n-s":     {mpints(r, new(big.Int).Sub(n, s)), true},
		"r, s+n":     {mpints(r, new(big.Int).Add(n, s)), false},
		"r+n, s":     {mpints(new(big.Int).Add(n, r), s), false},
		"r, -s":      {mpints(r, new(big.Int).Neg(s)), false},
		"0, 0":       {mpints(new(big.Int), new(big.Int)), false},
		"r, 0":       {mpints(r, new(big.Int)), false},
		"n, n":       {mpints(n, n), false},
		"r padded":   {raw(pad(r), pad(s)), false},
		"zero bytes": {raw([]byte{0}, []byte{0}), false},
		"tail":       {mpints(r, s) + "\x00", false},
		"empty":      {"", false},
		"huge":       {mpints(new(big.Int).Lsh(r, 20000), s), false},
	} {
		p.format, p.blob = ssh.KeyAlgoECDSA256, tc.blob
		err := c.Verify(credential.Statement, message, p.encode())
		if (err == nil) != tc.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Invariants 2 and 6 for small signatures: every bit counts.
func TestSSHSigFlips(t *testing.T) {
	for name, s := range map[string]credential.Signer{"ed25519": credentialtest.SSH("alice"), "fido": credentialtest.FIDO("alice")} {
		t.Run(name, func(t *testing.T) {
			sig, err := s.Sign(t.Context(), credential.Statement, message)
			if err != nil {
				t.Fatal(err)
			}
			flips(t, s.Credential(), credential.Statement, sig)
		})
	}
	t.Run("ecdsa", func(t *testing.T) {
		priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c := mustParse(t, credential.KindSSH, sshText(t, priv.Public())).(*credential.SSH)
		s, err := ssh.NewSignerFromKey(priv)
		if err != nil {
			t.Fatal(err)
		}
		p := goodParts(c)
		sig, err := s.Sign(rand.Reader, p.signed(t))
		if err != nil {
			t.Fatal(err)
		}
		p.format, p.blob = sig.Format, string(sig.Blob)
		flips(t, c, credential.Statement, p.encode())
	})
}

// Invariant 4. The signatures follow PROTOCOL.u2f; ssh-keygen says that those with
// presence are signatures of FIDO keys.
func TestFIDO(t *testing.T) {
	edPriv := ed25519.NewKeyFromSeed(make([]byte, 32))
	ecPriv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := ecPriv.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	type keyType struct {
		format string
		blob   []byte
		sign   func(signed []byte) string
	}
	for _, k := range []keyType{
		{
			ssh.KeyAlgoSKED25519,
			ssh.Marshal(struct{ T, K, A string }{ssh.KeyAlgoSKED25519, string(edPriv[32:]), "ssh:seal"}),
			func(b []byte) string { return string(ed25519.Sign(edPriv, b)) },
		},
		{
			ssh.KeyAlgoSKECDSA256,
			ssh.Marshal(struct{ T, C, K, A string }{ssh.KeyAlgoSKECDSA256, "nistp256", string(point), "ssh:seal"}),
			func(b []byte) string {
				d := sha256.Sum256(b)
				r, s, err := ecdsa.Sign(rand.Reader, ecPriv, d[:])
				if err != nil {
					t.Fatal(err)
				}
				return string(ssh.Marshal(struct{ R, S *big.Int }{r, s}))
			},
		},
	} {
		t.Run(k.format, func(t *testing.T) {
			c := mustParse(t, credential.KindSSH, k.format+" "+base64.StdEncoding.EncodeToString(k.blob)).(*credential.SSH)
			if !c.Hardware() || !strings.HasSuffix(c.Describe(), "(hardware, touch)") {
				t.Errorf("not hardware: %s", c.Describe())
			}
			make := func(application string, flags byte, rest string) []byte {
				p := goodParts(c)
				app, d := sha256.Sum256([]byte(application)), sha256.Sum256(p.signed(t))
				counter := []byte{flags, 0, 0, 0, 9}
				p.format, p.blob = k.format, k.sign(append(append(app[:], counter...), d[:]...))
				p.rest = string(counter) + rest
				return p.encode()
			}
			for name, tc := range map[string]struct {
				sig []byte
				ok  bool // for us
				ssh bool // for ssh-keygen
			}{
				"touch":               {make("ssh:seal", 0x01, ""), true, true},
				"touch and PIN":       {make("ssh:seal", 0x05, ""), true, true},
				"no touch":            {make("ssh:seal", 0x00, ""), false, true},
				"PIN without touch":   {make("ssh:seal", 0x04, ""), false, true},
				"another application": {make("ssh:", 0x01, ""), false, false},
				"tail":                {make("ssh:seal", 0x01, "\x00"), false, false},
			} {
				err := c.Verify(credential.Statement, message, tc.sig)
				if tc.ok && err != nil {
					t.Errorf("%s: %v", name, err)
				} else if !tc.ok {
					wantRefused(t, err)
				}
				if err := keygenVerify(t, c, "statement@greatseal.io", message, tc.sig); (err == nil) != tc.ssh {
					t.Errorf("%s: ssh-keygen says %v", name, err)
				}
			}
		})
	}
}
