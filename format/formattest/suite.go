package formattest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/sigalg"
)

// Case is one file of a format with who signs it.
type Case struct {
	Artifact []byte // small: every byte of the result is flipped
	Name     string // of the artifact
	Params   format.Params
	Signer   *Signer
	At       time.Time // of signing; zero: formattest.At

	// Other is a file of the same format with other content. The signature of
	// Artifact must not be good for it.
	Other []byte
	// Refused are options that Plan must refuse.
	Refused []format.Params
	// Unsigned are the fields of a plan, by their Go names, whose change leaves
	// the message to be signed as it is and the plan acceptable to Assemble.
	Unsigned []string
	// Open says which bytes of the signed file, or of the sidecar, the format
	// leaves open: Verify may accept their change. nil: none. Run prints those that
	// are accepted.
	Open func(signed []byte, offset int) bool
	// Partly says that Plan need not read the whole file: its signature covers
	// digests that the file itself carries, which Verify checks.
	Partly bool
}

func (c *Case) at() time.Time {
	if c.At.IsZero() {
		return At
	}
	return c.At
}

// counter counts what is read and notes whether it was read in order.
type counter struct {
	format.Artifact
	read  atomic.Int64
	back  atomic.Int64 // reads that begin before the last one ended
	until atomic.Int64
}

func (c *counter) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.Artifact.ReadAt(p, off)
	c.read.Add(int64(n))
	if off < c.until.Load() && off > 0 {
		c.back.Add(int64(n))
	}
	c.until.Store(off + int64(n))
	return n, err
}

type run struct {
	*testing.T
	f    format.Format
	c    Case
	plan *format.Plan
	enc  []byte
	sigs []format.Signature
	full []byte       // the signed file; the artifact where there is a sidecar
	side []byte       // the sidecar
	good format.Trust // with Detached set
}

// Run holds f to package format's promises with one case.
func Run(t *testing.T, f format.Format, c Case) {
	t.Helper()
	r := &run{T: t, f: f, c: c}
	r.deterministic()
	r.options()
	r.truncatedPlans()
	r.flippedPlans()
	r.assemblePure()
	r.attach()
	r.flippedFiles()
	r.truncatedFiles()
	r.strangers()
	r.reading()
	r.removal()
	r.extraction()
}

func (r *run) artifact() format.Artifact { return format.BytesArtifact(r.c.Name, r.c.Artifact) }

func (r *run) deterministic() {
	r.Helper()
	for i := range 2 {
		p, err := r.f.Plan(r.Context(), r.artifact(), r.c.Params)
		if err != nil {
			r.Fatalf("plan: %v", err)
		}
		b, err := p.Encode()
		if err != nil {
			r.Fatalf("plan: encode: %v", err)
		}
		if i > 0 && !bytes.Equal(b, r.enc) {
			r.Fatal("plan: two plans of the same bytes differ")
		}
		r.plan, r.enc = p, b
	}
	if r.plan.Format != r.f.Name() || r.plan.Size != int64(len(r.c.Artifact)) {
		r.Errorf("plan: format %q, size %d", r.plan.Format, r.plan.Size)
	}
	d, err := format.DecodePlan(r.enc)
	if err != nil {
		r.Fatalf("plan: decode: %v", err)
	}
	if b, err := d.Encode(); err != nil || !bytes.Equal(b, r.enc) {
		r.Fatalf("plan: decoded and encoded it differs: %v", err)
	}
	r.plan = d // from here on everything works on a plan that has travelled

	// The inspector recomputes a plan from the bytes and the plan's own options.
	params := format.Params{}
	for _, o := range d.Params {
		params[o.Name] = o.Value
	}
	again, err := r.f.Plan(r.Context(), r.artifact(), params)
	if err != nil {
		r.Fatalf("plan: with its own options: %v", err)
	}
	if b, _ := again.Encode(); !bytes.Equal(b, r.enc) {
		r.Error("plan: with its own options it differs")
	}
}

