package unpack

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
)

var wide = limits{window: 256 << 20, bytes: 1 << 30, ratio: 1 << 40}

// pack runs the real packer.
func pack(t testing.TB, content []byte, tool string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(tool, append(args, "-c")...)
	cmd.Stdin = bytes.NewReader(content)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %v: %v %s: apt-get install xz-utils zstd", tool, args, err, &errs)
	}
	return out
}

func unpacker(tool string) func(io.Reader, limits) io.Reader {
	if tool == "xz" {
		return unxz
	}
	return unzstd
}

func unpack(tool string, b []byte, l limits) ([]byte, error) {
	return io.ReadAll(unpacker(tool)(bytes.NewReader(b), l))
}

// samples are contents of many kinds.
func samples(t testing.TB) map[string][]byte {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	random := make([]byte, 200<<10)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range random {
		random[i] = byte(r.Uint32())
	}
	words := strings.Fields("what is signed was endorsed and what was endorsed is what was read")
	var text strings.Builder
	for text.Len() < 1<<20 {
		text.WriteString(words[r.IntN(len(words))])
		text.WriteByte(" \n"[r.IntN(2)])
	}
	mixed := bytes.Join([][]byte{random[:100<<10], make([]byte, 300<<10), []byte(text.String())[:500<<10], random[:100<<10], program[:min(len(program), 200<<10)]}, nil)
	return map[string][]byte{
		"empty": {}, "one byte": {7}, "zeros": make([]byte, 2<<20), "random": random, "text": []byte(text.String()), "program": program[:min(len(program), 1<<20)],
		"mixed": mixed, "short": []byte("hello, hello, hello"), "few symbols": bytes.Repeat([]byte("abcabcabd"), 40000),
	}
}

// What the real tools pack, at all kinds of levels, is unpacked to what it was.
func TestReal(t *testing.T) {
	for name, content := range samples(t) {
		for _, args := range [][]string{
			{"xz", "-0"}, {"xz", "-6"}, {"xz", "--block-size=100000", "-T2"}, {"xz", "--check=sha256", "-1"}, {"xz", "--check=none", "-3"}, {"xz", "--check=crc32", "--lzma2=dict=4KiB,lc=0,lp=2,pb=0"},
			{"xz", "--lzma2=dict=64KiB,lc=2,lp=2,pb=4,mode=fast,mf=hc4"},
			{"zstd", "-1"}, {"zstd", "-3", "--no-check"}, {"zstd", "-19"}, {"zstd", "--ultra", "-20"}, {"zstd", "--fast=5"}, {"zstd", "-12", "--long=27"}, {"zstd", "-T2", "-B512KiB", "-5"},
		} {
			packed := pack(t, content, args[0], args[1:]...)
			got, err := unpack(args[0], packed, wide)
			if err != nil || !bytes.Equal(got, content) {
				t.Errorf("%s, %v: %d bytes of %d: %v", name, args, len(got), len(content), err)
			}
		}
	}
}

// Input that arrives byte by byte is unpacked as well.
func TestSlow(t *testing.T) {
	content := samples(t)["mixed"]
	for _, tool := range []string{"xz", "zstd"} {
		got, err := io.ReadAll(unpacker(tool)(slow{bytes.NewReader(pack(t, content, tool))}, wide))
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: %d bytes, %v", tool, len(got), err)
		}
	}
}

type slow struct{ r io.Reader }

func (s slow) Read(p []byte) (int, error) { return s.r.Read(p[:min(len(p), 1)]) }

// Invariant 4: what is cut, changed or longer is no whole file.
func TestDamaged(t *testing.T) {
	content := []byte(strings.Repeat("what is signed was endorsed, ", 40) + "and that was all of it: 0123456789")
	for _, args := range [][]string{{"xz", "-6"}, {"xz", "--block-size=500"}, {"xz", "--check=sha256"}, {"zstd", "-19", "--check"}, {"zstd", "-1", "--check"}} {
		packed := pack(t, content, args[0], args[1:]...)
		for i := range packed {
			if _, err := unpack(args[0], packed[:i], wide); err == nil {
				t.Errorf("%v: the first %d bytes are whole", args, i)
			}
			b := bytes.Clone(packed)
			b[i] ^= 1 << (i & 7)
			// Some bits say nothing, such as the first byte of a range coder.
			if got, err := unpack(args[0], b, wide); err == nil && !bytes.Equal(got, content) {
				t.Errorf("%v: byte %d changed: %d bytes", args, i, len(got))
			}
		}
		for what, more := range map[string][]byte{"a byte": {0}, "a stream that begins": packed[:len(packed)/2]} {
			if _, err := unpack(args[0], append(bytes.Clone(packed), more...), wide); !errors.Is(err, ErrMalformed) {
				t.Errorf("%v: %s more: %v", args, what, err)
			}
		}
	}
	stream := pack(t, content, "xz")
	if _, err := unpack("xz", append(stream, stream...), wide); !errors.Is(err, ErrMalformed) {
		t.Errorf("two streams: %v", err)
	}
	for _, tool := range []string{"xz", "zstd"} {
		r := unpacker(tool)(bytes.NewReader(pack(t, content, tool)[:40]), wide)
		_, err := io.ReadAll(r)
		if _, again := r.Read(make([]byte, 1)); err == nil || !errors.Is(again, err) {
			t.Errorf("%s: an error does not stay one: %v, then %v", tool, err, again)
		}
	}
}

