// Package command is the check of a gate that asks an external program. The program
// reads the file's description as JSON from its standard input (check.Description)
// and answers by its exit code: 0 endorses, 1 disapproves, anything else is no
// answer, and it is asked again later. The first line that it writes to its standard
// output is the reason; what it writes to standard error is dropped.
package command

import (
	"context"
	"fmt"

	"github.com/greatseal-io/greatseal/internal/gate/check"
)

// Command is the check.
type Command struct {
	Program  check.Program
	PlanOnly bool // the program is asked about plans, not bytes
}

// New checks the program.
func New(p check.Program, planOnly bool) (*Command, error) {
	return &Command{p, planOnly}, p.Check()
}

// Bytes implements check.Check.
func (c *Command) Bytes() bool { return !c.PlanOnly }

// File implements check.Check.
func (c *Command) File(ctx context.Context, f *check.File) (check.Opinion, error) {
	code, line, err := c.Program.Run(ctx, f.Describe())
	switch {
	case err != nil:
		return check.Opinion{}, err
	case code == 0 && line == "":
		return check.For("the program found nothing against it"), nil
	case code == 0:
		return check.For(line), nil
	case code == 1 && line == "":
		return check.Against("the program refused it without a reason"), nil
	case code == 1:
		return check.Against(line), nil
	}
	return check.Opinion{}, fmt.Errorf("gate: command: exit code %d is no answer", code)
}
