package deb

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/greatseal-io/greatseal/format"
)

// Limits of what is read for details.
const (
	maxFiles   = 100_000
	maxData    = 4 << 30 // bytes of data.tar, unpacked
	maxShown   = 60
	setuidBits = 0o6000
)

// scripts are the files of control.tar that dpkg runs.
var scripts = map[string]string{"preinst": "before installing", "postinst": "after installing", "prerm": "before removing", "postrm": "after removing", "config": "debconf questions"}

// contents are the details of a package: what its control.tar runs, and the files of
// its data.tar, where these are plain or of gzip.
type contents struct {
	fields            string // the file "control"
	run               []string
	triggers, configs []string
	files, setuid     []string
	listed            bool // data.tar was read to its end
}

// extra are fields of the file "control" that are details: lists.
var extra = []string{"Recommends", "Conflicts", "Breaks", "Built-Using", "Section", "Priority", "Homepage", "Source", "Essential"}

func (c *contents) details(name string, before int) []format.Fact {
	d := format.NewDetails(before)
	d.List("script", 16, c.run)
	for line := range strings.Lines(c.fields) {
		n, v, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		for _, x := range extra {
			if ok && n == x {
				d.Say(strings.ToLower(n), v)
			}
		}
	}
	d.List("trigger", 20, c.triggers)
	d.List("config", 20, c.configs)
	if c.listed {
		d.Count("files", c.files)
		d.List("setuid", 20, c.setuid)
		if len(c.files) <= maxShown {
			d.List("file", maxShown, c.files)
		}
	} else {
		d.Sayf("not-read", "the files in %s: its compression has no decoder here, or it is damaged", name)
	}
	return d.Facts()
}

// readMember takes from a file of control.tar what details need.
func (c *contents) readMember(n string, b []byte) {
	switch what, ok := scripts[n]; {
	case ok:
		sum := sha256.Sum256(b)
		first, _, _ := bytes.Cut(b, []byte("\n"))
		c.run = append(c.run, fmt.Sprintf("%s: %s, %d bytes, sha256 %x", what, strings.TrimPrefix(string(first[:min(len(first), 60)]), "#!"), len(b), sum[:8]))
	case n == "triggers":
		c.triggers = lines(b)
	case n == "conffiles":
		c.configs = lines(b)
	}
}

func lines(b []byte) (out []string) {
	for l := range strings.Lines(string(b)) {
		if l = strings.TrimSpace(l); l != "" && !strings.HasPrefix(l, "#") {
			out = append(out, l)
		}
	}
	return out
}

// lister reads data.tar as it goes by.
type lister struct {
	*io.PipeWriter
	done chan struct{}
	into *contents
}

// newLister is nil for a compression that has no decoder.
func newLister(name string, into *contents) *lister {
	if name != "data.tar" && !strings.HasSuffix(name, ".gz") {
		return nil
	}
	r, w := io.Pipe()
	l := &lister{w, make(chan struct{}), into}
	go func() {
		defer close(l.done)
		into.listed = into.readData(r, strings.HasSuffix(name, ".gz"))
		_, _ = io.Copy(io.Discard, r) // what is behind the end, or what could not be read
	}()
	return l
}

// wait ends the reading.
func (l *lister) wait() {
	_ = l.Close()
	<-l.done
}

// Write never fails: what is wrong with the archive is no reason not to sign it.
func (l *lister) Write(b []byte) (int, error) {
	_, _ = l.PipeWriter.Write(b)
	return len(b), nil
}

func (c *contents) readData(r io.Reader, packed bool) bool {
	if packed {
		z, err := gzip.NewReader(r)
		if err != nil {
			return false
		}
		r = z
	}
	t := tar.NewReader(bufio.NewReader(io.LimitReader(r, maxData)))
	for len(c.files) < maxFiles {
		h, err := t.Next()
		if err == io.EOF {
			return true
		}
		if err != nil {
			return false
		}
		name := path.Clean("/" + h.Name)
		switch h.Typeflag {
		case tar.TypeDir:
			continue
		case tar.TypeReg:
			x := sha256.New()
			if _, err := io.Copy(x, t); err != nil {
				return false
			}
			if h.Mode&setuidBits != 0 {
				c.setuid = append(c.setuid, fmt.Sprintf("%s, mode %04o", name, h.Mode&0o7777))
			}
			name += fmt.Sprintf(", %x", x.Sum(nil)[:8])
		case tar.TypeSymlink, tar.TypeLink:
			name += " -> " + h.Linkname
		default:
			name += fmt.Sprintf(" of type %q", h.Typeflag)
		}
		c.files = append(c.files, name)
	}
	return false
}
