package registration_test

import (
	"encoding/json/jsontext"
	"encoding/json/v2"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/internal/keeper"
	"github.com/greatseal-io/greatseal/quorum"
	"github.com/greatseal-io/greatseal/statement"
)

// uncheckedCharter is written without its Check.
type uncheckedCharter struct{ c charter.Charter }

func (u uncheckedCharter) MarshalJSON() ([]byte, error) {
	return json.Marshal(u.c, json.Deterministic(true), jsontext.EscapeForHTML(false), jsontext.EscapeForJS(false))
}
func (u uncheckedCharter) PredicateType() string      { return charter.Type }
func (u uncheckedCharter) Subject() statement.Subject { return u.c.Subject() }
func (u uncheckedCharter) Check() error               { return nil }

func keeperOrder(request []byte, endorsements ...[]byte) *keeper.Order {
	return &keeper.Order{Evidence: quorum.Evidence{Request: request, Endorsements: endorsements}}
}
