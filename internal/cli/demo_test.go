package cli

import (
	"bytes"
	"encoding/json/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/agent"
)

// The demo shows what it says: each attack is refused, by whom and for what reason it
// says, and the signed record runs in both of its versions.
func TestDemo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "demo")
	var out bytes.Buffer
	a := &App{Out: &out, Err: os.Stderr, In: bytes.NewReader(nil), Now: time.Now, json: true}
	d := &demo{app: a, dir: dir}
	err := d.run(t.Context())
	if cerr := d.close(); cerr != nil {
		t.Error(cerr)
	}
	if err != nil {
		t.Fatal(err)
	}
	var r demoResult
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, x := range r.Records.Refusals {
		got = append(got, x.By+" "+x.Code+" "+x.Subject)
	}
	want := []string{"instance FIELD_CHANGED sql_statement", "agent FIELD_CHANGED sql_statement", "instance REVISION_ROLLBACK ", "agent REVISION_ROLLBACK ", "agent ORDER_REPLAYED "}
	if !slices.Equal(got, want) {
		t.Errorf("%q: want %q", got, want)
	}
	if len(r.Refused) != 5+len(want) || len(r.Records.Jobs) != 2 || len(r.Records.Sets) != 2 || len(r.Records.Rows) != 2 {
		t.Errorf("%+v", r)
	}
	// What the agent refused, it keeps: "greatseal agent explain" shows it.
	kept, err := agent.Explain(filepath.Join(dir, "agent", "state"), "")
	if err != nil {
		t.Fatal(err)
	}
	var codes []string
	for _, x := range kept {
		codes = append(codes, string(x.Reason.Code))
	}
	if want := []string{"FIELD_CHANGED", "REVISION_ROLLBACK", "ORDER_REPLAYED"}; !slices.Equal(codes, want) {
		t.Errorf("the agent keeps %q: want %q", codes, want)
	}
}
