package zipfile

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Describe says of each file of the archive its name, size and checksum, for people
// and for telling two archives apart. The checksum is the directory's, which says
// nothing against somebody who wants it to be another file's. Files for which skip is
// true are left out.
func (z *Archive) Describe(skip func(name string) bool) []string {
	var out []string
	for i := range z.Entries {
		if e := &z.Entries[i]; !e.Dir() && !skip(e.Name) {
			out = append(out, fmt.Sprintf("%s, %d bytes, crc32 %08x", e.Name, e.Size, e.CRC))
		}
	}
	return out
}

// Native lists the files that are programs of machines or libraries of them, by
// their names.
func (z *Archive) Native() []string {
	var out []string
	for i := range z.Entries {
		e := &z.Entries[i]
		if slices.Contains(nativeEndings, strings.ToLower(path.Ext(e.Name))) {
			out = append(out, e.Name)
		}
	}
	return out
}

var nativeEndings = []string{".so", ".dll", ".dylib", ".jnilib", ".exe", ".sys", ".node", ".a", ".lib", ".msi"}
