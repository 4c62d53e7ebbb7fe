package cli

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// Commands that keep something at once all succeed, and who reads has what one of them
// kept, whole.
func TestKeepTogether(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "session.json")
	data := func(i int) []byte { return bytes.Repeat(fmt.Appendf(nil, "%04d", i), 1000) }
	if err := keep(path, data(0)); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			for i := range 25 {
				if err := keep(path, data(n*25+i)); err != nil {
					t.Error(err)
				}
				b, err := os.ReadFile(path)
				if err != nil || len(b) != 4000 || !bytes.Equal(b, bytes.Repeat(b[:4], 1000)) {
					t.Errorf("%d bytes, %v", len(b), err)
				}
			}
		})
	}
	wg.Wait()
	fi, err := os.Stat(path)
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", fi, err)
	}
}
