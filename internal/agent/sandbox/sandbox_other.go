//go:build !linux || !(amd64 || arm64)

package sandbox

import (
	"context"
	"fmt"
	"os"
)

// Sandbox is nothing here: New makes none.
type Sandbox struct{}

// New refuses.
func New(context.Context, Config) (*Sandbox, error) { return nil, ErrUnsupported }

// Isolation says that there is none.
func (*Sandbox) Isolation() Isolation { return Isolation{} }

// Run refuses.
func (*Sandbox) Run(context.Context, *Run) (Exit, error) { return Exit{}, ErrUnsupported }

// Main refuses.
func Main([]string) int {
	fmt.Fprintln(os.Stderr, ErrUnsupported)
	return 70
}
