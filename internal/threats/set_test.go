package threats

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/agent"
	"github.com/greatseal-io/greatseal/internal/platform"
	"github.com/greatseal-io/greatseal/order"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/record/recordtest"
	"github.com/greatseal-io/greatseal/rejection"
	"github.com/greatseal-io/greatseal/sigalg"
)

func ref(table, id string) record.Ref { return record.Ref{Table: table, Key: []string{id}} }

// Operations that stand beside what was signed, or that say two things.
func TestThreat11Operations(t *testing.T) {
	p := newImporter(t, nil)
	sealed := p.sealed(p.made(p.dataSource(), rule(ruleID)))
	t.Run("honest", func(t *testing.T) {
		p.imports(sealed)
		if e := p.dispatch(ref(sources, sourceID)); e.rejected != nil || output(e) != honest {
			t.Errorf("%v %+v", e.rejected, e.outcome)
		}
	})
	end := "</record_update>"
	if !bytes.Contains(sealed, []byte("<record_update")) {
		end = "&lt;/record_update&gt;"
	}
	appended := func(op string) []byte {
		if end[0] == '&' {
			op = escaped(op)
		}
		return p.replaced(sealed, end, op+end)
	}
	for name, op := range map[string]string{
		"delete_multiple":                    `<sys_script action="delete_multiple" query="active=true"/>`,
		"update_multiple":                    `<sys_data_source action="update_multiple" query="active=true"><sql_statement>` + word + `</sql_statement></sys_data_source>`,
		"delete_multiple of all":             `<sys_metadata action="delete_multiple" query="active=true"/>`,
		"a record":                           `<sys_script action="INSERT_OR_UPDATE"><sys_id>` + otherID + `</sys_id><script>` + word + `</script></sys_script>`,
		"a record of the parent table":       `<sys_metadata action="INSERT_OR_UPDATE"><sys_id>` + otherID + `</sys_id></sys_metadata>`,
		"all attachments":                    `<sys_attachment action="delete_multiple" query="table_name=sys_data_source"/>`,
		"a wrapper around a protected one":   `<sys_ui_section table="x"><sys_script action="INSERT_OR_UPDATE"><sys_id>` + otherID + `</sys_id></sys_script></sys_ui_section>`,
		"a record that another update is of": `<sys_script action="INSERT_OR_UPDATE"><sys_id>` + ruleID + `</sys_id><script>` + word + `</script></sys_script>`,
		"our own signatures' rows":           `<greatseal_signature action="delete_multiple" query="x=1"/>`,
	} {
		t.Run(name, func(t *testing.T) { p.refused(t, appended(op), rejection.ExtraOperation, "") })
	}
	t.Run("an attachment", func(t *testing.T) {
		op := `<sys_attachment action="INSERT_OR_UPDATE"><file_name>x.jar</file_name><size_bytes>0</size_bytes><sys_id>x</sys_id><table_name>sys_data_source</table_name><table_sys_id>` + sourceID + `</table_sys_id></sys_attachment>` +
			`<sys_attachment_doc><data>` + packed(nil) + `</data><position>0</position><sys_attachment>x</sys_attachment></sys_attachment_doc>`
		p.refused(t, appended(op), rejection.AttachmentExtra, "x.jar")
	})
	good := document("<script>a // " + word + "</script>")
	for name, set := range map[string][]byte{
		"outer DELETE, inner not":   payloads(ruleName, "DELETE", cdata(good)),
		"inner DELETE, outer not":   payloads(ruleName, "INSERT_OR_UPDATE", cdata(strings.Replace(good, "INSERT_OR_UPDATE", "DELETE", 1))),
		"another id":                payloads("sys_script_"+otherID, "INSERT_OR_UPDATE", cdata(good)),
		"another table":             payloads("sys_script_include_"+ruleID, "INSERT_OR_UPDATE", cdata(good)),
		"another table inside":      payloads(ruleName, "INSERT_OR_UPDATE", cdata(strings.Replace(good, `table="sys_script"`, `table="sys_properties"`, 1))),
		"a second one, of a DELETE": payloads(ruleName, "INSERT_OR_UPDATE", cdata(strings.Replace(good, "</record_update>", `<sys_script action="DELETE"><sys_id>`+otherID+`</sys_id></sys_script></record_update>`, 1))),
		"another name inside":       payloads(ruleName, "INSERT_OR_UPDATE", cdata(document("<sys_update_name>sys_script_x</sys_update_name>"))),
	} {
		t.Run(name, func(t *testing.T) { p.refused(t, set, rejection.ActionMismatch, "") })
	}
	t.Run("what was signed, changed", func(t *testing.T) {
		p.refused(t, p.replaced(sealed, "WHERE n = :name -- ", "WHERE n = :name OR 1=1 -- "), rejection.FieldChanged, "sql_statement")
	})
}

