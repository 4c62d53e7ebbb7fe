package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/format/all"
	"github.com/greatseal-io/greatseal/format/file"
	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/internal/keeper"
	"github.com/greatseal-io/greatseal/internal/keeper/host"
	"github.com/greatseal-io/greatseal/statement"
)

// place is where the parts of a deployment lie in one folder.
type place struct{ dir string }

func (p place) path(name string) string { return filepath.Join(p.dir, name) }

func (p place) keeper() config.KeeperIn {
	return config.KeeperIn{Dir: p.path("keeper"), Keystore: p.path("keystore"), PassphraseFile: p.path("passphrase"),
		ReceiptKey: "soft:keeper-receipts", LogKey: "soft:keeper-log"}
}

// server is the configuration with paths relative to the folder.
func (p place) server(root statement.ID, listen string) *config.Server {
	return &config.Server{Listen: listen, Database: "sqlite:greatseal.db", Blobs: "blobs", Root: root,
		Keeper: config.Keeper{Embedded: &config.KeeperIn{Dir: "keeper", Keystore: "keystore", PassphraseFile: "passphrase"}}}
}

func hostOptions(log *slog.Logger) host.Options {
	return host.Options{Formats: all.Formats(), Clock: time.Now, Rand: rand.Reader, Logger: log, Version: Version}
}

// initKeeper makes passphrase, keystore and ledger, and returns the keeper's own
// public keys.
func (p place) initKeeper(ctx context.Context, log *slog.Logger) (*keeper.Status, error) {
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return nil, err
	}
	if _, err := os.Stat(p.path("passphrase")); errors.Is(err, os.ErrNotExist) {
		secret := make([]byte, 32)
		if _, err := rand.Read(secret); err != nil {
			return nil, err
		}
		text := []byte(base64.StdEncoding.EncodeToString(secret) + "\n")
		if err := writeOnce(p.path("passphrase"), text, 0o600); err != nil {
			return nil, err
		}
		clear(secret)
		clear(text)
	}
	if err := host.Init(ctx, p.keeper(), hostOptions(log)); err != nil {
		return nil, err
	}
	h, err := host.Open(ctx, p.keeper(), statement.ID{}, hostOptions(log))
	if err != nil {
		return nil, err
	}
	defer h.Close()
	return h.Status(ctx)
}

// found pins a charter and installs it in the embedded keeper.
func (p place) found(ctx context.Context, envelope []byte, log *slog.Logger) (statement.ID, error) {
	env, err := statement.DecodeEnvelope(envelope)
	if err != nil {
		return statement.ID{}, err
	}
	root := charter.ID(env.Payload)
	h, err := host.Open(ctx, p.keeper(), root, hostOptions(log))
	if err != nil {
		return root, err
	}
	defer h.Close()
	return root, h.Found(ctx, envelope)
}

func (a *App) initCommand() *cobra.Command {
	var dir, name string
	c := &cobra.Command{
		Use:     "init --dir DIR --deployment NAME",
		GroupID: "run",
		Short:   "make the folder of a new deployment",
		Long: `Makes a folder with a keeper of its own (an encrypted keystore and a ledger) and
a draft of the charter, DIR/charter.yaml, with the keeper's keys filled in.

Next: write people, groups, keys and policies into the charter, have every
founder sign it ("greatseal charter sign"), found ("greatseal charter found"),
and start ("greatseal server"). docs/operate/found.md is the ceremony step by
step, with an HSM and PostgreSQL.`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if name == "" {
				return fail(exitUsage, "greatseal init --dir "+dir+" --deployment example", "--deployment is missing")
			}
			if err := statement.CheckName("deployment", name); err != nil {
				return fail(exitUsage, "", "%v", err)
			}
			p := place{dir}
			if _, err := os.Stat(p.path("charter.yaml")); err == nil {
				return fail(exitFailed, "choose another --dir", "%s holds a deployment already", dir)
			}
			st, err := p.initKeeper(cmd.Context(), a.logger())
			if err != nil {
				return err
			}
			draft := draftCharter(name, base64.StdEncoding.EncodeToString(st.ReceiptKey), base64.StdEncoding.EncodeToString(st.LogKey), a.Now())
			if err := file.WriteFile(p.path("charter.yaml"), draft, 0o600); err != nil {
				return err
			}
			return a.print(map[string]string{"dir": dir, "charter": p.path("charter.yaml")}, func(w io.Writer) {
				fmt.Fprintf(w, "%s is made. Next:\n  edit %s\n  greatseal charter check %[2]s\n  greatseal charter sign %[2]s --out %[3]s     (every founder)\n  greatseal charter found %[3]s --dir %[1]s\n  greatseal server --config %[4]s\n",
					dir, p.path("charter.yaml"), p.path("charter-v1.json"), p.path("server.yaml"))
			})
		},
	}
	c.Flags().StringVar(&dir, "dir", "greatseal", "folder to make")
	c.Flags().StringVar(&name, "deployment", "", "name of the deployment, for good: a-z 0-9 . _ -")
	return c
}

