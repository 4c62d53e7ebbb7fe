package rauc

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/single"
)

// manifest is a RAUC manifest (docs/reference.rst, "Manifest"), as far as bundles
// are concerned.
type manifest struct {
	text   []byte
	format string // "plain" where it says nothing
	root   []byte // of the tree, nil when there is none yet
	salt   []byte
	size   int64 // of the tree
	lines  []line
}

// line is one key of one section.
type line struct{ section, key, value string }

func (m *manifest) get(section, key string) string {
	for _, l := range m.lines {
		if l.section == section && l.key == key {
			return l.value
		}
	}
	return ""
}

// parseManifest reads GLib's key files strictly: sections, "key=value", comments,
// empty lines. A key that stands twice, or a section, would be read in two ways.
func parseManifest(b []byte) (*manifest, error) {
	bad := func(i int, why string) error { return fmt.Errorf("%w: manifest line %d: %s", ErrMalformed, i+1, why) }
	if len(b) > maxManifest {
		return nil, fmt.Errorf("%w: manifest of %d bytes: at most %d", ErrMalformed, len(b), maxManifest)
	}
	m := &manifest{text: b}
	section, seen := "", map[string]bool{}
	for i, s := range strings.Split(string(b), "\n") {
		switch {
		case s == "" || s[0] == '#':
		case s[0] == ' ': // GLib skips it, before a section and a comment too
			return nil, bad(i, "it begins with a space")
		case single.Text([]byte(s), len(s)) != s:
			return nil, bad(i, "not printable")
		case s[0] == '[':
			name, ok := strings.CutSuffix(s[1:], "]")
			if !ok || name == "" || strings.ContainsAny(name, "[]") || seen["["+name] {
				return nil, bad(i, "section")
			}
			section, seen["["+name] = name, true
		default:
			k, v, ok := strings.Cut(s, "=")
			if k, v = strings.TrimSpace(k), strings.TrimSpace(v); !ok || section == "" || k == "" || seen[section+"]"+k] {
				return nil, bad(i, "key")
			}
			seen[section+"]"+k] = true
			m.lines = append(m.lines, line{section, k, v})
		}
	}
	if m.get("update", "compatible") == "" {
		return nil, fmt.Errorf("%w: manifest without compatible", ErrMalformed)
	}
	if m.format = m.get("bundle", "format"); m.format == "" {
		m.format = "plain"
	}
	if err := m.readVerity(); err != nil {
		return nil, err
	}
	if n := len(m.facts()); n > format.MaxFacts { // none may be left unsaid
		return nil, fmt.Errorf("%w: manifest with %d hooks, handlers and images: at most %d", ErrMalformed, n, format.MaxFacts)
	}
	return m, nil
}

func (m *manifest) readVerity() error {
	root, salt, size := m.get("bundle", "verity-hash"), m.get("bundle", "verity-salt"), m.get("bundle", "verity-size")
	if root == "" && salt == "" && size == "" {
		return nil
	}
	var err1, err2, err3 error
	m.root, err1 = hex.DecodeString(root)
	m.salt, err2 = hex.DecodeString(salt)
	m.size, err3 = strconv.ParseInt(size, 10, 64)
	if err1 != nil || err2 != nil || err3 != nil || len(m.root) != 32 || len(m.salt) != 32 || m.size <= 0 || m.size%blockSize != 0 ||
		strconv.FormatInt(m.size, 10) != size || m.format != "verity" {
		return fmt.Errorf("%w: verity hash, salt or size in the manifest", ErrMalformed)
	}
	return nil
}

// complete adds root hash, salt and size of the tree to a manifest's [bundle]. The
// salt is the digest of the option, so that a plan is deterministic: it keeps nothing
// secret, and makes trees of different bundles different. option is the text as a
// JSON string: options are one line.
func complete(option string, root []byte, size int64) (*manifest, error) {
	var text string
	if err := json.Unmarshal([]byte(option), &text); err != nil {
		return nil, fmt.Errorf("rauc: option manifest: want a JSON string: %w", err)
	}
	m, err := parseManifest([]byte(text))
	if err != nil {
		return nil, err
	}
	if m.format != "verity" || m.root != nil {
		return nil, fmt.Errorf("rauc: the manifest must say [bundle] format=verity and no hash: it says %q", m.format)
	}
	out := strings.Replace(text, "[bundle]\n", fmt.Sprintf("[bundle]\nverity-hash=%x\nverity-salt=%x\nverity-size=%d\n", root, saltOf(option), size), 1)
	if m, err = parseManifest([]byte(out)); err == nil && m.root == nil {
		err = fmt.Errorf("%w: manifest: [bundle] must stand on a line of its own", ErrMalformed)
	}
	return m, err
}

// facts are what people endorse of a manifest.
func (m *manifest) facts() []format.Fact {
	var out []format.Fact
	add := func(name, value string) {
		if value != "" {
			out = append(out, format.Fact{Name: name, Value: single.Text([]byte(value), 1024)})
		}
	}
	add("format", m.format)
	for _, k := range []string{"compatible", "version", "description", "build"} {
		add(k, m.get("update", k))
	}
	if m.root != nil {
		add("verity-hash", hex.EncodeToString(m.root))
	}
	for _, l := range m.lines {
		if l.section == "hooks" || l.section == "handler" {
			add(l.section, l.key+"="+l.value)
		}
	}
	seen := map[string]bool{}
	for _, l := range m.lines {
		name, ok := strings.CutPrefix(l.section, "image.")
		if !ok || seen[name] {
			continue
		}
		seen[name] = true
		add("image", strings.TrimSpace(name+" "+m.get(l.section, "filename")+" sha256="+m.get(l.section, "sha256")+" "+m.get(l.section, "hooks")))
	}
	return out
}
