package inspector

import (
	"github.com/greatseal-io/greatseal/internal/api/client"
	"github.com/greatseal-io/greatseal/internal/endorser"
	"github.com/greatseal-io/greatseal/internal/server"
)

// Source is where requests come from and verdicts go.
type Source = endorser.Source

// Local inspects for the server of this process.
func Local(s *server.Server) Source { return endorser.Local(s) }

// Remote inspects for a server elsewhere: artifacts are fetched into dir, one by
// one, and removed again.
func Remote(c *client.Client, dir string) Source { return endorser.Remote(c, dir) }
