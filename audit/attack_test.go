package audit_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/audit/audittest"
)

// tampered is a client whose fetches pass through alter.
func tampered(t *testing.T, s audittest.Store, alter func(path string, data []byte) []byte) *audit.Client {
	c := audittest.Client(t, s)
	inner := c.Fetch
	c.Fetch = func(ctx context.Context, path string) ([]byte, error) {
		data, err := inner(ctx, path)
		if err != nil {
			return nil, err
		}
		return alter(path, data), nil
	}
	return c
}

func readAll(t *testing.T, c *audit.Client, h audit.Head) (n int64, err error) {
	t.Helper()
	for e, err := range c.Entries(t.Context(), h, 0, h.Size()) {
		if err != nil {
			return n, err
		}
		if e.Index != n {
			t.Fatalf("entry %d at %d", e.Index, n)
		}
		n++
	}
	return n, nil
}

func TestAttackForkedTree(t *testing.T) {
	m, head := newLog(t, 600)
	for _, size := range []int64{600, 601, 5000} {
		fork := new(audittest.Memory)
		entries := audittest.Entries(t, 0, size)
		entries[599] = audittest.Entries(t, 9999, 10000)[0]
		if _, err := audittest.Append(t.Context(), fork, entries...); err != nil {
			t.Fatal(err)
		}
		c := audittest.Client(t, fork)
		_, err := c.Update(t.Context(), head)
		wantErr(t, fmt.Sprintf("fork of size %d", size), err, audit.ErrFork)
	}
	// The honest log after that.
	if _, err := audittest.Append(t.Context(), m, audittest.Entries(t, 600, 700)...); err != nil {
		t.Fatal(err)
	}
	if _, err := audittest.Client(t, m).Update(t.Context(), head); err != nil {
		t.Error(err)
	}
}

// The server shows the fork's checkpoint with the honest log's tiles.
func TestAttackForkedCheckpointHonestTiles(t *testing.T) {
	m, head := newLog(t, 600)
	if _, err := audittest.Append(t.Context(), m, audittest.Entries(t, 600, 700)...); err != nil {
		t.Fatal(err)
	}
	_, other := newLog(t, 700)
	bad := other.Tree()
	bad.Root[5] ^= 1
	c := tampered(t, m, func(path string, data []byte) []byte {
		if path == audit.CheckpointPath {
			return audittest.Sign(t, bad)
		}
		return data
	})
	if _, err := c.Update(t.Context(), head); !errors.Is(err, audit.ErrInconsistent) {
		t.Errorf("error %v", err)
	}
}

func TestAttackRolledBackCheckpoint(t *testing.T) {
	m, _ := newLog(t, 600)
	_, newer := newLog(t, 601)
	for _, size := range []int64{600, 0} {
		old := m
		if size == 0 {
			old = new(audittest.Memory)
		}
		_, err := audittest.Client(t, old).Update(t.Context(), newer)
		wantErr(t, "rollback", err, audit.ErrRollback)
	}
	// Nor does a signer take a smaller tree for an extension.
	_, older := newLog(t, 600)
	err := audit.CheckConsistency(newer.Tree(), older.Tree(), audit.Consistency{Old: 601, New: 600})
	wantErr(t, "reversed proof", err, audit.ErrLimit)
	err = audit.CheckConsistency(newer.Tree(), older.Tree(), audit.Consistency{Old: 600, New: 601})
	wantErr(t, "sizes swapped", err, audit.ErrInconsistent)
}

