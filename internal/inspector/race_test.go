//go:build race

package inspector_test

import "github.com/greatseal-io/greatseal/internal/inspector"

const memory = inspector.NoMemoryLimit