// Two readers of one document that see two things.
func TestThreat12XML(t *testing.T) {
	p := newImporter(t, nil)
	value := "if (a < b && c > d) {\r\n\treturn ']]>'; // " + word + "\n}"
	r := rule(ruleID)
	r.Fields["script"] = value
	made := p.made(r)
	t.Run("honest, however it is written", func(t *testing.T) {
		p.imports(p.sealed(made))
		check := func() {
			t.Helper()
			p.pass(2 * time.Second)
			tr, err := p.guard.IsTrusted(t.Context(), "erp", ref("sys_script", ruleID), record.Queue)
			if err != nil {
				t.Fatal(err)
			}
			if got, ok := tr.Field("script"); got != value || !ok {
				t.Errorf("%q", got)
			}
		}
		check()
		// The same record in the other way of writing, under the signatures from before.
		element := escaped(value)
		element = strings.ReplaceAll(element, "\r", "&#13;")
		doc := strings.Replace(document("<script>"+element+"</script>"), "<name>", `<abort_action>true</abort_action><active>true</active><collection>orders</collection><when>before</when><name>`, 1)
		signed := string(p.sealed(made))
		rows := signed[strings.Index(signed, "<name>x_greatseal_"):]
		rows = signed[strings.LastIndex(signed[:len(signed)-len(rows)], "<sys_update_xml"):]
		for _, payload := range []string{escaped(doc), strings.ReplaceAll(cdata(doc), "]]&gt;", "]]&gt;")} {
			set := strings.Replace(string(payloads(ruleName, "INSERT_OR_UPDATE", payload)), "</unload>\n", rows, 1)
			p.imports([]byte(set))
			check()
		}
		// A literal line's end is another value than a reference to one.
		lf := strings.Replace(doc, "&#13;", "", 1)
		p.refused(t, []byte(strings.Replace(string(payloads(ruleName, "INSERT_OR_UPDATE", escaped(lf))), "</unload>\n", rows, 1)), rejection.FieldChanged, "script")
		outer := strings.Replace(escaped(doc), "&amp;#13;", "&#13;", 1) // read as a CR by the first, as a newline by the second
		p.refused(t, []byte(strings.Replace(string(payloads(ruleName, "INSERT_OR_UPDATE", outer)), "</unload>\n", rows, 1)), rejection.FieldChanged, "script")
		check()
	})
	good := document("<script>a // " + word + "</script>")
	for name, doc := range map[string]string{
		"document type":               strings.Replace(good, "?>", `?><!DOCTYPE record_update [<!ENTITY a "`+word+`">]>`, 1),
		"external document type":      strings.Replace(good, "?>", `?><!DOCTYPE r SYSTEM "file:///etc/passwd">`, 1),
		"entity bomb":                 document("<script>&lol9;</script>"),
		"comment in a value":          document("<script>a<!-- x -->b // " + word + "</script>"),
		"instruction in a value":      document("<script>a<?x y?>b</script>"),
		"namespace":                   document(`<x:script>a</x:script>`),
		"element twice":               document("<script>a</script><script>" + word + "</script>"),
		"element twice, in two cases": document("<script>a</script><Script>" + word + "</Script>"),
		"attribute twice":             strings.Replace(good, `action="INSERT_OR_UPDATE"`, `action="INSERT_OR_UPDATE" action="DELETE"`, 1),
		"two documents":               good + good,
		"two records, two cases":      strings.Replace(good, "</record_update>", `<SYS_SCRIPT action="INSERT_OR_UPDATE"><sys_id>x</sys_id></SYS_SCRIPT></record_update>`, 1),
		"invalid UTF-8":               document("<script>a\xffb " + word + "</script>"),
		"overlong UTF-8":              document("<script>\xc0\xbc</script>"),
		"UTF-16":                      strings.Replace(good, "UTF-8", "UTF-16", 1),
		"reference to NUL":            document("<script>&#0;</script>"),
		"element in a value":          document("<script>a<b>" + word + "</b></script>"),
		"text behind the terms":       document(`<script>a<item x="1"/>` + word + `</script>`),
		"query on a record":           strings.Replace(good, `action="INSERT_OR_UPDATE"`, `action="INSERT_OR_UPDATE" query="x"`, 1),
	} {
		t.Run(name, func(t *testing.T) {
			p.refused(t, payloads(ruleName, "INSERT_OR_UPDATE", cdata(doc)), rejection.PayloadMalformed, "")
			p.refused(t, payloads(ruleName, "INSERT_OR_UPDATE", escaped(doc)), rejection.PayloadMalformed, "")
		})
	}
	t.Run("the record twice in a payload", func(t *testing.T) {
		doc := strings.Replace(good, "</record_update>", `<sys_script action="INSERT_OR_UPDATE"><sys_id>`+ruleID+`</sys_id></sys_script></record_update>`, 1)
		p.refused(t, payloads(ruleName, "INSERT_OR_UPDATE", cdata(doc)), rejection.ExtraOperation, "")
	})
	whole := string(payloads(ruleName, "INSERT_OR_UPDATE", cdata(good)))
	for name, set := range map[string]string{
		"document type outside": strings.Replace(whole, "?>", `?><!DOCTYPE unload [<!ENTITY a "&b;&b;">]>`, 1),
		"two payloads":          strings.Replace(whole, "</payload>", "</payload><payload/>", 1),
		"two actions":           strings.Replace(whole, "<payload>", "<action>DELETE</action><payload>", 1),
		"two sets":              whole + whole[strings.Index(whole, "<unload"):],
		"a byte order mark":     "\xef\xbb\xbf" + whole,
		"cut off":               whole[:len(whole)/2],
	} {
		t.Run(name, func(t *testing.T) { p.refused(t, []byte(set), rejection.PayloadMalformed, "") })
	}
	t.Run("a field that a database takes for a signed one", func(t *testing.T) {
		set := p.sealed(p.made(p.dataSource()))
		for _, tag := range [][2]string{{"<sql_statement>", "<SQL_STATEMENT>"}, {"</sql_statement>", "</SQL_STATEMENT>"}} {
			if !bytes.Contains(set, []byte(tag[0])) {
				tag = [2]string{escaped(tag[0]), escaped(tag[1])}
			}
			set = p.replaced(set, tag[0], tag[1])
		}
		p.refused(t, set, rejection.RecordMismatch, "SQL_STATEMENT")
	})
}

