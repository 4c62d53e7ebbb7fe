// Package template makes charter changes for new applications: whoever sets one up
// answers few questions (what it is called, who asks, who endorses, which key), and
// gets the next version of the charter with a key, a policy and, if wanted, groups,
// each explained in words, and the steps that lead to the first signature.
//
// Invariants:
//
//  1. A [Draft] has passed charter.Check, follows the charter that it was made from,
//     and changes nothing of it: it adds.
//  2. A draft adds no warning of charter.Lint but those that it names: a software key,
//     a veto that nobody can have, and that its key signs unattended under another
//     policy already.
//  3. A key signs formats that its algorithm fits, and those whose signatures are over
//     bare digests have a key of their own.
//  4. What is signed unattended is held to names that are not every name, with a key
//     under which nobody is asked anywhere; a gate that is asked for endorses in every
//     way to satisfy the quorum.
//  5. Nothing here reads a clock, a file or a network: [Progress] is made of facts that
//     the caller has.
//
// A caller may not conclude from a draft that anybody agrees with it: it is proposed
// like every other change of the charter.
package template

import (
	"fmt"
	"slices"
	"strings"

	"github.com/greatseal-io/greatseal/sigalg"
)

// Certificate is the certificate that a kind of file wants.
type Certificate string

// The needs.
const (
	NoCertificate  Certificate = "none"      // the key alone
	OwnCertificate Certificate = "own"       // one that the key makes itself will do: whoever verifies pins it
	OfAuthority    Certificate = "authority" // one of an authority that those who verify trust
)

// Template is one kind of application.
type Template struct {
	Name       string            `json:"name"`
	Title      string            `json:"title"`
	What       string            `json:"what"`              // a sentence
	Formats    []string          `json:"formats,omitempty"` // none: they are asked for
	Algorithms []sigalg.Key      `json:"algorithms,omitempty"`
	Params     map[string]string `json:"params,omitempty"`
	Names      []string          `json:"names,omitempty"` // default patterns
	Unattended bool              `json:"unattended,omitempty"`
	Stamp      bool              `json:"timestamps,omitempty"` // signatures are timestamped where it can be done
	Notes      []string          `json:"notes,omitempty"`      // what only this kind has to know
}

// Certificate is what the template's formats want.
func (t *Template) Certificate() Certificate { return Needs(t.Formats) }

// pgpParams keep the fingerprint of an OpenPGP key the same in every signature.
func pgpParams() map[string]string { return map[string]string{"key-created": "2020-01-01T00:00:00Z"} }

const pgpNote = "Sign a text file with the user ID, \"Example Releases <releases@example.com>\", as format pgp-key first: that makes the public key which users import."

