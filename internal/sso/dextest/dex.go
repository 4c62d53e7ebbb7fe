// Package dextest runs OpenID providers for tests: Dex, and oidc-provider for what Dex
// does not do. They are the real programs that tools/judges builds, with people of the
// test's, on free ports of this machine, over TLS by an authority of the test's own.
//
// They keep everything in memory: one that is started again has other signing keys.
package dextest

import (
	"crypto/x509"
	"encoding/json/v2"
	"fmt"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/internal/config"
)

// Password is everybody's.
const Password = "correct horse battery staple"

// User is somebody who can log in at Dex, with his e-mail address.
type User struct {
	Email    string
	Username string // the claim preferred_username
	Verified bool   // Dex vouches for the address
	Groups   []string
}

// Users are those that every Dex of this package has, by the names that their charter
// would have.
func Users() map[string]User {
	return map[string]User{
		"alice":   {Email: "alice@example.com", Username: "alice.a", Verified: true, Groups: []string{"developers"}},
		"bob":     {Email: "bob@example.com", Username: "bob.b", Verified: true, Groups: []string{"developers", "releases"}},
		"carol":   {Email: "carol@example.com", Username: "carol.c", Verified: true, Groups: []string{"officers"}},
		"dave":    {Email: "dave@example.com", Username: "dave.d", Verified: true, Groups: []string{"operations"}},
		"erin":    {Email: "erin@audit.example", Username: "erin.e", Verified: true, Groups: []string{"audit"}},
		"frank":   {Email: "frank@elsewhere.example", Username: "frank.f", Verified: true},
		"mallory": {Email: "mallory@example.com", Username: "mallory.m", Groups: []string{"audit"}},
	}
}

// Client is a program that is registered at Dex.
type Client struct {
	ID         string
	Secret     string // empty: a public client
	SecretFile string // mode 0600; empty for a public client
}

// Dex is one that runs.
type Dex struct {
	Issuer     string // https://127.0.0.1:PORT/dex
	ClientID   string // Greatseal's
	Secret     string
	SecretFile string
	CAFile     string // of the authority of Dex's certificate
	CA         *x509.CertPool
	Users      map[string]User

	Other  Client // another confidential client, with the same redirect addresses
	Public Client // one without a secret

	program
}

// Start runs a Dex that sends people back to the addresses that are given, until the
// test ends.
func Start(tb testing.TB, redirectURLs ...string) *Dex {
	tb.Helper()
	d := &Dex{ClientID: "greatseal", Secret: "dex-test-secret-" + random(tb), Users: Users()}
	d.program = newProgram(tb)
	d.CAFile, d.CA = d.certificates()
	d.SecretFile = d.write("secret", []byte(d.Secret+"\n"))
	d.Other = Client{ID: "other", Secret: "dex-test-secret-" + random(tb)}
	d.Other.SecretFile = d.write("secret-other", []byte(d.Other.Secret+"\n"))
	d.Public = Client{ID: "greatseal-public"}
	port := freePort(tb)
	d.Issuer = fmt.Sprintf("https://127.0.0.1:%d/dex", port)
	hash, err := bcrypt.GenerateFromPassword([]byte(Password), bcrypt.MinCost+6) // Dex wants 10 at least
	if err != nil {
		tb.Fatal(err)
	}
	var people []map[string]any
	for name, u := range d.Users {
		people = append(people, map[string]any{"email": u.Email, "username": name, "preferredUsername": u.Username,
			"emailVerified": u.Verified, "userID": "id-of-" + name, "hash": string(hash), "groups": u.Groups})
	}
	b, err := json.Marshal(map[string]any{
		"issuer":  d.Issuer,
		"storage": map[string]any{"type": "memory"},
		"web":     map[string]any{"https": fmt.Sprintf("127.0.0.1:%d", port), "tlsCert": filepath.Join(d.dir, certFile), "tlsKey": filepath.Join(d.dir, keyFile)},
		"oauth2":  map[string]any{"skipApprovalScreen": true},
		"logger":  map[string]any{"level": "warn"},
		"staticClients": []map[string]any{
			{"id": d.ClientID, "name": "Greatseal", "secret": d.Secret, "redirectURIs": redirectURLs},
			{"id": d.Other.ID, "name": "Another", "secret": d.Other.Secret, "redirectURIs": redirectURLs},
			{"id": d.Public.ID, "name": "Greatseal without a secret", "public": true, "redirectURIs": redirectURLs},
		},
		"enablePasswordDB": true,
		"staticPasswords":  people,
	})
	if err != nil {
		tb.Fatal(err)
	}
	d.name, d.args, d.url = formattest.Program(tb, "dex", "make judges"), []string{"serve", d.write("config.yaml", b)}, d.Issuer // JSON is YAML
	d.Up()
	return d
}

// Config is the provider "dex" of a server's configuration.
func (d *Dex) Config() config.SSO {
	return config.SSO{Name: "dex", Title: "Dex", Issuer: d.Issuer, ClientID: d.ClientID, ClientSecretFile: d.SecretFile, CA: d.CAFile,
		Claim: config.ClaimEmail, Scopes: []string{"email", "profile", "groups"}, Groups: "groups"}
}
