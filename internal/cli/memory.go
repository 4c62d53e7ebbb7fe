package cli

import (
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// spare has the process collect garbage when two fifths of what lives have come on
// top, instead of as much again, as Go does by itself: where files are signed and
// checked, memory is a build's, and collecting costs little beside hashing and
// inflating. Whoever has set GOGC or GOMEMLIMIT is left alone.
func spare() {
	if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetGCPercent(40)
	}
}

// sparing spares memory where c is one of the commands to sign and to check.
func sparing(c *cobra.Command) {
	for ; c != nil; c = c.Parent() {
		if c.GroupID == "sign" {
			spare()
			return
		}
	}
}
