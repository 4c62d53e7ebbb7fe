package deb

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/internal/unpack"
	"github.com/greatseal-io/greatseal/sigalg"
)

// whole is the format as everybody has it but the keeper.
func whole() format.Format { return With(Unpackers{XZ: unpack.XZ, Zstd: unpack.Zstd}) }

func factsOf(t testing.TB, b []byte) []format.Fact {
	t.Helper()
	p, err := whole().Plan(t.Context(), format.BytesArtifact("p.deb", b), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Encode(); err != nil {
		t.Fatal(err)
	}
	return p.Facts
}

func values(facts []format.Fact, name string) (out []string) {
	for _, f := range facts {
		if f.Name == name {
			out = append(out, f.Value)
		}
	}
	return out
}

// compress runs the real packer.
func compress(t testing.TB, b []byte, tool string, args ...string) string {
	t.Helper()
	cmd := exec.Command(tool, append(args, "-c")...)
	cmd.Stdin = bytes.NewReader(b)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v: apt-get install xz-utils zstd bzip2", tool, err)
	}
	return string(out)
}

// What dpkg-deb packs is told alike, however it compresses.
func TestCompressions(t *testing.T) {
	dpkg := formattest.Program(t, "dpkg-deb", packages)
	dir := t.TempDir()
	for name, f := range map[string]struct {
		content string
		mode    os.FileMode
	}{
		"DEBIAN/control":                       {controlFile, 0o644},
		"DEBIAN/postinst":                      {"#!/bin/sh\nexec true\n", 0o755},
		"usr/bin/hello":                        {strings.Repeat("hello\n", 20000), 0o755},
		"usr/bin/others":                       {"x", 0o755 | os.ModeSetuid},
		"usr/lib/systemd/system/hello.service": {"[Service]\nExecStart=/usr/bin/hello\n", 0o644},
		"etc/sudoers.d/hello":                  {"ALL ALL=(ALL) NOPASSWD: ALL\n", 0o440},
	} {
		at := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(f.content), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(at, f.mode); err != nil {
			t.Fatal(err)
		}
	}
	var first []format.Fact
	for _, c := range []string{"none", "gzip", "xz", "zstd"} {
		out := filepath.Join(t.TempDir(), "p.deb")
		if b, err := exec.Command(dpkg, "--root-owner-group", "--uniform-compression", "-Z"+c, "-b", dir, out).CombinedOutput(); err != nil {
			t.Fatalf("dpkg-deb -Z%s: %v %s", c, err, b)
		}
		b, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		facts := slices.DeleteFunc(factsOf(t, b), func(f format.Fact) bool { return strings.Contains(f.Name, ".tar") })
		if first == nil {
			first = facts
		}
		if !slices.Equal(facts, first) {
			t.Errorf("%s: %v\nwant %v", c, facts, first)
		}
	}
	for name, want := range map[string]string{
		"package": "[hello]", "setuid": "[/usr/bin/others, mode 4755]", "not-read": "[]",
		"starts": "[/etc/sudoers.d/hello, 72fd64f87a856496 /usr/lib/systemd/system/hello.service, ",
		"script": "[after installing: /bin/sh, 20 bytes, sha256 ", "files": "[4, sha256 ",
	} {
		if got := fmt.Sprint(values(first, name)); !strings.HasPrefix(got, want[:min(len(want), 28)]) {
			t.Errorf("%s is %s: want %s", name, got, want)
		}
	}
}

// data is an archive of files with these names and contents.
func dataOf(t testing.TB, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		if err := w.WriteHeader(&tar.Header{Name: files[i], Mode: 0o4755, Size: int64(len(files[i+1])), Format: tar.FormatPAX}); err != nil {
			t.Fatal(err)
		}
		w.Write([]byte(files[i+1]))
	}
	w.Close()
	return b.Bytes()
}

