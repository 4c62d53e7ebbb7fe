package agents

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/greatseal-io/greatseal/circle"
	"github.com/greatseal-io/greatseal/internal/api/agents/wire"
	"github.com/greatseal-io/greatseal/internal/instance"
	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/internal/records"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/rejection"
)

// The rights of instances.
const (
	ReadCircle    Right = "circle.read"    // what is believed
	PublishCircle Right = "circle.publish" // bring statements of circles; they are judged by their evidence
	ReadRecords   Right = "records.read"   // scan, explain, see findings, jobs and imports
	SignRecords   Right = "records.sign"   // make security jobs; a quorum endorses what they sign
	ImportRecords Right = "records.import" // bring records and update sets to a protected instance
	ExportRecords Right = "records.export" // take records with their signatures away
)

// MountInstance registers the routes of an instance: the circle of trust, security
// jobs, scan, import and export.
func MountInstance(api huma.API, i *instance.Instance, log *slog.Logger, authorize Authorize) {
	m := newMount(api, nil, log, Limits{}, nil)
	m.authorize = authorize
	m.circleRoutes(i)
	m.securityRoutes(i)
	m.recordRoutes(i)
	m.setRoutes(i)
}

// refused turns what packages records and platform say into problems.
func refused(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, records.ErrSpec), errors.Is(err, records.ErrCoverage), errors.Is(err, platform.ErrField), errors.Is(err, platform.ErrValue):
		return newProblem(422, wire.CodeMalformed, "", "%s", err)
	case errors.Is(err, records.ErrState), errors.Is(err, platform.ErrConflict), errors.Is(err, platform.ErrExists):
		return newProblem(409, wire.CodeConflict, "look at it again", "%s", err)
	case errors.Is(err, records.ErrNotClean):
		return newProblem(409, CodeNotClean, "greatseal records scan --csv names the records; sign them, then ask again", "%s", err)
	case errors.Is(err, platform.ErrTable), errors.Is(err, platform.ErrNotFound):
		return newProblem(404, wire.CodeNotFound, "greatseal records tables lists what there is", "%s", err)
	case errors.Is(err, platform.ErrLimit):
		return newProblem(413, wire.CodeTooLarge, "", "%s", err)
	}
	if r := rejection.Of(err); r != nil && r.Code == rejection.NotProtected {
		return newProblem(403, wire.CodeForbidden, "sign on a trusted instance, and bring the signed records here", "%s", r.Error())
	}
	return err
}

// CodeNotClean means that a scan found records that enforcement would refuse.
const CodeNotClean = "not-clean"

// Standing is what an instance is now.
type Standing struct {
	Name        string          `json:"name"`
	Role        string          `json:"role"`        // in force: of the configuration or the circle, whichever protects
	Enforcement string          `json:"enforcement"` // off, report or on
	Signs       bool            `json:"signs"`       // security jobs can be made here
	Platforms   []string        `json:"platforms"`
	Sides       []circle.Status `json:"sides"`
	RuntimeKeys [][]byte        `json:"runtimeKeys,omitzero"` // SubjectPublicKeyInfo, DER: they sign this instance's work orders, and are for the circle
}

func standing(i *instance.Instance) Standing {
	s := Standing{Name: i.Part.Name, Role: string(i.Part.RoleNow()), Enforcement: string(i.Part.Enforcement(i.Now())), Signs: i.Jobs != nil && i.Part.MaySign() == nil,
		Platforms: []string{}, Sides: i.Circles.Status()}
	for n := range i.Platforms {
		s.Platforms = append(s.Platforms, n)
	}
	slices.Sort(s.Platforms)
	if i.Runtime != nil {
		s.RuntimeKeys = [][]byte{i.Runtime}
	}
	return s
}

