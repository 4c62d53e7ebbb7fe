package rauc

import (
	"bytes"
	"context"
	"crypto"
	"fmt"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/verity"
)

const blockSize = verity.BlockSize

func tree(size int64, salt []byte) *verity.Tree {
	return &verity.Tree{Hash: crypto.SHA256, Salt: salt, Size: size}
}

func treeSize(size int64) int64 { return tree(size, nil).Bytes() }

func saltOf(text string) []byte { return digest(crypto.SHA256, []byte(text)) }

// makeManifest completes a manifest for an image that has no tree.
func (b *bundle) makeManifest(ctx context.Context, a format.Artifact, text string) (*manifest, error) {
	if b.cms != nil {
		return nil, fmt.Errorf("rauc: take the plain signature off before making a verity bundle")
	}
	if b.image%blockSize != 0 {
		return nil, fmt.Errorf("rauc: squashfs of %d bytes: a verity bundle wants it padded to %d", b.image, blockSize)
	}
	if treeSize(b.image) == 0 {
		return nil, fmt.Errorf("rauc: squashfs of one block has no tree")
	}
	root, err := tree(b.image, saltOf(text)).Root(ctx, a, func(int, []byte) {})
	if err != nil {
		return nil, fmt.Errorf("rauc: %w", err)
	}
	return complete(text, root, treeSize(b.image))
}

// makeTree makes the tree for Attach, which must have the root in the manifest.
func (b *bundle) makeTree(ctx context.Context, a format.Artifact, text []byte) ([]byte, error) {
	m, err := parseManifest(text)
	if err != nil {
		return nil, err
	}
	out, root, err := tree(b.image, m.salt).Make(ctx, a)
	if err != nil {
		return nil, fmt.Errorf("rauc: %w", err)
	}
	if !bytes.Equal(root, m.root) {
		return nil, fmt.Errorf("rauc: the image is not the one that was planned: its tree has another root")
	}
	return out, nil
}

// checkTree compares image and tree with the root in the manifest.
func (b *bundle) checkTree(ctx context.Context, a format.Artifact) error {
	if err := tree(b.image, b.manifest.salt).Check(ctx, a, b.image, b.manifest.root); err != nil {
		return fmt.Errorf("rauc: %w", err)
	}
	return nil
}
