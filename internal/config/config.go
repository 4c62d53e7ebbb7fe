// Package config reads the YAML files of servers, keepers and clients. Unknown
// and repeated fields are refused, every new field has a good zero value, and no
// field holds a secret: secrets stand in files of their own.
//
// A path is relative to the configuration's folder. "credential:NAME" is the file
// NAME in $CREDENTIALS_DIRECTORY, where systemd puts what LoadCredential= names.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/greatseal-io/greatseal/statement"
)

const maxFile = 1 << 20

// TLS names certificate files in PEM.
type TLS struct {
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
	CA   string `yaml:"ca"` // whose certificates the peer may show
}

// Server is the configuration of "greatseal server".
type Server struct {
	Listen    string         `yaml:"listen"`             // host:port or unix:PATH
	TLS       *TLS           `yaml:"tls,omitempty"`      // mandatory beyond loopback; with CA, clients show certificates
	URL       string         `yaml:"url,omitempty"`      // where clients reach it, for logins and messages; mandatory beyond loopback
	Database  string         `yaml:"database"`           // sqlite:PATH or postgres://…
	Blobs     string         `yaml:"blobs,omitempty"`    // folder of uploads; none: no uploads
	Root      statement.ID   `yaml:"root,omitempty"`     // ID of charter version 1
	Keeper    Keeper         `yaml:"keeper,omitempty"`   // where it is, or how to run it inside
	Admins    []string       `yaml:"admins,omitempty"`   // people who make tokens
	Webhooks  []Webhook      `yaml:"webhooks,omitempty"` //
	Notify    *Notify        `yaml:"notify,omitempty"`   // mail and chat
	Inspector *Inspector     `yaml:"inspector,omitempty"`
	Log       Log            `yaml:"log,omitempty"`
	Limits    Limits         `yaml:"limits,omitempty"`
	Timestamp TimestampTrust `yaml:"timestamp,omitempty"`
	Issuers   Issuers        `yaml:"issuers,omitempty"`
	Console   Console        `yaml:"console,omitempty"`  // pages in a browser
	Instance  *Instance      `yaml:"instance,omitempty"` // its part in a circle of trust; a protected instance has neither root nor keeper
	SSO       []SSO          `yaml:"sso,omitempty"`      // where people sign in to the console
}

// Keeper says how a server reaches its keeper. Exactly one of Socket, Address
// and Embedded is set.
type Keeper struct {
	Socket   string    `yaml:"socket,omitempty"`  // Unix socket of greatseal-keeper
	Address  string    `yaml:"address,omitempty"` // host:port, with TLS
	TLS      *TLS      `yaml:"tls,omitempty"`
	Embedded *KeeperIn `yaml:"embedded,omitempty"` // in this process: for development and small deployments
}

// KeeperIn is a keeper's own part: its folder and its keys.
type KeeperIn struct {
	Dir            string   `yaml:"dir"`                   // ledger
	Keystore       string   `yaml:"keystore"`              // encrypted file of the soft: keys
	PassphraseFile string   `yaml:"passphrase_file"`       // mode 0600
	ReceiptKey     string   `yaml:"receipt_key,omitempty"` // default soft:keeper-receipts
	LogKey         string   `yaml:"log_key,omitempty"`     // default soft:keeper-log
	PKCS11         []PKCS11 `yaml:"pkcs11,omitempty"`      // greatseal-keeper only
}

// PKCS11 is one module and the token in it.
type PKCS11 struct {
	Module   string   `yaml:"module"`   // path of the shared library
	PINFile  string   `yaml:"pin_file"` // mode 0600
	Sessions int      `yaml:"sessions,omitempty"`
	Env      []string `yaml:"env,omitempty"` // NAME=VALUE, for the module's own configuration
}

// KeeperServer is the configuration of "greatseal-keeper run".
type KeeperServer struct {
	KeeperIn `yaml:",inline"`
	Root     statement.ID `yaml:"root"`
	Socket   string       `yaml:"socket,omitempty"`
	UIDs     []uint32     `yaml:"uids,omitempty"`   // who may connect to Socket; default: the own user
	Listen   string       `yaml:"listen,omitempty"` // host:port, with TLS
	TLS      *TLS         `yaml:"tls,omitempty"`
	Clients  []string     `yaml:"clients,omitempty"` // names in the certificates that may connect to Listen
}

