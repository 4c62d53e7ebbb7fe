package updateset_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/internal/updateset"
	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/record/recordtest"
	"github.com/greatseal-io/greatseal/rejection"
)

const header = `<?xml version="1.0" encoding="UTF-8"?><unload unload_date="2026-05-30 08:00:00">
<sys_remote_update_set action="INSERT_OR_UPDATE"><name>n</name><sys_id>` + setID + `</sys_id></sys_remote_update_set>
`

// set is a set of one update whose payload stands there as it is.
func set(name, action, payload string) []byte {
	return []byte(header + update(name, action, payload) + "</unload>\n")
}

func update(name, action, payload string) string {
	return `<sys_update_xml action="INSERT_OR_UPDATE"><action>` + action + `</action><name>` + name + `</name><payload>` + payload + "</payload></sys_update_xml>\n"
}

func cdata(s string) string { return "<![CDATA[" + s + "]]>" }

func escaped(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(s)
}

const scriptName = "sys_script_include_" + scriptID

// one is the document of a script include with these elements in it.
func one(elements string) string {
	return `<?xml version="1.0" encoding="UTF-8"?><record_update table="sys_script_include"><sys_script_include action="INSERT_OR_UPDATE">` + elements +
		`<sys_id>` + scriptID + `</sys_id></sys_script_include></record_update>`
}

