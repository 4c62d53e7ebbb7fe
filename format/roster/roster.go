// Package roster is the list of the formats that Greatseal signs: formats do not
// register themselves. What holds the keys takes it as it is; everybody else takes
// package format/all, which also reads what endorsers are told and keys do not need.
//
// Invariants:
//
//  1. Names are distinct, and are names that charters may carry.
//  2. A format's plans, messages and signatures are the same whatever it can unpack.
package roster

import (
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/apk"
	"github.com/greatseal-io/greatseal/format/appx"
	"github.com/greatseal-io/greatseal/format/apt"
	"github.com/greatseal-io/greatseal/format/attest"
	"github.com/greatseal-io/greatseal/format/bundle"
	"github.com/greatseal-io/greatseal/format/cab"
	"github.com/greatseal-io/greatseal/format/cat"
	"github.com/greatseal-io/greatseal/format/circle"
	"github.com/greatseal-io/greatseal/format/cmsfile"
	"github.com/greatseal-io/greatseal/format/cose"
	"github.com/greatseal-io/greatseal/format/dmg"
	"github.com/greatseal-io/greatseal/format/fit"
	"github.com/greatseal-io/greatseal/format/gitobject"
	"github.com/greatseal-io/greatseal/format/ima"
	"github.com/greatseal-io/greatseal/format/ipa"
	"github.com/greatseal-io/greatseal/format/jar"
	"github.com/greatseal-io/greatseal/format/jws"
	"github.com/greatseal-io/greatseal/format/kmod"
	"github.com/greatseal-io/greatseal/format/macho"
	"github.com/greatseal-io/greatseal/format/mcuboot"
	"github.com/greatseal-io/greatseal/format/minisign"
	"github.com/greatseal-io/greatseal/format/msi"
	"github.com/greatseal-io/greatseal/format/nuget"
	"github.com/greatseal-io/greatseal/format/oci"
	"github.com/greatseal-io/greatseal/format/pe"
	"github.com/greatseal-io/greatseal/format/pgp"
	"github.com/greatseal-io/greatseal/format/pgpkey"
	"github.com/greatseal-io/greatseal/format/rauc"
	"github.com/greatseal-io/greatseal/format/records"
	"github.com/greatseal-io/greatseal/format/rpm"
	"github.com/greatseal-io/greatseal/format/script"
	"github.com/greatseal-io/greatseal/format/signify"
	"github.com/greatseal-io/greatseal/format/sshsig"
	"github.com/greatseal-io/greatseal/format/swupdate"
	"github.com/greatseal-io/greatseal/format/vbmeta"
	"github.com/greatseal-io/greatseal/format/xar"
	"github.com/greatseal-io/greatseal/format/xmldsig"
)

// Formats returns every format, those of one kind of file first; packages is that of
// Debian's packages.
func Formats(packages format.Format) []format.Format {
	return []format.Format{
		bundle.New(), ipa.New(), macho.New(), xar.New(), dmg.New(), // Apple
		pe.New(), msi.New(), cab.New(), cat.New(), appx.New(), nuget.New(), script.New(),
		kmod.New(), mcuboot.New(), fit.New(), rauc.New(), vbmeta.New(), swupdate.New(),
		apk.New(), apk.NewV4(), jar.New(), // archives
		oci.New(), rpm.New(), packages, apt.New(), gitobject.New(), // packages, repositories, Git
		records.New(),                          // lists of statements about records
		circle.New(),                           // what a circle of trust is told
		cmsfile.New(), attest.New(), ima.New(), // for any kind of file
		cose.New(), jws.New(), xmldsig.New(), // envelopes for any kind of file
		pgp.New(), pgpkey.New(), sshsig.New(), minisign.New(), signify.New(), // OpenPGP and its like
	}
}
