package cli

import (
	"fmt"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/greatseal-io/greatseal/format"
)

// meter shows how far something is: a bar on a terminal, nothing elsewhere, where
// the command says in a line what was done.
type meter struct {
	bar *progressbar.ProgressBar
}

const barWidth = 28

// meter begins a meter of total steps, or bytes. A total of 0 or less is unknown.
func (a *App) meter(what string, total int64, bytes bool) *meter {
	if !a.terminal() {
		return &meter{}
	}
	if total <= 0 {
		total = -1
	}
	o := []progressbar.Option{
		progressbar.OptionSetWriter(a.Err), progressbar.OptionSetDescription(what), progressbar.OptionSetWidth(barWidth),
		progressbar.OptionThrottle(100 * time.Millisecond), progressbar.OptionClearOnFinish(), progressbar.OptionSetPredictTime(true),
	}
	if bytes {
		o = append(o, progressbar.OptionShowBytes(true))
	} else {
		o = append(o, progressbar.OptionShowCount())
	}
	return &meter{progressbar.NewOptions64(total, o...)}
}

// add counts n more. What a terminal refuses to draw is no error of the work.
func (m *meter) add(n int64) {
	if m.bar != nil {
		_ = m.bar.Add64(n)
	}
}

func (m *meter) set(n int64) {
	if m.bar != nil {
		_ = m.bar.Set64(n)
	}
}

// say changes what is written beside the bar.
func (m *meter) say(what string) {
	if m.bar != nil {
		m.bar.Describe(what)
	}
}

// end removes the bar.
func (m *meter) end() {
	if m.bar != nil {
		_ = m.bar.Clear()
		_ = m.bar.Exit()
	}
}

// metered counts what is read of an artifact, each byte once.
type metered struct {
	format.Artifact
	m *meter

	mu   sync.Mutex
	done int64
}

func (r *metered) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.Artifact.ReadAt(p, off)
	r.mu.Lock()
	defer r.mu.Unlock()
	if end := off + int64(n); end > r.done {
		r.m.add(end - r.done)
		r.done = end
	}
	return n, err
}

// size is a number of bytes for people.
func size(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	f, e := float64(n), 0
	for f >= unit && e < 5 {
		f /= unit
		e++
	}
	return fmt.Sprintf("%.1f %ciB", f, " KMGTP"[e])
}

// count is a number of things for people.
func count(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}