// Attack 12: every trick with XML is refused, inside and outside of the payload, with
// one reason.
func TestXMLTricks(t *testing.T) {
	good := one("<script>a</script>")
	open(t, set(scriptName, "INSERT_OR_UPDATE", cdata(good)))
	for name, doc := range map[string]string{
		"DTD":                          strings.Replace(good, "?>", `?><!DOCTYPE record_update [<!ENTITY a "b">]>`, 1),
		"external DTD":                 strings.Replace(good, "?>", `?><!DOCTYPE r SYSTEM "http://example.com/x">`, 1),
		"entity bomb":                  one("<script>&lol9;</script>"),
		"unknown entity":               one("<script>&nbsp;</script>"),
		"comment between pieces":       one("<script>a<!-- x -->b</script>"),
		"comment between elements":     one("<!-- x --><script>a</script>"),
		"processing instruction":       one("<?php x?><script>a</script>"),
		"instruction between pieces":   one("<script>a<?x y?>b</script>"),
		"namespace":                    one(`<x:script>a</x:script>`),
		"namespace declared":           one(`<script xmlns="http://example.com">a</script>`),
		"prefix declared":              one(`<script xmlns:x="http://example.com">a</script>`),
		"attribute with namespace":     one(`<script xml:space="preserve">a</script>`),
		"duplicate element":            one("<script>a</script><script>b</script>"),
		"duplicate but for its case":   one("<script>a</script><Script>b</Script>"),
		"table in capitals":            strings.Replace(good, "</record_update>", `<SYS_SCRIPT action="INSERT_OR_UPDATE"><sys_id>x</sys_id></SYS_SCRIPT></record_update>`, 1),
		"duplicate sys_id":             one("<sys_id>x</sys_id>"),
		"duplicate attribute":          strings.Replace(good, `action="INSERT_OR_UPDATE"`, `action="INSERT_OR_UPDATE" action="DELETE"`, 1),
		"invalid UTF-8":                one("<script>a\xffb</script>"),
		"overlong UTF-8":               one("<script>\xc0\xbc</script>"),
		"surrogate":                    one("<script>\xed\xa0\x80</script>"),
		"control character":            one("<script>\x01</script>"),
		"reference to NUL":             one("<script>&#0;</script>"),
		"reference to a control":       one("<script>&#x1b;</script>"),
		"reference beyond Unicode":     one("<script>&#x110000;</script>"),
		"reference to a surrogate":     one("<script>&#xd800;</script>"),
		"reference without end":        one("<script>&#65</script>"),
		"element in a field":           one("<script>a<b>c</b></script>"),
		"text after the terms":         one(`<script>a<item x="1"/>b</script>`),
		"text between fields":          one("x<script>a</script>"),
		"two roots":                    good + "<record_update/>",
		"text behind the root":         good + "x",
		"another root":                 strings.ReplaceAll(good, "record_update", "unload"),
		"unknown root attribute":       strings.Replace(good, "<record_update ", `<record_update action="DELETE" `, 1),
		"field with an action":         one(`<script action="DELETE">a</script>`),
		"unknown action":               strings.Replace(good, `action="INSERT_OR_UPDATE"`, `action="insert_or_update"`, 1),
		"query on a record":            strings.Replace(good, `action="INSERT_OR_UPDATE"`, `action="INSERT_OR_UPDATE" query="x"`, 1),
		"wrapper without records":      `<record_update><sys_ui_list><x/></sys_ui_list></record_update>`,
		"no operation":                 `<record_update table="sys_script_include"></record_update>`,
		"UTF-16 declared":              strings.Replace(good, "UTF-8", "UTF-16", 1),
		"version 1.1":                  strings.Replace(good, `"1.0"`, `"1.1"`, 1),
		"space before the declaration": " " + good,
		"end tag of another":           strings.Replace(good, "</script>", "</Script>", 1),
		"raw end of CDATA":             one("<script>]]&gt;]]></script>"),
		"'<' in an attribute":          one(`<script a="<">a</script>`),
		"attribute without quotes":     one(`<script a=b>a</script>`),
		"hostile sys_id":               strings.Replace(good, scriptID, "../../x", 1),
	} {
		t.Run(name, func(t *testing.T) {
			for _, payload := range []string{cdata(doc), escaped(doc)} {
				if strings.Contains(doc, "]]>") && strings.HasPrefix(payload, "<!") {
					continue
				}
				if code := refused(t, set(scriptName, "INSERT_OR_UPDATE", payload)); code != rejection.PayloadMalformed {
					t.Errorf("%s", code)
				}
			}
		})
	}
	whole := string(set(scriptName, "INSERT_OR_UPDATE", cdata(good)))
	for name, b := range map[string]string{
		"DTD":                     strings.Replace(whole, "?>", `?><!DOCTYPE unload [<!ENTITY a "&b;&b;">]>`, 1),
		"comment":                 strings.Replace(whole, "</name>", "<!-- --></name>", 1),
		"comment in the payload":  strings.Replace(whole, "]]></payload>", "]]><!-- x --></payload>", 1),
		"two payloads":            strings.Replace(whole, "</payload>", "</payload><payload/>", 1),
		"two actions":             strings.Replace(whole, "<payload>", "<action>DELETE</action><payload>", 1),
		"two unloads":             whole + whole[strings.Index(whole, "<unload"):],
		"two headers":             strings.Replace(whole, "<sys_update_xml", "<sys_remote_update_set action=\"INSERT_OR_UPDATE\"><name>n</name><sys_id>x</sys_id></sys_remote_update_set><sys_update_xml", 1),
		"no header":               whole[:strings.Index(whole, "<sys_remote")] + whole[strings.Index(whole, "<sys_update_xml"):],
		"another element":         strings.Replace(whole, "<sys_update_xml", `<sys_user action="INSERT_OR_UPDATE"><sys_id>x</sys_id></sys_user><sys_update_xml`, 1),
		"text among updates":      strings.Replace(whole, "</sys_update_xml>", "</sys_update_xml>x", 1),
		"byte order mark":         "\xef\xbb\xbf" + whole,
		"UTF-16":                  "\xff\xfe<\x00u\x00",
		"nested update":           strings.Replace(whole, "<payload>", "<x><sys_update_xml/></x><payload>", 1),
		"update that is a DELETE": strings.Replace(whole, `<sys_update_xml action="INSERT_OR_UPDATE"`, `<sys_update_xml action="DELETE"`, 1),
		"no action":               strings.Replace(whole, "<action>INSERT_OR_UPDATE</action>", "", 1),
		"empty action":            strings.Replace(whole, "<action>INSERT_OR_UPDATE</action>", "<action/>", 1),
		"behind the end":          whole + "x",
		"no updates":              header + "</unload>",
		"empty":                   "",
		"garbage":                 strings.Repeat("\x00\x01garbage", 100),
		"JSON":                    `{"unload":1}`,
		"attribute of unload":     strings.Replace(whole, "unload_date", "x", 1),
	} {
		t.Run("outside "+name, func(t *testing.T) {
			if code := refused(t, []byte(b)); code != rejection.PayloadMalformed {
				t.Errorf("%s", code)
			}
		})
	}
}

