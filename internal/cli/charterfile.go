package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/format/file"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/statement"
)

// readCharter reads a charter from YAML, or from the envelope of a founding one.
// payload is its statement.
func readCharter(path string) (c *charter.Charter, payload []byte, env *statement.Envelope, err error) {
	b, err := readSmall(path)
	if err != nil {
		return nil, nil, nil, err
	}
	if bytes.HasPrefix(bytes.TrimSpace(b), []byte("{")) {
		if env, err = statement.DecodeEnvelope(bytes.TrimSpace(b)); err != nil {
			return nil, nil, nil, fmt.Errorf("%s: %w", path, err)
		}
		c, err = charter.Decode(env.Payload)
		return c, env.Payload, env, err
	}
	if c, err = charter.ParseYAML(b); err != nil {
		return nil, nil, nil, fail(exitFailed, "greatseal charter check "+path, "%s: %v", path, err)
	}
	payload, err = charter.Encode(c)
	return c, payload, nil, err
}

// keyGap stands in the charter that init writes where people's keys are to stand.
const keyGap = "ssh-ed25519 AAAA…"

func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	const limit = 16 << 20
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && len(b) > limit {
		err = fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return b, err
}

func (a *App) charterCheck() *cobra.Command {
	return &cobra.Command{
		Use:   "check CHARTER.yaml",
		Short: "say whether a charter can work, and what in it looks unintended",
		Long: `Refuses a charter that cannot be satisfied, or is satisfied by nobody's doing,
and says where and why. Warnings are things that a charter may say and probably
does not mean.`,
		Args: exactly("CHARTER.yaml"),
		RunE: func(_ *cobra.Command, args []string) error {
			b, err := readSmall(args[0])
			if err != nil {
				return err
			}
			c, err := charter.ParseYAML(b)
			type report struct {
				OK       bool              `json:"ok"`
				Version  uint64            `json:"version,omitzero"`
				ID       string            `json:"id,omitzero"`
				Problems []charter.Problem `json:"problems,omitzero"`
				Error    string            `json:"error,omitzero"`
				Warnings []charter.Warning `json:"warnings,omitzero"`
				Records  []lintedBy        `json:"records,omitzero"` // of the configurations of records
			}
			r := report{OK: err == nil}
			var bad *charter.CheckError
			switch {
			case errors.As(err, &bad):
				r.Problems = bad.Problems
			case err != nil:
				r.Error = err.Error()
			default:
				payload, err := charter.Encode(c)
				if err != nil {
					return err
				}
				r.Version, r.ID, r.Warnings = c.Version, charter.ID(payload).String(), charter.Lint(c)
				r.Records = lintRecords(c, nil)
			}
			perr := a.print(r, func(w io.Writer) {
				for _, p := range r.Problems {
					fmt.Fprintf(w, "refused   %s\n", p)
				}
				if r.Error != "" {
					fmt.Fprintf(w, "refused   %s\n", r.Error)
				}
				for _, x := range r.Warnings {
					fmt.Fprintf(w, "warning   %s\n", x)
				}
				for _, x := range r.Records {
					fmt.Fprintf(w, "warning   %s\n", printable(x.String()))
				}
				if r.OK {
					fmt.Fprintf(w, "version %d can work; its ID is\n%s\n", r.Version, r.ID)
				}
			})
			if perr != nil || r.OK {
				return perr
			}
			hint := "mend what is listed and check again"
			if bytes.Contains(b, []byte(keyGap)) {
				hint = "where " + keyGap + " stands, put the public key of the person (ssh-keygen makes one: ~/.ssh/id_ed25519.pub), and check again"
			}
			return fail(exitRefused, hint, "%s cannot be a charter", args[0])
		},
	}
}

func (a *App) charterID() *cobra.Command {
	return &cobra.Command{
		Use:   "id CHARTER.yaml|CHARTER.json",
		Short: "print the ID by which a charter is pinned",
		Args:  exactly("CHARTER.yaml|CHARTER.json"),
		RunE: func(_ *cobra.Command, args []string) error {
			c, payload, _, err := readCharter(args[0])
			if err != nil {
				return err
			}
			id := charter.ID(payload)
			return a.print(map[string]any{"id": id.String(), "version": c.Version, "deployment": c.Deployment}, func(w io.Writer) { fmt.Fprintln(w, id) })
		},
	}
}

