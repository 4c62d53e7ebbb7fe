package appx

import (
	"fmt"
	"path"
	"strings"

	"github.com/greatseal-io/greatseal/format/opc"
)

// The content types of parts with a meaning.
const (
	typeManifest  = "application/vnd.ms-appx.manifest+xml"
	typeBundle    = "application/vnd.ms-appx.bundlemanifest+xml"
	typeBlockMap  = "application/vnd.ms-appx.blockmap+xml"
	typeIntegrity = "application/vnd.ms-pkiseccat"
	signatureType = "application/vnd.ms-appx.signature"
)

// partTypes are the types that parts with a meaning have to have.
var partTypes = map[string]string{
	entryManifest: typeManifest, entryBundle: typeBundle, entryBlockMap: typeBlockMap,
	entryIntegrity: typeIntegrity, entrySignature: signatureType,
}

// endingTypes are those that Windows's packager gives to files by the ends of their
// names; all others get the one of bytes.
var endingTypes = map[string]string{
	"dll": "application/x-msdownload", "exe": "application/x-msdownload", "xml": typeManifest,
	"appx": "application/vnd.ms-appx", "msix": "application/vnd.ms-appx",
	"png": "image/png", "jpg": "image/jpeg", "gif": "image/gif", "txt": "text/plain", "htm": "text/html", "html": "text/html", "css": "text/css", "js": "application/javascript",
}

// typeOfBytes is the type of files of which nothing is known.
const typeOfBytes = "application/octet-stream"

// contentTypes is [Content_Types].xml (ECMA-376 part 2, 10.1.2), read as far as needed.
type contentTypes struct {
	parts   map[string]string // of overrides, by the parts' names in lower case
	endings map[string]string // of defaults
	end     int               // where the last end tag starts
}

func parseTypes(text []byte) (*contentTypes, error) {
	x, err := opc.New("content types", text)
	if err != nil {
		return nil, err
	}
	c := &contentTypes{parts: map[string]string{}, endings: map[string]string{}, end: -1}
	for {
		t, more, err := x.Next()
		if err != nil {
			return nil, err
		}
		if !more {
			break
		}
		switch {
		case len(x.Open) == 1 && !t.Shut && t.Name != "Types":
			return nil, malformed("content types: element %.40q", t.Name)
		case len(x.Open) == 0 && t.Shut:
			c.end = t.Start
		case t.Shut || len(x.Open) != 2:
		case t.Name == "Override":
			c.parts[strings.ToLower(t.Get("PartName"))] = t.Get("ContentType")
		case t.Name == "Default":
			c.endings[strings.ToLower(t.Get("Extension"))] = t.Get("ContentType")
		}
	}
	if !strings.HasPrefix(string(text[max(c.end, 0):]), "</") {
		return nil, malformed("content types: there are none")
	}
	return c, nil
}

func ending(name string) string { return strings.ToLower(strings.TrimPrefix(path.Ext(name), ".")) }

// of is the type of an entry, "" when it has none.
func (c *contentTypes) of(name string) string {
	if t, ok := c.parts["/"+strings.ToLower(name)]; ok {
		return t
	}
	if e := ending(name); e != "" {
		return c.endings[e]
	}
	return ""
}

// newTypes is the text of the content types with those parts among them that get an
// entry, nil when they are there already. With all every other entry has a type in it
// too: that makes content types where there are none, and it is never nil, so that their
// place does not depend on what they lack.
func (p *pkg) newTypes(all bool, parts ...string) ([]byte, error) {
	text := string(p.types)
	if p.types == nil {
		if !all {
			return nil, errLacks
		}
		text = `<?xml version="1.0" encoding="UTF-8"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"></Types>`
	}
	c, err := parseTypes([]byte(text))
	if err != nil {
		return nil, err
	}
	var lines strings.Builder
	if all {
		for i := range p.z.Entries {
			n := p.z.Entries[i].Name
			if n == entryTypes || partTypes[n] != "" || c.of(n) != "" {
				continue
			}
			t, ok := endingTypes[ending(n)]
			if !ok {
				t = typeOfBytes
			}
			if e := ending(n); e != "" {
				c.endings[e] = t
				fmt.Fprintf(&lines, `<Default Extension="%s" ContentType="%s"/>`, escaped(e), t)
			} else {
				fmt.Fprintf(&lines, `<Override PartName="/%s" ContentType="%s"/>`, escaped(n), t)
			}
		}
		parts = append([]string{entryBlockMap, p.manifest()}, parts...)
	}
	for _, n := range parts {
		have, named := c.parts["/"+strings.ToLower(n)]
		switch {
		case named && have != partTypes[n]:
			return nil, malformed("content types: that of %s is %.80q", n, have)
		case !named && (n != p.manifest() || c.of(n) != partTypes[n]): // makers give the manifest's to all of its ending
			fmt.Fprintf(&lines, `<Override PartName="/%s" ContentType="%s"/>`, n, partTypes[n])
		}
	}
	if lines.Len() == 0 && !all {
		return nil, nil
	}
	return []byte(text[:c.end] + lines.String() + text[c.end:]), nil
}

// escaped is text as the value of an attribute.
func escaped(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;").Replace(s)
}
