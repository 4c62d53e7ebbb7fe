package records

import (
	"encoding/hex"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/record"
)

// Kind is what a security job does.
type Kind string

// The kinds.
const (
	SignSet                 Kind = "sign-update-set"           // every operation of a complete update set
	SignRecords             Kind = "mass-sign-records"         // all that a configuration asks for
	SignAttachments         Kind = "mass-sign-attachments"     // of those, the records that have attachments
	SignSpecificRecords     Kind = "sign-specific-records"     // those that are named
	SignSpecificAttachments Kind = "sign-specific-attachments" // those that are named, by their owners
	SignPackage             Kind = "sign-package"              // an application's build; coverage is asserted
	SignChanged             Kind = "sign-changed"              // what was changed on a trusted instance
)

// Kinds lists them.
func Kinds() []Kind {
	return []Kind{SignSet, SignRecords, SignAttachments, SignSpecificRecords, SignSpecificAttachments, SignPackage, SignChanged}
}

// State is where a security job is.
type State string

// The states. Done, Failed and Cancelled are final.
const (
	New       State = "new"
	Preparing State = "preparing" // statements are made
	Waiting   State = "waiting"   // for the quorum
	Signing   State = "signing"   // the signature is there and becomes readable
	Done      State = "done"
	Failed    State = "failed"
	Cancelled State = "cancelled"
	Paused    State = "paused" // until its next window, or until somebody resumes it
)

// Final reports whether nothing happens to a job in state s any more.
func (s State) Final() bool { return s == Done || s == Failed || s == Cancelled }

// Spec says what a job is to do. It never changes.
//
// A member that is added is "omitzero" and stands last.
type Spec struct {
	Kind           Kind           `json:"kind"`
	Name           string         `json:"name"`
	Platform       string         `json:"platform,omitzero"`       // its name in the configuration; needed but for sets and packages
	Policy         string         `json:"policy"`                  // signing policy of the charter
	Configurations []string       `json:"configurations,omitzero"` // IDs; none: those of the tables concerned
	Filter         string         `json:"filter,omitzero"`         // CEL, in addition to a configuration's condition
	Refs           []record.Ref   `json:"refs,omitzero"`           // of the kinds that name records
	Files          []AttachmentID `json:"files,omitzero"`          // of SignSpecificAttachments
	Set            []byte         `json:"set,omitzero"`            // update set, XML; of SignSet and SignPackage
	Tables         []string       `json:"tables,omitzero"`         // of SignPackage: tables that must have records
	Audience       []string       `json:"audience,omitzero"`       // instances that may accept it
	NotBefore      time.Time      `json:"notBefore,omitzero"`      // of the signatures
	Expires        time.Time      `json:"expires,omitzero"`
	Windows        []Window       `json:"windows,omitzero"` // in which the job works
	Start          time.Time      `json:"start,omitzero"`   // the earliest
	Reason         string         `json:"reason,omitzero"`  // for the people who endorse
}

// AttachmentID names one attachment of a record.
type AttachmentID struct {
	Ref  record.Ref `json:"ref"`
	Name string     `json:"name"`
}

// Limits of a job.
const (
	MaxRefs = 250_000   // records that are named
	MaxSet  = 256 << 20 // bytes of an update set
	maxName = 200
)

// ErrSpec is wrapped by what is wrong with a job as it is asked for.
var ErrSpec = errors.New("records: job")

func specError(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrSpec}, args...)...)
}

// onPlatform reports whether the job reads a database.
func (s *Spec) onPlatform() bool { return s.Kind != SignSet && s.Kind != SignPackage }

// Check refuses a job that contradicts itself. configurations are the charter's.
func (s *Spec) Check(configurations map[string]record.Configuration) error {
	if !slices.Contains(Kinds(), s.Kind) {
		return specError("kind %.40q: want one of %v", s.Kind, Kinds())
	}
	if s.Name == "" || len(s.Name) > maxName {
		return specError("a name of 1 to %d bytes is wanted", maxName)
	}
	if s.Policy == "" {
		return specError("a signing policy is wanted")
	}
	named := s.Kind == SignSpecificRecords || s.Kind == SignChanged
	switch {
	case s.onPlatform() != (s.Platform != ""):
		return specError("%s: a platform is wanted for jobs on databases, and for those alone", s.Kind)
	case (len(s.Refs) > 0) != named:
		return specError("%s: records are named for %s, and for nothing else", s.Kind, SignSpecificRecords)
	case (len(s.Files) > 0) != (s.Kind == SignSpecificAttachments):
		return specError("%s: attachments are named for %s, and for nothing else", s.Kind, SignSpecificAttachments)
	case (len(s.Set) > 0) != !s.onPlatform():
		return specError("%s: an update set is wanted for %s and %s, and for nothing else", s.Kind, SignSet, SignPackage)
	case len(s.Tables) > 0 && s.Kind != SignPackage:
		return specError("%s: tables are named for %s", s.Kind, SignPackage)
	case len(s.Refs) > MaxRefs, len(s.Files) > MaxRefs:
		return specError("at most %d records can be named: sign by a configuration, or in several jobs", MaxRefs)
	case len(s.Set) > MaxSet:
		return specError("the update set is larger than %d bytes", MaxSet)
	case s.Filter != "" && s.Kind != SignRecords && s.Kind != SignAttachments:
		return specError("%s takes no filter", s.Kind)
	case (s.Kind == SignRecords || s.Kind == SignAttachments) && len(s.Configurations) == 0:
		return specError("%s: a signature configuration is wanted", s.Kind)
	case !s.Expires.IsZero() && !s.Expires.After(s.NotBefore):
		return specError("the signatures would expire before they are valid")
	}
	for i, id := range s.Configurations {
		c, ok := configurations[id]
		switch {
		case !ok:
			return specError("the charter has no signature configuration %.80q", id)
		case slices.Contains(s.Configurations[:i], id):
			return specError("configuration %q stands twice", id)
		case (s.Kind == SignAttachments || s.Kind == SignSpecificAttachments) && !c.Attachments:
			return specError("configuration %q signs no attachments", id)
		}
	}
	for _, r := range s.refs() {
		if r.Table == "" || len(r.Key) == 0 {
			return specError("a record without table or key")
		}
		if !slices.ContainsFunc(s.among(configurations), func(id string) bool { return configurations[id].Table == r.Table }) {
			return specError("no signature configuration for table %.80q", r.Table)
		}
	}
	for i := range s.Windows {
		if err := s.Windows[i].check(); err != nil {
			return fmt.Errorf("%w: %w", ErrSpec, err)
		}
	}
	return nil
}

