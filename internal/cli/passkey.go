package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential/attestation"
	"github.com/greatseal-io/greatseal/internal/api/wire"
	"github.com/greatseal-io/greatseal/internal/registration"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/statement"
)

func (a *App) passkeyCommand() *cobra.Command {
	c := &cobra.Command{Use: "passkey", GroupID: "rule", Short: "bring passkeys that people have registered into the charter",
		Long: `People register passkeys in the console. A registered passkey signs nothing: it is a
credential when the charter in force has it, which is a charter.replace like any
other. docs/operate/passkeys.md says what to compare before one is proposed.`}
	c.AddCommand(a.passkeyList(), a.passkeyShow(), a.passkeyPropose(), a.passkeyRefuse())
	return c
}

// registered is a registration as the server has it, for package registration.
func registered(w *wire.Registration) *store.Registration {
	return &store.Registration{
		ID: w.ID, Person: w.Person, Credential: w.Credential, CredentialID: w.CredentialID, Attestation: w.Attestation, Transports: w.Transports, Label: w.Label,
		Replaces: w.Replaces, State: store.RegistrationState(w.State), Detail: w.Detail, Via: w.Via, Issuer: w.Issuer, Subject: w.Subject, Created: w.Created, Updated: w.Updated, Expires: w.Expires,
	}
}

// shownRegistration is a registration and what this program has found out about it.
type shownRegistration struct {
	wire.Registration
	Fingerprint string `json:"fingerprint,omitzero"`
	Model       string `json:"model,omitzero"`
	Format      string `json:"format,omitzero"`
	Result      string `json:"result,omitzero"` // of the attestation
	Why         string `json:"why,omitzero"`
	Synced      bool   `json:"backupEligible"`
	BackedUp    bool   `json:"backedUp"`
	Refused     string `json:"refused,omitzero"` // why no charter can have it
}

// look recomputes what a registration says. Nothing of the server's is believed.
func look(head *charter.Charter, ref statement.CharterRef, w *wire.Registration, replaces string, a *App) *shownRegistration {
	s := &shownRegistration{Registration: *w}
	r := registered(w)
	reg, err := registration.Look(head, r)
	if err != nil {
		s.Refused = err.Error()
		return s
	}
	s.Fingerprint, s.Model, s.Format = attestation.Fingerprint(reg.Credential()), reg.AAGUID().Describe(), reg.Format()
	s.Result, s.Why, s.Synced, s.BackedUp = string(reg.Result()), reg.Why(), reg.BackupEligible(), reg.BackedUp()
	if r.State.Waiting() && !registration.Has(head, r.Person, r.Credential) {
		if _, err := registration.Draft(head, ref, r, replaces, a.Now()); err != nil {
			s.Refused = err.Error()
		}
	}
	return s
}

// registration finds one by its ID or the beginning of it.
func (l *link) registration(ctx context.Context, id string) (*wire.Registration, error) {
	if len(id) == 16 {
		w, err := l.Registration(ctx, id)
		if err == nil && w.ID != id {
			err = fail(exitUnverified, "tell the server's administrator", "the server answers with another registration (%s)", w.ID)
		}
		return w, err
	}
	list, err := l.Registrations(ctx, "", "")
	if err != nil {
		return nil, err
	}
	var found *wire.Registration
	for i := range list {
		if strings.HasPrefix(list[i].ID, id) {
			if found != nil {
				return nil, fail(exitUsage, "give more digits", "several registrations begin with %s", id)
			}
			found = &list[i]
		}
	}
	if found == nil || len(id) < 4 {
		return nil, fail(exitFailed, "greatseal passkey list", "there is no registration %q", id)
	}
	return found, nil
}

