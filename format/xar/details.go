package xar

import (
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"compress/zlib"
	"crypto/sha256"
	"encoding/xml"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/greatseal-io/greatseal/format"
)

// detailNames are the details of a package, in order. They are read from the files
// that say what an installer does, do not follow from the plan's body, and are signed
// by nobody but through those files' digests.
var detailNames = []string{
	"title", "identifier", "version", "arch", "minimum-system", "installs-for", "component", "script", "extension", "external", "requires-password", "not-read",
}

// Limits of what is read for details.
const (
	maxText       = 1 << 20  // bytes of Distribution or PackageInfo
	maxScripts    = 16 << 20 // bytes of scripts, unpacked
	maxKept       = 32 << 20 // bytes of all of them, as they stand in the heap
	maxElements   = 50_000
	maxEntries    = 10_000 // files of an archive of scripts
	maxComponents = 60
)

// wanted are the files whose content details are read from.
func wanted(d *data) bool {
	if d.ea {
		return false
	}
	switch path.Base(d.path) {
	case "Distribution":
		return d.path == "Distribution" && d.extent.size <= maxText
	case "PackageInfo":
		return strings.Count(d.path, "/") <= 1 && d.extent.size <= maxText
	case "Scripts":
		return strings.Count(d.path, "/") <= 1 && d.extent.size <= maxScripts
	}
	return false
}

// keep remembers what scan has read and compared with its digest.
type keep struct {
	room int64
	data map[string][]byte // by path
}

// look reads what details need without a look at digests.
func (x *archive) look(a format.Artifact) (*keep, error) {
	k := &keep{maxKept, map[string][]byte{}}
	for _, d := range x.files {
		if !wanted(d) || d.extent.size > k.room {
			continue
		}
		b, err := x.read(a, d.extent)
		if err != nil {
			return nil, err
		}
		k.data[d.path] = b
		k.room -= d.extent.size
	}
	return k, nil
}

// content is what a file holds, unpacked.
func content(d *data, b []byte, limit int64) ([]byte, bool) {
	r := io.Reader(bytes.NewReader(b))
	switch d.encoding {
	case "", "application/octet-stream":
	case "application/x-gzip": // which is zlib
		z, err := zlib.NewReader(r)
		if err != nil {
			return nil, false
		}
		r = z
	case "application/x-bzip2":
		r = bzip2.NewReader(r)
	default:
		return nil, false
	}
	out, err := io.ReadAll(io.LimitReader(r, limit+1))
	return out, err == nil && int64(len(out)) == d.size && d.size <= limit
}

// component is a package in the package: what its PackageInfo says.
type component struct {
	folder, identifier, version, location, auth string
	kib, files                                  string
	scripts                                     bool
}

// details say what an installer does with the package. What is broken or beyond the
// limits is not told, and that it is not.
func (x *archive) details(k *keep, before int) []format.Fact {
	var product distribution
	var components []component
	var scripts, extensions, missed []string
	payloads, count := map[string]int64{}, map[string]int{}
	for _, d := range x.files {
		if !d.ea {
			count[d.path]++
		}
	}
	for _, d := range x.files {
		if d.ea {
			continue
		}
		if strings.HasPrefix(d.path, "Plugins/") {
			extensions = append(extensions, fmt.Sprintf("%s, %.8x", d.path, d.sum))
		}
		dir, base := path.Split(d.path)
		if base == "Payload" {
			payloads[dir] = d.extent.size
		}
		if base != "Distribution" && base != "PackageInfo" && base != "Scripts" || strings.Count(d.path, "/") > 1 {
			continue
		}
		limit := int64(maxText)
		if base == "Scripts" {
			limit = maxScripts
		}
		b, ok := k.data[d.path]
		if ok = ok && count[d.path] == 1; ok { // of two, which one counts?
			b, ok = content(d, b, limit)
		}
		switch {
		case !ok:
		case d.path == "Distribution":
			ok = product.read(b)
		case base == "PackageInfo":
			c := component{folder: strings.TrimSuffix(dir, "/")}
			if ok = c.read(b); ok && len(components) < maxEntries {
				components = append(components, c)
			}
		case base == "Scripts":
			var found []string
			if found, ok = readScripts(b); ok {
				for _, s := range found {
					scripts = append(scripts, inFolder(strings.TrimSuffix(dir, "/"), s))
				}
			}
		}
		if !ok {
			missed = append(missed, d.path+": it is too large, damaged, or of a kind that has no reader here")
		}
	}
	var all []string
	for _, c := range components {
		all = append(all, c.text(payloads))
	}
	if len(components) == 1 && product.identifier == "" {
		product.identifier = components[0].identifier
	}
	if len(components) == 1 && product.version == "" {
		product.version = components[0].version
	}
	out := format.NewDetails(before)
	out.Say("title", product.title)
	out.Say("identifier", product.identifier)
	out.Say("version", product.version)
	out.List("arch", 8, product.arch)
	out.List("minimum-system", 4, product.systems)
	out.List("installs-for", 4, product.domains)
	out.List("component", maxComponents, all)
	out.List("script", 40, append(scripts, product.scripts...))
	out.List("extension", 20, extensions)
	out.List("external", 20, product.external)
	if slices.ContainsFunc(components, func(c component) bool { return c.auth == "root" }) {
		out.Say("requires-password", "as root")
	}
	out.List("not-read", 10, missed)
	return out.Facts()
}

