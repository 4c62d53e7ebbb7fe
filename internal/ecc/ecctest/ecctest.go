// Package ecctest makes instances with a queue for tests: real keys, real
// certificates, a real database of the caller's.
package ecctest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/ecc"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/order"
	"github.com/greatseal-io/greatseal/record"
)

// Source holds records in memory.
type Source struct {
	mu    sync.Mutex
	items map[string]order.Item
	files map[[32]byte][]byte
	Err   error // of every question, when it is set
}

// Put adds a record, with attachments by their names.
func (s *Source) Put(table, key string, fields map[string]string, attachments map[string][]byte) record.Ref {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.items == nil {
		s.items, s.files = map[string]order.Item{}, map[[32]byte][]byte{}
	}
	ref := record.Ref{Table: table, Key: []string{key}}
	it := order.Item{Ref: ref, Fields: fields}
	for name, b := range attachments {
		a := record.Attachment{Name: name, Type: "application/octet-stream", Size: int64(len(b)), SHA256: sha256.Sum256(b)}
		s.files[a.SHA256] = b
		it.Attachments = append(it.Attachments, a)
	}
	s.items[table+"/"+key] = it
	return ref
}

// Records implements ecc.Source.
func (s *Source) Records(_ context.Context, asked []ecc.Ask) ([]order.Item, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Err != nil {
		return nil, s.Err
	}
	var out []order.Item
	for _, a := range asked {
		it, ok := s.items[a.Ref.Table+"/"+a.Ref.Key[0]]
		if !ok {
			return nil, fmt.Errorf("ecctest: %w", store.ErrNotFound)
		}
		out = append(out, it)
	}
	return out, nil
}

// Attachment implements ecc.Source.
func (s *Source) Attachment(_ context.Context, _ record.Ref, a record.Attachment) (io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.files[a.SHA256]
	if !ok {
		return nil, store.ErrNotFound
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

// Circles are bundles of a circle of trust.
type Circles struct {
	List   [][]byte
	Digest string
}

// Bundles implements ecc.Circles.
func (c *Circles) Bundles(context.Context) ([][]byte, string, error) { return c.List, c.Digest, nil }

// Instance is one instance: replicas of it are made with Replica.
type Instance struct {
	Runtime   ed25519.PrivateKey
	Authority *ecdsa.PrivateKey
	Source    *Source
}

// Must is v, or the end of the test.
func Must[T any](t testing.TB, v T, err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// New makes an instance with one record, "script/1".
func New(t testing.TB) *Instance {
	t.Helper()
	_, runtime, err := ed25519.GenerateKey(rand.Reader)
	Must(t, 0, err)
	authority, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	i := &Instance{Runtime: runtime, Authority: Must(t, authority, err), Source: &Source{}}
	i.Source.Put("script", "1", map[string]string{"script": "return 1"}, nil)
	return i
}

// Ask asks for the record that New made.
func Ask() []ecc.Ask {
	return []ecc.Ask{{Ref: record.Ref{Table: "script", Key: []string{"1"}}, Purpose: record.Queue}}
}

// Replica is one process's service over a store; change may be nil.
func (i *Instance) Replica(t testing.TB, st ecc.Store, change func(*ecc.Config)) *ecc.Service {
	t.Helper()
	a, err := ecc.OpenAuthority(t.Context(), st, "prod", i.Authority, rand.Reader, time.Now())
	Must(t, a, err)
	cfg := ecc.Config{Store: st, Source: i.Source, Instance: "prod", Runtime: i.Runtime, Authority: a, Clock: time.Now}
	if change != nil {
		change(&cfg)
	}
	s, err := ecc.New(cfg)
	return Must(t, s, err)
}

// Run runs a service until the test ends.
func Run(t testing.TB, s *ecc.Service) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

// Identity is an agent's key and what it is certified with.
type Identity struct {
	Name  string
	Key   crypto.Signer
	Chain [][]byte
}

// NewIdentity makes a key.
func NewIdentity(t testing.TB, name string) *Identity {
	t.Helper()
	_, k, err := ed25519.GenerateKey(rand.Reader)
	return &Identity{Name: name, Key: Must(t, k, err)}
}

// Request is a PKCS #10 request of the key.
func (i *Identity) Request(t testing.TB) []byte {
	t.Helper()
	b, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: i.Name}}, i.Key)
	return Must(t, b, err)
}

// Fingerprint is what an administrator compares.
func (i *Identity) Fingerprint(t testing.TB) string {
	t.Helper()
	b, err := x509.MarshalPKIXPublicKey(i.Key.Public())
	sum := sha256.Sum256(Must(t, b, err))
	return hex.EncodeToString(sum[:])
}

// Leaf is the certificate.
func (i *Identity) Leaf(t testing.TB) *x509.Certificate {
	t.Helper()
	if len(i.Chain) == 0 {
		t.Fatal(errors.New("the agent has no certificate"))
	}
	c, err := x509.ParseCertificate(i.Chain[0])
	return Must(t, c, err)
}

// TLS is the certificate for connections; nil before there is one.
func (i *Identity) TLS() *tls.Certificate {
	if len(i.Chain) == 0 {
		return nil
	}
	return &tls.Certificate{Certificate: i.Chain, PrivateKey: i.Key}
}

// Agent enrols an agent and validates it.
func Agent(t testing.TB, s *ecc.Service, name string) *Identity {
	t.Helper()
	i := NewIdentity(t, name)
	ctx := context.Background()
	e := ecc.Enrolment{Name: name, Request: i.Request(t), Topics: []string{"JDBCProbe"}}
	_, err := s.Enrol(ctx, e)
	Must(t, 0, err)
	_, err = s.Validate(ctx, i.Fingerprint(t), "admin")
	Must(t, 0, err)
	got, err := s.Enrol(ctx, e)
	i.Chain = Must(t, got, err).Certificates
	return i
}

// Peer is the agent as the service knows it now.
func (i *Identity) Peer(t testing.TB, s *ecc.Service) *ecc.Peer {
	t.Helper()
	p, err := s.Peer(context.Background(), i.Leaf(t))
	return Must(t, p, err)
}
