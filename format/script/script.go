// Package script is Authenticode for text: PowerShell scripts, modules and data
// (.ps1, .psm1, .psd1), its XML (.ps1xml, .psc1, .cdxml), .mof, and the Windows
// Script Host's .js, .vbs and .wsf.
//
// The signature is a block of comments in the text's own encoding. The digest is over
// the text before it in UTF-16LE, whatever the file's encoding is, with the byte order
// mark for PowerShell and without it for the Script Host, which also digests the place
// of the block: the number of UTF-16 words before it, 4 bytes, little-endian.
//
// Nothing in a text says what kind of script it is; Windows goes by the extension. The
// option script-type says it to Plan; its default is the extension of the artifact's
// name, then a signature that is there, then how the text begins. The plan says what
// was taken, and a plan made anew with the plan's own options does not look at the
// name. Verify and Inspect go by the block, and refuse one that a host would not look
// for in a file of that name.
//
// Invariants:
//
//  1. No byte of the text changes: line ends, byte order mark and encoding stay.
//  2. Plan is deterministic, given its options, and Assemble refuses what no Plan made.
//  3. Verify accepts a file only when every signature in it verifies and when nothing
//     stands after the block (in .wsf: after the end of the job) that is not digested.
//  4. A text whose digest would depend on the code page of the computer that verifies
//     is refused: text without a byte order mark that is neither ASCII nor, where
//     Windows finds that out, UTF-8.
//
// A caller may not conclude from a verified report that a host runs the script, nor
// that one with another extension reads the same text.
package script

import (
	"bytes"
	"context"
	"crypto"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/authenticode"
)

// Name is the format's word in plans and charters.
const Name = "script"

// maxSize bounds a script: it is held in memory.
const maxSize = 16 << 20

// What callers branch on.
var (
	ErrType      = errors.New("script: no kind of script is known by that content or name: say option script-type")
	ErrEncoding  = errors.New("script: encoding is not one that verifiers agree on")
	ErrMalformed = errors.New("script: malformed signature block")
)

// Format implements format.Format and what formats may do besides.
type Format struct {
	format.OneRound
	authenticode.Methods[opener]
}

type opener struct{}

// Open reads the structure of a script.
func (opener) Open(_ context.Context, a format.Artifact) (authenticode.File, error) {
	return open(a, "", false)
}

var (
	_ format.Format    = Format{}
	_ format.Stamper   = Format{}
	_ format.Remover   = Format{}
	_ format.Extractor = Format{}
)

// New returns the format.
func New() format.Format { return Format{} }

// Name is "script".
func (Format) Name() string { return Name }

// Options lists what Plan takes.
func (Format) Options() []format.Option {
	values := []string{"auto"}
	for _, k := range kinds {
		values = append(values, k.name)
	}
	return authenticode.Options(format.Option{
		Name: "script-type", Help: "kind of script (ps1 stands for psm1 and psd1, xml for ps1xml, psc1 and cdxml); auto: by extension, signature or beginning",
		Values: values, Default: "auto",
	})
}

// kind is a kind of script: how its block looks and who verifies it.
type kind struct {
	name       string
	extensions []string
	open       string // before each line of the block
	close      string
	begin, end string // between open and close
	host       bool   // of the Windows Script Host
	guess      bool   // Windows tells UTF-8 without a byte order mark
	version    int    // of SpcSipInfo
	class      string
}

// The classes of subject interface packages, as they stand in SpcSipInfo:
// {603BCC1F-4B59-4E08-B724-D2C6297EF351}, {06C9E010-38CE-11D4-A2A3-00104BD35090},
// {1629F04E-2799-4DB5-8FE5-ACE10F17EBAB}, {1A610570-38CE-11D4-A2A3-00104BD35090}.
const (
	classPowerShell = "\x1f\xcc\x3b\x60\x59\x4b\x08\x4e\xb7\x24\xd2\xc6\x29\x7e\xf3\x51"
	classJScript    = "\x10\xe0\xc9\x06\xce\x38\xd4\x11\xa2\xa3\x00\x10\x4b\xd3\x50\x90"
	classVBScript   = "\x4e\xf0\x29\x16\x99\x27\xb5\x4d\x8f\xe5\xac\xe1\x0f\x17\xeb\xab"
	classWSF        = "\x70\x05\x61\x1a\xce\x38\xd4\x11\xa2\xa3\x00\x10\x4b\xd3\x50\x90"
)

const (
	beginPS = "SIG # Begin signature block"
	endPS   = "SIG # End signature block"
	begin   = "Begin signature block"
	end     = "End signature block"
)