// inFolder puts the folder behind what a text is about, so that each has a key of its own.
func inFolder(folder, s string) string {
	what, rest, _ := strings.Cut(s, ": ")
	if folder != "" {
		what += " of " + folder
	}
	return what + ": " + rest
}

func (c *component) text(payloads map[string]int64) string {
	dir := c.folder
	if dir != "" {
		dir += "/"
	}
	s := fmt.Sprintf("%s: version %s, to %s", orNone(c.identifier), orNone(c.version), orNone(c.location))
	if c.auth != "" {
		s += ", as " + c.auth
	}
	if n, ok := payloads[dir]; ok {
		s += fmt.Sprintf(", %s files of %s KiB packed into %d bytes", orNone(c.files), orNone(c.kib), n)
	} else {
		s += ", without files"
	}
	if c.scripts {
		s += ", with scripts"
	}
	return s
}

func orNone(s string) string {
	if s == "" {
		return "?"
	}
	return s
}

// elements calls f for every element of XML in b, with its attributes and what stands
// directly in it. Attributes that stand twice, and more than one document, are wrong.
func elements(b []byte, f func(path []string, attr map[string]string, text string)) bool {
	d := xml.NewDecoder(bytes.NewReader(b))
	d.CharsetReader = func(string, io.Reader) (io.Reader, error) { return nil, fmt.Errorf("xar: another encoding than UTF-8") }
	type open struct {
		attr map[string]string
		text strings.Builder
	}
	var names []string
	var stack []*open
	roots := 0
	for n := 0; ; n++ {
		t, err := d.Token()
		if err == io.EOF {
			return len(stack) == 0 && roots == 1
		}
		if err != nil || n > 4*maxElements || len(stack) > maxDepth {
			return false
		}
		switch t := t.(type) {
		case xml.StartElement:
			o := &open{attr: map[string]string{}}
			for _, a := range t.Attr {
				if _, twice := o.attr[a.Name.Local]; twice {
					return false
				}
				o.attr[a.Name.Local] = a.Value
			}
			if len(stack) == 0 {
				roots++
			}
			names, stack = append(names, t.Name.Local), append(stack, o)
		case xml.CharData:
			if len(stack) > 0 {
				stack[len(stack)-1].text.Write(t)
			}
		case xml.EndElement:
			o := stack[len(stack)-1]
			f(names, o.attr, strings.TrimSpace(o.text.String()))
			names, stack = names[:len(names)-1], stack[:len(stack)-1]
		case xml.Directive:
			return false // a DTD
		}
	}
}

// read reads a PackageInfo.
func (c *component) read(b []byte) bool {
	found := 0
	ok := elements(b, func(at []string, attr map[string]string, _ string) {
		switch name := at[len(at)-1]; {
		case len(at) == 1 && name == "pkg-info":
			found++
			c.identifier, c.version, c.location, c.auth = attr["identifier"], attr["version"], attr["install-location"], attr["auth"]
		case len(at) == 2 && name == "payload":
			c.kib, c.files = attr["installKBytes"], attr["numberOfFiles"]
		case len(at) == 2 && name == "scripts":
			c.scripts = true
		}
	})
	return ok && found == 1
}

// distribution is what the file of that name says.
type distribution struct {
	title, identifier, version                string
	arch, systems, domains, scripts, external []string
}