// refs are the records that are named.
func (s *Spec) refs() []record.Ref {
	out := slices.Clone(s.Refs)
	for _, f := range s.Files {
		out = append(out, f.Ref)
	}
	return out
}

// among are the configurations that the job uses, by ID and sorted.
func (s *Spec) among(all map[string]record.Configuration) []string {
	var out []string
	attachments := s.Kind == SignAttachments || s.Kind == SignSpecificAttachments
	tables := map[string]bool{}
	for _, r := range s.Refs {
		tables[r.Table] = true
	}
	for _, f := range s.Files {
		tables[f.Ref.Table] = true
	}
	for id, c := range all {
		if len(s.Configurations) > 0 && !slices.Contains(s.Configurations, id) {
			continue
		}
		if attachments && !c.Attachments || len(tables) > 0 && !tables[c.Table] {
			continue
		}
		out = append(out, id)
	}
	slices.Sort(out)
	return out
}

// place is how far a job is, as far as the platform does not say.
type place struct {
	Configurations map[string]string `json:"configurations,omitzero"` // ID → digest that the statements were made under
	Held           bool              `json:"held,omitzero"`           // paused by a person
	From           State             `json:"from,omitzero"`           // the state that it was paused in
	Next           time.Time         `json:"next,omitzero"`           // when it goes on by itself
	Plan           []byte            `json:"plan,omitzero"`           // submitted
	Root           []byte            `json:"root,omitzero"`           // signed
	Entries        int64             `json:"entries,omitzero"`        // of the log
	Counted        bool              `json:"counted,omitzero"`
}

// Summary is what a job did.
type Summary struct {
	Signed   map[string]int64 `json:"signed,omitzero"` // by configuration
	Skipped  int64            `json:"skipped,omitzero"`
	Root     string           `json:"root,omitzero"`    // of the tree, hexadecimal
	At       time.Time        `json:"at,omitzero"`      // signed
	Changed  int64            `json:"changed,omitzero"` // records that changed between preparation and signing
	Checked  bool             `json:"checked,omitzero"` // Changed was counted
	Again    string           `json:"again,omitzero"`   // the job that signs those again
	Evidence []byte           `json:"evidence,omitzero"`
}

// View is a job as people and programs see it.
type View struct {
	ID        string    `json:"id"`
	Kind      Kind      `json:"kind"`
	Name      string    `json:"name"`
	State     State     `json:"state"`
	Platform  string    `json:"platform,omitzero"`
	Policy    string    `json:"policy"`
	Requester string    `json:"requester"`
	Request   string    `json:"request,omitzero"` // to the quorum
	Error     string    `json:"error,omitzero"`
	Count     int64     `json:"count"` // records prepared
	Total     int64     `json:"total"` // -1: not known yet
	Rate      float64   `json:"rate,omitzero"`
	Left      float64   `json:"left,omitzero"` // seconds, at this rate; 0: not known
	Next      time.Time `json:"next,omitzero"` // a paused job goes on
	Created   time.Time `json:"created"`
	Started   time.Time `json:"started,omitzero"`
	Finished  time.Time `json:"finished,omitzero"`
	Summary   Summary   `json:"summary"`
}

func view(j *store.SecurityJob) (*View, error) {
	var sp struct {
		Policy string `json:"policy"`
	}
	var p place
	v := &View{ID: j.ID, Kind: Kind(j.Kind), Name: j.Name, State: State(j.State), Platform: j.Platform, Requester: j.Requester, Request: j.Request,
		Error: j.Error, Count: j.Count, Total: j.Total, Created: j.Created, Started: j.Started, Finished: j.Finished}
	if err := errors.Join(json.Unmarshal(j.Spec, &sp), read(j.Place, &p), read(j.Summary, &v.Summary)); err != nil {
		return nil, fmt.Errorf("records: job %s was altered in the database: %w", j.ID, err)
	}
	v.Policy, v.Next = sp.Policy, p.Next
	if s := j.Busy.Seconds(); s > 0 && j.Count > 0 {
		v.Rate = float64(j.Count) / s
		if j.Total > j.Count && v.State == Preparing {
			v.Left = float64(j.Total-j.Count) / v.Rate
		}
	}
	return v, nil
}

// read decodes what may be empty.
func read(b []byte, to any) error {
	if len(b) == 0 {
		return nil
	}
	return json.Unmarshal(b, to, json.RejectUnknownMembers(true))
}

func decodeSpec(b []byte) (*Spec, error) {
	var s Spec
	if err := json.Unmarshal(b, &s, json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("records: job: %w", err)
	}
	return &s, nil
}

// newID is 32 hexadecimal digits.
func newID(r io.Reader) (string, error) {
	b := make([]byte, 16)
	if _, err := io.ReadFull(r, b); err != nil {
		return "", fmt.Errorf("records: %w", err)
	}
	return hex.EncodeToString(b), nil
}
