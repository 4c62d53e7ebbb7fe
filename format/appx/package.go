package appx

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/authenticode"
	"github.com/greatseal-io/greatseal/format/opc"
	"github.com/greatseal-io/greatseal/format/zipfile"
)

// pkg is an open package or bundle: an authenticode.File.
type pkg struct {
	a         format.Artifact
	z         *zipfile.Archive
	bundle    bool
	at        map[string]int // entries with a meaning, that are there
	facts     []format.Fact
	publisher string
	packages  map[string]inner // of a bundle, by name with backslashes
	wants     wants
	types     []byte        // [Content_Types].xml; nil where it is to be made
	der       []byte        // of the signature
	made      *ownCatalogue // the catalogue that was made with the signature, nil when there is none such
}

// errLacks is about packages of other archivers.
var errLacks = fmt.Errorf("%w: block map or content types are not there (option %s=rebuild makes them)", ErrNotPackage, optionBlockMap)

// inner is what a bundle's manifest says of a package in it.
type inner struct {
	offset, size int64 // of its bytes in the bundle
}

// maxListed is how many packages of a bundle become facts.
const maxListed = 100

// open reads the structure of a package, which may lack block map and content types.
func open(a format.Artifact) (*pkg, error) {
	z, err := zipfile.Open(a, zipfile.Options{})
	if errors.Is(err, zipfile.ErrNotZip) {
		return nil, ErrNotPackage
	}
	if err != nil {
		return nil, fmt.Errorf("appx: %w", err)
	}
	p := &pkg{a: a, z: z, at: map[string]int{}, packages: map[string]inner{}}
	for i := range z.Entries {
		switch n := z.Entries[i].Name; n {
		case entryManifest, entryBundle, entryBlockMap, entryTypes, entryIntegrity, entrySignature:
			p.at[n] = i
		default:
			// Windows does not tell upper from lower case.
			for _, m := range []string{entryManifest, entryBundle, entryBlockMap, entryTypes, entryIntegrity, entrySignature} {
				if strings.EqualFold(n, m) {
					return nil, malformed("%q is not %q", n, m)
				}
			}
		}
	}
	_, p.bundle = p.at[entryBundle]
	_, isPackage := p.at[entryManifest]
	_, typed := p.at[entryTypes]
	if p.bundle == isPackage {
		return nil, fmt.Errorf("%w: one manifest is wanted", ErrNotPackage)
	}
	next := 0
	for i := range z.Order {
		if i != next {
			return nil, malformed("the directory has another order than the archive")
		}
		next++
	}
	if i, signed := p.at[entrySignature]; signed {
		if i != len(z.Entries)-1 {
			return nil, malformed("the signature is not the last entry")
		}
		b, err := z.Content(i, authenticode.MaxPKCS7+int64(len(magic)))
		if err != nil {
			return nil, fmt.Errorf("appx: %w", err)
		}
		if string(b[:min(len(b), len(magic))]) != magic || len(b) == len(magic) {
			return nil, malformed("the signature does not begin with %s", magic)
		}
		p.der = b[len(magic):]
	}
	if typed {
		if p.types, err = z.Content(p.at[entryTypes], maxText); err != nil {
			return nil, fmt.Errorf("appx: %w", err)
		}
		if p.types == nil {
			p.types = []byte{} // it is there, and empty
		}
	}
	if err := p.findMade(); err != nil {
		return nil, err
	}
	return p, p.readManifest()
}

// manifest is the name of the entry with the manifest.
func (p *pkg) manifest() string {
	if p.bundle {
		return entryBundle
	}
	return entryManifest
}

// readManifest takes publisher, facts and a bundle's packages out of the manifest.
func (p *pkg) readManifest() error {
	text, err := p.z.Content(p.at[p.manifest()], maxText)
	if err != nil {
		return fmt.Errorf("appx: %w", err)
	}
	x, err := opc.New("manifest", text)
	if err != nil {
		return err
	}
	root, identity, display := "Package", false, ""
	p.facts = []format.Fact{{Name: "kind", Value: "package"}}
	if p.bundle {
		root, p.facts[0].Value = "Bundle", "bundle"
	}
	var packages []format.Fact
	for {
		t, more, err := x.Next()
		if err != nil {
			return err
		}
		if !more {
			break
		}
		where := strings.Join(x.Open, "/")
		if !t.Shut {
			p.wants.read(where, &t)
		}
		switch {
		case t.Shut && t.Name == "DisplayName" && where == root+"/Properties":
			display, _ = opc.Unescape(strings.TrimSpace(x.Text))
		case t.Shut:
		case len(x.Open) == 1 && t.Name != root:
			return malformed("manifest of a %.40q", t.Name)
		case where == root+"/Identity":
			if identity {
				return malformed("manifest with two identities")
			}
			identity, p.publisher = true, t.Get("Publisher")
			for _, f := range []format.Fact{{Name: "name", Value: t.Get("Name")}, {Name: "version", Value: t.Get("Version")}, {Name: factPublisher, Value: p.publisher},
				{Name: "architecture", Value: t.Get("ProcessorArchitecture")}, {Name: "resource", Value: t.Get("ResourceId")}} {
				if f.Value == "" && (f.Name == "architecture" || f.Name == "resource") {
					continue
				}
				if f.Value == "" || len(f.Value) > format.MaxText || authenticode.PlainText(f.Value) != f.Value {
					return malformed("manifest: %s %.80q", f.Name, f.Value)
				}
				p.facts = append(p.facts, f)
			}
		case p.bundle && where == "Bundle/Packages/Package":
			if err := p.inner(&t); err != nil {
				return err
			}
			if len(packages) < maxListed {
				packages = append(packages, format.Fact{Name: "package", Value: fit(strings.TrimSpace(t.Get("FileName") + " " + t.Get("Version") + " " + t.Get("Architecture")))})
			}
		}
	}
	if !identity {
		return malformed("manifest without an identity")
	}
	if display = fit(display); display != "" && !strings.HasPrefix(display, "ms-resource:") {
		p.facts = append(p.facts, format.Fact{Name: "display-name", Value: display})
	}
	p.facts = append(p.facts, format.Fact{Name: "entries", Value: strconv.Itoa(len(p.z.Entries) - min(1, len(p.der)))})
	if _, ok := p.at[entryIntegrity]; ok {
		p.facts = append(p.facts, format.Fact{Name: factIntegrity, Value: integrityStays})
	}
	if p.bundle {
		p.facts = append(p.facts, format.Fact{Name: "packages", Value: strconv.Itoa(len(p.packages))})
		p.facts = append(p.facts, packages...)
	}
	return nil
}

// fit makes text of a manifest fit for a fact.
func fit(s string) string {
	s = authenticode.PlainText(s)
	if len(s) > 1024 {
		s = strings.TrimSpace(strings.ToValidUTF8(s[:1024], ""))
	}
	return s
}

// inner reads what a bundle says of one package. Packages elsewhere have no offset.
func (p *pkg) inner(t *opc.Tag) error {
	name := t.Get("FileName")
	offset, ok := number(t.Get("Offset"))
	size, is := number(t.Get("Size"))
	if t.Get("Offset") == "" && name != "" {
		return nil
	}
	if _, twice := p.packages[name]; !ok || !is || name == "" || twice {
		return malformed("bundle: package %.80q", name)
	}
	p.packages[name] = inner{offset, size}
	return nil
}