// Attack 12: one value however it is written; another value however alike it looks.
func TestCanonicalValue(t *testing.T) {
	for name, c := range map[string]struct{ element, want string }{
		"plain":                      {"<script>a &amp; b</script>", "a & b"},
		"CDATA":                      {"<script><![CDATA[a & b]]></script>", "a & b"},
		"CDATA in pieces":            {"<script><![CDATA[a &]]><![CDATA[ b]]></script>", "a & b"},
		"CDATA and text":             {"<script>a <![CDATA[& b]]></script>", "a & b"},
		"number":                     {"<script>a &#38; &#x62;</script>", "a & b"},
		"nested end of CDATA":        {"<script><![CDATA[x]]]]><![CDATA[>y]]></script>", "x]]>y"},
		"end of CDATA, escaped":      {"<script>x]]&gt;y</script>", "x]]>y"},
		"brackets before the end":    {"<script><![CDATA[a[b[0]]]]></script>", "a[b[0]]"},
		"CRLF is a newline":          {"<script>a\r\nb</script>", "a\nb"},
		"CR is a newline":            {"<script>a\rb</script>", "a\nb"},
		"CR by reference":            {"<script>a&#13;\nb</script>", "a\r\nb"},
		"CR by reference, hex":       {"<script>a&#xD;\nb</script>", "a\r\nb"},
		"CRLF in CDATA is a newline": {"<script><![CDATA[a\r\nb]]></script>", "a\nb"},
		"a reference in CDATA":       {"<script><![CDATA[a&#13;b]]></script>", "a&#13;b"},
		"an entity in CDATA":         {"<script><![CDATA[&amp;]]></script>", "&amp;"},
		"two CRs":                    {"<script>a\r\rb</script>", "a\n\nb"},
		"empty":                      {"<script></script>", ""},
		"empty tag":                  {"<script/>", ""},
		"white space":                {"<script> \n </script>", " \n "},
		"composed":                   {"<script>\u00e9</script>", "\u00e9"},
		"decomposed":                 {"<script>e\u0301</script>", "e\u0301"},
		"outside of the BMP":         {"<script>&#x1F600;\U0001F600</script>", "\U0001F600\U0001F600"},
		"terms of a condition":       {`<script table="t">a=b^EQ<item field="a" value="b"/>` + "\n" + `<item value=""/>` + "\n</script>", "a=b^EQ"},
		"reference":                  {`<script display_value="Global">global</script>`, "global"},
		"single quotes":              {`<script display_value='a"b'>x</script>`, "x"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, payload := range []string{cdata(one(c.element)), escaped(one(c.element))} {
				if strings.Contains(c.element, "]]>") && strings.HasPrefix(payload, "<!") {
					continue
				}
				o := operations(t, open(t, set(scriptName, "INSERT_OR_UPDATE", payload)))[0]
				r := o.Record()
				if got, has := r.Fields["script"]; got != c.want || has != (c.want != "") {
					t.Errorf("%q, want %q", got, c.want)
				}
			}
		})
	}
	// A CR that the outer document makes is a literal one in the inner: a newline.
	doc := strings.Replace(escaped(one("<script>a@b</script>")), "@", "&#13;\n", 1)
	if got := operations(t, open(t, set(scriptName, "INSERT_OR_UPDATE", doc)))[0].Fields["script"]; got != "a\nb" {
		t.Errorf("%q", got)
	}
	doc = strings.Replace(escaped(one("<script>a@b</script>")), "@", "&amp;#13;\n", 1)
	if got := operations(t, open(t, set(scriptName, "INSERT_OR_UPDATE", doc)))[0].Fields["script"]; got != "a\r\nb" {
		t.Errorf("%q", got)
	}
}

