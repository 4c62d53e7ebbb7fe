package bench

import (
	"context"
	"fmt"
	"slices"
)

// Sample makes a small real file of a format of the table at path, and returns the
// options that it is signed with, NAME=VALUE.
func Sample(ctx context.Context, format, path string) (params []string, err error) {
	i := slices.IndexFunc(contests, func(c contest) bool { return c.format == format })
	if i < 0 {
		return nil, fmt.Errorf("bench: there is no sample of %q", format)
	}
	c := contests[i]
	in := input{bytes: 64 << 10}
	if c.inputs[0].entries > 0 {
		in.entries = 3
	}
	return c.params, c.make(ctx, path, in)
}