func (r *run) options() {
	r.Helper()
	for _, p := range append(r.c.Refused, format.Params{"no-such-option": "1"}, format.Params{"": ""}) {
		if _, err := r.f.Plan(r.Context(), r.artifact(), p); err == nil {
			r.Errorf("plan: options %q are accepted", p)
		}
	}
	for _, o := range r.f.Options() {
		if o.Help == "" || o.Name == "" || strings.ToLower(o.Name) != o.Name || len(o.Values) > 0 && !slices.Contains(o.Values, o.Default) {
			r.Errorf("option %+v: want help, a lower-case name and a default among the values", o)
		}
		if len(o.Values) > 0 {
			if _, err := r.f.Plan(r.Context(), r.artifact(), format.Params{o.Name: "no such value"}); err == nil {
				r.Errorf("option %s takes any value", o.Name)
			}
		}
	}
}

func (r *run) truncatedPlans() {
	r.Helper()
	for n := range r.enc {
		if _, err := format.DecodePlan(r.enc[:n]); err == nil {
			r.Errorf("the first %d bytes of a plan are a plan", n)
		}
	}
}

// message is what all rounds of a plan are asked to sign, with signatures that
// depend on nothing but the round.
func (r *run) message(p *format.Plan) (string, error) {
	var b strings.Builder
	var done [][]byte
	for range 8 {
		tbs, err := r.f.Assemble(p, r.c.Signer.Identity, r.c.at(), done)
		if err != nil {
			return "", err
		}
		if len(tbs) == 0 {
			return b.String(), nil
		}
		for _, m := range tbs {
			fmt.Fprintf(&b, "%s %d:%s %x\n", m.Scheme, len(m.Message), m.Message, m.Digest)
			done = append(done, fmt.Appendf(nil, "signature of round %d", len(done)))
		}
	}
	return "", fmt.Errorf("more than 8 rounds")
}

// different names the fields in which two plans differ.
func different(a, b *format.Plan) (out []string) {
	add := func(name string, same bool) {
		if !same {
			out = append(out, name)
		}
	}
	add("Format", a.Format == b.Format)
	add("Version", a.Version == b.Version)
	add("Digest", a.Digest == b.Digest)
	add("Size", a.Size == b.Size)
	add("Content", bytes.Equal(a.Content, b.Content))
	add("Params", slices.Equal(a.Params, b.Params))
	add("Facts", slices.Equal(a.Facts, b.Facts))
	add("Body", bytes.Equal(a.Body, b.Body))
	return out
}

func (r *run) flippedPlans() {
	r.Helper()
	want, err := r.message(r.plan)
	if err != nil {
		r.Fatalf("assemble: %v", err)
	}
	if want == "" {
		r.Fatal("assemble: nothing to sign")
	}
	seen := map[string]bool{}
	for i := range r.enc {
		for _, bit := range []byte{1, 2, 4, 8, 16, 32, 64, 128} {
			b := bytes.Clone(r.enc)
			b[i] ^= bit
			p, err := format.DecodePlan(b)
			if err != nil {
				continue
			}
			got, err := r.message(p)
			if err != nil || got != want {
				continue
			}
			for _, field := range different(p, r.plan) {
				if first := !seen[field]; first && !slices.Contains(r.c.Unsigned, field) {
					r.Errorf("plan: byte %d ^ %#x changes %s and nothing that is signed", i, bit, field)
				}
				seen[field] = true
			}
		}
	}
	for _, field := range r.c.Unsigned {
		if !seen[field] {
			r.Errorf("%s is listed as unsigned, and every change of it is noticed: take it off the list", field)
		}
	}
}

func (r *run) assemblePure() {
	r.Helper()
	a, err1 := r.message(r.plan)
	b, err2 := r.message(r.plan)
	if err1 != nil || err2 != nil || a != b {
		r.Errorf("assemble twice: %v, %v", err1, err2)
	}
	if enc, err := r.plan.Encode(); err != nil || !bytes.Equal(enc, r.enc) {
		r.Error("assemble changed the plan")
	}
	r.sigs = SignAll(r.T, r.f, r.plan, r.c.Signer, r.c.at())
	var done [][]byte
	for _, s := range r.sigs {
		done = append(done, s.Value)
	}
	if _, err := r.f.Assemble(r.plan, r.c.Signer.Identity, r.c.at(), append(done, []byte("one more"))); err == nil {
		r.Error("assemble: a signature too many is accepted")
	}
	other := *r.plan
	other.Format = "x" + other.Format
	if _, err := r.f.Assemble(&other, r.c.Signer.Identity, r.c.at(), nil); err == nil {
		r.Error("assemble: a plan of another format is accepted")
	}
	other = *r.plan
	other.Version += 1000
	if _, err := r.f.Assemble(&other, r.c.Signer.Identity, r.c.at(), nil); err == nil {
		r.Error("assemble: a plan of a later version is accepted")
	}
}

