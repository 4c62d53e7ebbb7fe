package cli

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/greatseal-io/greatseal/circle"
	"github.com/greatseal-io/greatseal/circle/trust"
	circleformat "github.com/greatseal-io/greatseal/format/circle"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/statement"
)

// circleFile is a trust statement as people write it. What follows from the server
// (deployment, version, configurations) is not in it.
type circleFile struct {
	Expires      string                `yaml:"expires"`
	Freshness    string                `yaml:"freshness"`
	Instances    map[string]instanceOf `yaml:"instances"`
	Anchors      []anchorOf            `yaml:"anchors"`
	Revocations  []revocationOf        `yaml:"revocations"`
	Floors       []floorOf             `yaml:"floors"`
	Roots        []string              `yaml:"timestampRoots"`
	VendorBuilds bool                  `yaml:"vendorBuilds"`
}

type instanceOf struct {
	Role        string   `yaml:"role"`
	Enforcement string   `yaml:"enforcement"`
	RuntimeKeys []string `yaml:"runtimeKeys"`
}

type anchorOf struct {
	Name         string   `yaml:"name"`
	Certificate  string   `yaml:"certificate"`
	Purposes     []string `yaml:"purposes"`
	Tables       []string `yaml:"tables"`
	Issuers      []string `yaml:"issuers"`
	VendorBuilds bool     `yaml:"vendorBuilds"`
}

type revocationOf struct {
	Certificate string `yaml:"certificate"`
	Fingerprint string `yaml:"fingerprint"`
	Since       string `yaml:"since"`
	Compromised bool   `yaml:"compromised"`
	Reason      string `yaml:"reason"`
}

type floorOf struct {
	Table    string   `yaml:"table"`
	Key      []string `yaml:"key"`
	Revision uint64   `yaml:"revision"`
}

// readCircleFile reads a draft; unknown members are refused.
func readCircleFile(path string) (*circleFile, error) {
	b, err := readSmall(path)
	if err != nil {
		return nil, err
	}
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	var c circleFile
	if err := d.Decode(&c); err != nil {
		return nil, fail(exitUsage, "docs/operate/records.md describes the file", "%s: %v", path, err)
	}
	if err := d.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, fail(exitUsage, "docs/operate/records.md describes the file", "%s holds more than one document", path)
	}
	return &c, nil
}

// statement makes the trust statement of a draft that lies in dir.
func (c *circleFile) statement(a *App, dir string) (*trust.Statement, error) {
	now := statement.Seconds(a.Now())
	s := &trust.Statement{Version: 1, Created: now, Instances: map[string]trust.Instance{}, VendorBuilds: c.VendorBuilds}
	at, err := a.moment("expires", c.Expires, false)
	if err != nil || at.IsZero() {
		return nil, fail(exitUsage, "expires: 8760h, or 2027-01-31", "expires: want when nothing is believed any more, or how long from now")
	}
	s.Expires = statement.Seconds(at)
	if c.Freshness != "" {
		d, err := time.ParseDuration(c.Freshness)
		if err != nil || d < time.Second {
			return nil, fail(exitUsage, "freshness: 15m", "freshness: want how long a freshness statement lasts at most")
		}
		s.Freshness = uint64(d / time.Second)
	}
	for n, x := range c.Instances {
		i := trust.Instance{Role: trust.Role(x.Role), Enforcement: trust.Enforcement(x.Enforcement)}
		for _, k := range x.RuntimeKeys {
			der, err := runtimeKey(dir, k)
			if err != nil {
				return nil, fmt.Errorf("instances.%s.runtimeKeys: %w", n, err)
			}
			i.RuntimeKeys = append(i.RuntimeKeys, der)
		}
		slices.SortFunc(i.RuntimeKeys, bytes.Compare)
		s.Instances[n] = i
	}
	for _, x := range c.Anchors {
		der, err := oneCertificate(dir, x.Certificate)
		if err != nil {
			return nil, fmt.Errorf("anchors: %s: %w", x.Name, err)
		}
		slices.Sort(x.Purposes)
		slices.Sort(x.Tables)
		slices.Sort(x.Issuers)
		s.Anchors = append(s.Anchors, record.Anchor{Name: x.Name, Certificate: der, Purposes: x.Purposes, Tables: x.Tables, Issuers: x.Issuers, VendorBuilds: x.VendorBuilds})
	}
	slices.SortFunc(s.Anchors, func(x, y record.Anchor) int { return cmp.Compare(x.Name, y.Name) })
	for n, x := range c.Revocations {
		r := record.Revocation{Fingerprint: strings.ToLower(strings.ReplaceAll(x.Fingerprint, ":", "")), Compromised: x.Compromised, Reason: x.Reason}
		if (x.Certificate == "") == (x.Fingerprint == "") {
			return nil, fail(exitUsage, "certificate: FILE, or fingerprint: SHA-256 in hexadecimal", "revocations[%d]: want one of certificate and fingerprint", n)
		}
		if x.Certificate != "" {
			der, err := oneCertificate(dir, x.Certificate)
			if err != nil {
				return nil, fmt.Errorf("revocations[%d]: %w", n, err)
			}
			h := sha256.Sum256(der)
			r.Fingerprint = hex.EncodeToString(h[:])
		}
		at, err := a.moment("since", x.Since, true)
		if err != nil {
			return nil, fmt.Errorf("revocations[%d]: %w", n, err)
		}
		if !at.IsZero() {
			r.Since = statement.Seconds(at)
		}
		s.Revocations = append(s.Revocations, r)
	}
	slices.SortFunc(s.Revocations, func(x, y record.Revocation) int { return cmp.Compare(x.Fingerprint, y.Fingerprint) })
	for _, x := range c.Floors {
		s.Floors = append(s.Floors, record.Floor{Ref: record.Ref{Table: x.Table, Key: x.Key}, Revision: x.Revision})
	}
	slices.SortFunc(s.Floors, func(x, y record.Floor) int { return x.Ref.Compare(y.Ref) })
	for _, p := range c.Roots {
		der, err := oneCertificate(dir, p)
		if err != nil {
			return nil, fmt.Errorf("timestampRoots: %w", err)
		}
		s.TimestampRoots = append(s.TimestampRoots, der)
	}
	slices.SortFunc(s.TimestampRoots, func(x, y []byte) int {
		hx, hy := sha256.Sum256(x), sha256.Sum256(y)
		return bytes.Compare(hx[:], hy[:])
	})
	return s, nil
}