var kinds = [...]kind{
	{"ps1", []string{".ps1", ".psm1", ".psd1"}, "# ", "", beginPS, endPS, false, true, 65536, classPowerShell},
	{"xml", []string{".ps1xml", ".psc1", ".cdxml"}, "<!-- ", " -->", beginPS, endPS, false, false, 65536, classPowerShell},
	{"mof", []string{".mof"}, "/* ", " */", beginPS, endPS, false, true, 65536, classPowerShell},
	{"js", []string{".js"}, "// SIG // ", "", begin, end, true, false, 1, classJScript},
	{"vbs", []string{".vbs"}, "'' SIG '' ", "", begin, end, true, false, 1, classVBScript},
	{"wsf", []string{".wsf"}, "** SIG ** ", "", "", "", true, true, 1, classWSF},
}

// first and last are the lines around the block's base64.
func (k *kind) first() string {
	if k.name == "wsf" {
		return "<signature>"
	}
	return k.open + k.begin + k.close
}

func (k *kind) last() string {
	if k.name == "wsf" {
		return "</signature>"
	}
	return k.open + k.end + k.close
}

func byName(name string) *kind {
	for i := range kinds {
		if kinds[i].name == name {
			return &kinds[i]
		}
	}
	return nil
}

func byExtension(file string) *kind {
	ext := strings.ToLower(path.Ext(strings.ReplaceAll(file, "\\", "/")))
	for i := range kinds {
		for _, e := range kinds[i].extensions {
			if e == ext {
				return &kinds[i]
			}
		}
	}
	return nil
}

// Detect says whether a is a text with a signature block, or one that begins as only
// a script of a certain kind does. Most scripts begin as anything does: those are for
// the user to name.
func (Format) Detect(a format.Artifact) bool {
	const look = 4096 // bytes of the beginning, and of the end
	head := make([]byte, min(look, a.Size()))
	tail := make([]byte, min(look, a.Size()))
	if len(head) < 2 || format.ReadFull(a, head, 0) != nil || format.ReadFull(a, tail, a.Size()-int64(len(tail))) != nil {
		return false
	}
	t := &text{raw: head, size: int64(len(head)), encoding: encodingOf(head)}
	if t.encoding.unit == 1 && bytes.IndexByte(head, 0) >= 0 {
		return false
	}
	if t.beginning() != nil {
		return true
	}
	for i := range kinds {
		if bytes.Contains(tail, t.encoding.bytes("\n"+kinds[i].last())) {
			return kinds[i].name != "wsf" || bytes.Contains(tail, t.encoding.bytes("\n"+kinds[i].open))
		}
	}
	return false
}

// signed is an open script of one kind: an authenticode.File.
type signed struct {
	*text
	kind  *kind
	block *block
}

// open reads a script of the kind that is wanted, or of the one that it has a block
// of. With replace a block that is broken is taken as it is.
func open(a format.Artifact, want string, replace bool) (*signed, error) {
	t, err := readText(a)
	if err != nil {
		return nil, err
	}
	named, found := byExtension(a.Name()), t.blockKind()
	k := byName(want)
	switch {
	case want == "" && found != nil && named != nil && named != found: // to verify
		return nil, fmt.Errorf("%w: a host looks for a block of %s in this file: it has one of %s", ErrMalformed, named.name, found.name)
	case want == "":
		k = found
	}
	for _, guess := range []*kind{named, found, t.beginning()} {
		if k == nil {
			k = guess
		}
	}
	if k == nil {
		return nil, ErrType
	}
	if found != nil && found != k {
		return nil, fmt.Errorf("%w: a script of kind %s has a signature block of %s", ErrMalformed, k.name, found.name)
	}
	if err := t.checkEncoding(k); err != nil {
		return nil, err
	}
	s := &signed{text: t, kind: k}
	if s.block, err = t.findBlock(k); err != nil && replace {
		if b := t.looseBlock(k); b != nil {
			s.block, err = b, nil
		}
	}
	return s, err
}

// Report says what the script is.
func (s *signed) Report() *format.Report {
	return &format.Report{Format: Name, Size: s.size, Facts: s.facts(), Signatures: []format.SignatureInfo{}}
}

// detailNames are the details of a script, in order.
var detailNames = []string{"lines", "longest-line"}

// details are the size of the text without its signature.
func (s *signed) details(before int) []format.Fact {
	a, b := s.around()
	unit := s.encoding.unit
	end := s.encoding.bytes("\n")
	lines, longest := 0, 0
	for _, text := range [][]byte{a, b} {
		text = text[:len(text)/unit*unit]
		for len(text) > 0 {
			n := len(text)
			for at := 0; at < len(text); {
				i := bytes.Index(text[at:], end)
				if i < 0 {
					break
				}
				if i += at; i%unit == 0 {
					n = i + unit
					break
				}
				at = i + 1 // it was halves of two characters
			}
			lines, longest = lines+1, max(longest, n/unit)
			text = text[n:]
		}
	}
	d := format.NewDetails(before)
	d.Say("lines", strconv.Itoa(lines))
	d.Sayf("longest-line", "%d characters", longest)
	return d.Facts()
}