func (m *mount) circleRoutes(i *instance.Instance) {
	const tag = "circle"
	type none struct{}
	type standingOut struct{ Body Standing }
	route(m, op{method: http.MethodGet, path: "/instance", id: "instance", tag: tag, right: ReadCircle, sum: "What this instance is, and whom it believes"},
		func(context.Context, *none) (*standingOut, error) { return &standingOut{standing(i)}, nil })

	type bundleIn struct {
		Root string `query:"root" maxLength:"64" doc:"ID of a side's first charter; default: the first that is pinned, on a trusted instance its own"`
	}
	type octets struct{ Body func(huma.Context) }
	route(m, op{method: http.MethodGet, path: "/circle", id: "circle", tag: tag, right: ReadCircle, answer: wire.Octets, sum: "The newest circle of one side, with its evidence, as one file",
		doc: "Whoever has pinned the ID of that side's first charter can check all of it."},
		func(ctx context.Context, in *bundleIn) (*octets, error) {
			root := i.Circles.Roots()[0]
			if in.Root != "" {
				if err := root.UnmarshalText([]byte(in.Root)); err != nil {
					return nil, newProblem(422, wire.CodeMalformed, "", "root: want 64 hexadecimal digits")
				}
			}
			b, err := i.Circles.Bundle(root)
			if err != nil {
				return nil, err
			}
			if b == nil {
				return nil, newProblem(404, wire.CodeNotFound, "greatseal trust propose makes the first one", "there is no circle of that side here yet")
			}
			return &octets{func(huma.Context) {
				w := callOf(ctx).w
				w.Header().Set("Content-Type", wire.Octets)
				_, _ = w.Write(b)
			}}, nil
		})

	type publishIn struct {
		RawBody []byte `contentType:"application/octet-stream"`
	}
	route(m, op{method: http.MethodPost, path: "/circle", id: "circle-publish", heavy: true, tag: tag, right: PublishCircle, content: wire.Octets, body: circle.MaxBundle, sum: "Bring a circle, with its evidence",
		doc: "It is judged as from anybody: older versions, and what a quorum did not agree to, are refused."},
		func(ctx context.Context, in *publishIn) (*standingOut, error) {
			b, err := circle.ReadBundle(bytes.NewReader(in.RawBody))
			if err != nil {
				return nil, err
			}
			if err := i.Circles.Apply(ctx, b); err != nil {
				return nil, err
			}
			return &standingOut{standing(i)}, nil
		})
}

// JobID names a security job.
type SecurityJobParam struct {
	ID string `path:"id" minLength:"32" maxLength:"32" pattern:"^[0-9a-f]{32}$"`
}

