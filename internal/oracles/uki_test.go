package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"debug/pe"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/greatseal-io/greatseal/cms/cmstest"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/format/kmod"
	formatpe "github.com/greatseal-io/greatseal/format/pe"
	"github.com/greatseal-io/greatseal/sigalg"
)

// bootLimit is for one boot without hardware virtualization on a busy machine.
const bootLimit = 6 * time.Minute

func need(t *testing.T, pattern, hint string) string {
	t.Helper()
	m, err := filepath.Glob(pattern)
	if err != nil || len(m) == 0 {
		t.Fatalf("no %s: apt-get install %s", pattern, hint)
	}
	return m[len(m)-1]
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func writeFile(t *testing.T, name string, b []byte) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// sign runs the whole way with one key.
func sign(t *testing.T, f format.Format, b []byte, id format.Identity, key *cmstest.Identity, p format.Params) []byte {
	t.Helper()
	a := format.BytesArtifact("x", b)
	plan, err := f.Plan(t.Context(), a, p)
	if err != nil {
		t.Fatal(err)
	}
	tbs, err := f.Assemble(plan, id, formattest.At, nil)
	if err != nil {
		t.Fatal(err)
	}
	patch, err := f.Attach(t.Context(), a, plan, id, formattest.At, []format.Signature{{Value: key.SignInput(t, id.Scheme, tbs[0].Input())}})
	if err != nil {
		t.Fatal(err)
	}
	out, err := patch.Bytes(a)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// variables makes the firmware's store with our keys: PK and KEK are the root, db
// is the signer's own certificate. EDK II, MdeModulePkg/Include/Guid/VariableFormat.h.
func variables(t *testing.T, empty []byte, root, signer *x509.Certificate) []byte {
	t.Helper()
	const header = 0x48 + 28 // of the firmware volume and of the store
	b := bytes.Clone(empty)
	if len(b) < 4096 || b[0x48+20] != 0x5a {
		t.Fatal("OVMF's store of variables is not as expected")
	}
	guid := func(s string) []byte {
		x, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
		if err != nil {
			t.Fatal(err)
		}
		return []byte{x[3], x[2], x[1], x[0], x[5], x[4], x[7], x[6], x[8], x[9], x[10], x[11], x[12], x[13], x[14], x[15]}
	}
	list := func(c *x509.Certificate) []byte { // EFI_SIGNATURE_LIST with one certificate
		le := binary.LittleEndian
		out := guid("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
		out = le.AppendUint32(out, uint32(28+16+len(c.Raw)))
		out = le.AppendUint32(out, 0)
		out = le.AppendUint32(out, uint32(16+len(c.Raw)))
		return append(append(out, make([]byte, 16)...), c.Raw...)
	}
	at := header
	put := func(name, vendor string, attributes uint32, data []byte) {
		le := binary.LittleEndian
		var n []byte
		for _, c := range append(utf16.Encode([]rune(name)), 0) {
			n = le.AppendUint16(n, c)
		}
		v := []byte{0xaa, 0x55, 0x3f, 0}
		v = le.AppendUint32(v, attributes)
		v = append(v, make([]byte, 8)...)                                // monotonic count
		v = append(v, 0xea, 7, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0) // 2026-01-01
		v = le.AppendUint32(v, 0)                                        // index of a public key
		v = le.AppendUint32(le.AppendUint32(v, uint32(len(n))), uint32(len(data)))
		v = append(append(append(v, guid(vendor)...), n...), data...)
		for len(v)%4 != 0 {
			v = append(v, 0xff)
		}
		at += copy(b[at:], v)
	}
	const global, authenticated = "8be4df61-93ca-11d2-aa0d-00e098032b8c", 0x27
	put("PK", global, authenticated, list(root))
	put("KEK", global, authenticated, list(root))
	put("db", "d719b2cb-3d3a-4596-a3bc-dad00e67656f", authenticated, list(signer))
	put("SecureBootEnable", "f0a30bc7-af08-4556-99c4-001009c93a44", 3, []byte{1})
	return b
}

// cpio packs an initial RAM file system.
func cpio(files map[string][]byte) []byte {
	var b []byte
	ino := 0
	put := func(name string, mode int, data []byte) {
		ino++
		b = fmt.Appendf(b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", ino, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0)
		b = append(append(b, name...), 0)
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
		for b = append(b, data...); len(b)%4 != 0; {
			b = append(b, 0)
		}
	}
	for _, d := range []string{"proc", "sys", "dev", "bin"} {
		put(d, 0o40755, nil)
	}
	for n, data := range files {
		put(n, 0o100755, data)
	}
	put("TRAILER!!!", 0, nil)
	return b
}

// uki joins stub, kernel and initial file system into one EFI image.
func uki(t *testing.T, dir string, kernel, initrd []byte) []byte {
	t.Helper()
	stub := need(t, "/usr/lib/systemd/boot/efi/linuxx64.efi.stub", "systemd-boot-efi")
	f, err := pe.Open(stub)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	base := f.OptionalHeader.(*pe.OptionalHeader64).ImageBase
	last := f.Sections[len(f.Sections)-1]
	at := base + uint64(last.VirtualAddress) + uint64(last.VirtualSize)
	args := []string{}
	for _, s := range []struct {
		name string
		data []byte
	}{
		{".osrel", readFile(t, "/etc/os-release")}, {".cmdline", []byte("console=ttyS0 panic=-1 quiet\x00")}, {".initrd", initrd}, {".linux", kernel},
	} {
		at = (at + 0xffff) &^ 0xffff
		args = append(args, "--add-section", s.name+"="+writeFile(t, filepath.Join(dir, "part"+s.name), s.data), "--change-section-vma", fmt.Sprintf("%s=%#x", s.name, at))
		at += uint64(len(s.data))
	}
	out := filepath.Join(dir, "uki.efi")
	if b, err := exec.Command("objcopy", append(args, stub, out)...).CombinedOutput(); err != nil {
		t.Fatalf("objcopy: %v: %s", err, b)
	}
	return readFile(t, out)
}

// boot starts the image and reads the serial line until one of the words comes.
func boot(t *testing.T, image, vars []byte, words ...string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "disk/EFI/BOOT/BOOTX64.EFI"), image)
	store := writeFile(t, filepath.Join(dir, "vars.fd"), vars)
	ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
	defer cancel()
	c := exec.CommandContext(ctx, formattest.Program(t, "qemu-system-x86_64", "apt-get install qemu-system-x86"),
		"-machine", "q35,smm=on,accel=tcg", "-cpu", "max", "-m", "1024", "-display", "none", "-serial", "stdio", "-monitor", "none", "-no-reboot", "-net", "none",
		"-global", "driver=cfi.pflash01,property=secure,value=on",
		"-drive", "if=pflash,unit=0,format=raw,readonly=on,file="+need(t, "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", "ovmf"),
		"-drive", "if=pflash,unit=1,format=raw,file="+store,
		"-drive", "format=raw,file=fat:rw:"+filepath.Join(dir, "disk"))
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var complaints strings.Builder
	c.Stderr = &complaints
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cancel()
		c.Wait() // the error is that it was killed
	}()
	var said bytes.Buffer
	b := make([]byte, 4096)
	for {
		n, err := out.Read(b)
		said.Write(b[:n])
		for _, w := range words {
			if strings.Contains(said.String(), w) {
				return said.String(), nil
			}
		}
		if err != nil {
			if !errors.Is(err, io.EOF) && ctx.Err() == nil {
				return said.String(), err
			}
			cancel()
			c.Wait()
			return said.String(), fmt.Errorf("the machine said none of %q; %s", words, complaints.String())
		}
	}
}

// Firmware with Secure Boot starts our unified kernel image and refuses it without
// signature, tampered with, and signed by somebody else. The kernel in it, which
// Secure Boot has locked down, loads our module (Debian's kernel takes keys of the
// firmware for modules too) and refuses the others.
func TestOracleUKI(t *testing.T) {
	image := formattest.Judge(t, "efi", "OVMF with Secure Boot in QEMU")
	image.Note = "firmware judges; sbsign is the peer elsewhere"
	module := formattest.Judge(t, "kmod", "Linux 6.1 under Secure Boot in QEMU")
	module.Note = "the kernel judges; sign-file is the peer elsewhere"
	busybox := readFile(t, need(t, "/bin/busybox", "busybox-static"))
	kernel := readFile(t, need(t, "/boot/vmlinuz-*-cloud-amd64", "linux-image-cloud-amd64"))
	theirs := readFile(t, need(t, "/lib/modules/*-cloud-amd64/kernel/drivers/net/dummy.ko", "linux-image-cloud-amd64"))
	vars := readFile(t, need(t, "/usr/share/OVMF/OVMF_VARS_4M.fd", "ovmf"))

	kind := sigalg.RSA3072
	root := cmstest.NewRootOf(t, kind)
	key := root.Issue(t, "Boot Signer", kind)
	id := format.Identity{Scheme: kind.Default(), Public: key.Key.Public(), Chain: key.Chain}
	trust := format.Trust{Roots: root.Pool(), Keys: []crypto.PublicKey{id.Public}, Now: formattest.At}
	vars = variables(t, vars, root.Certificate, key.Certificate)

	signed := sign(t, kmod.New(), theirs, id, key, format.Params{"replace": "true"})
	bad := bytes.Clone(signed)
	bad[len(bad)/2] ^= 1
	bare, err := kmod.New().(format.Remover).Remove(t.Context(), format.BytesArtifact("x", signed), -1)
	if err != nil {
		t.Fatal(err)
	}
	unsigned, err := bare.Bytes(format.BytesArtifact("x", signed))
	if err != nil {
		t.Fatal(err)
	}
	initrd := cpio(map[string][]byte{
		"bin/busybox": busybox, "good.ko": signed, "bad.ko": bad, "unsigned.ko": unsigned,
		"init": []byte("#!/bin/busybox sh\n" +
			"/bin/busybox mount -t proc proc /proc\n/bin/busybox mount -t devtmpfs dev /dev\n" +
			"for m in bad unsigned good; do if /bin/busybox insmod /$m.ko; then echo MODULE $m loaded; else echo MODULE $m refused; fi >/dev/console 2>&1; done\n" +
			"/bin/busybox grep -c ^dummy /proc/modules >/dev/console\necho INIT DONE >/dev/console\n/bin/busybox poweroff -f\n"),
	})
	plain := uki(t, t.TempDir(), kernel, initrd)
	plan, err := formatpe.New().Plan(t.Context(), format.BytesArtifact("x", plain), nil)
	if err != nil {
		t.Fatal(err)
	}
	told := fmt.Sprint(plan.Facts)
	for _, want := range []string{"{kernel-command-line console=ttyS0 panic=-1 quiet}", "{os-release ", "{sbat systemd,1,"} {
		if !strings.Contains(told, want) {
			t.Errorf("the plan does not tell of %s: %s", want, told)
		}
	}
	good := sign(t, formatpe.New(), plain, id, key, nil)
	if _, err := formatpe.New().Verify(t.Context(), format.BytesArtifact("x", good), trust); err != nil {
		t.Error(err)
	}
	const refused = "Access Denied"
	said, err := boot(t, good, vars, "INIT DONE", refused, "Security Violation", "Kernel panic")
	if err == nil && !strings.Contains(said, "INIT DONE") {
		err = fmt.Errorf("it does not start: %s", said)
	}
	image.Accepts("unified kernel image", string(kind), err)
	verdict := func(name string) error {
		if strings.Contains(said, "MODULE "+name+" loaded") {
			return nil
		}
		return fmt.Errorf("%s", said)
	}
	module.Accepts("dummy.ko", string(kind), verdict("good"))
	for name, b := range map[string][]byte{"bad": bad, "unsigned": unsigned} {
		_, err := kmod.New().Verify(t.Context(), format.BytesArtifact("x", b), trust)
		if !strings.Contains(said, "MODULE "+name+" refused") {
			t.Errorf("the kernel does not refuse %s: %s", name, said)
		}
		module.Rejects(name, err, verdict(name))
	}

	tampered := bytes.Clone(good)
	tampered[bytes.Index(tampered, []byte("console=ttyS0"))] ^= 1
	stranger := cmstest.NewRootOf(t, sigalg.P256)
	other := stranger.Issue(t, "Somebody Else", sigalg.P256)
	foreign := sign(t, formatpe.New(), plain, format.Identity{Scheme: sigalg.ECDSASHA256, Public: other.Key.Public(), Chain: other.Chain}, other, nil)
	for name, b := range map[string][]byte{"unsigned": plain, "tampered": tampered, "signed by somebody else": foreign} {
		_, ours := formatpe.New().Verify(t.Context(), format.BytesArtifact("x", b), trust)
		said, err := boot(t, b, vars, "INIT DONE", refused, "Security Violation")
		var theirs error
		if err == nil && !strings.Contains(said, "INIT DONE") {
			theirs = errors.New("refused")
		} else if err != nil {
			t.Errorf("%s: %v: %s", name, err, said)
		}
		image.Rejects(name, ours, theirs)
	}
}
