package pe

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/sigalg"
	"github.com/greatseal-io/greatseal/tsp"
)

// mem is a file in memory.
type mem struct {
	*bytes.Reader
	name string
}

func file(b []byte) mem      { return mem{bytes.NewReader(b), "file.exe"} }
func (m mem) Name() string   { return m.name }
func le(n int, v int) []byte { b := binary.LittleEndian.AppendUint64(nil, uint64(v)); return b[:n] }

// recipe is an image to make by hand.
type recipe struct {
	plus      bool
	lfanew    int // 0: 64
	subsystem int // 0: console
	dirs      int // 0: 16
	headers   int // SizeOfHeaders, 0: 512
	align     int // SectionAlignment, 0: 4096
	sections  []raw
	resources int // RVA
	overlay   []byte
	checksum  int
	table     [2]int // directory entry
}

type raw struct {
	offset, size, rva int
	data              []byte
}

func or(v, d int) int {
	if v == 0 {
		return d
	}
	return v
}

func (r recipe) make() []byte {
	lfanew, headers, dirs := or(r.lfanew, 64), or(r.headers, 512), or(r.dirs, 16)
	b := make([]byte, lfanew)
	copy(b, "MZ")
	copy(b[60:], le(4, lfanew))
	opt := 96 + 8*dirs
	machine, magic := 0x14c, magicPE32
	if r.plus {
		opt, machine, magic = opt+16, 0x8664, magicPE32Plus
	}
	b = append(b, "PE\x00\x00"...)
	b = append(b, le(2, machine)...)
	b = append(b, le(2, len(r.sections))...)
	b = append(b, make([]byte, 12)...)
	b = append(b, le(2, opt)...)
	b = append(b, le(2, 0x22)...)
	o := make([]byte, opt)
	copy(o, le(2, magic))
	copy(o[32:], le(4, or(r.align, 4096)))
	copy(o[36:], le(4, 512))
	copy(o[56:], le(4, 0x100000))
	copy(o[60:], le(4, headers))
	copy(o[64:], le(4, r.checksum))
	copy(o[68:], le(2, or(r.subsystem, 3)))
	d := opt - 8*dirs
	copy(o[d-4:], le(4, dirs))
	if dirs > 4 {
		copy(o[d+16:], le(4, r.resources))
		copy(o[d+32:], le(4, r.table[0]))
		copy(o[d+36:], le(4, r.table[1]))
	}
	b = append(b, o...)
	end := headers
	for i, s := range r.sections {
		h := make([]byte, sectionSize)
		copy(h, ".s"+string(rune('a'+i%26)))
		copy(h[8:], le(4, s.size))
		copy(h[12:], le(4, or(s.rva, 0x1000*(i+1))))
		copy(h[16:], le(4, s.size))
		copy(h[20:], le(4, s.offset))
		b = append(b, h...)
		end = max(end, s.offset+len(s.data))
	}
	b = append(b, make([]byte, max(0, end-len(b)))...)
	for _, s := range r.sections {
		copy(b[s.offset:], s.data)
	}
	return append(b, r.overlay...)
}

// text is a section's data: n bytes that are not all the same.
func text(offset, n int) raw {
	d := make([]byte, n)
	for i := range d {
		d[i] = byte(i*7 + i>>8 + offset)
	}
	return raw{offset: offset, size: n, data: d}
}

// recipes are the shapes that linkers, packers and installers make.
func recipes() map[string]recipe {
	return map[string]recipe{
		"pe32":         {sections: []raw{text(512, 512)}},
		"pe32+":        {plus: true, sections: []raw{text(512, 1024), text(1536, 512)}},
		"odd overlay":  {plus: true, sections: []raw{text(512, 512)}, overlay: []byte("setup data!")},
		"odd section":  {sections: []raw{text(512, 512), text(1024, 333)}},
		"gap":          {plus: true, sections: []raw{text(4096, 512), text(5120, 512)}},
		"out of order": {plus: true, sections: []raw{text(1536, 512), text(512, 1024)}},
		"no data":      {sections: []raw{text(512, 512), {offset: 0, size: 0x2000}, {offset: 777}, text(1024, 512)}},
		"pages":        {plus: true, sections: []raw{text(512, 9000), text(9512, 4096), text(13608, 1)}},
		"long stub":    {plus: true, lfanew: 0x180, headers: 1024, sections: []raw{text(1024, 512)}},
		"efi":          {plus: true, subsystem: 10, align: 32, sections: []raw{text(512, 512), text(1024, 64)}, overlay: []byte("odd")},
		"no sections":  {headers: 512},
		"six dirs":     {dirs: 6, sections: []raw{text(512, 512)}},
		"two chunks":   {plus: true, sections: []raw{text(512, chunkSize-512), text(chunkSize, chunkSize+7)}},
	}
}

