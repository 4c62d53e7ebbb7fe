// Package soft keeps private keys in one encrypted file: for trying things out,
// for continuous integration and for those who have no hardware. Its URIs are
// "soft:NAME", NAME as in [a-z0-9][a-z0-9._-]{0,63}.
//
// # File
//
//	magic    "greatseal-keys-1\n"
//	length   of the header, 4 bytes, big-endian
//	header   deterministic CBOR (RFC 8949 section 4.2), see header in file.go
//	body     XChaCha20-Poly1305 under the data key; associated data is all of
//	         magic, length and header
//
// The body is deterministic CBOR too: a generation, which every write
// increments, and the keys in the order of their names, each in PKCS #8. The
// data key is random; the header holds it encrypted (XChaCha20-Poly1305) under
// a key that argon2id (RFC 9106) makes from the passphrase. Its parameters and
// salt are associated data of that encryption.
//
// # Invariants
//
//  1. The file holds private keys encrypted only, and nothing but the file holds
//     them outside of the process's memory.
//  2. A file that differs in one byte from what was written is refused.
//  3. A file can make its reader neither allocate without bound nor accept a
//     passphrase hash that is cheap to search: argon2id parameters beyond
//     the limits of this package are refused before they are used.
//  4. At every moment of a write, also when it is cut short, the file is either
//     the old one or the new one, whole.
//  5. The file and its lock are for their owner only; anything else is refused.
//  6. One process at a time holds the file open, and only it writes it.
//  7. Signing takes no lock that two signatures share. Of those that take
//     milliseconds as many are computed at a time as there are processors.
//
// What a caller may not conclude: that the file is the newest. Whoever can write
// to the folder can put an older file back, and with it keys that were
// destroyed; [Provider.Generation] is there to be compared with a number kept
// elsewhere. While a Provider is open it notices, and refuses to write over a
// file that is not its own. Nor is a key in this file non-extractable: who has
// file and passphrase, or reads the process's memory, has the keys.
package soft

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/mldsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/greatseal-io/greatseal/key"
	"github.com/greatseal-io/greatseal/sigalg"
)

// What callers branch on, besides the sentinels of package key.
var (
	// ErrPassphrase: the passphrase is wrong, or the part of the file that it
	// opens was changed. The two cannot be told apart.
	ErrPassphrase = errors.New("soft: wrong passphrase")
	// ErrCorrupt: the file is not one that this package wrote.
	ErrCorrupt = errors.New("soft: key file is damaged or was changed")
	// ErrLocked: another process has the file open.
	ErrLocked = fmt.Errorf("soft: key file is in use by another process: %w", key.ErrUnavailable)
	// ErrPermissions: others than the owner can get at the file.
	ErrPermissions = errors.New("soft: key file must be a plain file of the user who runs this, mode 0600 (chmod 600)")
	// ErrReplaced: somebody replaced the file while it was open.
	ErrReplaced = errors.New("soft: key file was replaced while it was open")
	// ErrDetached: this process has let go of the file, and writes it no more.
	ErrDetached = fmt.Errorf("soft: key file was let go of: %w", key.ErrUnavailable)
)

// MinPassphrase is the length in bytes below which Create and ChangePassphrase
// refuse a passphrase.
const MinPassphrase = 8

// MaxKeys is how many keys one file holds at most.
const MaxKeys = 4096

var errClosed = fmt.Errorf("soft: closed: %w", key.ErrUnavailable)

// Provider is an open key file. It is a key.Generator and a key.Destroyer too,
// and safe for concurrent use.
type Provider struct {
	file   *file
	closed atomic.Bool
	turns  chan struct{} // of slow keys: one for each processor

	mu         sync.RWMutex // guards what follows; held while the file is written, never while a key signs
	keys       map[string]*entry
	generation uint64
	detached   bool // the file is closed, and the keys are there
}

var (
	_ key.Provider  = (*Provider)(nil)
	_ key.Generator = (*Provider)(nil)
	_ key.Destroyer = (*Provider)(nil)
)

// entry is one key. All but destroyed is immutable.
type entry struct {
	provider  *Provider
	name      string
	algorithm sigalg.Key
	public    crypto.PublicKey
	signer    crypto.Signer
	pkcs8     []byte
	destroyed atomic.Bool
}

// Create makes an empty key file, and opens it. A file that is there already is
// never replaced: the error is fs.ErrExist. Create zeroes passphrase.
func Create(path string, passphrase []byte) (*Provider, error) {
	return create(path, passphrase, defaultCost, nil)
}

