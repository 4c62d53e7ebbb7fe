package updateset

import (
	"bytes"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/rejection"
)

const someID = "1be9c0d7c0a80164001ae1d9d4b4d2b5"

var documents = []string{
	`<?xml version="1.0" encoding="UTF-8"?><record_update table="t"><t action="INSERT_OR_UPDATE"><script>a&#13;&lt;</script><sys_id>` + someID + `</sys_id></t></record_update>`,
	`<record_update sys_domain="global" table="t"><t action="INSERT_OR_UPDATE"><c table="x">a=b<item v="1"/> </c><r display_value="&quot;">x</r><sys_id>` + someID + `</sys_id></t><u action="delete_multiple" query="a=b"/></record_update>`,
	`<record_update><t k=""><t action="DELETE"><script><![CDATA[]]]]><![CDATA[>]]></script><sys_id>` + someID + `</sys_id></t></t></record_update>`,
}

// Whatever is accepted has the same values when it is written anew.
func FuzzPayload(f *testing.F) {
	for _, d := range documents {
		if _, _, err := readPayload([]byte(d), "t_"+someID, "", Limits{}.orDefault()); err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(d))
	}
	l := Limits{Update: 1 << 20, Attachment: 1 << 20}.orDefault()
	f.Fuzz(func(t *testing.T, b []byte) {
		ops, action, err := readPayload(b, "t_"+someID, "", l)
		if err != nil {
			if rejection.Of(err) == nil {
				t.Fatal(err)
			}
			return
		}
		for i := range ops {
			o := &ops[i]
			if !o.Main {
				continue
			}
			if o.Table != "t" || o.SysID != someID || o.Action != action {
				t.Fatalf("%+v", o)
			}
			r := Row{Table: "t", SysID: someID, Action: o.Action, Fields: o.Fields, References: o.References, At: time.Unix(0, 0)}
			doc, err := r.check(l)
			if err != nil {
				t.Fatal(err)
			}
			again, _, err := readPayload(doc, "t_"+someID, o.Action, l)
			if err != nil {
				t.Fatal(err)
			}
			for name, v := range o.Fields {
				if again[0].Fields[name] != v {
					t.Fatalf("%s: %q, then %q", name, v, again[0].Fields[name])
				}
			}
			for name := range o.References {
				if again[0].References[name] != o.References[name] {
					t.Fatalf("display value of %s", name)
				}
			}
		}
	})
}

// A reader that gives one byte at a time changes nothing: no token is looked at
// before it is whole.
func TestScanInPieces(t *testing.T) {
	doc := `<?xml version="1.0"?><a b="&amp;c"> é&#13;<![CDATA[x]]]]><![CDATA[>` + "\r\n" + `]]></a>`
	read := func(s *scanner) string {
		if err := s.declaration(); err != nil {
			t.Fatal(err)
		}
		tag, err := s.open()
		if err != nil {
			t.Fatal(err)
		}
		b, err := s.text(nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.closing("a"); err != nil {
			t.Fatal(err)
		}
		if err := s.end(); err != nil {
			t.Fatal(err)
		}
		return tag.attributes[0].value + string(b)
	}
	want := "&c é\rx]]>\n"
	if got := read(scanBytes([]byte(doc))); got != want {
		t.Errorf("%q", got)
	}
	if got := read(scan(slowReader{strings.NewReader(doc)}, 1<<20)); got != want {
		t.Errorf("%q", got)
	}
}

type slowReader struct{ r *strings.Reader }

func (s slowReader) Read(p []byte) (int, error) { return s.r.Read(p[:min(1, len(p))]) }

// Invariant 3: what the scanner holds does not grow with the set.
func TestBoundedMemory(t *testing.T) {
	const updates = 3000
	var b bytes.Buffer
	w, err := NewWriter(&b, "n", someID, time.Unix(0, 0), "ann")
	if err != nil {
		t.Fatal(err)
	}
	id := []byte(someID)
	for n := range updates {
		copy(id, []byte{byte('a' + n%6), byte('a' + n/6%6), byte('a' + n/36%6), byte('a' + n/216%6), byte('a' + n/1296%6)})
		if err := w.Add(&Row{Table: "t", SysID: string(id), Action: Upsert, Fields: map[string]string{"script": strings.Repeat("x", 2000)}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	set := newSet(&xmlSource{r: bytes.NewReader(b.Bytes()), size: int64(b.Len())}, Limits{Update: 10_000}.orDefault())
	s := scan(bytes.NewReader(b.Bytes()), 10_000)
	if err := set.readUnload(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if held := cap(s.data); held > 4*readAhead || set.info.Updates != updates {
		t.Errorf("%d bytes held of %d, %d updates", held, b.Len(), set.info.Updates)
	}
}

// A table that another extends, or that is extended, shares its records.
func TestReaches(t *testing.T) {
	r, err := NewRules(nil, map[string]string{"child": "sys_script", "sys_script": "mid", "mid": "sys_metadata", "loop": "loop2", "loop2": "loop"})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, table := range []string{"sys_script", "child", "mid", "sys_metadata", "sys_script_include", "sys_user", "loop", "x_greatseal_root", "greatseal_tile"} {
		got[table] = r.reaches(table)
	}
	want := map[string]bool{"sys_script": true, "child": true, "mid": true, "sys_metadata": true, "sys_script_include": true, "sys_user": false, "loop": false,
		"x_greatseal_root": true, "greatseal_tile": true}
	if !maps.Equal(got, want) {
		t.Error(got)
	}
}