func packed(content []byte) string {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
	_, _ = z.Write(content)
	_ = z.Close()
	return base64.StdEncoding.EncodeToString(b.Bytes())
}

// allocated is how many bytes f allocates in all: an upper bound of what it holds.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// More of something than anybody needs.
func TestThreat19Exhaustion(t *testing.T) {
	p := newImporter(t, nil)
	source := p.source()
	t.Run("honest", func(t *testing.T) {
		p.plain(t)
		p.runs(delivery{record: source, sigs: repeated(p.sign(source), order.MaxSignatures), params: asked()})
	})
	t.Run("signatures on a record", func(t *testing.T) {
		p.world.refused(t, delivery{record: source, sigs: repeated(p.sign(source), order.MaxSignatures+1), params: asked()}, rejection.PayloadMalformed, sources)
		p.world.refused(t, delivery{record: source, sigs: repeated(p.sign(source), 100_000), params: asked()}, rejection.PayloadMalformed, sources)
	})
	t.Run("signatures in the database", func(t *testing.T) {
		p.imports(p.sealed(p.made(p.dataSource())))
		rec := &record.Record{Ref: ref(sources, sourceID), Fields: map[string]string{"format": "sqlite", "database_name": p.shop, "sql_statement": query}}
		var list []*record.Statement
		g := p.signing(rec, "sources")
		for n := range uint64(500) {
			g.Revision = n + 2
			list = append(list, g.Statement(t, rec))
		}
		sigs := g.SignStatements(t, list...)
		p.must(p.db.Apply(t.Context(), []platform.Change{{Op: platform.Sign, Ref: rec.Ref, Signatures: sigs}}))
		p.pass(2 * time.Second)
		_, err := p.guard.IsTrusted(t.Context(), "erp", rec.Ref, record.Queue)
		if r := rejection.Of(err); r == nil || r.Code != rejection.SigMalformed {
			t.Errorf("%v", err)
		}
		row, err := p.db.Get(t.Context(), rec.Ref, nil)
		p.must(err)
		if n := len(row.Signatures); n > platform.MaxSignatures {
			t.Errorf("%d signatures are read", n)
		}
	})
	t.Run("a huge value", func(t *testing.T) {
		big := with(source, "sql_statement", "SELECT 1 -- "+strings.Repeat(word, order.MaxDelivery/len(word)+1))
		p.world.refused(t, delivery{record: big, sigs: p.sign(source), params: asked()}, rejection.PayloadTooLarge, "delivery")
	})
	t.Run("fields, attachments, records", func(t *testing.T) {
		many := recordtest.Copy(source)
		for i := range order.MaxFields {
			many.Fields[fmt.Sprintf("f%05d", i)] = word
		}
		p.world.refused(t, delivery{record: many, sigs: p.sign(source), params: asked()}, rejection.PayloadMalformed, sources)
		many = recordtest.Copy(source)
		for i := range order.MaxAttachments + 1 {
			many.Attachments = append(many.Attachments, record.Attachment{Name: fmt.Sprintf("f%05d", i)})
		}
		p.world.refused(t, delivery{record: many, sigs: p.sign(source), params: asked()}, rejection.PayloadMalformed, sources)
		lots := slices.Repeat([]agent.Item{{Record: *source, Signatures: p.sign(source)}}, order.MaxRecords+1)
		p.world.refused(t, delivery{others: lots}, rejection.PayloadMalformed, "records")
	})
	t.Run("an order without end", func(t *testing.T) {
		p.world.refused(t, delivery{after: func(j *agent.Job) { j.Order = bytes.Repeat([]byte{0x9f}, 64<<20) }}, rejection.OrderMalformed, "order")
	})
	t.Run("a root without end", func(t *testing.T) {
		sigs := p.sign(source)
		sigs[0].Root = append(bytes.Clone(sigs[0].Root), make([]byte, record.MaxRoot)...)
		p.world.refused(t, delivery{record: source, sigs: sigs, params: asked()}, rejection.SigMalformed, "")
	})
	p.plain(t)

	const bomb = 256 << 20
	zeros := make([]byte, 1<<20)
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	p.must(err)
	for range bomb / len(zeros) {
		_, err = z.Write(zeros)
		p.must(err)
	}
	p.must(z.Close())
	text := base64.StdEncoding.EncodeToString(b.Bytes())
	attached := func(size, data string) []byte {
		a := `<sys_attachment action="INSERT_OR_UPDATE"><compressed>true</compressed><content_type>text/plain</content_type><file_name>f</file_name><size_bytes>` + size +
			`</size_bytes><sys_id>a1</sys_id><table_name>sys_script</table_name><table_sys_id>` + ruleID + `</table_sys_id></sys_attachment>` +
			`<sys_attachment_doc><data>` + data + `</data><position>0</position><sys_attachment>a1</sys_attachment></sys_attachment_doc>`
		return payloads(ruleName, "INSERT_OR_UPDATE", cdata(strings.Replace(document(""), "</record_update>", a+"</record_update>", 1)))
	}
	for name, c := range map[string]struct {
		set  []byte
		code rejection.Code
	}{
		"a gzip bomb":                     {attached("3000", text), rejection.PayloadMalformed},
		"a gzip bomb that says its size":  {attached("999999999999", text), rejection.PayloadTooLarge},
		"an attachment that is cut off":   {attached("3000", packed(zeros)[:64]), rejection.PayloadMalformed},
		"nothing but the start of an end": {append(payloads(ruleName, "INSERT_OR_UPDATE", "")[:200], bytes.Repeat([]byte("<a>"), 1<<20)...), rejection.PayloadMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			used := allocated(func() { p.refused(t, c.set, c.code, "") })
			if limit := uint64(24*len(c.set) + 32<<20); used > limit {
				t.Errorf("%d bytes for a set of %d", used, len(c.set))
			}
		})
	}
	t.Run("a gzip bomb that is what it says", func(t *testing.T) { // it is read through, and held nowhere
		used := allocated(func() { p.refused(t, attached(fmt.Sprint(bomb), text), rejection.SigMissing, "") })
		if used > bomb/2 {
			t.Errorf("%d bytes for a set of %d", used, len(text))
		}
	})
}

