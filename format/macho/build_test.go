package macho

import (
	"bytes"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
)

// recipe is a small Mach-O file.
type recipe struct {
	cpu, sub, kind uint32
	narrow         bool   // 32 bits
	code           int    // bytes of __text
	pad            int    // bytes between the load commands and __text
	info           string // Info.plist in the program
	link           int    // bytes of __LINKEDIT
	seed           byte
}

const amd64, arm64 = 0x1000007, 0x100000c

func (r recipe) make() []byte {
	if r.cpu == 0 {
		r.cpu, r.sub = amd64, 3
	}
	if r.kind == 0 {
		r.kind = typeExecute
	}
	if r.link == 0 {
		r.link = 40
	}
	h := &head{wide: !r.narrow}
	l := h.layout()
	sections := 1
	if r.info != "" {
		sections = 2
	}
	commands := 2*l.segment + sections*l.section + 24
	text := h.headerSize() + commands + r.pad
	info := text + r.code
	link := (info + len(r.info) + 15) / 16 * 16
	b := make([]byte, link+r.link)
	for i := text; i < info; i++ {
		b[i] = byte(i)*7 + r.seed
	}
	copy(b[info:], r.info)
	for i := link; i < len(b); i++ {
		b[i] = byte(i)
	}
	magic, segment := uint32(magic64), uint32(cmdSegment64)
	if r.narrow {
		magic, segment = magic32, cmdSegment
	}
	for i, v := range []uint32{magic, r.cpu, r.sub, r.kind, 3, uint32(commands), 0x85} {
		le.PutUint32(b[4*i:], v)
	}
	c := b[h.headerSize():]
	seg := func(name string, vm uint64, off, size, count int) {
		le.PutUint32(c, segment)
		le.PutUint32(c[4:], uint32(l.segment+count*l.section))
		copy(c[8:], name)
		l.put(c[l.addr:], vm)
		l.put(c[l.addr+l.word:], uint64(size+4095)/4096*4096)
		l.put(c[l.addr+2*l.word:], uint64(off))
		l.put(c[l.addr+3*l.word:], uint64(size))
		le.PutUint32(c[l.count:], uint32(count))
		c = c[l.segment:]
	}
	sect := func(name string, off, size int) {
		copy(c, name)
		copy(c[16:], "__TEXT")
		l.put(c[l.sectSize:], uint64(size))
		le.PutUint32(c[l.sectAt:], uint32(off))
		c = c[l.section:]
	}
	seg("__TEXT", 0x1000, 0, link, sections)
	sect("__text", text, r.code)
	if r.info != "" {
		sect("__info_plist", info, len(r.info))
	}
	le.PutUint32(c, cmdBuildVersion)
	le.PutUint32(c[4:], 24)
	le.PutUint32(c[8:], 1)
	le.PutUint32(c[12:], 0x000c0000)
	le.PutUint32(c[16:], 0x000d0100)
	c = c[24:]
	seg("__LINKEDIT", 0x100000, link, r.link, 0)
	return b
}

// universal puts files into one, aligned to 2^align bytes.
func universal(width uint, align uint32, files ...[]byte) []byte {
	f := &file{width: width}
	var sizes []int64
	for _, b := range files {
		cpu, sub := le.Uint32(b[4:]), le.Uint32(b[8:])
		f.slices = append(f.slices, &part{head: &head{cpu: cpu}, sub: sub, align: align, off: 1 << align})
		sizes = append(sizes, int64(len(b)))
	}
	offs, err := f.place(sizes)
	if err != nil {
		panic(err)
	}
	out := f.table(offs, sizes)
	for i, b := range files {
		out = append(out, make([]byte, offs[i]-int64(len(out)))...)
		out = append(out, b...)
	}
	return out
}

func artifact(b []byte) format.Artifact { return format.BytesArtifact("program", b) }

// seal signs b.
func seal(tb testing.TB, b []byte, s *formattest.Signer, p format.Params, stamp bool) []byte {
	tb.Helper()
	f := Format{}
	if p == nil {
		p = format.Params{}
	}
	if p["identifier"] == "" && p["replace"] == "" {
		p["identifier"] = "com.example.program"
	}
	plan, err := f.Plan(tb.Context(), artifact(b), p)
	if err != nil {
		tb.Fatal(err)
	}
	sigs := formattest.SignAll(tb, f, plan, s, formattest.At)
	if stamp {
		for i := range sigs {
			sigs[i].Timestamp = s.Timestamp(tb, sigs[i].Value, formattest.At)
		}
	}
	patch, err := f.Attach(tb.Context(), artifact(b), plan, s.Identity, formattest.At, sigs)
	if err != nil {
		tb.Fatal(err)
	}
	return apply(tb, b, patch)
}

func apply(tb testing.TB, b []byte, p *format.Patch) []byte {
	tb.Helper()
	out, err := p.Bytes(artifact(b))
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

func verify(tb testing.TB, b []byte, t format.Trust) (*format.Report, error) {
	tb.Helper()
	return Format{}.Verify(tb.Context(), artifact(b), t)
}

func flipped(b []byte, at int64) []byte {
	c := bytes.Clone(b)
	c[at] ^= 1
	return c
}

// linkerSigned makes of our signature one as linkers put it on arm64 programs: a
// CodeDirectory with the flags of that, and nobody's signature over it.
func linkerSigned(b []byte) []byte {
	b = bytes.Clone(b)
	f, err := parse(artifact(b))
	if err != nil {
		panic(err)
	}
	s := b[f.slices[0].signature.off:]
	n := be.Uint32(s[8:])
	be.PutUint32(s[be.Uint32(s[16:])+12:], 0x20002)
	last := be.Uint32(s[12+8*(n-1)+4:])
	be.PutUint32(s[last+4:], 8)
	be.PutUint32(s[4:], last+8)
	clear(s[last+8:])
	return b
}
