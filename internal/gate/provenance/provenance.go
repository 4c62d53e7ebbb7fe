// Package provenance is the check of a gate that wants SLSA provenance for a file: an
// in-toto statement in a DSSE envelope that a builder has signed whom the operator
// has configured.
//
// Invariants:
//
//  1. The statement counts only under a key of the very builder that it names.
//  2. The digest that it is about is the SHA-256 of the bytes that will be signed.
//  3. Every place where it names its source matches the builder's patterns, and there
//     is one.
//  4. Provenance that is missing is waited for; when the time is over, and for
//     provenance that is wrong, the file is disapproved.
//
// What may not be concluded: that the builder itself was honest.
package provenance

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/internal/gate/check"
	"github.com/greatseal-io/greatseal/sigalg"
	statements "github.com/greatseal-io/greatseal/statement"
)

// Builder is somebody whose provenance counts.
type Builder struct {
	ID         string
	Keys       []crypto.PublicKey
	Sources    []string // patterns of repositories: * is anything but a slash, ** anything
	BuildTypes []string // empty: any
}

// Config says where provenance comes from, and whose counts.
type Config struct {
	Claim    string        // name of the requester's claim that holds an envelope, as it is or in base64; "": none
	Folder   string        // of files SHA256.intoto.jsonl or SHA256.dsse.json; "": none
	Wait     time.Duration // from the request on, for a file in Folder
	Builders []Builder
	Clock    func() time.Time
}

const (
	maxFile      = 4 << 20
	maxEnvelopes = 64 // in one file
	maxSource    = 1024
)

var suffixes = [...]string{".intoto.jsonl", ".dsse.json"}

// Provenance is the check.
type Provenance struct{ c Config }

// New checks the configuration.
func New(c Config) (*Provenance, error) {
	if c.Claim == "" && c.Folder == "" {
		return nil, errors.New("gate: provenance: want a claim or a folder")
	}
	if c.Folder != "" {
		if st, err := os.Stat(c.Folder); err != nil || !st.IsDir() {
			return nil, fmt.Errorf("gate: provenance: %s is not a folder", c.Folder)
		}
	}
	if len(c.Builders) == 0 || c.Clock == nil || c.Wait < 0 {
		return nil, errors.New("gate: provenance: want builders and a clock")
	}
	for _, b := range c.Builders {
		if b.ID == "" || len(b.Keys) == 0 || len(b.Sources) == 0 {
			return nil, fmt.Errorf("gate: provenance: builder %q: want an id, keys and sources", b.ID)
		}
		for _, k := range b.Keys {
			if _, err := sigalg.KeyOf(k); err != nil {
				return nil, fmt.Errorf("gate: provenance: builder %q: %w", b.ID, err)
			}
		}
		if slices.Contains(b.Sources, "") {
			return nil, fmt.Errorf("gate: provenance: builder %q: an empty source", b.ID)
		}
	}
	return &Provenance{c}, nil
}

// ReadKey reads a public key in PEM.
func ReadKey(path string) (crypto.PublicKey, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("gate: provenance: %w", err)
	}
	block, rest := pem.Decode(b)
	if block == nil || block.Type != "PUBLIC KEY" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("gate: provenance: %s: want one PUBLIC KEY in PEM", path)
	}
	pub, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("gate: provenance: %s: %w", path, err)
	}
	return pub, nil
}

// Bytes implements check.Check.
func (p *Provenance) Bytes() bool { return true }

// File implements check.Check.
func (p *Provenance) File(_ context.Context, f *check.File) (check.Opinion, error) {
	digest, err := sum(f.Path, f.Plan.Size)
	if err != nil {
		return check.Opinion{}, err
	}
	envelopes, err := p.find(f, digest)
	if err != nil {
		return check.Opinion{}, err
	}
	if len(envelopes) == 0 {
		if left := f.Request.Created.Add(p.c.Wait).Sub(p.c.Clock()); p.c.Folder != "" && left > 0 {
			return check.Opinion{}, fmt.Errorf("gate: provenance: there is none for %s yet; it is waited for %s more", digest[:12], left.Round(time.Second))
		}
		return check.Against("there is no provenance for it"), nil
	}
	why := ""
	for _, e := range envelopes {
		who, err := p.verify(e, digest)
		if err == nil {
			return check.For("built by " + who), nil
		}
		if why == "" {
			why = err.Error()
		}
	}
	return check.Against("its provenance does not count: " + why), nil
}

