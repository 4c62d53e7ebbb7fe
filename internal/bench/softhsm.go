package bench

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/internal/keeper"
	"github.com/greatseal-io/greatseal/internal/keeper/wire"
	"github.com/greatseal-io/greatseal/internal/trial"
	"github.com/greatseal-io/greatseal/key/pkcs11"
	"github.com/greatseal-io/greatseal/sigalg"
)

// moduleCommand is how greatseal-keeper becomes the process of a module.
const moduleCommand = "pkcs11-module"

const tokenLabel = "bench"

// token is a SoftHSM token in a folder of its own.
type token struct {
	keeper  string // binary
	module  string
	env     []string
	pinFile string
}

// modules are where distributions put SoftHSM.
func modules() []string {
	return []string{"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
		"/usr/lib64/softhsm/libsofthsm.so", "/usr/lib64/pkcs11/libsofthsm2.so", "/usr/local/lib/softhsm/libsofthsm2.so", "/opt/homebrew/lib/softhsm/libsofthsm2.so"}
}

// newToken makes a token below dir. keeper is the binary to use; "" is the one
// beside this program.
func newToken(dir, keeper string) (*token, error) {
	const skip = ", or leave the rows of PKCS #11 out with --skip-pkcs11"
	t := &token{keeper: keeper}
	if t.keeper == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("bench: %w", err)
		}
		t.keeper = filepath.Join(filepath.Dir(self), "greatseal-keeper")
	}
	if _, err := exec.LookPath(t.keeper); err != nil {
		return nil, &MissingError{"greatseal-keeper", "build it beside greatseal with make, or name it with --keeper" + skip, err}
	}
	var err error
	if t.keeper, err = filepath.Abs(t.keeper); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	for _, m := range modules() {
		if _, err := os.Stat(m); err == nil && t.module == "" {
			t.module = m
		}
	}
	util, err := exec.LookPath("softhsm2-util")
	if err != nil || t.module == "" {
		return nil, &MissingError{"SoftHSM", "apt-get install softhsm2" + skip, errors.Join(err, errors.New("its library or softhsm2-util is missing"))}
	}
	tokens := filepath.Join(dir, "tokens")
	if err := os.Mkdir(tokens, 0o700); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	conf := filepath.Join(dir, "softhsm2.conf")
	text := fmt.Sprintf("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n", tokens)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	t.env = []string{"SOFTHSM2_CONF=" + conf}
	t.pinFile = filepath.Join(dir, "pin")
	pin, err := secretFile(t.pinFile)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	// The PIN of a token that lives for a minute; softhsm2-util takes it no other way.
	cmd := exec.Command(util, "--init-token", "--free", "--label", tokenLabel, "--pin", string(pin), "--so-pin", string(pin))
	cmd.Env = append(os.Environ(), t.env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("bench: softhsm2-util: %w: %s", err, out)
	}
	return t, nil
}

func tokenURI(object string) string { return "pkcs11:token=" + tokenLabel + ";object=" + object }

func (t *token) open(ctx context.Context, sessions int) (*pkcs11.Provider, error) {
	return pkcs11.Open(ctx, pkcs11.Config{
		Command: []string{t.keeper, moduleCommand}, Env: t.env, Module: t.module, Sessions: sessions,
		PIN: func(context.Context, pkcs11.Token) ([]byte, error) { return config.Secret(t.pinFile) },
	})
}

// raw makes keys of its own in the token and finds the number of sessions with
// which it signs fastest: the first algorithm decides, as one deployment has one
// number. The keys that are returned are open with that number.
func (t *token) raw(ctx context.Context, algorithms []sigalg.Key, o *KeeperOptions) (_ map[sigalg.Key]rawKey, sessions int, end func() error, err error) {
	best := 0.0
	for i, s := range []int{1, 2, 4, 8} {
		p, err := t.open(ctx, s)
		if err != nil {
			return nil, 0, nil, err
		}
		if i == 0 {
			for _, a := range algorithms {
				if _, err := p.Generate(ctx, keyURI(tokenURI("raw-"+keyName(a))), a); err != nil {
					return nil, 0, nil, errors.Join(err, p.Close())
				}
			}
		}
		ks, err := t.rawKeys(ctx, p, algorithms, s)
		var n int64
		var took time.Duration
		if err == nil {
			n, took, err = ks[algorithms[0]].run(ctx, o.slice/2)
		}
		if err := errors.Join(err, p.Close()); err != nil {
			return nil, 0, nil, err
		}
		rate := perSecond(n, took)
		o.Progress.say("  token with %d session(s): %s at %.0f/s", s, algorithms[0], rate)
		if rate > best {
			best, sessions = rate, s
		}
	}
	p, err := t.open(ctx, sessions)
	if err != nil {
		return nil, 0, nil, err
	}
	ks, err := t.rawKeys(ctx, p, algorithms, sessions)
	if err != nil {
		return nil, 0, nil, errors.Join(err, p.Close())
	}
	return ks, sessions, p.Close, nil
}

