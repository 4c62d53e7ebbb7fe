package bench

import (
	"context"
	"slices"

	"github.com/greatseal-io/greatseal/sigalg"
)

// contest is one format with its inputs and its peers.
type contest struct {
	format  string
	variant string     // what the parameters change, for people; "" when nothing
	name    string     // of the input: some peers go by the suffix
	key     sigalg.Key // "": RSA-3072 with a certificate; of other kinds without one
	params  []string   // NAME=VALUE
	inputs  []input
	make    func(ctx context.Context, path string, in input) error
	peers   []peer
}

// title names the contest in the table.
func (c *contest) title() string {
	if c.variant == "" {
		return c.format
	}
	return c.format + " " + c.variant
}

// input is the size of one file.
type input struct {
	bytes   int64
	entries int
}

const mib = 1 << 20

// The sizes of single files and of archives; of formats whose files are small, or
// whose content is signed within the message.
var (
	files    = []input{{200 * mib, 0}, {2000 * mib, 0}}
	archives = []input{{200 * mib, 10}, {200 * mib, 5_000}, {200 * mib, 50_000}}
	medium   = []input{{200 * mib, 0}}
	small    = []input{{1 * mib, 0}}
	// Plans hold the hashes of all pages of a program of 1 792 MiB (macho) or 1 592 MiB
	// (pe).
	programs = []input{{200 * mib, 0}, {1500 * mib, 0}}
)

// ContestNames are the formats of the table.
func ContestNames() (out []string) {
	for _, c := range contests {
		if !slices.Contains(out, c.format) {
			out = append(out, c.format)
		}
	}
	return out
}

