// Package jar is the format "jar": signed JAR files ("JAR File Specification",
// section Signed JAR File), and what is signed like them: WAR, EAR, and Android
// App Bundles before they are uploaded.
//
// A signature is two entries in META-INF/: a signature file (.SF) with digests of
// the manifest, of its main section and of each section, and a detached CMS
// signature over it (.RSA or .EC). The manifest has a digest of each entry's content.
//
// A plan holds what the manifest is made of: the sections that stay as they are,
// and name, digest and attributes of those that are written. Assemble writes
// manifest and signature file from it and signs the CMS attributes over the latter.
//
// Invariants:
//
//  1. Plan reads the archive once, in the order of the file, and its work is linear
//     in it.
//  2. Assemble derives the manifest, the signature file and the attributes from the
//     plan, and refuses a plan whose Content is not the manifest's digest.
//  3. Attach keeps what others have signed byte for byte, unless the option
//     existing is "replace": where it could not, Plan refuses.
//  4. Verify accepts an archive only when every entry is in the manifest with a right
//     digest, every digest in the manifest has its entry, every entry is covered by a
//     signature, and every signature is right. Parts of signatures that belong to none
//     are refused.
//  5. Digests and signatures under MD5 and SHA-1 count for nothing.
//
// A caller may not conclude from a verified report that each signer has signed each
// entry: the fact "entries" of a signature says how many it covers. Folders, and
// times, order, comments and other attributes of entries are not signed.
package jar

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"strings"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/jarsig"
	"github.com/greatseal-io/greatseal/format/zipfile"
)

// Name is the format's word in charters and plans.
const Name = "jar"

// maxBlock limits what is read as one CMS signature, in bytes.
const maxBlock = 1 << 20

// maxSigners limits the signatures of one archive.
const maxSigners = 32

// What callers branch on.
var (
	// ErrUncovered is wrapped when an entry is in the archive and in no signature.
	ErrUncovered = errors.New("jar: entry is not signed")
	// ErrDigest is wrapped when an entry's content is not what the manifest says.
	ErrDigest = errors.New("jar: entry differs from its digest in the manifest")
	// ErrExisting is wrapped when the signatures that are there cannot be kept.
	ErrExisting = errors.New("jar: existing signatures cannot be kept (option existing=replace takes them off)")
	// ErrPlan is wrapped when a plan contradicts itself.
	ErrPlan = errors.New("jar: plan contradicts itself")
	// ErrChanged is wrapped when a file is not the one that was planned.
	ErrChanged = errors.New("jar: archive is not the one that was planned")
)

// Format is the format; its zero value is ready.
type Format struct{ format.OneRound }

// New returns the format.
func New() format.Format { return Format{} }

var (
	_ format.Stamper   = Format{}
	_ format.Remover   = Format{}
	_ format.Extractor = Format{}
	_ format.Lister    = Format{}
)

// Name is "jar".
func (Format) Name() string { return Name }

// Options lists what Plan takes.
func (Format) Options() []format.Option {
	return []format.Option{
		{Name: "digest", Help: "digest of entries, manifest and its sections", Values: []string{"sha256", "sha384", "sha512"}, Default: "sha256"},
		{Name: "existing", Help: "what to do with signatures that are there: keep them beside ours, or replace them", Values: []string{"keep", "replace"}, Default: "keep"},
		{Name: "name", Help: "name of the signature's files in META-INF, 1 to 8 of A-Z, 0-9, _ and -; chosen when empty"},
	}
}

// Detect says from the names in the archive whether it is signed as a JAR: one with
// a manifest, classes, a WEB-INF folder, or the configuration of an app bundle, that
// is no other kind of package.
func (Format) Detect(a format.Artifact) bool {
	if !zipfile.Detect(a) {
		return false
	}
	z, err := zipfile.Open(a, zipfile.Options{})
	if err != nil {
		return false
	}
	found := false
	for i := range z.Entries {
		n := z.Entries[i].Name
		switch {
		case n == "AndroidManifest.xml", n == "[Content_Types].xml", n == ".signature.p7s", strings.HasPrefix(n, "Payload/"), strings.HasSuffix(n, ".nuspec") && !strings.Contains(n, "/"):
			return false
		case n == jarsig.Manifest, n == "BundleConfig.pb", strings.HasPrefix(n, "WEB-INF/"), strings.HasSuffix(n, ".class"):
			found = true
		}
	}
	return found
}

// open reads the directory and sorts the entries by what they are.
func open(a format.Artifact) (*archive, error) {
	z, err := zipfile.Open(a, zipfile.Options{})
	if err != nil {
		return nil, fmt.Errorf("jar: %w", err)
	}
	r := &archive{Archive: z, manifest: -1, texts: map[string]int{}, blocks: map[string]int{}}
	for i := range z.Entries {
		switch k, base := jarsig.KindOf(z.Entries[i].Name); k {
		case jarsig.ManifestFile:
			r.manifest = i
		case jarsig.SignatureText, jarsig.Block:
			m := r.texts
			if k == jarsig.Block {
				m = r.blocks
			}
			key := strings.ToUpper(base)
			if _, twice := m[key]; twice {
				r.odd = append(r.odd, i)
				continue
			}
			m[key] = i
			if k == jarsig.SignatureText {
				r.order = append(r.order, key)
			}
		case jarsig.Reserved:
			r.odd = append(r.odd, i)
		case jarsig.Content:
		}
	}
	for key, i := range r.blocks {
		if _, ok := r.texts[key]; !ok {
			r.odd = append(r.odd, i)
		}
	}
	for key, i := range r.texts {
		if _, ok := r.blocks[key]; !ok {
			r.odd = append(r.odd, i)
		}
	}
	return r, nil
}

// archive is an opened JAR.
type archive struct {
	*zipfile.Archive
	manifest int            // index of the manifest, -1 for none
	texts    map[string]int // signature files, by base name in upper case
	blocks   map[string]int // signature blocks, likewise
	order    []string       // keys of texts, in the directory's order
	odd      []int          // what looks like a part of a signature and is none
}

// signed says whether there is anything of a signature.
func (r *archive) signed() bool { return len(r.texts)+len(r.blocks) > 0 }

// whole refuses archives with parts of signatures that belong to none, or more
// signatures than are judged.
func (r *archive) whole() error {
	if len(r.odd) > 0 {
		return fmt.Errorf("%w: %.80q is a part of a signature that is not there", ErrUncovered, r.Entries[r.odd[0]].Name)
	}
	if len(r.texts) > maxSigners {
		return fmt.Errorf("jar: %d signatures: at most %d", len(r.texts), maxSigners)
	}
	return nil
}

// is says whether entry i must be signed.
func (r *archive) is(i int) bool {
	e := &r.Entries[i]
	k, _ := jarsig.KindOf(e.Name)
	return k == jarsig.Content && !e.Dir()
}

// List calls yield for each file of the archive.
func (Format) List(ctx context.Context, a format.Artifact, yield func(format.Entry) error) error {
	z, err := zipfile.Open(a, zipfile.Options{})
	if err != nil {
		return fmt.Errorf("jar: %w", err)
	}
	return z.List(ctx, yield)
}

// hashes are those that digests in a manifest may be made with.
var hashes = [...]crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512}
