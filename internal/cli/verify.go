package cli

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json/jsontext"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/all"
	"github.com/greatseal-io/greatseal/format/file"
	"github.com/greatseal-io/greatseal/statement"
	"github.com/greatseal-io/greatseal/verify"
)

type verifying struct {
	signature, evidence, root, format, at string
	ca, tsaCA, keys                       []string
	none                                  bool
}

func (a *App) verifyCommand() *cobra.Command {
	k := &verifying{}
	c := &cobra.Command{
		Use:     "verify FILE",
		GroupID: "sign",
		Short:   "check a signed file, and who approved it, without any server",
		Long: `Checks every signature of the file by its format's own rules, and fails when a
byte is covered by none of them that ought to be. With the evidence that stands
beside a signed file, it also says who requested and who endorsed the signature,
under which charter, and where the log holds it.

Evidence is judged from one value that you pin: the ID of the deployment's first
charter, or that charter's file (--root, $GREATSEAL_ROOT, or "root:" in the client
configuration). Certificates are trusted from --ca; with evidence and without --ca
the charter chain alone says that the key is right, and whether a platform trusts
its certificate is not judged.

The exit code is 5 when anything is wrong.`,
		Example: `  greatseal verify app.exe --root charter-v1.json
  greatseal verify app.exe --ca company-root.pem --tsa-ca tsa-root.pem
  greatseal verify firmware.bin --signature firmware.bin.p7s --key release.pub.pem`,
		Args: exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.verify(cmd.Context(), k, args[0]) },
	}
	f := c.Flags()
	f.StringVarP(&k.signature, "signature", "s", "", "detached signature (default: the one beside the file; two must be told apart)")
	f.StringVarP(&k.evidence, "evidence", "e", "", "evidence document (default: FILE"+evidenceSuffix+", if it is there)")
	f.BoolVar(&k.none, "no-evidence", false, "judge the signature alone, even if there is evidence")
	f.StringVar(&k.root, "root", "", "ID or file of the first charter, from which evidence is judged")
	f.StringArrayVar(&k.ca, "ca", nil, `PEM file of certificates to trust, or "system"; repeatable`)
	f.StringArrayVar(&k.tsaCA, "tsa-ca", nil, "PEM file of certificates to trust for timestamps; repeatable")
	f.StringArrayVar(&k.keys, "key", nil, "public key to trust, for formats without certificates: PEM, OpenPGP, SSH, minisign, signify; repeatable")
	f.StringVarP(&k.format, "format", "f", "", "format of the signature (default: by content)")
	f.StringVar(&k.at, "at", "", "time to judge certificates at that no timestamp dates (default: now)")
	return c
}

// unverified is the error of everything that fails the check.
func unverified(hint string, err error) error {
	if f := (*fault)(nil); errors.As(err, &f) {
		return err
	}
	if u := (x509.UnknownAuthorityError{}); errors.As(err, &u) {
		hint = "greatseal inspect FILE shows who signed it; --ca and --tsa-ca name the authorities that you trust"
	}
	return fail(exitUnverified, hint, "%v", err)
}

// suffixes lists those of detached signatures, each once.
func suffixes() (out []string) {
	for _, f := range all.Formats() {
		if d, ok := f.(format.Detached); ok {
			for _, s := range d.Suffixes() {
				if !slices.Contains(out, s) {
					out = append(out, s)
				}
			}
		}
	}
	return out
}

// detachedFormat is the format of a detached signature: by its content among those
// whose files have that suffix, or the only one that has; "" when there is none.
func detachedFormat(path string, data []byte) string {
	var able []format.Format
	for _, f := range all.Formats() {
		if d, ok := f.(format.Detached); ok && slices.ContainsFunc(d.Suffixes(), func(s string) bool { return strings.HasSuffix(path, s) }) {
			able = append(able, f)
		}
	}
	for _, f := range able {
		if len(able) == 1 || f.Detect(format.BytesArtifact(path, data)) {
			return f.Name()
		}
	}
	return ""
}

// sidecar is a detached signature beside a file.
type sidecar struct {
	path, format string
	data         []byte
}

// allBeside finds the detached signatures beside a file, of one format or (only
// being empty) of any.
func allBeside(path, only string) ([]sidecar, error) {
	var out []sidecar
	for _, s := range suffixes() {
		data, err := readSmall(path + s)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if name := detachedFormat(path+s, data); name != "" && (only == "" || name == only) {
			out = append(out, sidecar{path + s, name, data})
		}
	}
	return out, nil
}

