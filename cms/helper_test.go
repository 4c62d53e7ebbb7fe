package cms_test

import (
	"errors"
	"testing"
)

func wantErr(t testing.TB, want, got error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Fatalf("got error %v, want %v", got, want)
	}
}
