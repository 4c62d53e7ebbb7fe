package updateset

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/greatseal-io/greatseal/record"
)

// folder is where the records of an application stand under source control, one file
// each: update/<table>_<sys_id>.xml.
const folder = "update"

// leftover begins the names of files that were being written when somebody was killed.
const leftover = ".greatseal-"

// directory is a set under source control. The files hold payloads alone: the action
// is that of the record.
type directory struct{ root *os.Root }

// OpenDirectory reads a set under source control as Open reads an export. In the
// folder "update" of root nothing may stand but its files: no link, no folder, no two
// names that a file system may take for one.
func OpenDirectory(ctx context.Context, root *os.Root, l Limits) (*Set, error) {
	l = l.orDefault()
	d := &directory{root}
	set := newSet(d, l)
	names, err := d.names(l)
	if err != nil {
		return nil, err
	}
	for _, file := range names {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		u := unit{file: file, line: 1}
		raw, err := d.read(&u)
		if err == nil && len(raw) > l.Update {
			err = &Error{Reason: tooLarge("a file beyond the limit", "raise it"), Update: file, Line: 1}
		}
		if err != nil {
			return nil, err
		}
		parsed, err := d.parse(raw, &u, l)
		if err != nil {
			return nil, err
		}
		u.size, u.sum = int64(len(raw)), sha256.Sum256(raw)
		if err := set.add(u, parsed); err != nil {
			return nil, err
		}
	}
	set.header.setID = folder
	return set, set.finish()
}

// names lists the files, sorted.
func (d *directory) names(l Limits) ([]string, error) {
	refuse := func(name, problem string) error {
		return &Error{Reason: malformed(problem, removed), Update: name, Line: 1}
	}
	info, err := d.root.Lstat(folder)
	if err != nil {
		return nil, fmt.Errorf("updateset: %w", err)
	}
	if !info.IsDir() {
		return nil, refuse(folder, "it is not a folder")
	}
	f, err := d.root.Open(folder)
	if err != nil {
		return nil, fmt.Errorf("updateset: %w", err)
	}
	defer f.Close()
	var names []string
	folded := map[string]bool{}
	for {
		entries, err := f.ReadDir(1024)
		for _, e := range entries {
			name := e.Name()
			if strings.HasPrefix(name, leftover) {
				continue
			}
			base, ok := strings.CutSuffix(name, ".xml")
			switch {
			case !e.Type().IsRegular():
				return nil, refuse(name, "it is a link, a folder or something else that is no file")
			case !ok || !fileName(base):
				return nil, refuse(name, "it is not named <table>_<sys_id>.xml")
			case folded[strings.ToLower(name)]:
				return nil, refuse(name, "two files whose names differ in case only")
			case len(names) >= l.Updates:
				return nil, &Error{Reason: tooLarge("a set with too many updates", split), Update: name, Line: 1}
			}
			folded[strings.ToLower(name)] = true
			names = append(names, name)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("updateset: %w", err)
		}
	}
	slices.Sort(names)
	return names, nil
}

// fileName reports whether the name of an update may be that of a file, on every
// system.
func fileName(name string) bool {
	if name == "" || len(name) > 200 || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "-") || strings.HasSuffix(name, ".") {
		return false
	}
	return !strings.ContainsFunc(name, notKey)
}

func (d *directory) read(u *unit) ([]byte, error) {
	name := path.Join(folder, u.file)
	before, err := d.root.Lstat(name)
	if err != nil {
		return nil, fmt.Errorf("updateset: %w", err)
	}
	if !before.Mode().IsRegular() {
		return nil, &Error{Reason: errChanged, Update: u.file, Line: 1}
	}
	f, err := d.root.Open(name)
	if err != nil {
		return nil, fmt.Errorf("updateset: %w", err)
	}
	defer f.Close()
	now, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("updateset: %w", err)
	}
	if !os.SameFile(before, now) {
		return nil, &Error{Reason: errChanged, Update: u.file, Line: 1}
	}
	const most = 1 << 30
	return io.ReadAll(io.LimitReader(f, most))
}

func (d *directory) parse(raw []byte, u *unit, l Limits) (*Update, error) {
	out := &Update{Name: strings.TrimSuffix(u.file, ".xml"), Size: int64(len(raw)), document: string(raw), Fields: map[string]string{}}
	var err error
	out.Operations, out.Action, err = readPayload(raw, out.Name, "", l)
	var e *Error
	if errors.As(err, &e) {
		e.Update = out.Name
	}
	if err == nil && out.Action == "" {
		err = &Error{Reason: malformed("no operation says what it does", removed), Update: out.Name, Line: 1}
	}
	return out, err
}

// SealDirectory adds signatures to a set under source control, as files beside those
// of the records. Every file appears whole or not at all; a process that is killed
// leaves some, and sealing again adds the rest.
func (s *Set) SealDirectory(ctx context.Context, signatures iter.Seq2[*record.Signature, error]) (Sealed, error) {
	d, ok := s.source.(*directory)
	if !ok {
		return Sealed{}, fmt.Errorf("updateset: a file is sealed by Seal")
	}
	done, err := s.seal(ctx, signatures, func(r *Row) error {
		doc, err := r.check(s.limits)
		if err != nil {
			return err
		}
		return d.write(r.Name(), doc)
	})
	if err != nil {
		return done, err
	}
	return done, d.sync()
}

// WriteDirectory writes every update of the set, signatures with them, under source
// control; what a later update replaces is left out. A file that is there with the
// same content is left alone, one with another content is replaced.
func (s *Set) WriteDirectory(ctx context.Context, root *os.Root) error {
	if err := root.Mkdir(folder, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("updateset: %w", err)
	}
	d := &directory{root}
	if info, err := root.Lstat(folder); err != nil || !info.IsDir() {
		return errors.Join(err, &Error{Reason: malformed("it is not a folder", removed), Update: folder, Line: 1})
	}
	folded := map[string]string{}
	err := s.current(ctx, func(u *Update) error {
		low := strings.ToLower(u.Name)
		if other, has := folded[low]; has && other != u.Name {
			return &Error{Reason: malformed("two updates whose names differ in case only", "rename one"), Update: u.Name, Line: 1}
		}
		folded[low] = u.Name
		return d.write(u.Name, []byte(u.document))
	})
	if err != nil {
		return err
	}
	return d.sync()
}

// write puts a file in place of what has its name, a link itself and not its target.
func (d *directory) write(name string, doc []byte) error {
	if !fileName(name) {
		return &Error{Reason: malformed("a name that no file can have", "leave the update out"), Update: name, Line: 1}
	}
	place, temporary := path.Join(folder, name+".xml"), path.Join(folder, leftover+name)
	if err := d.root.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("updateset: %w", err)
	}
	f, err := d.root.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("updateset: %w", err)
	}
	_, err = f.Write(doc)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = d.root.Rename(temporary, place)
	}
	if err != nil {
		return fmt.Errorf("updateset: %w", errors.Join(err, d.root.Remove(temporary)))
	}
	return nil
}

func (d *directory) sync() error {
	f, err := d.root.Open(folder)
	if err != nil {
		return fmt.Errorf("updateset: %w", err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("updateset: %w", err)
	}
	return nil
}
