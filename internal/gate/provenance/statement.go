package provenance

import (
	"encoding/base64"
	"encoding/json/v2"
	"errors"
	"fmt"

	"github.com/greatseal-io/greatseal/format/attest"
)

// The predicate types of SLSA provenance that are read.
const (
	slsa02 = "https://slsa.dev/provenance/v0.2"
	slsa1  = "https://slsa.dev/provenance/v1"
)

// Statement types of in-toto; both have the same members.
const (
	inToto01 = "https://in-toto.io/Statement/v0.1"
	inToto1  = attest.StatementType
)

const maxSignatures = 16

// envelope is a DSSE envelope. Members that are not known here are left out of
// account: they are not signed.
type envelope struct {
	payload    []byte
	signatures [][]byte
}

func decodeEnvelope(b []byte) (*envelope, error) {
	var w struct {
		Payload     string `json:"payload"`
		PayloadType string `json:"payloadType"`
		Signatures  []struct {
			Sig string `json:"sig"`
		} `json:"signatures"`
	}
	if err := json.Unmarshal(b, &w); err != nil {
		return nil, errors.New("it is no DSSE envelope")
	}
	if w.PayloadType != attest.PayloadType {
		return nil, fmt.Errorf("its payload is of type %.80q, not %s", w.PayloadType, attest.PayloadType)
	}
	if len(w.Signatures) == 0 || len(w.Signatures) > maxSignatures {
		return nil, fmt.Errorf("it has %d signatures: want 1 to %d", len(w.Signatures), maxSignatures)
	}
	e := &envelope{}
	var err error
	if e.payload, err = decode64(w.Payload); err != nil {
		return nil, errors.New("its payload is not in base64")
	}
	for _, s := range w.Signatures {
		sig, err := decode64(s.Sig)
		if err != nil {
			return nil, errors.New("a signature is not in base64")
		}
		e.signatures = append(e.signatures, sig)
	}
	return e, nil
}

// decode64 reads either alphabet, as DSSE demands.
func decode64(s string) ([]byte, error) {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil {
		b, err = base64.URLEncoding.Strict().DecodeString(s)
	}
	return b, err
}

// statement is what provenance says, of either version.
type statement struct {
	digests   []string // SHA-256 of the subjects, in hexadecimal
	builder   string
	buildType string
	sources   []string // every place that names the source
}

type resource struct {
	URI string `json:"uri"`
}

func decodeStatement(b []byte) (*statement, error) {
	var w struct {
		Type    string `json:"_type"`
		Subject []struct {
			Digest map[string]string `json:"digest"`
		} `json:"subject"`
		PredicateType string `json:"predicateType"`
		Predicate     struct {
			// version 0.2
			Builder    resourceID `json:"builder"`
			BuildType  string     `json:"buildType"`
			Invocation struct {
				ConfigSource resource `json:"configSource"`
			} `json:"invocation"`
			Materials []resource `json:"materials"`
			// version 1
			BuildDefinition struct {
				BuildType            string         `json:"buildType"`
				ExternalParameters   map[string]any `json:"externalParameters"`
				ResolvedDependencies []resource     `json:"resolvedDependencies"`
			} `json:"buildDefinition"`
			RunDetails struct {
				Builder resourceID `json:"builder"`
			} `json:"runDetails"`
		} `json:"predicate"`
	}
	if err := json.Unmarshal(b, &w); err != nil {
		return nil, errors.New("its statement cannot be read")
	}
	if w.Type != inToto1 && w.Type != inToto01 {
		return nil, fmt.Errorf("its statement is of type %.80q", w.Type)
	}
	s := &statement{}
	for _, x := range w.Subject {
		if d := x.Digest["sha256"]; d != "" {
			s.digests = append(s.digests, d)
		}
	}
	p := &w.Predicate
	switch w.PredicateType {
	case slsa02:
		s.builder, s.buildType = p.Builder.ID, p.BuildType
		s.add(p.Invocation.ConfigSource.URI)
		if len(s.sources) == 0 && len(p.Materials) > 0 {
			s.add(p.Materials[0].URI)
		}
	case slsa1:
		s.builder, s.buildType = p.RunDetails.Builder.ID, p.BuildDefinition.BuildType
		x := p.BuildDefinition.ExternalParameters
		if f, ok := x["workflow"].(map[string]any); ok { // GitHub's build type
			s.add(text(f["repository"]))
		}
		for _, n := range [...]string{"source", "repository", "configSource"} {
			s.add(text(x[n]))
		}
		if d := p.BuildDefinition.ResolvedDependencies; len(s.sources) == 0 && len(d) > 0 {
			s.add(d[0].URI)
		}
	default:
		return nil, fmt.Errorf("its predicate is of type %.80q, not SLSA provenance", w.PredicateType)
	}
	return s, nil
}

type resourceID struct {
	ID string `json:"id"`
}

func (s *statement) add(uri string) {
	if uri != "" {
		s.sources = append(s.sources, uri)
	}
}

// text is a parameter that is a URI, or an object with one.
func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case map[string]any:
		s, _ := v["uri"].(string)
		return s
	}
	return ""
}
