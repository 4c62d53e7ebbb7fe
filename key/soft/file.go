package soft

import (
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/fxamacker/cbor/v2"
	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/chacha20poly1305"
)

const (
	magic     = "greatseal-keys-1\n"
	maxHeader = 1 << 10
	maxFile   = 32 << 20 // MaxKeys RSA-4096 keys are 10 MB
	keySize   = chacha20poly1305.KeySize
	tempMark  = ".new-"
)

// cost is what argon2id takes to make a key from a passphrase.
type cost struct {
	Time    uint32 `cbor:"1,keyasint"` // passes
	Memory  uint32 `cbor:"2,keyasint"` // KiB
	Threads uint8  `cbor:"3,keyasint"` // lanes
}

// RFC 9106 section 4, second recommended option.
var defaultCost = cost{Time: 3, Memory: 64 << 10, Threads: 4}

// The limits of invariant 3: below, the passphrase could be searched too
// cheaply (the least is OWASP's for argon2id); above, opening the file would
// exhaust the machine.
var (
	minCost = cost{Time: 2, Memory: 19 << 10, Threads: 1}
	maxCost = cost{Time: 16, Memory: 1 << 20, Threads: 16}
)

func (c cost) check() error {
	if c.Time < minCost.Time || c.Memory < minCost.Memory || c.Threads < minCost.Threads {
		return fmt.Errorf("%w: its passphrase hash is too weak", ErrCorrupt)
	}
	if c.Time > maxCost.Time || c.Memory > maxCost.Memory || c.Threads > maxCost.Threads {
		return fmt.Errorf("%w: its passphrase hash is too costly", ErrCorrupt)
	}
	return nil
}

// kdf is associated data of the wrapped data key.
type kdf struct {
	Cost cost   `cbor:"1,keyasint"`
	Salt []byte `cbor:"2,keyasint"` // 16 bytes
}

// header is everything but the body; the body authenticates it.
type header struct {
	KDF       kdf    `cbor:"1,keyasint"`
	WrapNonce []byte `cbor:"2,keyasint"` // 24 bytes
	Wrapped   []byte `cbor:"3,keyasint"` // data key, encrypted: 32 + 16 bytes
	BodyNonce []byte `cbor:"4,keyasint"` // 24 bytes, new in each write
}

// stored is one key in the body.
type stored struct {
	Name  string `cbor:"1,keyasint"`
	PKCS8 []byte `cbor:"2,keyasint"`
}

type body struct {
	Generation uint64   `cbor:"1,keyasint"`
	Keys       []stored `cbor:"2,keyasint"` // ascending by Name
}

// envelope is how the file is encrypted: the data key, and the header that
// wraps it.
type envelope struct {
	dataKey []byte
	header  header
}

// file is the key file on disk, locked.
type file struct {
	path     string
	lock     *os.File
	envelope envelope
	sum      [sha256.Size]byte  // of the file as read or written last
	fault    func(stage string) // called at each stage of a write; nil outside of tests
}

// wrap makes a new data key and wraps it under passphrase.
func (f *file) wrap(passphrase []byte, c cost) error {
	random := make([]byte, keySize+16+chacha20poly1305.NonceSizeX)
	if _, err := rand.Read(random); err != nil {
		return fmt.Errorf("soft: randomness: %w", err)
	}
	e := envelope{dataKey: random[:keySize:keySize]}
	e.header.KDF = kdf{Cost: c, Salt: random[keySize : keySize+16 : keySize+16]}
	e.header.WrapNonce = random[keySize+16:]
	aead, ad, err := e.header.wrapping(passphrase)
	if err != nil {
		return err
	}
	e.header.Wrapped = aead.Seal(nil, e.header.WrapNonce, e.dataKey, ad)
	f.envelope = e
	return nil
}

// wrapping is the cipher that wraps the data key, and its associated data.
func (h *header) wrapping(passphrase []byte) (cipher.AEAD, []byte, error) {
	ad, err := encode(h.KDF)
	if err != nil {
		return nil, nil, err
	}
	c := h.KDF.Cost
	kek := argon2.IDKey(passphrase, h.KDF.Salt, c.Time, c.Memory, c.Threads, keySize)
	defer clear(kek)
	aead, err := chacha20poly1305.NewX(kek)
	if err != nil {
		return nil, nil, fmt.Errorf("soft: cipher: %w", err)
	}
	return aead, append([]byte(magic), ad...), nil
}

