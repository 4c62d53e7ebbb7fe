package xar

import (
	"bytes"
	"compress/bzip2"
	"compress/zlib"
	"context"
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/greatseal-io/greatseal/cms"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/codesign"
)

// signed reads the CMS signature.
func signed(a format.Artifact) (*archive, *cms.SignedData, error) {
	x, err := parse(a)
	if err != nil {
		return nil, nil, err
	}
	if x.cms == nil {
		return nil, nil, ErrUnsigned
	}
	b, err := x.read(a, *x.cms)
	if err != nil {
		return nil, nil, err
	}
	sd, err := parseCMS(b)
	return x, sd, err
}

// Unstamped gives the value of the CMS signature unless it has a timestamp.
func (Format) Unstamped(_ context.Context, a format.Artifact, detached []byte) ([]format.StampTarget, error) {
	if len(detached) > 0 {
		return nil, errDetached
	}
	_, sd, err := signed(a)
	if err != nil {
		return nil, err
	}
	tok, err := codesign.Timestamp(sd.Signers[0])
	if err != nil || tok != nil {
		return nil, err
	}
	return []format.StampTarget{{Message: sd.Signers[0].Signature}}, nil
}

// Stamp adds a token inside the signature's space, whose length is signed.
func (Format) Stamp(_ context.Context, a format.Artifact, detached []byte, target format.StampTarget, token []byte) (*format.Patch, error) {
	if len(detached) > 0 {
		return nil, errDetached
	}
	x, sd, err := signed(a)
	if err != nil {
		return nil, err
	}
	s := sd.Signers[0]
	if target.Index != 0 || !bytes.Equal(s.Signature, target.Message) {
		return nil, errors.New("xar: no signature has the value that was stamped")
	}
	if tok, err := codesign.Timestamp(s); err != nil {
		return nil, err
	} else if tok != nil {
		return nil, errors.New("xar: the signature has a timestamp already")
	}
	if err := codesign.CheckToken(token, s.Signature); err != nil {
		return nil, err
	}
	der, err := cms.AddUnsigned(sd.Raw, 0, cms.NewAttribute(cms.OIDTimeStampToken, token))
	if err != nil {
		return nil, fmt.Errorf("xar: timestamp: %w", err)
	}
	if der, err = pad(der, x.cms.size); err != nil {
		return nil, err
	}
	return &format.Patch{Size: x.size, Edits: []format.Edit{{Offset: x.heap + x.cms.off, Delete: x.cms.size, Insert: der}}}, nil
}

// Remove takes off both signatures, and a ticket with them: what is left is the
// table with its digest, stored, and the data. Digests of files that signing wrote
// anew stay as they are.
func (Format) Remove(_ context.Context, a format.Artifact, index int) (*format.Patch, error) {
	x, err := parse(a)
	if err != nil {
		return nil, err
	}
	switch {
	case x.cms == nil && x.rsa == nil:
		return nil, ErrUnsigned
	case index != -1 && index != 0:
		return nil, fmt.Errorf("xar: signature %d: a package has one, twice written", index)
	}
	h := x.hash
	if h == 0 {
		h = crypto.SHA256
	}
	t, err := parseTable(x.bare(nil))
	if err != nil {
		return nil, err
	}
	xml := t.sign(h, 0, 0, nil)
	packed := store(xml)
	b := body{Front: x.heap + x.signatures, Data: x.end - x.heap - x.signatures, Ticket: int64(len(x.ticket))}
	return b.patch(x.size, append(header(packed, len(xml), hashNumber(h)), digest(h, packed)...)), nil
}

// Extract gives the CMS signature; what it is over is the digest of the table.
func (Format) Extract(_ context.Context, a format.Artifact, index int) (*format.Sidecar, error) {
	_, sd, err := signed(a)
	if err != nil {
		return nil, err
	}
	if index != 0 {
		return nil, fmt.Errorf("xar: signature %d has no form of its own: the CMS signature is 0", index)
	}
	return &format.Sidecar{Suffix: ".p7s", Data: sd.Raw}, nil
}

// List gives the files. A digest is missing where the data is packed in a way that is
// not known here; what is unpacked is bounded by the size that the table states.
func (Format) List(ctx context.Context, a format.Artifact, yield func(format.Entry) error) error {
	x, err := parse(a)
	if err != nil {
		return err
	}
	for _, d := range x.files {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("xar: %w", err)
		}
		e := format.Entry{Name: d.path, Size: d.size}
		if r := d.unpack(io.NewSectionReader(a, x.heap+d.off, d.extent.size)); r != nil {
			h := sha256.New()
			n, err := io.Copy(h, io.LimitReader(r, d.size+1))
			if err != nil || n != d.size {
				return malformed("data of %.100q does not unpack to %d bytes: %v", d.path, d.size, err)
			}
			e.Digest = h.Sum(nil)
		} else {
			e.Facts = []format.Fact{{Name: "encoding", Value: plainText(d.encoding)}}
		}
		if err := yield(e); err != nil {
			return err
		}
	}
	return nil
}

func (d *data) unpack(r io.Reader) io.Reader {
	switch d.encoding {
	case "", "application/octet-stream":
		return r
	case "application/x-gzip": // which is zlib
		if z, err := zlib.NewReader(r); err == nil {
			return z
		}
	case "application/x-bzip2":
		return bzip2.NewReader(r)
	}
	return nil
}