func (r *run) attach() {
	r.Helper()
	p, err := r.f.Attach(r.Context(), r.artifact(), r.plan, r.c.Signer.Identity, r.c.at(), r.sigs)
	if err != nil {
		r.Fatalf("attach: %v", err)
	}
	if err := p.Check(); err != nil {
		r.Fatalf("attach: %v", err)
	}
	if p.Size != int64(len(r.c.Artifact)) {
		r.Errorf("attach: patch is for %d bytes", p.Size)
	}
	r.full, r.good = r.c.Artifact, r.c.Signer.Trust()
	if p.Sidecar != nil {
		r.side = p.Sidecar.Data
		r.good.Detached = r.side
	} else if r.full, err = p.Bytes(r.artifact()); err != nil {
		r.Fatalf("attach: %v", err)
	}
	rep, err := r.verify(r.full, r.good)
	if err != nil {
		r.Fatalf("verify: %v", err)
	}
	if rep.Format != r.f.Name() || len(rep.Signatures) == 0 {
		r.Fatalf("verify: report %+v", rep)
	}
	last := rep.Signatures[len(rep.Signatures)-1]
	if !slices.ContainsFunc(rep.Signatures, func(s format.SignatureInfo) bool { return bytes.Equal(s.Content, r.plan.Content) }) {
		r.Error("verify: no signature reports the plan's content digest")
	}
	if !last.Scheme.Valid() || last.Key == nil || len(last.Covers) == 0 {
		r.Errorf("verify: signature lacks scheme, key or what it covers: %+v", last)
	}
	if _, err := r.f.Attach(r.Context(), r.artifact(), r.plan, r.c.Signer.Identity, r.c.at(), nil); err == nil {
		r.Error("attach: no signature is accepted")
	}
	for i := range r.sigs {
		bad := slices.Clone(r.sigs)
		bad[i].Value = bytes.Clone(bad[i].Value)
		bad[i].Value[len(bad[i].Value)/2] ^= 1
		if _, err := r.f.Attach(r.Context(), r.artifact(), r.plan, r.c.Signer.Identity, r.c.at(), bad); err == nil {
			r.Errorf("attach: a flipped bit in signature %d is accepted", i)
		}
	}
}

func (r *run) verify(file []byte, t format.Trust) (*format.Report, error) {
	return r.f.Verify(r.Context(), format.BytesArtifact(r.c.Name, file), t)
}

// flip hands out b with each byte changed in two ways.
func flip(b []byte, try func(i int, b []byte)) {
	c := bytes.Clone(b)
	for i := range c {
		for _, x := range []byte{0x01, 0xff} {
			c[i] ^= x
			try(i, c)
			c[i] ^= x
		}
	}
}

func (r *run) flippedFiles() {
	r.Helper()
	open := func(b []byte, i int) bool { return r.c.Open != nil && r.c.Open(b, i) }
	var free []int
	accepted := func(what string, was []byte, i int, now byte, mayBeOpen bool) {
		r.Helper()
		if !mayBeOpen || !open(was, i) {
			r.Errorf("verify: %s with byte %d (%#x) changed to %#x is accepted", what, i, was[i], now)
		} else if len(free) == 0 || free[len(free)-1] != i {
			free = append(free, i)
		}
	}
	flip(r.full, func(i int, b []byte) {
		if _, err := r.verify(b, r.good); err == nil {
			accepted("file", r.full, i, b[i], r.side == nil)
		}
	})
	flip(r.side, func(i int, b []byte) {
		t := r.good
		t.Detached = b
		if _, err := r.verify(r.full, t); err == nil {
			accepted("signature file", r.side, i, b[i], true)
		}
	})
	r.Logf("%s: of %d bytes, %d are open: %s", r.f.Name(), max(len(r.full), len(r.side)), len(free), ranges(free))
}

