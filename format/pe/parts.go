package pe

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"slices"

	"github.com/greatseal-io/greatseal/format"
)

// A unified kernel image has a kernel, its command line, its first files and more in
// sections of their own (UAPI Group, "Unified Kernel Image"; systemd-stub(7)). Each is
// digested as the image goes by, so that two releases tell which of them changed.

// partNames are those sections, in the order of the specification.
var partNames = []string{".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash", ".dtb", ".dtbauto", ".hwids", ".efifw", ".uname", ".sbat", ".pcrsig", ".pcrpkey", ".profile"}

const (
	maxParts  = 128 // sections of profiles stand more than once
	shownPart = 60
)

// imagePart is the content of a section.
type imagePart struct {
	name     string
	from, to int64
	hash     hash.Hash
}

// unified are the parts of a unified kernel image, and none of any other image.
func (im *image) unified() (out []imagePart) {
	if !im.efi() || !slices.ContainsFunc(im.sections, func(s section) bool { return s.name == ".linux" }) {
		return nil
	}
	for _, s := range im.sections {
		if !slices.Contains(partNames, s.name) || len(out) == maxParts {
			continue
		}
		n := s.size
		if s.virtualSize > 0 {
			n = min(n, s.virtualSize) // what is behind is for alignment
		}
		out = append(out, imagePart{s.name, int64(s.offset), int64(s.offset) + int64(n), sha256.New()})
	}
	return out
}

// digestParts takes the bytes at off.
func (im *image) digestParts(b []byte, off int64) {
	for i := range im.parts {
		p := &im.parts[i]
		if from, to := max(off, p.from), min(off+int64(len(b)), p.to); from < to {
			p.hash.Write(b[from-off : to-off])
		}
	}
}

// partDetails are the parts; without digests where the image was not read.
func (im *image) partDetails(d *format.Details) {
	var out []string
	read := im.parts != nil
	parts := im.parts
	if !read {
		parts = im.unified()
	}
	for _, p := range parts {
		s := fmt.Sprintf("%s, %d bytes", p.name, p.to-p.from)
		if read {
			s += fmt.Sprintf(", sha256 %.16x", p.hash.Sum(nil))
		}
		out = append(out, s)
	}
	d.List("section", shownPart, out)
}
