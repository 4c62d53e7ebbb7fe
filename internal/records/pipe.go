package records

import (
	"context"
	"errors"
	"runtime"
	"sync"

	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/record"
)

// made is one row on its way: its statement, or why there is none.
type made struct {
	row     *platform.Row
	st      *record.Statement
	skipped string
	err     error
}

// group is some rows that one goroutine makes statements of.
type group struct {
	rows []made
	size int
	done chan struct{}
}

// Limits of a group; depth groups are on their way, so that memory is bounded
// whatever the number of rows.
const (
	groupRows = 256
	groupSize = 1 << 20 // bytes of values, if it is more than one row
	depth     = 8
)

// pipe reads rows, makes statements on all cores and hands them out in the order in
// which they were read. read calls its argument for each row; use is called in one
// goroutine, the caller's. The first error ends everything.
func pipe(ctx context.Context, read func(context.Context, func(*platform.Row) error) error, make_ func(*made), use func(*made) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	order, todo := make(chan *group, depth), make(chan *group, depth)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for g := range todo {
				for i := range g.rows {
					if ctx.Err() == nil {
						make_(&g.rows[i])
					}
				}
				close(g.done)
			}
		})
	}
	var readErr error
	wg.Go(func() {
		defer close(order)
		defer close(todo)
		g := &group{done: make(chan struct{})}
		send := func() error {
			if len(g.rows) == 0 {
				return nil
			}
			select {
			case order <- g:
			case <-ctx.Done():
				return ctx.Err()
			}
			todo <- g // as many as order holds: never full for long
			g = &group{done: make(chan struct{}), rows: make([]made, 0, groupRows)}
			return nil
		}
		readErr = read(ctx, func(r *platform.Row) error {
			g.rows = append(g.rows, made{row: r})
			for _, v := range r.Record.Fields {
				g.size += len(v)
			}
			if len(g.rows) >= groupRows || g.size >= groupSize {
				return send()
			}
			return nil
		})
		if readErr == nil {
			readErr = send()
		}
	})
	var err error
	for g := range order {
		<-g.done
		for i := range g.rows {
			if err == nil {
				err = g.rows[i].err
			}
			if err == nil {
				err = use(&g.rows[i])
			}
		}
		if err != nil {
			stop()
		}
	}
	wg.Wait()
	if err != nil {
		return err
	}
	if errors.Is(readErr, context.Canceled) && ctx.Err() != nil {
		return ctx.Err()
	}
	return readErr
}
