package msi

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/cfb"
	"github.com/greatseal-io/greatseal/format/formattest"
)

// sequence makes n bytes that are not all the same.
func sequence(n int, seed byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i)*7 + byte(i>>8) + seed
	}
	return b
}

// pack makes a file of that kind (its class's first byte) with these streams.
func pack(t testing.TB, kind byte, sector int, changes ...cfb.Change) []byte {
	t.Helper()
	b, err := cfb.New(sector)
	if err != nil {
		t.Fatal(err)
	}
	copy(b[2*sector+0x50:], []byte{kind, 0x10, 0x0c, 0, 0, 0, 0, 0, 0xc0, 0, 0, 0, 0, 0, 0, 0x46})
	return change(t, b, changes...)
}

func change(t testing.TB, b []byte, changes ...cfb.Change) []byte {
	t.Helper()
	c, err := cfb.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	edits, err := c.Edit(changes)
	if err != nil {
		t.Fatal(err)
	}
	return apply(t, b, &format.Patch{Size: int64(len(b)), Edits: edits})
}

func apply(t testing.TB, b []byte, p *format.Patch) []byte {
	t.Helper()
	if len(p.Edits) == 0 {
		return b
	}
	out, err := p.Bytes(format.BytesArtifact("x.msi", b))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// nest makes storages of what were streams: the entry of each name in pairs gets
// the class, and its only child is the entry that comes with it.
func nest(t testing.TB, b []byte, pairs ...string) []byte {
	t.Helper()
	le := binary.LittleEndian
	for i := 0; i < len(pairs); i += 2 {
		// The child is taken out of the root's tree by putting its bytes back after
		// the tree was made without it.
		c, err := cfb.Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		parent, ok1 := c.Find(pairs[i])
		child, ok2 := c.Find(pairs[i+1])
		if !ok1 || !ok2 || c.Entry(parent).Size != 0 || c.Entry(child).Size != 0 {
			t.Fatal("parent and child are streams of no bytes")
		}
		at := func(b []byte, i int) []byte {
			first := int64(le.Uint32(b[0x30:]))
			if i >= c.SectorSize()/128 {
				t.Fatal("the entries do not stand in the first sector of the directory")
			}
			return b[(first+1)*int64(c.SectorSize())+128*int64(i):][:128]
		}
		raw := bytes.Clone(at(b, child))
		b = change(t, b, cfb.Change{Name: pairs[i+1]})
		copy(at(b, child), raw)
		for _, x := range []int{0x44, 0x48, 0x4c} {
			le.PutUint32(at(b, child)[x:], 0xffffffff)
		}
		p := at(b, parent)
		p[0x42] = byte(cfb.Storage)
		le.PutUint32(p[0x4c:], uint32(child))
		copy(p[0x50:], "class of storage")
		le.PutUint32(p[0x74:], 0)
	}
	return b
}

func art(b []byte) format.Artifact { return format.BytesArtifact("x.msi", b) }

func seal(t testing.TB, b []byte, s *formattest.Signer, params format.Params) []byte {
	t.Helper()
	p, err := (Format{}).Plan(context.Background(), art(b), params)
	if err != nil {
		t.Fatal(err)
	}
	patch, err := (Format{}).Attach(context.Background(), art(b), p, s.Identity, formattest.At, formattest.SignAll(t, Format{}, p, s, formattest.At))
	if err != nil {
		t.Fatal(err)
	}
	return apply(t, b, patch)
}

func readFile(t testing.TB, path, hint string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v: %s", err, hint)
	}
	return b
}

// source is an installer's description for wixl.
const source = `<?xml version='1.0' encoding='utf-8'?>
<Wix xmlns='http://schemas.microsoft.com/wix/2006/wi'>
  <Product Name='Foobar 1.0' Id='ABCDDCBA-86C7-4D14-AEC0-86416A69ABDE' UpgradeCode='ABCDDCBA-7349-453F-94F6-BCB5110BA4FD' Language='1033' Codepage='1252' Version='1.2.3' Manufacturer='Acme Ltd.'>
    <Package Id='*' Keywords='Installer' Description="Foobar 1.0 Installer" Manufacturer='Acme Ltd.' InstallerVersion='100' Languages='1033' Compressed='yes' SummaryCodepage='1252' />
    <Media Id='1' Cabinet='Sample.cab' EmbedCab='yes' />
    <Directory Id='TARGETDIR' Name='SourceDir'><Directory Id='ProgramFilesFolder' Name='PFiles'><Directory Id='INSTALLDIR' Name='Foobar'>
      <Component Id='Main' Guid='ABCDDCBA-83F1-4F22-985B-FDB3C8ABD471'><File Id='F' Name='f.bin' DiskId='1' Source='f.bin' KeyPath='yes'/></Component>
    </Directory></Directory></Directory>
    <Feature Id='Complete' Level='1'><ComponentRef Id='Main' /></Feature>
  </Product>
</Wix>
`

// wixl makes a package with a payload of n bytes.
func wixl(t testing.TB, n int) []byte {
	t.Helper()
	prog := formattest.Program(t, "wixl", "apt-get install wixl")
	dir := t.TempDir()
	payload := sequence(n, 3)
	for i := 0; i < n; i += 16 { // so that it cannot be compressed away
		copy(payload[i:], sum(binary.LittleEndian.AppendUint64(nil, uint64(i)))[:min(16, n-i)])
	}
	for name, b := range map[string][]byte{"f.bin": payload, "a.wxs": []byte(source)} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := exec.CommandContext(t.Context(), prog, "-o", "a.msi", "a.wxs")
	c.Dir = dir // payloads are looked for there
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("wixl: %v: %s", err, out)
	}
	return readFile(t, filepath.Join(dir, "a.msi"), "wixl made no file")
}
