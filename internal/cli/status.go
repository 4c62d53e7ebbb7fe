package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

func (a *App) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "status",
		GroupID: "run",
		Short:   "say how the server, the keeper and the log are, and whom you are taken for",
		Args:    exactly(),
		RunE: a.inside(func(cmd *cobra.Command, l *link, _ []string) error {
			st, err := l.Status(cmd.Context())
			if err != nil {
				return err
			}
			if !l.cfg.Root.IsZero() && l.cfg.Root != st.Root {
				return fail(exitUnverified, "is it the right server?", "the server is of the charter %s: %s is pinned", st.Root, l.cfg.Root)
			}
			return a.print(st, func(w io.Writer) {
				fmt.Fprintf(w, "%s at %s\n", printable(st.Deployment), printable(l.cfg.Server))
				field(w, "server", st.Version+", "+when(st.Time))
				field(w, "charter", fmt.Sprintf("%d (%s)", st.Charter.Version, st.Charter.ID))
				pin := "pinned"
				if l.cfg.Root.IsZero() {
					pin = "not pinned: compare it with an officer's and put it into the client configuration"
				}
				field(w, "root", st.Root.String()+", "+pin)
				you := orText(st.You.Name, "nobody")
				if st.You.Via != "" {
					you += ", by " + st.You.Via
				}
				if len(st.You.Scopes) > 0 {
					you += ": " + strings.Join(st.You.Scopes, ", ")
				}
				field(w, "you", you)
				switch k := st.Keeper; {
				case !k.Reachable:
					field(w, "keeper", "cannot be reached; requests wait")
				case k.Stopped != "":
					field(w, "keeper", "has stopped: "+k.Stopped)
				default:
					field(w, "keeper", fmt.Sprintf("%s, %d receipts", k.Version, k.Receipts))
				}
				field(w, "log", fmt.Sprintf("%s, %d entries, %d under the last checkpoint", st.Log.Origin, st.Log.Size, st.Log.Signed))
				for _, j := range sortedNames(st.Jobs) {
					field(w, "queue", fmt.Sprintf("%s: %d", j, st.Jobs[j]))
				}
				field(w, "formats", strings.Join(st.Formats, ", "))
			})
		}),
	}
}
