//go:build linux && (amd64 || arm64)

package sandbox

import (
	"math"
	"unsafe"

	"golang.org/x/sys/unix"
)

// deniedCalls are refused with EPERM: what takes part in other processes, changes the
// machine, makes namespaces or file systems, or is a part of the kernel that breaks
// often and that no script needs.
func deniedCalls() []uint32 {
	return append([]uint32{
		unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PROCESS_MADVISE, unix.SYS_KCMP,
		unix.SYS_PIDFD_OPEN, unix.SYS_PIDFD_GETFD, unix.SYS_PIDFD_SEND_SIGNAL,
		unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_MOVE_MOUNT, unix.SYS_OPEN_TREE,
		unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR,
		unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_NAME_TO_HANDLE_AT,
		unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD, unix.SYS_REBOOT, unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE,
		unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KEYCTL, unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD,
		unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
		unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_ACCT, unix.SYS_QUOTACTL, unix.SYS_SYSLOG, unix.SYS_VHANGUP,
		unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_CLOCK_ADJTIME, unix.SYS_ADJTIMEX, unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME,
		unix.SYS_FANOTIFY_INIT, unix.SYS_LOOKUP_DCOOKIE, unix.SYS_NFSSERVCTL, unix.SYS_PERSONALITY,
		unix.SYS_MBIND, unix.SYS_MIGRATE_PAGES, unix.SYS_MOVE_PAGES, unix.SYS_SET_MEMPOLICY,
	}, archDenied()...)
}

// namespaceFlags are those of clone.
const namespaceFlags = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

// Offsets in struct seccomp_data. Arguments are 64 bits; these are the low halves on
// both architectures, which are little-endian.
const (
	offNr   = 0
	offArch = 4
	offArg0 = 16
	offArg1 = 24
)

func seccompFilter(network bool) ([]unix.SockFilter, error) {
	const (
		ld    = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		jeq   = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		jset  = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
		jge   = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
		ret   = unix.BPF_RET | unix.BPF_K
		eperm = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
		enos  = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	)
	f := []unix.SockFilter{
		{Code: ld, K: offArch},
		{Code: jeq, K: auditArch, Jt: 1},
		{Code: ret, K: unix.SECCOMP_RET_KILL_PROCESS}, // another architecture has other numbers
		{Code: ld, K: offNr},
	}
	if x32 != 0 { // the same architecture by name, with numbers of its own
		f = append(f, unix.SockFilter{Code: jge, K: x32, Jf: 1}, unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_KILL_PROCESS})
	}
	for _, nr := range deniedCalls() {
		f = append(f, unix.SockFilter{Code: jeq, K: nr, Jf: 1}, unix.SockFilter{Code: ret, K: eperm})
	}
	// clone3 takes its flags where no filter can look: C libraries fall back to clone.
	f = append(f, unix.SockFilter{Code: jeq, K: unix.SYS_CLONE3, Jf: 1}, unix.SockFilter{Code: ret, K: enos})
	f = append(f,
		unix.SockFilter{Code: jeq, K: unix.SYS_CLONE, Jf: 4},
		unix.SockFilter{Code: ld, K: offArg0},
		unix.SockFilter{Code: jset, K: namespaceFlags, Jf: 1},
		unix.SockFilter{Code: ret, K: eperm},
		unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ALLOW},
	)
	// A terminal's queue can be written by TIOCSTI and TIOCLINUX.
	f = append(f,
		unix.SockFilter{Code: jeq, K: unix.SYS_IOCTL, Jf: 5},
		unix.SockFilter{Code: ld, K: offArg1},
		unix.SockFilter{Code: jeq, K: unix.TIOCSTI, Jt: 1},
		unix.SockFilter{Code: jeq, K: unix.TIOCLINUX, Jf: 1},
		unix.SockFilter{Code: ret, K: eperm},
		unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ALLOW},
	)
	// Even a local socket reaches services of the host that act for whoever asks.
	f = append(f, unix.SockFilter{Code: jeq, K: unix.SYS_SOCKET, Jf: 5})
	if network {
		f = append(f,
			unix.SockFilter{Code: ld, K: offArg0},
			unix.SockFilter{Code: jeq, K: unix.AF_INET, Jt: 2},
			unix.SockFilter{Code: jeq, K: unix.AF_INET6, Jt: 1},
			unix.SockFilter{Code: ret, K: eperm},
			unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ALLOW},
		)
	} else {
		f[len(f)-1].Jf = 1
		f = append(f, unix.SockFilter{Code: ret, K: eperm})
	}
	f = append(f, unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ALLOW})
	if len(f) > math.MaxUint16 || len(f) > unix.BPF_MAXINSNS {
		return nil, unix.E2BIG
	}
	return f, nil
}

func installFilter(f []unix.SockFilter) error {
	prog := unix.SockFprog{Len: uint16(len(f)), Filter: &f[0]}
	const setModeFilter = 1 // SECCOMP_SET_MODE_FILTER
	if _, _, e := unix.RawSyscall(unix.SYS_SECCOMP, setModeFilter, 0, uintptr(unsafe.Pointer(&prog))); e != 0 {
		return e
	}
	return nil
}
