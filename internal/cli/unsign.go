package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/all"
	"github.com/greatseal-io/greatseal/format/file"
)

// unsigning are the flags of remove and extract.
type unsigning struct {
	number  int // of the signature, counted from 1; 0: all of them, or the only one
	out     string
	inPlace bool
}

// unsigned is the document of remove and extract.
type unsigned struct {
	File   string `json:"file"`
	Format string `json:"format"`
	Output string `json:"output"`
	Count  int    `json:"signatures"` // taken off, or extracted
}

func (a *App) removeCommand() *cobra.Command {
	o := &unsigning{}
	c := &cobra.Command{
		Use:     "remove FILE",
		GroupID: "sign",
		Short:   "take signatures out of a file",
		Long: `Takes every signature out of the file, or the one that --signature names by the number
that "greatseal inspect" gives it. The rest of the file stays as it is. A signature that
stands beside a file is a file of its own: delete that.`,
		Example: `  greatseal remove app.exe --out app-unsigned.exe`,
		Args:    exactly("FILE"),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.remove(cmd.Context(), o, args[0]) },
	}
	f := c.Flags()
	f.IntVarP(&o.number, "signature", "s", 0, "number of the signature (default: all)")
	f.StringVarP(&o.out, "out", "o", "", "file for the result (default: the file is replaced)")
	f.BoolVar(&o.inPlace, "in-place", false, "edit the file itself under a journal instead of replacing it by a copy")
	return c
}

func (a *App) extractCommand() *cobra.Command {
	o := &unsigning{}
	c := &cobra.Command{
		Use:     "extract FILE",
		GroupID: "sign",
		Short:   "copy a signature out of a file into one of its own",
		Long: `Writes a signature that is inside the file to a file of its own, in the form that other
tools read: CMS in DER, an OpenPGP signature, and so on. The file stays as it is.`,
		Example: `  greatseal extract app.exe --out app.p7`,
		Args:    exactly("FILE"),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.extract(cmd.Context(), o, args[0]) },
	}
	f := c.Flags()
	f.IntVarP(&o.number, "signature", "s", 0, "number of the signature (default: the only one)")
	f.StringVarP(&o.out, "out", "o", "", "file for the signature (default: FILE with the form's suffix)")
	return c
}

// embedded opens a file whose format is known by its content, and says how many
// signatures are in it.
func embedded(ctx context.Context, path string) (*file.Artifact, format.Format, int, error) {
	f, err := file.Open(path)
	if err != nil {
		return nil, nil, 0, err
	}
	ft, ok := all.Detect(f)
	if !ok {
		f.Close()
		return nil, nil, 0, fail(exitFailed, "a signature beside the file is a file of its own", "%s: no format that holds signatures knows this file", path)
	}
	r, err := ft.Inspect(ctx, f)
	if err != nil {
		f.Close()
		return nil, nil, 0, fail(exitFailed, "the file may be damaged", "%s looks like %s: %v", path, ft.Name(), err)
	}
	return f, ft, len(r.Signatures), nil
}

// index is the number that the user gave as an index; none is -1.
func (o *unsigning) index(path string, have int) (int, error) {
	switch {
	case have == 0:
		return 0, fail(exitFailed, "greatseal inspect "+path, "%s holds no signature", path)
	case o.number < 0 || o.number > have:
		return 0, fail(exitUsage, "greatseal inspect "+path, "%s holds %s: there is no number %d", path, count(have, "signature"), o.number)
	}
	return o.number - 1, nil
}

func (a *App) remove(ctx context.Context, o *unsigning, path string) error {
	if o.inPlace && o.out != "" {
		return fail(exitUsage, "leave one of them out", "--in-place and --out exclude each other")
	}
	f, ft, have, err := embedded(ctx, path)
	if err != nil {
		return err
	}
	defer f.Close()
	rem, ok := ft.(format.Remover)
	if !ok {
		return fail(exitFailed, "", "signatures of the format %s cannot be taken off", ft.Name())
	}
	i, err := o.index(path, have)
	if err != nil {
		return err
	}
	p, err := rem.Remove(ctx, f, i)
	if err != nil {
		return fail(exitFailed, "", "%s: %v", path, err)
	}
	if err := file.Write(path, o.out, p, file.Options{InPlace: o.inPlace}); err != nil {
		return err
	}
	r := unsigned{File: path, Format: ft.Name(), Output: orText(o.out, path), Count: 1}
	if i < 0 {
		r.Count = have
	}
	return a.print(r, func(w io.Writer) {
		fmt.Fprintf(w, "%s  %s taken off\n", printable(r.Output), count(r.Count, "signature"))
	})
}

func (a *App) extract(ctx context.Context, o *unsigning, path string) error {
	f, ft, have, err := embedded(ctx, path)
	if err != nil {
		return err
	}
	defer f.Close()
	x, ok := ft.(format.Extractor)
	if !ok {
		return fail(exitFailed, "", "signatures of the format %s cannot be had as files", ft.Name())
	}
	i, err := o.index(path, have)
	if err != nil {
		return err
	}
	if i < 0 {
		if have > 1 {
			return fail(exitUsage, "--signature N names one of them; greatseal inspect "+path, "%s holds %s", path, count(have, "signature"))
		}
		i = 0
	}
	s, err := x.Extract(ctx, f, i)
	if err != nil {
		return fail(exitFailed, "", "%s: %v", path, err)
	}
	out := o.out
	if out == "" {
		out = path + s.Suffix
		if _, err := os.Lstat(out); !errors.Is(err, os.ErrNotExist) {
			return fail(exitFailed, "--out names another file", "%s is there already", out)
		}
	}
	if err := file.WriteFile(out, s.Data, 0o644); err != nil {
		return err
	}
	r := unsigned{File: path, Format: ft.Name(), Output: out, Count: 1}
	return a.print(r, func(w io.Writer) {
		fmt.Fprintf(w, "%s  signature %d of %s\n", printable(out), i+1, printable(path))
	})
}