func near(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// oneCertificate reads a file with one certificate, in PEM.
func oneCertificate(dir, path string) ([]byte, error) {
	if path == "" {
		return nil, errors.New("certificate is missing: a PEM file")
	}
	b, err := readSmall(near(dir, path))
	if err != nil {
		return nil, err
	}
	block, rest := pem.Decode(b)
	if block == nil || block.Type != "CERTIFICATE" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, fail(exitUsage, "one certificate a file", "%s: want one certificate in PEM", path)
	}
	if _, err := trust.Certificate(block.Bytes); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return block.Bytes, nil
}

// runtimeKey reads a public key: a PEM file, or base64 of its DER.
func runtimeKey(dir, s string) ([]byte, error) {
	var der []byte
	if b, err := readSmall(near(dir, s)); err == nil {
		if block, _ := pem.Decode(b); block != nil {
			der = block.Bytes
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	} else if der, err = base64.StdEncoding.DecodeString(s); err != nil {
		return nil, fail(exitUsage, "greatseal trust runtime-key, asked of the protected instance, prints it", "%.80q is neither a file nor a key in base64", s)
	}
	if _, err := trust.RuntimeKey(der); err != nil {
		return nil, fail(exitUsage, "greatseal trust runtime-key, asked of the protected instance, prints it", "%.80q: %v", s, err)
	}
	return der, nil
}

// readTrust reads a trust statement from a file: the statement itself, one that is
// signed, or the newest of a bundle. Nothing is judged.
func readTrust(path string) (*trust.Statement, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, circle.MaxBundle+1))
	if err != nil {
		return nil, err
	}
	s, serr := trust.Decode(b)
	if serr == nil {
		return s, nil
	}
	if e, err := circleformat.DecodeEnvelope(b); err == nil {
		return trust.Decode(e.Payload)
	}
	if x, err := circle.ReadBundle(bytes.NewReader(b)); err == nil && len(x.Circles) > 0 {
		e, err := circleformat.DecodeEnvelope(x.Circles[len(x.Circles)-1].Statement)
		if err != nil {
			return nil, err
		}
		return trust.Decode(e.Payload)
	}
	return nil, fail(exitFailed, "name a statement, a .circle file or a bundle", "%s is no trust statement: %v", path, serr)
}

// printChanges tells what a statement changes, what becomes weaker first.
func printChanges(w io.Writer, d []trust.Change) {
	if len(d) == 0 {
		fmt.Fprintln(w, "nothing changes")
	}
	d = slices.Clone(d)
	slices.SortStableFunc(d, func(x, y trust.Change) int {
		switch {
		case x.Weaker == y.Weaker:
			return 0
		case x.Weaker:
			return -1
		}
		return 1
	})
	for _, c := range d {
		mark := "        "
		if c.Weaker {
			mark = "WEAKER  "
		}
		fmt.Fprintf(w, "%s%s\n", mark, printable(c.String()))
	}
}