// beside finds the detached signature of a file: the one named, or the one of a
// format that stands beside it. An empty format is any; formats whose signatures
// are inside have none. It does not choose between two.
func beside(path, named, only string) (data []byte, at string, err error) {
	if named != "" {
		data, err = readSmall(named)
		return data, named, err
	}
	list, err := allBeside(path, only)
	if err != nil || len(list) == 0 {
		return nil, "", err
	}
	if len(list) > 1 {
		var have, hint []string
		for _, s := range list {
			have = append(have, s.path+" ("+s.format+")")
			hint = append(hint, "--signature "+s.path)
		}
		return nil, "", fail(exitUsage, strings.Join(hint, ", or "), "%d signatures stand beside %s: %s", len(list), path, strings.Join(have, " and "))
	}
	return list[0].data, list[0].path, nil
}

// planFormat is the format that a document is about.
func planFormat(e *verify.Evidence) string {
	_, p, err := format.DecodeItem(e.File.Item)
	if err != nil {
		return "" // judging it says so
	}
	return p.Format
}

// formatOf finds the format of a signed file.
func formatOf(a format.Artifact, name, sidecar string) (format.Format, error) {
	if name == "" && sidecar != "" {
		if data, err := readSmall(sidecar); err == nil {
			name = detachedFormat(sidecar, data)
		}
	}
	if name != "" {
		f, ok := all.ByName(name)
		if !ok {
			return nil, fail(exitUsage, orText(suggest(name, formatNames()), "greatseal formats"), "there is no format %q", name)
		}
		return f, nil
	}
	if f, ok := all.Detect(a); ok {
		return f, nil
	}
	return nil, fail(exitUnverified, "--signature names a detached signature, --format its format", "%s is of no kind that carries signatures, and no signature stands beside it", a.Name())
}

// pinned is the root that evidence is judged from.
func (a *App) pinned(given string) (statement.ID, error) {
	if given == "" {
		cfg, err := a.client()
		if err != nil {
			return statement.ID{}, err
		}
		if cfg.Root.IsZero() {
			return cfg.Root, fail(exitUsage, "--root charter-v1.json, or --root ID", "evidence is judged from the first charter of a deployment: which one?")
		}
		return cfg.Root, nil
	}
	if id, err := statement.ParseID(given); err == nil {
		return id, nil
	}
	b, err := readSmall(given)
	if err != nil {
		return statement.ID{}, fail(exitUsage, "--root takes an ID of 64 hexadecimal digits or the file of the first charter", "%v", err)
	}
	return verify.RootFromFounding(bytes.TrimSpace(b))
}

// trust reads what the user trusts.
func (k *verifying) trust(a *App) (format.Trust, error) {
	t := format.Trust{Now: a.Now()}
	at, err := a.moment("at", k.at, true)
	if err != nil {
		return t, err
	}
	if !at.IsZero() {
		t.Now = at
	}
	if t.Roots, err = pool(k.ca); err != nil {
		return t, err
	}
	if t.TimestampRoots, err = pool(k.tsaCA); err != nil {
		return t, err
	}
	for _, p := range k.keys {
		pubs, err := readPublic(p, t.Now)
		if errors.Is(err, os.ErrNotExist) {
			return t, err
		}
		if err != nil {
			return t, fail(exitUsage, "--key takes a public key or a certificate in PEM, or a key of OpenPGP, SSH, minisign or signify", "%s: %v", p, err)
		}
		t.Keys = append(t.Keys, pubs...)
	}
	return t, nil
}

func pool(paths []string) (*x509.CertPool, error) {
	if len(paths) == 0 {
		return nil, nil
	}
	out := x509.NewCertPool()
	for _, p := range paths {
		if p == "system" {
			sys, err := x509.SystemCertPool()
			if err != nil {
				return nil, err
			}
			if len(paths) > 1 {
				return nil, fail(exitUsage, "name one of them", `"system" stands alone`)
			}
			return sys, nil
		}
		certs, err := readCertificates(p)
		if err != nil {
			return nil, err
		}
		for _, c := range certs {
			out.AddCert(c)
		}
	}
	return out, nil
}

