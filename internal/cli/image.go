package cli

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"oras.land/oras-go/v2/registry/remote/credentials"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/file"
	"github.com/greatseal-io/greatseal/format/oci"
	"github.com/greatseal-io/greatseal/internal/registry"
)

func (a *App) imageCommand() *cobra.Command {
	c := &cobra.Command{Use: "image", GroupID: "sign", Short: "sign and check images in OCI registries"}
	c.AddCommand(a.imageSign(), a.imageVerify())
	return c
}

// registryClient speaks to registries with the credentials that docker login, podman
// login and the like have kept.
func registryClient(plain bool) *registry.Client {
	return &registry.Client{HTTP: &http.Client{Timeout: 5 * time.Minute}, Plain: plain, Now: time.Now, Credential: registryCredential}
}

func registryCredential(ctx context.Context, host string) (name, password string, err error) {
	s, err := credentials.NewStoreFromDocker(credentials.StoreOptions{})
	if err != nil {
		return "", "", err
	}
	c, err := s.Get(ctx, host)
	return c.Username, c.Password, err
}

// imageFile puts a manifest into a folder, under the name by which requests and
// policies know it: the last word of the repository, "app.oci".
func imageFile(dir string, m *registry.Manifest) (string, error) {
	repo, _, _ := strings.Cut(m.Reference, "@")
	at := filepath.Join(dir, path.Base(repo)+".oci")
	return at, os.WriteFile(at, m.Bytes, 0o600)
}

// imageSigned is the document of image sign.
type imageSigned struct {
	Image     string `json:"image"`     // with its digest
	Form      string `json:"form"`      // of the signature
	Signature string `json:"signature"` // its reference in the registry
	Evidence  string `json:"evidence,omitzero"`
}

func (a *App) imageSign() *cobra.Command {
	var policy, form, reason, evidence string
	var plain bool
	c := &cobra.Command{
		Use:   "sign REFERENCE --policy POLICY",
		Short: "sign an image or artifact and put the signature beside it",
		Long: `Signs the manifest, or the index, that REFERENCE names, and pushes the signature to
the registry as a referrer of it. A tag is resolved to its digest first: nobody signs
tags. The image itself is not pulled. The request calls the manifest after the last
word of the repository: "app.oci".

The form is what others verify: a bundle for cosign, or an envelope for notation.`,
		Example: `  greatseal image sign registry.example.com/team/app:1.4 --policy images
  greatseal image sign registry.example.com/team/app@sha256:… --policy images --form notation-jws`,
		Args: exactly("REFERENCE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.signImage(cmd.Context(), registryClient(plain), args[0], policy, form, reason, evidence)
		},
	}
	f := c.Flags()
	f.StringVarP(&policy, "policy", "p", "", "signing policy of the charter")
	f.StringVar(&form, "form", oci.FormCosign, "cosign, notation-jws or notation-cose")
	f.StringVar(&reason, "reason", "", "why; endorsers see it")
	f.StringVar(&evidence, "evidence", "", "file for the proof of who approved it")
	f.BoolVar(&plain, "plain-http", false, "speak HTTP to the registry")
	must(c.RegisterFlagCompletionFunc("policy", a.completePolicies))
	return c
}

func (a *App) signImage(ctx context.Context, c *registry.Client, ref, policy, form, reason, evidence string) error {
	m, err := c.Manifest(ctx, ref)
	if err != nil {
		return fail(exitUnavailable, "docker login, if the registry wants a name; --plain-http, if it speaks no TLS", "%v", err)
	}
	dir, err := os.MkdirTemp("", "greatseal-image")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	at, err := imageFile(dir, m)
	if err != nil {
		return err
	}
	config, err := c.Config(ctx, m)
	if err != nil {
		return fail(exitUnavailable, "endorsers see what the image runs: its configuration must be in the registry", "%v", err)
	}
	params, err := imageParams(form, config)
	if err != nil {
		return err
	}
	args := []string{"sign", at, "--policy", policy, "--format", "oci", "--param", params, "--claim", "reference=" + m.Reference, "--out", at + ".signature"}
	if reason != "" {
		args = append(args, "--reason", reason)
	}
	if evidence == "" {
		args = append(args, "--no-evidence")
	}
	if err := a.again(ctx, args); err != nil {
		return err
	}
	sig, err := readSmall(at + ".signature")
	if err != nil {
		return err
	}
	r := imageSigned{Image: m.Reference, Form: form, Evidence: evidence}
	if r.Signature, err = c.Push(ctx, m.Reference, sig); err != nil {
		return fail(exitUnavailable, "run it again: what was signed is collected", "%v", err)
	}
	if evidence != "" {
		b, err := os.ReadFile(at + ".signature" + evidenceSuffix)
		if err != nil {
			return err
		}
		if err := file.WriteFile(evidence, b, 0o644); err != nil {
			return err
		}
	}
	return a.print(r, func(w io.Writer) {
		fmt.Fprintf(w, "%s  signed for %s\n", r.Image, r.Form)
		field(w, "signature", r.Signature)
		if r.Evidence != "" {
			field(w, "evidence", r.Evidence)
		}
	})
}

