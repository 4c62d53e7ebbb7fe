package api

import (
	"bytes"
	"context"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"fmt"
	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"go.yaml.in/yaml/v3"

	"github.com/greatseal-io/greatseal/internal/api/wire"
	"github.com/greatseal-io/greatseal/internal/store"
)

// spec is the OpenAPI document in both forms.
type spec struct{ json, yaml []byte }

func document(version string) *huma.OpenAPI {
	return &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info: &huma.Info{
			Title:   "Greatseal",
			Version: version,
			Description: `Endorsed code signing.

A request is a signed statement (DSSE, in-toto); so is an endorsement. The server
carries them to the keeper, which judges them itself. Tokens, sessions and client
certificates open doors to reading; none of them suffices to request or to
endorse.

A submission is idempotent: the same signed bytes are the same request, and the
same command under the same policy attaches to the one that is open.

Errors are problems (RFC 9457). Their "code" is stable; "hint" says what to do.`,
			License: &huma.License{Name: "Apache-2.0"},
		},
		Components: &huma.Components{
			Schemas: huma.NewMapRegistry("#/components/schemas/", schemaName),
			SecuritySchemes: map[string]*huma.SecurityScheme{
				"bearer":      {Type: "http", Scheme: "bearer", BearerFormat: "gs_…", Description: "A machine's token, or a session."},
				"certificate": {Type: "mutualTLS", Description: `A client certificate with the URI name "greatseal:NAME", or whose key is a credential of the charter.`},
			},
		},
	}
}

// schemaName is the name of a type in the document. Types of packages whose words are
// common say where they are from.
func schemaName(t reflect.Type, hint string) string {
	e := t
	for e.Kind() == reflect.Pointer || e.Kind() == reflect.Slice {
		e = e.Elem()
	}
	name := huma.DefaultSchemaNamer(t, hint)
	if e.Name() == "" {
		return name
	}
	switch p := strings.TrimPrefix(e.PkgPath(), module); p {
	case "circle", "circle/trust":
		return "Circle" + name
	case "internal/records":
		return "Records" + name
	case "record":
		return "Record" + name
	case "internal/platform":
		return "Platform" + name
	case "internal/updateset":
		return "UpdateSet" + name
	case "internal/release":
		return "Release" + name
	case "rejection":
		return "Rejection" + name
	}
	return name
}

const module = "github.com/greatseal-io/greatseal/"

// makeSpec completes the document when every route is registered.
func (a *API) makeSpec() error {
	o := a.huma.OpenAPI()
	reg := o.Components.Schemas
	m := reg.Map()
	// What huma says of its own errors is not what is sent.
	delete(m, "ErrorModel")
	delete(m, "ErrorDetail")
	problem := &huma.Schema{Type: "object", Properties: map[string]*huma.Schema{}}
	for _, f := range []string{"type", "title", "detail", "code", "hint"} {
		problem.Properties[f] = &huma.Schema{Type: "string"}
	}
	problem.Properties["status"] = &huma.Schema{Type: "integer"}
	problem.Required = []string{"type", "title", "status", "detail", "code"}
	for _, c := range Codes() {
		problem.Properties["code"].Examples = append(problem.Properties["code"].Examples, c.Code)
	}
	m["Problem"] = problem
	// Envelopes are JSON, not bytes.
	envelope := func() *huma.Schema {
		return &huma.Schema{Type: "object", Description: "DSSE envelope in its canonical form", Required: []string{"payloadType", "payload", "signatures"}}
	}
	for _, n := range []string{"Submission", "Endorsing"} {
		m[n].Properties["envelope"] = envelope()
	}
	m["Envelopes"].Properties["request"] = envelope()
	m["Envelopes"].Properties["endorsements"].Items = envelope()
	a.addTiles(o)
	b, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("api: openapi: %w", err)
	}
	v := jsontext.Value(b)
	if err := v.Canonicalize(); err != nil {
		return fmt.Errorf("api: openapi: %w", err)
	}
	if err := v.Indent(jsontext.WithIndent("  ")); err != nil {
		return fmt.Errorf("api: openapi: %w", err)
	}
	a.spec.json = append(v, '\n')
	if a.spec.yaml, err = toYAML(v); err != nil {
		return fmt.Errorf("api: openapi: %w", err)
	}
	return nil
}

// toYAML writes JSON as YAML, members in the same order.
func toYAML(b []byte) ([]byte, error) {
	var n yaml.Node
	if err := yaml.Unmarshal(b, &n); err != nil {
		return nil, err
	}
	var block func(n *yaml.Node)
	block = func(n *yaml.Node) {
		if len(n.Content) > 0 {
			n.Style &^= yaml.FlowStyle
		}
		if n.Kind == yaml.ScalarNode && n.Tag == "!!str" {
			n.Style = 0
		}
		for _, c := range n.Content {
			block(c)
		}
	}
	block(&n)
	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	if err := e.Encode(&n); err != nil {
		return nil, err
	}
	return out.Bytes(), e.Close()
}

// Document is the OpenAPI document in YAML, as docs/openapi.yaml keeps it.
func (a *API) Document() []byte { return a.spec.yaml }

func (a *API) specRoutes() {
	serve := func(path, contentType string, b func() []byte) {
		a.mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			c := callOf(r.Context())
			c.route = "GET " + path
			w.Header().Set("Content-Type", contentType)
			w.Header().Set("Cache-Control", "public, max-age=300")
			_, _ = w.Write(b())
		})
	}
	serve("/openapi.json", "application/openapi+json", func() []byte { return a.spec.json })
	serve("/openapi.yaml", "application/openapi+yaml", func() []byte { return a.spec.yaml })
	a.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		c := callOf(r.Context())
		writeProblem(c.w, newProblem(404, "no-such-route", "/openapi.yaml describes the API", "there is nothing here"))
	})
}

// addTiles describes what huma cannot route: paths of several segments.
func (a *API) addTiles(o *huma.OpenAPI) {
	add := func(path, id, sum string) {
		if o.Paths == nil {
			o.Paths = map[string]*huma.PathItem{}
		}
		item := &huma.Operation{OperationID: id, Summary: sum, Tags: []string{"log"}, Description: "Needs no authentication, unless the log is private: then the scope log.",
			Parameters: []*huma.Param{{Name: "path", In: "path", Required: true, Schema: &huma.Schema{Type: "string"}, Description: "with slashes, as C2SP tlog-tiles writes it"}},
			Responses: map[string]*huma.Response{
				"200":     {Description: "OK", Content: map[string]*huma.MediaType{wire.Octets: {Schema: schemaOf(wire.Octets)}}},
				"default": problemResponse(),
			}}
		o.Paths[path] = &huma.PathItem{Get: item}
	}
	add("/v1/log/tile/{path}", "log-tile", "A tile or entry bundle of the log (C2SP tlog-tiles)")
}

// routes registers everything.
func (a *API) routes() {
	a.requestRoutes()
	a.resultRoutes()
	a.eventRoutes()
	a.differenceRoutes()
	a.endorsementRoutes()
	a.uploadRoutes()
	a.searchRoutes()
	a.charterRoutes()
	a.passkeyRoutes()
	a.sessionRoutes()
	a.workloadRoutes()
	a.noticeRoutes()
	a.tokenRoutes()
	a.consoleRoutes()
	a.logRoutes()
	a.timestampRoutes()
	a.instanceRoutes()
	a.healthRoutes()
	a.specRoutes()
}

// get finds a request by its ID or the beginning of it.
func (a *API) get(ctx context.Context, prefix string) (*store.Request, error) {
	return a.cfg.Server.Find(ctx, prefix)
}
