package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/format/file"
)

// headPath is where the last head of a deployment's log is kept.
func (l *link) headPath() (string, error) {
	d, err := stateDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(d, "log-"+l.cfg.Root.String()[:16]+".note"), nil
}

// keptHead is the head that was seen last; nil before the first.
func (l *link) keptHead() ([]byte, error) {
	p, err := l.headPath()
	if err != nil {
		return nil, err
	}
	b, err := readSmall(p)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// keepHead keeps a head of the log in place of the one that was seen last, which other
// commands move on as well: whatever is kept is held against h, and never replaced by
// anything that it was not seen to be part of. seen is a kept head that h has been held
// against, or nil.
func (l *link) keepHead(ctx context.Context, c *audit.Client, h audit.Head, seen []byte) error {
	for {
		kept, err := l.keptHead()
		if err != nil {
			return err
		}
		if kept != nil && !bytes.Equal(kept, seen) {
			old, err := l.parseKept(c, kept)
			if err != nil {
				return err
			}
			from, to := old, h
			if old.Size() > h.Size() { // another command has seen more
				from, to = h, old
			}
			if err := c.Extends(ctx, from, to); err != nil {
				return logFault(err)
			}
			if old.Size() >= h.Size() {
				return nil
			}
		}
		if done, err := l.swapHead(kept, h.Note()); err != nil || done {
			return err
		}
	}
}

func (l *link) parseKept(c *audit.Client, kept []byte) (audit.Head, error) {
	h, err := audit.ParseCheckpoint(kept, c.Origin, c.Verifier)
	if err != nil {
		p, perr := l.headPath()
		return h, errors.Join(fail(exitUnverified, "look at it before you remove it", "the head that was kept in %s: %v", p, err), perr)
	}
	return h, nil
}

// swapHead keeps a head, unless another than old is kept by now.
func (l *link) swapHead(old, note []byte) (done bool, err error) {
	p, err := l.headPath()
	if err != nil {
		return false, err
	}
	unlock, err := lockKept(p)
	if err != nil {
		return false, fmt.Errorf("the log's head is not kept: %w", err)
	}
	defer unlock()
	if kept, err := l.keptHead(); err != nil || !bytes.Equal(kept, old) {
		return false, err
	}
	return true, file.WriteFile(p, note, 0o600)
}

// head fetches the log's head and holds it against the one that was seen last,
// which it then replaces.
func (l *link) head(ctx context.Context) (*audit.Client, audit.Head, *audit.Head, error) {
	var none audit.Head
	c, err := l.log(ctx)
	if err != nil {
		return nil, none, nil, err
	}
	kept, err := l.keptHead()
	if err != nil {
		return nil, none, nil, err
	}
	if kept == nil {
		h, err := c.Checkpoint(ctx)
		if err != nil {
			return nil, none, nil, logFault(err)
		}
		return c, h, nil, l.keepHead(ctx, c, h, nil)
	}
	old, err := l.parseKept(c, kept)
	if err != nil {
		return nil, none, nil, err
	}
	h, err := c.Update(ctx, old)
	if err != nil {
		return nil, none, nil, logFault(err)
	}
	return c, h, &old, l.keepHead(ctx, c, h, kept)
}
