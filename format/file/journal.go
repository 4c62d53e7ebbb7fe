package file

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/greatseal-io/greatseal/format"
)

// maxJournal limits the bytes, old and new together, of one edit in place.
const maxJournal = 64 << 20

const journalMagic = "greatseal journal v1"

// journal is what takes an edited file back: deterministic CBOR, followed by its
// SHA-256. It gets its name by a rename when it is complete and synchronised, so
// one that can be seen and does not verify was damaged or forged.
type journal struct {
	Magic    string   `cbor:"1,keyasint"`
	OldSize  int64    `cbor:"2,keyasint"`
	NewSize  int64    `cbor:"3,keyasint"`
	Modified int64    `cbor:"4,keyasint"` // time of the old file, nanoseconds since 1970
	Regions  []region `cbor:"5,keyasint"` // ascending; only the last may change the size
}

type region struct {
	Offset int64  `cbor:"1,keyasint"`
	Old    []byte `cbor:"2,keyasint"`
	New    []byte `cbor:"3,keyasint"`
}

func journalName(path string) string {
	return filepath.Join(filepath.Dir(path), "."+short(filepath.Base(path))+".greatseal-journal")
}

func (j *journal) encode() ([]byte, error) {
	b, err := format.Encode(j)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(b)
	return append(b, sum[:]...), nil
}

func decodeJournal(b []byte) (*journal, error) {
	bad := func(what string) (*journal, error) { return nil, fmt.Errorf("%w: %s", ErrJournal, what) }
	n := len(b) - sha256.Size
	if n < 0 {
		return bad("too short")
	}
	if sum := sha256.Sum256(b[:n]); !bytes.Equal(sum[:], b[n:]) {
		return bad("damaged")
	}
	var j journal
	if err := format.Decode(b[:n], &j); err != nil {
		return bad(err.Error())
	}
	if j.Magic != journalMagic || j.OldSize < 0 || j.NewSize < 0 {
		return bad("not a journal")
	}
	free, size := int64(0), j.OldSize
	for i, r := range j.Regions {
		if r.Offset < free || r.Offset > j.OldSize || int64(len(r.Old)) > j.OldSize-r.Offset {
			return bad("region outside of the file")
		}
		free = r.Offset + int64(len(r.Old))
		if len(r.Old) != len(r.New) && (i != len(j.Regions)-1 || free != j.OldSize) {
			return bad("region moves what follows it")
		}
		size += int64(len(r.New) - len(r.Old))
	}
	if size != j.NewSize {
		return bad("sizes contradict the regions")
	}
	return &j, nil
}

// plan reads the bytes that p overwrites in f and lays out the journal.
func plan(f *os.File, fi os.FileInfo, p *format.Patch) (*journal, error) {
	j := &journal{Magic: journalMagic, OldSize: p.Size, NewSize: p.NewSize(), Modified: fi.ModTime().UnixNano()}
	budget := int64(maxJournal)
	read := func(from, to int64) ([]byte, error) {
		if budget -= to - from; budget < 0 {
			return nil, fmt.Errorf("file: editing in place would move more than %d bytes: write a copy", maxJournal)
		}
		b := make([]byte, to-from)
		if _, err := f.ReadAt(b, from); err != nil {
			return nil, err
		}
		return b, nil
	}
	for i, e := range p.Edits {
		if budget -= int64(len(e.Insert)); budget < 0 {
			return nil, fmt.Errorf("file: editing in place would write more than %d bytes: write a copy", maxJournal)
		}
		if int64(len(e.Insert)) == e.Delete {
			old, err := read(e.Offset, e.Offset+e.Delete)
			if err != nil {
				return nil, err
			}
			j.Regions = append(j.Regions, region{e.Offset, old, e.Insert})
			continue
		}
		// From here on bytes move: the rest of the file is one region.
		old, err := read(e.Offset, p.Size)
		if err != nil {
			return nil, err
		}
		rest := &format.Patch{Size: int64(len(old))}
		for _, r := range p.Edits[i:] {
			rest.Edits = append(rest.Edits, format.Edit{Offset: r.Offset - e.Offset, Delete: r.Delete, Insert: r.Insert})
		}
		new, err := rest.Bytes(format.BytesArtifact("", old))
		if err != nil {
			return nil, err
		}
		j.Regions = append(j.Regions, region{e.Offset, old, new})
		break
	}
	return j, nil
}

// apply writes the new bytes.
func (j *journal) apply(f *os.File, o *Options) error {
	const chunk = 64 << 10
	for _, r := range j.Regions {
		for off := 0; off < len(r.New); off += chunk {
			b := r.New[off:min(off+chunk, len(r.New))]
			if _, err := f.WriteAt(b, r.Offset+int64(off)); err != nil {
				return err
			}
			o.at("edit")
		}
	}
	return f.Truncate(j.NewSize)
}

// fits refuses a file that is not somewhere between the old and the new one.
func (j *journal) fits(f *os.File) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	size := fi.Size()
	if size < min(j.OldSize, j.NewSize) || size > max(j.OldSize, j.NewSize) {
		return fmt.Errorf("%w: the file has %d bytes", ErrJournal, size)
	}
	for _, r := range j.Regions {
		n := min(int64(max(len(r.Old), len(r.New))), size-r.Offset)
		if n <= 0 {
			continue
		}
		now := make([]byte, n)
		if _, err := f.ReadAt(now, r.Offset); err != nil {
			return err
		}
		for i, b := range now {
			old := i < len(r.Old) && b == r.Old[i]
			new := i < len(r.New) && b == r.New[i]
			hole := i >= len(r.Old) && b == 0 // appended, and not written before the power went
			if !old && !new && !hole {
				return fmt.Errorf("%w: byte %d was changed by somebody else", ErrJournal, r.Offset+int64(i))
			}
		}
	}
	return nil
}

