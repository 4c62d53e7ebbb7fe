package web

import (
	"io/fs"
	"slices"
	"time"
)

// Role is what somebody is to the deployment.
type Role string

// The roles. Requester, Endorser and Officer follow from the charter in force;
// Operator and Auditor from the server's configuration.
const (
	Requester Role = "requester" // may ask under some policy
	Endorser  Role = "endorser"  // stands in some policy's quorum
	Officer   Role = "officer"   // stands in some command's quorum, or may ask for one
	Auditor   Role = "auditor"   // reads, and nothing else
	Operator  Role = "operator"  // runs the server
)

// Roles lists every role.
func Roles() []Role { return []Role{Requester, Endorser, Officer, Auditor, Operator} }

// Person is somebody who is signed in.
type Person struct {
	Name      string
	Roles     []Role // as the charter in force and the configuration have them now
	Via       string // "oidc", "passkey", "link"
	InCharter bool   // Name is a person of the charter
	Since     time.Time
	Expires   time.Time
	Session   string // public handle
	Groups    []string
}

// Is reports whether p has one of the roles.
func (p *Person) Is(r ...Role) bool {
	return p != nil && slices.ContainsFunc(r, func(x Role) bool { return slices.Contains(p.Roles, x) })
}

// Area is one part of the console: pages that belong together.
type Area struct {
	Name   string // "search": names its assets, and itself in logs
	Files  fs.FS  // templates/*.html and static/*; nil: none. Embed "all:templates": go:embed leaves out names that begin with "_"
	Nav    []Nav
	Routes []Route
}

// Nav is an entry of the navigation, for people with one of Roles, or for everybody.
type Nav struct {
	Title, Path string
	Roles       []Role
	Order       int
}

// Route is one page or action. Path is a pattern of net/http without method and host,
// below /console/.
type Route struct {
	Method  string
	Path    string
	Roles   []Role // one of them is enough; nil: everybody who is signed in
	Public  bool   // for people who are not signed in, too; Visit.Who may be nil
	Program bool   // called by a program, not by a browser: no cookie is looked at and no token wanted; Public
	MaxBody int64  // default 64 KiB
	Stream  bool   // answers with Visit.Events
	Serve   func(*Visit) error
}
