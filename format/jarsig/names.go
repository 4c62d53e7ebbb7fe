package jarsig

import "strings"

// Names in the archive.
const (
	Folder   = "META-INF/"
	Manifest = Folder + "MANIFEST.MF"
)

// Kind is what an entry's name makes of it.
type Kind int

// Kinds of entries: content must be signed, the others are what signatures are
// made of.
const (
	Content       Kind = iota
	ManifestFile       // META-INF/MANIFEST.MF
	SignatureText      // META-INF/*.SF
	Block              // META-INF/*.RSA, *.DSA, *.EC
	Reserved           // META-INF/SIG-*, and names of the others in another case
)

// KindOf tells content from parts of signatures, which stand in META-INF/ itself,
// as verifiers do: without regard to case. base is the name without folder and
// extension.
func KindOf(name string) (k Kind, base string) {
	if len(name) <= len(Folder) || !strings.EqualFold(name[:len(Folder)], Folder) || strings.Contains(name[len(Folder):], "/") {
		return Content, ""
	}
	own := name[len(Folder):]
	rest := strings.ToUpper(own)
	exact := strings.HasPrefix(name, Folder)
	if rest == "MANIFEST.MF" {
		if name != Manifest {
			return Reserved, ""
		}
		return ManifestFile, ""
	}
	dot := strings.LastIndexByte(rest, '.')
	if dot >= 0 {
		// Not at dot: letters in another case may have another length.
		switch base = own[:strings.LastIndexByte(own, '.')]; rest[dot:] {
		case ".SF":
			k = SignatureText
		case ".RSA", ".DSA", ".EC":
			k = Block
		}
		if k != Content {
			if !exact || base == "" {
				return Reserved, ""
			}
			return k, base
		}
	}
	if strings.HasPrefix(rest, "SIG-") {
		return Reserved, ""
	}
	return Content, ""
}
