package store

import (
	"context"
	"time"
)

// Saved is a search that somebody has given a name.
type Saved struct {
	ID      string // in its address; whoever is signed in may follow it
	Person  string
	Name    string
	Query   string // of an address
	Created time.Time
}

// MaxSaved is how many searches one person keeps.
const MaxSaved = 200

// SavedSearches keeps them.
type SavedSearches interface {
	// PutSaved keeps a search. [ErrExists]: the person has one of this name;
	// [ErrConflict]: he has [MaxSaved].
	PutSaved(ctx context.Context, x Saved) error
	// SavedBy lists a person's by their names, Saved returns one.
	SavedBy(ctx context.Context, person string) ([]Saved, error)
	Saved(ctx context.Context, id string) (*Saved, error)
	// DeleteSaved removes one of a person's. [ErrNotFound]: it is not his.
	DeleteSaved(ctx context.Context, person, id string) error
}

func scanSaved(r scanner) (x Saved, err error) {
	var created int64
	err = r.Scan(&x.ID, &x.Person, &x.Name, &x.Query, &created)
	x.Created = at(created)
	return x, err
}

const savedColumns = `id, person, name, query, created`

// PutSaved keeps a search.
func (s *SQL) PutSaved(ctx context.Context, x Saved) error {
	list, err := s.SavedBy(ctx, x.Person)
	if err != nil {
		return err
	}
	if len(list) >= MaxSaved {
		return ErrConflict
	}
	_, err = s.exec(ctx, `INSERT INTO saved_searches (`+savedColumns+`) VALUES ($1, $2, $3, $4, $5)`, x.ID, text(x.Person), text(x.Name), text(x.Query), ms(x.Created))
	return err
}

// SavedBy lists a person's searches.
func (s *SQL) SavedBy(ctx context.Context, person string) ([]Saved, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT `+savedColumns+` FROM saved_searches WHERE person = $1 ORDER BY name, id`, text(person))
	out, err := collect(rows, err, scanSaved)
	return out, s.wrap(err)
}

// Saved returns a search by its ID.
func (s *SQL) Saved(ctx context.Context, id string) (*Saved, error) {
	x, err := scanSaved(s.read.QueryRowContext(ctx, `SELECT `+savedColumns+` FROM saved_searches WHERE id = $1`, text(id)))
	return &x, s.wrap(err)
}

// DeleteSaved removes a search.
func (s *SQL) DeleteSaved(ctx context.Context, person, id string) error {
	n, err := s.exec(ctx, `DELETE FROM saved_searches WHERE person = $1 AND id = $2`, text(person), text(id))
	if err == nil && n == 0 {
		err = ErrNotFound
	}
	return err
}