// Webhook is one receiver of notifications.
type Webhook struct {
	Name         string   `yaml:"name"`
	URL          string   `yaml:"url"`
	SecretFile   string   `yaml:"secret_file"`
	Events       []string `yaml:"events,omitempty"`
	AllowPrivate bool     `yaml:"allow_private,omitempty"`
}

// Inspector runs a machine endorser inside the server.
type Inspector struct {
	Name string `yaml:"name"` // of the machine in the charter
	Key  string `yaml:"key"`  // its SSH private key file
}

// Log says who may read the log.
type Log struct {
	Private bool `yaml:"private,omitempty"` // only with the log scope; otherwise everybody
}

// Limits bound what clients may ask for; zero is the default.
type Limits struct {
	BodyBytes     int64   `yaml:"body_bytes,omitempty"`
	PerSecond     float64 `yaml:"per_second,omitempty"` // requests of one principal
	Burst         int     `yaml:"burst,omitempty"`
	AnonPerSecond float64 `yaml:"anonymous_per_second,omitempty"`
}

// TimestampTrust names roots of foreign timestamp authorities whose tokens are
// checked when they arrive.
type TimestampTrust struct {
	Roots string `yaml:"roots,omitempty"` // PEM file
}

// Issuers says how the issuers of ID tokens that the charter pins are looked at, once
// a day, for keys that it does not pin.
type Issuers struct {
	CA  string `yaml:"ca,omitempty"`  // PEM file of roots besides the system's, for a CI of one's own
	Off bool   `yaml:"off,omitempty"` // nobody looks: the server has no way out

	WithoutCertificate bool `yaml:"without_certificate,omitempty"` // beyond loopback, clients come without a certificate too: jobs of CI have none, and show a token
}

// Client is the configuration of a person's or machine's command line.
type Client struct {
	Server   string       `yaml:"server,omitempty"` // https://…, http://127.0.0.1:…, unix:PATH
	CA       string       `yaml:"ca,omitempty"`     // PEM file; default: the system's
	Cert     string       `yaml:"cert,omitempty"`   // client certificate and key
	Key      string       `yaml:"key,omitempty"`
	Name     string       `yaml:"name,omitempty"`     // who one is in the charter
	Identity string       `yaml:"identity,omitempty"` // SSH key: file, public key file (through ssh-agent), or "agent"; or a job of CI: "oidc:github", …
	Root     statement.ID `yaml:"root,omitempty"`     // ID of charter version 1: pinned
}

// Read reads a file into v and makes the paths in it relative to the file's folder.
func read(path string, v any) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("config: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return fmt.Errorf("config: %w", err)
	}
	if len(b) > maxFile {
		return fmt.Errorf("config: %s is larger than %d bytes", path, maxFile)
	}
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("config: %s: %w", path, err)
	}
	if err := d.Decode(new(any)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("config: %s: more than one document", path)
	}
	return nil
}

// credentialPrefix marks a path in the folder of systemd's credentials.
const credentialPrefix = "credential:"

func credentials() string { return os.Getenv("CREDENTIALS_DIRECTORY") }

// paths makes relative paths absolute, below dir, and finds credentials.
func paths(dir string, ps ...*string) error {
	for _, p := range ps {
		name, ok := strings.CutPrefix(*p, credentialPrefix)
		switch {
		case !ok && *p != "" && !filepath.IsAbs(*p):
			*p = filepath.Join(dir, *p)
		case !ok:
		case name == "" || name != filepath.Base(name) || name == "." || name == "..":
			return fmt.Errorf("config: %s: want the name of a credential", *p)
		case !filepath.IsAbs(credentials()):
			return fmt.Errorf("config: %s: $CREDENTIALS_DIRECTORY is not set: start the unit, or set it to the folder that the unit loads credentials from", *p)
		default:
			*p = filepath.Join(credentials(), name)
		}
	}
	return nil
}

func (t *TLS) resolve(dir string) error {
	if t == nil {
		return nil
	}
	return paths(dir, &t.Cert, &t.Key, &t.CA)
}

func (t *TLS) check(what string) error {
	if t == nil || t.Cert == "" || t.Key == "" {
		return fmt.Errorf("config: %s: tls with cert and key is wanted", what)
	}
	return nil
}

