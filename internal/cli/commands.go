package cli

import "github.com/spf13/cobra"

// commands lists every command, in the order of the groups.
func (a *App) commands() []*cobra.Command {
	return []*cobra.Command{
		a.demoCommand(),
		a.devCommand(),
		a.serverCommand(),
		a.agentCommand(),
		a.signCommand(),
		a.collectCommand("sign"),
		a.evidenceCommand(),
		a.verifyCommand(),
		a.inspectCommand(),
		a.diffCommand(),
		a.removeCommand(),
		a.extractCommand(),
		a.formatsCommand(),
		a.timestampCommand(),
		a.gitCommand(),
		a.imageCommand(),
		a.catalogCommand(),
		a.inboxCommand(),
		a.requestCommand(),
		a.endorseCommand(),
		a.disapproveCommand(),
		a.noticesCommand(),
		a.keyCommand(),
		a.logCommand(),
		a.statsCommand(),
		a.loginCommand(),
		a.logoutCommand(),
		a.statusCommand(),
		a.tokenCommand(),
		a.consoleCommand(),
		a.sessionsCommand(),
		a.manCommand(),
		a.inspectorCommand(),
		a.gateCommand(),
		a.workerCommand(),
		a.recordsCommand(),
		a.trustCommand(),
		a.agentsCommand(),
		a.queueCommand(),
		a.charterCommand(),
		a.passkeyCommand(),
		a.appCommand(),
		a.tlsCommand(),
		a.initCommand(),
		a.benchCommand(),
	}
}

func (a *App) charterCommand() *cobra.Command {
	c := &cobra.Command{Use: "charter", GroupID: "rule", Short: "who may do what, and who must agree"}
	c.AddCommand(a.charterCheck(), a.charterID(), a.charterShow(), a.charterDiff(), a.charterPropose(), a.charterReplay(), a.charterSign(), a.charterFound(), a.charterIssuers())
	return c
}