// Bombs, and what is damaged, say that they were not read, and nothing of what they hold.
func TestHostileContents(t *testing.T) {
	control := compress(t, dataOf(t, "./control", controlFile), "xz")
	zeros := dataOf(t, "./zeros", strings.Repeat("\x00", 64<<20))
	good := dataOf(t, "./usr/bin/a", "a")
	xz := compress(t, good, "xz")
	for name, parts := range map[string][]string{
		"a bomb of xz":           {control, "data.tar.xz", compress(t, zeros, "xz")},
		"a bomb of Zstandard":    {control, "data.tar.zst", compress(t, zeros, "zstd", "-19")},
		"too large a dictionary": {control, "data.tar.xz", compress(t, good, "xz", "--lzma2=preset=0,dict=96MiB")},
		"too large a window":     {control, "data.tar.zst", compress(t, zeros, "zstd", "--long=27")},
		"cut":                    {control, "data.tar.xz", xz[:len(xz)-1]},
		"two streams":            {control, "data.tar.xz", xz + xz},
		"no tar":                 {control, "data.tar.xz", compress(t, []byte("hello"), "xz")},
		"lzma":                   {control, "data.tar.lzma", compress(t, good, "xz", "--format=lzma")},
		"bzip2, cut":             {control, "data.tar.bz2", compress(t, good, "bzip2")[:40]},
	} {
		facts := factsOf(t, archive("debian-binary", "2.0\n", "control.tar.xz", parts[0], parts[1], parts[2]))
		if got := values(facts, "not-read"); len(got) != 1 || !strings.Contains(got[0], parts[1]) || values(facts, "files") != nil || values(facts, "setuid") != nil {
			t.Errorf("%s: %v", name, facts)
		}
		if got := values(facts, "package"); len(got) != 1 || got[0] != "hello" {
			t.Errorf("%s: the control file is not told: %v", name, facts)
		}
	}
	for name, control := range map[string]string{
		"a bomb": compress(t, zeros, "xz"), "cut": control[:len(control)-1], "damaged behind the fields": control[:len(control)-30] + "x" + control[len(control)-29:],
	} {
		facts := factsOf(t, archive("debian-binary", "2.0\n", "control.tar.xz", control, "data.tar.xz", xz))
		if got := values(facts, "not-read"); len(got) != 1 || !strings.Contains(got[0], "control.tar.xz") || values(facts, "package") != nil {
			t.Errorf("control, %s: %v", name, facts)
		}
		if got := values(facts, "files"); len(got) != 1 {
			t.Errorf("control, %s: the files are not told: %v", name, facts)
		}
	}
	if facts := factsOf(t, archive("debian-binary", "2.0\n", "control.tar.bz2", compress(t, dataOf(t, "./control", controlFile), "bzip2"), "data.tar.bz2", compress(t, good, "bzip2"))); values(facts, "not-read") != nil || values(facts, "package") == nil {
		t.Errorf("bzip2: %v", facts)
	}
}

// Names that are long, many, the same, or would change how they are shown stay facts
// that can be shown, few, and are signed by nobody.
func TestHostileNames(t *testing.T) {
	var many []string
	for i := range 3000 {
		many = append(many, fmt.Sprintf("./etc/cron.d/%04d\u202e\x1b[2J\u2028%s", i, strings.Repeat("ä", 200)), "x")
	}
	many = append(many, many[:20]...)
	many = append(many, "./../../etc/sudoers", "x", "./etc/sudoers.d/\xff\xfe", "y")
	data := compress(t, dataOf(t, many...), "xz", "-1")
	fields := "Package: hello\nVersion: 1\n" + strings.Repeat("Section: "+strings.Repeat("x\u202e", 300)+"\n", 300)
	control := compress(t, dataOf(t, "./control", fields, "./postinst", "#!/bin/\u202esh", "./triggers", strings.Repeat("interest \x1b\n", 5000)), "xz", "-1")
	b := archive("debian-binary", "2.0\n", "control.tar.xz", control, "data.tar.xz", data)
	facts := factsOf(t, b)
	total := 0
	for _, f := range facts {
		total += len(f.Name) + len(f.Value)
		if strings.ContainsFunc(f.Value, format.Turns) || len(f.Value) > format.MaxText {
			t.Errorf("fact %s is %q", f.Name, f.Value)
		}
	}
	if total > 16<<10 || values(facts, "starts-list") == nil {
		t.Errorf("%d facts of %d bytes: %v", len(facts), total, facts)
	}
	// No fact is signed: what is signed is the same with other facts, or none.
	s := formattest.Identity(t, sigalg.Ed25519)
	p, err := whole().Plan(t.Context(), format.BytesArtifact("p.deb", b), nil)
	if err != nil {
		t.Fatal(err)
	}
	want, err := whole().Assemble(p, s.Identity, formattest.At, nil)
	if err != nil {
		t.Fatal(err)
	}
	p.Facts = nil
	got, err := whole().Assemble(p, s.Identity, formattest.At, nil)
	if err != nil || len(got) != 1 || !bytes.Equal(got[0].Digest, want[0].Digest) || !bytes.Equal(got[0].Message, want[0].Message) {
		t.Errorf("%v: other facts change what is signed", err)
	}
}
