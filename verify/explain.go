package verify

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// Explain tells a person what was found, a line a fact. Texts of others are shown
// without what could command a terminal.
func (v *Verified) Explain(w io.Writer) error {
	a := v.approval
	if a == nil {
		_, err := io.WriteString(w, "nothing was verified\n")
		return err
	}
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	req, rc := a.Request(), a.receipt
	line("%s", shown(a.item.Name))
	var keys []string
	for _, k := range rc.Signed.Keys() {
		keys = append(keys, fmt.Sprintf("key %s (%s)", k.Key, k.Scheme))
	}
	line("  signed     %s with %s, format %s, %s %x", stamp(rc.Time), strings.Join(keys, " and "), a.plan.Format, a.plan.Digest, a.plan.Content)
	if s := v.report.Signatures[v.signature]; s.Subject != "" {
		line("  as         %s", shown(s.Subject))
	}
	if v.evidence {
		line("  trust      by the charter alone: whether a platform trusts the certificate was not judged")
	} else {
		line("  trust      by the roots or keys that were given, and by the charter")
	}
	line("  requested  by %s", a.requester.show())
	if req.Reason != "" {
		line("  reason     %s", shown(req.Reason))
	}
	for _, c := range req.Origin {
		line("  claimed    %s = %s", shown(c.Name), shown(c.Value))
	}
	line("  policy     %s of %s, charter %d (%s)", rc.Signed.Policy, rc.Deployment, a.ref.Version, a.ref.ID)
	if len(a.endorsers) == 0 {
		line("  endorsed   by nobody: the policy is unattended")
	}
	for _, e := range a.endorsers {
		line("  endorsed   by %s for %s, %s", e.show(), strings.Join(e.For, ", "), stamp(e.At))
		if e.Comment != "" {
			line("             %s", shown(e.Comment))
		}
		for _, f := range e.Findings {
			line("             found %s = %s", shown(f.Name), shown(f.Value))
		}
	}
	line("  receipt    %d of the keeper (%s)", rc.Number, a.receiptID)
	line("  logged     %s, entry %d of %d", a.origin, a.logIndex, a.logSize)
	line("  root       %s", a.root)
	_, err := io.WriteString(w, b.String())
	return err
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// show names a party: "alice (Alice Example), ED25519 SHA256:…".
func (p Party) show() string {
	s := p.Name
	switch {
	case p.Machine && p.Person != "":
		s += " (machine of " + p.Person + ")"
	case p.Machine:
		s += " (machine)"
	case p.Person != "":
		s += " (" + shown(p.Person) + ")"
	}
	s += ", " + shown(p.Credential)
	if p.Hardware {
		s += ", in hardware"
	}
	return s
}

// shown is s without control and invisible characters.
func shown(s string) string {
	q := strconv.QuoteToGraphic(s)
	return strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
}
