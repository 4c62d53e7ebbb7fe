package bundle

import (
	"bytes"
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/codesign"
	"github.com/greatseal-io/greatseal/format/macho"
)

// assembled is one piece of code with its list.
type assembled struct {
	code     *code
	plan     *format.Plan // with the digest of the list
	list     []byte       // nil for code that is no bundle
	messages []format.ToBeSigned
}

// assemble derives lists and messages, from the inside outwards.
func assemble(p *format.Plan, id format.Identity, at time.Time) (*body, []assembled, error) {
	b, plans, err := decodeBody(p)
	if err != nil {
		return nil, nil, err
	}
	if err := codesign.CheckIdentity(id); err != nil {
		return nil, nil, err
	}
	codes := map[string]named{} // by path in the tree
	var out []assembled
	for i := range b.Code {
		a := assembled{code: &b.Code[i], plan: plans[i]}
		if a.code.Base != "" {
			inside := map[string]named{}
			for _, s := range a.code.Lines {
				if s.Code {
					inside[s.Path] = codes[path.Join(a.code.Base, s.Path)]
				}
			}
			if a.list, err = encodeList(a.code.Lines, inside); err != nil {
				return nil, nil, err
			}
			if len(a.list) > maxList {
				return nil, nil, malformed("list of %d bytes", len(a.list))
			}
			if a.plan, err = macho.WithResources(plans[i], digest(a.list)); err != nil {
				return nil, nil, err
			}
		}
		hash, err := macho.CodeHash(a.plan, id, at)
		if err != nil {
			return nil, nil, err
		}
		codes[a.code.Path] = named{hash, codesign.DesignatedText(a.plan.Param("identifier"), id.Chain)}
		if a.messages, err = (macho.Format{}).Assemble(a.plan, id, at, nil); err != nil {
			return nil, nil, err
		}
		out = append(out, a)
	}
	return b, out, nil
}

// Assemble returns the messages of all slices of all code, in one round.
func (Format) Assemble(p *format.Plan, id format.Identity, at time.Time, done [][]byte) ([]format.ToBeSigned, error) {
	_, as, err := assemble(p, id, at)
	if err != nil {
		return nil, err
	}
	var out []format.ToBeSigned
	for _, a := range as {
		out = append(out, a.messages...)
	}
	switch {
	case len(out) > format.MaxSignatures:
		return nil, malformed("%d slices: at most %d", len(out), format.MaxSignatures)
	case len(done) == len(out):
		return nil, nil
	case len(done) > 0:
		return nil, fmt.Errorf("bundle: %d signatures are done: want %d", len(done), len(out))
	}
	return out, nil
}

// Attach signs the programs and writes the lists.
func (Format) Attach(ctx context.Context, a format.Artifact, p *format.Plan, id format.Identity, at time.Time, sigs []format.Signature) (*format.Patch, error) {
	b, as, err := assemble(p, id, at)
	if err != nil {
		return nil, err
	}
	t, _, err := openTree(a)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrChanged, err)
	}
	if sum, err := headDigest(a, t); err != nil || a.Size() != p.Size || !bytes.Equal(sum, b.Head) {
		return nil, fmt.Errorf("%w: its files have other names or sizes", ErrChanged)
	}
	patches, lists := map[string]*format.Patch{}, map[string][]byte{}
	for _, one := range as {
		n := len(one.messages)
		if len(sigs) < n {
			return nil, fmt.Errorf("bundle: %d signatures are missing", n-len(sigs))
		}
		i := t.Lookup(one.code.Program)
		if i < 0 || !t.Entries[i].File() {
			return nil, fmt.Errorf("%w: %q is not there", ErrChanged, one.code.Program)
		}
		if patches[one.code.Program], err = (macho.Format{}).Attach(ctx, t.Open(i), one.plan, id, at, sigs[:n]); err != nil {
			return nil, fmt.Errorf("bundle: %q: %w", one.code.Program, err)
		}
		sigs = sigs[n:]
		if one.list != nil {
			lists[path.Join(one.code.Base, "_CodeSignature", "CodeResources")] = one.list
		}
	}
	if len(sigs) > 0 {
		return nil, fmt.Errorf("bundle: %d signatures too many", len(sigs))
	}
	return Compose(t, a.Size(), patches, lists)
}

// Compose makes one patch of the tree of patches of files and of new contents; nil
// takes a file or a folder out.
func Compose(t *format.Tree, size int64, patches map[string]*format.Patch, files map[string][]byte) (*format.Patch, error) {
	entries := slices.Clone(t.Entries)
	for p, b := range files {
		if b == nil {
			entries = slices.DeleteFunc(entries, func(e format.TreeEntry) bool { return e.Path == p })
			continue
		}
		if i := slices.IndexFunc(entries, func(e format.TreeEntry) bool { return e.Path == p }); i >= 0 {
			entries[i].Size = int64(len(b))
			continue
		}
		entries = append(entries, format.TreeEntry{Path: p, Size: int64(len(b))})
		if dir := path.Dir(p); t.Lookup(dir) < 0 {
			entries = append(entries, format.TreeEntry{Path: dir, Folder: true})
		}
	}
	for i := range entries {
		if p := patches[entries[i].Path]; p != nil {
			entries[i].Size = p.NewSize()
		}
	}
	slices.SortFunc(entries, func(a, b format.TreeEntry) int { return strings.Compare(a.Path, b.Path) })
	head, err := format.EncodeTree(entries)
	if err != nil {
		return nil, err
	}
	out := &format.Patch{Size: size}
	add := func(e format.Edit) {
		if n := len(out.Edits); n > 0 {
			if last := &out.Edits[n-1]; last.Offset+last.Delete == e.Offset {
				last.Delete += e.Delete
				last.Insert = append(last.Insert[:len(last.Insert):len(last.Insert)], e.Insert...)
				return
			}
		}
		out.Edits = append(out.Edits, e)
	}
	add(format.Edit{Delete: t.Head(), Insert: head})
	at := t.Head() // in the old tree
	for i, e := range t.Entries {
		if b, ok := files[e.Path]; ok && b == nil && e.Size > 0 {
			entries = append(entries, t.Entries[i])
		}
	}
	slices.SortFunc(entries, func(a, b format.TreeEntry) int { return strings.Compare(a.Path, b.Path) })
	for _, e := range entries {
		i := t.Lookup(e.Path)
		old := int64(0)
		if i >= 0 {
			at, old = t.Offset(i), t.Entries[i].Size
		}
		if b, ok := files[e.Path]; ok {
			add(format.Edit{Offset: at, Delete: old, Insert: b})
		} else if p := patches[e.Path]; p != nil {
			for _, x := range p.Edits {
				x.Offset += at
				add(x)
			}
		}
		at += old
	}
	return out, out.Check()
}
