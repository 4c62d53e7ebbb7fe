package keeper

import (
	"flag"
	"testing"

	"github.com/greatseal-io/greatseal/internal/depstest"
)

var update = flag.Bool("update", false, "write the golden files anew")

// The dependencies of what holds the keys are a list in a file, so that a change of
// them is a line in a review.
func TestDependencies(t *testing.T) {
	d := depstest.New(t, "../..", false)
	d.Add("internal/keeper", "internal/keeper/host", "internal/keeper/ledger", "internal/keeper/wire")
	d.Held("deps.txt", *update)
	d.Never("std:net/http", "std:database/sql", "std:os/exec", "std:plugin", "std:html/template", "std:encoding/gob",
		"tsp/client", "internal/store", "internal/api", "internal/server",
		"github.com/danielgtaylor/huma", "github.com/spf13", "modernc.org", "github.com/jackc")

	// What judges and numbers knows formats and providers by their interfaces.
	core := depstest.New(t, "../..", false)
	core.Add("internal/keeper", "internal/keeper/ledger", "internal/keeper/wire")
	core.Never("format/", "key/", "internal/config")
}
