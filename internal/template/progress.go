package template

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/statement"
)

// Facts are what there is to know about an application's set-up: all of it stands in
// the charter, in the keeper and among the requests.
type Facts struct {
	Charter  *charter.Charter // in force
	Ref      statement.CharterRef
	Keys     []KeyFact
	Requests []RequestFact // newest first
	Now      time.Time
}

// KeyFact is a key as the keeper has it.
type KeyFact struct {
	Name, State, Health string
	Generated           bool
	Chain               [][]byte // certificates in DER
}

// RequestFact is a request that may belong to a set-up.
type RequestFact struct {
	ID, Requester string
	Command       statement.CommandName
	Policy, Key   string
	State         string   // of package store
	Open          bool     // something can still happen to it
	Awaits        []string // whose endorsement could still count
	Detail        string
	Charter       *charter.Charter // that charter.replace carries
}

// StepState is how far a step is.
type StepState string

// The states of a step.
const (
	Done    StepState = "done"
	Waiting StepState = "waiting" // for people
	Next    StepState = "next"    // to be done now
	Later   StepState = "later"   // after another one
	Skipped StepState = "not needed"
)

// Step is one part of a set-up.
type Step struct {
	Name     string    `json:"name"` // "charter", "key", "certificate", "request", "signature"
	Title    string    `json:"title"`
	State    StepState `json:"state"`
	Detail   string    `json:"detail,omitzero"`
	Commands []string  `json:"commands,omitzero"` // to be run now
	Request  string    `json:"request,omitzero"`  // that it waits for, or that did it
	Awaits   []string  `json:"awaits,omitzero"`
}

// Status is how far the set-up of an application is.
type Status struct {
	Name    string      `json:"name"`
	Ready   bool        `json:"ready"` // a signature was made
	Demands string      `json:"demands,omitzero"`
	Formats []string    `json:"formats,omitzero"`
	Needs   Certificate `json:"certificate,omitzero"`
	Steps   []Step      `json:"steps"`
	Publish []string    `json:"publish,omitzero"` // commands that print what those who verify need
}

// Next is the first step that is not done, nil when all are.
func (s *Status) Next() *Step {
	for i := range s.Steps {
		if st := s.Steps[i].State; st != Done && st != Skipped {
			return &s.Steps[i]
		}
	}
	return nil
}

// Progress says how far the application called name is.
func Progress(name string, f Facts) *Status {
	s := &Status{Name: name}
	c, first := s.charter(name, f)
	s.Steps = append(s.Steps, first)
	p, ok := c.Policies[name]
	if !ok { // nobody has proposed it: what would come after is not known
		return s
	}
	s.Demands, s.Formats, s.Needs = c.Demands(p.Rule), p.Formats, Needs(p.Formats)
	for _, k := range p.Keys() {
		s.key(k, c, p, f)
	}
	s.sign(name, p, f)
	for _, w := range p.Formats {
		if k, ok := kindOf(w); ok && k.publish != "" {
			cmd := strings.ReplaceAll(k.publish, "POLICY", name)
			if strings.Contains(cmd, "%s") {
				cmd = fmt.Sprintf(cmd, p.Key)
			}
			if !slices.Contains(s.Publish, cmd) {
				s.Publish = append(s.Publish, cmd)
			}
		}
	}
	// One thing after the other.
	open := false
	for i := range s.Steps {
		st := &s.Steps[i]
		if open && st.State == Next {
			st.State, st.Commands = Later, nil
		}
		open = open || st.State == Next || st.State == Waiting
	}
	last := s.Steps[len(s.Steps)-1]
	s.Ready = last.State == Done
	return s
}

// charter is the first step, and the charter that has the policy: the one in force,
// or the one that is proposed.
func (s *Status) charter(name string, f Facts) (*charter.Charter, Step) {
	st := Step{Name: "charter", Title: "the charter has the policy " + name, State: Next,
		Commands: []string{"greatseal app templates", "greatseal app new TEMPLATE --name " + name}}
	if _, ok := f.Charter.Policies[name]; ok {
		st.State, st.Commands, st.Detail = Done, nil, fmt.Sprintf("version %d is in force", f.Ref.Version)
		return f.Charter, st
	}
	for _, r := range f.Requests {
		if r.Charter == nil || !r.Open {
			continue
		}
		if _, ok := r.Charter.Policies[name]; !ok {
			continue
		}
		if r.Charter.Previous != f.Ref.ID {
			st.Detail = fmt.Sprintf("request %s proposes it, and follows version %d: version %d is in force, so propose it again", short(r.ID), r.Charter.Version-1, f.Ref.Version)
			st.Commands = []string{"greatseal request cancel " + short(r.ID), "greatseal app new TEMPLATE --name " + name}
			continue
		}
		st.State, st.Commands, st.Request, st.Awaits = Waiting, []string{"greatseal endorse " + short(r.ID)}, r.ID, r.Awaits
		st.Detail = "proposed by " + r.Requester + ", " + waits(r)
		return r.Charter, st
	}
	return f.Charter, st
}

func waits(r RequestFact) string {
	if len(r.Awaits) == 0 {
		return r.State
	}
	return "waits for " + strings.Join(r.Awaits, ", ")
}

func short(id string) string { return id[:min(12, len(id))] }