func TestAttackOtherOriginOrKey(t *testing.T) {
	_, head := newLog(t, 3)
	s, err := audit.NewSigner(audittest.Origin, audittest.Key())
	if err != nil {
		t.Fatal(err)
	}
	other, err := audit.SignCheckpoint("greatseal.example/other", head.Tree(), s)
	if err != nil {
		t.Fatal(err)
	}
	_, err = audit.ParseCheckpoint(other, audittest.Origin, verifier(t))
	wantErr(t, "other origin", err, audit.ErrOrigin)

	thief, err := audit.NewSigner(audittest.Origin, audittest.KeyOf(9))
	if err != nil {
		t.Fatal(err)
	}
	stolen, err := audit.SignCheckpoint(audittest.Origin, head.Tree(), thief)
	if err != nil {
		t.Fatal(err)
	}
	_, err = audit.ParseCheckpoint(stolen, audittest.Origin, verifier(t))
	wantErr(t, "other key", err, audit.ErrSignature)

	// The thief claims the right key's ID.
	raw, err := base64.StdEncoding.DecodeString(strings.Fields(string(stolen))[len(strings.Fields(string(stolen)))-1])
	if err != nil {
		t.Fatal(err)
	}
	binary.BigEndian.PutUint32(raw, s.KeyHash())
	text, _, _ := strings.Cut(string(stolen), "\n\n")
	claimed := text + "\n\n— " + audittest.Origin + " " + base64.StdEncoding.EncodeToString(raw) + "\n"
	_, err = audit.ParseCheckpoint([]byte(claimed), audittest.Origin, verifier(t))
	wantErr(t, "other key under the right ID", err, audit.ErrSignature)

	_, err = audit.ParseCheckpoint(head.Note(), audittest.Origin, nil)
	wantErr(t, "no key", err, audit.ErrSignature)

	// A head of another log is of no use to a client.
	v, err := audit.NewVerifier(audittest.Origin, pub(audittest.Key()))
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := audit.ParseCheckpoint(other, "greatseal.example/other", v)
	if err != nil {
		t.Fatal(err)
	}
	m, _ := newLog(t, 3)
	c := audittest.Client(t, m)
	wantErr(t, "fsck", c.Fsck(t.Context(), foreign), audit.ErrOrigin)
	_, err = readAll(t, c, foreign)
	wantErr(t, "entries", err, audit.ErrOrigin)
	wantErr(t, "consistency", head.CheckConsistency(foreign, audit.Consistency{Old: 3, New: 3}), audit.ErrOrigin)
}

// Texts that the right key signed and that are no checkpoints all the same.
func TestAttackSignedButMalformed(t *testing.T) {
	s, err := audit.NewSigner(audittest.Origin, audittest.Key())
	if err != nil {
		t.Fatal(err)
	}
	_, head := newLog(t, 3)
	o, root := audittest.Origin, tlog.Hash(head.Root()).String()
	for name, text := range map[string]string{
		"lines reordered":    o + "\n" + root + "\n3\n",
		"size first":         "3\n" + o + "\n" + root + "\n",
		"line twice":         o + "\n3\n3\n" + root + "\n",
		"root twice":         o + "\n3\n" + root + "\n" + root + "\n",
		"extension":          o + "\n3\n" + root + "\nextension\n",
		"root missing":       o + "\n3\n",
		"origin only":        o + "\n",
		"empty line":         o + "\n3\n" + root + "\n\n",
		"leading zero":       o + "\n03\n" + root + "\n",
		"plus":               o + "\n+3\n" + root + "\n",
		"negative":           o + "\n-3\n" + root + "\n",
		"minus zero":         o + "\n-0\n" + audit.EmptyTree().Root.String() + "\n",
		"underscore":         o + "\n1_0\n" + root + "\n",
		"size and space":     o + "\n3 \n" + root + "\n",
		"root and space":     o + "\n3\n" + root + " \n",
		"root cut":           o + "\n3\n" + root[:40] + "\n",
		"root without =":     o + "\n3\n" + root[:43] + "\n",
		"root in URL base64": o + "\n3\n" + strings.Repeat("_", 43) + "=\n",
		"root of loose bits": o + "\n3\n" + strings.Repeat("A", 42) + "B=\n",
		"origin and space":   o + " \n3\n" + root + "\n",
		"no origin":          "\n3\n" + root + "\n",
		"size 2^48":          o + "\n281474976710656\n" + root + "\n",
		"size 2^63-1":        o + "\n9223372036854775807\n" + root + "\n",
		"size 2^64":          o + "\n18446744073709551616\n" + root + "\n",
		"size of 1000 nines": o + "\n" + strings.Repeat("9", 1000) + "\n" + root + "\n",
		"empty, zero root":   o + "\n0\n" + tlog.Hash{}.String() + "\n",
	} {
		msg, err := note.Sign(&note.Note{Text: text}, s)
		if err != nil {
			t.Fatal(err)
		}
		if h, err := audit.ParseCheckpoint(msg, o, verifier(t)); err == nil {
			t.Errorf("%s: accepted as %v", name, h.Tree())
		}
	}
}