func create(path string, passphrase []byte, c cost, fault func(string)) (*Provider, error) {
	defer clear(passphrase)
	if err := checkPassphrase(passphrase); err != nil {
		return nil, err
	}
	f, err := lock(path)
	if err != nil {
		return nil, err
	}
	f.fault = fault
	if _, err := os.Lstat(path); err == nil {
		f.close()
		return nil, fmt.Errorf("soft: create %s: %w", path, os.ErrExist)
	}
	p := &Provider{file: f, turns: make(chan struct{}, runtime.GOMAXPROCS(0)), keys: map[string]*entry{}}
	if err := f.wrap(passphrase, c); err != nil {
		f.close()
		return nil, err
	}
	if err := p.write(p.keys); err != nil {
		f.close()
		return nil, err
	}
	return p, nil
}

// Open opens a key file. A wrong passphrase is [ErrPassphrase]. Open zeroes
// passphrase.
func Open(path string, passphrase []byte) (*Provider, error) {
	defer clear(passphrase)
	f, err := lock(path)
	if err != nil {
		return nil, err
	}
	p, err := load(f, passphrase)
	if err != nil {
		f.close()
		return nil, err
	}
	return p, nil
}

func load(f *file, passphrase []byte) (*Provider, error) {
	b, err := f.read(passphrase)
	if err != nil {
		return nil, err
	}
	p := &Provider{file: f, turns: make(chan struct{}, runtime.GOMAXPROCS(0)), keys: make(map[string]*entry, len(b.Keys)), generation: b.Generation}
	for _, s := range b.Keys {
		e, err := p.entryOf(s)
		if err != nil {
			return nil, err
		}
		p.keys[s.Name] = e
	}
	return p, nil
}

func checkPassphrase(passphrase []byte) error {
	if len(passphrase) < MinPassphrase {
		return fmt.Errorf("soft: passphrase is too short: want %d bytes or more", MinPassphrase)
	}
	return nil
}

// Name is "soft".
func (p *Provider) Name() string { return "soft" }

// Format prints no secret, whatever the verb.
func (p *Provider) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "soft:") }

// Generation counts the writes of the file, from 1. It never decreases but when
// an older file was put back.
func (p *Provider) Generation() uint64 {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.generation
}

// Keys lists the URIs of all keys, sorted.
func (p *Provider) Keys() []key.URI {
	p.mu.RLock()
	defer p.mu.RUnlock()
	uris := make([]key.URI, 0, len(p.keys))
	for name := range p.keys {
		uris = append(uris, key.URI("soft:"+name))
	}
	slices.Sort(uris)
	return uris
}

// Health reports whether the file is still the one that was opened: an error
// that is [ErrReplaced] when it is not.
func (p *Provider) Health(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed.Load() {
		return errClosed
	}
	if p.detached {
		return nil // the file is others'
	}
	return p.file.unchanged()
}

// Detach lets go of the file, so that another process can open it. The keys that are
// there sign as before, until Close; what would write the file is [ErrDetached]. What
// others write to the file later is not noticed: a key that they destroy signs here on.
func (p *Provider) Detach() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed.Load() {
		return errClosed
	}
	if p.detached {
		return nil
	}
	p.detached = true
	for _, e := range p.keys {
		clear(e.pkcs8) // it was there to be written
		e.pkcs8 = nil
	}
	return p.file.close()
}

// Close releases the file. The keys' memory is released too, as soon as no
// signature uses it.
func (p *Provider) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed.Swap(true) {
		return nil
	}
	for _, e := range p.keys {
		clear(e.pkcs8)
	}
	p.keys = nil
	if p.detached {
		return nil
	}
	return p.file.close()
}

