package cat

import (
	"bytes"
	"crypto"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/authenticode"
)

// packageSystem is what catalogues of app packages say of themselves: for Windows 8
// and later.
var packageSystem = Attribute{"OSAttr", "2:6.2"}

// PackageList is the list that stands in an app package as
// AppxMetadata/CodeIntegrity.cat: the Authenticode digests of the executables, without
// names, encoded as Windows's own signer does it. The order of digests does not matter;
// each counts once. Entries by SHA-1, which that signer adds for old systems, are not
// made: whoever finds a collision would be in the list.
func PackageList(h crypto.Hash, digests [][]byte, made time.Time) ([]byte, error) {
	digests = slices.Clone(digests)
	slices.SortFunc(digests, bytes.Compare)
	digests = slices.CompactFunc(digests, bytes.Equal)
	if len(digests) == 0 || len(digests) > MaxMembers {
		return nil, fmt.Errorf("cat: %d executables: want 1 to %d", len(digests), MaxMembers)
	}
	var v cryptobyte.Builder
	v.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes([]byte{3, 2, 5, 0xa0}) // resources and imports are covered
		b.AddASN1(explicit0, func(b *cryptobyte.Builder) { b.AddBytes([]byte{0xa2, 2, 0x80, 0}) })
	})
	image := v.BytesOrPanic()
	var subjects [][]byte
	for _, d := range digests {
		b, err := encodeSubject(d, []byte{0x80, 0}, authenticode.Indirect{Type: authenticode.OIDPEImageData, Value: image, Hash: h, Digest: d}, nil)
		if err != nil {
			return nil, err
		}
		subjects = append(subjects, b)
	}
	return encodeList(subjects, []Attribute{packageSystem}, made)
}

// ReadPackageList gives the digests of a catalogue, signed or not, whose list is one of
// [PackageList]'s making, in their order; false for all others. Nothing is verified.
func ReadPackageList(file []byte) (crypto.Hash, [][]byte, bool) {
	c, err := open(format.BytesArtifact("", file))
	if err != nil || len(c.list.Members) == 0 {
		return 0, nil, false
	}
	h := c.list.Members[0].Hash
	var digests [][]byte
	for _, m := range c.list.Members {
		digests = append(digests, m.Digest)
	}
	if h == 0 || slices.ContainsFunc(digests, func(d []byte) bool { return len(d) != h.Size() }) {
		return 0, nil, false
	}
	again, err := PackageList(h, digests, c.list.Made)
	return h, digests, err == nil && bytes.Equal(again, c.content)
}

// PackageStatement is what a signature over a list of [PackageList] says.
func PackageStatement(list []byte, params format.Params) *authenticode.Statement {
	return &authenticode.Statement{Type: cms.OIDCertificateTrust, Content: list, Params: params}
}
