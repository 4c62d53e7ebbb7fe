//go:build linux && (amd64 || arm64)

package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Main is the helper: what a process whose os.Args[0] is Argv0 does. It returns only
// when the program did not start, or was only to be tried.
func Main(args []string) int {
	// The restrictions are this thread's, and the program inherits those of the thread
	// that becomes it.
	runtime.LockOSThread()
	if len(args) == 3 && args[1] == "reap" {
		return reapMain(args[2])
	}
	status := os.NewFile(statusFD, "status")
	if status == nil || len(args) != 1 {
		return 70
	}
	if err := restrict(status); err != nil {
		fmt.Fprint(status, err)
		return 70
	}
	return 0
}

func reapMain(s string) int {
	uid, err := strconv.Atoi(s)
	if err != nil || uid < 1000 || os.Geteuid() != 0 {
		return 70
	}
	if err := become(uid); err != nil {
		return 71
	}
	// What is killed has ended a little later only.
	for range 100 {
		switch err := unix.Kill(-1, unix.SIGKILL); {
		case errors.Is(err, unix.ESRCH):
			return 0
		case err != nil:
			return 72
		}
		time.Sleep(2 * time.Millisecond)
	}
	return reapLeft
}

// reapLeft is how the reaper ends where processes are there still: such as have
// ended without anybody who asks for their status, perhaps.
const reapLeft = 73

// become changes this thread's user and groups.
func become(uid int) error {
	for _, c := range [][4]uintptr{{unix.SYS_SETGROUPS}, {unix.SYS_SETRESGID, uintptr(uid), uintptr(uid), uintptr(uid)}, {unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)}} {
		if _, _, e := unix.RawSyscall(c[0], c[1], c[2], c[3]); e != 0 {
			return e
		}
	}
	return nil
}

// restrict takes the restrictions in the order in which each is still possible.
func restrict(status *os.File) error {
	f := os.NewFile(specFD, "spec")
	b, err := io.ReadAll(io.LimitReader(f, maxSpec))
	if err != nil {
		return err
	}
	f.Close()
	var sp spec
	if err := json.Unmarshal(b, &sp); err != nil {
		return errors.New("the specification is not readable")
	}
	// The status closes when the program starts, and with it all but the script.
	if err := unix.CloseRange(statusFD, statusFD, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("descriptors: %w", err)
	}
	if err := unix.CloseRange(scriptFD+1, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("descriptors: %w", err)
	}
	// The first to go when memory runs out; without it, the agent might be.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0)
	if sp.Namespaces {
		if err := workspace(&sp); err != nil {
			return fmt.Errorf("workspace: %w", err)
		}
	}
	if err := unix.Chdir(sp.Dir); err != nil {
		return fmt.Errorf("workspace: %w", err)
	}
	unix.Umask(0o077)
	rules, err := landlockRules(&sp)
	if err != nil {
		return fmt.Errorf("landlock: %w", err)
	}
	filter, err := seccompFilter(len(sp.Ports) > 0)
	if err != nil {
		return fmt.Errorf("seccomp: %w", err)
	}
	if sp.UID >= 0 {
		if err := become(sp.UID); err != nil {
			return fmt.Errorf("user: %w", err)
		}
	}
	if err := dropCapabilities(); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	// After the change of user, which clears it. Should the agent have died before, the
	// write below has no reader, and ends this process.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("parent-death signal: %w", err)
	}
	if rules >= 0 {
		if _, _, e := unix.RawSyscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(rules), 0, 0); e != 0 {
			return fmt.Errorf("landlock: %w", e)
		}
		unix.Close(rules)
	}
	path := ""
	if len(sp.Argv) > 0 {
		path = sp.Argv[0]
		if sp.Self {
			sp.Argv = sp.Argv[1:]
		}
	}
	start, err := prepare(path, sp.Argv, sp.Env, sp.Limits.Memory)
	if err != nil {
		return err
	}
	if err := limits(sp.Limits); err != nil {
		return fmt.Errorf("limits: %w", err)
	}
	if err := installFilter(filter); err != nil {
		return fmt.Errorf("seccomp: %w", err)
	}
	// Nothing but an exec that is refused can follow this byte: the parent tells a
	// program that started from one that did not by what comes after it.
	if _, err := status.Write([]byte{ready}); err != nil {
		return err
	}
	if len(sp.Argv) > 0 {
		start()
	}
	return nil
}

// prepare returns a function that becomes the program, or ends the process. Between
// the limit on memory and the program this runtime must not want any: all is made
// before, and the calls are bare.
func prepare(program string, argv, env []string, memory int64) (func(), error) {
	if len(argv) == 0 {
		return nil, nil
	}
	path, err := syscall.BytePtrFromString(program)
	if err != nil {
		return nil, err
	}
	args, err := syscall.SlicePtrFromStrings(argv)
	if err != nil {
		return nil, err
	}
	vars, err := syscall.SlicePtrFromStrings(env)
	if err != nil {
		return nil, err
	}
	debug.SetGCPercent(-1)
	limit := unix.Rlimit{Cur: uint64(memory), Max: uint64(memory)}
	refused := []byte(" " + program + " cannot be started")
	return func() {
		_, _, e := unix.RawSyscall6(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_AS, uintptr(unsafe.Pointer(&limit)), 0, 0, 0)
		if e == 0 {
			unix.RawSyscall(unix.SYS_EXECVE, uintptr(unsafe.Pointer(path)), uintptr(unsafe.Pointer(&args[0])), uintptr(unsafe.Pointer(&vars[0])))
		}
		unix.RawSyscall(unix.SYS_WRITE, statusFD, uintptr(unsafe.Pointer(&refused[0])), uintptr(len(refused)))
		unix.RawSyscall(unix.SYS_EXIT_GROUP, 70, 0, 0)
	}, nil
}

// workspace puts an empty file system of bounded size over the program's folder.
func workspace(sp *spec) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	uid := sp.UID
	if uid < 0 {
		uid = os.Geteuid()
	}
	gid := uid
	if sp.UID < 0 {
		gid = os.Getegid()
	}
	opts := fmt.Sprintf("size=%d,nr_inodes=10000,mode=0700,uid=%d,gid=%d", sp.Limits.Workspace, uid, gid)
	return unix.Mount("tmpfs", sp.Dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, opts)
}

func dropCapabilities() error {
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return err
	}
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if _, _, e := unix.RawSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&hdr)), uintptr(unsafe.Pointer(&data[0])), 0); e != 0 {
		return e
	}
	return nil
}

func limits(l Limits) error {
	for _, r := range []struct {
		what  int
		value int64
	}{
		{unix.RLIMIT_CORE, 0}, {unix.RLIMIT_CPU, int64(l.CPU / time.Second)}, {unix.RLIMIT_FSIZE, l.FileSize},
		{unix.RLIMIT_NOFILE, l.Files}, {unix.RLIMIT_NPROC, l.Processes}, {unix.RLIMIT_MEMLOCK, 0},
		{unix.RLIMIT_MSGQUEUE, 0},
	} {
		// syscall's, which forgets the limit that it would put back for the program
		if err := syscall.Setrlimit(r.what, &syscall.Rlimit{Cur: uint64(r.value), Max: uint64(r.value)}); err != nil {
			return err
		}
	}
	return nil
}
