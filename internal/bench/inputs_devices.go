package bench

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
)

// makeFIT writes an image for U-Boot: one kernel, and one configuration with a place
// for a signature (Devicetree Specification, chapter 5).
func makeFIT(_ context.Context, path string, in input) error {
	h := sha256.New()
	if _, err := io.CopyN(h, noise(), in.bytes); err != nil {
		return err
	}
	be := binary.BigEndian
	var tree, names bytes.Buffer
	word := func(v uint32) { tree.Write(be.AppendUint32(nil, v)) }
	text := func(b []byte) {
		tree.Write(b)
		tree.Write(make([]byte, -len(b)&3))
	}
	begin := func(name string) { word(1); text(append([]byte(name), 0)) }
	end := func() { word(2) }
	property := func(name string, size int64) {
		at := bytes.Index(append([]byte{0}, names.Bytes()...), []byte("\x00"+name+"\x00"))
		if at < 0 {
			at = names.Len()
			names.WriteString(name + "\x00")
		}
		word(3)
		word(uint32(size))
		word(uint32(at))
	}
	set := func(name string, value string) {
		property(name, int64(len(value)))
		text([]byte(value))
	}
	begin("")
	set("timestamp", "\x00\x00\x00\x01")
	set("description", "bench\x00")
	set("#address-cells", "\x00\x00\x00\x01")
	begin("images")
	begin("kernel-1")
	property("data", in.bytes)
	before := bytes.Clone(tree.Bytes())
	tree.Reset()
	set("type", "kernel\x00")
	set("arch", "arm64\x00")
	set("os", "linux\x00")
	set("compression", "none\x00")
	set("load", "\x00\x00\x00\x00")
	set("entry", "\x00\x00\x00\x00")
	begin("hash-1")
	set("value", string(h.Sum(nil)))
	set("algo", "sha256\x00")
	end()
	end()
	end()
	begin("configurations")
	set("default", "conf-1\x00")
	begin("conf-1")
	set("kernel", "kernel-1\x00")
	begin("signature-1")
	set("algo", "sha256,rsa3072\x00")
	set("key-name-hint", "dev\x00")
	set("sign-images", "kernel\x00")
	end()
	end()
	end()
	end()
	word(9)
	padded := (in.bytes + 3) &^ 3
	const start = 40 + 16 // header, reservations
	structure := uint32(int64(len(before)) + padded + int64(tree.Len()))
	return create(path, func(w *bufio.Writer) error {
		var head []byte
		for _, v := range []uint32{0xd00dfeed, start + structure + uint32(names.Len()), start, start + structure, 40, 17, 16, 0, uint32(names.Len()), structure} {
			head = be.AppendUint32(head, v)
		}
		if _, err := w.Write(append(append(head, make([]byte, 16)...), before...)); err != nil {
			return err
		}
		if _, err := io.CopyN(w, noise(), in.bytes); err != nil {
			return err
		}
		w.Write(make([]byte, padded-in.bytes))
		w.Write(tree.Bytes())
		_, err := w.Write(names.Bytes())
		return err
	})
}

// raucManifest is the manifest of a bundle as the format's option takes it.
const raucManifest = `"[update]\ncompatible=Bench\nversion=1\n\n[bundle]\nformat=verity\n\n[image.rootfs]\nfilename=rootfs.img\nsha256=0000000000000000000000000000000000000000000000000000000000000000\n"`

// makeSquash writes what begins as a squashfs image does.
func makeSquash(_ context.Context, path string, in input) error {
	const superblock = 96
	size := in.bytes &^ 4095
	b := make([]byte, superblock)
	copy(b, "hsqs")
	binary.LittleEndian.PutUint16(b[28:], 4)
	binary.LittleEndian.PutUint64(b[40:], uint64(size))
	return create(path, func(w *bufio.Writer) error {
		if _, err := w.Write(b); err != nil {
			return err
		}
		_, err := io.CopyN(w, noise(), size-superblock)
		return err
	})
}

// makeUpdate writes an archive for SWUpdate of one image.
func makeUpdate(_ context.Context, path string, in input) error {
	h := sha256.New()
	if _, err := io.CopyN(h, noise(), in.bytes); err != nil {
		return err
	}
	description := fmt.Sprintf("software = {\n version = \"1.0\";\n images: ( { filename = \"rootfs.img\"; device = \"/dev/null\"; sha256 = \"%x\"; } );\n}\n", h.Sum(nil))
	return create(path, func(w *bufio.Writer) error {
		entry := func(name string, size int64, content io.Reader) error {
			head := []byte("070701")
			for _, v := range []int64{0, 0o100644, 0, 0, 1, 0, size, 0, 0, 0, 0, int64(len(name) + 1), 0} {
				head = fmt.Appendf(head, "%08X", v)
			}
			head = append(append(head, name...), 0)
			w.Write(append(head, make([]byte, -len(head)&3)...))
			if _, err := io.CopyN(w, content, size); err != nil {
				return err
			}
			_, err := w.Write(make([]byte, -size&3))
			return err
		}
		if err := entry("sw-description", int64(len(description)), bytes.NewReader([]byte(description))); err != nil {
			return err
		}
		if err := entry("rootfs.img", in.bytes, noise()); err != nil {
			return err
		}
		return entry("TRAILER!!!", 0, bytes.NewReader(nil))
	})
}

// makeFirmware writes an image for MCUboot.
func makeFirmware(_ context.Context, path string, in input) error {
	const header = 32
	b := make([]byte, header)
	le := binary.LittleEndian
	le.PutUint32(b, 0x96f3b83d)
	le.PutUint16(b[8:], header)
	le.PutUint32(b[12:], uint32(in.bytes))
	b[20] = 1
	return create(path, func(w *bufio.Writer) error {
		if _, err := w.Write(b); err != nil {
			return err
		}
		_, err := io.CopyN(w, noise(), in.bytes)
		return err
	})
}

// makeVBMeta writes an image of Android Verified Boot with one property; its size is
// the format's own.
func makeVBMeta(_ context.Context, path string, _ input) error {
	const key, value = "version", "bench"
	be := binary.BigEndian
	d := append([]byte(key+"\x00"+value), 0)
	d = append(d, make([]byte, -len(d)&7)...)
	head := be.AppendUint64(be.AppendUint64(nil, 0), uint64(16+len(d)))
	head = be.AppendUint64(be.AppendUint64(head, uint64(len(key))), uint64(len(value)))
	descriptors := append(head, d...)
	aux := append(descriptors, make([]byte, -len(descriptors)&63)...)
	h := make([]byte, 256)
	copy(h, "AVB0\x00\x00\x00\x01")
	be.PutUint64(h[20:], uint64(len(aux)))
	for _, at := range []int{64, 80, 104} { // where key and metadata would begin, and the size
		be.PutUint64(h[at:], uint64(len(descriptors)))
	}
	copy(h[128:], "bench")
	return create(path, func(w *bufio.Writer) error {
		_, err := w.Write(append(h, aux...))
		return err
	})
}