// List returns the templates.
func List() []*Template {
	rsa := []sigalg.Key{sigalg.RSA3072, sigalg.RSA4096}
	return []*Template{
		{Name: "windows-release", Title: "Windows release", What: "Programs, installers, packages and scripts for Windows, as they are released.",
			Formats: []string{"appx", "cab", "cat", "msi", "nuget", "pe", "script"}, Algorithms: rsa, Stamp: true,
			Notes: []string{"The CA/Browser Forum wants RSA keys of 3072 bits or more, in hardware: give the key a pkcs11: URI in production."}},
		{Name: "windows-driver", Title: "Windows driver", What: "Drivers with their catalogs, and the cabinets that are submitted to Microsoft.",
			Formats: []string{"cab", "cat", "pe"}, Algorithms: rsa, Stamp: true,
			Notes: []string{"Microsoft's hardware dashboard takes cabinets that are signed with an extended-validation certificate."}},
		{Name: "windows-nightly", Title: "Windows nightly", What: "Nightly builds for Windows, signed unattended with a key of their own.",
			Formats: []string{"appx", "cab", "msi", "pe", "script"}, Algorithms: rsa, Names: []string{"nightly-*"}, Unattended: true, Stamp: true,
			Notes: []string{"Give nightly builds a certificate that customers do not trust: nobody endorses them."}},
		{Name: "java", Title: "Java archives", What: "JAR files: libraries, applications and plug-ins.",
			Formats: []string{"jar"}, Algorithms: []sigalg.Key{sigalg.RSA3072, sigalg.P256, sigalg.RSA4096, sigalg.P384}, Stamp: true},
		{Name: "android", Title: "Android applications", What: "APK files, schemes v1 to v4.",
			Formats: []string{"apk", "apk-v4"}, Algorithms: []sigalg.Key{sigalg.RSA4096, sigalg.P256, sigalg.RSA3072},
			Notes: []string{"An installed application is updated only by one that is signed with the same key: keep this key as long as the application.",
				"Google Play wants a certificate that is valid until October 2033 at least: have it issued from the certificate request."}},
		{Name: "apple", Title: "Apple applications", What: "Bundles, programs, disk images, packages and iOS applications.",
			Formats: []string{"bundle", "dmg", "ipa", "macho", "pkg"}, Algorithms: []sigalg.Key{sigalg.RSA3072, sigalg.P256}, Stamp: true,
			Notes: []string{"Apple issues the certificate in its developer portal, from the certificate request; packages want a Developer ID Installer certificate, programs a Developer ID Application one."}},
		{Name: "rpm", Title: "RPM packages", What: "Packages for Red Hat, Fedora, SUSE and their like.",
			Formats: []string{"pgp-key", "rpm"}, Algorithms: []sigalg.Key{sigalg.RSA4096, sigalg.RSA3072, sigalg.Ed25519}, Params: pgpParams(), Notes: []string{pgpNote}},
		{Name: "deb", Title: "Debian packages", What: "Packages for Debian and Ubuntu that carry a signature of their own.",
			Formats: []string{"deb", "pgp-key"}, Algorithms: []sigalg.Key{sigalg.RSA4096, sigalg.Ed25519, sigalg.P256}, Params: pgpParams(), Notes: []string{pgpNote}},
		{Name: "apt", Title: "APT repository", What: "The Release file of a repository for apt.",
			Formats: []string{"apt", "pgp-key"}, Algorithms: []sigalg.Key{sigalg.RSA4096, sigalg.Ed25519, sigalg.P256}, Params: pgpParams(), Names: []string{"*Release"}, Notes: []string{pgpNote, "The file with the user ID matches the pattern too when it is called KeyRelease."}},
		{Name: "containers", Title: "Container images", What: "OCI images, as cosign verifies them.",
			Formats: []string{"oci"}, Algorithms: []sigalg.Key{sigalg.P256}, Params: map[string]string{"form": "cosign"}},
		{Name: "mcuboot", Title: "Firmware for MCUboot", What: "Images that MCUboot starts.",
			Formats: []string{"mcuboot"}, Algorithms: []sigalg.Key{sigalg.Ed25519, sigalg.P256, sigalg.RSA3072}, Notes: []string{"The public key is built into the bootloader: its algorithm is that of the bootloader's configuration."}},
		{Name: "fit", Title: "Firmware for U-Boot (FIT)", What: "Flattened image trees that U-Boot starts.",
			Formats: []string{"fit"}, Algorithms: []sigalg.Key{sigalg.RSA3072, sigalg.RSA4096, sigalg.P256}},
		{Name: "rauc", Title: "Updates for RAUC", What: "Bundles that RAUC installs.",
			Formats: []string{"rauc"}, Algorithms: []sigalg.Key{sigalg.RSA3072, sigalg.P256, sigalg.RSA4096}},
		{Name: "swupdate", Title: "Updates for SWUpdate", What: "Archives that SWUpdate installs.",
			Formats: []string{"swupdate"}, Algorithms: []sigalg.Key{sigalg.RSA3072, sigalg.P256, sigalg.RSA4096}, Params: map[string]string{"signature": "cms"}},
		{Name: "android-boot", Title: "Android verified boot", What: "vbmeta images and partitions with their footers.",
			Formats: []string{"vbmeta"}, Algorithms: []sigalg.Key{sigalg.RSA4096}, Params: map[string]string{"disabled": "refuse"}},
		{Name: "secure-boot", Title: "UEFI secure boot", What: "Boot loaders and kernels that UEFI firmware starts.",
			Formats: []string{"pe"}, Algorithms: rsa, Names: []string{"*.efi"},
			Notes: []string{"Enrol the key's certificate in the firmware's db, or as a machine owner's key."}},
		{Name: "kernel-modules", Title: "Kernel modules", What: "Modules of the Linux kernel.",
			Formats: []string{"kmod"}, Algorithms: []sigalg.Key{sigalg.RSA4096, sigalg.RSA3072, sigalg.P384}, Names: []string{"*.ko"},
			Notes: []string{"Build the certificate into the kernel (CONFIG_SYSTEM_TRUSTED_KEYS) or enrol it as a machine owner's key."}},
		{Name: "ima", Title: "Files under IMA", What: "Files that the Linux kernel's integrity measurement appraises.",
			Formats: []string{"ima"}, Algorithms: []sigalg.Key{sigalg.RSA3072, sigalg.P256}, Notes: []string{"Load the certificate into the kernel's .ima keyring."}},
		{Name: "cms", Title: "Archives, CMS", What: "Files of any kind, with a CMS signature beside them (.p7s).",
			Formats: []string{"cms"}, Algorithms: []sigalg.Key{sigalg.P256, sigalg.RSA3072, sigalg.P384, sigalg.RSA4096}, Stamp: true},
		{Name: "minisign", Title: "Archives, minisign", What: "Files of any kind, with a minisign signature beside them.",
			Formats: []string{"minisign"}, Algorithms: []sigalg.Key{sigalg.Ed25519}},
		{Name: "pgp", Title: "Archives, OpenPGP", What: "Files of any kind, with an OpenPGP signature.",
			Formats: []string{"pgp", "pgp-key"}, Algorithms: []sigalg.Key{sigalg.Ed25519, sigalg.RSA4096, sigalg.P256}, Params: pgpParams(), Notes: []string{pgpNote}},
		{Name: "nightly", Title: "Nightly builds, unattended", What: "Builds of any kind of file that nobody looks at, signed with a key of their own.",
			Names: []string{"nightly-*"}, Unattended: true,
			Notes: []string{"Give nightly builds a key that customers do not trust: nobody endorses them."}},
	}
}