func (k *KeeperIn) resolve(dir string) error {
	ps := []*string{&k.Dir, &k.Keystore, &k.PassphraseFile}
	for i := range k.PKCS11 {
		ps = append(ps, &k.PKCS11[i].PINFile)
	}
	if k.ReceiptKey == "" {
		k.ReceiptKey = "soft:keeper-receipts"
	}
	if k.LogKey == "" {
		k.LogKey = "soft:keeper-log"
	}
	return paths(dir, ps...)
}

func (k *KeeperIn) check() error {
	if k.Dir == "" || k.Keystore == "" || k.PassphraseFile == "" {
		return errors.New("config: keeper: dir, keystore and passphrase_file are wanted")
	}
	for i, p := range k.PKCS11 {
		if !filepath.IsAbs(p.Module) || p.PINFile == "" {
			return fmt.Errorf("config: keeper: pkcs11[%d]: an absolute module path and a pin_file are wanted", i)
		}
	}
	return nil
}

// Loopback reports whether a listen address is reached from this machine only.
func Loopback(listen string) bool {
	if strings.HasPrefix(listen, "unix:") {
		return true
	}
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// ReadServer reads and checks a server's configuration.
func ReadServer(path string) (*Server, error) {
	var c Server
	if err := read(path, &c); err != nil {
		return nil, err
	}
	dir := filepath.Dir(path)
	ps := []*string{&c.Blobs, &c.Keeper.Socket, &c.Timestamp.Roots, &c.Issuers.CA}
	for i := range c.Webhooks {
		ps = append(ps, &c.Webhooks[i].SecretFile)
	}
	if c.Inspector != nil {
		ps = append(ps, &c.Inspector.Key)
	}
	errs := []error{c.TLS.resolve(dir), c.Keeper.TLS.resolve(dir), c.Instance.resolve(dir), resolveSSO(c.SSO, dir), c.Notify.resolve(dir), paths(dir, ps...)}
	if c.Keeper.Embedded != nil {
		errs = append(errs, c.Keeper.Embedded.resolve(dir))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if p, ok := strings.CutPrefix(c.Database, "sqlite:"); ok && p != "" && !filepath.IsAbs(p) {
		c.Database = "sqlite:" + filepath.Join(dir, p)
	}
	if p, ok := strings.CutPrefix(c.Listen, "unix:"); ok && p != "" && !filepath.IsAbs(p) {
		c.Listen = "unix:" + filepath.Join(dir, p)
	}
	return &c, c.check()
}

// checkURL refuses what clients cannot reach, or would not take for the server that
// they log in to.
func checkURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil, u.Host == "", u.Hostname() == "", u.User != nil, u.RawQuery != "", u.ForceQuery, u.Fragment != "", u.Path != "" && u.Path != "/":
		return fmt.Errorf("config: url: %q: want https://HOST or https://HOST:PORT", s)
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && Loopback(net.JoinHostPort(u.Hostname(), "80")):
		return nil
	}
	return fmt.Errorf("config: url: %q: want https, or http on this machine", s)
}

