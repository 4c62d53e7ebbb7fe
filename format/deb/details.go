package deb

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/greatseal-io/greatseal/format"
)

// Limits of what is read for details.
const (
	maxFiles   = 100_000
	maxData    = 4 << 30 // bytes of data.tar, unpacked
	maxUnxz    = 2 << 30 // of one that is slower to unpack than gzip
	maxShown   = 60
	maxStarts  = 40
	setuidBits = 0o6000
)

// scripts are the files of control.tar that dpkg runs.
var scripts = map[string]string{"preinst": "before installing", "postinst": "after installing", "prerm": "before removing", "postrm": "after removing", "config": "debconf questions"}

// starts are the folders whose files are run, or believed, without anybody starting
// them: units, jobs, rules of who may do what, keys of archives.
var starts = []string{
	"/etc/cron", "/var/spool/cron/", "/etc/init.d/", "/etc/init/", "/etc/rc", "/lib/systemd/", "/usr/lib/systemd/", "/etc/systemd/", "/usr/share/dbus-1/system-services/",
	"/etc/profile", "/etc/bash.bashrc", "/etc/xdg/autostart/", "/etc/udev/", "/lib/udev/", "/usr/lib/udev/", "/etc/modules-load.d/", "/usr/lib/modules-load.d/",
	"/etc/sudoers", "/etc/pam.d/", "/usr/share/pam-configs/", "/etc/polkit-1/", "/usr/share/polkit-1/", "/etc/ld.so", "/etc/security/", "/etc/ssh/", "/root/.ssh/",
	"/etc/apt/", "/usr/share/keyrings/", "/etc/dpkg/", "/etc/kernel/", "/etc/network/if-", "/etc/NetworkManager/dispatcher.d/", "/usr/local/share/ca-certificates/", "/etc/ssl/certs/",
}

// contents are the details of a package: what its control.tar runs, and the files of
// its data.tar.
type contents struct {
	unpack            *Unpackers
	fields            string // the file "control"
	run               []string
	triggers, configs []string
	files, setuid     []string
	starts, odd       []string
	listed            bool // data.tar was read to its end
}

// extra are fields of the file "control" that are details: lists.
var extra = []string{"Recommends", "Conflicts", "Breaks", "Built-Using", "Section", "Priority", "Homepage", "Source", "Essential"}

func (c *contents) details(l *layout, before int) []format.Fact {
	d := format.NewDetails(before)
	if c.fields == "" {
		d.Sayf("not-read", "the fields and scripts in %s: it has no decoder here, holds more than plain files, asks for too much, or is damaged", l.parts[1].name)
	}
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
		d.List("starts", maxStarts, c.starts)
		d.List("device", 20, c.odd)
		if len(c.files) <= maxShown {
			d.List("file", maxShown, c.files)
		}
	} else {
		d.Sayf("not-read", "the files in %s: it has no decoder here, asks for too much, or is damaged", l.parts[2].name)
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
	r, w := io.Pipe()
	in := into.unpack.read(name, r, maxUnxz)
	if in == nil {
		return nil
	}
	l := &lister{w, make(chan struct{}), into}
	go func() {
		defer close(l.done)
		into.listed = into.readData(in)
		_, _ = io.Copy(io.Discard, r) // what is behind the end, or what could not be read
	}()
	return l
}

// Unpackers read the compressions that the standard library does not know. Their input
// is hostile; they give at most so many bytes of it, and io.EOF only where all was right.
type Unpackers struct {
	XZ, Zstd func(in io.Reader, most int64) io.Reader
}

// read reads a tar archive of that name out of its compression; nil for one that has no
// decoder here. What was read before io.EOF may come from a damaged archive.
func (u *Unpackers) read(name string, r io.Reader, most int64) io.Reader {
	_, ending, _ := strings.Cut(name, ".tar")
	switch ending {
	case "":
		return r
	case ".gz":
		return &gzipped{in: r}
	case ".bz2":
		return bzip2.NewReader(r)
	}
	switch {
	case u == nil:
	case ending == ".xz":
		return u.XZ(r, most)
	case ending == ".zst":
		return u.Zstd(r, most)
	}
	return nil
}

// gzipped reads gzip's header when it is first read.
type gzipped struct {
	in io.Reader
	z  *gzip.Reader
}

func (g *gzipped) Read(p []byte) (n int, err error) {
	if g.z == nil {
		if g.z, err = gzip.NewReader(g.in); err != nil {
			return 0, err
		}
	}
	return g.z.Read(p)
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

// readData lists the files, and says whether all was read to its end: what a decoder
// finds wrong behind the last file is wrong with the whole.
func (c *contents) readData(r io.Reader) bool {
	r = bufio.NewReader(io.LimitReader(r, maxData))
	t := tar.NewReader(r)
	for len(c.files) < maxFiles {
		h, err := t.Next()
		if err == io.EOF {
			_, err = io.Copy(io.Discard, r)
			return err == nil
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
			c.odd = append(c.odd, name)
		}
		if slices.ContainsFunc(starts, func(s string) bool { return strings.HasPrefix(name, s) }) {
			c.starts = append(c.starts, name)
		}
		c.files = append(c.files, name)
	}
	return false
}
