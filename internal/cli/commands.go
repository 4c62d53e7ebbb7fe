package cli

import "github.com/spf13/cobra"

// commands lists every command, in the order of the groups.
func (a *App) commands() []*cobra.Command {
	return []*cobra.Command{
		a.demoCommand(),
		a.devCommand(),
		a.serverCommand(),
		a.inspectorCommand(),
		a.workerCommand(),
		a.charterCommand(),
		a.tlsCommand(),
		a.initCommand(),
		a.benchCommand(),
	}
}

func (a *App) charterCommand() *cobra.Command {
	c := &cobra.Command{Use: "charter", GroupID: "rule", Short: "who may do what, and who must agree"}
	c.AddCommand(a.charterCheck(), a.charterID(), a.charterDiff(), a.charterSign(), a.charterFound())
	return c
}
