package attest

import (
	"encoding/json/v2"
	"errors"
	"fmt"
	"strings"
)

// Predicate types that are found from the predicate.
const (
	SPDXType       = "https://spdx.dev/Document"
	CycloneDXType  = "https://cyclonedx.org/bom"
	ProvenanceType = "https://slsa.dev/provenance/v1"
)

// kind is what tells the known predicates apart; all else in them is ignored.
type kind struct {
	SPDXVersion string `json:"spdxVersion"` // SPDX 2.3, clause 6.1
	SPDXID      string `json:"SPDXID"`
	Context     any    `json:"@context"`    // SPDX 3.0 is JSON-LD
	BOMFormat   string `json:"bomFormat"`   // CycloneDX 1.6
	SpecVersion string `json:"specVersion"` // likewise
	Definition  *struct {
		BuildType  string         `json:"buildType"`
		Parameters map[string]any `json:"externalParameters"`
	} `json:"buildDefinition"` // SLSA 1.0 and later
	Run *struct {
		Builder struct {
			ID string `json:"id"`
		} `json:"builder"`
	} `json:"runDetails"`
}

// recognise says which known type a predicate is of; "" where it is of none.
func recognise(predicate string) (string, *kind) {
	var k kind
	if json.Unmarshal([]byte(predicate), &k) != nil {
		return "", nil // a member of such a name that is of another type: not ours to know
	}
	context, _ := k.Context.(string)
	switch {
	case strings.HasPrefix(k.SPDXVersion, "SPDX-") && k.SPDXID == "SPDXRef-DOCUMENT", strings.HasPrefix(context, "https://spdx.org/rdf/"):
		return SPDXType, &k
	case k.BOMFormat == "CycloneDX" && k.SpecVersion != "":
		return CycloneDXType, &k
	case k.Definition != nil && k.Run != nil:
		return ProvenanceType, &k
	}
	return "", nil
}

// typeOf is the type of a predicate that comes without one. Provenance must have
// what SLSA wants of it: somebody who leaves the type to us leaves the check, too.
func typeOf(predicate string) (string, error) {
	t, k := recognise(predicate)
	switch {
	case t == "":
		return "", errors.New("attest: the predicate is neither SPDX, CycloneDX nor SLSA provenance: give a predicate-type with it")
	case t == ProvenanceType && (k.Definition.BuildType == "" || k.Definition.Parameters == nil || k.Run.Builder.ID == ""):
		return "", errors.New("attest: provenance without build type, external parameters or builder")
	}
	return t, nil
}

// checkKind refuses a known type for a predicate that is known to be of another:
// whoever verifies looks at the type first.
func checkKind(predicateType, predicate string) error {
	known := strings.HasPrefix(predicateType, "https://spdx.dev/") || strings.HasPrefix(predicateType, "https://cyclonedx.org/") || strings.HasPrefix(predicateType, "https://slsa.dev/provenance/")
	t, _ := recognise(predicate)
	if !known || t == "" || predicateType == t || strings.HasPrefix(predicateType, t+"/") {
		return nil
	}
	return fmt.Errorf("attest: predicate is %s, and not of the type %.80q that it is given", t, predicateType)
}
