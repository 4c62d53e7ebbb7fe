// Package registry brings manifests from OCI registries and signatures to them. It
// is the one place where something of a format meets a network.
//
// Invariants:
//
//  1. A manifest is taken only if its bytes have the digest that was asked for; by
//     a tag, the digest that the registry gives for it.
//  2. A signature is pushed only as a referrer of the manifest that it names, to a
//     registry that has that manifest.
//  3. What a registry sends is limited: manifests, signatures, and how many of them.
//  4. Passwords go to the registry that they are for, and into no error.
//
// A caller may not conclude that a signature from a registry is good, nor that all
// there are were given: a registry can withhold.
package registry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	spec "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/greatseal-io/greatseal/format/oci"
)

// MaxSignatures limits how many signatures of a manifest are looked at.
const MaxSignatures = 256

// ErrOther is wrapped when a registry gives something else than was asked for.
var ErrOther = errors.New("registry: it gives something else")

// Client speaks to registries.
type Client struct {
	HTTP  *http.Client // nil: http.DefaultClient
	Plain bool         // HTTP in place of HTTPS
	// Credential gives name and password for a registry; nil: anonymous.
	Credential func(ctx context.Context, host string) (name, password string, err error)
	// Now dates what is pushed.
	Now func() time.Time
}

// Manifest is one manifest as a registry has it.
type Manifest struct {
	Reference string // with the digest: "example.com/app@sha256:…"
	MediaType string
	Bytes     []byte
}

func (c *Client) repository(ref string) (*remote.Repository, error) {
	r, err := registry.ParseReference(ref)
	if err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	if r.Reference == "" {
		return nil, fmt.Errorf("registry: %q names neither a tag nor a digest", ref)
	}
	repo := &remote.Repository{Reference: r, PlainHTTP: c.Plain, MaxMetadataBytes: oci.MaxManifest, ReferrerListPageSize: MaxSignatures}
	client := &auth.Client{Client: c.HTTP, Cache: auth.NewCache()}
	if client.Client == nil {
		client.Client = http.DefaultClient
	}
	client.Credential = func(ctx context.Context, host string) (auth.Credential, error) {
		// A redirect must not carry a password to another registry.
		if c.Credential == nil || host != r.Host() {
			return auth.EmptyCredential, nil
		}
		name, password, err := c.Credential(ctx, host)
		return auth.Credential{Username: name, Password: password}, err
	}
	limit := &bounded{Client: client}
	limit.left.Store(maxAnswers)
	repo.Client = limit
	return repo, nil
}

// maxAnswers is how often a registry is asked for one thing: it could go on for ever
// with empty pages.
const maxAnswers = 4 * MaxSignatures

// bounded asks only so often.
type bounded struct {
	remote.Client
	left atomic.Int64
}

func (b *bounded) Do(r *http.Request) (*http.Response, error) {
	if b.left.Add(-1) < 0 {
		return nil, fmt.Errorf("%w: no end after %d answers", ErrOther, maxAnswers)
	}
	return b.Client.Do(r)
}

// Manifest fetches what ref names.
func (c *Client) Manifest(ctx context.Context, ref string) (*Manifest, error) {
	repo, err := c.repository(ref)
	if err != nil {
		return nil, err
	}
	return fetchManifest(ctx, repo)
}

func fetchManifest(ctx context.Context, repo *remote.Repository) (*Manifest, error) {
	d, body, err := repo.Manifests().FetchReference(ctx, repo.Reference.Reference)
	if err != nil {
		return nil, fmt.Errorf("registry: %s: %w", repo.Reference, err)
	}
	defer body.Close()
	b, err := limited(body, oci.MaxManifest)
	if err != nil {
		return nil, err
	}
	sum := sum256(b)
	want := repo.Reference.Reference
	if _, err := repo.Reference.Digest(); err != nil { // a tag
		want = d.Digest.String()
	}
	if sum != want {
		return nil, fmt.Errorf("%w: %s is %s", ErrOther, repo.Reference, sum)
	}
	t, err := oci.ManifestType(b)
	if err != nil {
		return nil, err
	}
	named := repo.Reference
	named.Reference = sum
	return &Manifest{named.String(), t, b}, nil
}

// Config fetches the configuration of the image that m is the manifest of: nil where m
// has none that is shown. It is the blob that the manifest names.
func (c *Client) Config(ctx context.Context, m *Manifest) ([]byte, error) {
	named, size, ok := oci.ConfigDigest(m.Bytes)
	if !ok {
		return nil, nil
	}
	repo, err := c.repository(m.Reference)
	if err != nil {
		return nil, err
	}
	body, err := repo.Blobs().Fetch(ctx, ocispec.Descriptor{Digest: digest.Digest(named), Size: size})
	if err != nil {
		return nil, fmt.Errorf("registry: %s: configuration: %w", repo.Reference, err)
	}
	defer body.Close()
	b, err := limited(body, size)
	if err != nil {
		return nil, err
	}
	if d := digest.Digest(named); d.Validate() != nil || d.Algorithm().FromBytes(b) != d {
		return nil, fmt.Errorf("%w: configuration of %s", ErrOther, repo.Reference)
	}
	return b, nil
}

