package ipa

import (
	"bytes"
	"crypto/sha1"
	"maps"
	"slices"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/zipfile"
)

func sha1Of(b []byte) []byte {
	s := sha1.Sum(b)
	return s[:]
}

// archive is the change of the archive: entries that change are written anew where they
// stand, with the compression they had; new lists stand behind all others and have that
// of the application's Info.plist.
func (c *change) archive() (*format.Patch, error) {
	e := c.s.zip.Edit()
	method := c.s.zip.Entries[c.s.at[c.s.lookup("Info.plist")]].Method
	for _, p := range slices.Sorted(maps.Keys(c.files)) {
		b := c.files[p]
		i := c.s.lookup(p)
		switch {
		case i < 0 && b != nil:
			e.Back(zipfile.File{Name: c.s.root + p, Content: b, Method: method})
		case i >= 0 && b == nil:
			e.Remove(c.s.at[i])
		case i >= 0:
			old, err := c.s.zip.Content(c.s.at[i], maxProgram)
			if err != nil {
				return nil, err
			}
			if !bytes.Equal(old, b) { // signed alike a second time
				e.Replace(c.s.at[i], b)
			}
		}
	}
	r, err := e.Apply()
	if err != nil {
		return nil, err
	}
	return r.Patch, nil
}
