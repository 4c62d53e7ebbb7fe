package bench

import (
	"testing"

	"github.com/greatseal-io/greatseal/internal/depstest"
)

// What people run has no test's code in it, and no key that anybody can make:
// measuring is a part of the program, and makes its own.
func TestProgramHasNoTests(t *testing.T) {
	d := depstest.New(t, "../..", false)
	d.Add("cmd/greatseal", "internal/bench")
	d.Never("std:testing", "credential/credentialtest", "format/formattest", "verify/verifytest", "audit/audittest", "cms/cmstest",
		"internal/server/servertest", "internal/store/storetest", "internal/store/pgtest")
}
