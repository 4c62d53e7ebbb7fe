package pe

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

// unifiedImage is one of systemd's stub, made by objcopy.
func unifiedImage(t testing.TB, parts map[string]string) []byte {
	t.Helper()
	const stub = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub"
	dir, at, args := t.TempDir(), 0x14f000000, []string{}
	for _, n := range slices.Sorted(func(yield func(string) bool) {
		for n := range parts {
			if !yield(n) {
				return
			}
		}
	}) {
		f := filepath.Join(dir, n[1:])
		if err := os.WriteFile(f, []byte(parts[n]), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--add-section", n+"="+f, "--change-section-vma", fmt.Sprintf("%s=%#x", n, at))
		at += 0x1000000
	}
	out := filepath.Join(dir, "uki.efi")
	if b, err := exec.Command("objcopy", append(args, stub, out)...).CombinedOutput(); err != nil {
		t.Fatalf("objcopy: %v: %s: apt-get install binutils systemd-boot-efi", err, b)
	}
	return readFile(t, out, "binutils")
}

// The parts of a unified kernel image are told with their digests.
func TestUnifiedKernelImage(t *testing.T) {
	parts := map[string]string{".linux": strings.Repeat("kernel", 100000), ".initrd": strings.Repeat("files", 70001), ".cmdline": "quiet", ".osrel": "PRETTY_NAME=\"Example 1\"\n", ".uname": "6.1.0"}
	b := unifiedImage(t, parts)
	p, err := (Format{}).Plan(context.Background(), file(b), nil)
	if err != nil {
		t.Fatal(err)
	}
	for n, text := range parts {
		want := format.Fact{Name: "section", Value: fmt.Sprintf("%s, %d bytes, sha256 %.16x", n, len(text), sha256.Sum256([]byte(text)))}
		if !slices.Contains(p.Facts, want) {
			t.Errorf("no %v in %v", want, p.Facts)
		}
	}
	r, err := (Format{}).Inspect(context.Background(), file(b))
	if err != nil || !slices.Contains(r.Facts, format.Fact{Name: "section", Value: ".linux, 600000 bytes"}) {
		t.Errorf("inspected: %v, %v", r, err)
	}
	// With page hashes or without, in one pass or with others, the parts are the same, and so is what is signed.
	formattest.Reads(t, Format{}, file(b), nil)
	s := formattest.Identity(t, sigalg.RSA3072)
	want, err := (Format{}).Assemble(p, s.Identity, formattest.At, nil)
	if err != nil {
		t.Fatal(err)
	}
	p.Facts = slices.DeleteFunc(p.Facts, func(f format.Fact) bool { return f.Name == "section" })
	got, err := (Format{}).Assemble(p, s.Identity, formattest.At, nil)
	if err != nil || !bytes.Equal(got[0].Message, want[0].Message) || !bytes.Equal(got[0].Digest, want[0].Digest) {
		t.Errorf("a plan from before parts were told: %v", err)
	}
	// The last byte of the initrd.
	changed := bytes.Clone(b)
	changed[bytes.Index(changed, []byte(parts[".initrd"]))+len(parts[".initrd"])-1] ^= 1
	q, err := (Format{}).Plan(context.Background(), file(changed), nil)
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(q.Facts, func(f format.Fact) bool { return strings.HasPrefix(f.Value, ".initrd, 350005 bytes, sha256 ") })
	if at < 0 || slices.Contains(p.Facts, q.Facts[at]) || strings.HasSuffix(q.Facts[at].Value, fmt.Sprintf("%.16x", sha256.Sum256([]byte(parts[".initrd"])))) {
		t.Errorf("%v", q.Facts)
	}
	// Other images have no parts.
	if p, err := (Format{}).Plan(context.Background(), file(readFile(t, "/usr/lib/systemd/boot/efi/systemd-bootx64.efi", "systemd-boot-efi")), nil); err != nil || slices.ContainsFunc(p.Facts, func(f format.Fact) bool { return f.Name == "section" }) {
		t.Errorf("%v, %v", p, err)
	}
}

// Many sections of one name, and of names that would be shown as others.
func TestHostileParts(t *testing.T) {
	im := &image{}
	for i := range 5000 {
		im.sections = append(im.sections, section{name: ".dtb", offset: uint32(i), size: 1<<32 - 1, virtualSize: uint32(i)}, section{name: ".linux\u202e", size: 1})
	}
	im.subsystem = 10
	im.sections = append(im.sections, section{name: ".linux", offset: 1<<32 - 1, size: 1<<32 - 1})
	im.parts = im.unified()
	im.digestParts([]byte("x"), 1<<32)
	d := format.NewDetails(0)
	im.partDetails(d)
	if len(im.parts) != maxParts || len(d.Facts()) > shownPart+1 || strings.Contains(fmt.Sprint(d.Facts()), "\u202e") {
		t.Errorf("%d parts, %v", len(im.parts), d.Facts())
	}
}
