// Package firewall is the last word of whoever operates an agent's host: which
// verified jobs may run here, and what they may reach. Its file is on that host and
// nowhere else; docs/spec/firewall.md describes it.
//
// Invariants:
//
//  1. What no rule accepts is denied. The first rule that matches decides.
//  2. An accept rule grants what it names: without targets it accepts no job that
//     reaches out, without credentials none that uses one, without addresses no
//     private, loopback or link-local address behind a name.
//  3. A file that is not a regular file, that others than its owner can write, whose
//     owner is neither root nor the agent's user, or that holds anything that is not
//     understood, is refused as a whole.
//  4. Only Judge makes a Grant, and a Grant opens the targets it was made for.
//
// A caller may not conclude from a Grant that anything was signed.
package firewall

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/greatseal-io/greatseal/rejection"
	"go.yaml.in/yaml/v3"
)

// Limits of a file.
const (
	maxFile  = 1 << 20
	maxRules = 1000
)

// ErrFile is the cause of every error of Open and Parse.
var ErrFile = errors.New("firewall: the file is refused")

// Firewall is a parsed file. It does not change.
type Firewall struct{ rules []rule }

type file struct {
	Version int        `yaml:"version"`
	Rules   []fileRule `yaml:"rules"`
}

type fileRule struct {
	Name        string   `yaml:"name"`
	Action      string   `yaml:"action"`
	Topics      []string `yaml:"topics"`
	Purposes    []string `yaml:"purposes"`
	Tables      []string `yaml:"tables"`
	Instances   []string `yaml:"instances"`
	Targets     []string `yaml:"targets"`
	Credentials []string `yaml:"credentials"`
	Addresses   []string `yaml:"addresses"`
}

type rule struct {
	fileRule
	accept  bool
	targets []pattern
	nets    []netip.Prefix
}

// pattern matches a target.
type pattern struct {
	host string // a name; "*.example.com": below it; "*": any
	net  netip.Prefix
	port uint16 // 0: any
}

// Target is something that a job reaches. A file (an SQLite database) is a target
// with Path in place of Host.
type Target struct {
	Host string // a name or an address, in lower case
	Port uint16
	Path string // absolute and clean
}

// String is "host:port", or the path.
func (t Target) String() string {
	if t.Path != "" {
		return t.Path
	}
	if strings.Contains(t.Host, ":") {
		return "[" + t.Host + "]:" + strconv.Itoa(int(t.Port))
	}
	return t.Host + ":" + strconv.Itoa(int(t.Port))
}

// NewTarget checks a host and a port.
func NewTarget(host string, port uint16) (Target, error) {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if a, err := netip.ParseAddr(host); err == nil {
		if a.Zone() != "" {
			return Target{}, errors.New("firewall: a target's address has a zone")
		}
		host = a.Unmap().String()
	} else if !hostname(host) {
		return Target{}, errors.New("firewall: a target's host is no name and no address")
	}
	if port == 0 {
		return Target{}, errors.New("firewall: a target has no port")
	}
	return Target{Host: host, Port: port}, nil
}

// hostname accepts letters, digits, hyphens, underscores in labels. A name whose last
// label is a number, or a hexadecimal one, is an address in disguise: resolvers read
// 2130706433, 127.1 and 0x7f.1 as 127.0.0.1.
func hostname(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	labels := strings.Split(s, ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' {
			return false
		}
		for _, c := range []byte(l) {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	last := labels[len(labels)-1]
	return strings.Trim(last, "0123456789") != "" && !strings.HasPrefix(last, "0x")
}

// Job is what is judged: facts of a verified order and, later, of verified records.
type Job struct {
	Instance    string
	Topic       string // a topic of the queue, or a tag
	Purpose     string
	Table       string
	Targets     []Target
	Credentials []string
}

// Grant says that a job may run.
type Grant struct {
	rule    string
	targets []Target
	nets    [][]netip.Prefix
	public  []bool
}

// Rule is the name of the rule that accepted the last target, or the job.
func (g *Grant) Rule() string { return g.rule }

// Allows reports whether the grant covers a target and, behind its name, an address.
func (g *Grant) Allows(t Target, a netip.Addr) bool {
	i := slices.Index(g.targets, t)
	if i < 0 || !a.IsValid() {
		return false
	}
	a = a.Unmap()
	if lit, err := netip.ParseAddr(t.Host); err == nil {
		return lit == a // the rule named this address itself
	}
	for _, n := range g.nets[i] {
		if n.Contains(a) {
			return true
		}
	}
	return g.public[i] && Public(a)
}

// Covers reports whether the grant is for a target.
func (g *Grant) Covers(t Target) bool { return slices.Contains(g.targets, t) }

// notPublic are ranges that Go's own predicates do not name.
var notPublic = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("240.0.0.0/4"), netip.MustParsePrefix("64:ff9b::/96"),
	netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("100::/64"), netip.MustParsePrefix("2001::/23"),
	netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("fec0::/10"),
}

