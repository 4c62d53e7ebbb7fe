//go:build cgo && unix

package module

import (
	"testing"

	"github.com/greatseal-io/greatseal/key"
	"github.com/greatseal-io/greatseal/key/keytest"
	"github.com/greatseal-io/greatseal/sigalg"
)

func TestConformance(t *testing.T) {
	h := newHSM(t, "hsm")
	keytest.Run(t, func(t *testing.T) key.Provider {
		p, _ := h.open(t, nil)
		return p
	}, keytest.Options{
		Algorithms: []sigalg.Key{sigalg.RSA3072, sigalg.RSA4096, sigalg.P256, sigalg.P384, sigalg.Ed25519},
		URI:        uri,
		Malformed: []key.URI{
			"pkcs11:token=hsm", "pkcs11:object=a", "pkcs11:token=hsm;object=a;pin-value=1", "pkcs11:token=hsm;object=a?pin-value=1",
			"pkcs11:token=hsm;object=a;type=public", "pkcs11:token=hsm;object=a;object=b",
		},
		Secrets: []string{pin},
	})
}
