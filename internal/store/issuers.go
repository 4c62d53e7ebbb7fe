package store

import (
	"context"
	"time"
)

// IssuerSeen is what an issuer of ID tokens was last seen to publish.
type IssuerSeen struct {
	URL     string
	Keys    string    // JSON; "" when it has never answered
	Seen    time.Time // of the last answer
	Tried   time.Time
	Problem string // of the last try; "" when it answered
}

// Issuers keeps what replicas have seen of issuers. It warns people, and no key
// counts because it stands here: those that count are pinned in the charter.
type Issuers interface {
	// PutIssuer notes a try. Where it came to nothing, what was seen before stays.
	PutIssuer(ctx context.Context, i IssuerSeen) error
	// IssuersSeen lists them by URL.
	IssuersSeen(ctx context.Context) ([]IssuerSeen, error)
}

var _ Issuers = (*SQL)(nil)

// newer has the answer of a try replace that of an earlier one, and that of a try which
// was more than an hour later: a clock was ahead, and nothing would replace it until then.
const newer = `issuers.tried <= excluded.tried OR issuers.tried > excluded.tried + 3600000`

// PutIssuer notes a try. Where it came to nothing, what was seen before stays.
func (s *SQL) PutIssuer(ctx context.Context, i IssuerSeen) error {
	if i.Problem != "" {
		_, err := s.exec(ctx, `INSERT INTO issuers (url, jwks, seen, tried, problem) VALUES ($1, '', 0, $2, $3)
			ON CONFLICT (url) DO UPDATE SET tried = excluded.tried, problem = excluded.problem WHERE `+newer, i.URL, ms(i.Tried), i.Problem)
		return err
	}
	_, err := s.exec(ctx, `INSERT INTO issuers (url, jwks, seen, tried, problem) VALUES ($1, $2, $3, $4, '')
		ON CONFLICT (url) DO UPDATE SET jwks = excluded.jwks, seen = excluded.seen, tried = excluded.tried, problem = '' WHERE `+newer,
		i.URL, i.Keys, ms(i.Seen), ms(i.Tried))
	return err
}

// IssuersSeen lists them by URL.
func (s *SQL) IssuersSeen(ctx context.Context) ([]IssuerSeen, error) {
	rows, err := s.rows(ctx, `SELECT url, jwks, seen, tried, problem FROM issuers ORDER BY url`)
	out, err := collect(rows, err, func(r scanner) (i IssuerSeen, err error) {
		var seen, tried int64
		err = r.Scan(&i.URL, &i.Keys, &seen, &tried, &i.Problem)
		i.Seen, i.Tried = at(seen), at(tried)
		return i, err
	})
	return out, s.wrap(err)
}
