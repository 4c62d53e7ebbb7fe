package server

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/merkle"
	"github.com/greatseal-io/greatseal/statement"
	"github.com/greatseal-io/greatseal/verify"
)

// logPatience is how long Evidence waits for the log to hold a receipt.
const logPatience = 10 * time.Second

// Evidence makes the evidence document of file index of an executed request.
func (s *Server) Evidence(ctx context.Context, id statement.ID, index int) (*verify.Evidence, error) {
	all, err := s.EvidenceOf(ctx, id, index, index+1)
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// EvidenceOf makes the documents of files from to to (exclusive).
func (s *Server) EvidenceOf(ctx context.Context, id statement.ID, from, to int) ([]*verify.Evidence, error) {
	var docs []*verify.Evidence
	err := s.EachEvidence(ctx, id, from, to, func(e *verify.Evidence) error {
		docs = append(docs, e)
		return nil
	})
	return docs, err
}

// EachEvidence makes the documents of files from to to (exclusive), one after the
// other, and ends with the first error of yield.
func (s *Server) EachEvidence(ctx context.Context, id statement.ID, from, to int, yield func(*verify.Evidence) error) error {
	out, rc, err := s.Outcome(ctx, id)
	if err != nil {
		return err
	}
	if rc.Signed == nil {
		return problem(409, "nothing-signed", "", "request %s signed nothing: %s", id.String()[:12], rc.Command)
	}
	items, err := s.cfg.Store.Items(ctx, id)
	if err != nil {
		return err
	}
	if from < 0 || to > len(items) || from >= to || len(out.Signatures) != len(items) {
		return problem(404, "not-found", "", "request %s has files 0 to %d", id.String()[:12], len(items)-1)
	}
	r, err := s.cfg.Store.Request(ctx, id)
	if err != nil {
		return err
	}
	log, err := s.logged(ctx, id, out.Receipt)
	if err != nil {
		return err
	}
	chain, err := s.Chain().Encode()
	if err != nil {
		return fmt.Errorf("server: charter chain: %w", err)
	}
	leaves := make([]merkle.Hash, len(items))
	sigs := make([]merkle.Hash, len(items))
	for i := range items {
		leaves[i] = format.Leaf(items[i])
		sigs[i] = format.SignatureLeaf(leaves[i], out.Signatures[i])
	}
	itemTree, err := merkle.New(merkle.Items, leaves)
	if err != nil {
		return err
	}
	sigTree, err := merkle.New(merkle.Signatures, sigs)
	if err != nil {
		return err
	}
	keys, err := s.evidenceKeys(ctx, rc.Signed, append([][][]byte{out.Chain}, out.Also...))
	if err != nil {
		return err
	}
	for i := from; i < to; i++ {
		e := &verify.Evidence{Version: verify.EvidenceVersion, Chain: chain, Request: r.Envelope, Receipt: out.Receipt, Log: *log,
			File: verify.EvidenceFile{Item: items[i], Signatures: out.Signatures[i], Certificates: keys[0].Certificates, PublicKey: keys[0].PublicKey}}
		if len(keys) > 1 {
			e.File.Also = keys[1:]
		}
		for _, x := range r.Endorsements {
			e.Endorsements = append(e.Endorsements, x.Envelope)
		}
		if e.File.ItemProof, err = itemTree.Prove(i); err != nil {
			return err
		}
		if e.File.SignatureProof, err = sigTree.Prove(i); err != nil {
			return err
		}
		if err := yield(e); err != nil {
			return err
		}
	}
	return nil
}

// evidenceKeys are the keys that signed: by their certificates, or by themselves
// where they have none.
func (s *Server) evidenceKeys(ctx context.Context, r *statement.SignedResult, chains [][][]byte) ([]verify.EvidenceKey, error) {
	uses := r.Keys()
	if len(chains) != len(uses) {
		return nil, fmt.Errorf("server: certificates of %d keys: the receipt has %d", len(chains), len(uses))
	}
	out := make([]verify.EvidenceKey, len(uses))
	for i, use := range uses {
		if out[i].Certificates = chains[i]; len(chains[i]) > 0 {
			continue
		}
		k, err := s.Key(ctx, use.Key)
		if err != nil {
			return nil, err
		}
		out[i].PublicKey = k.PublicKey
	}
	return out, nil
}

// logged proves that the log holds the receipt of a request, and waits a little
// for it.
func (s *Server) logged(ctx context.Context, id statement.ID, receipt []byte) (*verify.EvidenceLog, error) {
	ctx, cancel := context.WithTimeout(ctx, logPatience)
	defer cancel()
	for {
		news := s.watch.wait()
		refs, err := s.cfg.Store.EntriesOf(ctx, id)
		if err != nil {
			return nil, err
		}
		head, herr := s.LogHead(ctx)
		for _, ref := range refs {
			if ref.Kind != audit.KindReceipt || herr != nil || ref.Index >= head.Size() {
				continue
			}
			entries, err := s.Entries(ctx, head, ref.Index, ref.Index+1)
			if err != nil {
				return nil, err
			}
			e, err := audit.DecodeEntry(entries[0])
			if err != nil {
				return nil, err
			}
			body, err := e.Body(nil)
			if err != nil || string(body) != string(receipt) {
				continue // the receipt of an earlier refusal
			}
			p, err := audit.ProveInclusion(ctx, s.cfg.Store, head.Size(), ref.Index)
			if err != nil {
				return nil, err
			}
			return &verify.EvidenceLog{Checkpoint: string(head.Note()), Entry: entries[0], Inclusion: p}, nil
		}
		kick(s.sequence)
		t := time.NewTimer(200 * time.Millisecond)
		select {
		case <-ctx.Done():
			return nil, problem(503, "log-behind", "try again in a moment: greatseal evidence "+id.String()[:12], "the log does not hold the receipt yet")
		case <-news:
		case <-t.C:
		}
		t.Stop()
	}
}

// Entries reads the log's entries from index from up to, and without, index to: within
// one bundle's width of each other, and published.
func (s *Server) Entries(ctx context.Context, head audit.Head, from, to int64) ([][]byte, error) {
	if from < 0 || to > head.Size() || to < from || to-from > audit.TileWidth {
		return nil, store.ErrNotFound
	}
	var out [][]byte
	for at := from; at < to; {
		n := at / audit.TileWidth
		end := min(to, (n+1)*audit.TileWidth)
		w := int(min(head.Size()-n*audit.TileWidth, audit.TileWidth)) // whole, as it is kept
		b, err := s.cfg.Store.ReadBundle(ctx, n, w)
		if err != nil {
			return nil, err
		}
		list, err := audit.ParseBundle(b, w)
		if err != nil {
			return nil, fmt.Errorf("server: log entries: %w", err)
		}
		out = append(out, list[at-n*audit.TileWidth:end-n*audit.TileWidth]...)
		at = end
	}
	return out, nil
}

// ProveEntry proves that an entry is in the log that head heads.
func (s *Server) ProveEntry(ctx context.Context, head audit.Head, index int64) (audit.Inclusion, error) {
	if index < 0 || index >= head.Size() {
		return audit.Inclusion{}, store.ErrNotFound
	}
	return audit.ProveInclusion(ctx, s.cfg.Store, head.Size(), index)
}

// ProveGrowth proves that the log of size entries, which head heads or extends, begins
// with its first old entries.
func (s *Server) ProveGrowth(ctx context.Context, head audit.Head, old, size int64) (audit.Consistency, error) {
	if old < 0 || old > size || size > head.Size() {
		return audit.Consistency{}, store.ErrNotFound
	}
	return audit.ProveConsistency(ctx, s.cfg.Store, old, size)
}

// Tile and Bundle serve the log.
func (s *Server) Tile(ctx context.Context, t tlog.Tile) ([]byte, error) {
	out, err := s.cfg.Store.ReadTiles(ctx, []tlog.Tile{t})
	if err != nil {
		return nil, err
	}
	return out[0], nil
}

// Bundle serves entries.
func (s *Server) Bundle(ctx context.Context, index int64, width int) ([]byte, error) {
	return s.cfg.Store.ReadBundle(ctx, index, width)
}

// Body serves a body that the log only names.
func (s *Server) Body(ctx context.Context, sum [32]byte) ([]byte, error) {
	return s.cfg.Store.Body(ctx, sum)
}