// contests is the table.
var contests = []contest{
	{format: "pe", name: "program.exe", inputs: files, make: makeImage, peers: []peer{
		osslsigncode(),
		{program: "sbsign", args: func(id *peerIdentity, src, out string) []string {
			return []string{"--key", id.key, "--cert", id.leaf, "--output", out, src}
		}},
		relic("pe-coff"),
	}},
	{format: "pe", variant: "page hashes", name: "program.exe", params: []string{"page-hashes=true"}, inputs: programs, make: makeImage, peers: []peer{
		osslsigncode("-ph"), relic("pe-coff", "--page-hashes"),
	}},
	{format: "msi", name: "setup.msi", inputs: files, make: makeInstaller, peers: []peer{
		osslsigncode("-add-msi-dse"), relic("msi"),
	}},
	{format: "cab", name: "files.cab", inputs: files, make: makeCabinet, peers: []peer{osslsigncode(), relic("cab")}},
	{format: "appx", name: "app.msix", inputs: archives, make: makeApp, peers: []peer{osslsigncode(), relic("appx")}},
	{format: "nuget", name: "package.nupkg", inputs: archives, make: makeNuGet}, // NuGet runs nowhere but on .NET
	{format: "script", name: "script.ps1", inputs: small, make: makeText, peers: []peer{osslsigncode(), relic("ps")}},
	{format: "macho", name: "program", params: []string{"identifier=com.example.bench"}, inputs: programs, make: makeMachO, peers: []peer{
		relic("", "--bundle-id", "com.example.bench"),
		{program: "quill", inPlace: true, args: func(id *peerIdentity, _, out string) []string {
			return []string{"sign", "--p12", id.p12, "--timestamp-server", "", "--identity", "com.example.bench", out}
		}, env: []string{"QUILL_SIGN_PASSWORD=" + peerPassword}},
	}},
	{format: "pkg", name: "setup.pkg", inputs: files, make: makePkg, peers: []peer{relic("xar")}},
	{format: "apk", name: "app.apk", inputs: archives, make: makeAPK, peers: []peer{
		{program: "apksigner", args: func(id *peerIdentity, src, out string) []string {
			return []string{"sign", "--ks", id.p12, "--ks-type", "PKCS12", "--ks-pass", "pass:" + peerPassword, "--ks-key-alias", "bench", "--out", out, src}
		}},
		relic("apk"),
	}},
	{format: "jar", name: "archive.jar", inputs: archives, make: makeJar, peers: []peer{
		{program: "jarsigner", inPlace: true, args: func(id *peerIdentity, _, out string) []string {
			return []string{"-keystore", id.p12, "-storetype", "PKCS12", "-storepass", peerPassword, out, "bench"}
		}},
		relic("jar"),
	}},
	{format: "rpm", name: "hello.rpm", inputs: files, make: makeRPM, peers: []peer{
		{program: "rpmsign", inPlace: true, args: func(_ *peerIdentity, _, out string) []string {
			return []string{"--addsign", "--define", "_gpg_name bench@example.com", "--define", "__gpg " + findProgram("", "gpg"), out}
		}},
		relicPGP("rpm"),
	}},
	{format: "deb", name: "hello.deb", inputs: files, make: makeDeb, peers: []peer{
		{program: "debsigs", inPlace: true, args: func(_ *peerIdentity, _, out string) []string {
			return []string{"--sign=origin", "--default-key=bench@example.com", out}
		}},
		relicPGP("deb", "--role", "origin"),
	}},
	{format: "kmod", name: "driver.ko", inputs: medium, make: makeModule, peers: []peer{
		{program: signFile, args: func(id *peerIdentity, src, out string) []string {
			return []string{"sha256", id.key, id.leaf, src, out}
		}},
	}},
	{format: "fit", name: "image.itb", params: []string{"key-name=dev"}, inputs: medium, make: makeFIT, peers: []peer{
		{program: "mkimage", inPlace: true, args: func(id *peerIdentity, _, out string) []string {
			return []string{"-F", "-k", id.uboot, "-r", out}
		}},
	}},
	{format: "rauc", name: "update.raucb", params: []string{"manifest=" + raucManifest}, inputs: files, make: makeSquash},
	{format: "swupdate", name: "update.swu", inputs: files, make: makeUpdate},
	{format: "mcuboot", name: "firmware.bin", key: sigalg.Ed25519, inputs: small, make: makeFirmware},
	{format: "vbmeta", name: "vbmeta.img", key: sigalg.RSA4096, inputs: small, make: makeVBMeta},
	{format: "cms", name: "file.bin", inputs: files, make: makeBlob, peers: []peer{
		{program: "openssl", args: func(id *peerIdentity, src, out string) []string {
			return []string{"cms", "-sign", "-binary", "-stream", "-md", "sha256", "-signer", id.leaf, "-inkey", id.key, "-in", src, "-outform", "DER", "-out", out}
		}},
	}},
	{format: "pgp", name: "file.bin", inputs: files, make: makeBlob, peers: []peer{
		{program: "gpg", args: func(_ *peerIdentity, src, out string) []string {
			return []string{"--batch", "--yes", "--quiet", "--digest-algo", "SHA256", "--output", out, "--detach-sign", src}
		}},
	}},
	{format: "sshsig", name: "file.bin", inputs: files, make: makeBlob, peers: []peer{
		{program: "ssh-keygen", args: func(id *peerIdentity, src, _ string) []string {
			return []string{"-Y", "sign", "-q", "-n", "file", "-f", id.key, src}
		}},
	}},
	{format: "minisign", name: "file.bin", key: sigalg.Ed25519, inputs: files, make: makeBlob, peers: []peer{
		{program: "minisign", args: func(id *peerIdentity, src, out string) []string {
			return []string{"-S", "-s", id.minisign, "-m", src, "-x", out}
		}},
	}},
	{format: "signify", name: "list.txt", key: sigalg.Ed25519, inputs: small, make: makeText, peers: []peer{
		{program: "signify-openbsd", args: func(id *peerIdentity, src, out string) []string {
			return []string{"-S", "-s", id.signify, "-m", src, "-x", out}
		}},
	}},
	{format: "ima", name: "file.bin", inputs: files, make: makeBlob, peers: []peer{
		{program: "evmctl", inPlace: true, args: func(id *peerIdentity, _, out string) []string {
			return []string{"ima_sign", "--hashalgo", "sha256", "--sigfile", "--key", id.key, out}
		}},
	}},
	{format: "dsse", name: "file.bin", key: sigalg.P256, inputs: files, make: makeBlob, peers: []peer{cosign()}},
	{format: "cose", name: "file.bin", key: sigalg.P256, params: []string{"certificates=none"}, inputs: files, make: makeBlob, peers: []peer{cosign()}},
	{format: "jws", name: "file.bin", key: sigalg.P256, params: []string{"certificates=none"}, inputs: small, make: makeBlob, peers: []peer{cosign()}},
}

// relic is one signer of many formats; without kind it looks what the file is.
func relic(kind string, more ...string) peer { return relicWith("bench", kind, more) }

// relicPGP is relic with an OpenPGP key.
func relicPGP(kind string, more ...string) peer { return relicWith("pgp", kind, more) }

func relicWith(key, kind string, more []string) peer {
	return peer{program: "relic", args: func(id *peerIdentity, src, out string) []string {
		args := []string{"sign", "--config", id.relic, "--key", key, "--file", src, "--output", out}
		if kind != "" {
			args = append(args, "--sig-type", kind)
		}
		return append(args, more...)
	}}
}

func osslsigncode(more ...string) peer {
	return peer{program: "osslsigncode", args: func(id *peerIdentity, src, out string) []string {
		return append([]string{"sign", "-h", "sha256", "-certs", id.chain, "-key", id.key, "-in", src, "-out", out}, more...)
	}}
}

// cosign makes a bundle with a key of its own (P-256: it makes no others) and
// without its log.
func cosign() peer {
	return peer{program: "cosign", args: func(id *peerIdentity, src, out string) []string {
		return []string{"sign-blob", "--yes", "--key", id.cosign, "--tlog-upload=false", "--use-signing-config=false", "--bundle", out, src}
	}, env: []string{"COSIGN_PASSWORD="}}
}