func (s *signed) facts() []format.Fact {
	return []format.Fact{{Name: "kind", Value: "script, " + s.kind.name}, {Name: "encoding", Value: s.encoding.name}}
}

// PKCS7 is what the block holds.
func (s *signed) PKCS7() []byte {
	if s.block == nil {
		return nil
	}
	return s.block.der
}

// ContentType is Authenticode's.
func (s *signed) ContentType() asn1.ObjectIdentifier { return cms.OIDSpcIndirectData }

// Stated reads what a signature says of a script.
func (s *signed) Stated(sd *cms.SignedData) (*authenticode.Stated, error) {
	d, err := authenticode.ParseIndirect(sd.ContentRaw)
	if err != nil {
		return nil, err
	}
	class, err := authenticode.ParseSipInfo(d.Value)
	if err != nil || !d.Type.Equal(authenticode.OIDSipInfo) || class != s.kind.class {
		return nil, fmt.Errorf("%w: it is not about a script of kind %s", authenticode.ErrContent, s.kind.name)
	}
	out := &authenticode.Stated{Hash: d.Hash, Digest: d.Digest, Covers: []string{"the whole text but the signature block"}}
	if s.kind.host && len(s.encoding.mark) > 0 || !s.kind.host {
		out.Open = []string{"the encoding of the same text"}
	}
	return out, nil
}

// Digests digests the text.
func (s *signed) Digests(_ context.Context, hashes []crypto.Hash) (map[crypto.Hash][]byte, error) {
	before, after := s.around()
	words := s.encoding.words(before)
	at := len(words) / 2
	words = append(words, s.encoding.words(after)...)
	if s.kind.host {
		mark := len(s.encoding.words(s.encoding.mark))
		words = binary.LittleEndian.AppendUint32(words[mark:], uint32(at-mark/2))
	}
	out := map[crypto.Hash][]byte{}
	for _, h := range hashes {
		if _, err := authenticode.DigestOID(h); err != nil {
			return nil, err
		}
		x := h.New()
		x.Write(words)
		out[h] = x.Sum(nil)
	}
	return out, nil
}

// around is the text before and after the place of the block.
func (s *signed) around() (before, after []byte) {
	if s.block != nil {
		return s.raw[:s.block.from], s.raw[s.block.to:]
	}
	at := s.insertAt()
	return s.raw[:at], s.raw[at:]
}

// insertAt is where the block of an unsigned script goes: to the end, in .wsf before
// the end of the last job.
func (s *signed) insertAt() int {
	if s.kind.name != "wsf" {
		return len(s.raw)
	}
	return s.last("</job>")
}

// Put replaces the block; an empty der takes it out.
func (s *signed) Put(_ context.Context, der []byte) (*format.Patch, error) {
	before, after := s.around()
	var b []byte
	if len(der) > 0 {
		b = s.encoding.bytes(s.kind.encode(der))
	}
	from := int64(len(before))
	return &format.Patch{Size: s.size, Edits: []format.Edit{{Offset: from, Delete: s.size - from - int64(len(after)), Insert: b}}}, nil
}

// Remove takes off one signature, or the whole block.
func (Format) Remove(ctx context.Context, a format.Artifact, index int) (*format.Patch, error) {
	s, err := open(a, "", index == -1)
	if err != nil {
		return nil, err
	}
	return authenticode.Remove(ctx, s, index)
}

// bodyVersion is the version of body. Rules: a version that was released never
// changes; a new one gets a struct of its own, and the code for this one stays.
const bodyVersion = 1

type body struct {
	Encoding string `cbor:"1,keyasint"`
	At       int64  `cbor:"2,keyasint"` // where the block goes, in bytes
	Block    int64  `cbor:"3,keyasint"` // bytes of the block that is there
	After    int64  `cbor:"4,keyasint"` // bytes after it
	Existing []byte `cbor:"5,keyasint"` // SHA-256 of the signature that is there, or empty
}

// Plan reads a once.
func (f Format) Plan(ctx context.Context, a format.Artifact, params format.Params) (*format.Plan, error) {
	params, h, err := authenticode.Given(f, params)
	if err != nil {
		return nil, err
	}
	s, err := open(a, params["script-type"], params["existing"] == "replace")
	if err != nil {
		return nil, err
	}
	params["script-type"] = s.kind.name
	sigs, err := authenticode.Signatures(s)
	signers, err := authenticode.ExistingFacts(sigs, err, params["existing"] == "keep")
	if err != nil {
		return nil, err
	}
	d, err := s.Digests(ctx, []crypto.Hash{h})
	if err != nil {
		return nil, err
	}
	enc, err := format.Encode(s.body())
	if err != nil {
		return nil, fmt.Errorf("script: plan: %w", err)
	}
	facts := append(s.facts(), signers...)
	facts = append(facts, s.details(len(facts))...)
	p := &format.Plan{
		Format: Name, Version: bodyVersion, Digest: params["digest"], Size: s.size, Content: d[h],
		Params: authenticode.ParamFacts(params), Facts: facts, Body: enc,
	}
	return p, p.Check()
}

