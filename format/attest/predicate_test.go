package attest

import (
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/sigalg"
)

const (
	spdx2     = `{"spdxVersion":"SPDX-2.3","dataLicense":"CC0-1.0","SPDXID":"SPDXRef-DOCUMENT","name":"app","documentNamespace":"https://example.com/app","creationInfo":{"created":"2026-01-01T00:00:00Z","creators":["Tool: x"]},"packages":[]}`
	spdx3     = `{"@context":"https://spdx.org/rdf/3.0.1/spdx-context.jsonld","@graph":[]}`
	cyclone   = `{"bomFormat":"CycloneDX","specVersion":"1.6","version":1,"components":[{"type":"library","name":"x"}]}`
	provenant = `{"buildDefinition":{"buildType":"https://example.com/b","externalParameters":{"ref":"v1"}},"runDetails":{"builder":{"id":"https://example.com/builder"}}}`
)

func TestPredicateTypes(t *testing.T) {
	s := formattest.Identity(t, sigalg.Ed25519)
	a := format.BytesArtifact("app.tar", []byte(text))
	for name, c := range map[string]struct {
		predicate, given, want string // want "": refused
	}{
		"SPDX 2":                        {spdx2, "", SPDXType},
		"SPDX 3":                        {spdx3, "", SPDXType},
		"CycloneDX":                     {cyclone, "", CycloneDXType},
		"provenance":                    {provenant, "", ProvenanceType},
		"type given":                    {cyclone, CycloneDXType, CycloneDXType},
		"type of a version":             {cyclone, CycloneDXType + "/v1.6", CycloneDXType + "/v1.6"},
		"type of one's own":             {cyclone, "https://example.com/sbom", "https://example.com/sbom"},
		"CycloneDX as SPDX":             {cyclone, SPDXType, ""},
		"SPDX as CycloneDX":             {spdx2, CycloneDXType, ""},
		"SBOM as provenance":            {cyclone, ProvenanceType, ""},
		"provenance as an SBOM":         {provenant, SPDXType, ""},
		"of no kind":                    {`{"a":1}`, "", ""},
		"of no kind, type given":        {`{"a":1}`, "https://example.com/a", "https://example.com/a"},
		"CycloneDX without a version":   {`{"bomFormat":"CycloneDX"}`, "", ""},
		"SPDX of no document":           {`{"spdxVersion":"SPDX-2.3","SPDXID":"SPDXRef-Package"}`, "", ""},
		"provenance without parameters": {`{"buildDefinition":{"buildType":"https://example.com/b"},"runDetails":{"builder":{"id":"https://example.com/builder"}}}`, "", ""},
		"provenance without builder":    {`{"buildDefinition":{"buildType":"https://example.com/b","externalParameters":{}},"runDetails":{}}`, "", ""},
		"provenance, builder a number":  {`{"buildDefinition":{"buildType":"https://example.com/b","externalParameters":{}},"runDetails":{"builder":{"id":1}}}`, "", ""},
		"not an object":                 {`[1]`, "", ""},
		"not JSON":                      {`{`, "", ""},
	} {
		p := format.Params{"predicate": c.predicate}
		if c.given != "" {
			p["predicate-type"] = c.given
		}
		plan, err := New().Plan(t.Context(), a, p)
		if (err == nil) != (c.want != "") || err == nil && plan.Param("predicate-type") != c.want {
			t.Errorf("%s: %+v, %v", name, plan, err)
		}
		if err != nil {
			continue
		}
		trust := s.Trust()
		trust.Detached = sign(t, s, p)
		r, err := New().Verify(t.Context(), a, trust)
		if err != nil || r.Signatures[0].Facts[1].Value != c.want {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}

func TestPredicateConformance(t *testing.T) {
	formattest.Run(t, New(), formattest.Case{
		Artifact: []byte(text), Other: []byte("any file at al1\n"), Name: "app.tar", Params: format.Params{"predicate": cyclone},
		Signer:   formattest.Identity(t, sigalg.Ed25519),
		Refused:  []format.Params{{"predicate": cyclone, "predicate-type": SPDXType}},
		Unsigned: []string{"Size"},
	})
}