// open finds an open request for a command about a key.
func (f *Facts) open(cmd statement.CommandName, key string) (RequestFact, bool) {
	i := slices.IndexFunc(f.Requests, func(r RequestFact) bool { return r.Open && r.Command == cmd && r.Key == key })
	if i < 0 {
		return RequestFact{}, false
	}
	return f.Requests[i], true
}

func (s *Status) key(name string, c *charter.Charter, p charter.Policy, f Facts) {
	var k KeyFact
	if i := slices.IndexFunc(f.Keys, func(k KeyFact) bool { return k.Name == name }); i >= 0 {
		k = f.Keys[i]
	}
	need := Needs(p.Formats)
	gen := Step{Name: "key", Title: "key " + name + " is generated", State: Next}
	selfMade := ""
	if need == OwnCertificate {
		selfMade = " --self-signed 365"
	}
	gen.Commands = []string{fmt.Sprintf(`greatseal key generate %s --subject "CN=%s,O=Example Ltd"%s`, name, name, selfMade)}
	if need == OfAuthority {
		gen.Detail = "the subject is that of the certificate that the authority will issue"
	}
	waiting := func(st *Step, cmd statement.CommandName) bool {
		r, ok := f.open(cmd, name)
		if ok {
			st.State, st.Commands, st.Request, st.Awaits, st.Detail = Waiting, []string{"greatseal endorse " + short(r.ID)}, r.ID, r.Awaits, waits(r)
		}
		return ok
	}
	switch {
	case k.Generated && k.State == "active":
		gen.State, gen.Commands, gen.Detail = Done, nil, fmt.Sprintf("%s, %s", c.Keys[name].URI, c.Keys[name].Algorithm)
		if k.Health != "" {
			gen.Detail = "cannot be used: " + k.Health
		}
	case k.Generated && k.State == "suspended":
		gen.Detail, gen.Commands = "it is suspended", []string{"greatseal key resume " + name}
		waiting(&gen, statement.KeyResume)
	case k.State == "destroyed":
		gen.Detail, gen.Commands = "it was destroyed: the policy needs another key", []string{"greatseal charter show --yaml"}
	default:
		waiting(&gen, statement.KeyGenerate)
	}
	cert := Step{Name: "certificate", Title: "key " + name + " has its certificate", State: Next}
	switch {
	case need == NoCertificate:
		cert.State, cert.Detail = Skipped, "these formats need none"
	case len(k.Chain) > 0:
		cert.State, cert.Detail = Done, ""
		x, err := x509.ParseCertificate(k.Chain[0])
		if err != nil {
			cert.Detail = "it cannot be read"
			break
		}
		cert.Detail = fmt.Sprintf("%s, issued by %s, until %s", x.Subject, x.Issuer, x.NotAfter.Format(time.DateOnly))
		if !f.Now.Before(x.NotAfter) {
			cert.State, cert.Detail = Next, "it expired on "+x.NotAfter.Format(time.DateOnly)
			cert.Commands = certCommands(name)
		}
	case waiting(&cert, statement.KeyImportCert):
	default:
		cert.Commands = certCommands(name)
		cert.Detail = "send the request to the certificate authority; to try out, trial-ca issues one"
	}
	s.Steps = append(s.Steps, gen, cert)
}

func certCommands(key string) []string {
	return []string{fmt.Sprintf("greatseal key csr %s --out %[1]s.csr", key), fmt.Sprintf("greatseal key trial-ca --csr %s.csr --out %[1]s.pem", key),
		fmt.Sprintf("greatseal key import-certificate %s %[1]s.pem", key)}
}

func (s *Status) sign(name string, p charter.Policy, f Facts) {
	st := Step{Name: "signature", Title: "a first file is signed", State: Next}
	file := "FILE"
	if len(p.Names) > 0 {
		file = strings.ReplaceAll(p.Names[0], "*", "FILE")
	}
	// People copy commands into a shell, and whoever proposes a charter writes its patterns.
	if strings.HasPrefix(file, "-") || strings.ContainsFunc(file, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._-+/", r)
	}) {
		file = "FILE"
	}
	cmd := "greatseal sign " + file + " --policy " + name
	if detached := []string{"cms", "dsse", "ima", "minisign", "signify", "sshsig", "pgp"}; slices.ContainsFunc(p.Formats, func(f string) bool { return slices.Contains(detached, f) }) {
		i := slices.IndexFunc(p.Formats, func(f string) bool { return slices.Contains(detached, f) })
		cmd += " --format " + p.Formats[i]
	}
	if len(p.Purposes) > 0 {
		cmd += " --purpose " + p.Purposes[0]
	}
	st.Commands = []string{cmd}
	for _, r := range f.Requests {
		if r.Command != statement.Sign || r.Policy != name {
			continue
		}
		if r.State == "executed" {
			st.State, st.Commands, st.Request, st.Detail = Done, nil, r.ID, "request "+short(r.ID)+" of "+r.Requester
			break
		}
		if r.Open && st.State != Waiting {
			st.State, st.Request, st.Awaits = Waiting, r.ID, r.Awaits
			st.Detail = "asked by " + r.Requester + ", " + waits(r)
			st.Commands = []string{"greatseal endorse " + short(r.ID), "greatseal collect " + short(r.ID) + " FILE"}
		}
	}
	s.Steps = append(s.Steps, st)
}