func (m *mount) securityRoutes(i *instance.Instance) {
	const tag = "security jobs"
	jobs := func() (*records.Jobs, error) {
		if err := i.Part.MaySign(); err != nil {
			return nil, refused(err)
		}
		if i.Jobs == nil {
			return nil, newProblem(403, wire.CodeForbidden, "instance.machine in the server's configuration names a machine of the charter", "this instance has no machine in whose name security jobs could ask")
		}
		return i.Jobs, nil
	}
	type createIn struct{ Body records.Spec }
	type viewOut struct{ Body records.View }
	one := func(v *records.View, err error) (*viewOut, error) {
		if err != nil {
			return nil, refused(err)
		}
		return &viewOut{*v}, nil
	}
	route(m, op{method: http.MethodPost, path: "/security-jobs", id: "security-job-create", heavy: true, tag: tag, right: SignRecords, body: records.MaxSet * 3 / 2, status: 201, sum: "Make a security job",
		doc: "It prepares what is to be signed, asks the quorum of its policy, and makes the signatures readable when the quorum has endorsed."},
		func(ctx context.Context, in *createIn) (*viewOut, error) {
			j, err := jobs()
			if err != nil {
				return nil, err
			}
			return one(j.Create(ctx, &in.Body, callOf(ctx).who))
		})
	type listIn struct {
		State    string `query:"state" maxLength:"16"`
		Kind     string `query:"kind" maxLength:"32"`
		Platform string `query:"platform" maxLength:"64"`
		Before   string `query:"before" maxLength:"32" doc:"page on: the last ID of the page before"`
		Limit    int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	}
	type listOut struct {
		Body struct {
			Jobs []*records.View `json:"jobs"`
		}
	}
	route(m, op{method: http.MethodGet, path: "/security-jobs", id: "security-jobs", tag: tag, right: ReadRecords, sum: "List security jobs, newest first"},
		func(ctx context.Context, in *listIn) (*listOut, error) {
			j, err := jobs()
			if err != nil {
				return nil, err
			}
			f := records.Filter{Kind: records.Kind(in.Kind), Platform: in.Platform, Limit: in.Limit}
			if in.State != "" {
				f.States = []records.State{records.State(in.State)}
			}
			if in.Before != "" {
				if f.Before, err = j.Get(ctx, in.Before); err != nil {
					return nil, refused(err)
				}
			}
			list, err := j.List(ctx, f)
			out := &listOut{}
			out.Body.Jobs = notNil(list)
			return out, refused(err)
		})
	route(m, op{method: http.MethodGet, path: "/security-jobs/{id}", id: "security-job", tag: tag, right: ReadRecords, sum: "One security job, and how far it is"},
		func(ctx context.Context, in *SecurityJobParam) (*viewOut, error) {
			j, err := jobs()
			if err != nil {
				return nil, err
			}
			return one(j.Get(ctx, in.ID))
		})
	for _, x := range []struct {
		verb, sum string
		f         func(*records.Jobs, context.Context, string, string) (*records.View, error)
	}{
		{"pause", "Hold a security job until it is resumed", func(j *records.Jobs, ctx context.Context, id, _ string) (*records.View, error) {
			return j.Pause(ctx, id)
		}},
		{"resume", "Let a paused job go on", func(j *records.Jobs, ctx context.Context, id, _ string) (*records.View, error) {
			return j.Resume(ctx, id)
		}},
		{"cancel", "End a job that is not signed yet", (*records.Jobs).Cancel},
		{"again", "Sign what has changed since a job was prepared", (*records.Jobs).SignAgain},
	} {
		route(m, op{method: http.MethodPost, path: "/security-jobs/{id}/" + x.verb, id: "security-job-" + x.verb, tag: tag, right: SignRecords, sum: x.sum},
			func(ctx context.Context, in *SecurityJobParam) (*viewOut, error) {
				j, err := jobs()
				if err != nil {
					return nil, err
				}
				return one(x.f(j, ctx, in.ID, callOf(ctx).who))
			})
	}
	type logIn struct {
		SecurityJobParam
		From  int64 `query:"from" minimum:"0" doc:"index of the first entry"`
		Limit int   `query:"limit" minimum:"1" maximum:"10000" default:"1000"`
	}
	type logOut struct {
		Body struct {
			Entries []records.Entry `json:"entries"`
		}
	}
	for _, x := range []struct {
		verb, sum string
		f         func(*records.Jobs, context.Context, string, int64, int) ([]records.Entry, error)
	}{{"log", "What a job signed, and under which configuration", (*records.Jobs).Log}, {"skipped", "What a job was asked to sign and did not, and why", (*records.Jobs).Skipped}} {
		route(m, op{method: http.MethodGet, path: "/security-jobs/{id}/" + x.verb, id: "security-job-" + x.verb, tag: tag, right: ReadRecords, sum: x.sum},
			func(ctx context.Context, in *logIn) (*logOut, error) {
				j, err := jobs()
				if err != nil {
					return nil, err
				}
				list, err := x.f(j, ctx, in.ID, in.From, in.Limit)
				out := &logOut{}
				out.Body.Entries = notNil(list)
				return out, refused(err)
			})
	}
	route(m, op{method: http.MethodGet, path: "/security-jobs/{id}/set", id: "security-job-set", heavy: true, tag: tag, right: ExportRecords, answer: wire.Octets, sum: "The update set of a job that is done, with its signatures in it"},
		func(ctx context.Context, in *SecurityJobParam) (*fileOut, error) {
			j, err := jobs()
			if err != nil {
				return nil, err
			}
			return spooled(ctx, wire.Octets, func(w io.Writer) error { return j.SignedSet(ctx, in.ID, w) })
		})
}

// fileOut is a file that is sent when it is complete.
type fileOut struct{ Body func(huma.Context) }

// spooled writes an answer to a temporary file first: what fails half-way is a
// problem, and not half a file.
func spooled(ctx context.Context, contentType string, write func(io.Writer) error) (*fileOut, error) {
	f, err := os.CreateTemp("", "greatseal-answer-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if err := write(&atMost{f, maxSpooled}); err != nil {
		return nil, errors.Join(refused(err), f.Close())
	}
	n, err := f.Seek(0, io.SeekCurrent)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &fileOut{func(huma.Context) {
		defer f.Close()
		w := callOf(ctx).w
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
		extend := http.NewResponseController(w)
		buf := make([]byte, 1<<20)
		for {
			n, err := f.Read(buf)
			_ = extend.SetWriteDeadline(time.Now().Add(aMegabyte))
			if n > 0 {
				if _, err := w.Write(buf[:n]); err != nil {
					return
				}
			}
			if err != nil {
				return
			}
		}
	}}, nil
}