// Open finds a key.
func (p *Provider) Open(ctx context.Context, uri key.URI) (key.Key, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	name, err := parse(uri)
	if err != nil {
		return nil, err
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed.Load() {
		return nil, errClosed
	}
	e, ok := p.keys[name]
	if !ok {
		return nil, fmt.Errorf("soft: %s: %w", name, key.ErrNotFound)
	}
	return e, nil
}

// Generate makes a key with the randomness of crypto/rand and writes it to the
// file before it returns.
func (p *Provider) Generate(ctx context.Context, uri key.URI, k sigalg.Key) (key.Key, error) {
	name, err := p.free(ctx, uri)
	if err != nil {
		return nil, err
	}
	signer, err := generate(k)
	if err != nil {
		return nil, err
	}
	return p.add(ctx, name, signer)
}

// Import puts a key that exists elsewhere into the file: for moving a PKCS #8
// file in (x509.ParsePKCS8PrivateKey). It takes keys of the kinds that sigalg
// lists. The copy outside is the caller's to destroy.
func (p *Provider) Import(ctx context.Context, uri key.URI, signer crypto.Signer) (key.Key, error) {
	name, err := p.free(ctx, uri)
	if err != nil {
		return nil, err
	}
	if pointer, ok := signer.(*ed25519.PrivateKey); ok && pointer != nil {
		signer = *pointer
	}
	switch signer.(type) {
	case *rsa.PrivateKey, *ecdsa.PrivateKey, ed25519.PrivateKey, *mldsa.PrivateKey:
	default:
		return nil, fmt.Errorf("soft: import %s: a %T cannot be stored", name, signer)
	}
	return p.add(ctx, name, signer)
}

// Destroy removes a key from the file. Copies of the file made earlier, and what
// the storage keeps of overwritten files, still hold it.
func (p *Provider) Destroy(ctx context.Context, uri key.URI) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	name, err := parse(uri)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed.Load() {
		return errClosed
	}
	gone, ok := p.keys[name]
	if !ok {
		return fmt.Errorf("soft: %s: %w", name, key.ErrNotFound)
	}
	rest := make(map[string]*entry, len(p.keys))
	for n, e := range p.keys {
		if n != name {
			rest[n] = e
		}
	}
	if err := p.write(rest); err != nil {
		return err
	}
	gone.destroyed.Store(true)
	p.keys = rest
	clear(gone.pkcs8)
	return nil
}

// ChangePassphrase encrypts the file under another passphrase and a new data
// key. It zeroes passphrase.
func (p *Provider) ChangePassphrase(ctx context.Context, passphrase []byte) error {
	defer clear(passphrase)
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := checkPassphrase(passphrase); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed.Load() {
		return errClosed
	}
	if p.detached {
		return ErrDetached
	}
	old := p.file.envelope
	if err := p.file.wrap(passphrase, defaultCost); err != nil {
		return err
	}
	if err := p.write(p.keys); err != nil {
		p.file.envelope = old
		return err
	}
	clear(old.dataKey)
	return nil
}

// free parses uri and checks that no key has it yet.
func (p *Provider) free(ctx context.Context, uri key.URI) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	name, err := parse(uri)
	if err != nil {
		return "", err
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	return name, p.freeLocked(name)
}

func (p *Provider) freeLocked(name string) error {
	if p.closed.Load() {
		return errClosed
	}
	if _, taken := p.keys[name]; taken {
		return fmt.Errorf("soft: %s: %w", name, key.ErrExists)
	}
	if len(p.keys) >= MaxKeys {
		return fmt.Errorf("soft: the file holds %d keys already", MaxKeys)
	}
	return nil
}

// add stores a key under a name that was free. The entry is parsed from the very
// bytes that are stored, and proves itself with a signature, so that a key which
// cannot be read back is found now.
func (p *Provider) add(ctx context.Context, name string, signer crypto.Signer) (key.Key, error) {
	pkcs8, err := x509.MarshalPKCS8PrivateKey(signer)
	if err != nil {
		return nil, fmt.Errorf("soft: %s: encode key: %w", name, err)
	}
	e, err := p.entryOf(stored{Name: name, PKCS8: pkcs8})
	if err != nil {
		return nil, err
	}
	scheme, message := e.algorithm.Default(), []byte("soft: self-test of "+name)
	sig, err := e.Sign(ctx, scheme, scheme.Input(message))
	if err != nil {
		return nil, err
	}
	if err := sigalg.Verify(e.public, scheme, message, sig); err != nil {
		return nil, fmt.Errorf("soft: %s: key does not verify its own signature: %w", name, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := p.freeLocked(name); err != nil { // again: the lock was not held while the key was made
		return nil, err
	}
	more := make(map[string]*entry, len(p.keys)+1)
	for n, other := range p.keys {
		more[n] = other
	}
	more[name] = e
	if err := p.write(more); err != nil {
		return nil, err
	}
	p.keys = more
	return e, nil
}

// write writes the file with these keys. The caller holds mu, or is alone.
func (p *Provider) write(keys map[string]*entry) error {
	if p.detached {
		return ErrDetached
	}
	b := body{Generation: p.generation + 1, Keys: make([]stored, 0, len(keys))}
	for name, e := range keys {
		b.Keys = append(b.Keys, stored{Name: name, PKCS8: e.pkcs8})
	}
	slices.SortFunc(b.Keys, func(a, b stored) int { return strings.Compare(a.Name, b.Name) })
	p.generation = b.Generation // also when the write fails: the file may be there all the same
	return p.file.write(b)
}

// entryOf parses a stored key. Errors of the PKCS #8 parser are dropped: they
// may speak of what they found.
func (p *Provider) entryOf(s stored) (*entry, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(s.PKCS8)
	if err != nil {
		return nil, fmt.Errorf("soft: %s: not a private key: %w", s.Name, ErrCorrupt)
	}
	signer, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("soft: %s: a %T does not sign", s.Name, parsed)
	}
	algorithm, err := sigalg.KeyOf(signer.Public())
	if err != nil {
		return nil, fmt.Errorf("soft: %s: %w", s.Name, err)
	}
	if r, ok := signer.(*rsa.PrivateKey); ok {
		if err := r.Validate(); err != nil {
			return nil, fmt.Errorf("soft: %s: RSA key is inconsistent: %w", s.Name, ErrCorrupt)
		}
		r.Precompute()
	}
	// One key has one encoding: a file cannot carry bytes that are not keys.
	again, err := x509.MarshalPKCS8PrivateKey(signer)
	if err != nil || !bytes.Equal(again, s.PKCS8) {
		return nil, fmt.Errorf("soft: %s: not in its only encoding: %w", s.Name, ErrCorrupt)
	}
	clear(again)
	return &entry{provider: p, name: s.Name, algorithm: algorithm, public: signer.Public(), signer: signer, pkcs8: s.PKCS8}, nil
}

// Public is the public half.
func (e *entry) Public() crypto.PublicKey { return e.public }

// Algorithm is the kind of key.
func (e *entry) Algorithm() sigalg.Key { return e.algorithm }

// Format prints the URI, whatever the verb.
func (e *entry) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "soft:"+e.name) }

