package cli

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/all"
)

// gitPrograms are the names under which git calls this program in the place of one
// of its own; git gives its programs no arguments of ours. The kind is the option
// of the format "git".
var gitPrograms = []gitProgram{
	{"greatseal-git-ssh", "ssh", "gpg.ssh.program", "ssh-keygen"},
	{"greatseal-git-openpgp", "openpgp", "gpg.program", "gpg"},
	{"greatseal-git-x509", "x509", "gpg.x509.program", "gpgsm"},
}

type gitProgram struct{ name, kind, option, instead string }

// maxGitObject bounds what git hands over, in bytes.
const maxGitObject = 16 << 20

// GitProgram runs this program in the place of one of git's when it was called by
// the name of one, and says whether it was.
func GitProgram(ctx context.Context, name string, args []string, in io.Reader, out, errw io.Writer) (code int, ok bool) {
	name = strings.TrimSuffix(filepath.Base(name), ".exe")
	for _, p := range gitPrograms {
		if name == p.name {
			a := &App{In: in, Out: out, Err: errw}
			return a.report(a.asGitProgram(ctx, p.kind, p.instead, args)), true
		}
	}
	return 0, false
}

func (a *App) asGitProgram(ctx context.Context, kind, instead string, args []string) error {
	file, sign := gitSigns(kind, args)
	if !sign { // verification, and whatever else git asks, is the other program's
		c := exec.CommandContext(ctx, instead, args...)
		c.Stdin, c.Stdout, c.Stderr = a.In, a.Out, a.Err
		err := c.Run()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return &fault{exit.ExitCode(), fmt.Errorf("%s: %w", instead, err), ""}
		}
		return err
	}
	var payload []byte
	var err error
	if file != "" {
		payload, err = readSmall(file)
	} else {
		payload, err = io.ReadAll(io.LimitReader(a.In, maxGitObject+1))
	}
	if err != nil {
		return err
	}
	if len(payload) > maxGitObject {
		return fail(exitFailed, "", "an object of more than %d bytes", maxGitObject)
	}
	sig, err := a.gitSignature(ctx, kind, payload)
	if err != nil {
		return err
	}
	if file != "" {
		return os.WriteFile(file+".sig", sig, 0o600)
	}
	if _, err := a.Out.Write(sig); err != nil {
		return err
	}
	// What git looks for in gpg's status. The fields after the letter are not read.
	_, err = fmt.Fprintf(a.Err, "\n[GNUPG:] SIG_CREATED D\n")
	return err
}

// gitSigns says whether git asks for a signature, and over which file ("": standard
// input): ssh-keygen -Y sign -n git -f KEY FILE, or gpg --status-fd=2 -bsau KEY.
func gitSigns(kind string, args []string) (file string, ok bool) {
	if kind == "ssh" {
		i := slices.Index(args, "-Y")
		if i < 0 || i+1 >= len(args) || args[i+1] != "sign" || len(args) < i+3 {
			return "", false
		}
		return args[len(args)-1], true
	}
	return "", slices.ContainsFunc(args, func(s string) bool { return s == "-bsau" || s == "--detach-sign" })
}

// gitSignature has an object signed under the policy of the repository.
func (a *App) gitSignature(ctx context.Context, kind string, payload []byte) ([]byte, error) {
	policy := os.Getenv("GREATSEAL_POLICY")
	if policy == "" {
		b, err := exec.CommandContext(ctx, "git", "config", "--get", "greatseal.policy").Output()
		if policy = strings.TrimSpace(string(b)); err != nil || policy == "" {
			return nil, fail(exitUsage, "git config greatseal.policy POLICY, or greatseal git setup", "the repository names no policy")
		}
	}
	dir, err := os.MkdirTemp("", "greatseal-git")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, gitName(ctx, payload))
	if err := os.WriteFile(path, payload, 0o600); err != nil {
		return nil, err
	}
	if code := Main(ctx, []string{"sign", path, "--policy", policy, "--format", "git", "--param", "kind=" + kind, "--no-evidence"}, a.In, a.Err, a.Err); code != exitOK {
		return nil, &fault{code, errors.New("the object was not signed"), ""}
	}
	signed, err := readSmall(path)
	if err != nil {
		return nil, err
	}
	f, ok := all.ByName("git")
	if !ok {
		return nil, fail(exitFailed, "", "there is no format git")
	}
	s, err := f.(format.Extractor).Extract(ctx, format.BytesArtifact("object", signed), 0)
	if err != nil {
		return nil, err
	}
	return s.Data, nil
}

// gitName is what the request calls an object: the repository's folder and the kind,
// "project.commit".
func gitName(ctx context.Context, payload []byte) string {
	name := "repository"
	if b, err := exec.CommandContext(ctx, "git", "rev-parse", "--show-toplevel").Output(); err == nil {
		name = filepath.Base(strings.TrimSpace(string(b)))
	}
	if bytes.HasPrefix(payload, []byte("tree ")) {
		return name + ".commit"
	}
	return name + ".tag"
}

