// Package apk is the format "apk": Android packages, signed under APK Signature
// Scheme v2, v3 and v3.1 (source.android.com, "Application Signing") and, for Android
// before 7, as JAR files (scheme v1).
//
// Schemes v2 and above put their signatures into the APK Signing Block, between the
// entries and the central directory. They sign a digest of everything else: of the
// digests of each MiB of the entries, of the directory, and of the end record, in which
// the directory's offset is where the block starts.
//
// Scheme v3 can prove that a key took over from another (a lineage); v3.1 is v3 for
// Android 13 and later, so that an older key can go on signing for what is before.
//
// Invariants:
//
//  1. Plan reads the archive once, and digests its chunks on all cores.
//  2. Assemble derives every signed byte from the plan, the lineage in its options, and
//     the identity. With scheme v1 it writes manifest, signature file and block itself
//     and finishes the digests of the chunks in which they come to stand; the other
//     schemes sign in the second round.
//  3. Nothing in the archive moves: entries that are taken out leave room behind, or
//     stood last. What was aligned stays aligned.
//  4. Verify accepts a package only when each scheme that it has is right, when all have
//     one signer, or signers of one lineage, and when no scheme is missing that a
//     signature says was there.
//  5. The lineage is accepted only when each key in it signed for the next.
//
// What is refused although it can be seen in the wild: RSA keys under 2048 bits, DSA,
// SHA-1 and MD5, digests for fs-verity alone, and archives that two readers could
// understand in two ways.
//
// A caller may not conclude from a verified report that Android installs the package
// over another one: that is for the package's name, its version and its former signer
// to say. Android trusts no authority for packages: a certificate counts here when its
// key is trusted, or when it leads to a root.
package apk

import (
	"errors"
	"fmt"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/jarsig"
	"github.com/greatseal-io/greatseal/format/zipfile"
)

// Name is the format's word in charters and plans.
const Name = "apk"

// maxSize limits a package: offsets in it have 32 bits.
const maxSize = 1<<32 - 1

// Versions of the platform that brought the schemes.
const (
	sdkV1SHA256 = 18 // the first that knows SHA-256 in scheme v1
	sdkV2       = 24
	sdkV3       = 28
	sdkV31      = 33
	sdkNeedsV2  = 30 // packages for it may not have scheme v1 alone
)

// What callers branch on.
var (
	// ErrMalformed is wrapped for packages that break the specification.
	ErrMalformed = errors.New("apk: malformed package")
	// ErrDigest is wrapped when the content is not the one that was signed.
	ErrDigest = errors.New("apk: content differs from the signed digest")
	// ErrStripped is wrapped when a signature says that there was another one.
	ErrStripped = errors.New("apk: a signature was taken off")
	// ErrLineage is wrapped for lineages that do not hold.
	ErrLineage = errors.New("apk: lineage")
	// ErrUntrusted is wrapped when a signer is neither a trusted key nor under a root.
	ErrUntrusted = errors.New("apk: signer is not trusted")
	// ErrSigned is wrapped when there are signatures already.
	ErrSigned = errors.New("apk: package is signed already (option existing=replace takes that off)")
	// ErrPlan is wrapped when a plan contradicts itself.
	ErrPlan = errors.New("apk: plan contradicts itself")
	// ErrChanged is wrapped when a file is not the one that was planned.
	ErrChanged = errors.New("apk: package is not the one that was planned")
	// ErrContradiction is wrapped when parts of signatures contradict each other.
	ErrContradiction = errors.New("apk: signature contradicts itself")
)

func malformed(f string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(f, args...))
}

// Format is the format; its zero value is ready.
type Format struct{}

// New returns the format.
func New() format.Format { return Format{} }

// Name is "apk".
func (Format) Name() string { return Name }

// MaxKeys is two: an older key beside the newest of a lineage.
func (Format) MaxKeys() int { return 2 }

