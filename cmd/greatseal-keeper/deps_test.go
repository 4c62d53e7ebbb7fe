package main

import (
	"flag"
	"testing"

	"github.com/greatseal-io/greatseal/internal/depstest"
)

var update = flag.Bool("update", false, "write deps.txt anew")

// All that is linked into the program that holds the keys is a list in a file.
func TestDependencies(t *testing.T) {
	d := depstest.New(t, "../..", true)
	d.Add("cmd/greatseal-keeper")
	d.Held("deps.txt", *update)
	d.Never("std:net/http", "std:database/sql", "std:plugin", "tsp/client", "format/file", "internal/store", "internal/api", "internal/server",
		"github.com/danielgtaylor/huma", "github.com/spf13", "modernc.org", "github.com/jackc")
}
