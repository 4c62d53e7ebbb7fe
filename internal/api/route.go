package api

import (
	"context"
	"encoding/json/v2"
	"errors"
	"io"
	"mime"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/greatseal-io/greatseal/internal/api/wire"
)

const jsonBody = 2 << 20 // bytes of a JSON body but a submission's: a statement is at most 1 MiB

// op describes one route.
type op struct {
	method, path, id, tag string
	sum, doc              string
	access                access
	status                int
	body                  int64  // limit in bytes; 0: jsonBody
	content               string // of the body; "": JSON where there is a body
	answer                string // content type of an answer that is not JSON
	root                  bool   // not under /v1
}

// route registers a route. Who may use it is checked before anything of the body
// is read, and every error gets its code.
func route[I, O any](a *API, o op, h func(context.Context, *I) (*O, error)) {
	path := "/v1" + o.path
	if o.root {
		path = o.path
	}
	if o.body == 0 {
		o.body = jsonBody
	}
	_, takesBody := reflect.TypeFor[I]().FieldByName("Body")
	if o.content == "" && takesBody {
		o.content = wire.JSON
	}
	ho := huma.Operation{
		OperationID: o.id, Method: o.method, Path: path, Summary: o.sum, Description: o.description(), Tags: []string{o.tag}, DefaultStatus: o.status,
		MaxBodyBytes: o.body, BodyReadTimeout: -1, SkipValidateBody: true,
		Responses: map[string]*huma.Response{"default": problemResponse()},
	}
	if o.access.public {
		ho.Security = []map[string][]string{}
	} else {
		ho.Security = []map[string][]string{{"bearer": {}}, {"certificate": {}}}
	}
	if o.answer != "" {
		status := "200"
		ho.Responses[status] = &huma.Response{Description: "OK", Content: map[string]*huma.MediaType{o.answer: {Schema: schemaOf(o.answer)}}}
	}
	if o.content != "" && o.content != wire.JSON {
		ho.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{o.content: {Schema: &huma.Schema{Type: "string", Format: "binary"}}}}
	}
	ho.Middlewares = huma.Middlewares{func(hc huma.Context, next func(huma.Context)) {
		c := callOf(hc.Context())
		c.route = o.method + " " + path
		p := a.admit(c, o.access)
		if p == nil && o.content != "" {
			p = wantType(c.r, o.content)
		}
		if p == nil && c.r.ContentLength > o.body {
			p = newProblem(413, "too-large", "", "the body has more than %d bytes", o.body)
		}
		if p != nil {
			writeProblem(c.w, p)
			return
		}
		c.r.Body = http.MaxBytesReader(c.w, c.r.Body, o.body)
		next(hc)
	}}
	huma.Register(a.huma, ho, func(ctx context.Context, in *I) (*O, error) {
		out, err := h(ctx, in)
		if err != nil {
			return nil, a.problemOf(ctx, err)
		}
		return out, nil
	})
}

func (o op) description() string {
	if o.access.public {
		return strings.TrimSpace(o.doc + " Needs no authentication.")
	}
	var s []string
	for _, x := range o.access.scopes {
		s = append(s, string(x))
	}
	return strings.TrimSpace(o.doc + " Scope: " + strings.Join(s, " or ") + ".")
}

// wantType refuses a body of another type. No type is another type: a web page
// can send such a body to another origin unasked.
func wantType(r *http.Request, want string) *problem {
	mt, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || mt != want {
		return newProblem(415, "content-type", "", "want a body of type %s", want)
	}
	return nil
}

func problemResponse() *huma.Response {
	return &huma.Response{Description: "A problem (RFC 9457) with a reason code.",
		Content: map[string]*huma.MediaType{wire.ProblemJSON: {Schema: &huma.Schema{Ref: "#/components/schemas/Problem"}}}}
}

func schemaOf(contentType string) *huma.Schema {
	switch contentType {
	case wire.JSON:
		return &huma.Schema{Type: "object"}
	case wire.JSONLines, wire.Events, wire.Text, wire.Metrics:
		return &huma.Schema{Type: "string"}
	}
	return &huma.Schema{Type: "string", Format: "binary"}
}

// stream is an answer that is written piece by piece. An error before the first
// piece is a problem; after it the connection is cut, so that the peer notices.
type stream struct {
	Body func(huma.Context)
}

func (a *API) stream(ctx context.Context, contentType string, write func(w *writer) error) *stream {
	return &stream{Body: func(huma.Context) {
		c := callOf(ctx)
		c.w.Header().Set("Content-Type", contentType)
		err := write(c.w)
		if err == nil {
			return
		}
		if c.w.status == 0 {
			writeProblem(c.w, a.problemOf(ctx, err))
			return
		}
		if ctx.Err() == nil && !errors.Is(err, context.Canceled) {
			a.log.Warn("an answer was cut", "route", c.route, "error", err)
		}
		panic(http.ErrAbortHandler)
	}}
}

// raw answers with bytes.
func (a *API) raw(ctx context.Context, contentType string, b []byte) *stream {
	return a.stream(ctx, contentType, func(w *writer) error {
		_, err := w.Write(b)
		return err
	})
}

// humaConfig is strict JSON in, deterministic JSON out.
func humaConfig(version string) huma.Config {
	format := huma.Format{
		Marshal: func(w io.Writer, v any) error { return json.MarshalWrite(w, v, json.Deterministic(true)) },
		Unmarshal: func(b []byte, v any) error {
			return json.Unmarshal(b, v, json.RejectUnknownMembers(true))
		},
	}
	c := huma.Config{
		OpenAPI:                      document(version),
		Formats:                      map[string]huma.Format{wire.JSON: format, "json": format},
		DefaultFormat:                wire.JSON,
		Transformers:                 []huma.Transformer{plain},
		RejectUnknownQueryParameters: true,
	}
	c.AllowAdditionalPropertiesByDefault = true // an answer may get more members; what comes in is checked when it is read
	return c
}

// waitOf reads a "wait" parameter: seconds with unit, at most a minute.
func waitOf(s string) (time.Duration, *problem) {
	if s == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || d > time.Minute {
		return 0, newProblem(422, "malformed", "", "wait: want a time up to 60s, such as 30s")
	}
	return d, nil
}