// maxSpooled is how large a file may become: no instance takes a larger one.
const maxSpooled = 8 << 30

// atMost writes no more than left bytes.
type atMost struct {
	io.Writer
	left int64
}

func (w *atMost) Write(p []byte) (int, error) {
	if w.left -= int64(len(p)); w.left < 0 {
		return 0, newProblem(413, wire.CodeTooLarge, "ask for it in parts", "the answer is larger than any instance takes")
	}
	return w.Writer.Write(p)
}

// aMegabyte is how long a reader may take for a megabyte.
const aMegabyte = time.Minute

// RecordParams name a record and a purpose.
type RecordParams struct {
	Platform string   `query:"platform" maxLength:"64" doc:"default: the first that has the table"`
	Table    string   `query:"table" required:"true" minLength:"1" maxLength:"256"`
	Key      []string `query:"key,explode" required:"true" minItems:"1" maxItems:"32" doc:"values of the primary key, in its order"`
	Purpose  string   `query:"purpose" maxLength:"256" doc:"default: ecc_queue"`
}

func (p *RecordParams) resolve(ctx context.Context, i *instance.Instance) (ref record.Ref, err error) {
	ref = record.Ref{Table: p.Table, Key: p.Key}
	if p.Purpose == "" {
		p.Purpose = record.Queue
	}
	if p.Platform == "" {
		p.Platform, err = i.Guard.Home(ctx, p.Table)
	}
	return ref, refused(err)
}