func (p *distribution) read(b []byte) bool {
	var code []string
	ok := elements(b, func(at []string, attr map[string]string, text string) {
		switch at[len(at)-1] {
		case "title":
			if len(at) == 2 {
				p.title = text
			}
		case "product":
			p.identifier, p.version = attr["id"], attr["version"]
		case "options":
			p.arch = append(p.arch, strings.FieldsFunc(attr["hostArchitectures"], func(r rune) bool { return r == ',' || r == ' ' })...)
		case "os-version":
			p.systems = append(p.systems, attr["min"])
		case "domains":
			for k, name := range map[string]string{"enable_anywhere": "any volume", "enable_currentUserHome": "the user's home", "enable_localSystem": "the system"} {
				if attr[k] == "true" {
					p.domains = append(p.domains, name)
				}
			}
		case "script":
			code = append(code, text)
		case "pkg-ref":
			// "#part.pkg" is a folder of this archive.
			if text != "" && !strings.HasPrefix(text, "#") {
				p.external = append(p.external, attr["id"]+": "+text)
			}
		}
		for _, name := range []string{"script", "onConclusionScript", "active", "selected", "start_selected"} {
			if v := attr[name]; strings.ContainsAny(v, "(=") {
				code = append(code, at[len(at)-1]+" "+name+"="+v)
			}
		}
	})
	if len(code) > 0 {
		slices.Sort(code)
		all := strings.Join(code, "\n")
		s := fmt.Sprintf("distribution: JavaScript, %d bytes, sha256 %.8x", len(all), sha256.Sum256([]byte(all)))
		if strings.Contains(all, "system.run") {
			s += ", starts programs"
		}
		p.scripts = []string{s}
	}
	return ok
}

// readScripts lists the files of an archive of cpio, compressed by gzip or not: what
// installers run, and what those scripts bring with them.
func readScripts(b []byte) (out []string, ok bool) {
	if bytes.HasPrefix(b, []byte("\x1f\x8b")) {
		z, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			return nil, false
		}
		if b, err = io.ReadAll(io.LimitReader(z, maxScripts+1)); err != nil || len(b) > maxScripts {
			return nil, false
		}
	}
	seen := map[string]bool{}
	for len(out) < maxEntries {
		name, mode, content, rest, ok := cpioEntry(b)
		if !ok {
			return nil, false
		}
		if name == "TRAILER!!!" {
			return out, len(bytes.Trim(rest, "\x00")) == 0
		}
		b = rest
		if name = path.Clean("/" + name)[1:]; name == "" || mode&0o170000 == 0o040000 {
			continue
		}
		if seen[name] { // which one counts?
			return nil, false
		}
		seen[name] = true
		switch mode & 0o170000 {
		case 0o100000:
			first, _, _ := bytes.Cut(content, []byte("\n"))
			kind := "no script"
			if text, found := bytes.CutPrefix(first[:min(len(first), 60)], []byte("#!")); found {
				kind = strings.TrimSpace(string(text))
			}
			out = append(out, fmt.Sprintf("%s: %s, %d bytes, sha256 %.8x", name, kind, len(content), sha256.Sum256(content)))
		case 0o120000:
			out = append(out, fmt.Sprintf("%s: link to %s", name, content[:min(len(content), 200)]))
		default:
			out = append(out, fmt.Sprintf("%s: of mode %06o", name, mode))
		}
	}
	return nil, false
}

// cpioEntry reads one entry of the portable ASCII format (POSIX, "odc") or of SVR4's.
func cpioEntry(b []byte) (name string, mode uint64, content, rest []byte, ok bool) {
	number := func(from, n, base int) uint64 {
		v, err := strconv.ParseUint(string(b[from:from+n]), base, 64)
		if err != nil {
			ok = false
		}
		return v
	}
	ok = true
	var head, names, size, align uint64
	switch {
	case len(b) >= 76 && string(b[:6]) == "070707":
		mode, names, size, head, align = number(18, 6, 8), number(59, 6, 8), number(65, 11, 8), 76, 1
	case len(b) >= 110 && (string(b[:6]) == "070701" || string(b[:6]) == "070702"):
		mode, names, size, head, align = number(14, 8, 16), number(94, 8, 16), number(54, 8, 16), 110, 4
	default:
		return "", 0, nil, nil, false
	}
	up := func(v uint64) uint64 { return (v + align - 1) / align * align }
	begin := up(head + names)
	if !ok || names < 2 || names > maxPath || size > uint64(len(b)) || begin > uint64(len(b)) || size > uint64(len(b))-begin {
		return "", 0, nil, nil, false
	}
	text := string(b[head : head+names])
	end := min(up(begin+size), uint64(len(b)))
	return strings.TrimSuffix(text, "\x00"), mode, b[begin : begin+size], b[end:], strings.IndexByte(text, 0) == len(text)-1
}