// Invariants 1 and 2: bombs.
func TestLimits(t *testing.T) {
	zeros := make([]byte, 20<<20)
	l := limits{window: 16 << 20, bytes: 16 << 20, ratio: 1000}
	text := samples(t)["program"]
	for _, c := range []struct {
		name    string
		content []byte
		args    []string
		limits  limits
	}{
		{"a bomb of xz", zeros, []string{"xz"}, l},
		{"a bomb of Zstandard", zeros, []string{"zstd"}, l},
		{"too long", zeros, []string{"xz"}, limits{1 << 30, 16 << 20, 1 << 40}},
		{"too long", zeros, []string{"zstd"}, limits{1 << 30, 16 << 20, 1 << 40}},
		{"too large a dictionary", text, []string{"xz", "--lzma2=dict=17MiB"}, l},
		{"too large a window", zeros, []string{"zstd", "--long=25"}, limits{16 << 20, 1 << 30, 1 << 40}},
	} {
		packed := pack(t, c.content, c.args[0], c.args[1:]...)
		n, err := io.Copy(io.Discard, unpacker(c.args[0])(bytes.NewReader(packed), c.limits))
		if !errors.Is(err, ErrLimit) || n > c.limits.bytes {
			t.Errorf("%s %v: %d bytes, %v", c.name, c.args, n, err)
		}
	}
	// The largest dictionary that can be asked for.
	small := pack(t, []byte("small"), "xz")
	at := bytes.Index(small, []byte{0x21, 1})
	small[at+2] = 40
	binary.LittleEndian.PutUint32(small[20:], crc32.ChecksumIEEE(small[12:20]))
	if _, err := unpack("xz", small, wide); at != 14 || !errors.Is(err, ErrLimit) {
		t.Errorf("4 GiB of dictionary: %v", err)
	}
}

// What is refused although it exists.
func TestRefused(t *testing.T) {
	if _, err := unpack("xz", pack(t, []byte("old"), "xz", "--format=lzma"), wide); !errors.Is(err, ErrMalformed) {
		t.Errorf("LZMA alone: %v", err)
	}
	if _, err := unpack("xz", nil, wide); !errors.Is(err, ErrMalformed) {
		t.Errorf("nothing: %v", err)
	}
	if _, err := unpack("zstd", []byte("\x28\xb5\x2f\xfd\x21\x01\x01\x09\x00\x00a"), wide); !errors.Is(err, ErrMalformed) {
		t.Errorf("a dictionary from outside: %v", err)
	}
}

func FuzzXZ(f *testing.F)   { fuzz(f, "xz") }
func FuzzZstd(f *testing.F) { fuzz(f, "zstd") }

// Whatever comes, it ends, within the limits, and what ends well the real tool unpacks
// to the same.
func fuzz(f *testing.F, tool string) {
	for _, s := range []string{"", "a", strings.Repeat("ab", 3000), fmt.Sprint(rand.New(rand.NewPCG(3, 4)).Perm(2000))} {
		f.Add(pack(f, []byte(s), tool))
		f.Add(pack(f, []byte(s), tool, "-1"))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		l := limits{1 << 20, 4 << 20, 100}
		got, err := unpack(tool, b, l)
		if int64(len(got)) > l.bytes {
			t.Fatalf("%d bytes", len(got))
		}
		if err != nil {
			return
		}
		cmd := exec.Command(tool, "-dc")
		cmd.Stdin = bytes.NewReader(b)
		if want, err := cmd.Output(); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes; %s has %d, %v", len(got), tool, len(want), err)
		}
	})
}