func (t *token) rawKeys(ctx context.Context, p *pkcs11.Provider, algorithms []sigalg.Key, sessions int) (map[sigalg.Key]rawKey, error) {
	out := map[sigalg.Key]rawKey{}
	for _, a := range algorithms {
		k, err := p.Open(ctx, keyURI(tokenURI("raw-"+keyName(a))))
		if err != nil {
			return nil, err
		}
		out[a] = rawKey{k, 2*sessions + softCallers()} // while one is checked, others are signed
	}
	return out, nil
}

// deployment founds a deployment whose keeper is a process of greatseal-keeper,
// reached over a Unix socket.
func (t *token) deployment(ctx context.Context, dir, dsn string, algorithms []sigalg.Key, sessions int) (d *deployment, err error) {
	d = &deployment{}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	if _, err := secretFile(filepath.Join(dir, "passphrase")); err != nil {
		return d, fmt.Errorf("bench: %w", err)
	}
	path := filepath.Join(dir, "keeper.yaml")
	c := config.KeeperServer{KeeperIn: keeperIn(dir), Socket: filepath.Join(dir, "keeper.sock")}
	c.PKCS11 = []config.PKCS11{{Module: t.module, PINFile: t.pinFile, Sessions: sessions, Env: t.env}}
	if err := config.Write(path, &c); err != nil {
		return d, err
	}
	out, err := t.run(ctx, "init", "--config", path)
	if err != nil {
		return d, err
	}
	st, err := parseStatus(out)
	if err != nil {
		return d, err
	}
	d.trial, err = trial.New(ctx, dir, st, trial.Options{Keys: specs(algorithms, tokenURI)})
	if err != nil {
		return d, err
	}
	c.Root = d.trial.Root
	if err := config.Write(path, &c); err != nil {
		return d, err
	}
	charter := filepath.Join(dir, "charter-v1.json")
	if err := os.WriteFile(charter, d.trial.Found, 0o600); err != nil {
		return d, fmt.Errorf("bench: %w", err)
	}
	if _, err := t.run(ctx, "found", "--config", path, charter); err != nil {
		return d, err
	}
	end, err := t.start(path, filepath.Join(dir, "keeper.log"))
	if err != nil {
		return d, err
	}
	d.defer_(end)
	if d.keeper, err = dial(ctx, c.Socket); err != nil {
		return d, fmt.Errorf("bench: greatseal-keeper: %w", err)
	}
	d.defer_(d.keeper.Close)
	return d, d.serve(ctx, dsn)
}

func (t *token) run(ctx context.Context, args ...string) ([]byte, error) {
	var out, errs bytes.Buffer
	c := exec.CommandContext(ctx, t.keeper, args...)
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		return nil, fmt.Errorf("bench: greatseal-keeper %s: %w: %s", args[0], err, errs.Bytes())
	}
	return out.Bytes(), nil
}

// start runs the keeper; end stops it and waits.
func (t *token) start(conf, log string) (end func() error, err error) {
	f, err := os.Create(log)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	defer f.Close()
	c := exec.Command(t.keeper, "run", "--config", conf)
	c.Stdout, c.Stderr = f, f
	if err := c.Start(); err != nil {
		return nil, fmt.Errorf("bench: greatseal-keeper: %w", err)
	}
	return func() error {
		if err := c.Process.Signal(syscall.SIGTERM); err != nil {
			c.Process.Kill()
		}
		kill := time.AfterFunc(10*time.Second, func() { c.Process.Kill() })
		defer kill.Stop()
		if err := c.Wait(); err != nil {
			text, _ := os.ReadFile(log)
			return fmt.Errorf("bench: greatseal-keeper: %w: %s", err, text[max(0, len(text)-2000):])
		}
		return nil
	}, nil
}

// dial waits for the keeper's socket.
func dial(ctx context.Context, socket string) (k keeper.Keeper, err error) {
	for range 200 {
		if k, err = wire.Dial(ctx, wire.Config{Network: "unix", Address: socket}); err == nil || ctx.Err() != nil {
			return k, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil, err
}

// parseStatus reads the keys that "greatseal-keeper init" prints for the charter.
func parseStatus(out []byte) (*keeper.Status, error) {
	var v struct {
		Keeper struct {
			Receipts string `yaml:"receipts"`
			LogKey   string `yaml:"logKey"`
		} `yaml:"keeper"`
	}
	if err := yaml.Unmarshal(out, &v); err != nil {
		return nil, fmt.Errorf("bench: greatseal-keeper init: %w", err)
	}
	r, err1 := base64.StdEncoding.DecodeString(v.Keeper.Receipts)
	l, err2 := base64.StdEncoding.DecodeString(v.Keeper.LogKey)
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("bench: greatseal-keeper init: %w", err)
	}
	return &keeper.Status{ReceiptKey: r, LogKey: l}, nil
}
