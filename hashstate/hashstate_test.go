package hashstate

import (
	"bytes"
	"crypto"
	_ "crypto/sha1"
	_ "crypto/sha256"
	_ "crypto/sha512"
	"encoding/hex"
	"testing"
)

// Invariant 1: at every length.
func TestContinues(t *testing.T) {
	content := make([]byte, 300)
	for i := range content {
		content[i] = byte(i * 7)
	}
	for _, h := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		want := h.New()
		want.Write(content)
		for n := range content {
			x := h.New()
			x.Write(content[:n])
			st, err := Of(h, x)
			if err != nil {
				t.Fatal(err)
			}
			y, err := st.Resume(h)
			if err != nil {
				t.Fatal(err)
			}
			y.Write(content[n:])
			if !bytes.Equal(y.Sum(nil), want.Sum(nil)) {
				t.Fatalf("%v: %d bytes and the rest", h, n)
			}
		}
	}
}

// Invariant 2: initial values, and those after "abc" filled up to a block, which is the
// published digest (FIPS 180-4).
func TestPublishedValues(t *testing.T) {
	block := append([]byte("abc\x80"), make([]byte, 60)...)
	block[63] = 24
	for h, want := range map[crypto.Hash][2]string{
		crypto.SHA1:   {"67452301efcdab8998badcfe10325476c3d2e1f0", "a9993e364706816aba3e25717850c26c9cd0d89d"},
		crypto.SHA256: {"6a09e667bb67ae853c6ef372a54ff53a510e527f9b05688c1f83d9ab5be0cd19", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
	} {
		x := h.New()
		st, err := Of(h, x)
		if err != nil || hex.EncodeToString(st.Chain) != want[0] || st.Count != 0 || len(st.Tail) != 0 {
			t.Errorf("%v: %x, %v", h, st.Chain, err)
		}
		x.Write(block)
		if st, err = Of(h, x); err != nil || hex.EncodeToString(st.Chain) != want[1] {
			t.Errorf("%v: %x, %v", h, st.Chain, err)
		}
	}
}

// Invariant 3.
func TestRefused(t *testing.T) {
	for _, h := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
		x := h.New()
		x.Write(make([]byte, 64))
		st, err := Of(h, x)
		if err != nil {
			t.Fatal(err)
		}
		for name, change := range map[string]func(*State){
			"chain": func(s *State) { s.Chain = s.Chain[1:] }, "tail": func(s *State) { s.Tail = []byte{1} },
			"count": func(s *State) { s.Count = 1 << 60 }, "initial values": func(s *State) { s.Chain[3]++; s.Count = 0 },
			"another count of the same bits": func(s *State) { s.Count += 1 << 61 },
		} {
			c := State{bytes.Clone(st.Chain), st.Count, bytes.Clone(st.Tail)}
			change(&c)
			if _, err := c.Resume(h); err == nil {
				t.Errorf("%v: %s: accepted", h, name)
			}
		}
	}
	if _, err := Of(crypto.SHA1, crypto.SHA256.New()); err == nil {
		t.Error("a state of another hash")
	}
	if _, err := Of(crypto.MD5, crypto.SHA256.New()); err == nil {
		t.Error("a state of MD5")
	}
}
