package authenticode

import (
	"context"

	"github.com/greatseal-io/greatseal/format"
)

// Opener opens the files of one format. Its zero value is ready.
type Opener interface {
	Open(ctx context.Context, a format.Artifact) (File, error)
}

// Methods are those of a format's methods that follow from its files being Files: a
// format embeds them with its own Opener, and says anew what it does otherwise.
type Methods[O Opener] struct{}

// with opens a and does something with it.
func with[O Opener, T any](ctx context.Context, a format.Artifact, do func(File) (T, error)) (T, error) {
	var o O
	f, err := o.Open(ctx, a)
	if err != nil {
		var none T
		return none, err
	}
	return do(f)
}

// Inspect lists signatures without judging them; it computes no digest.
func (Methods[O]) Inspect(ctx context.Context, a format.Artifact) (*format.Report, error) {
	return with[O](ctx, a, Inspect)
}

// Verify accepts a when every signature in it verifies.
func (Methods[O]) Verify(ctx context.Context, a format.Artifact, t format.Trust) (*format.Report, error) {
	return with[O](ctx, a, func(f File) (*format.Report, error) { return Verify(ctx, f, t) })
}

// Unstamped lists the signatures without a timestamp.
func (Methods[O]) Unstamped(ctx context.Context, a format.Artifact, detached []byte) ([]format.StampTarget, error) {
	return with[O](ctx, a, func(f File) ([]format.StampTarget, error) { return Unstamped(f, detached) })
}

// Stamp adds a timestamp.
func (Methods[O]) Stamp(ctx context.Context, a format.Artifact, detached []byte, target format.StampTarget, token []byte) (*format.Patch, error) {
	return with[O](ctx, a, func(f File) (*format.Patch, error) { return Stamp(ctx, f, detached, target, token) })
}

// Remove takes off one signature, or all of them.
func (Methods[O]) Remove(ctx context.Context, a format.Artifact, index int) (*format.Patch, error) {
	return with[O](ctx, a, func(f File) (*format.Patch, error) { return Remove(ctx, f, index) })
}

// Extract gives one signature as a .p7s.
func (Methods[O]) Extract(ctx context.Context, a format.Artifact, index int) (*format.Sidecar, error) {
	return with[O](ctx, a, func(f File) (*format.Sidecar, error) { return Extract(f, index) })
}