// repeated is n different signatures of one: in each the path ends in something else.
func repeated(s []record.Signature, n int) []record.Signature {
	out := slices.Repeat(s[:1], n)
	for i := 1; i < n; i++ {
		out[i].Index = int64(i)
	}
	return out
}

// Taking something away is an attack where it protects.
func TestThreat22Removal(t *testing.T) {
	p := newImporter(t, nil)
	first := p.sealed(p.made(rule(ruleID), rule(otherID), p.dataSource()))
	t.Run("honest", func(t *testing.T) {
		p.imports(first)
		p.pass(2 * time.Second)
		_, err := p.guard.IsTrusted(t.Context(), "erp", ref("sys_script", ruleID), record.Queue)
		p.must(err)
	})
	p.imports(p.sealed(p.made(rule(otherID)), revision(2)))
	gone := removal(rule(ruleID))
	// rows are the signatures of the first set: of the rule as it is to be.
	rows := string(first[bytes.LastIndex(first[:bytes.Index(first, []byte("<name>x_greatseal_"))], []byte("<sys_update_xml")):])
	with := func(set []byte) []byte { return []byte(strings.Replace(string(set), "</unload>\n", rows, 1)) }
	disabled := rule(ruleID)
	disabled.Fields["active"] = "false"
	emptied := rule(ruleID)
	emptied.Fields["script"] = ""
	moved := rule(ruleID)
	moved.Fields["collection"] = "nothing"
	bulk := `<?xml version="1.0" encoding="UTF-8"?><record_update table="sys_properties"><sys_properties action="INSERT_OR_UPDATE"><name>x</name><sys_id>` + otherID + `</sys_id></sys_properties>` +
		`<sys_script action="delete_multiple" query="name=Protect"/></record_update>`
	for name, c := range map[string]struct {
		set  []byte
		code rejection.Code
		subj string
	}{
		"nobody signed it":                     {p.made(gone), rejection.DeleteUnsigned, ""},
		"the signature of the record":          {with(p.made(gone)), rejection.DeleteUnsigned, ""},
		"of what it never was":                 {p.made(removal(disabled)), rejection.DeleteUnsigned, ""},
		"in bulk":                              {payloads("sys_properties_"+otherID, "INSERT_OR_UPDATE", cdata(bulk)), rejection.ExtraOperation, "sys_script"},
		"switched off":                         {with(p.made(disabled)), rejection.FieldChanged, "active"},
		"switched off, without its signature":  {p.made(disabled), rejection.SigMissing, ""},
		"emptied":                              {with(p.made(emptied)), rejection.FieldChanged, "script"},
		"of another table":                     {with(p.made(moved)), rejection.FieldChanged, "collection"},
		"the signed removal of another record": {p.beside(p.made(gone), p.sealed(p.made(removal(rule(otherID))), revision(2))), rejection.DeleteUnsigned, ""},
		"a removal signed by somebody unknown": {p.sealed(p.made(gone), by(recordtest.NewSigner(t, sigalg.P256)), revision(2)), rejection.CertUnknown, ""},
		"a removal older than what is there":   {p.sealed(p.made(removal(rule(otherID))), revision(1)), rejection.RevisionRollback, ""},
	} {
		t.Run(name, func(t *testing.T) { p.refused(t, c.set, c.code, c.subj) })
	}
	t.Run("in the database", func(t *testing.T) {
		r := ref("sys_script", ruleID)
		p.must(p.db.Apply(t.Context(), []platform.Change{{Op: platform.Delete, Ref: r}}))
		p.pass(2 * time.Second)
		p.found = nil
		p.must(p.guard.Look(t.Context(), "erp", platform.Event{Ref: r, Op: platform.Deleted}))
		if len(p.found) != 1 || p.found[0].Code != string(rejection.DeleteUnsigned) {
			t.Errorf("%+v", p.found)
		}
		p.silent(t, p.found)
		p.imports(p.sealed(p.made(rule(ruleID)), revision(2))) // and it comes back
	})
	t.Run("signed, honest", func(t *testing.T) {
		p.imports(p.sealed(p.made(gone), revision(3)))
		if strings.Contains(p.contents(), ruleID) {
			t.Error("it is still there")
		}
		p.found = nil
		p.pass(2 * time.Second)
		p.must(p.guard.Look(t.Context(), "erp", platform.Event{Ref: ref("sys_script", ruleID), Op: platform.Deleted}))
		if len(p.found) != 0 {
			t.Errorf("%+v", p.found)
		}
		p.refused(t, p.sealed(p.made(rule(ruleID)), revision(2)), rejection.RevisionRollback, "") // nor does the old one come back
	})
}
