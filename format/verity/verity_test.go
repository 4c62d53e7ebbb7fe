package verity

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
)

func data(blocks int) []byte {
	b := make([]byte, blocks*BlockSize)
	for i := range b {
		b[i] = byte(i * i >> 7)
	}
	return b
}

// veritysetup is the judge: root and tree are the same, for trees of no, one, two
// and three levels.
func TestVeritysetup(t *testing.T) {
	program, err := exec.LookPath("veritysetup")
	if err != nil {
		program = formattest.Program(t, "/sbin/veritysetup", "apt-get install cryptsetup-bin")
	}
	for name, h := range map[string]crypto.Hash{"sha256": crypto.SHA256, "sha512": crypto.SHA512} {
		for _, blocks := range []int{2, 64, 65, 128, 129, 4097} {
			dir := t.TempDir()
			file, tree := filepath.Join(dir, "data"), filepath.Join(dir, "tree")
			b := data(blocks)
			if err := os.WriteFile(file, b, 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := formattest.RunJudge(t, program, "format", "--no-superblock", "--hash="+name, "--salt=00ff", file, tree)
			if err != nil {
				t.Fatal(err)
			}
			tr := &Tree{Hash: h, Salt: []byte{0, 0xff}, Size: int64(len(b))}
			got, root, err := tr.Make(t.Context(), format.BytesArtifact("x", b))
			if err != nil {
				t.Fatal(err)
			}
			m := regexp.MustCompile(`Root hash:\s+([0-9a-f]+)`).FindStringSubmatch(out)
			if m == nil || m[1] != fmt.Sprintf("%x", root) {
				t.Errorf("%s, %d blocks: root %x: %s", name, blocks, root, out)
			}
			want, err := os.ReadFile(tree)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s, %d blocks: tree of %d bytes: want %d, %v", name, blocks, len(got), len(want), err)
			}
		}
	}
}

// Invariant 2.
func TestCheck(t *testing.T) {
	b := data(130)
	tr := &Tree{Hash: crypto.SHA256, Salt: []byte("salt"), Size: int64(len(b))}
	tree, root, err := tr.Make(t.Context(), format.BytesArtifact("x", b))
	if err != nil {
		t.Fatal(err)
	}
	all := append(b, tree...)
	check := func() error { return tr.Check(t.Context(), format.BytesArtifact("x", all), tr.Size, root) }
	if err := check(); err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{0, len(b) - 1, len(b), len(b) + 70, len(b) + BlockSize, len(all) - 1} {
		all[at] ^= 1
		if err := check(); !errors.Is(err, ErrDiffers) {
			t.Errorf("byte %d of %d changed: %v", at, len(all), err)
		}
		all[at] ^= 1
	}
	if err := tr.Check(t.Context(), format.BytesArtifact("x", all[:len(all)-1]), tr.Size, root); err == nil {
		t.Error("a tree that is cut is accepted")
	}
}

func TestRefused(t *testing.T) {
	for _, tr := range []Tree{{Hash: crypto.SHA1, Size: BlockSize}, {Hash: crypto.SHA256}, {Hash: crypto.SHA256, Size: BlockSize + 1}, {Hash: crypto.SHA256, Size: -BlockSize}} {
		if _, err := tr.Root(t.Context(), format.BytesArtifact("x", data(2)), func(int, []byte) {}); err == nil {
			t.Errorf("%+v: accepted", tr)
		}
	}
	big := Tree{Hash: crypto.SHA256, Size: 1 << 45}
	if _, _, err := big.Make(t.Context(), format.BytesArtifact("x", nil)); err == nil {
		t.Error("a tree without limit is made")
	}
}
