package cli

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/greatseal-io/greatseal/format/file"
	"github.com/greatseal-io/greatseal/internal/api/client"
	"github.com/greatseal-io/greatseal/internal/api/wire"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
)

func (a *App) keyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "key",
		GroupID: "rule",
		Short:   "generate keys, give them certificates, stop and resume them",
		Long: `Keys stand in the charter and live in the keeper. Whatever changes one is a request
like any other: it waits for the quorum that the charter names for the command.`,
	}
	c.AddCommand(a.keyList(), a.keyShow(), a.keyGenerate(), a.keyCSR(), a.keyImport(), a.keyTrialCA(),
		a.keyState("suspend", statement.KeySuspend, "stop the use of a key; one officer is enough where the charter says so"),
		a.keyState("resume", statement.KeyResume, "let a suspended key sign again"),
		a.keyState("destroy", statement.KeyDestroy, "destroy a key for good"))
	return c
}

// shownKey is a key as it is shown.
type shownKey struct {
	wire.Key
	Certificates []string `json:"certificates,omitzero"` // a line each
}

func shownKeys(list []wire.Key) []shownKey {
	out := []shownKey{}
	for _, k := range list {
		s := shownKey{Key: k}
		for _, d := range k.Chain {
			s.Certificates = append(s.Certificates, certificateLine(d))
		}
		out = append(out, s)
	}
	return out
}

func (a *App) keyList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "list the keys of the charter and their state",
		Args:  exactly(),
		RunE: a.inside(func(cmd *cobra.Command, l *link, _ []string) error {
			keys, err := l.Keys(cmd.Context())
			if err != nil {
				return err
			}
			list := shownKeys(keys)
			return a.print(list, func(w io.Writer) {
				t := &table{head: []string{"KEY", "STATE", "ALGORITHM", "CERTIFICATE", "HEALTH"}}
				for _, k := range list {
					cert := "none"
					if len(k.Certificates) > 0 {
						cert = k.Certificates[0]
					}
					t.row(k.Name, k.State, k.Algorithm, cert, orText(k.Health, "ok"))
				}
				t.write(w)
			})
		}),
	}
}

// key finds one key.
func (l *link) key(cmd *cobra.Command, name string) (*shownKey, error) {
	keys, err := l.Keys(cmd.Context())
	if err != nil {
		return nil, err
	}
	var have []string
	for _, k := range shownKeys(keys) {
		if k.Name == name {
			return &k, nil
		}
		have = append(have, k.Name)
	}
	return nil, fail(exitFailed, orText(suggest(name, have), "greatseal key list"), "the charter has no key %q", name)
}

func (a *App) keyShow() *cobra.Command {
	var asPEM bool
	var form string
	c := &cobra.Command{
		Use:   "show KEY",
		Short: "show a key, its public half and its certificates",
		Args:  exactly("KEY"),
		RunE: a.inside(func(cmd *cobra.Command, l *link, args []string) error {
			k, err := l.key(cmd, args[0])
			if err != nil {
				return err
			}
			if asPEM {
				form = "pem"
			}
			if form != "" && !slices.Contains(keyForms, form) {
				return fail(exitUsage, "--form "+strings.Join(keyForms, ", "), "there is no form %q", form)
			}
			if form != "" && !a.json {
				if len(k.Chain) == 0 && len(k.PublicKey) == 0 {
					return fail(exitFailed, "greatseal key generate "+k.Name, "key %s has not been generated", k.Name)
				}
				return writeKey(a.Out, k, form)
			}
			return a.print(k, func(w io.Writer) {
				fmt.Fprintln(w, printable(k.Name))
				field(w, "state", k.State)
				field(w, "uri", k.URI)
				field(w, "algorithm", k.Algorithm+", "+k.Scheme)
				field(w, "health", orText(k.Health, "ok"))
				for _, c := range k.Certificates {
					field(w, "certificate", c)
				}
			})
		}),
	}
	c.Flags().BoolVar(&asPEM, "pem", false, "print its certificates in PEM, or the public key where there is none")
	c.Flags().StringVar(&form, "form", "", "print its public half as others read it: "+strings.Join(keyForms, ", "))
	c.MarkFlagsMutuallyExclusive("pem", "form")
	return c
}

func writeKeyPEM(w io.Writer, k *shownKey) error {
	for _, d := range k.Chain {
		if err := pem.Encode(w, &pem.Block{Type: "CERTIFICATE", Bytes: d}); err != nil {
			return err
		}
	}
	if len(k.Chain) > 0 {
		return nil
	}
	return pem.Encode(w, &pem.Block{Type: "PUBLIC KEY", Bytes: k.PublicKey})
}

// keyResult is the document of the commands that change keys.
type keyResult struct {
	Request string      `json:"request"`
	State   store.State `json:"state"` // of the request
	Awaits  []string    `json:"awaits,omitzero"`
	Key     string      `json:"key"`
	Is      string      `json:"is,omitzero"` // state of the key, once it is executed
	Receipt uint64      `json:"receipt,omitzero"`
}

// change asks for a command about a key.
func (a *App) change(cmd *cobra.Command, c statement.Command, k *asking) error {
	l, err := a.enter(cmd.Context())
	if err != nil {
		return err
	}
	defer l.Close()
	chain, err := l.charters(cmd.Context())
	if err != nil {
		return err
	}
	head, _ := chain.Head()
	if _, ok := head.Keys[c.KeyName()]; !ok {
		return fail(exitFailed, orText(suggest(c.KeyName(), sortedNames(head.Keys)), "keys stand in the charter: greatseal charter propose"), "the charter has no key %q", c.KeyName())
	}
	v, rc, err := l.ask(cmd.Context(), c, k)
	if err != nil {
		return err
	}
	r := keyResult{Request: v.ID, State: v.State, Awaits: v.Awaits, Key: c.KeyName(), Receipt: v.Receipt}
	if rc != nil {
		r.Is, r.Receipt = rc.Key.State, rc.Number
	}
	return a.print(r, func(w io.Writer) { printKeyResult(w, v, r, c) })
}