func (h *header) unwrap(passphrase []byte) ([]byte, error) {
	aead, ad, err := h.wrapping(passphrase)
	if err != nil {
		return nil, err
	}
	dataKey, err := aead.Open(nil, h.WrapNonce, h.Wrapped, ad)
	if err != nil {
		return nil, ErrPassphrase
	}
	return dataKey, nil
}

// seal is the whole file.
func (e *envelope) seal(b body) ([]byte, error) {
	h := e.header
	h.BodyNonce = make([]byte, chacha20poly1305.NonceSizeX)
	if _, err := rand.Read(h.BodyNonce); err != nil {
		return nil, fmt.Errorf("soft: randomness: %w", err)
	}
	head, err := encode(h)
	if err != nil {
		return nil, err
	}
	plain, err := encode(b)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	aead, err := chacha20poly1305.NewX(e.dataKey)
	if err != nil {
		return nil, fmt.Errorf("soft: cipher: %w", err)
	}
	data := binary.BigEndian.AppendUint32([]byte(magic), uint32(len(head)))
	data = append(data, head...)
	data = aead.Seal(data, h.BodyNonce, plain, bytes.Clone(data))
	if len(data) > maxFile {
		return nil, fmt.Errorf("soft: key file would have %d bytes", len(data))
	}
	return data, nil
}

// split parses what is not encrypted. The passphrase is not asked for yet.
func split(data []byte) (h header, ad, sealed []byte, err error) {
	rest, ok := bytes.CutPrefix(data, []byte(magic))
	if !ok || len(rest) < 4 {
		return header{}, nil, nil, fmt.Errorf("%w: not a key file", ErrCorrupt)
	}
	n := binary.BigEndian.Uint32(rest)
	if rest = rest[4:]; n > maxHeader || uint64(n) > uint64(len(rest)) {
		return header{}, nil, nil, fmt.Errorf("%w: header length", ErrCorrupt)
	}
	if err := decode(rest[:n], &h); err != nil {
		return header{}, nil, nil, fmt.Errorf("%w: header", ErrCorrupt)
	}
	if len(h.KDF.Salt) != 16 || len(h.WrapNonce) != chacha20poly1305.NonceSizeX ||
		len(h.Wrapped) != keySize+chacha20poly1305.Overhead || len(h.BodyNonce) != chacha20poly1305.NonceSizeX {
		return header{}, nil, nil, fmt.Errorf("%w: header", ErrCorrupt)
	}
	if err := h.KDF.Cost.check(); err != nil {
		return header{}, nil, nil, err
	}
	split := len(magic) + 4 + int(n)
	return h, data[:split], data[split:], nil
}

// openBody decrypts and parses the body. What it returns may refer to no other
// slice: the plaintext is zeroed.
func openBody(dataKey []byte, h header, ad, sealed []byte) (body, error) {
	aead, err := chacha20poly1305.NewX(dataKey)
	if err != nil {
		return body{}, fmt.Errorf("soft: cipher: %w", err)
	}
	plain, err := aead.Open(nil, h.BodyNonce, sealed, ad)
	if err != nil {
		return body{}, ErrCorrupt
	}
	defer clear(plain)
	var b body
	if err := decode(plain, &b); err != nil {
		return body{}, fmt.Errorf("%w: body", ErrCorrupt)
	}
	if b.Generation == 0 || len(b.Keys) > MaxKeys {
		return body{}, fmt.Errorf("%w: body", ErrCorrupt)
	}
	for i, s := range b.Keys {
		if !validName(s.Name) || i > 0 && b.Keys[i-1].Name >= s.Name {
			return body{}, fmt.Errorf("%w: names of keys", ErrCorrupt)
		}
	}
	return b, nil
}

// read reads the file, decrypts it and keeps its envelope.
func (f *file) read(passphrase []byte) (body, error) {
	f.removeLeftovers()
	data, err := readPrivate(f.path)
	if err != nil {
		return body{}, err
	}
	h, ad, sealed, err := split(data)
	if err != nil {
		return body{}, err
	}
	dataKey, err := h.unwrap(passphrase)
	if err != nil {
		return body{}, err
	}
	b, err := openBody(dataKey, h, ad, sealed)
	if err != nil {
		return body{}, err
	}
	f.envelope, f.sum = envelope{dataKey, h}, sha256.Sum256(data)
	return b, nil
}

// unchanged checks that nobody replaced the file since it was read or written.
func (f *file) unchanged() error {
	data, err := readPrivate(f.path)
	if err != nil {
		return err
	}
	if sha256.Sum256(data) != f.sum {
		return ErrReplaced
	}
	return nil
}

