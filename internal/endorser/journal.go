package endorser

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/greatseal-io/greatseal/statement"
)

// Journal is a folder with the verdicts that were reached, each in a file that is
// called after its request. It belongs to one process.
type Journal struct {
	dir  string
	lock *os.File

	mu    sync.Mutex
	swept time.Time
}

const (
	verdictSuffix = ".verdict.json"
	sweepEvery    = time.Hour
	maxVerdict    = 1 << 20
)

// ErrBusy is returned by Open where another process has the journal.
var ErrBusy = errors.New("endorser: another process uses this folder")

// Open opens the journal in dir, which is made, and removes what an earlier process
// has left half done there: artifacts that it had fetched, verdicts that it had not
// finished to write.
func Open(dir string) (*Journal, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("endorser: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("endorser: %w", err)
	}
	if err := exclusive(lock); err != nil {
		lock.Close()
		return nil, err
	}
	j := &Journal{dir: dir, lock: lock}
	list, err := os.ReadDir(dir)
	for _, e := range list {
		if err == nil && (strings.HasPrefix(e.Name(), temporary) || strings.HasPrefix(e.Name(), "new-")) {
			err = os.RemoveAll(filepath.Join(dir, e.Name()))
		}
	}
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("endorser: %w", err)
	}
	return j, nil
}

// Close leaves the journal to another process.
func (j *Journal) Close() error { return j.lock.Close() }

// Dir is the journal's folder, where artifacts may be fetched to.
func (j *Journal) Dir() string { return j.dir }

func (j *Journal) path(id statement.ID) string {
	return filepath.Join(j.dir, id.String()+verdictSuffix)
}

// read returns the verdict on a request, or nil.
func (j *Journal) read(id statement.ID) ([]byte, error) {
	if j == nil {
		return nil, nil
	}
	b, err := os.ReadFile(j.path(id))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("endorser: journal: %w", err)
	case len(b) == 0 || len(b) > maxVerdict:
		return nil, fmt.Errorf("endorser: journal: the verdict on %s has %d bytes", id, len(b))
	}
	return b, nil
}

// write keeps a verdict and returns the one that is kept: an earlier one stays.
func (j *Journal) write(id statement.ID, envelope []byte) ([]byte, error) {
	if j == nil {
		return envelope, nil
	}
	f, err := os.CreateTemp(j.dir, "new-")
	if err != nil {
		return nil, fmt.Errorf("endorser: journal: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(envelope)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Link(f.Name(), j.path(id)) // refuses to replace
	}
	if errors.Is(err, fs.ErrExist) {
		return j.read(id)
	}
	if err == nil {
		err = syncDir(j.dir)
	}
	if err != nil {
		return nil, fmt.Errorf("endorser: journal: %w", err)
	}
	return envelope, nil
}

// sweep removes, once in a while, verdicts that have expired: their requests have,
// too.
func (j *Journal) sweep(now time.Time) error {
	if j == nil {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if now.Sub(j.swept) < sweepEvery {
		return nil
	}
	j.swept = now
	list, err := os.ReadDir(j.dir)
	if err != nil {
		return fmt.Errorf("endorser: journal: %w", err)
	}
	for _, e := range list {
		name, ok := strings.CutSuffix(e.Name(), verdictSuffix)
		id, err := statement.ParseID(name)
		if !ok || err != nil {
			continue
		}
		b, err := j.read(id)
		if err != nil {
			return err
		}
		env, err := statement.DecodeEnvelope(b)
		if err != nil {
			return fmt.Errorf("endorser: journal: %s: %w", e.Name(), err)
		}
		v, err := statement.Decode[statement.Endorsement](env.Payload)
		if err != nil {
			return fmt.Errorf("endorser: journal: %s: %w", e.Name(), err)
		}
		if now.After(v.Expires.Add(sweepEvery)) {
			if err := os.Remove(j.path(id)); err != nil {
				return fmt.Errorf("endorser: journal: %w", err)
			}
		}
	}
	return nil
}