// Options lists what Plan takes.
func (Format) Options() []format.Option {
	return []format.Option{
		{Name: "digest", Help: "digest of contents: that of the signing scheme", Values: []string{"sha256", "sha512"}, Default: "sha256"},
		{Name: "existing", Help: "what to do with signatures that are there", Values: []string{"refuse", "replace"}, Default: "refuse"},
		{Name: "lineage", Help: "proof that the key took over from others: the file that apksigner rotate writes, in base64"},
		{Name: "min-sdk", Help: "lowest platform version to sign for; the manifest's when empty"},
		{Name: "rotation-min-sdk", Help: "with a lineage and an older key: first platform version that gets the newest key's signature (28 or more; from 33 on under scheme v3.1)", Default: "33"},
		{Name: "v1", Help: "sign as JAR too: when the lowest platform version is below 24 (auto), always, or never", Values: []string{"auto", "true", "false"}, Default: "auto"},
		{Name: "v1-name", Help: "name of the JAR signature's files in META-INF, 1 to 8 of A-Z, 0-9, _ and -", Default: "SIGNER"},
	}
}

var (
	_ format.Hybrid    = Format{}
	_ format.Remover   = Format{}
	_ format.Extractor = Format{}
	_ format.Lister    = Format{}
)

// Detect says whether a is an archive with an Android manifest where packages have it.
func (Format) Detect(a format.Artifact) bool {
	if !zipfile.Detect(a) {
		return false
	}
	z, err := openZip(a)
	return err == nil && z.Index(manifestName) >= 0
}

const manifestName = "AndroidManifest.xml"

func openZip(a format.Artifact) (*zipfile.Archive, error) {
	return zipfile.Open(a, zipfile.Options{Gaps: true, Before: blockStart})
}

// archive is an opened package.
type archive struct {
	*zipfile.Archive
	a        format.Artifact
	tail     []byte // the end record
	pairs    []pair // of the signing block; nil when there is none
	manifest int    // index of AndroidManifest.xml
	v1       []int  // entries that are parts of a JAR signature, MANIFEST.MF included
	signedV1 bool   // whether one of them is a signature file or a block
}

func open(a format.Artifact) (*archive, error) {
	z, err := openZip(a)
	if err != nil {
		return nil, fmt.Errorf("apk: %w", err)
	}
	r := &archive{Archive: z, a: a}
	if r.tail, err = z.Tail(); err != nil {
		return nil, fmt.Errorf("apk: %w", err)
	}
	if len(r.tail) != 22+len(z.Comment) || z.Size > maxSize {
		return nil, malformed("Android takes no ZIP64 archives")
	}
	if z.Directory > z.End {
		b := make([]byte, z.Directory-z.End)
		if err := format.ReadFull(a, b, z.End); err != nil {
			return nil, fmt.Errorf("apk: %w", err)
		}
		if r.pairs, err = parseBlock(b); err != nil {
			return nil, err
		}
	}
	r.manifest = z.Index(manifestName)
	if r.manifest < 0 {
		return nil, malformed("no %s", manifestName)
	}
	for i := range z.Entries {
		switch k, _ := jarsig.KindOf(z.Entries[i].Name); k {
		case jarsig.Content:
		case jarsig.SignatureText, jarsig.Block, jarsig.Reserved:
			r.signedV1 = true
			r.v1 = append(r.v1, i)
		case jarsig.ManifestFile:
			r.v1 = append(r.v1, i)
		}
	}
	if len(r.v1) > 1024 {
		return nil, malformed("%d parts of JAR signatures", len(r.v1))
	}
	return r, nil
}

// readManifest reads AndroidManifest.xml.
func (r *archive) readManifest() (*manifest, error) {
	b, err := r.Content(r.manifest, maxManifest)
	if err != nil {
		return nil, fmt.Errorf("apk: %w", err)
	}
	return parseManifest(b)
}

// signed says whether a signature of any scheme is there.
func (r *archive) signed() bool {
	return r.signedV1 || find(r.pairs, idV2) != nil || find(r.pairs, idV3) != nil || find(r.pairs, idV31) != nil
}

// endRecord is the end of an archive whose directory starts at offset.
func endRecord(count int, size, offset int64, comment string) []byte {
	b := []byte("PK\x05\x06\x00\x00\x00\x00")
	b = le.AppendUint16(b, uint16(count))
	b = le.AppendUint16(b, uint16(count))
	b = le.AppendUint32(b, uint32(size))
	b = le.AppendUint32(b, uint32(offset))
	b = le.AppendUint16(b, uint16(len(comment)))
	return append(b, comment...)
}