func (a *App) charterFound() *cobra.Command {
	var dir, listen string
	c := &cobra.Command{
		Use:   "found CHARTER.json --dir DIR",
		Short: "pin a charter and put it into force in the keeper of DIR",
		Long: `Pins the charter's ID in DIR/server.yaml and installs it in the keeper inside.
For a keeper of its own, "greatseal-keeper found" does the same.`,
		Args: exactly("CHARTER.json"),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := readSmall(args[0])
			if err != nil {
				return err
			}
			p := place{dir}
			root, err := p.found(cmd.Context(), bytes.TrimSpace(b), a.logger())
			if err != nil {
				return err
			}
			// What the operator has written into it since the first time stays.
			if have, err := config.ReadServer(p.path("server.yaml")); err == nil && have.Root == root {
				a.note("%s pins this charter already and stays as it is", p.path("server.yaml"))
				listen = ""
			} else if !errors.Is(err, os.ErrNotExist) {
				return fail(exitFailed, "move it away and found again", "%s is there and does not pin this charter", p.path("server.yaml"))
			} else if err := config.Write(p.path("server.yaml"), p.server(root, listen)); err != nil {
				return err
			}
			return a.print(map[string]string{"root": root.String(), "server": p.path("server.yaml")}, func(w io.Writer) {
				fmt.Fprintf(w, "charter %s is in force\ngreatseal server --config %s\n", root, p.path("server.yaml"))
				url := "http://" + listen
				if listen == "" {
					return
				}
				if strings.HasPrefix(listen, "unix:") {
					url = listen
				}
				fmt.Fprintf(w, `
Then each person writes ~/.config/greatseal/client.yaml (docs/operate/clients.md):
  server: %s
  name: NAME
  identity: /home/NAME/.ssh/id_ed25519.pub
  root: %s
`, url, root)
			})
		},
	}
	c.Flags().StringVar(&dir, "dir", "greatseal", "folder of the deployment")
	c.Flags().StringVar(&listen, "listen", "127.0.0.1:7788", "address that the server will listen on")
	return c
}

// draftCharter is a charter to edit. It does not pass the check before the
// founders have put their keys in.
func draftCharter(name, receipts, log string, now time.Time) []byte {
	return fmt.Appendf(nil, `# The charter of %[1]s. "greatseal charter check" says whether it can work.
# Names are a-z 0-9 . _ -; a person counts once in a whole quorum.
deployment: %[1]s
version: 1
created: %[4]s

keeper:
  receipts: %[2]s
  log: %[1]s/log
  logKey: %[3]s

people:
  alice:
    name: Alice Example
    email: alice@example.com
    credentials:
      - ssh: ssh-ed25519 AAAA… # the line of ~/.ssh/id_ed25519.pub
  bob:
    credentials:
      - ssh: ssh-ed25519 AAAA…
  carol:
    credentials:
      - ssh: ssh-ed25519 AAAA…

groups:
  officers: {members: [alice, bob, carol]}
  release: {members: [alice, bob]}
  security: {members: [carol]}

keys:
  release:
    uri: soft:release # or pkcs11:token=…;object=…
    algorithm: rsa-3072

policies:
  windows:
    description: programs for Windows
    key: release
    formats: [pe]
    rule:
      requesters: [release]
      quorum:
        need: 2
        of:
          - group: release
          - group: security
      veto: [security]
      expires: 72h

commands:
  charter.replace:
    requesters: [officers]
    quorum: {group: officers, need: 2}
  key.generate:
    requesters: [officers]
    quorum: {group: officers, need: 2}
  key.import-certificate:
    requesters: [officers]
    quorum: {group: officers, need: 1}
  key.suspend: # stopping is easy
    requesters: [officers]
    unattended: true
  key.resume: # resuming is not
    requesters: [officers]
    quorum: {group: officers, need: 2}
  key.destroy:
    requesters: [officers]
    quorum: {group: officers, need: 2}
`, name, receipts, log, statement.Seconds(now).Format(time.RFC3339))
}

// logger writes what happens to standard error.
func (a *App) logger() *slog.Logger {
	level := slog.LevelWarn
	if a.verbose {
		level = slog.LevelInfo
	}
	return slog.New(slog.NewTextHandler(a.Err, &slog.HandlerOptions{Level: level}))
}
