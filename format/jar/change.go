package jar

import (
	"bytes"
	"context"
	"fmt"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/jarsig"
	"github.com/greatseal-io/greatseal/format/zipfile"
)

// at finds signature index of Inspect's report: its file, and its place in the block.
func at(sigs []*signature, index int) (s *signature, signer int, err error) {
	for _, s := range sigs {
		if index >= 0 && index < len(s.sd.Signers) {
			return s, index, nil
		}
		index -= len(s.sd.Signers)
	}
	return nil, 0, fmt.Errorf("jar: no such signature")
}

func signed(a format.Artifact) (*archive, []*signature, error) {
	r, err := open(a)
	if err != nil {
		return nil, nil, err
	}
	sigs, err := r.signatures()
	return r, sigs, err
}

// Unstamped lists the signatures without a timestamp.
func (Format) Unstamped(_ context.Context, a format.Artifact, detached []byte) ([]format.StampTarget, error) {
	if len(detached) > 0 {
		return nil, errDetached
	}
	_, sigs, err := signed(a)
	if err != nil {
		return nil, err
	}
	var out []format.StampTarget
	i := 0
	for _, s := range sigs {
		for _, signer := range s.sd.Signers {
			if _, ok := signer.UnsignedAttribute(cms.OIDTimeStampToken); !ok {
				out = append(out, format.StampTarget{Index: i, Message: signer.Signature})
			}
			i++
		}
	}
	return out, nil
}

// Stamp replaces the block by one with the token.
func (Format) Stamp(_ context.Context, a format.Artifact, detached []byte, target format.StampTarget, token []byte) (*format.Patch, error) {
	if len(detached) > 0 {
		return nil, errDetached
	}
	r, sigs, err := signed(a)
	if err != nil {
		return nil, err
	}
	s, k, err := at(sigs, target.Index)
	if err != nil {
		return nil, err
	}
	signer := s.sd.Signers[k]
	if !bytes.Equal(signer.Signature, target.Message) {
		return nil, fmt.Errorf("%w: signature %d has another value", ErrChanged, target.Index)
	}
	if _, ok := signer.UnsignedAttribute(cms.OIDTimeStampToken); ok {
		return nil, fmt.Errorf("jar: signature %d has a timestamp", target.Index)
	}
	der, err := addToken(s.block, k, signer.Signature, token)
	if err != nil {
		return nil, err
	}
	return r.front(s.name, der)
}

// front takes the parts of a signature out and puts them before everything again,
// behind the manifest, with another block.
func (r *archive) front(name string, block []byte) (*format.Patch, error) {
	e := r.Edit()
	for _, i := range []int{r.manifest, r.texts[name], r.blocks[name]} {
		if i < 0 {
			continue
		}
		text, err := r.Content(i, jarsig.MaxSize)
		if err != nil {
			return nil, fmt.Errorf("jar: %w", err)
		}
		if i == r.blocks[name] {
			text = block
		}
		e.Remove(i)
		e.Front(zipfile.File{Name: r.Entries[i].Name, Content: text, Method: zipfile.Deflated})
	}
	out, err := e.Apply()
	if err != nil {
		return nil, fmt.Errorf("jar: %w", err)
	}
	return out.Patch, nil
}

// Remove takes signature files and blocks out. The manifest stays, with its digests:
// it says nothing false, and others may have signed it. A block with several signers
// goes as a whole.
func (Format) Remove(_ context.Context, a format.Artifact, index int) (*format.Patch, error) {
	r, err := open(a)
	if err != nil {
		return nil, err
	}
	if !r.signed() {
		return nil, fmt.Errorf("jar: %w", format.ErrUnsigned)
	}
	e := r.Edit()
	if index == -1 {
		for _, m := range []map[string]int{r.texts, r.blocks} {
			for _, i := range m {
				e.Remove(i)
			}
		}
		for _, i := range r.odd {
			e.Remove(i)
		}
	} else {
		sigs, err := r.signatures()
		if err != nil {
			return nil, err
		}
		s, _, err := at(sigs, index)
		if err != nil {
			return nil, err
		}
		e.Remove(r.texts[s.name])
		e.Remove(r.blocks[s.name])
	}
	out, err := e.Apply()
	if err != nil {
		return nil, fmt.Errorf("jar: %w", err)
	}
	return out.Patch, nil
}

// Extract returns a block: CMS in DER, over the signature file.
func (Format) Extract(_ context.Context, a format.Artifact, index int) (*format.Sidecar, error) {
	_, sigs, err := signed(a)
	if err != nil {
		return nil, err
	}
	s, _, err := at(sigs, index)
	if err != nil {
		return nil, err
	}
	return &format.Sidecar{Suffix: ".p7s", Data: s.block}, nil
}