// A signed note has one encoding: whatever is done to it without the key, it is
// refused.
func TestAttackMalleatedNote(t *testing.T) {
	_, head := newLog(t, 3)
	msg := string(head.Note())
	text, sigs, _ := strings.Cut(msg, "\n\n")
	parse := func(s string) error {
		_, err := audit.ParseCheckpoint([]byte(s), audittest.Origin, verifier(t))
		return err
	}
	if err := parse(msg); err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]string{
		"trailing newline":       msg + "\n",
		"trailing space":         msg + " ",
		"space before line end":  strings.TrimSuffix(msg, "\n") + " \n",
		"no last newline":        strings.TrimSuffix(msg, "\n"),
		"carriage returns":       strings.ReplaceAll(msg, "\n", "\r\n"),
		"CR in base64":           msg[:len(msg)-9] + "\r" + msg[len(msg)-9:],
		"signature twice":        msg + sigs,
		"hyphen":                 strings.Replace(msg, "— ", "-- ", 1),
		"no signature":           text + "\n\n",
		"text alone":             text + "\n",
		"leading newline":        "\n" + msg,
		"NUL":                    msg + "\x00",
		"bad UTF-8":              strings.Replace(msg, "—", "\xff", 1),
		"second space":           strings.Replace(msg, "— "+audittest.Origin+" ", "— "+audittest.Origin+"  ", 1),
		"no padding":             strings.Replace(msg, "=\n", "\n", -1),
		"C1 control":             strings.Replace(msg, "example", "exam\u0085ple", 1),
		"signature of 100 lines": msg + strings.Repeat(sigs, 100),
		"large":                  msg + strings.Repeat("— x AAAAAAAA\n", 10_000),
		"empty":                  "",
	} {
		if bad == msg {
			t.Fatalf("%s: not altered", name)
		}
		if err := parse(bad); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	// The bits at the end of base64 that encode nothing, where there are some:
	// a signature line of our key has 68 bytes, which leaves two.
	b64 := strings.TrimSuffix(msg[strings.LastIndex(msg, " ")+1:], "\n")
	if !strings.HasSuffix(b64, "=") {
		t.Fatal("expected padding")
	}
	alphabet := "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	last := strings.TrimRight(b64, "=")
	pos := strings.IndexByte(alphabet, last[len(last)-1])
	loose := last[:len(last)-1] + string(alphabet[pos|1]) + b64[len(last):]
	forged := strings.Replace(msg, b64, loose, 1)
	if _, err := note.Open([]byte(forged), note.VerifierList(verifier(t))); err != nil {
		t.Fatalf("sumdb/note refuses loose bits by itself: %v", err)
	}
	wantErr(t, "loose bits", parse(forged), audit.ErrMalformed)
}

func TestAttackAlteredEntry(t *testing.T) {
	m, head := newLog(t, 1000)
	for _, bundle := range []string{"tile/entries/000", "tile/entries/002", "tile/entries/003.p/232"} {
		for name, alter := range map[string]func([]byte) []byte{
			"last byte":    func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
			"swapped":      swapFirstTwo,
			"cut":          func(b []byte) []byte { return b[:len(b)-1] },
			"last missing": dropLast,
			"empty":        func([]byte) []byte { return nil },
			"one more":     func(b []byte) []byte { return append(b, 0, 1, 0) },
			"trailing":     func(b []byte) []byte { return append(b, 0) },
			"long length":  func(b []byte) []byte { b[0] = 0xff; return b },
			"zero length":  func(b []byte) []byte { b[0], b[1] = 0, 0; return b },
		} {
			c := tampered(t, m, func(path string, data []byte) []byte {
				if path == bundle {
					return alter(data)
				}
				return data
			})
			tile, err := audit.ParseTilePath(bundle)
			if err != nil {
				t.Fatal(err)
			}
			n, err := readAll(t, c, head)
			if err == nil || n > tile.N*audit.TileWidth {
				t.Errorf("%s, %s: %d entries, error %v", bundle, name, n, err)
			}
			if err := c.Fsck(t.Context(), head); err == nil {
				t.Errorf("%s, %s: fsck is content", bundle, name)
			}
		}
	}
}