func sum256(b []byte) string {
	s := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(s[:])
}

func limited(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrOther, limit)
	}
	return b, nil
}

// Push makes the signature a referrer of the manifest that ref names, and returns
// the reference of what refers to it. It judges the signature as far as its name:
// it must be about that manifest.
func (c *Client) Push(ctx context.Context, ref string, signature []byte) (string, error) {
	as, err := oci.NewReferrer(signature)
	if err != nil {
		return "", err
	}
	repo, err := c.repository(ref)
	if err != nil {
		return "", err
	}
	subject, err := fetchManifest(ctx, repo)
	if err != nil {
		return "", err
	}
	if !as.Names(subject.Bytes) {
		return "", fmt.Errorf("registry: %s is not the manifest that the signature is about, %s", repo.Reference, as.Subject)
	}
	config, layer := describe(as.ConfigType, []byte("{}")), describe(as.LayerType, signature)
	annotations := map[string]string{ocispec.AnnotationCreated: c.Now().UTC().Format(time.RFC3339)}
	for k, v := range as.Annotations {
		annotations[k] = v
	}
	sd := describe(subject.MediaType, subject.Bytes)
	b, err := json.Marshal(&ocispec.Manifest{
		Versioned: spec.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: as.ArtifactType,
		Config: config, Layers: []ocispec.Descriptor{layer}, Subject: &sd, Annotations: annotations,
	})
	if err != nil {
		return "", fmt.Errorf("registry: %w", err)
	}
	for _, blob := range []struct {
		d ocispec.Descriptor
		b []byte
	}{{config, []byte("{}")}, {layer, signature}} {
		there, err := repo.Blobs().Exists(ctx, blob.d)
		if err == nil && !there {
			err = repo.Blobs().Push(ctx, blob.d, bytes.NewReader(blob.b))
		}
		if err != nil && !errors.Is(err, errdef.ErrAlreadyExists) {
			return "", fmt.Errorf("registry: %s: %w", repo.Reference, err)
		}
	}
	// Manifests come last: whoever finds one finds all that it names.
	d := describe(ocispec.MediaTypeImageManifest, b)
	if err := repo.Manifests().Push(ctx, d, bytes.NewReader(b)); err != nil {
		return "", fmt.Errorf("registry: %s: %w", repo.Reference, err)
	}
	named := repo.Reference
	named.Reference = d.Digest.String()
	return named.String(), nil
}

func describe(mediaType string, b []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.Digest(sum256(b)), Size: int64(len(b))}
}

// Signatures fetches the signatures of a manifest that the registry has, each as
// the file that [oci.Format] verifies; what is of other kinds is passed over.
func (c *Client) Signatures(ctx context.Context, m *Manifest) ([][]byte, error) {
	repo, err := c.repository(m.Reference)
	if err != nil {
		return nil, err
	}
	var found []ocispec.Descriptor
	enough := errors.New("enough")
	err = repo.Referrers(ctx, describe(m.MediaType, m.Bytes), "", func(list []ocispec.Descriptor) error {
		found = append(found, list...)
		if len(found) > MaxSignatures {
			return enough
		}
		return nil
	})
	if errors.Is(err, enough) {
		return nil, fmt.Errorf("%w: more than %d referrers", ErrOther, MaxSignatures)
	}
	if err != nil {
		return nil, fmt.Errorf("registry: %s: %w", m.Reference, err)
	}
	var out [][]byte
	for _, d := range found {
		s, err := c.signature(ctx, repo, d)
		if err != nil {
			return nil, err
		}
		if s != nil {
			out = append(out, s)
		}
	}
	return out, nil
}

// signature fetches the layer of a referrer, or nothing where it is no signature.
func (c *Client) signature(ctx context.Context, repo *remote.Repository, d ocispec.Descriptor) ([]byte, error) {
	b, err := fetch(ctx, repo.Manifests(), d, oci.MaxManifest)
	if err != nil {
		return nil, err
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, nil // an index, or whatever else refers to it
	}
	if len(m.Layers) != 1 || !slices.Contains(oci.LayerTypes(), m.Layers[0].MediaType) {
		return nil, nil
	}
	return fetch(ctx, repo.Blobs(), m.Layers[0], oci.MaxEnvelope)
}

func fetch(ctx context.Context, from registry.BlobStore, d ocispec.Descriptor, limit int64) ([]byte, error) {
	if d.Size < 0 || d.Size > limit {
		return nil, fmt.Errorf("%w: %d bytes", ErrOther, d.Size)
	}
	body, err := from.Fetch(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("registry: %s: %w", d.Digest, err)
	}
	defer body.Close()
	b, err := limited(body, limit)
	if err != nil {
		return nil, err
	}
	if sum256(b) != d.Digest.String() || int64(len(b)) != d.Size {
		return nil, fmt.Errorf("%w: %s", ErrOther, d.Digest)
	}
	return b, nil
}