// Attack 11: outer and inner action and id agree.
func TestMismatch(t *testing.T) {
	good := one("<script>a</script>")
	for name, b := range map[string][]byte{
		"outer DELETE, inner not":       set(scriptName, "DELETE", cdata(good)),
		"inner DELETE, outer not":       set(scriptName, "INSERT_OR_UPDATE", cdata(strings.Replace(good, "INSERT_OR_UPDATE", "DELETE", 1))),
		"second operation DELETE":       set(scriptName, "INSERT_OR_UPDATE", cdata(strings.Replace(good, "</record_update>", `<sys_script action="DELETE"><sys_id>`+goneID+`</sys_id></sys_script></record_update>`, 1))),
		"id":                            set("sys_script_include_"+goneID, "INSERT_OR_UPDATE", cdata(good)),
		"table":                         set("sys_script_"+scriptID, "INSERT_OR_UPDATE", cdata(good)),
		"table of record_update":        set(scriptName, "INSERT_OR_UPDATE", cdata(strings.Replace(good, `table="sys_script_include"`, `table="sys_script"`, 1))),
		"name of nothing":               set("sys_script_include_x", "INSERT_OR_UPDATE", cdata(good)),
		"sys_update_name":               set(scriptName, "INSERT_OR_UPDATE", cdata(one("<sys_update_name>sys_script_include_x</sys_update_name>"))),
		"another record first":          set(scriptName, "INSERT_OR_UPDATE", cdata(strings.Replace(good, "<sys_script_include ", `<sys_script action="INSERT_OR_UPDATE"><sys_id>x</sys_id></sys_script><sys_script_include `, 1))),
		"keys and columns":              set("sys_dictionary_t_c", "INSERT_OR_UPDATE", cdata(`<record_update><sys_dictionary action="INSERT_OR_UPDATE" element="c" table="t"><element>other</element><name>t</name><sys_id>`+scriptID+`</sys_id><sys_update_name>sys_dictionary_t_c</sys_update_name></sys_dictionary></record_update>`)),
		"later version first":           []byte(header + recorded("2") + recorded("1") + "</unload>"),
		"the record is not in there":    set(scriptName, "INSERT_OR_UPDATE", cdata(`<record_update table="sys_script_include"><sys_script_include action="delete_multiple" query="a=b"/></record_update>`)),
		"a record that nothing names":   set(scriptName, "INSERT_OR_UPDATE", cdata(strings.Replace(good, "<sys_id>"+scriptID+"</sys_id>", "", 1))),
		"wrapper's keys and its record": set("sys_documentation_t_c_en", "INSERT_OR_UPDATE", cdata(`<record_update><sys_documentation element="c" language="en" table="t"><sys_documentation action="INSERT_OR_UPDATE"><element>d</element><language>en</language><name>t</name><sys_id>`+scriptID+`</sys_id><sys_update_name>sys_documentation_t_c_en</sys_update_name></sys_documentation></sys_documentation></record_update>`)),
	} {
		t.Run(name, func(t *testing.T) {
			if code := refused(t, b); code != rejection.ActionMismatch {
				t.Errorf("%s", code)
			}
		})
	}
}

func recorded(at string) string {
	return strings.Replace(update(scriptName, "INSERT_OR_UPDATE", cdata(one("<script>"+at+"</script>"))), "<payload>", "<sys_recorded_at>"+at+"</sys_recorded_at><payload>", 1)
}

