// Package all is every format that Greatseal signs, as it plans, tells and verifies.
//
// Invariants:
//
//  1. Detect names at most one format, the first of the list that knows the
//     file; formats for any kind of file ("cms", "dsse") are for the user to name.
package all

import (
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/deb"
	"github.com/greatseal-io/greatseal/format/roster"
	"github.com/greatseal-io/greatseal/internal/unpack"
)

// Formats returns every format, those of one kind of file first.
func Formats() []format.Format {
	return roster.Formats(deb.With(deb.Unpackers{XZ: unpack.XZ, Zstd: unpack.Zstd}))
}

// Detect finds the format of a from its content.
func Detect(a format.Artifact) (format.Format, bool) {
	for _, f := range Formats() {
		if f.Detect(a) {
			return f, true
		}
	}
	return nil, false
}

// ByName finds the format that charters and plans call by this name.
func ByName(name string) (format.Format, bool) {
	for _, f := range Formats() {
		if f.Name() == name {
			return f, true
		}
	}
	return nil, false
}
