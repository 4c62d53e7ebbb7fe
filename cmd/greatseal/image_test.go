package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/rogpeppe/go-internal/testscript"
)

// registryWith starts a registry with referrers that has the image $REGISTRY/team/NAME:TAG.
func registryWith(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: registry NAME:TAG")
	}
	name, tag, _ := strings.Cut(args[0], ":")
	s := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true)))
	ts.Defer(s.Close)
	put := func(path, typ, body string) {
		req, err := http.NewRequest(http.MethodPut, s.URL+path, strings.NewReader(body))
		ts.Check(err)
		req.Header.Set("Content-Type", typ)
		resp, err := http.DefaultClient.Do(req)
		ts.Check(err)
		resp.Body.Close()
		if resp.StatusCode != http.StatusCreated {
			ts.Fatalf("PUT %s: %s", path, resp.Status)
		}
	}
	blob := func(body string) string {
		resp, err := http.Post(s.URL+"/v2/team/"+name+"/blobs/uploads/", "", nil)
		ts.Check(err)
		resp.Body.Close()
		d := fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(body)))
		put(strings.TrimPrefix(resp.Header.Get("Location"), s.URL)+"?digest="+d, "application/octet-stream", body)
		return fmt.Sprintf(`"digest":%q,"size":%d`, d, len(body))
	}
	config, layer := blob(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`), blob("the program")
	put("/v2/team/"+name+"/manifests/"+tag, "application/vnd.oci.image.manifest.v1+json",
		`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json",`+config+
			`},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar",`+layer+`}]}`)
	ts.Setenv("REGISTRY", strings.TrimPrefix(s.URL, "http://"))
}