func (a *App) gitCommand() *cobra.Command {
	c := &cobra.Command{Use: "git", GroupID: "sign", Short: "sign commits and tags from git itself"}
	c.AddCommand(a.gitSetup())
	return c
}

// gitConfigured is the document of git setup.
type gitConfigured struct {
	Policy  string            `json:"policy"`
	Key     string            `json:"key"`
	Program string            `json:"program"`
	Config  map[string]string `json:"config"`
}

func (a *App) gitSetup() *cobra.Command {
	var kind, policy string
	var global bool
	c := &cobra.Command{
		Use:   "setup --policy POLICY",
		Short: "have git ask greatseal for the signatures of commits and tags",
		Long: `Configures the repository in the current folder (or, with --global, every one of
yours) so that "git commit -S" and "git tag -s" ask for a signature under a policy
that signs the format git. Git waits as long as the request does: a policy that is
unattended, or endorsers who are quick, suit it. The request calls the object after
the repository's folder: "project.commit", "project.tag".

Signatures are checked by git with ssh-keygen, gpg or gpgsm, as everybody's are.`,
		Example: `  greatseal git setup --policy commits
  git commit -S -m "signed"`,
		Args: exactly(),
		RunE: a.inside(func(cmd *cobra.Command, l *link, _ []string) error {
			return a.setUpGit(cmd.Context(), l, kind, policy, global)
		}),
	}
	f := c.Flags()
	f.StringVar(&policy, "policy", "", "policy of the charter that signs commits and tags")
	f.StringVar(&kind, "kind", "ssh", "ssh, openpgp or x509")
	f.BoolVar(&global, "global", false, "for all of your repositories")
	return c
}

func (a *App) setUpGit(ctx context.Context, l *link, kind, policy string, global bool) error {
	i := slices.IndexFunc(gitPrograms, func(p gitProgram) bool { return p.kind == kind })
	if i < 0 {
		return fail(exitUsage, "--kind ssh, openpgp or x509", "there is no kind %q", kind)
	}
	if policy == "" {
		return fail(exitUsage, "greatseal charter show", "--policy is missing")
	}
	chain, err := l.charters(ctx)
	if err != nil {
		return err
	}
	head, _ := chain.Head()
	p, ok := head.Policies[policy]
	if !ok || !slices.Contains(p.Formats, "git") {
		return fail(exitFailed, "greatseal charter show", "the charter has no policy %s that signs the format git", policy)
	}
	keys, err := l.Keys(ctx)
	if err != nil {
		return err
	}
	signingKey := ""
	for _, k := range keys {
		if k.Name != p.Key || len(k.PublicKey) == 0 {
			continue
		}
		pub, err := x509.ParsePKIXPublicKey(k.PublicKey)
		if err != nil {
			return err
		}
		s, err := ssh.NewPublicKey(pub)
		if err != nil {
			return fail(exitFailed, "a policy with an RSA, ECDSA or Ed25519 key", "git has no signatures of key %s: %v", k.Name, err)
		}
		signingKey = strings.TrimSpace(string(ssh.MarshalAuthorizedKey(s)))
	}
	if signingKey == "" {
		return fail(exitFailed, "greatseal key generate "+p.Key, "key %s has not been generated", p.Key)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return fail(exitFailed, "set HOME", "%v", err)
	}
	program := filepath.Join(dir, "greatseal", "git", gitPrograms[i].name)
	if err := symlink(self, program); err != nil {
		return err
	}
	r := gitConfigured{Policy: policy, Key: p.Key, Program: program, Config: map[string]string{
		"gpg.format": kind, gitPrograms[i].option: program, "greatseal.policy": policy, "user.signingkey": p.Key}}
	if kind == "ssh" {
		r.Config["user.signingkey"] = "key::" + signingKey
	}
	for _, k := range slices.Sorted(maps.Keys(r.Config)) {
		args := []string{"config"}
		if global {
			args = append(args, "--global")
		}
		if b, err := exec.CommandContext(ctx, "git", append(args, k, r.Config[k])...).CombinedOutput(); err != nil {
			return fail(exitFailed, "run it in a repository, or with --global", "git config %s: %s", k, strings.TrimSpace(string(b)))
		}
	}
	return a.print(r, func(w io.Writer) {
		fmt.Fprintf(w, "git asks for signatures under policy %s, key %s\n", r.Policy, r.Key)
		if kind == "ssh" {
			fmt.Fprintf(w, "who checks them trusts this line in gpg.ssh.allowedSignersFile:\n* namespaces=\"git\" %s\n", signingKey)
		}
	})
}

// symlink makes a symbolic link, in the place of one that is there.
func symlink(to, at string) error {
	if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
		return err
	}
	if now, err := os.Readlink(at); err == nil && now == to {
		return nil
	}
	if err := os.Remove(at); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.Symlink(to, at)
}
