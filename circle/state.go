package circle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/statement"
)

// State is what is kept between runs. It is judged again when it is read, so that
// it needs no secrecy and adds nothing that the sides did not say.
type State struct {
	Sides map[statement.ID]Side // by pinned root
	Time  time.Time             // the latest at which trust was given, in whole seconds; zero: never
}

// Side is the newest that is known of one side.
type Side struct {
	Circle    Update
	Freshness *Update // nil: none
}

// Store keeps one State. Save replaces it wholly and durably, or fails and leaves
// what was there: a process that is killed, or a machine that loses power, finds
// one of the two. Load returns ErrNoState where nothing was ever saved, and an
// error of its own, never an older or an empty state, where what was saved cannot
// be read. One Circle at a time uses a store.
type Store interface {
	Load(ctx context.Context) (*State, error)
	Save(ctx context.Context, s *State) error
}

// ErrNoState is returned by Store.Load before the first Save.
var ErrNoState = errors.New("circle: no state")

// Limits of an encoded state.
const (
	MaxSides = 16
	MaxState = MaxSides*2*MaxUpdate + 1<<20 // bytes
)

type wireState struct {
	Version uint       `cbor:"1,keyasint"` // 1
	Time    int64      `cbor:"2,keyasint"` // Unix seconds; 0: never
	Sides   []wireSide `cbor:"3,keyasint"` // sorted by root
}

type wireSide struct {
	Root      []byte `cbor:"1,keyasint"`
	Statement []byte `cbor:"2,keyasint"`
	Evidence  []byte `cbor:"3,keyasint"`
	Fresh     []byte `cbor:"4,keyasint"` // statement and evidence of freshness, both or neither
	FreshDoc  []byte `cbor:"5,keyasint"`
}

// Encode writes the state in its one form, deterministic CBOR, for stores.
func (s *State) Encode() ([]byte, error) {
	if len(s.Sides) > MaxSides {
		return nil, fmt.Errorf("circle: state of %d sides: at most %d", len(s.Sides), MaxSides)
	}
	w := wireState{Version: 1, Sides: []wireSide{}}
	if !s.Time.IsZero() {
		w.Time = s.Time.Unix()
	}
	roots := slices.SortedFunc(maps.Keys(s.Sides), func(a, b statement.ID) int { return bytes.Compare(a[:], b[:]) })
	for _, root := range roots {
		side := s.Sides[root]
		x := wireSide{Root: root[:], Statement: side.Circle.Statement, Evidence: side.Circle.Evidence}
		if f := side.Freshness; f != nil {
			x.Fresh, x.FreshDoc = f.Statement, f.Evidence
		}
		w.Sides = append(w.Sides, x)
	}
	b, err := format.Encode(w)
	if err == nil && len(b) > MaxState {
		err = fmt.Errorf("circle: state of %d bytes: at most %d", len(b), MaxState)
	}
	return b, err
}

// DecodeState reads what Encode wrote, and nothing else.
func DecodeState(b []byte) (*State, error) {
	if len(b) > MaxState {
		return nil, fmt.Errorf("circle: state of %d bytes: at most %d", len(b), MaxState)
	}
	var w wireState
	if err := format.Decode(b, &w); err != nil {
		return nil, fmt.Errorf("circle: state: %w", err)
	}
	if w.Version != 1 || len(w.Sides) > MaxSides || w.Time < 0 || w.Time > 253402300799 {
		return nil, errors.New("circle: state of an unknown version, or of a time that is none")
	}
	s := &State{Sides: map[statement.ID]Side{}}
	if w.Time > 0 {
		s.Time = time.Unix(w.Time, 0).UTC()
	}
	for i, x := range w.Sides {
		if len(x.Root) != len(statement.ID{}) || i > 0 && bytes.Compare(w.Sides[i-1].Root, x.Root) >= 0 {
			return nil, errors.New("circle: state: a root is no ID, out of order or stands twice")
		}
		if len(x.Statement) == 0 || len(x.Evidence) == 0 || (len(x.Fresh) == 0) != (len(x.FreshDoc) == 0) {
			return nil, errors.New("circle: state: a side without a statement or its evidence")
		}
		side := Side{Circle: Update{x.Statement, x.Evidence}}
		if len(x.Fresh) > 0 {
			side.Freshness = &Update{x.Fresh, x.FreshDoc}
		}
		s.Sides[statement.ID(x.Root)] = side
	}
	return s, nil
}
