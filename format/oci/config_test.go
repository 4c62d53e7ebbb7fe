package oci

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/format/single"
	"github.com/greatseal-io/greatseal/sigalg"
)

// As docker writes them.
const config = `{"architecture":"arm64","variant":"v8","os":"linux","created":"2026-01-02T03:04:05Z","author":"A","config":{"User":"1000:1000","ExposedPorts":{"8080/tcp":{}},"Env":["PATH=/bin","DB_PASSWORD=hunter2"],"Entrypoint":["/app","--serve"],"Cmd":["all"],"Volumes":{"/data":{}},"WorkingDir":"/srv","Labels":{"version":"1.2"},"Healthcheck":{"Test":["CMD","/app","check"]}},"rootfs":{"type":"layers","diff_ids":["` + digestA + `"]}}` + "\n"

// withImage is a manifest that names a configuration.
func withImage(config string) string {
	return strings.Replace(image, digestA+`","size":2`, fmt.Sprintf(`sha256:%x","size":%d`, sha256.Sum256([]byte(config)), len(config)), 1)
}

func configOption(t testing.TB, s string) string {
	t.Helper()
	o, err := ConfigOption([]byte(s))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// What an image runs, and as whom, is told of the configuration that its manifest names.
func TestConfig(t *testing.T) {
	m := withImage(config)
	p, err := New().Plan(t.Context(), artifact(m), format.Params{"config": configOption(t, config)})
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(p.Facts)
	want := "{architecture arm64/v8} {os linux} {built 2026-01-02T03:04:05Z} {author A} {user 1000:1000} {entrypoint [\"/app\",\"--serve\"]} {command [\"all\"]} {health-check [\"CMD\",\"/app\",\"check\"]} {working-directory /srv} " +
		"{environment DB_PASSWORD=(7 bytes, not shown)} {environment PATH=/bin} {exposes 8080/tcp} {volume /data} {label version: 1.2} {layer 001: sha256:bbbbbbbbbbbbbbbb…, 7 bytes, application/vnd.oci.image.layer.v1.tar+gzip}]"
	if !strings.HasSuffix(got, want) || strings.Contains(got, "hunter2") {
		t.Errorf("%s\nwant %s", got, want)
	}
	s := formattest.Identity(t, sigalg.P256)
	signed, err := New().Assemble(p, s.Identity, formattest.At, nil)
	if err != nil {
		t.Fatal(err)
	}
	// The configuration is bound by the manifest: with it or without, one thing is signed.
	bare, err := New().Plan(t.Context(), artifact(m), nil)
	if err != nil {
		t.Fatal(err)
	}
	base := slices.Clone(bare.Facts[:len(bare.Facts)-1])
	for _, facts := range [][]format.Fact{bare.Facts, base} { // the second as before there were details
		bare.Facts = facts
		if got, err := New().Assemble(bare, s.Identity, formattest.At, nil); err != nil || string(got[0].Message) != string(signed[0].Message) {
			t.Errorf("%v: %v", facts, err)
		}
	}
	if len(bare.Params) != 1 || ConfigOf(m) != fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(config))) || ConfigOf(index) != "" {
		t.Errorf("%v, %q", bare.Params, ConfigOf(m))
	}
	// Facts that are not its own, and options that say nothing.
	for name, change := range map[string]func(p *format.Plan){
		"another user": func(p *format.Plan) {
			p.Facts[slices.Index(p.Facts, format.Fact{Name: "user", Value: "1000:1000"})].Value = "1001"
		},
		"without what it runs":  func(p *format.Plan) { p.Facts = base },
		"without the option":    func(p *format.Plan) { p.Params = p.Params[1:] },
		"an empty option":       func(p *format.Plan) { p.Params[0].Value = "" },
		"another configuration": func(p *format.Plan) { p.Params[0].Value = configOption(t, strings.Replace(config, "1000", "1001", 1)) },
		"bare with another layer": func(p *format.Plan) {
			p.Params, p.Facts = p.Params[1:], append(slices.Clone(base), format.Fact{Name: "layer", Value: "001: x"})
		},
	} {
		q := *p
		q.Facts, q.Params = slices.Clone(p.Facts), slices.Clone(p.Params)
		change(&q)
		if _, err := New().Assemble(&q, s.Identity, formattest.At, nil); !errors.Is(err, single.ErrPlan) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// ConfigOf is the digest that ConfigDigest gives, or "".
func ConfigOf(m string) string {
	d, _, _ := ConfigDigest([]byte(m))
	return d
}

func TestHostileConfig(t *testing.T) {
	plan := func(m, option string) (*format.Plan, error) {
		return New().Plan(t.Context(), artifact(m), format.Params{"config": option})
	}
	for name, c := range map[string]string{
		"a name twice": `{"config":{"User":"1","User":"0"}}`, "in another case": `{"config":{"User":"1000","user":"root"}}`, "in another case alone": `{"Config":{"User":"root"}}`,
		"entry point in another case": `{"config":{"entrypoint":["/bin/sh"]}}`, "no JSON": `{`, "a list": `[]`, "of another kind": `{"config":{"Env":"x"}}`, "something behind": `{} {}`,
	} {
		if _, err := plan(withImage(c), configOption(t, c)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	long := `{"os":"` + strings.Repeat("x", MaxConfig) + `"}`
	for name, c := range map[string][2]string{
		"another one": {withImage(config), configOption(t, config+" ")}, "of an index": {index, configOption(t, config)}, "too long": {withImage(long), configOption(t, long)},
		"of something else": {strings.Replace(withImage(config), mediaConfig, "application/vnd.example+json", 1), configOption(t, config)},
	} {
		if _, err := plan(c[0], c[1]); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := plan(withImage(config), config); err == nil {
		t.Error("an option that is no JSON string")
	}
	// Long, many and turning: few facts, that can be shown.
	var env, labels []string
	for i := range 400 {
		env = append(env, fmt.Sprintf(`"E%d=\u202e\u001b\u2028"`, i))
		labels = append(labels, fmt.Sprintf(`"l%d\u202e":"ä\n"`, i))
	}
	c := `{"author":"` + strings.Repeat(`\u202ex`, 1000) + `","config":{"User":"\u202e0","Entrypoint":["\u001b[2J","` + strings.Repeat("x", 2000) + `"],"Env":[` + strings.Join(env, ",") + `],"Labels":{` + strings.Join(labels, ",") + `}},"rootfs":{"diff_ids":[]}}`
	p, err := plan(withImage(c), configOption(t, c))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Encode(); err != nil {
		t.Error(err)
	}
	total := 0
	for _, f := range p.Facts {
		total += len(f.Name) + len(f.Value)
		if strings.ContainsFunc(f.Value, format.Turns) {
			t.Errorf("%s: %q", f.Name, f.Value)
		}
	}
	if total > 12<<10 || !slices.ContainsFunc(p.Facts, func(f format.Fact) bool { return f.Name == "environment-list" }) || !slices.ContainsFunc(p.Facts, func(f format.Fact) bool { return f.Name == "differs" }) {
		t.Errorf("%d bytes: %v", total, p.Facts)
	}
}