func (a *App) passkeyList() *cobra.Command {
	var all bool
	var person string
	c := &cobra.Command{Use: "list", Short: "list registered passkeys that wait", Args: exactly(),
		Long: `Officers see everybody's, others their own. What is shown of a model is recomputed
from the bytes of the registration, with the roots of the charter in force.`,
		RunE: a.inside(func(cmd *cobra.Command, l *link, _ []string) error {
			ctx := cmd.Context()
			chain, err := l.charters(ctx)
			if err != nil {
				return err
			}
			head, ref := chain.Head()
			states := string(store.RegistrationOpen) + "," + string(store.RegistrationProposed)
			if all {
				states = ""
			}
			list, err := l.Registrations(ctx, person, states)
			if err != nil {
				return err
			}
			out := []*shownRegistration{}
			for i := range list {
				out = append(out, look(head, ref, &list[i], list[i].Replaces, a))
			}
			return a.print(map[string]any{"registrations": out}, func(w io.Writer) {
				if len(out) == 0 {
					fmt.Fprintln(w, "none")
					return
				}
				t := &table{head: []string{"ID", "PERSON", "STATE", "MODEL", "ATTESTED", "LABEL", "SINCE"}}
				for _, r := range out {
					t.row(r.ID, r.Person, r.State, orText(r.Model, "?"), orText(r.Result, "refused"), r.Label, when(r.Created))
				}
				t.write(w)
			})
		})}
	c.Flags().BoolVar(&all, "all", false, "those that are over, too")
	c.Flags().StringVar(&person, "person", "", "of one person")
	return c
}

func (a *App) passkeyShow() *cobra.Command {
	return &cobra.Command{Use: "show ID", Short: "show a registered passkey, recomputed", Args: exactly("ID"),
		Long: `Prints the fingerprint, which its owner reads out to you by another way than this
server, and what its maker attests. Both are computed here, from the bytes that the
browser returned: a server that shows another passkey shows another fingerprint.`,
		RunE: a.inside(func(cmd *cobra.Command, l *link, args []string) error {
			ctx := cmd.Context()
			chain, err := l.charters(ctx)
			if err != nil {
				return err
			}
			head, ref := chain.Head()
			w, err := l.registration(ctx, args[0])
			if err != nil {
				return err
			}
			s := look(head, ref, w, w.Replaces, a)
			return a.print(s, func(w io.Writer) { printRegistration(w, s) })
		})}
}

func printRegistration(w io.Writer, s *shownRegistration) {
	fmt.Fprintf(w, "%s  %s\n", s.ID, printable(s.State))
	field(w, "person", s.Person)
	if s.Label != "" {
		field(w, "label", s.Label+" (claimed)")
	}
	if s.Fingerprint != "" {
		field(w, "fingerprint", s.Fingerprint)
		field(w, "model", modelLine(s))
		field(w, "attestation", strings.Trim(s.Result+" ("+s.Format+"): "+s.Why, ": "))
		backup := "bound to its device"
		if s.Synced {
			backup = "may be copied to other devices"
			if s.BackedUp {
				backup += ", and has been"
			}
		}
		field(w, "backup", backup)
	}
	if len(s.Transports) > 0 {
		field(w, "transports", strings.Join(s.Transports, ", ")+" (claimed)")
	}
	if s.Replaces != "" {
		field(w, "replaces", s.Replaces)
	}
	field(w, "registered", when(s.Created)+", signed in by "+strings.TrimSpace(s.Via+" "+s.Issuer+" "+s.Subject)+" (the server's word)")
	if s.Request != "" {
		field(w, "request", short(s.Request))
	}
	if s.Detail != "" {
		field(w, "detail", s.Detail)
	}
	if s.Refused != "" {
		field(w, "refused", s.Refused)
	}
}

// modelLine says how much of the model is known.
func modelLine(s *shownRegistration) string {
	if s.Result == string(attestation.Model) {
		return s.Model
	}
	return s.Model + " (claimed)"
}

