// Package rebuild is the check of a gate that compares with a build of its own: the
// plan of the file that was built again, with the request's options, must equal the
// requester's plan byte for byte. The requester's bytes are not wanted.
package rebuild

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/gate/check"
	"github.com/greatseal-io/greatseal/internal/inspector"
)

// Config says where the other build comes from: one of Folder and Program.
type Config struct {
	Folder  string        // with files that are called as in the request
	Wait    time.Duration // from the request on, for a file in Folder
	Program check.Program // writes the file to $GREATSEAL_OUTPUT and ends with 0; 1: there is none; anything else: later
	Work    string        // folder for what the program writes
	Worker  inspector.Worker
	Clock   func() time.Time
}

// Rebuild is the check.
type Rebuild struct{ c Config }

// New checks the configuration.
func New(c Config) (*Rebuild, error) {
	if (c.Folder == "") == (len(c.Program.Command) == 0) {
		return nil, errors.New("gate: rebuild: want a folder or a command")
	}
	if c.Clock == nil || len(c.Worker.Command) == 0 || c.Wait < 0 {
		return nil, errors.New("gate: rebuild: want a clock and a worker")
	}
	if c.Folder == "" {
		if c.Work == "" {
			return nil, errors.New("gate: rebuild: want a folder for the command's files")
		}
		return &Rebuild{c}, c.Program.Check()
	}
	if st, err := os.Stat(c.Folder); err != nil || !st.IsDir() {
		return nil, fmt.Errorf("gate: rebuild: %s is not a folder", c.Folder)
	}
	return &Rebuild{c}, nil
}

// Bytes implements check.Check.
func (r *Rebuild) Bytes() bool { return false }

// File implements check.Check.
func (r *Rebuild) File(ctx context.Context, f *check.File) (check.Opinion, error) {
	if r.c.Folder != "" {
		return r.kept(ctx, f)
	}
	dir, err := os.MkdirTemp(r.c.Work, "new-rebuild-")
	if err != nil {
		return check.Opinion{}, fmt.Errorf("gate: rebuild: %w", err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "output")
	code, line, err := r.c.Program.Run(ctx, f.Describe(), "GREATSEAL_OUTPUT="+path)
	switch {
	case err != nil:
		return check.Opinion{}, err
	case code == 1 && line == "":
		return check.Against("it could not be built again"), nil
	case code == 1:
		return check.Against("it could not be built again: " + line), nil
	case code != 0:
		return check.Opinion{}, fmt.Errorf("gate: rebuild: exit code %d is no answer", code)
	}
	return r.compare(ctx, f, path)
}

// kept compares with a file that another process puts into the folder.
func (r *Rebuild) kept(ctx context.Context, f *check.File) (check.Opinion, error) {
	name := filepath.FromSlash(f.Item.Name)
	if !filepath.IsLocal(name) || strings.ContainsRune(f.Item.Name, '\\') {
		name = filepath.Base(name)
	}
	if !filepath.IsLocal(name) || name == "." || strings.ContainsRune(name, '\\') {
		return check.Against("its name cannot be that of a file that is built again"), nil
	}
	root, err := os.OpenRoot(r.c.Folder)
	if err != nil {
		return check.Opinion{}, fmt.Errorf("gate: rebuild: %w", err)
	}
	defer root.Close()
	st, err := root.Stat(name) // a link out of the folder is an error
	if errors.Is(err, fs.ErrNotExist) {
		if left := f.Request.Created.Add(r.c.Wait).Sub(r.c.Clock()); left > 0 {
			return check.Opinion{}, fmt.Errorf("gate: rebuild: %s is not there yet; it is waited for %s more", name, left.Round(time.Second))
		}
		return check.Against("nobody has built it again"), nil
	}
	if err != nil {
		return check.Opinion{}, fmt.Errorf("gate: rebuild: %w", err)
	}
	if !st.Mode().IsRegular() {
		return check.Opinion{}, fmt.Errorf("gate: rebuild: %s is not a file", name)
	}
	return r.compare(ctx, f, filepath.Join(r.c.Folder, name))
}

func (r *Rebuild) compare(ctx context.Context, f *check.File, path string) (check.Opinion, error) {
	if _, err := os.Stat(path); err != nil {
		return check.Opinion{}, fmt.Errorf("gate: rebuild: %w", err)
	}
	switch err := r.c.Worker.Equal(ctx, path, f.Index, f.Item, f.Plan); {
	case inspector.IsFinding(err):
		return check.Against(differs(err, f.Plan)), nil
	case err != nil:
		return check.Opinion{}, fmt.Errorf("gate: rebuild: %w", err)
	}
	return check.For("built again, it is the same"), nil
}

// differs says how the builds differ; the finding itself speaks of uploaded bytes.
func differs(err error, p *format.Plan) string {
	text := err.Error()
	if _, how, ok := strings.Cut(text, "the uploaded bytes give another plan"); ok {
		return "built again, it is another " + p.Format + " file" + how
	}
	return "built again, it is another file: " + text
}