// Find returns the template of this name.
func Find(name string) (*Template, error) {
	var have []string
	for _, t := range List() {
		if t.Name == name {
			return t, nil
		}
		have = append(have, t.Name)
	}
	return nil, &FieldError{"template", fmt.Sprintf("there is no template %.40q: want one of %s", name, strings.Join(have, ", "))}
}

// FieldError is an answer that cannot be taken.
type FieldError struct {
	Field string // of Answers, as forms and flags call it
	Text  string
}

func (e *FieldError) Error() string { return "template: " + e.Field + ": " + e.Text }

func wrong(field, format string, args ...any) error {
	return &FieldError{field, fmt.Sprintf(format, args...)}
}

// kind is what is known of a format here.
type kind struct {
	format     string
	cert       Certificate
	algorithms []sigalg.Key
	publish    string // command that prints what those who verify need, %s is the key
}

// kinds are the formats that can be set up.
func kinds() []kind {
	rsa := []sigalg.Key{sigalg.RSA3072, sigalg.RSA4096}
	classic := append(slices.Clone(rsa), sigalg.P256, sigalg.P384)
	every := append(slices.Clone(classic), sigalg.Ed25519)
	pem := "greatseal key show %s --pem"
	signPGP := "greatseal sign KEYRELEASE --policy POLICY --format pgp-key"
	return []kind{
		{"appx", OfAuthority, rsa, ""}, {"cab", OfAuthority, rsa, ""}, {"cat", OfAuthority, rsa, ""}, {"msi", OfAuthority, rsa, ""},
		{"nuget", OfAuthority, rsa, ""}, {"pe", OfAuthority, classic, ""}, {"script", OfAuthority, rsa, ""},
		{"jar", OfAuthority, every, ""}, {"apk", OwnCertificate, classic, pem}, {"apk-v4", OwnCertificate, classic, pem},
		{"bundle", OfAuthority, classic, ""}, {"dmg", OfAuthority, classic, ""}, {"ipa", OfAuthority, classic, ""}, {"macho", OfAuthority, classic, ""}, {"pkg", OfAuthority, classic, ""},
		{"rpm", NoCertificate, append(slices.Clone(rsa), sigalg.Ed25519), signPGP}, {"deb", NoCertificate, every, signPGP}, {"apt", NoCertificate, every, signPGP},
		{"pgp", NoCertificate, every, signPGP}, {"pgp-key", NoCertificate, every, signPGP},
		{"oci", NoCertificate, []sigalg.Key{sigalg.P256}, pem},
		{"mcuboot", NoCertificate, []sigalg.Key{sigalg.Ed25519, sigalg.P256, sigalg.RSA3072}, pem},
		{"fit", NoCertificate, append(slices.Clone(rsa), sigalg.P256), pem},
		{"rauc", OwnCertificate, classic, pem}, {"swupdate", OwnCertificate, classic, pem},
		{"vbmeta", NoCertificate, []sigalg.Key{sigalg.RSA4096}, pem},
		{"kmod", OwnCertificate, classic, pem}, {"ima", OwnCertificate, classic, pem},
		{"cms", OwnCertificate, every, pem}, {"dsse", NoCertificate, every, pem},
		{"minisign", NoCertificate, []sigalg.Key{sigalg.Ed25519}, "greatseal key show %s --form minisign"},
		{"signify", NoCertificate, []sigalg.Key{sigalg.Ed25519}, "greatseal key show %s --form signify"},
		{"sshsig", NoCertificate, every, "greatseal key show %s --form ssh"},
	}
}

func kindOf(format string) (kind, bool) {
	all := kinds()
	i := slices.IndexFunc(all, func(k kind) bool { return k.format == format })
	if i < 0 {
		return kind{}, false
	}
	return all[i], true
}

// Needs is the certificate that all of these formats want. Of a format that is not
// known here it is one of an authority.
func Needs(formats []string) Certificate {
	out := NoCertificate
	for _, f := range formats {
		k, ok := kindOf(f)
		switch {
		case !ok || k.cert == OfAuthority:
			return OfAuthority
		case k.cert == OwnCertificate:
			out = OwnCertificate
		}
	}
	return out
}

// Formats are the names of the formats that can be set up, in order.
func Formats() []string {
	var out []string
	for _, k := range kinds() {
		out = append(out, k.format)
	}
	slices.Sort(out)
	return out
}

// algorithms are those that fit every one of the formats.
func algorithms(formats []string) []sigalg.Key {
	var out []sigalg.Key
	for i, f := range formats {
		k, _ := kindOf(f)
		if i == 0 {
			out = slices.Clone(k.algorithms)
			continue
		}
		out = slices.DeleteFunc(out, func(a sigalg.Key) bool { return !slices.Contains(k.algorithms, a) })
	}
	return out
}
