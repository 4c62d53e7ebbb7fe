package bench

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// makeRPM has rpmbuild write a package of one stored file.
func makeRPM(ctx context.Context, path string, in input) error {
	program, err := exec.LookPath("rpmbuild")
	if err != nil {
		return errors.New("bench: rpmbuild is not installed: apt-get install rpm")
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), "rpm")
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	defer os.RemoveAll(dir)
	content, spec := filepath.Join(dir, "content"), filepath.Join(dir, "hello.spec")
	if err := makeBlob(ctx, content, in); err != nil {
		return err
	}
	text := fmt.Sprintf("Name: hello\nVersion: 1.0\nRelease: 1\nSummary: a file\nLicense: none\nBuildArch: noarch\n%%description\nA file.\n%%install\nmkdir -p %%{buildroot}/opt\nln %s %%{buildroot}/opt/content\n%%files\n/opt/content\n", content)
	if err := os.WriteFile(spec, []byte(text), 0o600); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	c := exec.CommandContext(ctx, program, "-bb", "--quiet", "--define", "_topdir "+dir, "--define", "_tmppath "+dir, "--define", "_rpmfilename hello.rpm", "--define", "_rpmdir "+dir,
		"--define", "_binary_payload w0.ufdio", "--define", "__os_install_post %{nil}", "--define", "debug_package %{nil}", spec)
	if b, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("bench: rpmbuild: %w: %s", err, b)
	}
	if err := os.Rename(filepath.Join(dir, "hello.rpm"), path); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	return nil
}

// makeDeb writes a Debian package of one stored file.
func makeDeb(_ context.Context, path string, in input) error {
	const fields = "Package: hello\nVersion: 1.0\nArchitecture: all\nMaintainer: A <a@example.com>\nDescription: a file\n"
	var control bytes.Buffer
	z := gzip.NewWriter(&control)
	if err := writeTar(z, "./control", int64(len(fields)), bytes.NewReader([]byte(fields))); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return create(path, func(w *bufio.Writer) error {
		w.WriteString("!<arch>\n")
		member := func(name string, size int64) {
			fmt.Fprintf(w, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", name, 0, 0, 0, "100644", size)
		}
		member("debian-binary", 4)
		w.WriteString("2.0\n")
		member("control.tar.gz", int64(control.Len()))
		if control.Len()%2 > 0 {
			control.WriteByte('\n')
		}
		w.Write(control.Bytes())
		// Of a tar archive: header, content, two blocks of zeros.
		member("data.tar", 512+(in.bytes+511)&^511+1024)
		return writeTar(w, "./content", in.bytes, noise())
	})
}

// writeTar writes an archive of one file.
func writeTar(w io.Writer, name string, size int64, content io.Reader) error {
	t := tar.NewWriter(w)
	if err := t.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: size, Format: tar.FormatUSTAR}); err != nil {
		return err
	}
	if _, err := io.CopyN(t, content, size); err != nil {
		return err
	}
	return t.Close()
}

// makeModule writes a kernel module: a relocatable ELF file of .modinfo and code.
func makeModule(_ context.Context, path string, in input) error {
	const header, names, info = 64, "\x00.modinfo\x00.text\x00.shstrtab\x00", "license=GPL\x00name=bench\x00vermagic=6.1.0 SMP mod_unload\x00"
	code := uint64(in.bytes) &^ 15
	le := binary.LittleEndian
	b := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 9)...)
	b = le.AppendUint32(le.AppendUint32(b, 1|62<<16), 1)
	b = le.AppendUint64(le.AppendUint64(b, 0), 0)
	b = le.AppendUint64(b, header+uint64(len(info)+len(names))+code)
	b = le.AppendUint32(b, 0)
	for _, v := range []uint16{header, 0, 0, 64, 4, 3} {
		b = le.AppendUint16(b, v)
	}
	b = append(append(b, info...), names...)
	var table []byte
	section := func(name, typ uint32, at, size uint64) {
		table = le.AppendUint32(le.AppendUint32(table, name), typ)
		for _, v := range []uint64{0, 0, at, size, 0, 1, 0} {
			table = le.AppendUint64(table, v)
		}
	}
	section(0, 0, 0, 0)
	section(1, 1, header, uint64(len(info)))
	section(10, 1, uint64(len(b)), code)
	section(16, 3, header+uint64(len(info)), uint64(len(names)))
	return create(path, func(w *bufio.Writer) error {
		if _, err := w.Write(b); err != nil {
			return err
		}
		if _, err := io.CopyN(w, noise(), int64(code)); err != nil {
			return err
		}
		_, err := w.Write(table)
		return err
	})
}
