package oci

import (
	"encoding/hex"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/single"
)

// Media types of what may be signed.
const (
	MediaManifest       = "application/vnd.oci.image.manifest.v1+json"
	MediaIndex          = "application/vnd.oci.image.index.v1+json"
	mediaDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	mediaDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
)

// MaxManifest limits a manifest, in bytes, as registries do.
const MaxManifest = 4 << 20

const maxEntries = 4096 // layers, or manifests of an index

// ErrMalformed is wrapped for what is no acceptable manifest or signature.
var ErrMalformed = errors.New("oci: malformed")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// descriptor is an OCI content descriptor (image-spec 1.1, descriptor.md); what is
// not of use here is skipped.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations"`
	Platform    *struct {
		Architecture string `json:"architecture"`
		OS           string `json:"os"`
		Variant      string `json:"variant"`
	} `json:"platform"`
}

// manifest is an image manifest or an index.
type manifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType"`
	Config        *descriptor       `json:"config"`
	Layers        *[]descriptor     `json:"layers"`
	Manifests     *[]descriptor     `json:"manifests"`
	Subject       *descriptor       `json:"subject"`
	Annotations   map[string]string `json:"annotations"`
	FSLayers      jsontext.Value    `json:"fsLayers"` // of Docker's schema 1
}

// parseManifest reads a manifest. What could be read as an image by one and as an
// index by another is refused (CVE-2021-41190), and members given twice. Most clients
// are in Go and take "Layers" for "layers": they must read what others do.
func parseManifest(b []byte) (*manifest, error) {
	var m, folded manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, malformed("manifest: %v", err)
	}
	if err := json.Unmarshal(b, &folded, json.MatchCaseInsensitiveNames(true)); err != nil || !reflect.DeepEqual(m, folded) {
		return nil, malformed("manifest has a member whose name differs from a known one in case alone")
	}
	image, index := m.Config != nil || m.Layers != nil, m.Manifests != nil
	switch {
	case m.SchemaVersion != 2 || m.FSLayers != nil:
		return nil, malformed("manifest of schema %d: want 2", m.SchemaVersion)
	case image == index:
		return nil, malformed("manifest is an image and an index, or neither")
	case image && (m.Config == nil || m.Layers == nil):
		return nil, malformed("image manifest without config or layers")
	}
	want := []string{MediaManifest, mediaDockerManifest}
	if index {
		want = []string{MediaIndex, mediaDockerList}
	}
	if m.MediaType == "" {
		m.MediaType = want[0] // image-spec 1.0 left it out
	}
	if !slices.Contains(want, m.MediaType) {
		return nil, malformed("media type %.80q does not fit the manifest", m.MediaType)
	}
	all := m.entries()
	if len(all) > maxEntries {
		return nil, malformed("%d entries: at most %d", len(all), maxEntries)
	}
	if m.Subject != nil {
		all = append(all, *m.Subject)
	}
	for i, d := range all {
		if d.Size < 0 || d.MediaType == "" || !isDigest(d.Digest) {
			return nil, malformed("descriptor %d of the manifest", i)
		}
	}
	return &m, nil
}

// isDigest reports whether s is a digest that an endorser may rely on.
func isDigest(s string) bool {
	name, value, ok := strings.Cut(s, ":")
	d, err := hex.DecodeString(value)
	return ok && err == nil && strings.ToLower(value) == value && (name == "sha256" && len(d) == 32 || name == "sha512" && len(d) == 64)
}

// entries are what the manifest names, in its order.
func (m *manifest) entries() []descriptor {
	if m.Manifests != nil {
		return *m.Manifests
	}
	return append([]descriptor{*m.Config}, *m.Layers...)
}

// facts are for endorsers; they follow from the bytes and are not signed apart.
func (m *manifest) facts() []format.Fact {
	var out []format.Fact
	add := func(name, value string) {
		if value != "" && len(out) < format.MaxFacts {
			out = append(out, format.Fact{Name: single.Text([]byte(name), 256), Value: single.Text([]byte(value), format.MaxText)})
		}
	}
	add("media type", m.MediaType)
	add("artifact type", m.ArtifactType)
	if m.Config != nil {
		add("config", m.Config.MediaType+" "+m.Config.Digest)
		add("layers", fmt.Sprint(len(*m.Layers)))
	}
	if m.Subject != nil {
		add("refers to", m.Subject.Digest)
	}
	for _, n := range slices.Sorted(maps.Keys(m.Annotations)) {
		add("annotation "+n, m.Annotations[n])
	}
	if m.Manifests != nil {
		add("manifests", fmt.Sprint(len(*m.Manifests)))
		for _, d := range *m.Manifests {
			add("manifest "+d.platform(), d.Digest)
		}
	}
	return out
}

func (d *descriptor) platform() string {
	if d.Platform == nil {
		return "of any platform"
	}
	p := d.Platform.OS + "/" + d.Platform.Architecture
	if d.Platform.Variant != "" {
		p += "/" + d.Platform.Variant
	}
	return p
}

// name is how an entry is listed.
func (d *descriptor) name() string {
	if t := d.Annotations["org.opencontainers.image.title"]; t != "" {
		return t
	}
	if d.Platform != nil {
		return d.platform() + " " + d.Digest
	}
	return d.MediaType + " " + d.Digest
}