// ranges writes ascending numbers for people: "3, 7-9".
func ranges(list []int) string {
	var out []string
	for i := 0; i < len(list); {
		j := i
		for j+1 < len(list) && list[j+1] == list[j]+1 {
			j++
		}
		if j == i {
			out = append(out, strconv.Itoa(list[i]))
		} else {
			out = append(out, fmt.Sprintf("%d-%d", list[i], list[j]))
		}
		i = j + 1
	}
	if len(out) == 0 {
		return "none"
	}
	return strings.Join(out, ", ")
}

// removal takes the signature off again: what is left is not signed and is, to a
// plan, what it was before.
func (r *run) removal() {
	r.Helper()
	rem, ok := r.f.(format.Remover)
	if !ok || r.side != nil { // a signature beside the file is a file to delete
		return
	}
	a := format.BytesArtifact(r.c.Name, r.full)
	p, err := rem.Remove(r.Context(), a, -1)
	if err != nil {
		r.Fatalf("remove: %v", err)
	}
	bare, err := p.Bytes(a)
	if err != nil {
		r.Fatalf("remove: %v", err)
	}
	b := format.BytesArtifact(r.c.Name, bare)
	if rep, err := r.f.Inspect(r.Context(), b); err != nil || len(rep.Signatures) > 0 {
		r.Errorf("remove: afterwards there are signatures: %+v, %v", rep, err)
	}
	if _, err := r.verify(bare, r.good); err == nil {
		r.Error("remove: what is left verifies")
	}
	if plan, err := r.f.Plan(r.Context(), b, r.c.Params); err != nil || !bytes.Equal(plan.Content, r.plan.Content) {
		r.Errorf("remove: what is left is planned as other content: %v", err)
	}
	if _, err := rem.Remove(r.Context(), b, -1); !errors.Is(err, format.ErrUnsigned) {
		r.Errorf("remove: of an unsigned file: %v: want ErrUnsigned", err)
	}
	if _, err := rem.Remove(r.Context(), a, 1<<20); err == nil {
		r.Error("remove: a signature that is not there is taken off")
	}
}

func (r *run) extraction() {
	r.Helper()
	x, ok := r.f.(format.Extractor)
	if !ok || r.side != nil {
		return
	}
	s, err := x.Extract(r.Context(), format.BytesArtifact(r.c.Name, r.full), 0)
	if err != nil {
		r.Fatalf("extract: %v", err)
	}
	if err := (&format.Patch{Sidecar: s}).Check(); err != nil {
		r.Errorf("extract: %v", err)
	}
	if _, err := x.Extract(r.Context(), r.artifact(), 0); !errors.Is(err, format.ErrUnsigned) {
		r.Errorf("extract: of an unsigned file: %v: want ErrUnsigned", err)
	}
}

func (r *run) truncatedFiles() {
	r.Helper()
	for n := range r.full {
		if _, err := r.verify(r.full[:n], r.good); err == nil {
			r.Errorf("verify: the first %d bytes of the file are accepted", n)
		}
		a := format.BytesArtifact(r.c.Name, r.full[:n])
		r.f.Detect(a)
		r.f.Inspect(r.Context(), a)
		r.f.Plan(r.Context(), a, r.c.Params)
	}
	for n := range r.side {
		t := r.good
		t.Detached = r.side[:n]
		if _, err := r.verify(r.full, t); err == nil {
			r.Errorf("verify: the first %d bytes of the signature file are accepted", n)
		}
	}
	if _, err := r.verify(append(bytes.Clone(r.full), 0), r.good); err == nil {
		r.Error("verify: a byte after the end is accepted")
	}
	if r.side != nil {
		t := r.good
		t.Detached = append(bytes.Clone(r.side), '\n')
		if _, err := r.verify(r.full, t); err == nil {
			r.Error("verify: a byte after the signature is accepted")
		}
	}
}

