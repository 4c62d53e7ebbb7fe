package charter_test

import (
	"testing"

	"github.com/greatseal-io/greatseal/internal/depstest"
)

// Invariant 4: no clock, no files, no network, no randomness.
func TestPure(t *testing.T) { depstest.Pure(t, ".", 5) }