func swapFirstTwo(b []byte) []byte {
	n1 := 2 + int(binary.BigEndian.Uint16(b))
	n2 := 2 + int(binary.BigEndian.Uint16(b[n1:]))
	return bytes.Join([][]byte{b[n1 : n1+n2], b[:n1], b[n1+n2:]}, nil)
}

func dropLast(b []byte) []byte {
	end := 0
	for rest := b; len(rest) > 0; {
		end = len(b) - len(rest)
		rest = rest[2+int(binary.BigEndian.Uint16(rest)):]
	}
	return b[:end]
}

func TestAttackAlteredTile(t *testing.T) {
	m, head := newLog(t, 70_000)
	for _, victim := range []string{"tile/0/000", "tile/0/273.p/112", "tile/1/000", "tile/1/001.p/17", "tile/2/000.p/1"} {
		for name, alter := range map[string]func([]byte) []byte{
			"bit":      func(b []byte) []byte { b[7] ^= 1; return b },
			"cut":      func(b []byte) []byte { return b[:len(b)-1] },
			"hash cut": func(b []byte) []byte { return b[:len(b)-32] },
			"longer":   func(b []byte) []byte { return append(b, make([]byte, 32)...) },
			"empty":    func([]byte) []byte { return nil },
		} {
			c := tampered(t, m, func(path string, data []byte) []byte {
				if path == victim {
					return alter(data)
				}
				return data
			})
			if err := c.Fsck(t.Context(), head); err == nil {
				t.Errorf("%s, %s: fsck is content", victim, name)
			}
			// Whether a proof needs the tile or not: it is right or refused.
			for _, index := range []int64{3, 69_999} {
				p, err := c.Inclusion(t.Context(), head, index)
				if err == nil {
					err = head.CheckInclusion(p, audittest.Entries(t, index, index+1)[0])
					if err != nil {
						t.Errorf("%s, %s: a proof that does not verify: %v", victim, name, err)
					}
				}
			}
		}
	}
}

// A store that was altered under the sequencer must not be built upon.
func TestAttackAlteredEdgeUnderSequencer(t *testing.T) {
	m, head := newLog(t, 1000)
	next := audittest.Entries(t, 1000, 1001)
	for _, level := range []int{-1, 0, 1} {
		for name, alter := range map[string]func([]byte) []byte{
			"bit": func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
			"cut": func(b []byte) []byte { return b[:len(b)-1] },
		} {
			r := alteredReader{m, level, alter}
			if _, err := audit.Integrate(t.Context(), r, head.Tree(), next); err == nil {
				t.Errorf("level %d, %s: integrated", level, name)
			}
		}
	}
	if _, err := audit.Integrate(t.Context(), shortReader{m}, head.Tree(), next); !errors.Is(err, audit.ErrMalformed) {
		t.Errorf("a reader that gives fewer tiles: %v", err)
	}
}

type alteredReader struct {
	audit.TileReader
	level int
	alter func([]byte) []byte
}

func (r alteredReader) ReadTiles(ctx context.Context, tiles []tlog.Tile) ([][]byte, error) {
	data, err := r.TileReader.ReadTiles(ctx, tiles)
	for i := range data {
		if tiles[i].L == r.level {
			data[i] = r.alter(data[i])
		}
	}
	return data, err
}

type shortReader struct{ audit.TileReader }

func (r shortReader) ReadTiles(ctx context.Context, tiles []tlog.Tile) ([][]byte, error) {
	data, err := r.TileReader.ReadTiles(ctx, tiles)
	return data[:len(data)-1], err
}

