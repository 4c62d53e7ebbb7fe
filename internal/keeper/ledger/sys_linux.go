package ledger

import "golang.org/x/sys/unix"

// Sync is fdatasync: the length counts as data, the times do not.
func (f osFile) Sync() error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); err != unix.EINTR {
			return err
		}
	}
}