func (m *mount) recordRoutes(i *instance.Instance) {
	const tag = "records"
	type tablesIn struct {
		Platform string `query:"platform" required:"true" maxLength:"64"`
	}
	type tablesOut struct {
		Body struct {
			Tables []platform.Table `json:"tables"`
		}
	}
	route(m, op{method: http.MethodGet, path: "/records/tables", id: "records-tables", tag: tag, right: ReadRecords, sum: "The tables of a platform that have a primary key"},
		func(ctx context.Context, in *tablesIn) (*tablesOut, error) {
			p, err := platformOf(i, in.Platform)
			if err != nil {
				return nil, err
			}
			list, err := p.Tables(ctx)
			out := &tablesOut{}
			out.Body.Tables = notNil(list)
			return out, refused(err)
		})

	type reportOut struct{ Body record.Report }
	route(m, op{method: http.MethodGet, path: "/records/explain", id: "records-explain", tag: tag, right: ReadRecords, sum: "What each signature of a record is worth, and why"},
		func(ctx context.Context, in *RecordParams) (*reportOut, error) {
			ref, err := in.resolve(ctx, i)
			if err != nil {
				return nil, err
			}
			r, err := i.Guard.Explain(ctx, in.Platform, ref, in.Purpose)
			if err != nil {
				return nil, refused(err)
			}
			return &reportOut{*r}, nil
		})
	type trustedOut struct {
		Body struct {
			Trusted bool             `json:"trusted"`
			Reason  *rejection.Error `json:"reason,omitzero"`
		}
	}
	route(m, op{method: http.MethodGet, path: "/records/trusted", id: "records-trusted", tag: tag, right: ReadRecords, sum: "Whether a record may be used for a purpose",
		doc: "The answer is of this moment. Whoever runs the record verifies what he runs."},
		func(ctx context.Context, in *RecordParams) (*trustedOut, error) {
			ref, err := in.resolve(ctx, i)
			if err != nil {
				return nil, err
			}
			out := &trustedOut{}
			_, err = i.Guard.IsTrusted(ctx, in.Platform, ref, in.Purpose)
			if out.Body.Reason = rejection.Of(err); err != nil && out.Body.Reason == nil {
				return nil, refused(err)
			}
			out.Body.Trusted = err == nil
			return out, nil
		})

	type scanIn struct {
		Configuration []string `query:"configuration,explode" maxItems:"1000"`
		Platform      []string `query:"platform,explode" maxItems:"100"`
	}
	type scanOut struct{ Body records.ScanReport }
	route(m, op{method: http.MethodGet, path: "/records/scan", id: "records-scan", heavy: true, tag: tag, right: ReadRecords, sum: "Judge every record that a configuration asks for, and count",
		doc: "It changes nothing. It takes as long as reading the tables takes."},
		func(ctx context.Context, in *scanIn) (*scanOut, error) {
			r, err := i.Guard.Scan(longer(ctx), records.ScanOptions{Configurations: in.Configuration, Platforms: in.Platform}, nil)
			if err != nil {
				return nil, refused(err)
			}
			return &scanOut{*r}, nil
		})
	route(m, op{method: http.MethodGet, path: "/records/scan.csv", id: "records-scan-csv", heavy: true, tag: tag, right: ReadRecords, answer: "text/csv", sum: "The same, a line for each record",
		doc: "It is the selection that \"sign specific records\" reads."},
		func(ctx context.Context, in *scanIn) (*fileOut, error) {
			return spooled(ctx, "text/csv", func(w io.Writer) error {
				c, err := records.NewCSV(w)
				if err != nil {
					return err
				}
				if _, err := i.Guard.Scan(longer(ctx), records.ScanOptions{Configurations: in.Configuration, Platforms: in.Platform}, c.Write); err != nil {
					return err
				}
				return c.Flush()
			})
		})
	type none struct{}
	route(m, op{method: http.MethodPost, path: "/records/may-enforce", id: "records-may-enforce", heavy: true, tag: tag, right: ReadRecords, sum: "Whether enforcement can be switched on: every record would pass"},
		func(ctx context.Context, _ *none) (*scanOut, error) {
			r, err := i.Guard.MayEnforce(longer(ctx))
			if err != nil {
				return nil, refused(err)
			}
			return &scanOut{*r}, nil
		})
	type findingsIn struct {
		Before int64 `query:"before" minimum:"0" doc:"page on: the last ID of the page before"`
		Limit  int   `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	}
	type findingsOut struct {
		Body struct {
			Findings []records.Found `json:"findings"`
		}
	}
	route(m, op{method: http.MethodGet, path: "/records/findings", id: "records-findings", tag: tag, right: ReadRecords, sum: "Records that did not verify where somebody looked, newest first"},
		func(ctx context.Context, in *findingsIn) (*findingsOut, error) {
			list, err := i.Guard.Findings(ctx, in.Before, in.Limit)
			out := &findingsOut{}
			out.Body.Findings = notNil(list)
			return out, err
		})

	type exportIn struct {
		Body struct {
			Platform string                `json:"platform"`
			Records  []records.ExportQuery `json:"records"`
		}
	}
	route(m, op{method: http.MethodPost, path: "/records/export", id: "records-export", heavy: true, tag: tag, right: ExportRecords, body: 64 << 20, answer: wire.Octets, sum: "Records with their signatures and attachments, as one file"},
		func(ctx context.Context, in *exportIn) (*fileOut, error) {
			p, err := platformOf(i, in.Body.Platform)
			if err != nil {
				return nil, err
			}
			return spooled(ctx, wire.Octets, func(w io.Writer) error {
				_, err := records.Export(longer(ctx), p, in.Body.Records, w)
				return err
			})
		})
	type importIn struct {
		Platform string `query:"platform" required:"true" maxLength:"64"`
	}
	type importOut struct{ Body records.Imported }
	route(m, op{method: http.MethodPost, path: "/records/import", id: "records-import", heavy: true, tag: tag, right: ImportRecords, content: wire.Octets, body: maxSpooled, sum: "Bring an export to a protected instance, all of it or nothing"},
		func(ctx context.Context, in *importIn) (*importOut, error) {
			f, err := os.CreateTemp("", "greatseal-import-")
			if err != nil {
				return nil, err
			}
			defer f.Close()
			if err := os.Remove(f.Name()); err != nil {
				return nil, err
			}
			n, err := io.Copy(f, callOf(ctx).r.Body)
			if err != nil {
				return nil, err
			}
			r, err := i.Guard.Import(longer(ctx), in.Platform, f, n)
			if err != nil {
				return nil, refused(err)
			}
			return &importOut{*r}, nil
		})
}

// longer lets an answer take as long as reading whole tables takes.
func longer(ctx context.Context) context.Context {
	_ = http.NewResponseController(callOf(ctx).w).SetWriteDeadline(time.Now().Add(12 * time.Hour))
	return ctx
}

func platformOf(i *instance.Instance, name string) (platform.Platform, error) {
	p := i.Platforms[name]
	if p == nil {
		return nil, newProblem(404, wire.CodeNotFound, "GET /v1/instance lists the platforms", "there is no platform %.64q", name)
	}
	return p, nil
}

// RetrievedSetParam names an update set that was brought here.
type RetrievedSetParam struct {
	ID string `path:"id" minLength:"1" maxLength:"64"`
}

func (m *mount) setRoutes(i *instance.Instance) {
	const tag = "update sets"
	type setOut struct{ Body records.SetView }
	one := func(v *records.SetView, err error) (*setOut, error) {
		if err != nil {
			return nil, refused(err)
		}
		return &setOut{*v}, nil
	}
	type loadIn struct {
		Platform string `query:"platform" required:"true" maxLength:"64"`
		RawBody  []byte `contentType:"application/octet-stream"`
	}
	route(m, op{method: http.MethodPost, path: "/update-sets", id: "update-set-load", heavy: true, tag: tag, right: ImportRecords, content: wire.Octets, body: records.MaxSet, status: 201, sum: "Bring an update set to a protected instance",
		doc: "Nothing of it is in force before it is previewed and committed."},
		func(ctx context.Context, in *loadIn) (*setOut, error) {
			return one(i.Guard.Load(ctx, i.Rand(), in.Platform, in.RawBody, callOf(ctx).who))
		})
	type listIn struct {
		Limit int `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	}
	type listOut struct {
		Body struct {
			Sets []*records.SetView `json:"sets"`
		}
	}
	route(m, op{method: http.MethodGet, path: "/update-sets", id: "update-sets", tag: tag, right: ReadRecords, sum: "Update sets that were brought here, newest first"},
		func(ctx context.Context, in *listIn) (*listOut, error) {
			list, err := i.Guard.Sets(ctx, in.Limit)
			out := &listOut{}
			out.Body.Sets = notNil(list)
			return out, refused(err)
		})
	route(m, op{method: http.MethodGet, path: "/update-sets/{id}", id: "update-set", tag: tag, right: ReadRecords, sum: "One update set, with its preview"},
		func(ctx context.Context, in *RetrievedSetParam) (*setOut, error) { return one(i.Guard.Set(ctx, in.ID)) })
	route(m, op{method: http.MethodPost, path: "/update-sets/{id}/preview", id: "update-set-preview", heavy: true, tag: tag, right: ImportRecords, sum: "What an import would do, and what is wrong with it"},
		func(ctx context.Context, in *RetrievedSetParam) (*setOut, error) {
			return one(i.Guard.Preview(longer(ctx), in.ID))
		})
	type decideIn struct {
		RetrievedSetParam
		Body struct {
			Decisions map[int]records.Decision `json:"decisions" doc:"by the update's place in the set: accept or skip"`
		}
	}
	route(m, op{method: http.MethodPost, path: "/update-sets/{id}/decide", id: "update-set-decide", tag: tag, right: ImportRecords, body: 4 << 20, sum: "Accept or skip updates that have problems",
		doc: "What does not verify is in no import, accepted or not."},
		func(ctx context.Context, in *decideIn) (*setOut, error) {
			return one(i.Guard.Decide(ctx, in.ID, in.Body.Decisions))
		})
	type compareIn struct {
		RetrievedSetParam
		Index int `query:"index" minimum:"0"`
	}
	type compareOut struct {
		Body struct {
			Differences []records.Difference `json:"differences"`
		}
	}
	route(m, op{method: http.MethodGet, path: "/update-sets/{id}/compare", id: "update-set-compare", heavy: true, tag: tag, right: ReadRecords, sum: "An update beside the record that is here"},
		func(ctx context.Context, in *compareIn) (*compareOut, error) {
			list, err := i.Guard.Compare(ctx, in.ID, in.Index)
			out := &compareOut{}
			out.Body.Differences = notNil(list)
			return out, refused(err)
		})
	route(m, op{method: http.MethodPost, path: "/update-sets/{id}/commit", id: "update-set-commit", heavy: true, tag: tag, right: ImportRecords, sum: "Commit an update set, in one transaction"},
		func(ctx context.Context, in *RetrievedSetParam) (*setOut, error) {
			return one(i.Guard.Commit(longer(ctx), in.ID))
		})
}
