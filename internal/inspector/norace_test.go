//go:build !race

package inspector_test

const memory = 2 << 30