// imageParams are the options of an image's signature as the flag takes several: a line
// of comma-separated values.
func imageParams(form string, config []byte) (string, error) {
	list := []string{"form=" + form}
	if config != nil {
		text, err := oci.ConfigOption(config)
		if err != nil {
			return "", err
		}
		list = append(list, "config="+text)
	}
	var b strings.Builder
	w := csv.NewWriter(&b)
	if err := w.Write(list); err != nil {
		return "", err
	}
	w.Flush()
	return strings.TrimSuffix(b.String(), "\n"), w.Error()
}

// again runs another command of this program, as the same user, and keeps its
// result to itself.
func (a *App) again(ctx context.Context, args []string) error {
	for flag, v := range map[string]string{"--config": a.cfgPath, "--server": a.flags.Server, "--as": a.flags.Name, "--identity": a.flags.Identity} {
		if v != "" {
			args = append(args, flag, v)
		}
	}
	if a.quiet {
		args = append(args, "--quiet")
	}
	b := &App{In: a.In, Out: io.Discard, Err: a.Err, Now: a.Now}
	root := b.Root()
	root.SetArgs(args)
	root.SetIn(b.In)
	root.SetOut(b.Out)
	root.SetErr(b.Err)
	return root.ExecuteContext(ctx)
}

// imageVerified is the document of image verify.
type imageVerified struct {
	Image    string   `json:"image"`
	Good     int      `json:"good"`               // signatures that were accepted
	Rejected []string `json:"rejected,omitempty"` // why others were not
}

func (a *App) imageVerify() *cobra.Command {
	var ca, keys []string
	var at string
	var plain bool
	c := &cobra.Command{
		Use:   "verify REFERENCE",
		Short: "check the signatures that a registry has of an image",
		Long: `Fetches the manifest that REFERENCE names and the signatures that refer to it, and
checks each under the certificates (--ca, for notation's envelopes) and public keys
(--key, for cosign's bundles) that you trust. It succeeds when one is good, and says why
others are not. A registry can withhold signatures, but not make any.`,
		Example: `  greatseal image verify registry.example.com/team/app:1.4 --key release.pem`,
		Args:    exactly("REFERENCE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			k := &verifying{ca: ca, keys: keys, at: at}
			return a.verifyImage(cmd.Context(), registryClient(plain), k, args[0])
		},
	}
	f := c.Flags()
	f.StringArrayVar(&ca, "ca", nil, "PEM file of certificates to trust; repeatable")
	f.StringArrayVar(&keys, "key", nil, "public key or certificate in PEM whose key to trust; repeatable")
	f.StringVar(&at, "at", "", "time to judge certificates at (default: now)")
	f.BoolVar(&plain, "plain-http", false, "speak HTTP to the registry")
	return c
}

func (a *App) verifyImage(ctx context.Context, c *registry.Client, k *verifying, ref string) error {
	t, err := k.trust(a)
	if err != nil {
		return err
	}
	if t.Roots == nil && len(t.Keys) == 0 {
		return fail(exitUsage, "--key KEY.pem or --ca CA.pem", "nobody is trusted")
	}
	m, err := c.Manifest(ctx, ref)
	if err != nil {
		return fail(exitUnavailable, "docker login, if the registry wants a name; --plain-http, if it speaks no TLS", "%v", err)
	}
	list, err := c.Signatures(ctx, m)
	if err != nil {
		return fail(exitUnavailable, "", "%v", err)
	}
	r := imageVerified{Image: m.Reference}
	var reports []*format.Report
	for _, s := range list {
		t.Detached = s
		rep, err := oci.New().Verify(ctx, format.BytesArtifact("manifest", bytes.Clone(m.Bytes)), t)
		if err != nil {
			r.Rejected = append(r.Rejected, plain(err).Error())
			continue
		}
		r.Good++
		reports = append(reports, rep)
	}
	if r.Good == 0 {
		why := errors.New("the registry has no signature of it")
		if len(r.Rejected) > 0 {
			why = errors.New(strings.Join(r.Rejected, "; "))
		}
		return fail(exitUnverified, "", "%s: %v", m.Reference, why)
	}
	return a.print(r, func(w io.Writer) {
		fmt.Fprintf(w, "%s  verified\n", r.Image)
		for _, rep := range reports {
			printReport(w, rep)
		}
		for _, why := range r.Rejected {
			field(w, "not good", why)
		}
	})
}
