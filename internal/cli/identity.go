package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/term"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/credential/sshagent"
	"github.com/greatseal-io/greatseal/credential/x509key"
	"github.com/greatseal-io/greatseal/internal/config"
)

// signer opens what the user signs with. accepted are the credentials that the
// charter has for him; with an agent, the first key of them that it holds is
// used. nil accepts every key, which "agent" alone then does not name.
func (a *App) signer(ctx context.Context, c *config.Client, accepted []charter.Credential) (credential.Signer, error) {
	switch {
	case c.Identity == "" && c.Cert != "" && c.Key != "":
		return x509key.File(c.Cert, c.Key)
	case c.Identity == "", c.Identity == "agent":
		return a.agentSigner(ctx, accepted)
	}
	s, err := sshagent.File(c.Identity, a.passphrase)
	if err != nil {
		return nil, err
	}
	if accepted != nil && !slices.Contains(ids(accepted), s.Credential().ID()) {
		return nil, fail(exitFailed, "greatseal charter show lists the credentials; --identity names another key",
			"%s is not a credential of %s in the charter", s.Credential().Describe(), c.Name)
	}
	return s, nil
}

func (a *App) agentSigner(ctx context.Context, accepted []charter.Credential) (credential.Signer, error) {
	socket := os.Getenv("SSH_AUTH_SOCK")
	agent, err := sshagent.Connect(socket)
	if err != nil {
		return nil, fail(exitFailed, `start an agent with eval "$(ssh-agent)" and ssh-add, or name a key file with --identity`, "no key to sign with: %v", err)
	}
	keys, err := agent.List(ctx)
	if err != nil {
		return nil, err
	}
	want := ids(accepted)
	for _, k := range keys {
		if accepted == nil && len(keys) == 1 || slices.Contains(want, k.Credential.ID()) {
			return agent.Find(ctx, string(k.Credential.ID()))
		}
	}
	if accepted == nil {
		return nil, fail(exitUsage, "--identity ~/.ssh/id_ed25519.pub", "the agent holds %d keys: say which one", len(keys))
	}
	return nil, fail(exitFailed, "ssh-add the key that the charter names, or name its file with --identity", "the agent holds none of the keys that the charter has for you (%s)", strings.Join(texts(want), ", "))
}

func ids(list []charter.Credential) []credential.ID {
	var out []credential.ID
	for _, c := range list {
		if p, err := c.Parse(); err == nil {
			out = append(out, p.ID())
		}
	}
	return out
}

func texts(list []credential.ID) []string {
	var out []string
	for _, id := range list {
		out = append(out, string(id))
	}
	return out
}

// passphrase asks for the passphrase of a key file, on the terminal only.
func (a *App) passphrase(prompt string) ([]byte, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, errors.New("the key file is encrypted and there is no terminal to ask on: put the key into ssh-agent")
	}
	defer tty.Close()
	fmt.Fprintf(tty, "%s: ", prompt)
	b, err := term.ReadPassword(int(tty.Fd()))
	fmt.Fprintln(tty)
	return b, err
}
