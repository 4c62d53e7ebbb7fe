package apk

import (
	"bytes"
	"crypto"
	"fmt"
	"slices"
	"strings"

	"github.com/greatseal-io/greatseal/format/jarsig"
	"github.com/greatseal-io/greatseal/format/zipfile"
)

const (
	v1Entries = 3 // manifest, signature file, block
	// blockRoom is what the block takes with its local header, in bytes: its length
	// comes with the signature, and the digests of other schemes want to know it before.
	blockRoom = 8 << 10
	// signedHeader names the schemes that signed too, so that nobody takes them off.
	signedHeader = "X-Android-APK-Signed"
)

// v1 is what a JAR signature follows from.
type v1 struct {
	Main     []byte         `cbor:"1,keyasint"` // the manifest's main section
	Sections []jarsig.Entry `cbor:"2,keyasint"` // of entries
}

// planV1 makes a manifest of the entries that stay, with the attributes of the old one.
func (r *archive) planV1(c *zipfile.Contents, removed []int) (v1, error) {
	x := v1{Sections: []jarsig.Entry{}}
	main := []jarsig.Attribute{{Name: "Manifest-Version", Value: "1.0"}}
	if i := r.Index(jarsig.Manifest); i >= 0 {
		text, err := r.Content(i, jarsig.MaxSize)
		if err != nil {
			return x, fmt.Errorf("apk: %w", err)
		}
		m, err := jarsig.Parse(text)
		if err != nil {
			return x, fmt.Errorf("apk: manifest: %w", err)
		}
		for _, a := range m.Main.Attributes {
			if !strings.EqualFold(a.Name, "Manifest-Version") && !jarsig.IsDigest(a.Name) {
				main = append(main, a)
			}
		}
	}
	var err error
	if x.Main, err = jarsig.Main(main); err != nil {
		return x, fmt.Errorf("apk: manifest: %w", err)
	}
	for i := range r.Order {
		if e := &r.Entries[i]; !e.Dir() && !slices.Contains(removed, i) {
			x.Sections = append(x.Sections, jarsig.Entry{Name: e.Name, Digest: c.Digest(i), Attributes: []jarsig.Attribute{}})
		}
	}
	return x, nil
}

// texts writes manifest and signature file.
func (x *v1) texts(h crypto.Hash, name string) (manifest, text []byte, err error) {
	for i := range x.Sections {
		if k, _ := jarsig.KindOf(x.Sections[i].Name); k != jarsig.Content || len(x.Sections[i].Digest) == 0 {
			return nil, nil, fmt.Errorf("%w: section %.80q", ErrPlan, x.Sections[i].Name)
		}
	}
	m, err := jarsig.NewDraft(x.Main, h, x.Sections)
	if err != nil {
		return nil, nil, fmt.Errorf("apk: manifest: %w", err)
	}
	if _, ok := m.Kept.Main.Get("Manifest-Version"); !ok {
		return nil, nil, fmt.Errorf("%w: the manifest has no version", ErrPlan)
	}
	var b, t bytes.Buffer
	if err := m.WriteManifest(&b); err != nil {
		return nil, nil, fmt.Errorf("apk: manifest: %w", err)
	}
	if err := m.WriteSignatureFile(&t, sum(h, b.Bytes()), jarsig.Attribute{Name: signedHeader, Value: "2, 3"}); err != nil {
		return nil, nil, fmt.Errorf("apk: signature file: %w", err)
	}
	return b.Bytes(), t.Bytes(), checkFile(name)
}

// files are the entries of a JAR signature. The extension of the block says RSA
// whatever the key is: readers take it for any, and the plan knows no key.
func files(name string, manifest, text, block []byte) []zipfile.File {
	f := zipfile.File{Name: jarsig.Folder + name + ".RSA", Content: block}
	f.Padding = blockRoom - 30 - len(f.Name) - len(block)
	return []zipfile.File{{Name: jarsig.Manifest, Content: manifest}, {Name: jarsig.Folder + name + ".SF", Content: text}, f}
}

// write returns the entries and their records, which stand at offset.
func write(files []zipfile.File, offset int64) (entries, records []byte, err error) {
	for i := range files {
		rec, err := files[i].Record(offset + int64(len(entries)))
		if err != nil {
			return nil, nil, fmt.Errorf("apk: %w", err)
		}
		local, err := files[i].Local()
		if err != nil {
			return nil, nil, fmt.Errorf("apk: %w", err)
		}
		entries, records = append(entries, local...), append(records, rec...)
	}
	return entries, records, nil
}

// sizes are those of the entries and records that are to come.
func (x *v1) sizes(h crypto.Hash, name string) (entries, records int64, err error) {
	m, text, err := x.texts(h, name)
	if err != nil {
		return 0, 0, err
	}
	e, r, err := write(files(name, m, text, make([]byte, 1)), 0)
	return int64(len(e)), int64(len(r)), err
}

// checkFile holds the name of a signature file to the specification.
func checkFile(n string) error {
	ok := len(n) >= 1 && len(n) <= 8 && !strings.HasPrefix(n, "SIG-")
	for _, c := range []byte(n) {
		ok = ok && ('A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-')
	}
	if !ok {
		return fmt.Errorf("apk: name %.20q of a JAR signature: want 1 to 8 of A-Z, 0-9, _ and -, not beginning with SIG-", n)
	}
	return nil
}
