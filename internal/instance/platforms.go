package instance

import (
	"context"
	"fmt"
	"strings"

	"github.com/greatseal-io/greatseal/internal/config"
	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/internal/platform/mariadb"
	"github.com/greatseal-io/greatseal/internal/platform/postgres"
	"github.com/greatseal-io/greatseal/internal/platform/sqlite"
)

// openPlatform opens the database of an application by its address.
func openPlatform(ctx context.Context, c config.Platform) (platform.Platform, error) {
	kind, _, _ := strings.Cut(c.Database, ":")
	switch kind {
	case "postgres", "postgresql":
		return postgres.Open(ctx, c.Database, c.Options)
	case "mariadb", "mysql":
		return mariadb.Open(ctx, c.Database, c.Options)
	case "sqlite":
		return sqlite.Open(ctx, strings.TrimPrefix(c.Database, "sqlite:"), c.Options)
	}
	return nil, fmt.Errorf("database %.20q…: want postgres://…, mariadb://… or sqlite:PATH", c.Database)
}
