package cli

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/greatseal-io/greatseal/format/file"
)

func (a *App) manCommand() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use:     "man --dir DIR",
		GroupID: "run",
		Short:   "write the manual pages",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			pages := ManPages(cmd.Root())
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			list := []string{}
			for _, n := range sortedNames(pages) {
				p := filepath.Join(dir, n)
				if err := file.WriteFile(p, pages[n], 0o644); err != nil {
					return err
				}
				list = append(list, p)
			}
			return a.print(list, func(w io.Writer) { fmt.Fprintf(w, "%s in %s\n", count(len(list), "page"), printable(dir)) })
		},
	}
	c.Flags().StringVar(&dir, "dir", "man", "folder")
	return c
}

// ManPages are the manual pages of the command tree, by file name. They depend on
// the commands alone: no date, no version.
func ManPages(root *cobra.Command) map[string][]byte {
	out := map[string][]byte{}
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Hidden || c.Name() == "help" {
			return
		}
		out[manName(c)+".1"] = manPage(c)
		for _, s := range c.Commands() {
			walk(s)
		}
	}
	walk(root)
	return out
}

func manName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

func manPage(c *cobra.Command) []byte {
	c.InitDefaultHelpFlag()
	c.InitDefaultVersionFlag()
	var b bytes.Buffer
	line := func(s string) { b.WriteString(s + "\n") }
	line(fmt.Sprintf(".TH %q 1 \"\" \"Greatseal\" \"Greatseal manual\"", strings.ToUpper(manName(c))))
	line(".nh\n.SH NAME")
	line(roff(manName(c)) + ` \- ` + roff(c.Short))
	line(".SH SYNOPSIS")
	line(`\fB` + roff(c.CommandPath()) + `\fR ` + roff(strings.TrimSpace(strings.TrimPrefix(c.UseLine(), c.CommandPath()))))
	line(".SH DESCRIPTION")
	text := c.Long
	if text == "" {
		text = strings.ToUpper(c.Short[:1]) + c.Short[1:] + "."
	}
	b.WriteString(paragraphs(text))
	if subs := shownCommands(c); len(subs) > 0 {
		line(".SH COMMANDS")
		for _, s := range subs {
			line(".TP\n\\fB" + roff(manName(s)) + "\\fR(1)\n" + roff(s.Short))
		}
	}
	options(&b, "OPTIONS", c.NonInheritedFlags())
	options(&b, "OPTIONS OF ALL COMMANDS", c.InheritedFlags())
	if c.Example != "" {
		line(".SH EXAMPLES\n.nf")
		for _, l := range strings.Split(c.Example, "\n") {
			line(roff(strings.TrimPrefix(l, "  ")))
		}
		line(".fi")
	}
	line(".SH EXIT CODES\n.nf")
	for _, x := range Codes() {
		line(roff(x))
	}
	line(".fi")
	if c.HasParent() {
		line(".SH SEE ALSO\n\\fB" + roff(manName(c.Parent())) + "\\fR(1)")
	}
	return b.Bytes()
}

func shownCommands(c *cobra.Command) []*cobra.Command {
	return slices.DeleteFunc(slices.Clone(c.Commands()), func(s *cobra.Command) bool { return s.Hidden || s.Name() == "help" })
}

func options(b *bytes.Buffer, title string, f *pflag.FlagSet) {
	first := true
	f.VisitAll(func(x *pflag.Flag) {
		if x.Hidden {
			return
		}
		if first {
			fmt.Fprintf(b, ".SH %s\n", title)
			first = false
		}
		name := "--" + x.Name
		if x.Shorthand != "" {
			name = "-" + x.Shorthand + ", " + name
		}
		kind, usage := pflag.UnquoteUsage(x)
		if kind != "" {
			kind = " " + kind
		}
		fmt.Fprintf(b, ".TP\n\\fB%s\\fR%s\n%s", roff(name), roff(kind), roff(usage))
		if x.DefValue != "" && x.DefValue != "false" && x.DefValue != "[]" && x.DefValue != "0" && x.DefValue != "0s" {
			fmt.Fprintf(b, " (default %s)", roff(x.DefValue))
		}
		b.WriteByte('\n')
	})
}

// paragraphs sets text: empty lines divide paragraphs, lines that begin with white
// space stay as they are.
func paragraphs(text string) string {
	var b strings.Builder
	literal := false
	for i, l := range strings.Split(text, "\n") {
		as := strings.HasPrefix(l, " ")
		if as != literal && l != "" {
			b.WriteString(map[bool]string{true: ".nf\n", false: ".fi\n"}[as])
			literal = as
		}
		switch {
		case l != "":
			b.WriteString(roff(strings.TrimLeft(l, " ")) + "\n")
		case i > 0:
			b.WriteString(".PP\n")
		}
	}
	if literal {
		b.WriteString(".fi\n")
	}
	return b.String()
}

// roff escapes text: nothing in it is a request.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "…", "...").Replace(s)
	if strings.HasPrefix(s, ".") {
		s = `\&` + s
	}
	return s
}
