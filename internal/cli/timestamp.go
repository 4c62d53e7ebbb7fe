package cli

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/all"
	"github.com/greatseal-io/greatseal/format/file"
	"github.com/greatseal-io/greatseal/tsp"
	tspclient "github.com/greatseal-io/greatseal/tsp/client"
)

type stamping struct {
	tsa, tsaCA             []string
	signature, format, out string
}

func (a *App) timestampCommand() *cobra.Command {
	k := &stamping{}
	c := &cobra.Command{
		Use:     "timestamp FILE",
		GroupID: "sign",
		Short:   "add timestamps to signatures that have none",
		Long: `Asks an RFC 3161 authority for a token over every signature of the file that carries
none, and puts it in: after the signing certificate has expired, the signature stays
valid. The authorities are asked in order until one answers; without --tsa the
deployment's own is asked.`,
		Example: `  greatseal timestamp app.exe --tsa http://timestamp.example.com`,
		Args:    exactly("FILE"),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.timestamp(cmd.Context(), k, args[0]) },
	}
	f := c.Flags()
	f.StringArrayVar(&k.tsa, "tsa", nil, "URL of an authority; repeatable")
	f.StringArrayVar(&k.tsaCA, "tsa-ca", nil, "PEM file of certificates to trust for timestamps; repeatable")
	f.StringVarP(&k.signature, "signature", "s", "", "detached signature (default: the one beside the file)")
	f.StringVarP(&k.format, "format", "f", "", "format of the signature (default: by content)")
	f.StringVarP(&k.out, "out", "o", "", "file for the result (default: the file, or its signature, is replaced)")
	return c
}

// stamper gets a token over the SHA-256 of a message, and says from whom.
type stamper func(ctx context.Context, message []byte) (token []byte, from string, err error)

func (a *App) stamper(k *stamping) (stamper, error) {
	roots, err := pool(k.tsaCA)
	if err != nil {
		return nil, err
	}
	if len(k.tsa) > 0 {
		c := &tspclient.Client{Authorities: k.tsa, HTTP: &http.Client{Timeout: time.Minute}, Rand: rand.Reader, Roots: roots}
		return func(ctx context.Context, message []byte) ([]byte, string, error) {
			h := sha256.Sum256(message)
			token, from, err := c.Stamp(ctx, crypto.SHA256, h[:])
			if err != nil {
				return nil, "", fail(exitUnavailable, "name another authority with --tsa", "%v", err)
			}
			return token, from, nil
		}, nil
	}
	l, err := a.connect()
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, message []byte) ([]byte, string, error) {
		token, err := l.stamp(ctx, message, roots)
		return token, "the deployment's own authority", err
	}, nil
}

// stamp asks the deployment's own authority.
func (l *link) stamp(ctx context.Context, message []byte, roots *x509.CertPool) ([]byte, error) {
	nonce, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 64))
	if err != nil {
		return nil, err
	}
	h := sha256.Sum256(message)
	req := tsp.NewRequest(crypto.SHA256, h[:], nonce, nil, true)
	der, err := req.Marshal()
	if err != nil {
		return nil, err
	}
	reply, err := l.Timestamp(ctx, der)
	if err != nil {
		return nil, err
	}
	token, err := tsp.ParseResponse(reply)
	if err != nil {
		return nil, err
	}
	if err := token.Answers(req); err != nil {
		return nil, unverified("tell the server's administrator", err)
	}
	imprint := func(x crypto.Hash) ([]byte, error) {
		if x != crypto.SHA256 {
			return nil, tsp.ErrImprint
		}
		return h[:], nil
	}
	if roots != nil {
		_, err = token.Verify(imprint, roots)
	} else {
		_, err = token.VerifySignature(imprint)
	}
	if err != nil {
		return nil, unverified("--tsa-ca names whom to trust", err)
	}
	return token.CMS.Raw, nil
}

// maxStamps bounds the signatures of one file.
const maxStamps = 64

// stamped is the document of timestamp.
type stamped struct {
	File   string   `json:"file"`
	Stamps int      `json:"timestamps"`
	From   []string `json:"from"`
}

func (a *App) timestamp(ctx context.Context, k *stamping, path string) error {
	ask, err := a.stamper(k)
	if err != nil {
		return err
	}
	r := stamped{File: path, From: []string{}}
	source, signature := path, k.signature
	for range maxStamps {
		from, out, beside, err := k.next(ctx, ask, source, signature)
		if err != nil {
			return err
		}
		if from == "" {
			return a.print(r, func(w io.Writer) {
				if r.Stamps == 0 {
					fmt.Fprintf(w, "%s  every signature has its timestamp\n", printable(path))
					return
				}
				fmt.Fprintf(w, "%s  %s, from %s\n", printable(r.File), count(r.Stamps, "timestamp"), printable(r.From[0]))
			})
		}
		r.Stamps++
		r.From = append(r.From, from)
		r.File = out
		if beside { // the next one goes into what was written
			signature = out
		} else {
			source = out
		}
	}
	return fail(exitFailed, "", "%s: more than %d signatures", path, maxStamps)
}

// next adds one timestamp; from is empty when none is missing. sidecar says that
// the signature stands beside the file.
func (k *stamping) next(ctx context.Context, ask stamper, path, signature string) (from, out string, sidecar bool, err error) {
	f, err := file.Open(path)
	if err != nil {
		return "", "", false, err
	}
	defer f.Close()
	var detached []byte
	at := ""
	ft, ok := all.Detect(f)
	if !ok || anyFile(ft) || k.format != "" || signature != "" {
		if detached, at, err = beside(path, signature, k.format); err != nil {
			return "", "", false, err
		}
		if ft, err = formatOf(f, k.format, at); err != nil {
			return "", "", false, err
		}
	}
	s, ok := ft.(format.Stamper)
	if !ok {
		return "", "", false, fail(exitFailed, "greatseal formats says which do", "signatures of the format %s take no timestamp", ft.Name())
	}
	targets, err := s.Unstamped(ctx, f, detached)
	if err != nil || len(targets) == 0 {
		return "", "", false, err
	}
	token, from, err := ask(ctx, targets[0].Message)
	if err != nil {
		return "", "", false, err
	}
	p, err := s.Stamp(ctx, f, detached, targets[0], token)
	if err != nil {
		return "", "", false, err
	}
	out = k.out
	switch {
	case out != "":
	case p.Sidecar != nil:
		out = at
	default:
		out = path
	}
	if p.Sidecar != nil {
		if b, err := readSmall(at); err != nil || !bytes.Equal(b, detached) {
			return "", "", false, fail(exitFailed, "try again", "%s has changed meanwhile", at)
		}
	}
	return from, out, p.Sidecar != nil, file.Write(path, out, p, file.Options{})
}
