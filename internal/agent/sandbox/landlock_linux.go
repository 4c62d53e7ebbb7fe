//go:build linux && (amd64 || arm64)

package sandbox

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// minLandlock is the first version that governs truncation; network needs 4.
const (
	minLandlock    = 3
	minLandlockNet = 4
)

// landlockVersion is that of the kernel's interface; 0: it has none, or it is off.
func landlockVersion() int {
	n, _, e := unix.RawSyscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if e != 0 {
		return 0
	}
	return int(n)
}

const (
	fsRead = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	fsFile = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE
	fsWork = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE |
		unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG |
		unix.LANDLOCK_ACCESS_FS_MAKE_SYM | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_REFER
	fsAll = fsRead | fsWork | unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK
)

// system is what interpreters need of the file system. None of it holds secrets on a
// host that is set up as the manual says.
func system(network bool) []string {
	s := []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime",
		"/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/pki/tls/certs", "/etc/pki/ca-trust/extracted"}
	if network {
		s = append(s, "/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/services", "/etc/gai.conf", "/etc/host.conf")
	}
	return s
}

// landlockRules makes the rules, and returns their descriptor, or -1 where Landlock
// is missing and may be.
func landlockRules(sp *spec) (fd int, err error) {
	version := landlockVersion()
	need := minLandlock
	if len(sp.Ports) > 0 {
		need = minLandlockNet
	}
	if version < need {
		if sp.Landlock == "optional" {
			if version < minLandlock {
				return -1, nil
			}
		} else {
			return -1, fmt.Errorf("the kernel offers version %d, %d is needed (or \"landlock: optional\" in the agent's configuration)", version, need)
		}
	}
	attr := unix.LandlockRulesetAttr{Handled_access_fs: fsAll}
	if version >= 4 {
		attr.Handled_access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	}
	if version >= 5 {
		attr.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	if version >= 6 {
		attr.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
	}
	// The kernel knows the first 24 bytes; what it does not know of them is zero above.
	n, _, e := unix.RawSyscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), 24, 0)
	if e != 0 {
		return -1, e
	}
	fd = int(n)
	add := func(path string, access uint64) error {
		p, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.ENOENT) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		defer unix.Close(p)
		var st unix.Stat_t
		if err := unix.Fstat(p, &st); err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			access &= fsFile
		}
		rule := unix.LandlockPathBeneathAttr{Allowed_access: access, Parent_fd: int32(p)}
		if _, _, e := unix.RawSyscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(fd), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0); e != 0 {
			return fmt.Errorf("%s: %w", path, e)
		}
		return nil
	}
	for _, p := range append(system(len(sp.Ports) > 0), sp.Readable...) {
		if err := add(p, fsRead); err != nil {
			return -1, err
		}
	}
	if sp.Self {
		if err := add(Self, fsRead); err != nil {
			return -1, err
		}
	}
	for _, p := range []string{"/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"} {
		if err := add(p, unix.LANDLOCK_ACCESS_FS_READ_FILE); err != nil {
			return -1, err
		}
	}
	if err := add("/dev/null", unix.LANDLOCK_ACCESS_FS_READ_FILE|unix.LANDLOCK_ACCESS_FS_WRITE_FILE|unix.LANDLOCK_ACCESS_FS_TRUNCATE); err != nil {
		return -1, err
	}
	if err := add(sp.Dir, fsWork); err != nil {
		return -1, err
	}
	if version >= 4 {
		for _, port := range sp.Ports {
			rule := struct{ access, port uint64 }{unix.LANDLOCK_ACCESS_NET_CONNECT_TCP, uint64(port)}
			const rulePort = 2 // LANDLOCK_RULE_NET_PORT
			if _, _, e := unix.RawSyscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(fd), rulePort, uintptr(unsafe.Pointer(&rule)), 0, 0, 0); e != 0 {
				return -1, e
			}
		}
	}
	return fd, nil
}
