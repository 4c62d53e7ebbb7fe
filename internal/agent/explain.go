package agent

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/greatseal-io/greatseal/rejection"
)

// Refusal is one entry of an agent's own file of rejections. It holds names, never
// values.
type Refusal struct {
	Time     time.Time        `json:"time"`
	Job      string           `json:"job"`
	Attempt  uint32           `json:"attempt"`
	Order    string           `json:"order,omitzero"` // digest of the order's bytes, hexadecimal
	Topic    string           `json:"topic,omitzero"`
	Instance string           `json:"instance"`
	Table    string           `json:"table,omitzero"`
	Circle   string           `json:"circle,omitzero"` // digest of the trust in force
	Reason   *rejection.Error `json:"reason"`
}

const (
	refusalsFile = "rejections.jsonl"
	maxRefusals  = 16 << 20 // bytes before the file becomes the old one, which replaces the older one
)

// refusals is that file.
type refusals struct {
	mu   sync.Mutex
	path string
}

func (r *refusals) add(e *Refusal) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if st, err := os.Stat(r.path); err == nil && st.Size() > maxRefusals {
		if err := os.Rename(r.path, r.path+".old"); err != nil {
			return fmt.Errorf("agent: %w", err)
		}
	}
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(r.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	defer f.Close()
	if _, err := f.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	return nil
}

// Explain lists why an agent refused a job, oldest first; an empty job: every one
// that its file still has. dir is the agent's state folder.
func Explain(dir, job string) ([]Refusal, error) {
	var out []Refusal
	for _, name := range []string{refusalsFile + ".old", refusalsFile} {
		f, err := os.Open(filepath.Join(dir, name))
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("agent: %w", err)
		}
		s := bufio.NewScanner(f)
		s.Buffer(nil, 64<<10)
		for s.Scan() {
			var e Refusal
			if json.Unmarshal(s.Bytes(), &e) != nil || e.Reason == nil {
				continue // a line that a kill cut off
			}
			if job == "" || e.Job == job {
				out = append(out, e)
			}
		}
		err = s.Err()
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("agent: %s: %w", name, err)
		}
	}
	return out, nil
}

func fingerprint(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}
