package replay

import (
	"context"
	"time"

	"github.com/greatseal-io/greatseal/internal/server"
	"github.com/greatseal-io/greatseal/internal/store"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/statement"
)

// pageSize is of one look at the database.
const pageSize = 500

// Server is the requests of a server as a source.
func Server(s *server.Server) Source { return served{s} }

type served struct{ s *server.Server }

func (v served) Past(ctx context.Context, cmd statement.CommandName, policy string, since time.Time, limit int) ([]Past, error) {
	var out []Past
	f := store.Filter{Command: cmd, Policy: policy, Since: since}
	for len(out) < limit {
		f.Limit = min(pageSize, limit-len(out))
		list, err := v.s.List(ctx, f)
		if err != nil {
			return nil, err
		}
		for _, r := range list {
			out = append(out, Past{r.ID, r.Command, r.Policy, r.Key, r.Requester, r.Count, r.State, r.Code, r.Updated, r.Expires})
			f.Before, f.BeforeID = r.Created, r.ID
		}
		if len(list) < f.Limit {
			break
		}
	}
	return out, nil
}

func (v served) Evidence(ctx context.Context, id statement.ID) (quorum.Evidence, error) {
	r, err := v.s.Get(ctx, id)
	if err != nil {
		return quorum.Evidence{}, err
	}
	ev := quorum.Evidence{Request: r.Envelope}
	for _, e := range r.Endorsements {
		ev.Endorsements = append(ev.Endorsements, e.Envelope)
	}
	return ev, nil
}

func (v served) Items(ctx context.Context, id statement.ID) ([][]byte, error) {
	return v.s.Items(ctx, id)
}
