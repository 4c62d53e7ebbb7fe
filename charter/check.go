package charter

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/statement"
)

// Limits of a charter. MaxStatement limits the whole.
const (
	MaxPeople      = 10_000 // people, and machines
	MaxGroups      = 1_000
	MaxKeys        = 1_000
	MaxPolicies    = 1_000
	MaxCredentials = 16 // of one person or machine
	maxList        = 256
	maxLine        = 256
	maxProblems    = 50
	maxBudget      = 200_000 // matchings that Check does, and ways through all quorums
)

// ErrCharter is wrapped by every error of Check, Decode and ParseYAML about what
// a charter says.
var ErrCharter = errors.New("charter: not acceptable")

// Problem is one thing that is wrong with a charter, and what to do about it.
type Problem struct {
	Path string `json:"path"`          // "policies.windows.rule.quorum.of[1]"
	Line int    `json:"line,omitzero"` // of the YAML, where it came from one
	Text string `json:"text"`
}

func (p Problem) String() string {
	s := p.Text
	if p.Path != "" {
		s = p.Path + ": " + s
	}
	if p.Line > 0 {
		s = fmt.Sprintf("line %d: %s", p.Line, s)
	}
	return s
}

// CheckError lists what is wrong with a charter. It is ErrCharter.
type CheckError struct{ Problems []Problem }

func (e *CheckError) Error() string {
	if len(e.Problems) == 1 {
		return "charter: " + e.Problems[0].String()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "charter: %d problems", len(e.Problems))
	for _, p := range e.Problems {
		b.WriteString("\n  " + p.String())
	}
	return b.String()
}

// Is makes every CheckError an ErrCharter.
func (e *CheckError) Is(target error) bool { return target == ErrCharter }

var weekdays = []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}

// Check refuses a charter that contradicts itself, cannot be satisfied or is
// satisfied trivially. The error is a [*CheckError].
//
// A quorum cannot be satisfied when the distinct voters there are do not fill it,
// also when some requester of its rule is left out with the machines that he
// owns (or, for a machine, its owner and his other machines). It is trivial when
//
//   - it needs nobody's vote;
//   - it names people and there is a way to satisfy it by machines alone;
//   - it names machines alone, and the command is neither sign nor key.suspend
//     (a gate alone may release nightly builds; it may not touch keys or the
//     charter);
//   - it is that of charter.replace, one vote satisfies it, and nobody wrote
//     "need: 1" or named that person: the default is no decision.
//
// charter.replace has a quorum always: founders satisfy it too.
func (c Charter) Check() error {
	k := &checker{c: &c, budget: maxBudget}
	k.head()
	k.people()
	k.groups()
	k.keys()
	k.passkeys()
	if len(k.problems) == 0 {
		// Rules are judged against members that are sound.
		k.roll = NewRoll(&c)
		k.policies()
		k.commands()
		k.timestamping()
		k.records()
	}
	if len(k.problems) > 0 {
		return &CheckError{k.problems}
	}
	return nil
}

type checker struct {
	c        *Charter
	roll     *Roll
	problems []Problem
	budget   int
	carried  int // keys of issuers, for every workload anew
}

func (k *checker) add(path, format string, args ...any) {
	if len(k.problems) < maxProblems {
		k.problems = append(k.problems, Problem{Path: path, Text: fmt.Sprintf(format, args...)})
	}
}

// adopt adds err, which another package made, without that package's prefix.
func (k *checker) adopt(path string, err error) bool {
	if err == nil {
		return false
	}
	s := err.Error()
	for _, p := range []string{"statement: ", "charter: ", "credential: not acceptable: "} {
		s = strings.TrimPrefix(s, p)
	}
	k.add(path, "%s", s)
	return true
}

func (k *checker) name(path, what, s string) bool {
	return !k.adopt(path, statement.CheckName(what, s))
}

func (k *checker) line(path, s string) {
	if len(s) > maxLine || !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f }) {
		k.add(path, "want one line of at most %d bytes of UTF-8", maxLine)
	}
}

func (k *checker) limit(path string, n, most int) bool {
	if n > most {
		k.add(path, "%d entries: at most %d", n, most)
	}
	return n <= most
}

