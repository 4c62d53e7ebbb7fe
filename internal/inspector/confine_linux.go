package inspector

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// confine ties a worker to its parent: it dies with it, and is alone in its
// process group.
func confine(c *exec.Cmd) {
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
}

// restrict takes from the worker what it does not need, before it looks at the
// artifact: privileges, other files, the network, memory and time beyond the
// limits. File access is taken by Landlock where the kernel has it.
func restrict(l Limits) error {
	l.fill()
	limits := []struct {
		what int
		max  uint64
	}{
		{unix.RLIMIT_CORE, 0},
		{unix.RLIMIT_FSIZE, 0},
		{unix.RLIMIT_NOFILE, 64},
		{unix.RLIMIT_CPU, uint64((l.CPU + time.Second - 1) / time.Second)},
	}
	if l.Memory != NoMemoryLimit {
		limits = append(limits, struct {
			what int
			max  uint64
		}{unix.RLIMIT_AS, l.Memory})
		debug.SetMemoryLimit(int64(min(l.Memory/2, 1<<62)))
	}
	for _, x := range limits {
		if err := unix.Setrlimit(x.what, &unix.Rlimit{Cur: x.max, Max: x.max}); err != nil {
			return fmt.Errorf("limit %d: %w", x.what, err)
		}
	}
	if err := everyThread(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0); err != nil {
		return fmt.Errorf("no new privileges: %w", err)
	}
	return landlock()
}

// landlock denies every access to files that are not open yet, and TCP.
func landlock() error {
	abi, _, errno := syscall.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return nil // the kernel has none
	}
	files := uint64(1)<<13 - 1 // ABI 1
	size := uintptr(8)
	var net uint64
	if abi >= 2 {
		files |= unix.LANDLOCK_ACCESS_FS_REFER
	}
	if abi >= 3 {
		files |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if abi >= 4 {
		net, size = unix.LANDLOCK_ACCESS_NET_BIND_TCP|unix.LANDLOCK_ACCESS_NET_CONNECT_TCP, 16
	}
	attr := [2]uint64{files, net}
	fd, _, errno := syscall.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), size, 0)
	if errno != 0 {
		return fmt.Errorf("landlock: %w", errno)
	}
	defer syscall.Close(int(fd))
	if err := everyThread(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0); err != nil {
		return fmt.Errorf("landlock: %w", err)
	}
	return nil
}

// everyThread makes a system call whose effect is on one thread on all of them. A
// program with cgo cannot: there it is on the thread of the caller, who stays on
// it, and on the threads that this one starts.
func everyThread(trap, a1, a2, a3 uintptr) error {
	_, _, errno := syscall.AllThreadsSyscall(trap, a1, a2, a3)
	if errors.Is(errno, syscall.ENOTSUP) {
		runtime.LockOSThread()
		_, _, errno = syscall.Syscall6(trap, a1, a2, a3, 0, 0, 0)
	}
	if errno != 0 {
		return errno
	}
	return nil
}
