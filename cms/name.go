package cms

import (
	"bytes"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// sameName says whether two names in DER are the same: byte for byte, or with texts
// that are the same and only their string types differ (RFC 5280 section 7.1; signers
// that write a name anew take PrintableString where the certificate has UTF8String, and
// the other way round). Upper and lower case, spaces and the order of parts count: less
// is taken for equal than the section allows.
func sameName(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	x, y := cryptobyte.String(a), cryptobyte.String(b)
	var xs, ys cryptobyte.String
	if !x.ReadASN1(&xs, cbasn1.SEQUENCE) || !y.ReadASN1(&ys, cbasn1.SEQUENCE) || !x.Empty() || !y.Empty() {
		return false
	}
	for !xs.Empty() && !ys.Empty() {
		var xset, yset cryptobyte.String
		if !xs.ReadASN1(&xset, cbasn1.SET) || !ys.ReadASN1(&yset, cbasn1.SET) || !samePart(xset, yset) {
			return false
		}
	}
	return xs.Empty() && ys.Empty()
}

// samePart compares the pairs of type and value in two sets, in their order.
func samePart(x, y cryptobyte.String) bool {
	for !x.Empty() && !y.Empty() {
		var xp, yp, xt, yt, xv, yv cryptobyte.String
		var xtag, ytag cbasn1.Tag
		if !x.ReadASN1(&xp, cbasn1.SEQUENCE) || !y.ReadASN1(&yp, cbasn1.SEQUENCE) ||
			!xp.ReadASN1(&xt, cbasn1.OBJECT_IDENTIFIER) || !yp.ReadASN1(&yt, cbasn1.OBJECT_IDENTIFIER) ||
			!xp.ReadAnyASN1(&xv, &xtag) || !yp.ReadAnyASN1(&yv, &ytag) || !xp.Empty() || !yp.Empty() {
			return false
		}
		if !bytes.Equal(xt, yt) || !bytes.Equal(xv, yv) || xtag != ytag && !(isText(xtag, xv) && isText(ytag, yv)) {
			return false
		}
	}
	return x.Empty() && y.Empty()
}

// isText is true of the string types whose bytes mean the same in both.
func isText(tag cbasn1.Tag, b []byte) bool {
	switch tag {
	case cbasn1.UTF8String:
		return utf8.Valid(b)
	case cbasn1.PrintableString:
		for _, c := range b {
			if c >= 0x80 {
				return false
			}
		}
		return true
	}
	return false
}
