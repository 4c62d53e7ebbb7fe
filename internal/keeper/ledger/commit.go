package ledger

import (
	"fmt"
	"time"
)

// commit is the one goroutine that writes. Whatever has queued up while the
// last batch was synced, and whatever gather waits for, becomes the next batch.
func (l *Ledger) commit() {
	defer close(l.done)
	for {
		l.mu.Lock()
		for len(l.queue) == 0 && !l.closed {
			l.wake.Wait()
		}
		l.gather()
		if l.stopped != nil || l.closed {
			err := l.stopped
			if err == nil {
				err = ErrClosed
			}
			for _, e := range l.queue {
				e.result <- result{err: err}
			}
			l.queue = nil
			if l.closed {
				l.mu.Unlock()
				return
			}
			l.mu.Unlock()
			continue
		}
		queue := l.queue
		l.queue = nil
		l.mu.Unlock()
		for len(queue) > 0 {
			n := l.batch(queue)
			queue = queue[n:]
		}
	}
}

// gather waits for more entries when many are to come. l.mu is held.
func (l *Ledger) gather() {
	if l.o.Company == nil {
		return
	}
	company := l.o.Company()
	if company < crowd {
		return
	}
	over := false
	timer := time.AfterFunc(patience, func() {
		l.mu.Lock()
		over = true
		l.wake.Signal()
		l.mu.Unlock()
	})
	defer timer.Stop()
	for len(l.queue) < company/4 && !over && !l.closed && l.stopped == nil {
		l.wake.Wait()
	}
}

// batch builds, writes and syncs the first entries of queue, answers them and
// says how many they were.
func (l *Ledger) batch(queue []*entry) int {
	if err := l.Err(); err != nil {
		for _, e := range queue {
			e.result <- result{err: err}
		}
		return len(queue)
	}
	if l.o.Begin != nil {
		l.o.Begin()
	}
	b, seal := l.buf[:0], l.seal
	var batch []*entry
	n := 0
	for _, e := range queue {
		if n > 0 && len(b) >= maxBatch {
			break
		}
		n++
		recs, err := e.build()
		for _, r := range recs {
			if err == nil && len(r.Body) > MaxBody {
				err = fmt.Errorf("%w: body of %d bytes: at most %d", ErrWrite, len(r.Body), MaxBody)
			}
		}
		if err != nil {
			e.result <- result{err: err}
			if len(recs) > 0 {
				break // what was built after recs would stand on something that is not there
			}
			continue
		}
		for _, r := range recs {
			e.offsets = append(e.offsets, l.size+int64(len(b)))
			b, seal = appendRecord(b, seal, r)
		}
		batch = append(batch, e)
	}
	if l.buf = b; cap(b) > 2*maxBatch {
		l.buf = nil
	}
	if len(b) > 0 {
		if err := l.write(b); err != nil {
			for _, e := range batch {
				e.result <- result{err: err}
			}
			return n
		}
		l.mu.Lock()
		l.size += int64(len(b))
		l.mu.Unlock()
		l.seal = seal
		l.o.Hook("ledger.commit")
	}
	for _, e := range batch {
		if e.commit != nil {
			e.commit(e.offsets)
		}
		e.result <- result{offsets: e.offsets}
	}
	return n
}

// write makes b durable at the end of the file, or leaves the file as it was, or
// stops the ledger.
func (l *Ledger) write(b []byte) error {
	l.o.Hook("ledger.write")
	_, err := l.f.WriteAt(b, l.size)
	if err == nil {
		l.o.Hook("ledger.sync")
		if err = l.f.Sync(); err == nil {
			return nil
		}
		// The kernel may have dropped the pages and called them clean: what the
		// file reads as is no longer what the disk holds. Cutting drops them; the
		// ledger stops whether or not that works.
		cut := l.f.Truncate(l.size)
		return l.stop(fmt.Errorf("%w: sync: %w (cut back: %v)", ErrStopped, err, cut))
	}
	if cut := l.f.Truncate(l.size); cut != nil {
		return l.stop(fmt.Errorf("%w: write: %w; cut back: %w", ErrStopped, err, cut))
	}
	if sync := l.f.Sync(); sync != nil {
		return l.stop(fmt.Errorf("%w: write: %w; sync: %w", ErrStopped, err, sync))
	}
	l.log.Error("ledger: write failed, cut back", "size", l.size, "error", err)
	return fmt.Errorf("%w: %w", ErrWrite, err)
}

func (l *Ledger) stop(err error) error {
	l.log.Error("ledger: stopped", "size", l.size, "error", err)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = err
	return err
}