func TestAttackCheckpointText(t *testing.T) {
	_, head := newLog(t, 3)
	for name, origin := range map[string]string{
		"none": "", "line": "a\n5", "space": "a b", "plus": "a+b", "tab": "a\tb", "control": "a\x01b", "bad UTF-8": "a\xff", "long": strings.Repeat("a", 256),
	} {
		if text, err := audit.FormatCheckpoint(origin, head.Tree()); !errors.Is(err, audit.ErrMalformed) {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
	for name, tree := range map[string]audit.Tree{"zero": {}, "negative": {Size: -1}, "huge": {Size: 1 << 48}} {
		if text, err := audit.FormatCheckpoint(audittest.Origin, tree); err == nil {
			t.Errorf("%s: %q", name, text)
		}
	}
	if msg, err := audit.SignCheckpoint(audittest.Origin, head.Tree()); err == nil {
		t.Errorf("signed by nobody: %q", msg)
	}
}

// brokenSigner is a device that returns what it should not.
type brokenSigner struct{ ed25519.PrivateKey }

func (b brokenSigner) Sign(r io.Reader, msg []byte, o crypto.SignerOpts) ([]byte, error) {
	sig, err := b.PrivateKey.Sign(r, msg, o)
	sig[3] ^= 1
	return sig, err
}

func TestAttackFaultySigner(t *testing.T) {
	_, head := newLog(t, 3)
	s, err := audit.NewSigner(audittest.Origin, brokenSigner{audittest.Key()})
	if err != nil {
		t.Fatal(err)
	}
	_, err = audit.SignCheckpoint(audittest.Origin, head.Tree(), s)
	wantErr(t, "faulty signature", err, audit.ErrSignature)
}

func TestAttackVerifierKeys(t *testing.T) {
	good, err := audit.VerifierKey(audittest.Origin, pub(audittest.Key()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := audit.ParseVerifierKey(good); err != nil {
		t.Fatal(err)
	}
	w, err := audit.NewWitness("witness.example/w", pub(audittest.KeyOf(2)))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := audit.ParseWitness(w.String()); err != nil || again.String() != w.String() {
		t.Fatalf("%v, %v", again, err)
	}
	parts := strings.Split(good, "+")
	for name, bad := range map[string]string{
		"empty":          "",
		"other name":     "x" + good,
		"hash capitals":  parts[0] + "+" + strings.ToUpper(parts[1]) + "+" + strings.Join(parts[2:], "+"),
		"newline":        good + "\n",
		"line in base64": good[:len(good)-8] + "\n" + good[len(good)-8:],
		"cut":            good[:len(good)-4],
		"of a witness":   w.String(),
		"private":        "PRIVATE+KEY+" + good,
	} {
		if bad == good {
			t.Fatalf("%s: not altered", name)
		}
		if _, err := audit.ParseVerifierKey(bad); !errors.Is(err, audit.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := audit.ParseWitness(good); !errors.Is(err, audit.ErrMalformed) {
		t.Errorf("a log's key as a witness: %v", err)
	}
	if _, err := audit.NewVerifier("x", nil); !errors.Is(err, audit.ErrMalformed) {
		t.Errorf("no key: %v", err)
	}
}

func TestAttackCosignatures(t *testing.T) {
	_, head := newLog(t, 3)
	_, other := newLog(t, 4)
	at := time.Unix(1_790_000_000, 0)
	name := func(i int) string { return fmt.Sprintf("witness.example/%d", i) }
	var known []audit.Witness
	var cosigners []note.Signer
	for i := range 3 {
		w, err := audit.NewWitness(name(i), pub(audittest.KeyOf(byte(10+i))))
		if err != nil {
			t.Fatal(err)
		}
		s, err := audit.NewCosigner(name(i), audittest.KeyOf(byte(10+i)), at)
		if err != nil {
			t.Fatal(err)
		}
		known, cosigners = append(known, w), append(cosigners, s)
	}
	cosign := func(h audit.Head, s ...note.Signer) audit.Head {
		msg, err := h.Cosign(s...)
		if err != nil {
			t.Fatal(err)
		}
		out, err := audit.ParseCheckpoint(msg, audittest.Origin, verifier(t))
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	two := cosign(head, cosigners[0], cosigners[2])
	got, err := two.CheckCosignatures(2, known)
	if err != nil || len(got) != 2 || got[0].Witness != name(0) || got[1].Witness != name(2) || !got[0].Time.Equal(at) {
		t.Fatalf("two of three: %v, %v", got, err)
	}
	_, err = two.CheckCosignatures(3, known)
	wantErr(t, "three of three", err, audit.ErrWitnesses)
	_, err = head.CheckCosignatures(1, known)
	wantErr(t, "none", err, audit.ErrWitnesses)
	for _, need := range []int{0, -1, 4} {
		_, err = two.CheckCosignatures(need, known)
		wantErr(t, "need", err, audit.ErrLimit)
	}
	_, err = two.CheckCosignatures(1, []audit.Witness{{}})
	wantErr(t, "zero witness", err, audit.ErrWitnesses)

	// One key under two names, one witness named twice.
	alias, err := audit.NewWitness("witness.example/alias", pub(audittest.KeyOf(10)))
	if err != nil {
		t.Fatal(err)
	}
	for _, twice := range [][]audit.Witness{{known[0], alias}, {known[0], known[0]}} {
		_, err = two.CheckCosignatures(2, twice)
		wantErr(t, "witness twice", err, audit.ErrMalformed)
	}

	// The same witness signs twice.
	_, err = two.Cosign(cosigners[0])
	wantErr(t, "cosigned again", err, audit.ErrConflict)
	_, err = head.Cosign(cosigners[1], cosigners[1])
	wantErr(t, "cosigned twice", err, audit.ErrMalformed)

	// The cosignature of another head, and an altered time.
	_, sigs, _ := strings.Cut(string(cosign(other, cosigners[1]).Note()), "\n\n")
	line := strings.SplitAfter(sigs, "\n")[1]
	moved, err := audit.ParseCheckpoint([]byte(string(head.Note())+line), audittest.Origin, verifier(t))
	if err != nil {
		t.Fatal(err)
	}
	_, err = moved.CheckCosignatures(1, known)
	wantErr(t, "moved cosignature", err, audit.ErrSignature)

	msg := string(cosign(head, cosigners[1]).Note())
	b64 := strings.TrimSuffix(msg[strings.LastIndex(msg, " ")+1:], "\n")
	for name, alter := range map[string]func([]byte) []byte{
		"later":     func(b []byte) []byte { b[11]++; return b },
		"zero time": func(b []byte) []byte { clear(b[4:12]); return b },
		"far time":  func(b []byte) []byte { b[4] = 0xff; return b },
		"no time":   func(b []byte) []byte { return append(b[:4], b[12:]...) },
		"longer":    func(b []byte) []byte { return append(b, 0) },
	} {
		raw, err := base64.StdEncoding.DecodeString(b64)
		if err != nil {
			t.Fatal(err)
		}
		forged := strings.Replace(msg, b64, base64.StdEncoding.EncodeToString(alter(raw)), 1)
		h, err := audit.ParseCheckpoint([]byte(forged), audittest.Origin, verifier(t))
		if err != nil {
			t.Fatal(err)
		}
		_, err = h.CheckCosignatures(1, known)
		wantErr(t, name, err, audit.ErrSignature)
	}

	// A plain signature by a witness's key is no cosignature, nor the other way.
	plain, err := audit.NewSigner(name(0), audittest.KeyOf(10))
	if err != nil {
		t.Fatal(err)
	}
	_, err = cosign(head, plain).CheckCosignatures(1, known)
	wantErr(t, "plain signature", err, audit.ErrWitnesses)
	cos, err := audit.NewCosigner(audittest.Origin, audittest.Key(), at)
	if err != nil {
		t.Fatal(err)
	}
	onlyCos, err := audit.SignCheckpoint(audittest.Origin, head.Tree(), cos)
	if err != nil {
		t.Fatal(err)
	}
	_, err = audit.ParseCheckpoint(onlyCos, audittest.Origin, verifier(t))
	wantErr(t, "cosignature for the log's", err, audit.ErrSignature)
	for _, bad := range []time.Time{{}, time.Unix(0, 0), time.Unix(1<<40, 0)} {
		_, err = audit.NewCosigner("w", audittest.Key(), bad)
		wantErr(t, "cosigner's time", err, audit.ErrLimit)
	}
}
