package cli

import (
	"bytes"
	"context"
	"crypto"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/all"
	"github.com/greatseal-io/greatseal/format/file"
)

// difference is the document of diff.
type difference struct {
	Old        side     `json:"old"`
	New        side     `json:"new"`
	Same       bool     `json:"same"` // byte for byte
	Facts      []change `json:"facts"`
	Signatures []change `json:"signatures"`
	Entries    []change `json:"entries"` // of archives and packages
}

// side is one of the files.
type side struct {
	File   string     `json:"file"`
	Format string     `json:"format,omitzero"`
	Size   int64      `json:"size"`
	SHA256 format.Hex `json:"sha256"`

	facts, signatures, entries map[string]string
}

// change is one thing that is in one of the files or differs between them.
type change struct {
	Kind string `json:"kind"` // "added", "removed", "changed"
	Name string `json:"name"`
	Old  string `json:"old,omitzero"`
	New  string `json:"new,omitzero"`
}

func (a *App) diffCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "diff OLD NEW",
		GroupID: "sign",
		Short:   "say what changed between two versions of a file",
		Long: `Compares what can be read from two files: kind, size, version and publisher, signers,
and the entries of archives and packages by name, size and content. Nothing is judged:
"greatseal verify" does that.`,
		Example: `  greatseal diff app-1.2.exe app-1.3.exe`,
		Args:    exactly("OLD", "NEW"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var d difference
			var err error
			if d.Old, err = a.readSide(cmd.Context(), args[0]); err != nil {
				return err
			}
			if d.New, err = a.readSide(cmd.Context(), args[1]); err != nil {
				return err
			}
			d.Same = bytes.Equal(d.Old.SHA256, d.New.SHA256)
			d.Facts = compare(d.Old.facts, d.New.facts)
			d.Signatures = compare(d.Old.signatures, d.New.signatures)
			d.Entries = compare(d.Old.entries, d.New.entries)
			return a.print(d, func(w io.Writer) { d.write(w) })
		},
	}
}

func (a *App) readSide(ctx context.Context, path string) (side, error) {
	s := side{File: path, facts: map[string]string{}, signatures: map[string]string{}, entries: map[string]string{}}
	f, err := file.Open(path)
	if err != nil {
		return s, err
	}
	defer f.Close()
	m := a.meter("reading", f.Size(), true)
	defer m.end()
	sums, err := format.Sum(ctx, &metered{Artifact: f, m: m}, crypto.SHA256)
	if err != nil {
		return s, err
	}
	m.end()
	s.Size, s.SHA256 = f.Size(), sums[0]
	ft, ok := all.Detect(f)
	if !ok {
		return s, nil
	}
	s.Format = ft.Name()
	damaged := func(err error) error {
		return fail(exitFailed, "the file may be damaged", "%s looks like %s: %v", path, ft.Name(), err)
	}
	r, err := ft.Inspect(ctx, f)
	if err != nil {
		return s, damaged(err)
	}
	for _, x := range r.Facts {
		put(s.facts, x.Name, x.Value)
	}
	for _, x := range r.Signatures {
		who := x.Subject
		if who == "" && x.Signer == nil {
			who = "a key without a certificate"
		}
		put(s.signatures, who, strings.TrimSpace(string(x.Scheme)+" "+x.Label))
	}
	if l, ok := ft.(format.Lister); ok {
		err := l.List(ctx, f, func(e format.Entry) error {
			v := size(e.Size)
			if len(e.Digest) > 0 {
				v += fmt.Sprintf(" sha256 %x", e.Digest)
			}
			for _, x := range e.Facts {
				v += " " + x.Name + "=" + x.Value
			}
			put(s.entries, e.Name, v)
			return ctx.Err()
		})
		if err != nil {
			return s, damaged(err)
		}
	}
	return s, nil
}

// put keeps every value of a name that occurs more than once.
func put(m map[string]string, name, value string) {
	key := name
	for n := 2; ; n++ {
		if _, ok := m[key]; !ok {
			m[key] = value
			return
		}
		key = fmt.Sprintf("%s (%d)", name, n)
	}
}

// compare lists what differs, by name.
func compare(old, now map[string]string) []change {
	out := []change{}
	for n, v := range old {
		if w, ok := now[n]; !ok {
			out = append(out, change{"removed", n, v, ""})
		} else if v != w {
			out = append(out, change{"changed", n, v, w})
		}
	}
	for n, v := range now {
		if _, ok := old[n]; !ok {
			out = append(out, change{"added", n, "", v})
		}
	}
	slices.SortFunc(out, func(a, b change) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func (d *difference) write(w io.Writer) {
	if d.Same {
		fmt.Fprintf(w, "%s and %s are the same, byte for byte\n", printable(d.Old.File), printable(d.New.File))
		return
	}
	line := func(name, old, now string) {
		if old != now {
			fmt.Fprintf(w, "  %-14s %s → %s\n", printable(name), orText(printable(old), "-"), orText(printable(now), "-"))
		}
	}
	fmt.Fprintf(w, "%s → %s\n", printable(d.Old.File), printable(d.New.File))
	line("format", d.Old.Format, d.New.Format)
	line("size", fmt.Sprint(d.Old.Size), fmt.Sprint(d.New.Size))
	line("sha256", fmt.Sprintf("%x", d.Old.SHA256), fmt.Sprintf("%x", d.New.SHA256))
	for _, c := range d.Facts {
		line(c.Name, c.Old, c.New)
	}
	for _, c := range d.Signatures {
		signer := func(how string) string {
			if how == "" {
				return ""
			}
			return c.Name + ", " + how
		}
		line("signed by", signer(c.Old), signer(c.New))
	}
	for _, c := range d.Entries {
		fmt.Fprintf(w, "  %-8s %s\n", c.Kind, printable(c.Name))
	}
	if len(d.Facts)+len(d.Signatures)+len(d.Entries) == 0 && d.Old.Format == d.New.Format {
		fmt.Fprintln(w, "  nothing that can be read from them differs but their bytes")
	}
}