// rollBack writes the old bytes back.
func (j *journal) rollBack(f *os.File) error {
	for _, r := range j.Regions {
		if _, err := f.WriteAt(r.Old, r.Offset); err != nil {
			return err
		}
	}
	if err := f.Truncate(j.OldSize); err != nil {
		return err
	}
	if err := setModified(f, time.Unix(0, j.Modified)); err != nil {
		return err
	}
	return f.Sync()
}

func removeJournal(path string) error {
	if err := os.Remove(journalName(path)); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

func writeInPlace(path string, p *format.Patch, o *Options) (err error) {
	if o.Mode != 0 {
		return errors.New("file: in place, the permission bits stay")
	}
	f, err := openNoFollow(path, os.O_RDWR)
	if err != nil {
		return fmt.Errorf("file: %w", err)
	}
	defer func() {
		if e := closeLocked(f); err == nil && e != nil {
			err = fmt.Errorf("file: %w", e)
		}
	}()
	fi, err := f.Stat()
	if err != nil {
		return fmt.Errorf("file: %w", err)
	}
	if !fi.Mode().IsRegular() {
		return fmt.Errorf("%w: %s", ErrNotRegular, path)
	}
	if err := lock(f); err != nil {
		return err
	}
	if fi.Size() != p.Size {
		return fmt.Errorf("%w: %s has %d bytes, want %d", ErrSize, path, fi.Size(), p.Size)
	}
	j, err := plan(f, fi, p)
	if err != nil {
		return err
	}
	b, err := j.encode()
	if err != nil {
		return err
	}
	if err := replace(journalName(path), 0o600, o, func(t *os.File) error {
		_, err := t.Write(b)
		return err
	}, func() error {
		now, err := f.Stat()
		if err == nil && printOf(now) != printOf(fi) {
			err = fmt.Errorf("%w: %s", ErrChanged, path)
		}
		return errors.Join(err, samePath(path, f))
	}); err != nil {
		return err
	}
	o.at("journal")
	err = j.apply(f, o)
	if err == nil {
		err = setModified(f, fi.ModTime())
	}
	if err == nil {
		o.at("applied")
		err = f.Sync()
	}
	if err != nil {
		err = fmt.Errorf("file: %w", err)
		if back := j.rollBack(f); back != nil {
			return errors.Join(err, fmt.Errorf("file: rolling back: %w", back)) // the journal stays for Recover
		}
	} else {
		o.at("file synced")
	}
	if e := removeJournal(path); e != nil {
		err = errors.Join(err, fmt.Errorf("file: %w", e))
	}
	o.at("journal removed")
	return err
}

// Recover rolls back an edit of the file at path that was interrupted; without
// a journal beside the file it does nothing. ErrBusy says that the edit is
// still under way, ErrJournal that the file was changed since: then a person
// decides whether the file is right, and removes the journal.
func Recover(path string) error {
	name := journalName(path)
	if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	f, err := openNoFollow(path, os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) {
		// Nothing to roll back: the journal is an orphan.
		if _, err := readJournal(name, nil); err != nil {
			return err
		}
		return removeJournal(path)
	}
	if err != nil {
		return fmt.Errorf("file: recovering an interrupted signing: %w", err)
	}
	defer closeLocked(f)
	if err := lock(f); err != nil {
		return err
	}
	fi, err := f.Stat()
	if err != nil {
		return fmt.Errorf("file: %w", err)
	}
	if !fi.Mode().IsRegular() {
		return fmt.Errorf("%w: %s", ErrNotRegular, path)
	}
	j, err := readJournal(name, fi)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // its writer finished while we waited for nothing
	}
	if err != nil {
		return err
	}
	if err := j.fits(f); err != nil {
		return fmt.Errorf("%w (if %s is as it should be, remove %s)", err, path, name)
	}
	if err := j.rollBack(f); err != nil {
		return fmt.Errorf("file: rolling back: %w", err)
	}
	if err := removeJournal(path); err != nil {
		return fmt.Errorf("file: %w", err)
	}
	return nil
}

// readJournal reads a journal that may change the file with target's owner; no
// target: one that is our own or root's.
func readJournal(name string, target os.FileInfo) (*journal, error) {
	f, err := openNoFollow(name, os.O_RDONLY)
	if err != nil {
		return nil, fmt.Errorf("file: journal: %w", err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("file: journal: %w", err)
	}
	if target == nil {
		target = fi
		if !own(fi) {
			return nil, fmt.Errorf("%w: %s belongs to somebody else", ErrJournal, name)
		}
	}
	if !fi.Mode().IsRegular() || fi.Size() > maxJournal+1<<20 || !trusted(fi, target) {
		return nil, fmt.Errorf("%w: %s is too large, or others can write it", ErrJournal, name)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxJournal+1<<20))
	if err != nil {
		return nil, fmt.Errorf("file: journal: %w", err)
	}
	return decodeJournal(b)
}