func (a *App) passkeyPropose() *cobra.Command {
	k := &asking{}
	var replaces, fingerprint string
	var yes bool
	c := &cobra.Command{
		Use:   "propose ID",
		Short: "ask for a charter with a registered passkey",
		Long: `Makes the charter in force with the passkey added to its person, or in the place of
another credential of that person's, and asks for it; it comes into force when the
quorum of charter.replace has endorsed it. The charter is made here, from the chain
that was checked from the pinned root.

Have its owner read the fingerprint to you first, face to face or by phone, and give
it with --fingerprint: nothing is proposed for another one.`,
		Args: exactly("ID"),
		RunE: a.inside(func(cmd *cobra.Command, l *link, args []string) error {
			ctx := cmd.Context()
			chain, err := l.charters(ctx)
			if err != nil {
				return err
			}
			head, ref := chain.Head()
			w, err := l.registration(ctx, args[0])
			if err != nil {
				return err
			}
			old := cmp.Or(replaces, w.Replaces)
			s := look(head, ref, w, old, a)
			if s.Refused != "" {
				return fail(exitRefused, "greatseal passkey show "+w.ID, "%s", s.Refused)
			}
			if fingerprint != "" && !sameFingerprint(fingerprint, s.Fingerprint) {
				return fail(exitUnverified, "have its owner register again, and ask who has changed it", "the fingerprint is %s: this is not the passkey that was read to you", s.Fingerprint)
			}
			r := registered(w)
			if registration.Has(head, r.Person, r.Credential) {
				return fail(exitFailed, "greatseal charter show "+r.Person, "the charter in force has it already")
			}
			if !r.State.Waiting() {
				return fail(exitFailed, "have it registered again", "the registration is %s", r.State)
			}
			next, err := registration.Draft(head, ref, r, old, a.Now())
			if err != nil {
				return fail(exitRefused, "greatseal passkey show "+w.ID, "%v", err)
			}
			d := charter.Diff(head, next)
			if !a.json {
				printRegistration(a.Err, s)
				printDiff(a.Err, d)
			}
			if fingerprint == "" && !yes {
				if err := a.confirm(fmt.Sprintf("has %s read this fingerprint to you, and is it asked for", printable(w.Person))); err != nil {
					return err
				}
			}
			payload, err := charter.Encode(next)
			if err != nil {
				return fail(exitRefused, "greatseal charter check", "%v", err)
			}
			if open, err := l.proposed(ctx, next); err != nil {
				return err
			} else if open != nil {
				payload = open
			}
			v, rc, err := l.ask(ctx, statement.Command{Name: statement.CharterReplace, Charter: &statement.CharterArgs{Statement: payload}}, k)
			if err != nil {
				return err
			}
			type result struct {
				Request     string               `json:"request"`
				Attached    bool                 `json:"attached,omitzero"` // to a request that was open already
				State       store.State          `json:"state"`
				Awaits      []string             `json:"awaits,omitzero"`
				Charter     statement.CharterRef `json:"charter"` // proposed
				Fingerprint string               `json:"fingerprint"`
				Changes     []charter.Change     `json:"changes"`
			}
			return a.print(result{v.ID, v.Attached, v.State, v.Awaits, next.Ref(payload), s.Fingerprint, d}, func(w io.Writer) {
				if rc == nil {
					fmt.Fprintf(w, "request %s waits for %s\n", short(v.ID), waitsFor(v))
					return
				}
				fmt.Fprintf(w, "charter %d is in force\n%s\n", rc.Next.Version, rc.Next.ID)
			})
		}),
	}
	k.flags(c)
	c.Flags().StringVar(&replaces, "replaces", "", "ID of the credential that goes (default: the one that its person named, if any)")
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask whether the fingerprint was compared")
	c.Flags().StringVar(&fingerprint, "fingerprint", "", "the fingerprint as its owner reads it; spaces and case do not matter")
	return c
}

// sameFingerprint compares fingerprints as people write them down.
func sameFingerprint(a, b string) bool {
	clean := func(s string) string {
		return strings.ToUpper(strings.Join(slices.Collect(strings.FieldsFuncSeq(s, func(r rune) bool { return r == ' ' || r == '-' })), ""))
	}
	return clean(a) == clean(b)
}

func (a *App) passkeyRefuse() *cobra.Command {
	var reason string
	c := &cobra.Command{Use: "refuse ID", Short: "refuse a registered passkey, or withdraw one's own", Args: exactly("ID"),
		Long: `A request that carries it goes on: whoever wants that ended disapproves it.`,
		RunE: a.inside(func(cmd *cobra.Command, l *link, args []string) error {
			w, err := l.registration(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if w, err = l.RefuseRegistration(cmd.Context(), w.ID, reason); err != nil {
				return err
			}
			return a.print(w, func(out io.Writer) { fmt.Fprintf(out, "%s is %s\n", w.ID, printable(w.State)) })
		})}
	c.Flags().StringVar(&reason, "reason", "", "why, on one line")
	return c
}