// strangers tries trust in somebody else, and the signature on another file.
func (r *run) strangers() {
	r.Helper()
	nobody := format.Trust{Now: r.good.Now, Detached: r.good.Detached}
	if _, err := r.verify(r.full, nobody); err == nil {
		r.Error("verify: accepted without trusting anybody")
	}
	other := Identity(r.T, sigalg.P256).Trust()
	other.Detached = r.good.Detached
	if _, err := r.verify(r.full, other); err == nil {
		r.Error("verify: accepted with trust in somebody else")
	}
	if _, err := r.verify(r.c.Artifact, format.Trust{Roots: r.good.Roots, Keys: r.good.Keys, Now: r.good.Now}); err == nil {
		r.Error("verify: the unsigned file is accepted")
	}
	if r.c.Other == nil {
		r.Fatal("the case has no other file")
	}
	a := format.BytesArtifact(r.c.Name, r.c.Other)
	reject := func(what string, plan *format.Plan, sigs []format.Signature) {
		r.Helper()
		p, err := r.f.Attach(r.Context(), a, plan, r.c.Signer.Identity, r.c.at(), sigs)
		if err != nil {
			return
		}
		t, file := r.good, r.c.Other
		if p.Sidecar != nil {
			t.Detached = p.Sidecar.Data
		} else if file, err = p.Bytes(a); err != nil {
			return
		}
		if _, err := r.verify(file, t); err == nil {
			r.Errorf("%s gives a file that verifies", what)
		}
	}
	reject("plan and signature of one file, attached to another,", r.plan, r.sigs)
	plan, err := r.f.Plan(r.Context(), a, r.c.Params)
	if err != nil {
		r.Fatalf("plan of the other file: %v", err)
	}
	reject("a signature over another plan", plan, r.sigs)
	if r.side != nil {
		if _, err := r.verify(r.c.Other, r.good); err == nil {
			r.Error("verify: the signature file of one file is accepted for another")
		}
	}
}

// reading counts bytes: Plan reads the file once and in order, Attach hardly.
func (r *run) reading() {
	r.Helper()
	size := int64(len(r.c.Artifact))
	c := &counter{Artifact: r.artifact()}
	if _, err := r.f.Plan(r.Context(), c, r.c.Params); err != nil {
		r.Fatal(err)
	}
	if n := c.read.Load(); n < size && !r.c.Partly || n > size+size/10+1<<20 {
		r.Errorf("plan reads %d bytes of %d", n, size)
	}
	if n := c.back.Load(); n > 1<<20 {
		r.Errorf("plan jumps back over %d bytes", n)
	}
	c = &counter{Artifact: r.artifact()}
	if _, err := r.f.Attach(r.Context(), c, r.plan, r.c.Signer.Identity, r.c.at(), r.sigs); err != nil {
		r.Fatal(err)
	}
	if n := c.read.Load(); n > 64<<10 {
		r.Errorf("attach reads %d bytes", n)
	}
	short := shrunk{r.artifact()}
	if size > 0 {
		if _, err := r.f.Plan(r.Context(), short, r.c.Params); err == nil && !r.c.Partly {
			r.Error("plan: a file that ends before its size is accepted")
		}
		if _, err := r.f.Verify(r.Context(), shrunk{format.BytesArtifact(r.c.Name, r.full)}, r.good); err == nil {
			r.Error("verify: a file that ends before its size is accepted")
		}
	}
}

// Reads checks, with a larger file than Run's, that Plan reads it once.
func Reads(t *testing.T, f format.Format, a format.Artifact, p format.Params) {
	t.Helper()
	c := &counter{Artifact: a}
	if _, err := f.Plan(t.Context(), c, p); err != nil {
		t.Fatal(err)
	}
	if n, size := c.read.Load(), a.Size(); n < size || n > size+size/10+1<<20 {
		t.Errorf("plan reads %d bytes of %d", n, size)
	}
	if n := c.back.Load(); n > 1<<20 {
		t.Errorf("plan jumps back over %d bytes", n)
	}
}

// shrunk lost its last byte after it was opened.
type shrunk struct{ format.Artifact }

func (s shrunk) ReadAt(p []byte, off int64) (int, error) {
	n := s.Size() - 1 - off
	if n <= 0 {
		return 0, io.EOF
	}
	if int64(len(p)) <= n {
		return s.Artifact.ReadAt(p, off)
	}
	m, err := s.Artifact.ReadAt(p[:n], off)
	if err == nil {
		err = io.EOF
	}
	return m, err
}