// sorted are m's names, so that problems come in the same order every time.
func sorted[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

func (k *checker) head() {
	c := k.c
	k.name("deployment", "deployment", c.Deployment)
	if c.Version == 0 {
		k.add("version", "want 1 for the first charter, then one more each time")
	} else if (c.Version == 1) != c.Previous.IsZero() {
		k.add("previous", "version 1 has no previous charter, every other one has its ID")
	}
	k.adopt("created", statement.CheckTime("created", c.Created))
	receipts := k.ed25519("keeper.receipts", c.Keeper.Receipts)
	log := k.ed25519("keeper.logKey", c.Keeper.LogKey)
	if receipts != nil && bytes.Equal(receipts, log) {
		k.add("keeper.logKey", "is the key of receipts too: want a key of its own")
	}
	if l := c.Keeper.Log; l == "" || len(l) > maxLine || strings.ContainsFunc(l, func(r rune) bool { return r <= 0x20 || r >= 0x7f || r == '+' }) {
		k.add("keeper.log", "%.80q: want the log's name like log.example.com/greatseal: printable ASCII without spaces and plus signs", l)
	}
}

func (k *checker) ed25519(path, s string) ed25519.PublicKey {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != ed25519.PublicKeySize || base64.StdEncoding.EncodeToString(b) != s {
		k.add(path, "want an Ed25519 public key: base64 of its 32 bytes")
		return nil
	}
	return b
}

func (k *checker) people() {
	c := k.c
	if len(c.People) == 0 {
		k.add("people", "there are none: a charter needs people")
	}
	if !k.limit("people", len(c.People), MaxPeople) || !k.limit("machines", len(c.Machines), MaxPeople) {
		return
	}
	if c.Machines != nil && len(c.Machines) == 0 {
		k.add("machines", "is empty: leave it out")
	}
	owner := map[string]string{} // by public key or text: where it stands
	for _, key := range []struct{ path, text string }{{"keeper.receipts", c.Keeper.Receipts}, {"keeper.logKey", c.Keeper.LogKey}} {
		if b, err := base64.StdEncoding.DecodeString(key.text); err == nil && len(b) == ed25519.PublicKeySize {
			if der, err := x509.MarshalPKIXPublicKey(ed25519.PublicKey(b)); err == nil {
				owner[string(der)] = key.path
			}
		}
	}
	for _, n := range sorted(c.People) {
		p, at := c.People[n], "people."+n
		k.name(at, "person", n)
		k.line(at+".name", p.Name)
		k.line(at+".email", p.Email)
		k.credentials(at, p.Credentials, owner)
		for i, x := range p.Credentials {
			if x.OIDC != nil {
				k.add(fmt.Sprintf("%s.credentials[%d].oidc", at, i), "%s is a person: a token speaks for a machine that requests, and never for people", n)
			}
		}
	}
	k.issuers(owner)
	for _, n := range sorted(c.Machines) {
		m, at := c.Machines[n], "machines."+n
		k.name(at, "machine", n)
		if _, ok := c.People[n]; ok {
			k.add(at, "is the name of a person too: people and machines share one name space")
		}
		if m.Owner != "" {
			if _, ok := c.People[m.Owner]; !ok {
				k.add(at+".owner", "there is no person %.80q", m.Owner)
			}
		}
		if m.Inspector && c.Workload(n) {
			k.add(at+".inspector", "%s signs with tokens: it requests and has no vote; a machine with a key of its own inspects", n)
		}
		k.credentials(at, m.Credentials, owner)
	}
}

func (k *checker) credentials(at string, cs []Credential, owner map[string]string) {
	if len(cs) == 0 {
		k.add(at+".credentials", "there are none: whoever cannot sign cannot request or endorse; add an ssh key, a passkey or an x509 key")
	}
	if !k.limit(at+".credentials", len(cs), MaxCredentials) {
		return
	}
	for i, c := range cs {
		at := fmt.Sprintf("%s.credentials[%d]", at, i)
		if c.OIDC != nil && !k.room(at, c.OIDC) {
			return
		}
		p, err := k.c.Credential(c)
		if k.adopt(at, err) {
			continue
		}
		if c.OIDC != nil {
			k.workload(at+".oidc", c.OIDC)
		} else if CredentialOf(p) != c.bare() {
			k.add(at, "is not in its canonical form: want %s", p.Text())
			continue
		}
		// One key in two guises, or two passkeys with one credential id, are
		// one credential.
		marks := []string{string(p.ID()), p.Text()}
		if h, ok := p.(interface{ Public() crypto.PublicKey }); ok {
			if der, err := x509.MarshalPKIXPublicKey(h.Public()); err == nil {
				marks = append(marks, string(der))
			}
		}
		for _, m := range marks {
			if first, ok := owner[m]; ok {
				k.add(at, "is the same key as %s: a credential stands once in a charter", first)
				break
			}
		}
		for _, m := range marks {
			owner[m] = at
		}
	}
}

func (k *checker) groups() {
	c := k.c
	if !k.limit("groups", len(c.Groups), MaxGroups) {
		return
	}
	for _, n := range sorted(c.Groups) {
		at := "groups." + n
		k.name(at, "group", n)
		_, person := c.People[n]
		_, machine := c.Machines[n]
		if person || machine {
			k.add(at, "is the name of a person or machine too: give the group another name")
		}
		members := c.Groups[n].Members
		if len(members) == 0 {
			k.add(at+".members", "there are none: remove the group or add members")
		}
		if !k.limit(at+".members", len(members), MaxPeople) {
			continue
		}
		seen := map[string]bool{}
		people, machines := "", ""
		for i, m := range members {
			at := fmt.Sprintf("%s.members[%d]", at, i)
			_, person := c.People[m]
			_, machine := c.Machines[m]
			_, group := c.Groups[m]
			switch {
			case seen[m]:
				k.add(at, "%s stands twice", m)
			case person:
				people = m
			case machine:
				machines = m
			case group:
				k.add(at, "%s is a group: groups hold people or machines; a quorum joins groups", m)
			default:
				k.add(at, "there is no person or machine %.80q", m)
			}
			seen[m] = true
		}
		if people != "" && machines != "" {
			k.add(at+".members", "%s is a person and %s a machine: want two groups, so that a gate is never taken for a person", people, machines)
		}
	}
}

func (k *checker) keys() {
	c := k.c
	if !k.limit("keys", len(c.Keys), MaxKeys) {
		return
	}
	if c.Keys != nil && len(c.Keys) == 0 {
		k.add("keys", "is empty: leave it out")
	}
	taken := map[string]string{}
	for _, n := range sorted(c.Keys) {
		key, at := c.Keys[n], "keys."+n
		k.name(at, "key", n)
		if same, err := keyIdentity(key.URI); err != nil {
			k.add(at+".uri", "%v", err)
		} else if other, ok := taken[same]; ok {
			k.add(at+".uri", "is the key of %s: want a key for each name", other)
		} else {
			taken[same] = "keys." + n
		}
		if !key.Algorithm.Valid() {
			k.add(at+".algorithm", "%.40q is not an algorithm: want rsa-3072, rsa-4096, ecdsa-p256, ecdsa-p384, ed25519, ml-dsa-65 or ml-dsa-87", key.Algorithm)
		} else if s := key.SignatureScheme(); !s.Fits(key.Algorithm) {
			k.add(at+".scheme", "%.40q does not fit %s: leave it out for %s", s, key.Algorithm, key.Algorithm.Default())
		}
	}
}

func (k *checker) policies() {
	c := k.c
	if !k.limit("policies", len(c.Policies), MaxPolicies) {
		return
	}
	if c.Policies != nil && len(c.Policies) == 0 {
		k.add("policies", "is empty: leave it out")
	}
	for _, n := range sorted(c.Policies) {
		p, at := c.Policies[n], "policies."+n
		k.name(at, "policy", n)
		if len(p.Description) > 4096 || !utf8.ValidString(p.Description) {
			k.add(at+".description", "want at most 4096 bytes of UTF-8")
		}
		if _, ok := c.Keys[p.Key]; !ok {
			k.add(at+".key", "there is no key %.80q", p.Key)
		}
		k.also(at+".also", p)
		if len(p.Formats) == 0 {
			k.add(at+".formats", "there are none: say what may be signed, like [pe, msi]")
		}
		k.set(at+".formats", p.Formats, func(at, s string) { k.name(at, "format", s) })
		k.set(at+".purposes", p.Purposes, func(at, s string) {
			if s != record.Wildcard {
				k.name(at, "purpose", s)
			}
		})
		k.set(at+".names", p.Names, func(at, s string) {
			if _, err := path.Match(s, ""); err != nil || s == "" || len(s) > maxLine {
				k.add(at, "%.80q is not a pattern of path.Match, like setup-*.exe", s)
			}
		})
		if p.MaxItems < 0 || p.MaxItems > statement.MaxItems {
			k.add(at+".maxItems", "%d: want 1 to %d, or nothing", p.MaxItems, statement.MaxItems)
		}
		if p.Params != nil && len(p.Params) == 0 {
			k.add(at+".params", "is empty: leave it out")
		}
		k.limit(at+".params", len(p.Params), maxList)
		for _, o := range sorted(p.Params) {
			k.name(at+".params."+o, "option", o)
			k.line(at+".params."+o, p.Params[o])
		}
		if p.Window != nil {
			k.window(at+".window", *p.Window)
		}
		k.timestamp(at+".timestamp", p.Timestamp)
		k.rule(at+".rule", statement.Sign, p.Rule)
		if p.Upload {
			k.inspected(at, p.Rule)
		}
	}
}

// also checks a policy's further keys, which sign in the order of the list.
func (k *checker) also(at string, p Policy) {
	if p.Also != nil && len(p.Also) == 0 {
		k.add(at, "is empty: leave it out")
	}
	if len(p.Also) > statement.MaxAlso {
		k.add(at, "%d keys: at most %d", len(p.Also), statement.MaxAlso)
		return
	}
	for i, n := range p.Also {
		at := fmt.Sprintf("%s[%d]", at, i)
		if _, ok := k.c.Keys[n]; !ok {
			k.add(at, "there is no key %.80q", n)
		}
		if n == p.Key || slices.Contains(p.Also[:i], n) {
			k.add(at, "%s signs already", n)
		}
	}
}

// set checks a list that is a set: sorted, without doubles, not empty but not nil.
func (k *checker) set(at string, list []string, each func(at, s string)) {
	if !k.limit(at, len(list), maxList) {
		return
	}
	for i, s := range list {
		at := fmt.Sprintf("%s[%d]", at, i)
		each(at, s)
		if i > 0 && list[i-1] == s {
			k.add(at, "%s stands twice", s)
		} else if i > 0 && list[i-1] > s {
			k.add(at, "%s is out of order: want the list sorted", s)
		}
	}
}

func (k *checker) window(at string, w Window) {
	last := -1
	for i, d := range w.Days {
		n := slices.Index(weekdays, d)
		if n < 0 {
			k.add(fmt.Sprintf("%s.days[%d]", at, i), "%.20q: want mon, tue, wed, thu, fri, sat or sun", d)
		} else if n <= last {
			k.add(fmt.Sprintf("%s.days[%d]", at, i), "%s stands twice or out of order", d)
		}
		last = max(last, n)
	}
	from, ok1 := clock(w.From)
	to, ok2 := clock(w.To)
	switch {
	case !ok1 || from == 24*time.Hour:
		k.add(at+".from", "%.20q: want a time of day in UTC like 08:00", w.From)
	case !ok2:
		k.add(at+".to", "%.20q: want a time of day in UTC like 18:00, at most 24:00", w.To)
	case to <= from:
		k.add(at+".to", "%s is not later than %s: a window lies within one day", w.To, w.From)
	}
}

// clock reads "08:00" as the time since midnight; "24:00" is the end of the day.
func clock(s string) (time.Duration, bool) {
	if len(s) != 5 || s[2] != ':' {
		return 0, false
	}
	for _, i := range []int{0, 1, 3, 4} {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	h, m := int(s[0]-'0')*10+int(s[1]-'0'), int(s[3]-'0')*10+int(s[4]-'0')
	if m > 59 || h > 24 || h == 24 && m > 0 {
		return 0, false
	}
	return time.Duration(h)*time.Hour + time.Duration(m)*time.Minute, true
}

// Contains reports whether t, in UTC, lies in the window.
func (w Window) Contains(t time.Time) bool {
	t = t.UTC()
	day := weekdays[(int(t.Weekday())+6)%7]
	if len(w.Days) > 0 && !slices.Contains(w.Days, day) {
		return false
	}
	from, ok1 := clock(w.From)
	to, ok2 := clock(w.To)
	now := time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute + time.Duration(t.Second())*time.Second
	return ok1 && ok2 && now >= from && now < to
}

func (w Window) String() string {
	days := "every day"
	if len(w.Days) > 0 {
		days = strings.Join(w.Days, ", ")
	}
	return fmt.Sprintf("%s from %s to %s UTC", days, w.From, w.To)
}

func (k *checker) timestamp(at string, list []string) {
	if list != nil && len(list) == 0 {
		k.add(at, "is empty: leave it out")
	}
	if !k.limit(at, len(list), 16) {
		return
	}
	for i, s := range list {
		at := fmt.Sprintf("%s[%d]", at, i)
		if slices.Contains(list[:i], s) {
			k.add(at, "%.80s stands twice", s)
		}
		if s == "self" {
			if k.c.Timestamping == nil {
				k.add(at, "self wants the charter's timestamping section")
			}
			continue
		}
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.Fragment != "" || len(s) > 1024 {
			k.add(at, "%.80q: want self, or an http or https URL without a password", s)
		}
	}
}

var dotted = regexp.MustCompile(`^(0|1|2)(\.(0|[1-9][0-9]{0,18})){1,30}$`)

func (k *checker) timestamping() {
	t := k.c.Timestamping
	if t == nil {
		return
	}
	if _, ok := k.c.Keys[t.Key]; !ok {
		k.add("timestamping.key", "there is no key %.80q", t.Key)
	}
	for _, n := range sorted(k.c.Policies) {
		if slices.Contains(k.c.Policies[n].Keys(), t.Key) {
			k.add("timestamping.key", "%s is the key of policies.%s too: an authority's key stamps and nothing else (RFC 3161 section 2.3)", t.Key, n)
		}
	}
	if !dotted.MatchString(t.Policy) {
		k.add("timestamping.policy", "%.80q: want an object identifier like 1.3.6.1.4.1.99999.1", t.Policy)
	}
}