// A set may hold several versions of one update: the last counts, and the others are
// neither signed nor handed out.
func TestSuperseded(t *testing.T) {
	w := newWorld(t, nil)
	s := open(t, []byte(header+recorded("1")+recorded("2")+"</unload>"))
	if st := w.statements(t, s, 1); len(st) != 1 || st[0].Fields[8].Digest != record.FieldDigestOf("script", "2") {
		t.Errorf("%d statements", len(st))
	}
	p, all := w.verify(t, open(t, seal(t, s, w.sign(t, s))))
	if all[0].Status != updateset.Superseded || all[1].Status != updateset.Valid {
		t.Errorf("%v", p.Counts)
	}
	a, err := p.Approve()
	if err != nil {
		t.Fatal(err)
	}
	err = a.Each(context.Background(), func(e *updateset.Effect) error {
		if e.Operation.Fields["script"] != "2" {
			t.Error("the old version is handed out")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// Attack 11: an operation that is appended to a signed payload.
func TestAppendedOperation(t *testing.T) {
	w := newWorld(t, recordtest.Configurations())
	sealed := w.sealed(t, everything(t))
	appended := func(op string) []byte {
		end := bytes.Index(sealed, []byte("</record_update>")) // that of the data source, which is escaped
		if at := bytes.Index(sealed, []byte("&lt;/record_update&gt;")); at >= 0 && (end < 0 || at < end) {
			return replace(t, sealed, "&lt;/record_update&gt;", escaped(op)+"&lt;/record_update&gt;")
		}
		return replace(t, sealed, "</record_update>", op+"</record_update>")
	}
	for name, op := range map[string]string{
		"delete_multiple":                   `<sys_script_include action="delete_multiple" query="active=true"/>`,
		"update_multiple":                   `<sys_data_source action="update_multiple" query="active=true"><sql_statement>x</sql_statement></sys_data_source>`,
		"delete_multiple of all":            `<sys_metadata action="delete_multiple" query="active=true"/>`,
		"record":                            `<sys_script action="INSERT_OR_UPDATE"><sys_id>` + goneID + `</sys_id><script>x</script></sys_script>`,
		"record of the parent table":        `<sys_metadata action="INSERT_OR_UPDATE"><sys_id>` + goneID + `</sys_id></sys_metadata>`,
		"all attachments":                   `<sys_attachment action="delete_multiple" query="table_name=sys_data_source"/>`,
		"all chunks":                        `<sys_attachment_doc action="delete_multiple" query="x"/>`,
		"wrapper of a protected table":      `<sys_script_include table="x"></sys_script_include>`,
		"wrapper around a protected record": `<sys_ui_section table="x"><sys_script action="INSERT_OR_UPDATE"><sys_id>` + goneID + `</sys_id></sys_script></sys_ui_section>`,
		"a record that another one is of":   `<sys_script_include action="INSERT_OR_UPDATE"><sys_id>` + scriptID + `</sys_id><script>x</script></sys_script_include>`,
	} {
		t.Run(name, func(t *testing.T) {
			want(t, w.rejects(t, appended(op)), rejection.ExtraOperation, "")
		})
	}
	t.Run("attachment of another record", func(t *testing.T) {
		op := `<sys_attachment action="INSERT_OR_UPDATE"><file_name>x.js</file_name><size_bytes>0</size_bytes><sys_id>x</sys_id><table_name>sys_script_include</table_name><table_sys_id>` + goneID + `</table_sys_id></sys_attachment>` +
			`<sys_attachment_doc><data>` + packed(nil) + `</data><position>0</position><sys_attachment>x</sys_attachment></sys_attachment_doc>`
		want(t, w.rejects(t, appended(op)), rejection.AttachmentExtra, "x.js")
	})
	t.Run("attachment of the same record", func(t *testing.T) {
		op := `<sys_attachment action="INSERT_OR_UPDATE"><file_name>x.js</file_name><size_bytes>0</size_bytes><sys_id>x</sys_id><table_name>sys_data_source</table_name><table_sys_id>` + sourceID + `</table_sys_id></sys_attachment>` +
			`<sys_attachment_doc><data>` + packed(nil) + `</data><position>0</position><sys_attachment>x</sys_attachment></sys_attachment_doc>`
		want(t, w.rejects(t, appended(op)), rejection.AttachmentExtra, "x.js")
	})
	t.Run("the same record twice in a payload", func(t *testing.T) {
		if code := refused(t, appended(`<sys_data_source action="INSERT_OR_UPDATE"><sys_id>`+sourceID+`</sys_id></sys_data_source>`)); code != rejection.ExtraOperation {
			t.Errorf("%s", code)
		}
	})
	// An operation elsewhere is nobody's business.
	if got := w.rejects(t, appended(`<sys_translated_text action="delete_multiple" query="documentkey=x"/>`)); len(got) > 0 {
		t.Errorf("%v", got)
	}
}

// Attack 2: a field that a database takes for a signed one.
func TestFieldInCapitals(t *testing.T) {
	w := newWorld(t, nil)
	b := w.sealed(t, made(t, script()))
	b = replace(t, replace(t, b, "<script>", "<SCRIPT>"), "</script>", "</SCRIPT>")
	want(t, w.rejects(t, b), rejection.RecordMismatch, "SCRIPT")
}

// Attack 14: signatures are not taken away, nor made to say something else.
func TestStripping(t *testing.T) {
	w := newWorld(t, recordtest.Configurations())
	sealed := w.sealed(t, everything(t))
	rows := bytes.Count(sealed, []byte("<name>x_greatseal_"))
	if rows != 4 {
		t.Fatalf("%d rows", rows)
	}
	for name, c := range map[string]struct {
		b    []byte
		code rejection.Code
	}{
		"deleted":          {set("x_greatseal_signature_x", "DELETE", cdata(`<record_update table="x_greatseal_signature"><x_greatseal_signature action="DELETE"><sys_id>x</sys_id></x_greatseal_signature></record_update>`)), rejection.ExtraOperation},
		"deleted in bulk":  {set(scriptName, "INSERT_OR_UPDATE", cdata(strings.Replace(one(""), "</record_update>", `<x_greatseal_root action="delete_multiple" query="x"/></record_update>`, 1))), rejection.ExtraOperation},
		"platform's table": {set(scriptName, "INSERT_OR_UPDATE", cdata(strings.Replace(one(""), "</record_update>", `<greatseal_signature action="delete_multiple" query="x"/></record_update>`, 1))), rejection.ExtraOperation},
		"another id":       {replace(t, sealed, "<name>x_greatseal_signature_", "<name>x_greatseal_signature_0"), rejection.ActionMismatch},
		"another record":   {replace(t, sealed, "<record_table>sys_data_source", "<record_table>sys_script_include"), rejection.SigMalformed},
		"a field more":     {replace(t, sealed, "<record_table>", "<x>1</x><record_table>"), rejection.SigMalformed},
		"a field less":     {replace(t, sealed, "<deleted>false</deleted>", ""), rejection.SigMalformed},
		"broken root":      {replace(t, sealed, "<content>", "<content>AAAA"), rejection.SigMalformed},
		"not base64":       {replace(t, sealed, "<statement>", "<statement>*"), rejection.SigMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			if code := refused(t, c.b); code != c.code {
				t.Errorf("%s", code)
			}
		})
	}
	t.Run("left out", func(t *testing.T) {
		from := bytes.Index(sealed, []byte(`<name>x_greatseal_signature_`))
		start := bytes.LastIndex(sealed[:from], []byte("<sys_update_xml"))
		end := from + bytes.Index(sealed[from:], []byte("</sys_update_xml>\n")) + len("</sys_update_xml>\n")
		want(t, w.rejects(t, append(bytes.Clone(sealed[:start]), sealed[end:]...)), rejection.SigMissing, "")
	})
	t.Run("without its root", func(t *testing.T) {
		from := bytes.Index(sealed, []byte(`<name>x_greatseal_root_`))
		start := bytes.LastIndex(sealed[:from], []byte("<sys_update_xml"))
		end := from + bytes.Index(sealed[from:], []byte("</sys_update_xml>\n")) + len("</sys_update_xml>\n")
		want(t, w.rejects(t, append(bytes.Clone(sealed[:start]), sealed[end:]...)), rejection.SigMalformed, "")
	})
	t.Run("moved path", func(t *testing.T) {
		want(t, w.rejects(t, replace(t, sealed, "<leaf>0</leaf>", "<leaf>1</leaf>")), rejection.SigInvalid, "")
	})
}

// Attack 19: millions of signatures on a record.
func TestManySignatures(t *testing.T) {
	w := newWorld(t, nil)
	s := open(t, made(t, script()))
	var list []*record.Statement
	for n := range uint64(70) {
		list = append(list, w.statements(t, s, n+1)...)
	}
	sigs := recordtest.Signing{Signer: w.signer}.SignStatements(t, list...)
	var out bytes.Buffer
	if _, err := s.Seal(context.Background(), &out, each(sigs)); !errors.Is(err, &rejection.Error{Code: rejection.PayloadTooLarge}) {
		t.Error(err)
	}
	b := seal(t, s, sigs[:64])
	_, err := updateset.Open(context.Background(), bytes.NewReader(b), int64(len(b)), updateset.Limits{Signatures: 63})
	if !errors.Is(err, &rejection.Error{Code: rejection.PayloadTooLarge}) {
		t.Error(err)
	}
	if got := w.rejects(t, b); len(got) > 0 {
		t.Errorf("%v", got)
	}
}

func packed(content []byte) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write(content)
	z.Close()
	return base64.StdEncoding.EncodeToString(b.Bytes())
}

// attached is a set whose script include has an attachment of these elements.
func attached(size string, docs ...string) []byte {
	a := `<sys_attachment action="INSERT_OR_UPDATE"><compressed>true</compressed><content_type>text/plain</content_type><file_name>f</file_name><size_bytes>` + size +
		`</size_bytes><sys_id>a1</sys_id><table_name>sys_script_include</table_name><table_sys_id>` + scriptID + `</table_sys_id></sys_attachment>`
	return set(scriptName, "INSERT_OR_UPDATE", cdata(strings.Replace(one(""), "</record_update>", a+strings.Join(docs, "")+"</record_update>", 1)))
}

func chunk(position, data string) string {
	return `<sys_attachment_doc><data>` + data + `</data><position>` + position + `</position><sys_attachment>a1</sys_attachment></sys_attachment_doc>`
}

// Attack 19 and invariant 5: bombs, gaps, doubles, and what follows the content.
func TestAttachments(t *testing.T) {
	content := bytes.Repeat([]byte("abc"), 1000)
	whole := packed(content)
	raw, _ := base64.StdEncoding.DecodeString(whole)
	half := len(raw) / 2
	a, b := base64.StdEncoding.EncodeToString(raw[:half]), base64.StdEncoding.EncodeToString(raw[half:])
	for _, good := range [][]byte{attached("3000", chunk("0", whole)), attached("3000", chunk("1", b), chunk("0", a)), attached("0", chunk("0", packed(nil)))} {
		if o := operations(t, open(t, good))[0]; len(o.Attachments) != 1 {
			t.Error("no attachment")
		}
	}
	twice := append(bytes.Clone(raw), raw...)
	for name, c := range map[string]struct {
		b    []byte
		code rejection.Code
	}{
		"gzip bomb":             {attached("3000", chunk("0", packed(make([]byte, 50<<20)))), rejection.PayloadMalformed},
		"bomb that says so":     {attached("999999999999", chunk("0", whole)), rejection.PayloadTooLarge},
		"too short":             {attached("3001", chunk("0", whole)), rejection.PayloadMalformed},
		"too long":              {attached("2999", chunk("0", whole)), rejection.PayloadMalformed},
		"gap":                   {attached("3000", chunk("0", a), chunk("2", b)), rejection.PayloadMalformed},
		"from 1":                {attached("3000", chunk("1", whole)), rejection.PayloadMalformed},
		"double":                {attached("3000", chunk("0", whole), chunk("0", whole)), rejection.PayloadMalformed},
		"order":                 {attached("3000", chunk("0", b), chunk("1", a)), rejection.PayloadMalformed},
		"none":                  {attached("3000"), rejection.PayloadMalformed},
		"two streams":           {attached("3000", chunk("0", base64.StdEncoding.EncodeToString(twice))), rejection.PayloadMalformed},
		"garbage behind":        {attached("3000", chunk("0", base64.StdEncoding.EncodeToString(append(bytes.Clone(raw), 0)))), rejection.PayloadMalformed},
		"cut":                   {attached("3000", chunk("0", a)), rejection.PayloadMalformed},
		"not base64":            {attached("3000", chunk("0", "*"+whole)), rejection.PayloadMalformed},
		"no number":             {attached("3000", chunk("x", whole)), rejection.PayloadMalformed},
		"number with zero":      {attached("3000", chunk("00", whole)), rejection.PayloadMalformed},
		"negative":              {attached("3000", chunk("-1", whole)), rejection.PayloadMalformed},
		"negative size":         {attached("-1", chunk("0", whole)), rejection.PayloadMalformed},
		"no size":               {attached("", chunk("0", whole)), rejection.PayloadMalformed},
		"chunk of nothing":      {attached("3000", chunk("0", whole), strings.Replace(chunk("0", whole), "a1", "a2", 1)), rejection.PayloadMalformed},
		"not packed":            {attached("3", chunk("0", "YWJj")), rejection.PayloadMalformed},
		"said not packed":       {bytes.Replace(attached("3000", chunk("0", whole)), []byte("<compressed>true"), []byte("<compressed>false"), 1), rejection.PayloadMalformed},
		"an image's name":       {bytes.Replace(attached("3000", chunk("0", whole)), []byte("<file_name>f"), []byte("<file_name>ZZ_YY:f"), 1), rejection.PayloadMalformed},
		"changed check sum":     {attached("3000", chunk("0", base64.StdEncoding.EncodeToString(append(bytes.Clone(raw[:len(raw)-8]), 0, 0, 0, 0, 0, 0, 0, 0)))), rejection.PayloadMalformed},
		"attachment without id": {bytes.Replace(attached("3000", chunk("0", whole)), []byte("<sys_id>a1</sys_id>"), nil, 1), rejection.PayloadMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			if code := refused(t, c.b); code != c.code {
				t.Errorf("%s", code)
			}
		})
	}
}

// Attack 19: everything has a limit.
func TestLimits(t *testing.T) {
	for name, c := range map[string]struct {
		limits updateset.Limits
		b      []byte
	}{
		"update":          {updateset.Limits{Update: 1000}, set(scriptName, "INSERT_OR_UPDATE", cdata(one("<script>"+strings.Repeat("x", 1000)+"</script>")))},
		"endless header":  {updateset.Limits{Update: 100_000}, []byte(header[:60] + strings.Repeat("x", 1<<20))},
		"updates":         {updateset.Limits{Updates: 3}, everything(t)},
		"fields":          {updateset.Limits{Fields: 5}, everything(t)},
		"operations":      {updateset.Limits{Operations: 2}, everything(t)},
		"attachment":      {updateset.Limits{Attachment: 1000}, everything(t)},
		"many attributes": {updateset.Limits{}, set(scriptName, "INSERT_OR_UPDATE", cdata(one("<script "+many(65)+">a</script>")))},
		"long name":       {updateset.Limits{}, set(scriptName, "INSERT_OR_UPDATE", cdata(one("<"+strings.Repeat("x", 300)+"/>")))},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := updateset.Open(context.Background(), bytes.NewReader(c.b), int64(len(c.b)), c.limits)
			why := rejection.Of(err)
			if s != nil || why == nil || why.Code != rejection.PayloadTooLarge && c.limits != (updateset.Limits{}) {
				t.Errorf("%v", err)
			}
		})
	}
}

func many(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `a%d="x" `, i)
	}
	return b.String()
}

// Cut off anywhere, a set is refused: nothing of it was handed out.
func TestTruncated(t *testing.T) {
	w := newWorld(t, nil)
	b := w.sealed(t, made(t, script(), property()))
	last := len(bytes.TrimSpace(b))
	for n := 0; n < last; n += 1 + n/4000*7 {
		if code := refused(t, b[:n]); code != rejection.PayloadMalformed {
			t.Fatalf("%d: %s", n, code)
		}
	}
}

// An error says where, and holds no value.
func TestErrorNamesPlace(t *testing.T) {
	b := set(scriptName, "INSERT_OR_UPDATE", cdata(one("<script>secret\n\npassword<!-- --></script>")))
	_, err := updateset.Open(context.Background(), bytes.NewReader(b), int64(len(b)), updateset.Limits{})
	var e *updateset.Error
	if !errors.As(err, &e) || e.Update != scriptName || e.Line != 3 || e.Inner != 3 || e.Offset != int64(len(header)) {
		t.Errorf("%+v", e)
	}
	if strings.Contains(err.Error(), "password") || !strings.Contains(err.Error(), "comment") || strings.Contains(err.Error(), "\n") {
		t.Error(err)
	}
}
