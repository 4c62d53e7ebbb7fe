//go:build cgo && linux

package module

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The limit of core files does not hold for a program that the kernel pipes cores
// to, nor does it keep other processes of the user from reading the memory: only
// a process that is not dumpable is safe from both. The library is asked, for it
// is loaded after all that Main does about it.
func TestMemoryIsNotDumpable(t *testing.T) {
	dir := t.TempDir()
	source, lib := filepath.Join(dir, "ask.c"), filepath.Join(dir, "ask.so")
	if err := os.WriteFile(source, []byte(`#include <stdio.h>
#include <sys/prctl.h>
__attribute__((constructor)) static void ask(void) {
	fprintf(stderr, "dumpable %d\n", prctl(PR_GET_DUMPABLE, 0, 0, 0, 0));
}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("gcc", "-shared", "-fPIC", "-o", lib, source).CombinedOutput(); err != nil {
		t.Fatalf("gcc is needed: apt-get install gcc: %v: %s", err, out)
	}
	in, keep, err := os.Pipe() // the child ends with its input
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer keep.Close()
	c := exec.Command(os.Args[0], childIs, lib)
	c.Stdin = in
	out, err := c.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "dumpable 0\n") {
		t.Errorf("%v: %s", err, out)
	}
}