// Public reports whether an address is one of the public Internet: neither private,
// loopback, link-local, multicast, shared, reserved, nor an IPv4 address in an IPv6
// one.
func Public(a netip.Addr) bool {
	a = a.Unmap()
	if !a.IsGlobalUnicast() || a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() {
		return false
	}
	return !slices.ContainsFunc(notPublic, func(p netip.Prefix) bool { return p.Contains(a) })
}

// Possible refuses an order that no rule could accept whatever its record says:
// before anything of the record is looked at.
func (f *Firewall) Possible(j Job) error {
	tags, err := ancestors(j.Topic)
	if err != nil {
		return denied("unknown topic", "")
	}
	for _, r := range f.rules {
		if !r.concerns(j, tags) {
			continue
		}
		if r.accept {
			return nil
		}
		if len(r.targets) == 0 && len(r.Credentials) == 0 {
			return denied(r.Name, "")
		}
	}
	return denied("default", "")
}

// Judge decides about a job whose record is verified. Every target, with the
// credentials, must be accepted.
func (f *Firewall) Judge(j Job) (*Grant, error) {
	tags, err := ancestors(j.Topic)
	if err != nil {
		return nil, denied("unknown topic", "")
	}
	g := &Grant{targets: slices.Clone(j.Targets)}
	one := func(t *Target) error {
		for _, r := range f.rules {
			if !r.concerns(j, tags) || !r.reaches(t, j.Credentials) {
				continue
			}
			if !r.accept {
				return denied(r.Name, text(t))
			}
			g.rule = r.Name
			if t != nil {
				g.nets = append(g.nets, r.nets)
				g.public = append(g.public, len(r.Addresses) == 0 || slices.Contains(r.Addresses, "public"))
			}
			return nil
		}
		return denied("default", text(t))
	}
	if len(j.Targets) == 0 {
		if err := one(nil); err != nil {
			return nil, err
		}
	}
	for i := range j.Targets {
		if err := one(&j.Targets[i]); err != nil {
			return nil, err
		}
	}
	return g, nil
}

func text(t *Target) string {
	if t == nil {
		return ""
	}
	return "target " + t.String()
}

func denied(rule, detail string) error { return rejection.New(rejection.FirewallDenied, rule, detail) }

// concerns compares what an order says.
func (r *rule) concerns(j Job, tags []string) bool {
	return slices.ContainsFunc(r.Topics, func(s string) bool { return slices.Contains(tags, s) }) &&
		member(r.Purposes, j.Purpose) && member(r.Tables, j.Table) && member(r.Instances, j.Instance)
}

func member(list []string, s string) bool { return len(list) == 0 || slices.Contains(list, s) }

// reaches compares what a record says. An accept rule matches when it grants all of
// it; a reject rule when it names any of it, or names nothing.
func (r *rule) reaches(t *Target, credentials []string) bool {
	hit := t != nil && slices.ContainsFunc(r.targets, func(p pattern) bool { return p.match(*t) })
	if r.accept {
		if t != nil && !hit {
			return false
		}
		return !slices.ContainsFunc(credentials, func(c string) bool { return !slices.Contains(r.Credentials, c) })
	}
	if len(r.targets) > 0 && !hit {
		return false
	}
	return len(r.Credentials) == 0 || slices.ContainsFunc(credentials, func(c string) bool { return slices.Contains(r.Credentials, c) })
}

func (p pattern) match(t Target) bool {
	if t.Path != "" {
		if rest, ok := strings.CutSuffix(p.host, "/*"); ok && strings.HasPrefix(p.host, "/") {
			return strings.HasPrefix(t.Path, rest+"/")
		}
		return strings.HasPrefix(p.host, "/") && p.host == t.Path
	}
	if p.port != 0 && p.port != t.Port {
		return false
	}
	if p.net.IsValid() {
		a, err := netip.ParseAddr(t.Host)
		return err == nil && p.net.Contains(a)
	}
	if p.host == "*" {
		return true
	}
	if rest, ok := strings.CutPrefix(p.host, "*"); ok {
		return strings.HasSuffix(t.Host, rest) && len(t.Host) > len(rest)
	}
	return p.host == t.Host
}

// Open reads a file and refuses one that others could have written. me is the
// agent's own user ID.
func Open(name string, me int) (*Firewall, error) {
	f, err := openChecked(name, me)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrFile, name, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFile, err)
	}
	fw, err := Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return fw, nil
}

// Parse reads the text of a file.
func Parse(b []byte) (*Firewall, error) {
	fw, err := parse(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFile, err)
	}
	return fw, nil
}

