//go:build tools

// Package tools pins the programs that check the code, in a module of its own, so
// that what they need stays out of the product.
package tools

import _ "honnef.co/go/tools/cmd/staticcheck"
