package main

// Formats are those that must have a line, in the order of the printed table.
// A format is done when an independent verifier has judged it.
var formats = []string{
	// Windows
	"pe", "efi", "msi", "cab", "cat", "appx", "nuget", "script",
	// Apple
	"macho", "pkg", "dmg", "bundle", "ipa",
	// Linux
	"kmod", "ima",
	// Firmware
	"mcuboot", "fit", "rauc", "vbmeta", "swupdate",
	// Packages and OpenPGP
	"pgp", "pgp-key", "rpm", "deb", "apt", "sshsig", "minisign", "signify", "git",
	// Java and Android
	"jar", "apk", "apk-v4",
	// General
	"cms", "dsse", "hybrid", "xmldsig", "oci", "jws", "cose",
	// Records
	"records", "circle",
}