func parse(b []byte) (*Firewall, error) {
	if len(b) > maxFile {
		return nil, errors.New("it is too large")
	}
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	var in file
	if err := d.Decode(&in); err != nil {
		return nil, err
	}
	if err := d.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more than one document")
	}
	if in.Version != 1 {
		return nil, fmt.Errorf("version %d is not 1", in.Version)
	}
	if len(in.Rules) > maxRules {
		return nil, errors.New("there are too many rules")
	}
	out, names := &Firewall{}, map[string]bool{}
	for i, r := range in.Rules {
		c, err := compile(r)
		if err != nil {
			return nil, fmt.Errorf("rule %d: %w", i+1, err)
		}
		if names[r.Name] {
			return nil, fmt.Errorf("rule %d: the name %q stands twice", i+1, r.Name)
		}
		names[r.Name] = true
		out.rules = append(out.rules, c)
	}
	return out, nil
}

func compile(r fileRule) (rule, error) {
	out := rule{fileRule: r}
	if r.Name == "" || r.Name == "default" || len(r.Name) > 100 {
		return out, errors.New("a rule needs a name of up to 100 characters that is not \"default\"")
	}
	switch r.Action {
	case "accept":
		out.accept = true
	case "reject":
	default:
		return out, fmt.Errorf("the action %q is neither accept nor reject", r.Action)
	}
	if len(r.Topics) == 0 {
		return out, errors.New("topics are missing (ANY is every topic)")
	}
	for i, t := range r.Topics {
		tag, err := Tag(t)
		if err != nil {
			return out, err
		}
		if i == 0 {
			out.Topics = nil
		}
		out.Topics = append(out.Topics, tag)
	}
	for _, l := range [][]string{r.Purposes, r.Tables, r.Instances, r.Credentials} {
		if slices.ContainsFunc(l, func(s string) bool { return s == "" || strings.ContainsAny(s, "*?") && s != "*" }) {
			return out, errors.New("purposes, tables, instances and credentials are names, without patterns")
		}
	}
	for _, l := range [][]string{r.Tables, r.Instances, r.Credentials} {
		if slices.Contains(l, "*") {
			return out, errors.New("tables, instances and credentials are names, without patterns")
		}
	}
	for _, t := range r.Targets {
		p, err := parsePattern(t)
		if err != nil {
			return out, fmt.Errorf("target %q: %w", t, err)
		}
		out.targets = append(out.targets, p)
	}
	if !out.accept && len(r.Addresses) > 0 {
		return out, errors.New("addresses belong to accept rules")
	}
	for _, a := range r.Addresses {
		n, err := parseAddresses(a)
		if err != nil {
			return out, fmt.Errorf("address %q: %w", a, err)
		}
		out.nets = append(out.nets, n...)
	}
	return out, nil
}

// parseAddresses reads "public", "private", "loopback" or a prefix.
func parseAddresses(s string) ([]netip.Prefix, error) {
	switch s {
	case "public":
		return nil, nil
	case "private":
		return []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"),
			netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("fc00::/7")}, nil
	case "loopback":
		return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}, nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Masked() != p || p.Addr().Is4In6() {
		return nil, errors.New("not public, private, loopback, nor a prefix such as 10.1.0.0/16")
	}
	return []netip.Prefix{p}, nil
}

// parsePattern reads "host:port", "*.domain:port", "prefix:port" (IPv6 in brackets),
// "*:port" with port "*" for any, or an absolute path, with "/*" for what is below.
func parsePattern(s string) (pattern, error) {
	if strings.HasPrefix(s, "/") {
		bare := strings.TrimSuffix(s, "/*")
		if path.Clean(bare) != bare || bare == "/" || strings.ContainsAny(bare, "*?[") {
			return pattern{}, errors.New("not a clean path")
		}
		return pattern{host: s}, nil
	}
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return pattern{}, errors.New("a port is missing (host:port, or host:*)")
	}
	host, port := s[:i], s[i+1:]
	var p pattern
	if port != "*" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
			return p, errors.New("the port is not a number from 1 to 65535")
		}
		p.port = uint16(n)
	}
	bare, bracketed := strings.CutPrefix(host, "[")
	if bracketed {
		var ok bool
		if bare, ok = strings.CutSuffix(bare, "]"); !ok {
			return p, errors.New("a bracket is open")
		}
	}
	if n, err := netip.ParsePrefix(bare); err == nil {
		if n.Masked() != n || n.Addr().Is6() != bracketed || n.Addr().Is4In6() {
			return p, errors.New("not a prefix in its shortest form (IPv6 in brackets)")
		}
		p.net = n
		return p, nil
	}
	if a, err := netip.ParseAddr(bare); err == nil {
		if a.Is6() != bracketed || a.Is4In6() || a.Zone() != "" {
			return p, errors.New("not an address (IPv6 in brackets)")
		}
		p.net = netip.PrefixFrom(a, a.BitLen())
		return p, nil
	}
	p.host = strings.ToLower(host)
	name := strings.TrimPrefix(p.host, "*.")
	if p.host != "*" && !hostname(name) {
		return p, errors.New("not a name, an address or a prefix")
	}
	return p, nil
}

// Load reads a file as Open does, and is what a running agent uses on SIGHUP: with
// an error the old firewall stays.
func Load(name string) (*Firewall, error) { return Open(name, os.Geteuid()) }
