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

// create makes a file of what write writes.
func create(path string, write func(w *bufio.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, mib)
	if err := write(w); err != nil {
		return fmt.Errorf("bench: %s: %w", path, err)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	return f.Close()
}

// noise are bytes that nothing can shorten, the same every time.
func noise() io.Reader { return rand.NewChaCha8([32]byte{'n', 'o', 'i', 's', 'e'}) }

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