func (s *signed) body() *body {
	before, after := s.around()
	b := &body{Encoding: s.encoding.name, At: int64(len(before)), After: int64(len(after)), Existing: []byte{}}
	b.Block = s.size - b.At - b.After
	if s.block != nil {
		b.Existing = sum(s.block.der)
	}
	return b
}

// statement derives what is signed, and refuses a plan that Plan does not make.
func (f Format) statement(p *format.Plan) (*body, *kind, *authenticode.Statement, error) {
	var b body
	params, h, err := authenticode.ReadPlan(f, bodyVersion, p, &b)
	if err != nil {
		return nil, nil, nil, err
	}
	bad := func(f string, args ...any) (*body, *kind, *authenticode.Statement, error) {
		return nil, nil, nil, fmt.Errorf("%w: %s", authenticode.ErrPlan, fmt.Sprintf(f, args...))
	}
	k := byName(params["script-type"])
	signed := len(b.Existing) > 0
	facts, err := format.CutDetails(p.Facts, detailNames...)
	if err != nil {
		return bad("%v", err)
	}
	switch {
	case k == nil:
		return bad("script of kind %q", params["script-type"])
	case p.Size > maxSize || b.At < 0 || b.Block < 0 || b.After < 0 || b.At > p.Size || b.Block > p.Size || b.At+b.Block+b.After != p.Size:
		return bad("block of %d bytes at %d, %d bytes after it, in a file of %d", b.Block, b.At, b.After, p.Size)
	case b.After != 0 && k.name != "wsf" || signed != (b.Block > 0) || signed && len(b.Existing) != len(sum(nil)):
		return bad("a signature with a digest of %d bytes in a block of %d, %d bytes after it", len(b.Existing), b.Block, b.After)
	case len(facts) < 3 || facts[0] != (format.Fact{Name: "kind", Value: "script, " + k.name}) || facts[1] != (format.Fact{Name: "encoding", Value: b.Encoding}) || !knownEncoding(b.Encoding):
		return bad("facts are not those of such a script")
	}
	if err := authenticode.CheckExisting(facts[2:], signed, params["existing"] == "replace"); err != nil {
		return nil, nil, nil, err
	}
	content, err := authenticode.Indirect{
		Type: authenticode.OIDSipInfo, Value: authenticode.SipInfo(k.version, k.class), Hash: h, Digest: p.Content,
	}.Encode()
	if err != nil {
		return nil, nil, nil, err
	}
	return &b, k, &authenticode.Statement{Type: cms.OIDSpcIndirectData, Content: content, Params: params}, nil
}

// Assemble returns the one message of an Authenticode signature. The time is not in
// it; a timestamp tells it.
func (f Format) Assemble(p *format.Plan, id format.Identity, _ time.Time, done [][]byte) ([]format.ToBeSigned, error) {
	_, _, s, err := f.statement(p)
	if err != nil {
		return nil, err
	}
	return s.Assemble(id, done)
}

// Attach puts the block into the script. It reads the script and refuses one with
// another digest.
func (f Format) Attach(ctx context.Context, a format.Artifact, p *format.Plan, id format.Identity, _ time.Time, sigs []format.Signature) (*format.Patch, error) {
	b, k, st, err := f.statement(p)
	if err != nil {
		return nil, err
	}
	der, err := st.Seal(id, sigs)
	if err != nil {
		return nil, err
	}
	if a.Size() != p.Size {
		return nil, fmt.Errorf("%w: %d bytes: want %d", authenticode.ErrChanged, a.Size(), p.Size)
	}
	s, err := open(a, k.name, st.Params["existing"] == "replace")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", authenticode.ErrChanged, err)
	}
	h, err := format.HashByName(p.Digest)
	if err != nil {
		return nil, err
	}
	d, err := s.Digests(ctx, []crypto.Hash{h})
	if err != nil {
		return nil, err
	}
	now := s.body()
	if !bytes.Equal(d[h], p.Content) || now.Encoding != b.Encoding || now.At != b.At || now.Block != b.Block || !bytes.Equal(now.Existing, b.Existing) {
		return nil, fmt.Errorf("%w: its text, its encoding or its signature differs", authenticode.ErrChanged)
	}
	if der, err = authenticode.Join(s.PKCS7(), der, st.Params, cms.OIDSpcIndirectData); err != nil {
		return nil, err
	}
	return s.Put(ctx, der)
}
