package openpgp_test

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/openpgp"
)

// A detached signature is checked with the keys of somebody's public key file.
func ExampleSignature_Verify() {
	file, err := os.ReadFile("testdata/ed25519.4.key")
	if err != nil {
		fmt.Println(err)
		return
	}
	now := time.Date(2026, 1, 3, 0, 0, 0, 0, time.UTC)
	who, err := openpgp.ReadCertificates(file, now)
	if err != nil {
		fmt.Println(err)
		return
	}
	text, err := os.ReadFile("testdata/ed25519.4.asc")
	if err != nil {
		fmt.Println(err)
		return
	}
	packets, _, err := openpgp.Dearmor(openpgp.ArmorSignature, text)
	if err != nil {
		fmt.Println(err)
		return
	}
	p, rest, err := openpgp.ReadPacket(packets)
	if err != nil || p.Tag != openpgp.TagSignature || len(rest) > 0 {
		fmt.Println("not one signature", err)
		return
	}
	sig, err := openpgp.ParseSignature(p.Body)
	if err != nil || sig.Type != openpgp.Binary {
		fmt.Println("not a signature of a file", err)
		return
	}
	x := sig.NewHash()
	io.Copy(x, strings.NewReader("message"))
	x.Write(sig.Trailer())
	fmt.Println(sig.ValidAt(now), sig.Verify(who[0].Signing[0].Public, x.Sum(nil)))
	fmt.Println(who[0].UserIDs[0])
	// Output:
	// <nil> <nil>
	// A <a@example.com>
}
