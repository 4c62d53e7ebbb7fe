//go:build tools

// Package dex names the provider that the tests of sign-on log in at, so that the
// versions of everything that it is built from are fixed here.
package dex

import _ "github.com/dexidp/dex/cmd/dex"