func (a *App) charterSign() *cobra.Command {
	var out string
	c := &cobra.Command{
		Use:   "sign CHARTER.yaml --out CHARTER.json",
		Short: "sign version 1 of a charter, as one of its founders",
		Long: `Adds the signature of one founder to the envelope of version 1. Each founder
compares the ID that is printed with the others', over another channel, and
signs; when the founders together satisfy the quorum of charter.replace, the
envelope founds the deployment ("greatseal charter found", or
"greatseal-keeper found").`,
		Args: exactly("CHARTER.yaml"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.signCharter(cmd, args[0], out)
		},
	}
	c.Flags().StringVarP(&out, "out", "o", "", "envelope to make, or to add the signature to")
	return c
}

func (a *App) signCharter(cmd *cobra.Command, path, out string) error {
	if out == "" {
		return fail(exitUsage, "greatseal charter sign "+path+" --out charter-v1.json", "--out is missing")
	}
	doc, payload, env, err := readCharter(path)
	if err != nil {
		return err
	}
	if doc.Version != 1 {
		return fail(exitUsage, "greatseal charter propose "+path, "version %d is not signed by founders: it is proposed", doc.Version)
	}
	if env == nil {
		env = &statement.Envelope{Payload: payload}
	}
	if b, err := readSmall(out); err == nil {
		old, err := statement.DecodeEnvelope(bytes.TrimSpace(b))
		if err != nil {
			return fmt.Errorf("%s: %w", out, err)
		}
		if !bytes.Equal(old.Payload, payload) {
			return fail(exitFailed, "agree on one file; greatseal charter id shows which is which", "%s is another charter's", out)
		}
		env = old
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	cfg, err := a.client()
	if err != nil {
		return err
	}
	s, err := a.signer(cmd.Context(), cfg, nil)
	if err != nil {
		return err
	}
	who, ok := holder(doc, s.Credential().ID())
	if !ok {
		return fail(exitFailed, "name the key with --identity", "%s is nobody's in this charter", s.Credential().Describe())
	}
	sig, err := s.Sign(cmd.Context(), credential.Statement, statement.PAE(payload))
	if err != nil {
		return err
	}
	env.Signatures = slices.DeleteFunc(env.Signatures, func(x statement.Signature) bool { return x.KeyID == string(s.Credential().ID()) })
	env.Signatures = append(env.Signatures, statement.Signature{KeyID: string(s.Credential().ID()), Sig: sig})
	b, err := env.Encode()
	if err != nil {
		return err
	}
	if err := file.WriteFile(out, append(b, '\n'), 0o644); err != nil {
		return err
	}
	_, ferr := quorum.NewChain(nil, b)
	missing := ""
	if ferr != nil {
		missing = ferr.Error()
	}
	id := charter.ID(payload)
	return a.print(map[string]any{"id": id.String(), "signed": who, "signatures": len(env.Signatures), "founds": ferr == nil, "missing": missing}, func(w io.Writer) {
		fmt.Fprintf(w, "%s has signed charter\n%s\n", who, id)
		if ferr == nil {
			fmt.Fprintf(w, "%d signatures: it can found the deployment\n", len(env.Signatures))
		} else {
			fmt.Fprintf(w, "not yet enough to found the deployment: %s\n", missing)
		}
	})
}

// holder finds whose credential id is.
func holder(c *charter.Charter, id credential.ID) (string, bool) {
	for name, p := range c.People {
		if slices.Contains(ids(p.Credentials), id) {
			return name, true
		}
	}
	for name, m := range c.Machines {
		if slices.Contains(ids(m.Credentials), id) {
			return name, true
		}
	}
	return "", false
}

// credentialsOf are the credentials of a person or machine.
func credentialsOf(c *charter.Charter, name string) []charter.Credential {
	if p, ok := c.People[name]; ok {
		return p.Credentials
	}
	return c.Machines[name].Credentials
}
