package porttest

import (
	"fmt"
	"net"
	"testing"
)

// A port is none that the system gives away, and can be listened on at once.
func TestFree(t *testing.T) {
	given := map[int]bool{}
	for range 200 {
		port, err := Free()
		if err != nil {
			t.Fatal(err)
		}
		if port < 20_000 || port >= 32_768 {
			t.Errorf("port %d", port)
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if given[port] {
			t.Errorf("%d was given twice", port)
		}
		given[port] = true
	}
}
