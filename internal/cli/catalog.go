package cli

import (
	"crypto"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/greatseal-io/greatseal/format/cat"
	"github.com/greatseal-io/greatseal/format/file"
)

// catalogued is the document of catalog create.
type catalogued struct {
	Output  string   `json:"output"`
	Members []string `json:"members"`
}

func (a *App) catalogCommand() *cobra.Command {
	c := &cobra.Command{Use: "catalog", GroupID: "sign", Short: "make security catalogues for Windows"}
	c.AddCommand(a.catalogCreate())
	return c
}

func (a *App) catalogCreate() *cobra.Command {
	var out, systems, made string
	var hardware []string
	var recursive bool
	c := &cobra.Command{
		Use:   "create FILE... --out CATALOG.cat",
		Short: "make a catalogue of files, as of a driver package, to be signed",
		Long: `Makes a security catalogue that names the files by their digests: programs and
drivers as their own signatures would, everything else by its bytes. It carries no
signature yet: "greatseal sign CATALOG.cat" gives it one, and with it every file in it.

The same files, options and time give the same catalogue.`,
		Example: `  greatseal catalog create driver.inf driver.sys --os 2:10.0 --out driver.cat
  greatseal sign driver.cat --policy drivers`,
		Args: some("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			at, err := a.moment("made", made, true)
			if err != nil {
				return err
			}
			if at.IsZero() {
				at = a.Now().UTC().Truncate(time.Second)
			}
			list, err := a.inputs(args, recursive, "")
			if err != nil {
				return err
			}
			if out == "" {
				return fail(exitUsage, "--out driver.cat", "--out is missing")
			}
			if _, err := os.Lstat(out); !errors.Is(err, os.ErrNotExist) {
				return fail(exitFailed, "--out names another file", "%s is there already", out)
			}
			var own, all []cat.Attribute
			if systems != "" {
				own, all = append(own, cat.Attribute{Name: "OSAttr", Value: systems}), append(all, cat.Attribute{Name: "OS", Value: systems})
			}
			for i, h := range hardware {
				all = append(all, cat.Attribute{Name: fmt.Sprintf("HWID%d", i+1), Value: h})
			}
			r := catalogued{Output: out}
			var members []*cat.Member
			for _, in := range list {
				f, err := file.Open(in.path)
				if err != nil {
					return err
				}
				m, err := cat.NewMember(cmd.Context(), f, crypto.SHA256, own...)
				if err = errors.Join(err, f.Close()); err != nil {
					return fail(exitFailed, "", "%s: %v", in.path, err)
				}
				members, r.Members = append(members, m), append(r.Members, in.path)
			}
			b, err := cat.Create(members, all, at)
			if err != nil {
				return fail(exitFailed, "", "%v", err)
			}
			if err := file.WriteFile(out, b, 0o644); err != nil {
				return err
			}
			return a.print(r, func(w io.Writer) {
				fmt.Fprintf(w, "%s  %s, not signed yet\n", printable(out), count(len(r.Members), "file"))
			})
		},
	}
	f := c.Flags()
	f.StringVarP(&out, "out", "o", "", "the catalogue")
	f.StringVar(&systems, "os", "", `versions of Windows that the files are for: "2:10.0"`)
	f.StringArrayVar(&hardware, "hwid", nil, "hardware that the driver is for; repeatable")
	f.StringVar(&made, "made", "", "time in the catalogue (default: now)")
	f.BoolVarP(&recursive, "recursive", "r", false, "take the files below folders")
	return c
}