func sum(path string, size int64) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("gate: provenance: %w", err)
	}
	defer file.Close()
	h := sha256.New()
	n, err := io.Copy(h, file)
	if err == nil && n != size {
		err = fmt.Errorf("%d bytes, not %d", n, size)
	}
	if err != nil {
		return "", fmt.Errorf("gate: provenance: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// find returns the envelopes that are there for a file.
func (p *Provenance) find(f *check.File, digest string) ([][]byte, error) {
	var out [][]byte
	if p.c.Claim != "" {
		if v, ok := f.Claim(p.c.Claim); ok {
			out = append(out, claimed(v))
		}
	}
	if p.c.Folder == "" {
		return out, nil
	}
	for _, s := range suffixes {
		file, err := os.Open(filepath.Join(p.c.Folder, digest+s))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("gate: provenance: %w", err)
		}
		b, err := io.ReadAll(io.LimitReader(file, maxFile+1))
		file.Close()
		if err != nil {
			return nil, fmt.Errorf("gate: provenance: %w", err)
		}
		if len(b) > maxFile {
			return nil, fmt.Errorf("gate: provenance: %s is larger than %d bytes", file.Name(), maxFile)
		}
		if s == suffixes[1] {
			out = append(out, b)
			continue
		}
		for line := range bytes.Lines(b) {
			if line = bytes.TrimSpace(line); len(line) > 0 && len(out) < maxEnvelopes {
				out = append(out, line)
			}
		}
	}
	return out, nil
}

// claimed is the envelope in a claim, as it is or in base64, which command lines leave
// alone.
func claimed(v string) []byte {
	if !strings.HasPrefix(v, "{") {
		if b, err := decode64(v); err == nil {
			return b
		}
	}
	return []byte(v)
}

// verify returns the builder that vouches for the digest, or what is wrong.
func (p *Provenance) verify(b []byte, digest string) (string, error) {
	e, err := decodeEnvelope(b)
	if err != nil {
		return "", err
	}
	// The builder's name is read before it is believed: it chooses the keys.
	s, err := decodeStatement(e.payload)
	if err != nil {
		return "", err
	}
	why := fmt.Errorf("builder %.200q is not configured", s.builder)
	for _, x := range p.c.Builders {
		if x.ID != s.builder {
			continue
		}
		if why = x.vouches(e, s, digest); why == nil {
			return x.ID + " from " + s.sources[0], nil
		}
	}
	return "", why
}

func (x *Builder) vouches(e *envelope, s *statement, digest string) error {
	if !x.signed(e) {
		return fmt.Errorf("it is not signed by a key of builder %.200q", x.ID)
	}
	if !slices.Contains(s.digests, digest) {
		return errors.New("it is about another file")
	}
	if len(x.BuildTypes) > 0 && !slices.Contains(x.BuildTypes, s.buildType) {
		return fmt.Errorf("build type %.200q is not one that counts", s.buildType)
	}
	if len(s.sources) == 0 {
		return errors.New("it names no source")
	}
	for _, src := range s.sources {
		if len(src) > maxSource || strings.Contains(src, "..") || strings.ContainsAny(src, "%?#\\ \t\r\n") {
			return errors.New("a source is not written plainly")
		}
		if !slices.ContainsFunc(x.Sources, func(p string) bool { return matches(bare(p), bare(src)) }) {
			return fmt.Errorf("source %.200q is not one that counts", src)
		}
	}
	return nil
}

// signed reports whether a key of the builder's has signed. DSSE does not carry the
// scheme.
func (x *Builder) signed(e *envelope) bool {
	message := statements.PAE(e.payload)
	for _, pub := range x.Keys {
		for _, sig := range e.signatures {
			if _, err := sigalg.SchemeOf(pub, message, sig); err == nil {
				return true
			}
		}
	}
	return false
}

// bare is a repository's URI without what only says how to fetch it, and of which
// revision.
func bare(uri string) string {
	uri = strings.TrimPrefix(uri, "git+")
	slash := strings.LastIndexByte(uri, '/')
	if at := strings.IndexByte(uri[slash+1:], '@'); at >= 0 {
		uri = uri[:slash+1+at]
	} else if i := strings.Index(uri, "@refs/"); i >= 0 {
		uri = uri[:i]
	}
	return strings.TrimSuffix(strings.TrimSuffix(uri, "/"), ".git")
}

// matches compares with a pattern: * stands for anything but a slash, ** for anything.
func matches(pattern, s string) bool {
	star := strings.IndexByte(pattern, '*')
	if star < 0 {
		return pattern == s
	}
	if !strings.HasPrefix(s, pattern[:star]) {
		return false
	}
	s, pattern = s[star:], pattern[star+1:]
	rest, any := strings.CutPrefix(pattern, "*")
	for i := 0; ; i++ {
		if matches(rest, s[i:]) {
			return true
		}
		if i == len(s) || s[i] == '/' && !any {
			return false
		}
	}
}