// write replaces the file atomically: a new file in the same folder, synced,
// renamed over the old one; then the folder is synced.
func (f *file) write(b body) error {
	if f.sum != [sha256.Size]byte{} {
		if err := f.unchanged(); err != nil {
			return err
		}
	}
	data, err := f.envelope.seal(b)
	if err != nil {
		return err
	}
	if err := f.replace(data); err != nil {
		return fmt.Errorf("soft: write key file: %w", err)
	}
	f.sum = sha256.Sum256(data)
	return nil
}

func (f *file) replace(data []byte) (err error) {
	temp, err := os.CreateTemp(filepath.Dir(f.path), filepath.Base(f.path)+tempMark+"*") // O_EXCL, mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = temp.Close()
			_ = os.Remove(temp.Name())
		}
	}()
	f.stage("created")
	half := len(data) / 2
	if _, err := temp.Write(data[:half]); err != nil {
		return err
	}
	f.stage("half written")
	if _, err := temp.Write(data[half:]); err != nil {
		return err
	}
	f.stage("written")
	if err := temp.Sync(); err != nil {
		return err
	}
	if err := temp.Close(); err != nil {
		return err
	}
	f.stage("synced")
	if err := os.Rename(temp.Name(), f.path); err != nil {
		return err
	}
	f.stage("renamed")
	// The new file is in place: an error from here on must not be taken for
	// the old state, and a folder that cannot be synced leaves either file.
	folder, err := os.Open(filepath.Dir(f.path))
	if err != nil {
		f.sum = sha256.Sum256(data)
		return err
	}
	defer folder.Close()
	if err := folder.Sync(); err != nil {
		f.sum = sha256.Sum256(data)
		return err
	}
	return nil
}

func (f *file) stage(name string) {
	if f.fault != nil {
		f.fault(name)
	}
}

// removeLeftovers removes what a killed write left. The lock is held, so no
// write is under way.
func (f *file) removeLeftovers() {
	entries, err := os.ReadDir(filepath.Dir(f.path))
	if err != nil {
		return
	}
	for _, e := range entries {
		if e.Type().IsRegular() && strings.HasPrefix(e.Name(), filepath.Base(f.path)+tempMark) {
			_ = os.Remove(filepath.Join(filepath.Dir(f.path), e.Name()))
		}
	}
}

func (f *file) close() error {
	clear(f.envelope.dataKey)
	f.envelope = envelope{}
	return errors.Join(unlock(f.lock), f.lock.Close())
}

// lock takes the lock file beside path. It is a file of its own because the key
// file is replaced by each write; it stays when it is released, for removing it
// would let two processes lock two different files.
func lock(path string) (*file, error) {
	if path == "" {
		return nil, errors.New("soft: no path of a key file")
	}
	l, err := openNoFollow(path+".lock", os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, fmt.Errorf("soft: lock key file: %w", err)
	}
	if err := checkPrivate(l); err != nil {
		_ = l.Close()
		return nil, err
	}
	if err := flock(l); err != nil {
		_ = l.Close()
		return nil, err
	}
	return &file{path: path, lock: l}, nil
}

// readPrivate reads a file that must be its owner's alone.
func readPrivate(path string) ([]byte, error) {
	f, err := openNoFollow(path, os.O_RDONLY)
	if err != nil {
		return nil, fmt.Errorf("soft: open key file: %w", err)
	}
	defer f.Close()
	if err := checkPrivate(f); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("soft: read key file: %w", err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%w: too large", ErrCorrupt)
	}
	return data, nil
}

func checkPrivate(f *os.File) error {
	i, err := f.Stat()
	if err != nil {
		return fmt.Errorf("soft: key file: %w", err)
	}
	if !i.Mode().IsRegular() || i.Mode().Perm()&^fs.FileMode(0o600) != 0 || !owned(i) {
		return fmt.Errorf("%w: %s", ErrPermissions, f.Name())
	}
	return nil
}

func encode(v any) ([]byte, error) {
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return nil, fmt.Errorf("soft: encode: %w", err)
	}
	data, err := mode.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("soft: encode: %w", err)
	}
	return data, nil
}

// decode accepts only what encodes to itself.
func decode(data []byte, v any) error {
	mode, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField, MaxNestedLevels: 8,
	}.DecMode()
	if err != nil {
		return fmt.Errorf("soft: decode: %w", err)
	}
	if err := mode.Unmarshal(data, v); err != nil {
		return fmt.Errorf("soft: decode: %w", err)
	}
	again, err := encode(v)
	if err != nil {
		return err
	}
	defer clear(again)
	if !bytes.Equal(again, data) {
		return errors.New("soft: decode: not in its only encoding")
	}
	return nil
}
