package oci

import (
	"encoding/hex"
	"encoding/json/v2"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/greatseal-io/greatseal/format"
)

// The media types of configurations of images.
const (
	mediaConfig       = "application/vnd.oci.image.config.v1+json"
	mediaDockerConfig = "application/vnd.docker.container.image.v1+json"
)

// MaxConfig limits a configuration that is shown, in bytes: it travels in an option.
const MaxConfig = 40 << 10

// ErrConfig is wrapped for a configuration that is not the one that a manifest names.
var ErrConfig = errors.New("oci: not the configuration of the image")

// configuration is what an image's configuration says (image-spec 1.1, config.md); what
// is not of use here is skipped.
type configuration struct {
	Created      string `json:"created"`
	Author       string `json:"author"`
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
	OSVersion    string `json:"os.version"`
	Variant      string `json:"variant"`
	Config       struct {
		User         string              `json:"User"`
		ExposedPorts map[string]struct{} `json:"ExposedPorts"`
		Env          []string            `json:"Env"`
		Entrypoint   []string            `json:"Entrypoint"`
		Cmd          []string            `json:"Cmd"`
		Volumes      map[string]struct{} `json:"Volumes"`
		WorkingDir   string              `json:"WorkingDir"`
		Labels       map[string]string   `json:"Labels"`
		StopSignal   string              `json:"StopSignal"`
		OnBuild      []string            `json:"OnBuild"`
		Healthcheck  struct {
			Test []string `json:"Test"`
		} `json:"Healthcheck"`
	} `json:"config"`
	RootFS struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

// ConfigDigest says which blob is the configuration of the image that a manifest is
// about, with its size; ok is false for an index, for what is no image, and for a
// configuration that is too large to be shown.
func ConfigDigest(manifest []byte) (digest string, size int64, ok bool) {
	m, err := parseManifest(manifest)
	if err != nil || !m.shows() || m.Config.Size > MaxConfig {
		return "", 0, false
	}
	return m.Config.Digest, m.Config.Size, true
}

// ConfigOption is a configuration as the option takes it: a JSON string, for options
// are one line.
func ConfigOption(b []byte) (string, error) {
	out, err := json.Marshal(string(b))
	if err != nil {
		return "", fmt.Errorf("oci: configuration: %w", err)
	}
	return strings.ReplaceAll(string(out), "\x7f", `\u007f`), nil
}

// shows reports a manifest of an image whose configuration can be shown.
func (m *manifest) shows() bool {
	return m.Config != nil && (m.Config.MediaType == mediaConfig || m.Config.MediaType == mediaDockerConfig)
}

// readConfig reads the option: it must be what the manifest names. Clients in Go take
// "entrypoint" for "Entrypoint": they must read what others do.
func (m *manifest) readConfig(option string) (*configuration, error) {
	if option == "" {
		return nil, nil
	}
	var text string
	if err := json.Unmarshal([]byte(option), &text); err != nil {
		return nil, fmt.Errorf("oci: option config: want a JSON string: %w", err)
	}
	b := []byte(text)
	if !m.shows() {
		return nil, fmt.Errorf("%w: the manifest names none of an image", ErrConfig)
	}
	name, want, _ := strings.Cut(m.Config.Digest, ":")
	h, err := format.HashByName(name)
	if err != nil {
		return nil, err
	}
	x := h.New()
	x.Write(b)
	if int64(len(b)) != m.Config.Size || len(b) > MaxConfig || hex.EncodeToString(x.Sum(nil)) != want {
		return nil, fmt.Errorf("%w: the manifest names %s of %d bytes", ErrConfig, m.Config.Digest, m.Config.Size)
	}
	var c, folded configuration
	if err := json.Unmarshal(b, &c); err != nil {
		return nil, malformed("configuration: %v", err)
	}
	if err := json.Unmarshal(b, &folded, json.MatchCaseInsensitiveNames(true)); err != nil || !reflect.DeepEqual(c, folded) {
		return nil, malformed("configuration has a member whose name differs from a known one in case alone")
	}
	return &c, nil
}

// details say what an image is made of and, where its configuration is given, what it
// runs and as whom. They follow from manifest and option like the facts, and stand
// behind those: plans from before there were any have none.
func (m *manifest) details(c *configuration, before int) []format.Fact {
	d := format.NewDetails(before)
	if c != nil {
		platform := c.Architecture
		if c.Variant != "" {
			platform += "/" + c.Variant
		}
		d.Say("architecture", platform)
		d.Say("os", strings.TrimSpace(c.OS+" "+c.OSVersion))
		d.Say("built", c.Created)
		d.Say("author", c.Author)
		d.Say("user", c.Config.User)
		d.Say("entrypoint", words(c.Config.Entrypoint))
		d.Say("command", words(c.Config.Cmd))
		d.Say("health-check", words(c.Config.Healthcheck.Test))
		d.Say("working-directory", c.Config.WorkingDir)
		d.List("on-build", 10, c.Config.OnBuild)
		d.List("environment", 40, mapped(c.Config.Env, masked))
		d.List("exposes", 20, slices.Collect(maps.Keys(c.Config.ExposedPorts)))
		d.List("volume", 20, slices.Collect(maps.Keys(c.Config.Volumes)))
		var labels []string
		for k, v := range c.Config.Labels {
			labels = append(labels, k+": "+v)
		}
		d.List("label", 40, labels)
		if m.Layers != nil && len(c.RootFS.DiffIDs) != len(*m.Layers) {
			d.Sayf("differs", "the configuration tells of %d layers, the manifest of %d", len(c.RootFS.DiffIDs), len(*m.Layers))
		}
	}
	if m.Layers != nil {
		var layers []string
		for i, l := range *m.Layers {
			layers = append(layers, fmt.Sprintf("%03d: %.23s…, %d bytes, %s", i+1, l.Digest, l.Size, l.MediaType))
		}
		d.List("layer", 40, layers)
	}
	if m.Manifests != nil {
		var platforms []string
		for _, p := range *m.Manifests {
			platforms = append(platforms, fmt.Sprintf("%s, %d bytes of manifest", p.platform(), p.Size))
		}
		d.List("platform", 40, platforms)
	}
	return d.Facts()
}

// words are a program and its arguments as JSON.
func words(list []string) string {
	if len(list) == 0 {
		return ""
	}
	b, err := json.Marshal(list)
	if err != nil {
		return "?"
	}
	return string(b)
}

func mapped(list []string, f func(string) string) (out []string) {
	for _, s := range list {
		out = append(out, f(s))
	}
	return out
}

// masked keeps what may be a password to the registry, which has it already.
func masked(s string) string {
	name, value, ok := strings.Cut(s, "=")
	upper := strings.ToUpper(name)
	for _, w := range []string{"PASS", "SECRET", "TOKEN", "CREDENTIAL", "PRIVATE", "APIKEY", "API_KEY", "ACCESS_KEY", "AUTH"} {
		if ok && strings.Contains(upper, w) && value != "" {
			return fmt.Sprintf("%s=(%d bytes, not shown)", name, len(value))
		}
	}
	return s
}

// all are facts and details, of an image whose configuration is not at hand.
func (m *manifest) all() []format.Fact {
	facts := m.facts()
	return append(facts, m.details(nil, len(facts))...)
}

// told reports whether facts are those of manifest and configuration, with details or
// without.
func (m *manifest) told(c *configuration, facts []format.Fact) bool {
	base := m.facts()
	return slices.Equal(facts, append(slices.Clip(base), m.details(c, len(base))...)) || c == nil && slices.Equal(facts, base)
}

// withConfig gives the option to plans from before it was there, and to those of images
// whose configuration is not shown: neither names it.
func withConfig(p *format.Plan) *format.Plan {
	if len(p.Params) == 0 || p.Params[0].Name == "config" {
		return p
	}
	q := *p
	q.Params = append([]format.Fact{{Name: "config"}}, p.Params...)
	return &q
}
