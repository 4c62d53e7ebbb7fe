package bench

import (
	"archive/zip"
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
)

// contest is one format with its inputs and its peers.
type contest struct {
	format string
	name   string   // of the input: some peers go by the suffix
	params []string // NAME=VALUE
	inputs []input
	make   func(ctx context.Context, path string, in input) error
	peers  []peer
}

// input is the size of one file.
type input struct {
	bytes   int64
	entries int
}

const mib = 1 << 20

// The sizes of single files and of archives.
var (
	files    = []input{{200 * mib, 0}, {2000 * mib, 0}}
	archives = []input{{200 * mib, 10}, {200 * mib, 5_000}, {200 * mib, 50_000}}
)

// ContestNames are the formats of the table.
func ContestNames() (out []string) {
	for _, c := range contests {
		out = append(out, c.format)
	}
	return out
}

// contests is the table.
var contests = []contest{
	{"pe", "program.exe", nil, files, makeImage, []peer{
		{program: "osslsigncode", args: func(id *peerIdentity, src, out string) []string {
			return []string{"sign", "-h", "sha256", "-certs", id.chain, "-key", id.key, "-in", src, "-out", out}
		}},
		{program: "sbsign", args: func(id *peerIdentity, src, out string) []string {
			return []string{"--key", id.key, "--cert", id.leaf, "--output", out, src}
		}},
		relic("pe-coff"),
	}},
	{"cms", "file.bin", nil, files, makeBlob, []peer{
		{program: "openssl", args: func(id *peerIdentity, src, out string) []string {
			return []string{"cms", "-sign", "-binary", "-stream", "-md", "sha256", "-signer", id.leaf, "-inkey", id.key, "-in", src, "-outform", "DER", "-out", out}
		}},
	}},
	{"pgp", "file.bin", nil, files, makeBlob, []peer{
		{program: "gpg", args: func(_ *peerIdentity, src, out string) []string {
			return []string{"--batch", "--yes", "--quiet", "--digest-algo", "SHA256", "--output", out, "--detach-sign", src}
		}},
	}},
	{"ima", "file.bin", nil, files, makeBlob, []peer{
		{program: "evmctl", inPlace: true, args: func(id *peerIdentity, _, out string) []string {
			return []string{"ima_sign", "--hashalgo", "sha256", "--sigfile", "--key", id.key, out}
		}},
	}},
	{"jar", "archive.jar", nil, archives, makeJar, []peer{
		{program: "jarsigner", inPlace: true, args: func(id *peerIdentity, _, out string) []string {
			return []string{"-keystore", id.p12, "-storetype", "PKCS12", "-storepass", peerPassword, out, "bench"}
		}},
		relic("jar"),
	}},
}

// relic is one signer of many formats.
func relic(kind string) peer {
	return peer{program: "relic", args: func(id *peerIdentity, src, out string) []string {
		return []string{"sign", "--config", id.relic, "--key", "bench", "--sig-type", kind, "--file", src, "--output", out}
	}}
}

func makeImage(_ context.Context, path string, in input) error { return writeImage(path, in.bytes) }

// makeBlob writes bytes that nothing can shorten.
func makeBlob(_ context.Context, path string, in input) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.CopyN(f, rand.NewChaCha8([32]byte{'b', 'l', 'o', 'b'}), in.bytes); err != nil {
		return err
	}
	return f.Close()
}

// makeJar writes a JAR with a manifest that says nothing of its entries.
func makeJar(_ context.Context, path string, in input) error {
	return writeArchive(path, in, "META-INF/MANIFEST.MF", "Manifest-Version: 1.0\r\n\r\n")
}

// writeArchive writes a ZIP archive whose entries are in.bytes long together, half
// of which deflate takes away, after a first entry with this content.
func writeArchive(path string, in input, first, content string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, mib)
	z := zip.NewWriter(w)
	e, err := z.Create(first)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(e, content); err != nil {
		return err
	}
	random := rand.NewChaCha8([32]byte{'z', 'i', 'p'})
	size := in.bytes / int64(in.entries)
	body := make([]byte, size)
	for i := range in.entries {
		random.Read(body[:size/2])
		e, err := z.Create(fmt.Sprintf("com/example/part%d/Class%d.class", i/1000, i))
		if err != nil {
			return err
		}
		if _, err := e.Write(body); err != nil {
			return err
		}
	}
	if err := z.Close(); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}

// inflateAndHash is the floor of archives: every entry is read, inflated and
// hashed once, on one core.
func inflateAndHash(path string) (int64, error) {
	z, err := zip.OpenReader(path)
	if err != nil {
		return 0, fmt.Errorf("bench: %w", err)
	}
	defer z.Close()
	total := int64(0)
	buf := make([]byte, 256<<10)
	h := sha256.New()
	for _, e := range z.File {
		r, err := e.Open()
		if err != nil {
			return 0, fmt.Errorf("bench: %w", err)
		}
		h.Reset()
		n, err := io.CopyBuffer(h, struct{ io.Reader }{r}, buf)
		if err != nil {
			return 0, fmt.Errorf("bench: %w", err)
		}
		r.Close()
		total += n
	}
	return total, nil
}