// readCertificates reads a PEM file of certificates, or one in DER.
func readCertificates(path string) ([]*x509.Certificate, error) {
	b, err := readSmall(path)
	if err != nil {
		return nil, err
	}
	if c, err := x509.ParseCertificate(b); err == nil {
		return []*x509.Certificate{c}, nil
	}
	var out []*x509.Certificate
	for {
		var p *pem.Block
		if p, b = pem.Decode(b); p == nil {
			break
		}
		if p.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(p.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, fail(exitFailed, "want certificates in PEM", "%s holds no certificate", path)
	}
	return out, nil
}

func (a *App) verify(ctx context.Context, k *verifying, path string) error {
	t, err := k.trust(a)
	if err != nil {
		return err
	}
	f, err := file.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	m := a.meter("checking "+f.Name(), f.Size(), true)
	defer m.end()
	art := &metered{Artifact: f, m: m}
	evidence, err := k.readEvidence(path)
	if err != nil {
		return err
	}
	if evidence != nil {
		root, err := a.pinned(k.root)
		if err != nil {
			return err
		}
		o := verify.Options{KeyFromEvidence: t.Roots == nil && len(t.Keys) == 0}
		detached, _, err := beside(path, k.signature, planFormat(evidence))
		if err != nil {
			return err
		}
		v, err := verify.File(ctx, art, detached, evidence, root, t, all.Formats(), o)
		m.end()
		if err != nil {
			return unverified("do not use the file before you know why", err)
		}
		return a.printVerified(v)
	}
	if t.Roots == nil && len(t.Keys) == 0 {
		return fail(exitUsage, "--ca ROOT.pem, --key PUBLIC.pem, or the evidence document with --evidence", "there is no evidence beside %s, and nothing is trusted", path)
	}
	detached, sidecar, err := beside(path, k.signature, k.format)
	if err != nil {
		return err
	}
	ft, err := formatOf(f, k.format, sidecar)
	if err != nil {
		return err
	}
	t.Detached = detached
	r, err := ft.Verify(ctx, art, t)
	m.end()
	if err != nil {
		return unverified("do not use the file before you know why", err)
	}
	if len(r.Signatures) == 0 {
		return fail(exitUnverified, "", "%s carries no signature", path)
	}
	type result struct {
		Verified bool           `json:"verified"`
		Trust    string         `json:"trust"`
		Report   *format.Report `json:"report"`
	}
	return a.print(result{true, "platform", r}, func(w io.Writer) {
		fmt.Fprintln(w, printable(path))
		printReport(w, r)
		fmt.Fprintln(w, "verified, without evidence: who approved it was not judged")
	})
}

func (k *verifying) readEvidence(path string) (*verify.Evidence, error) {
	if k.none {
		if k.evidence != "" || k.root != "" {
			return nil, fail(exitUsage, "leave one of them out", "--no-evidence: evidence and its root are not looked at")
		}
		return nil, nil
	}
	named := k.evidence != ""
	at := k.evidence
	if !named {
		at = path + evidenceSuffix
	}
	b, err := readEvidenceFile(at)
	if errors.Is(err, os.ErrNotExist) && !named {
		if k.root != "" {
			return nil, fail(exitUnverified, "--evidence names it; greatseal evidence FILE fetches it", "there is no evidence beside %s", path)
		}
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	e, err := verify.DecodeEvidence(b)
	if err != nil {
		return nil, unverified("fetch it again: greatseal evidence "+path, err)
	}
	return e, nil
}

func readEvidenceFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, verify.MaxEvidence+1))
	return bytes.TrimRight(b, "\n"), err
}

// verifyBeside verifies a file by the evidence that stands beside it.
func (a *App) verifyBeside(ctx context.Context, path string, root statement.ID) (*verify.Verified, error) {
	b, err := readEvidenceFile(path + evidenceSuffix)
	if err != nil {
		return nil, err
	}
	e, err := verify.DecodeEvidence(b)
	if err != nil {
		return nil, err
	}
	detached, _, err := beside(path, "", planFormat(e))
	if err != nil {
		return nil, err
	}
	f, err := file.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return verify.File(ctx, f, detached, e, root, format.Trust{}, all.Formats(), verify.Options{KeyFromEvidence: true})
}

func (a *App) printVerified(v *verify.Verified) error {
	if a.json {
		b, err := v.JSON()
		if err != nil {
			return err
		}
		return a.print(jsontext.Value(b), nil)
	}
	if err := v.Explain(a.Out); err != nil {
		return err
	}
	if a.verbose {
		printReport(a.Out, v.Report())
	}
	_, err := fmt.Fprintln(a.Out, "verified")
	return err
}

// printReport tells what a format found in a file.
func printReport(w io.Writer, r *format.Report) {
	field(w, "format", r.Format)
	field(w, "size", size(r.Size))
	for _, f := range listed(r.Facts) {
		field(w, "", f.Name+" = "+f.Value)
	}
	for i, s := range r.Signatures {
		label := s.Label
		if label == "" {
			label = fmt.Sprintf("number %d", i+1)
		}
		field(w, "signature", label+", "+string(s.Scheme))
		if s.Subject != "" {
			field(w, "  signer", s.Subject)
			field(w, "  issuer", s.Issuer)
		}
		field(w, "  content", fmt.Sprintf("%s %x", s.Digest, s.Content))
		if !s.Time.IsZero() {
			field(w, "  time", s.Time.UTC().Format(time.RFC3339)+", says "+s.TimeFrom)
		}
		for _, c := range s.Covers {
			field(w, "  covers", c)
		}
		for _, o := range s.Open {
			field(w, "  open", o)
		}
		for _, f := range s.Facts {
			field(w, "", "  "+f.Name+" = "+f.Value)
		}
	}
}
