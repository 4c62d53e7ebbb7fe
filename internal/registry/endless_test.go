package registry

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format/oci"
)

// Invariant 3: a registry that has always one more empty page is left at some time.
func TestEndlessPages(t *testing.T) {
	n := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n++
		w.Header().Set("Content-Type", oci.MediaIndex)
		w.Header().Set("Link", "<"+r.URL.Path+"?again>; rel=\"next\"")
		_, _ = io.WriteString(w, `{"schemaVersion":2,"mediaType":"`+oci.MediaIndex+`","manifests":[]}`)
	}))
	defer s.Close()
	c := &Client{HTTP: s.Client(), Plain: true}
	b := []byte("{}")
	m := &Manifest{Reference: strings.TrimPrefix(s.URL, "http://") + "/app@" + sum256(b), MediaType: oci.MediaManifest, Bytes: b}
	if _, err := c.Signatures(t.Context(), m); !errors.Is(err, ErrOther) || n != maxAnswers {
		t.Errorf("after %d pages: %v", n, err)
	}
}