// apply makes the edits of a patch.
func apply(t testing.TB, b []byte, p *format.Patch) []byte {
	t.Helper()
	out, err := p.Bytes(file(b))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// pki is a small authority; keys are made once a run.
type pki struct {
	dir, caFile string
	root        *x509.Certificate
	pool        *x509.CertPool
	ids         map[string]signer // "rsa", "pss", "p256", "p384"
	tsa         signer
	now         time.Time
}

type signer struct {
	key  crypto.Signer
	id   format.Identity
	cert string // PEM file: leaf, intermediate
	pem  string // PEM file of the key
}

var authority = sync.OnceValues(func() (*pki, error) {
	dir, err := os.MkdirTemp("", "pe-pki-")
	if err != nil {
		return nil, err
	}
	p := &pki{dir: dir, pool: x509.NewCertPool(), ids: map[string]signer{}, now: time.Now()}
	serial := int64(0)
	issue := func(cn string, parent *x509.Certificate, pub crypto.PublicKey, by crypto.Signer, ca bool, usage ...x509.ExtKeyUsage) (*x509.Certificate, error) {
		serial++
		c := &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: cn, Organization: []string{"Example"}},
			NotBefore: p.now.Add(-time.Hour), NotAfter: p.now.Add(1000 * time.Hour), BasicConstraintsValid: true, IsCA: ca,
			KeyUsage: x509.KeyUsageDigitalSignature,
		}
		if ca {
			c.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
		}
		if len(usage) > 0 && usage[0] == x509.ExtKeyUsageTimeStamping {
			// The usage must be critical (RFC 3161 section 2.3), which ExtKeyUsage cannot say.
			v, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}})
			if err != nil {
				return nil, err
			}
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: true, Value: v}}
		} else {
			c.ExtKeyUsage = usage
			if cn == "Signer lifetime" {
				c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 10, 3, 13}}
			}
		}
		if parent == nil {
			parent = c
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, pub, by)
		if err != nil {
			return nil, err
		}
		return x509.ParseCertificate(der)
	}
	ca, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	if p.root, err = issue("Root", nil, ca.Public(), ca, true); err != nil {
		return nil, err
	}
	p.pool.AddCert(p.root)
	subKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	sub, err := issue("Issuer", p.root, subKey.Public(), ca, true)
	if err != nil {
		return nil, err
	}
	save := func(name, kind string, der ...[]byte) (string, error) {
		var b bytes.Buffer
		for _, d := range der {
			if err := pem.Encode(&b, &pem.Block{Type: kind, Bytes: d}); err != nil {
				return "", err
			}
		}
		f := filepath.Join(dir, name)
		return f, os.WriteFile(f, b.Bytes(), 0o600)
	}
	if p.caFile, err = save("ca.pem", "CERTIFICATE", p.root.Raw); err != nil {
		return nil, err
	}
	add := func(name string, key crypto.Signer, scheme sigalg.Scheme, usage x509.ExtKeyUsage) (signer, error) {
		c, err := issue("Signer "+name, sub, key.Public(), subKey, false, usage)
		if err != nil {
			return signer{}, err
		}
		s := signer{key: key, id: format.Identity{Scheme: scheme, Public: key.Public(), Chain: []*x509.Certificate{c, sub}}}
		if s.cert, err = save(name+".pem", "CERTIFICATE", c.Raw, sub.Raw); err != nil {
			return s, err
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return s, err
		}
		s.pem, err = save(name+".key", "PRIVATE KEY", der)
		return s, err
	}
	r, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		return nil, err
	}
	for name, scheme := range map[string]sigalg.Scheme{"rsa": sigalg.RSAPKCS1SHA256, "pss": sigalg.RSAPSSSHA256, "rsa384": sigalg.RSAPKCS1SHA384} {
		if p.ids[name], err = add(name, r, scheme, x509.ExtKeyUsageCodeSigning); err != nil {
			return nil, err
		}
	}
	for name, c := range map[string]elliptic.Curve{"p256": elliptic.P256(), "p384": elliptic.P384(), "lifetime": elliptic.P256()} {
		k, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			return nil, err
		}
		scheme := sigalg.ECDSASHA256
		if name == "p384" {
			scheme = sigalg.ECDSASHA384
		}
		if p.ids[name], err = add(name, k, scheme, x509.ExtKeyUsageCodeSigning); err != nil {
			return nil, err
		}
	}
	// osslsigncode's own authority takes RSA keys.
	p.tsa, err = add("tsa", r, sigalg.RSAPKCS1SHA256, x509.ExtKeyUsageTimeStamping)
	return p, err
})

func emptyPool() *x509.CertPool { return x509.NewCertPool() }

