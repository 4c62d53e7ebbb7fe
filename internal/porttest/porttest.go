// Package porttest finds TCP ports for servers of tests that must be told one by number.
//
// Invariant: a port is below those that systems give to connections and to listeners
// that take any (32768 on Linux, 49152 by RFC 6335, section 6), so that nobody comes by
// it before the server does, nor while the server is started again.
package porttest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// The ports that are given: above those that browsers refuse to talk to
// (https://fetch.spec.whatwg.org/#port-blocking).
const (
	first = 20_000
	last  = 32_767
)

// Free returns a port of 127.0.0.1 that nobody listens on.
func Free() (int, error) {
	var why error
	for range 100 {
		port := first + rand.IntN(last-first+1)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			why = err
			continue
		}
		return port, l.Close()
	}
	return 0, errors.Join(errors.New("porttest: no free port"), why)
}
