package cli

import (
	"crypto/x509"
	"fmt"
	"time"
)

// certificateLine is a certificate in a line.
func certificateLine(der []byte) string {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return "unreadable: " + err.Error()
	}
	return fmt.Sprintf("%s, issued by %s, until %s", c.Subject, c.Issuer, c.NotAfter.Format(time.DateOnly))
}