func newPKI(t testing.TB) *pki {
	t.Helper()
	p, err := authority()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestMain(m *testing.M) {
	code := m.Run()
	if p, err := authority(); err == nil {
		_ = os.RemoveAll(p.dir)
	}
	os.Exit(code)
}

func (p *pki) trust() format.Trust {
	return format.Trust{Roots: p.pool, TimestampRoots: p.pool, Now: p.now}
}

// trustWith knows the issuers of a signer too, for signatures that carry only
// the signer's own certificate.
func (p *pki) trustWith(id string) format.Trust {
	t := p.trust()
	t.Intermediates = p.ids[id].id.Chain[1:]
	return t
}

// token stamps a signature value.
func (p *pki) token(t testing.TB, value []byte) []byte {
	t.Helper()
	d := sha256.Sum256(value)
	req := tsp.NewRequest(crypto.SHA256, d[:], nil, nil, true)
	pending, err := tsp.Issue(req, tsp.AuthorityConfig{Chain: p.tsa.id.Chain, Policy: asn1.ObjectIdentifier{1, 2, 3}, Scheme: p.tsa.id.Scheme}, big.NewInt(7), p.now.Add(-time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := pending.Finish(p.tsa.sign(t, pending.ToBeSigned()))
	if err != nil {
		t.Fatal(err)
	}
	tok, err := tsp.ParseResponse(resp)
	if err != nil {
		t.Fatal(err)
	}
	return tok.CMS.Raw
}

func (s signer) sign(t testing.TB, message []byte) []byte {
	t.Helper()
	sig, err := s.key.Sign(rand.Reader, s.id.Scheme.Input(message), s.id.Scheme.SignerOpts())
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

func plan(t testing.TB, b []byte, params format.Params) *format.Plan {
	t.Helper()
	p, err := Format{}.Plan(context.Background(), file(b), params)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// seal goes the whole way: plan, encode, decode, assemble, sign, attach.
func (s signer) seal(t testing.TB, b []byte, params format.Params, stamp func(value []byte) []byte) []byte {
	t.Helper()
	enc, err := plan(t, b, params).Encode()
	if err != nil {
		t.Fatal(err)
	}
	p, err := format.DecodePlan(enc)
	if err != nil {
		t.Fatal(err)
	}
	tbs, err := Format{}.Assemble(p, s.id, time.Time{}, nil)
	if err != nil || len(tbs) != 1 {
		t.Fatalf("%d messages, %v", len(tbs), err)
	}
	sig := format.Signature{Value: s.sign(t, tbs[0].Message)}
	if stamp != nil {
		sig.Timestamp = stamp(sig.Value)
	}
	if rest, err := (Format{}).Assemble(p, s.id, time.Time{}, [][]byte{sig.Value}); err != nil || len(rest) != 0 {
		t.Fatalf("after the signature: %d messages, %v", len(rest), err)
	}
	patch, err := Format{}.Attach(context.Background(), file(b), p, s.id, time.Time{}, []format.Signature{sig})
	if err != nil {
		t.Fatal(err)
	}
	return apply(t, b, patch)
}

func verify(b []byte, tr format.Trust) (*format.Report, error) {
	return Format{}.Verify(context.Background(), file(b), tr)
}

// run runs a tool and returns what it says.
func run(t testing.TB, tool, hint string, args ...string) (string, error) {
	t.Helper()
	if _, err := exec.LookPath(tool); err != nil {
		t.Fatalf("%v: apt-get install %s", err, hint)
	}
	out, err := exec.Command(tool, args...).CombinedOutput()
	return string(out), err
}

// judge has osslsigncode verify b.
func (p *pki) judge(t testing.TB, b []byte, args ...string) string {
	t.Helper()
	f := filepath.Join(t.TempDir(), "signed.exe")
	if err := os.WriteFile(f, b, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := run(t, "osslsigncode", "osslsigncode", append([]string{"verify", "-CAfile", p.caFile, "-TSA-CAfile", p.caFile, "-in", f}, args...)...)
	if err != nil || strings.Contains(out, "MISMATCH") || strings.Contains(out, "invalid") {
		t.Errorf("osslsigncode: %v\n%s", err, out)
	}
	return out
}

// peer signs b with osslsigncode.
func (p *pki) peer(t testing.TB, b []byte, id string, args ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	in, outFile := filepath.Join(dir, "in.exe"), filepath.Join(dir, "out.exe")
	if err := os.WriteFile(in, b, 0o600); err != nil {
		t.Fatal(err)
	}
	s := p.ids[id]
	out, err := run(t, "osslsigncode", "osslsigncode", append([]string{"sign", "-certs", s.cert, "-key", s.pem, "-h", "sha256", "-in", in, "-out", outFile}, args...)...)
	if err != nil {
		t.Fatalf("osslsigncode sign: %v\n%s", err, out)
	}
	signed, err := os.ReadFile(outFile)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// program builds a Windows program of Go's linker.
func program(t testing.TB, arch string) []byte {
	t.Helper()
	dir := t.TempDir()
	src := filepath.Join(dir, "main.go")
	if err := os.WriteFile(src, []byte("package main\n\nfunc main() { println(\"hello\") }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(dir, "hello.exe")
	cmd := exec.Command("go", "build", "-trimpath", "-o", exe, src)
	cmd.Env = append(os.Environ(), "GOOS=windows", "GOARCH="+arch, "CGO_ENABLED=0", "GO111MODULE=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	b, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func readFile(t testing.TB, path, hint string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v: apt-get install %s", err, hint)
	}
	return b
}
