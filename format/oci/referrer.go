package oci

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json/v2"
	"fmt"
)

const emptyType = "application/vnd.oci.empty.v1+json" // whose content is {}

// Referrer says how a signature stands in a registry: as the one layer of an image
// manifest whose subject is what it signs (distribution-spec 1.1).
type Referrer struct {
	ArtifactType string
	ConfigType   string            // of a config that is "{}"
	LayerType    string            // of the signature
	Subject      string            // digest of the manifest that the signature names
	Annotations  map[string]string // of the referring manifest
}

// NewReferrer reads a signature of this package. It judges nothing: that is for
// Verify.
func NewReferrer(signature []byte) (*Referrer, error) {
	s, err := parseEnvelope(signature)
	if err != nil {
		return nil, err
	}
	r := &Referrer{Subject: "sha256:" + hex.EncodeToString(s.target.digest)}
	if s.form == FormCosign {
		r.ArtifactType, r.ConfigType, r.LayerType = bundleType, emptyType, bundleType
		r.Annotations = map[string]string{"dev.sigstore.bundle.content": "dsse-envelope", "dev.sigstore.bundle.predicateType": signPredicate}
		return r, nil
	}
	const notary = "application/vnd.cncf.notary.signature"
	r.ArtifactType, r.ConfigType, r.LayerType = notary, notary, "application/jose+json"
	if s.form == FormNotationCOSE {
		r.LayerType = "application/cose"
	}
	var thumbs []string
	for _, c := range s.claim.Chain {
		thumbs = append(thumbs, fmt.Sprintf("%x", sha256.Sum256(c.Raw)))
	}
	list, err := json.Marshal(thumbs)
	r.Annotations = map[string]string{"io.cncf.notary.x509chain.thumbprint#S256": string(list)}
	return r, err
}

// Names reports whether the signature names this manifest, by its bytes.
func (r *Referrer) Names(manifest []byte) bool {
	sum := sha256.Sum256(manifest)
	return r.Subject == "sha256:"+hex.EncodeToString(sum[:])
}

// LayerTypes are those under which signatures of this package stand in registries.
func LayerTypes() []string { return []string{bundleType, "application/jose+json", "application/cose"} }

// ManifestType is the media type of a manifest, read as Plan reads it.
func ManifestType(b []byte) (string, error) {
	if len(b) > MaxManifest {
		return "", malformed("manifest of %d bytes: at most %d", len(b), MaxManifest)
	}
	m, err := parseManifest(b)
	if err != nil {
		return "", err
	}
	return m.MediaType, nil
}
