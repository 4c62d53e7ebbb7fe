// Package charters is the console's area of the charter: what is in force and how it
// came to be, what a proposed change changes and would have decided otherwise, drafts,
// and the guided set-up of new applications.
//
// Invariants:
//
//  1. Everybody who is signed in reads; who drafts may ask for charter.replace.
//  2. Nothing is stored of a draft: it is in the form, or in the address.
//  3. What is proposed is a request that a passkey has signed, over the charter that
//     the page has shown, and that follows the one in force.
//  4. The work of a page is bounded: replays by their sample, their number and their
//     time. They go on while the page is read, which asks for them again.
package charters

import (
	"crypto/sha256"
	"embed"
	"net/http"
	"slices"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/internal/console/web"
	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/statement"
)

//go:embed all:templates
var files embed.FS

const (
	home     = web.Home + "charters"
	appsPath = home + "/apps"

	maxForm = 4 << 20 // bytes of a form with a charter in YAML, its statement and a signature
)

type area struct {
	server  *server.Server
	replays *replays
	rows    kept[uint64, *versionRow]                 // by their versions
	cargo   kept[[sha256.Size]byte, *charter.Charter] // by the SHA-256 of the requests' envelopes
}

// Area is the area over a server.
func Area(s *server.Server) web.Area {
	a := &area{server: s, replays: newReplays()}
	a.rows.most, a.cargo.most = 10*versionsPage, 2*proposals
	officers := []web.Role{web.Officer}
	get, post := http.MethodGet, http.MethodPost
	return web.Area{Name: "charters", Files: files,
		Nav: []web.Nav{{Title: "Charter", Path: home, Order: 40}, {Title: "Applications", Path: appsPath, Order: 45}},
		Routes: []web.Route{
			{Method: get, Path: home, Serve: a.show},
			{Method: get, Path: home + "/versions", Serve: a.versions},
			{Method: get, Path: home + "/change/{id}", Serve: a.change},
			{Method: get, Path: home + "/change/{id}/replay", Serve: a.changeReplay},
			{Method: get, Path: home + "/edit", Roles: officers, Serve: a.edit},
			{Method: post, Path: home + "/edit", Roles: officers, MaxBody: maxForm, Serve: a.judge},
			{Method: post, Path: home + "/download", Roles: officers, MaxBody: maxForm, Serve: a.download},
			{Method: post, Path: home + "/draft", Roles: officers, MaxBody: maxForm, Serve: a.draft},
			{Method: post, Path: home + "/propose", Roles: officers, MaxBody: maxForm, Serve: a.propose},
			{Method: get, Path: appsPath, Serve: a.apps},
			{Method: get, Path: appsPath + "/new/{template}", Roles: officers, Serve: a.setUp},
			{Method: get, Path: appsPath + "/of/{name}", Serve: a.app},
			{Method: get, Path: appsPath + "/of/{name}/csr", Serve: a.csr},
			{Method: post, Path: appsPath + "/of/{name}/draft", Roles: officers, MaxBody: 256 << 10, Serve: a.keyDraft},
			{Method: post, Path: appsPath + "/of/{name}/ask", Roles: officers, MaxBody: 1 << 20, Serve: a.keyAsk},
		}}
}

// mayPropose refuses whoever may not ask for charter.replace.
func (a *area) mayPropose(v *web.Visit) error {
	head := a.server.Charter()
	if !a.asks(v.Who, head) {
		return web.Problemf(403, "not-asked", "the charter names them under commands, charter.replace", "%s may not ask for another charter", v.Who.Name)
	}
	return nil
}

func (a *area) asks(p *web.Person, head *charter.Charter) bool {
	rule, ok := head.Commands[statement.CharterReplace]
	return ok && p != nil && p.InCharter && slices.Contains(head.Requesters(rule), p.Name)
}