// Sign signs without any lock.
func (e *entry) Sign(ctx context.Context, scheme sigalg.Scheme, input []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if slow(e.algorithm) {
		select {
		case e.provider.turns <- struct{}{}:
			defer func() { <-e.provider.turns }()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		runtime.Gosched() // whoever has a moment's work goes first
	}
	if e.provider.closed.Load() {
		return nil, errClosed
	}
	if e.destroyed.Load() {
		return nil, fmt.Errorf("soft: %s was destroyed: %w", e.name, key.ErrNotFound)
	}
	if !scheme.Fits(e.algorithm) {
		return nil, fmt.Errorf("soft: %s is %s, not for %q: %w", e.name, e.algorithm, scheme, key.ErrScheme)
	}
	if h := scheme.Hash(); h != 0 && len(input) != h.Size() {
		return nil, fmt.Errorf("soft: %s signs %d bytes under %s, not %d", e.name, h.Size(), scheme, len(input))
	}
	sig, err := e.signer.Sign(rand.Reader, input, scheme.SignerOpts())
	if err != nil {
		return nil, fmt.Errorf("soft: sign with %s: %w", e.name, err)
	}
	return sig, nil
}

// slow reports whether a signature takes milliseconds. If as many were computed at
// a time as are asked for, whatever else the process does would wait for its turn
// behind all of them, and those that wait for it with it.
func slow(k sigalg.Key) bool { return k == sigalg.RSA3072 || k == sigalg.RSA4096 }

func generate(k sigalg.Key) (crypto.Signer, error) {
	var (
		signer crypto.Signer
		err    error
	)
	switch k {
	case sigalg.RSA3072:
		signer, err = rsa.GenerateKey(rand.Reader, 3072)
	case sigalg.RSA4096:
		signer, err = rsa.GenerateKey(rand.Reader, 4096)
	case sigalg.P256:
		signer, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case sigalg.P384:
		signer, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case sigalg.Ed25519:
		_, signer, err = ed25519.GenerateKey(rand.Reader)
	case sigalg.MLDSA65:
		signer, err = mldsa.GenerateKey(mldsa.MLDSA65())
	case sigalg.MLDSA87:
		signer, err = mldsa.GenerateKey(mldsa.MLDSA87())
	default:
		return nil, fmt.Errorf("soft: cannot generate a key of kind %q", k)
	}
	if err != nil {
		return nil, fmt.Errorf("soft: generate %s: %w", k, err)
	}
	return signer, nil
}

// parse takes the name out of a URI.
func parse(uri key.URI) (string, error) {
	name, ok := strings.CutPrefix(string(uri), "soft:")
	if !ok || !validName(name) {
		return "", fmt.Errorf("soft: %q is not soft:NAME with NAME as in [a-z0-9][a-z0-9._-]{0,63}", uri)
	}
	return name, nil
}

func validName(name string) bool {
	if len(name) == 0 || len(name) > 64 {
		return false
	}
	for i := range len(name) {
		c := name[i]
		alnum := 'a' <= c && c <= 'z' || '0' <= c && c <= '9'
		if !alnum && (i == 0 || c != '.' && c != '_' && c != '-') {
			return false
		}
	}
	return true
}
