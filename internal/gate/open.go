package gate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/credential/sshagent"
	"github.com/greatseal-io/greatseal/internal/api/client"
	"github.com/greatseal-io/greatseal/internal/endorser"
	"github.com/greatseal-io/greatseal/internal/gate/check"
	"github.com/greatseal-io/greatseal/internal/gate/clamav"
	"github.com/greatseal-io/greatseal/internal/gate/command"
	"github.com/greatseal-io/greatseal/internal/gate/provenance"
	"github.com/greatseal-io/greatseal/internal/gate/rebuild"
	"github.com/greatseal-io/greatseal/internal/gate/rules"
	"github.com/greatseal-io/greatseal/internal/inspector"
	"github.com/greatseal-io/greatseal/quorum"
)

// Host is what a gate needs of the process that it runs in.
type Host struct {
	Worker  inspector.Worker
	Clock   func() time.Time
	Logger  *slog.Logger
	Version string
	Metrics func(net.Addr) // told where metrics are; nil: nobody
}

// Run runs the gate of a configuration until ctx ends.
func Run(ctx context.Context, c *Config, h Host) error {
	kind, ch, err := c.newCheck(h)
	if err != nil {
		return err
	}
	g := &Gate{
		Kind: kind, Check: ch, Rebuilds: c.Rebuild != nil, Name: c.Name, Policies: c.Policies,
		Worker: h.Worker, Clock: h.Clock, Logger: h.Logger, Parallel: c.Parallel, Retry: time.Duration(c.Retry),
	}
	key, err := secret(c.Key)
	if err != nil {
		return err
	}
	if g.Signer, err = sshagent.File(c.Key, nil); err != nil {
		return fmt.Errorf("gate: %w", err)
	}
	for line := range strings.Lines(key) {
		if line = strings.TrimSpace(line); len(line) >= 16 && !strings.HasPrefix(line, "-----") {
			g.Secrets = append(g.Secrets, line)
		}
	}
	token := ""
	if c.TokenFile != "" {
		if token, err = secret(c.TokenFile); err != nil {
			return err
		}
		if token == "" {
			return fmt.Errorf("gate: %s is empty", c.TokenFile)
		}
		g.Secrets = append(g.Secrets, token)
	}
	cl, err := client.New(client.Config{Server: c.Server, CA: c.CA, Cert: c.Cert, Key: c.CertKey, Token: token, Agent: "greatseal-gate/" + h.Version})
	if err != nil {
		return fmt.Errorf("gate: %w", err)
	}
	defer cl.Close()
	if g.Deployment, err = c.enter(ctx, cl, g.Signer, ch.Bytes()); err != nil {
		return err
	}
	if g.Journal, err = endorser.Open(c.State); err != nil {
		return err
	}
	defer g.Journal.Close()
	if c.Metrics != "" {
		ready := h.Metrics
		if ready == nil {
			ready = func(net.Addr) {}
		}
		wait, err := g.serve(ctx, c.Metrics, ready)
		if err != nil {
			return err
		}
		defer wait()
	}
	src := endorser.Remote(cl, g.Journal.Dir())
	if token == "" && c.Cert == "" {
		cl.Renew(func(ctx context.Context) error {
			_, err := cl.Login(ctx, g.Deployment, c.Name, g.Signer)
			return err
		})
	}
	g.Logger.Info("gate: open", "kind", g.Kind, "name", g.Name, "deployment", g.Deployment)
	return g.Run(ctx, src)
}

// enter checks the server's charters from the pinned root, and that the gate is a
// machine of them that may do its work. It returns the deployment's name.
func (c *Config) enter(ctx context.Context, cl *client.Client, s credential.Signer, bytes bool) (string, error) {
	b, err := cl.Chain(ctx)
	if err != nil {
		return "", fmt.Errorf("gate: %w", err)
	}
	chain, err := quorum.DecodeChain(&c.Root, b)
	if err != nil {
		return "", fmt.Errorf("gate: the server's charters: %w", err)
	}
	head, _ := chain.Head()
	m, ok := head.Machines[c.Name]
	if !ok {
		return "", fmt.Errorf("gate: the charter has no machine %q", c.Name)
	}
	if !slices.ContainsFunc(m.Credentials, func(x charter.Credential) bool {
		cred, err := x.Parse()
		return err == nil && cred.ID() == s.Credential().ID()
	}) {
		return "", fmt.Errorf("gate: %s is not a credential of %s in the charter", s.Credential().ID(), c.Name)
	}
	if bytes && !m.Inspector && c.TokenFile == "" {
		return "", fmt.Errorf("gate: %s may not read uploaded files: make it an inspector in the charter, or give it a token with the scope inspect", c.Name)
	}
	return head.Deployment, nil
}

func (c *Config) newCheck(h Host) (kind string, ch check.Check, err error) {
	switch {
	case c.ClamAV != nil:
		x := c.ClamAV
		ch, err = clamav.New(clamav.Config{
			Socket: x.Socket, Address: x.Address, MaxSize: x.MaxSize, Connect: time.Duration(x.Connect), Scan: time.Duration(x.Scan),
			Canary: x.Canary, MaxAge: time.Duration(x.MaxAge), Clock: h.Clock,
		})
		return "clamav", ch, err
	case c.Provenance != nil:
		x := c.Provenance
		p := provenance.Config{Claim: x.Claim, Folder: x.Folder, Wait: time.Duration(x.Wait), Clock: h.Clock}
		for _, b := range x.Builders {
			y := provenance.Builder{ID: b.ID, Sources: b.Sources, BuildTypes: b.BuildTypes}
			for _, k := range b.Keys {
				pub, err := provenance.ReadKey(k)
				if err != nil {
					return "", nil, err
				}
				y.Keys = append(y.Keys, pub)
			}
			p.Builders = append(p.Builders, y)
		}
		ch, err = provenance.New(p)
		return "provenance", ch, err
	case c.Rebuild != nil:
		x := c.Rebuild
		ch, err = rebuild.New(rebuild.Config{
			Folder: x.Folder, Wait: time.Duration(x.Wait), Work: c.State, Worker: h.Worker, Clock: h.Clock,
			Program: check.Program{Command: x.Command, Env: x.Env, Time: time.Duration(x.Time)},
		})
		return "rebuild", ch, err
	case c.Rules != nil:
		var list []rules.Rule
		for _, r := range c.Rules.Rules {
			list = append(list, rules.Rule(r))
		}
		ch, err = rules.New(list, c.Rules.PlanOnly)
		return "rules", ch, err
	case c.Command != nil:
		x := c.Command
		ch, err = command.New(check.Program{Command: x.Command, Env: x.Env, Time: time.Duration(x.Time)}, x.PlanOnly)
		return "command", ch, err
	}
	return "", nil, errors.New("gate: no check is configured")
}
