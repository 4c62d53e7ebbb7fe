//go:build cgo && unix

package module

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Main is the whole of a child process: it serves the library at modulePath on
// standard input and output, and returns the exit code.
//
// The library gets standard error as its standard output (invariant 5), and the
// process leaves no core: its memory holds PINs.
func Main(modulePath string) int {
	out, err := answers()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := Serve(os.Stdin, out, modulePath); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// answers forbids cores and moves standard output out of the library's reach.
func answers() (*os.File, error) {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return nil, fmt.Errorf("module: forbid core files: %w", err)
	}
	if err := hideMemory(); err != nil {
		return nil, err
	}
	fd, err := unix.FcntlInt(uintptr(unix.Stdout), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("module: duplicate standard output: %w", err)
	}
	if err := unix.Dup2(unix.Stderr, unix.Stdout); err != nil {
		return nil, fmt.Errorf("module: replace standard output: %w", err)
	}
	return os.NewFile(uintptr(fd), "answers"), nil
}