func (c *Server) check() error {
	switch {
	case c.Listen == "":
		return errors.New("config: listen is missing: host:port or unix:PATH")
	case c.Database == "":
		return errors.New("config: database is missing: sqlite:PATH or postgres://…")
	case c.Root == statement.ID{} && !c.Instance.Protected():
		return errors.New("config: root is missing: the ID of charter version 1, as \"greatseal charter id\" prints it")
	}
	if c.URL != "" {
		if err := checkURL(c.URL); err != nil {
			return err
		}
	}
	if err := c.Notify.check(); err != nil {
		return err
	}
	if !Loopback(c.Listen) {
		if c.URL == "" {
			return errors.New("config: url is missing: beyond loopback, where clients reach the server, as https://HOST:PORT; nobody could log in without it")
		}
		if err := c.TLS.check("listen beyond loopback"); err != nil {
			return err
		}
		if c.TLS.CA == "" && !c.Console.WithoutCertificate && !c.Issuers.WithoutCertificate {
			return errors.New("config: tls: ca is missing: beyond loopback, clients show a certificate")
		}
	}
	if err := c.Console.check(); err != nil {
		return err
	}
	if err := errors.Join(c.Instance.check(), checkSSO(c.SSO, c.URL), checkGiven(c.SSO, c.Console.Roles)); err != nil {
		return err
	}
	if c.Instance.Protected() && !strings.HasPrefix(c.Listen, "unix:") && (c.TLS == nil || c.TLS.CA == "") {
		return errors.New("config: listen: a protected instance listens on unix:PATH, or with tls and its ca, on loopback too: every user of the machine reaches loopback, and every web page that they look at")
	}
	n := 0
	for _, set := range []bool{c.Keeper.Socket != "", c.Keeper.Address != "", c.Keeper.Embedded != nil} {
		if set {
			n++
		}
	}
	if c.Instance.Protected() {
		if n != 0 || c.Root != (statement.ID{}) || c.Inspector != nil || len(c.Admins) > 0 || len(c.SSO) > 0 {
			return errors.New("config: a protected instance signs nothing: it has no keeper, root, inspector, admins or sso; instance.sides names whom it believes and instance.roles who may do what")
		}
		return nil
	}
	if n != 1 {
		return errors.New("config: keeper: want exactly one of socket, address and embedded")
	}
	if c.Keeper.Address != "" {
		if err := c.Keeper.TLS.check("keeper"); err != nil {
			return err
		}
		if c.Keeper.TLS.CA == "" {
			return errors.New("config: keeper: tls: ca is missing")
		}
	}
	if c.Keeper.Embedded != nil {
		if len(c.Keeper.Embedded.PKCS11) > 0 {
			return errors.New("config: keeper: embedded: PKCS #11 needs greatseal-keeper: run it and name its socket")
		}
		return c.Keeper.Embedded.check()
	}
	return nil
}

// ReadKeeper reads and checks a keeper's configuration.
func ReadKeeper(path string) (*KeeperServer, error) {
	var c KeeperServer
	if err := read(path, &c); err != nil {
		return nil, err
	}
	dir := filepath.Dir(path)
	if err := errors.Join(c.KeeperIn.resolve(dir), c.TLS.resolve(dir), paths(dir, &c.Socket)); err != nil {
		return nil, err
	}
	if (c.Socket == "") == (c.Listen == "") {
		return nil, errors.New("config: want exactly one of socket and listen")
	}
	if c.Listen != "" {
		if err := c.TLS.check("listen"); err != nil {
			return nil, err
		}
		if c.TLS.CA == "" || len(c.Clients) == 0 {
			return nil, errors.New("config: listen: tls.ca and clients are wanted: only named clients connect")
		}
	}
	return &c, c.KeeperIn.check()
}

// ReadClient reads a client's configuration.
func ReadClient(path string) (*Client, error) {
	var c Client
	if err := read(path, &c); err != nil {
		return nil, err
	}
	dir := filepath.Dir(path)
	ps := []*string{&c.CA, &c.Cert, &c.Key}
	if c.Identity != "agent" && !strings.HasPrefix(c.Identity, "oidc:") {
		ps = append(ps, &c.Identity)
	}
	if err := paths(dir, ps...); err != nil {
		return nil, err
	}
	if p, ok := strings.CutPrefix(c.Server, "unix:"); ok && !filepath.IsAbs(p) {
		c.Server = "unix:" + filepath.Join(dir, p)
	}
	return &c, nil
}

// Secret reads a secret from a file that nobody else may read, without the line
// end.
func Secret(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	others := fs.FileMode(0o077)
	if dir := credentials(); dir != "" && filepath.Dir(path) == filepath.Clean(dir) {
		others = 0o037 // systemd lets the service's user in by an ACL, which shows as the group's right to read
	}
	if st.Mode().Perm()&others != 0 {
		return nil, fmt.Errorf("config: %s is readable by others: chmod 600 %s", path, path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	b = bytes.TrimRight(b, "\r\n")
	if len(b) == 0 {
		return nil, fmt.Errorf("config: %s is empty", path)
	}
	return b, nil
}

// Write writes v as YAML, readable by the owner only, replacing path atomically.
func Write(path string, v any) error {
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("config: %w", err)
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, b.Bytes(), 0o600); err != nil {
		return fmt.Errorf("config: %w", err)
	}
	return os.Rename(tmp, path)
}
