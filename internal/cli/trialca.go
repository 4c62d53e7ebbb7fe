package cli

import (
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/greatseal-io/greatseal/format/file"
	"github.com/greatseal-io/greatseal/internal/trial"
)

func (a *App) keyTrialCA() *cobra.Command {
	var csr, out, dir string
	var stamps bool
	c := &cobra.Command{
		Use:   "trial-ca --csr KEY.csr --out CHAIN.pem",
		Short: "issue a certificate for trying out, from a small authority on this machine",
		Long: `Makes an authority in --dir where there is none, and issues a code-signing
certificate for the certificate request. Nobody else trusts it: use it to try a
deployment before a real authority has answered.`,
		Args: exactly(),
		RunE: func(*cobra.Command, []string) error {
			if csr == "" || out == "" {
				return fail(exitUsage, "greatseal key trial-ca --csr KEY.csr --out CHAIN.pem", "--csr and --out are wanted")
			}
			req, err := readRequest(csr, "greatseal key csr KEY --out "+csr)
			if err != nil {
				return err
			}
			ca, err := trialAuthority(dir, a.Now())
			if err != nil {
				return err
			}
			der, err := ca.Issue(req.PublicKey, req.RawSubject, stamps, a.Now())
			if err != nil {
				return err
			}
			text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Certificate.Raw})...)
			if err := file.WriteFile(out, text, 0o644); err != nil {
				return err
			}
			root := filepath.Join(dir, "ca.crt")
			return a.print(map[string]string{"chain": out, "root": root, "subject": req.Subject.String()}, func(w io.Writer) {
				fmt.Fprintf(w, "%s\ngreatseal key import-certificate KEY %[1]s\ngreatseal verify FILE --ca %s\n", printable(out), printable(root))
			})
		},
	}
	f := c.Flags()
	f.StringVar(&csr, "csr", "", "certificate request")
	f.StringVarP(&out, "out", "o", "", "chain to write")
	f.StringVar(&dir, "dir", "trial-ca", "folder of the authority")
	f.BoolVar(&stamps, "timestamping", false, "for a timestamp authority instead of code signing")
	return c
}

// trialAuthority is the authority in dir, made where there is none.
func trialAuthority(dir string, now time.Time) (*trial.Authority, error) {
	base := filepath.Join(dir, "ca")
	cert, key, err := readPair(base)
	if !errors.Is(err, os.ErrNotExist) {
		return &trial.Authority{Key: key, Certificate: cert}, err
	}
	ca, err := trial.NewAuthority(now)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return ca, writePair(base, ca.Key, ca.Certificate)
}