func printKeyResult(w io.Writer, v *server.View, r keyResult, c statement.Command) {
	if r.Is == "" {
		fmt.Fprintf(w, "request %s waits for %s\n", short(r.Request), waitsFor(v))
		return
	}
	fmt.Fprintf(w, "key %s is %s\n", printable(r.Key), r.Is)
	if c.Generate != nil && c.Generate.SelfSignedDays == 0 {
		fmt.Fprintf(w, "greatseal key csr %s > %[1]s.csr\n", printable(r.Key))
	}
}

func (a *App) keyGenerate() *cobra.Command {
	k := &asking{}
	var subject string
	var days int
	c := &cobra.Command{
		Use:   "generate KEY --subject DN",
		Short: "generate a key that the charter declares",
		Long: `The key is made where its URI says and does not leave it. The receipt carries a
certificate request for the subject ("greatseal key csr").`,
		Example: `  greatseal key generate release --subject "CN=Example Ltd,O=Example Ltd,C=CH"`,
		Args:    exactly("KEY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if subject == "" {
				return fail(exitUsage, cmd.CommandPath()+" "+args[0]+` --subject "CN=Example Ltd,O=Example Ltd"`, "--subject is missing")
			}
			return a.change(cmd, statement.Command{Name: statement.KeyGenerate, Generate: &statement.GenerateArgs{Key: args[0], Subject: subject, SelfSignedDays: days}}, k)
		},
	}
	c.Flags().StringVar(&subject, "subject", "", `subject of the certificate: "CN=…,O=…,C=…" (RFC 4514)`)
	c.Flags().IntVar(&days, "self-signed", 0, "also make a self-signed certificate for so many days, for trying out")
	k.flags(c)
	return c
}

func (a *App) keyCSR() *cobra.Command {
	var out string
	c := &cobra.Command{
		Use:   "csr KEY",
		Short: "print the certificate request of a key, for a certificate authority",
		Long:  `Takes the certificate request (PKCS #10) from the keeper's signed receipt of key.generate and checks both.`,
		Args:  exactly("KEY"),
		RunE: a.inside(func(cmd *cobra.Command, l *link, args []string) error {
			ctx := cmd.Context()
			page, err := l.Requests(ctx, client.Filter{State: []store.State{store.Executed}, Command: string(statement.KeyGenerate), Key: args[0], Limit: 1})
			if err != nil {
				return err
			}
			if len(page.Requests) == 0 {
				return fail(exitFailed, "greatseal key generate "+args[0], "key %s has not been generated", args[0])
			}
			rc, _, err := l.receipt(ctx, &page.Requests[0])
			if err != nil {
				return err
			}
			if rc.Key == nil || rc.Key.Key != args[0] || len(rc.Key.Request) == 0 {
				return fail(exitUnverified, "tell the server's administrator", "the receipt carries no certificate request of key %s", args[0])
			}
			req, err := x509.ParseCertificateRequest(rc.Key.Request)
			if err == nil {
				err = req.CheckSignature()
			}
			if err != nil {
				return unverified("tell the server's administrator", err)
			}
			text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: rc.Key.Request})
			if out != "" {
				if err := file.WriteFile(out, text, 0o644); err != nil {
					return err
				}
			}
			return a.print(map[string]string{"key": args[0], "subject": req.Subject.String(), "csr": string(text)}, func(w io.Writer) {
				if out != "" {
					fmt.Fprintln(w, printable(out))
					return
				}
				fmt.Fprintf(w, "%s", text)
			})
		}),
	}
	c.Flags().StringVarP(&out, "out", "o", "", "file (default: standard output)")
	return c
}

func (a *App) keyImport() *cobra.Command {
	k := &asking{}
	c := &cobra.Command{
		Use:   "import-certificate KEY CHAIN.pem",
		Short: "give a key its certificate",
		Long:  `CHAIN.pem holds the certificate of the key, then those of its issuers.`,
		Args:  exactly("KEY", "CHAIN.pem"),
		RunE: func(cmd *cobra.Command, args []string) error {
			certs, err := readCertificates(args[1])
			if err != nil {
				return err
			}
			x := &statement.CertificateArgs{Key: args[0]}
			for _, c := range certs {
				x.Chain = append(x.Chain, c.Raw)
			}
			return a.change(cmd, statement.Command{Name: statement.KeyImportCert, Certificate: x}, k)
		},
	}
	k.flags(c)
	return c
}

func (a *App) keyState(name string, cmd statement.CommandName, what string) *cobra.Command {
	k := &asking{}
	var yes bool
	c := &cobra.Command{
		Use:   name + " KEY",
		Short: what,
		Args:  exactly("KEY"),
		RunE: func(c *cobra.Command, args []string) error {
			if cmd == statement.KeyDestroy && !yes {
				if err := a.confirm("ask to destroy key " + args[0] + " for good"); err != nil {
					return err
				}
			}
			return a.change(c, statement.Command{Name: cmd, Key: &statement.KeyArgs{Key: args[0]}}, k)
		},
	}
	k.flags(c)
	if cmd == statement.KeyDestroy {
		c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
		c.Long = strings.ToUpper(what[:1]) + what[1:] + ": nothing is signed with it any more, and nothing brings it back. What it signed stays valid."
	}
	return c
}
