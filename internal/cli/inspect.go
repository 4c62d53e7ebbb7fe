package cli

import (
	"crypto"
	"encoding/hex"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/all"
	"github.com/greatseal-io/greatseal/format/file"
)

// inspected is the document of inspect.
type inspected struct {
	File     string         `json:"file"`
	Size     int64          `json:"size"`
	SHA256   string         `json:"sha256"`
	Format   string         `json:"format,omitzero"` // by content
	SignAs   []string       `json:"signAs"`          // formats that can sign it
	Report   *format.Report `json:"report,omitzero"`
	Detached []detachedFile `json:"detached,omitzero"` // signatures beside it
	Evidence string         `json:"evidence,omitzero"` // evidence beside it, not judged
}

type detachedFile struct {
	File   string         `json:"file"`
	Report *format.Report `json:"report,omitzero"`
	Error  string         `json:"error,omitzero"`
}

func (a *App) inspectCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "inspect FILE",
		GroupID: "sign",
		Short:   "say what a file is and what its signatures cover",
		Long: `Says what kind of file it is, what can be read from its bytes, which signatures
are in it or beside it, and what they cover. Nothing is judged: "greatseal verify"
does that.`,
		Args: exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, path := cmd.Context(), args[0]
			f, err := file.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			m := a.meter("reading", f.Size(), true)
			defer m.end()
			sums, err := format.Sum(ctx, &metered{Artifact: f, m: m}, crypto.SHA256)
			if err != nil {
				return err
			}
			m.end()
			r := inspected{File: path, Size: f.Size(), SHA256: hex.EncodeToString(sums[0])}
			if ft, ok := all.Detect(f); ok {
				r.Format = ft.Name()
				if r.Report, err = ft.Inspect(ctx, f); err != nil {
					return fail(exitUnverified, "the file may be damaged", "%s looks like %s: %v", path, ft.Name(), err)
				}
				if !anyFile(ft) {
					r.SignAs = append(r.SignAs, ft.Name())
				}
			}
			r.SignAs = append(r.SignAs, anyFileNames()...)
			if err := r.lookBeside(cmd, path); err != nil {
				return err
			}
			return a.print(r, func(w io.Writer) { r.write(w) })
		},
	}
}

// lookBeside finds detached signatures and evidence.
func (r *inspected) lookBeside(cmd *cobra.Command, path string) error {
	list, err := allBeside(path, "")
	if err != nil {
		return err
	}
	for _, x := range list {
		d := detachedFile{File: x.path}
		s := format.BytesArtifact(x.path, x.data)
		if ft, err := formatOf(s, x.format, ""); err != nil {
			d.Error = err.Error()
		} else if d.Report, err = ft.Inspect(cmd.Context(), s); err != nil {
			d.Error = err.Error()
		}
		r.Detached = append(r.Detached, d)
	}
	if _, err := readEvidenceFile(path + evidenceSuffix); err == nil {
		r.Evidence = path + evidenceSuffix
	}
	return nil
}

func (r *inspected) write(w io.Writer) {
	fmt.Fprintln(w, printable(r.File))
	if r.Report != nil {
		printReport(w, r.Report)
		if len(r.Report.Signatures) == 0 {
			field(w, "signature", "none in it")
		}
	} else {
		field(w, "format", "none that is known by its content")
		field(w, "size", size(r.Size))
	}
	field(w, "sha256", r.SHA256)
	field(w, "sign as", strings.Join(r.SignAs, ", "))
	for _, d := range r.Detached {
		field(w, "beside it", d.File)
		if d.Error != "" {
			field(w, "", d.Error)
		} else {
			printReport(w, d.Report)
		}
	}
	if r.Evidence != "" {
		field(w, "evidence", r.Evidence)
	}
}

func (a *App) formatsCommand() *cobra.Command {
	return &cobra.Command{
		Use:       "formats [FORMAT]",
		GroupID:   "sign",
		Short:     "list what can be signed, and the options",
		ValidArgs: formatNames(),
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 1 {
				return fail(exitUsage, c.CommandPath()+" --help", "want one FORMAT, or none")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			type option struct {
				Name    string   `json:"name"`
				Help    string   `json:"help"`
				Values  []string `json:"values,omitzero"`
				Default string   `json:"default,omitzero"`
			}
			type ft struct {
				Name    string   `json:"name"`
				AnyFile bool     `json:"anyFile"` // signs files of every kind; detached
				Stamps  bool     `json:"stamps"`  // "greatseal timestamp" can add timestamps later
				Options []option `json:"options"`
			}
			list := []ft{}
			for _, f := range all.Formats() {
				if len(args) == 1 && f.Name() != args[0] {
					continue
				}
				_, stamps := f.(format.Stamper)
				x := ft{Name: f.Name(), AnyFile: anyFile(f), Stamps: stamps, Options: []option{}}
				for _, o := range f.Options() {
					x.Options = append(x.Options, option{o.Name, o.Help, o.Values, o.Default})
				}
				list = append(list, x)
			}
			if len(list) == 0 {
				return fail(exitUsage, orText(suggest(args[0], formatNames()), "greatseal formats"), "there is no format %q", args[0])
			}
			return a.print(list, func(w io.Writer) {
				for _, x := range list {
					what := "by its content"
					if x.AnyFile {
						what = "any file, signature beside it"
					}
					fmt.Fprintf(w, "%s  (%s)\n", x.Name, what)
					for _, o := range x.Options {
						v := strings.Join(o.Values, "|")
						if v == "" {
							v = "TEXT"
						}
						fmt.Fprintf(w, "  --param %s=%s\n        %s", o.Name, v, o.Help)
						if o.Default != "" {
							fmt.Fprintf(w, " (default %s)", o.Default)
						}
						fmt.Fprintln(w)
					}
				}
			})
		},
	}
}
