package ipa

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/formattest"
	"github.com/greatseal-io/greatseal/format/macho"
	"github.com/greatseal-io/greatseal/format/plist"
	"github.com/greatseal-io/greatseal/format/zipfile"
	"github.com/greatseal-io/greatseal/sigalg"
)

const entitlements = `<plist version="1.0"><dict><key>get-task-allow</key><true/></dict></plist>`

// nestedApp has one level of code inside.
func nestedApp(seed string) map[string]string {
	m := smallApp(seed)
	m["Frameworks/c.dylib"] = program(6, 5)
	return m
}

func TestConformance(t *testing.T) {
	for name, c := range map[string][2][]byte{"folder": {tree(smallApp("1")), tree(smallApp("2"))}, "archive": {stored(nestedApp("1")), stored(nestedApp("2"))}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			formattest.Run(t, Format{}, formattest.Case{
				Artifact: c[0], Other: c[1], Name: "A.ipa", Signer: formattest.Identity(t, sigalg.P256),
				Params:   format.Params{"reserve": "4096", "entitlements": entitlements},
				Refused:  []format.Params{{"flags": "adhoc"}, {"entitlements": "x"}, {"reserve": "1"}, {"nested-entitlements": "x"}, {"nested-entitlements": entitlements}},
				Unsigned: []string{"Body"}, // what Attach needs alone
				Open:     opened,
			})
		})
	}
}

// opened is true of permissions in a tree's list; in an archive of the versions, times,
// attributes and extra fields of entries.
func opened(b []byte, i int) bool {
	if format.IsTree(artifact(b)) {
		tr, err := format.ReadTree(artifact(b))
		return err == nil && int64(i) < tr.Head() && (b[i] == 0xf4 || b[i] == 0xf5)
	}
	z, err := zipfile.Open(artifact(b), zipfile.Options{})
	if err != nil {
		return false
	}
	at, in := int64(i), func(i, from, to int64) bool { return from <= i && i < to }
	dir := z.Directory
	for k, e := range z.Entries {
		data, err := z.DataOffset(k)
		if err != nil {
			return false
		}
		local, name, record := e.Offset, int64(len(e.Name)), int64(len(z.RawRecord(k)))
		switch {
		case in(at, local+4, local+8), in(at, local+10, local+14), in(at, local+30+name, data), // version, level, time, extra
			in(at, dir+4, dir+10), in(at, dir+12, dir+16), in(at, dir+36, dir+42), in(at, dir+46+name, dir+record):
			return true
		}
		dir += record
	}
	return false
}

// Invariants 3, 4 and 7.
func TestAttacks(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	for kind, make := range map[string]func(map[string]string) []byte{"folder": tree, "archive": packed} {
		good := seal(t, make(largeApp()), s, format.Params{"entitlements": entitlements}, true)
		r, err := verify(t, good, s.Trust())
		if err != nil {
			t.Fatal(err)
		}
		if n := len(r.Signatures); n != 6 || r.Signatures[5].Label != "A arm64" || r.Signatures[5].Time.IsZero() {
			t.Errorf("%+v", r.Signatures)
		}
		files := unpack(t, good)
		other := unpack(t, seal(t, make(smallApp("1")), formattest.Identity(t, sigalg.P256), nil, false))
		mine := unpack(t, seal(t, make(smallApp("another")), s, nil, false))
		stripped := unpack(t, make(largeApp()))
		const lib, framework, extension = "Frameworks/libc.dylib", "Frameworks/B.framework/", "Watch/W.app/PlugIns/E.appex/"
		for name, c := range map[string]struct {
			files map[string]string
			want  error
		}{
			"resource changed":                    {map[string]string{"x": "resource 2"}, ErrSealed},
			"resource added":                      {map[string]string{"z": "new"}, ErrSealed},
			"resource taken out":                  {map[string]string{"x": ""}, ErrSealed},
			"Info.plist changed":                  {map[string]string{"Info.plist": files["Info.plist"] + "\n"}, errors.New("Info.plist")},
			"Info.plist of the framework":         {map[string]string{framework + "Info.plist": info("com.example.c", "B")}, errors.New("Info.plist")},
			"Info.plist of the framework, gone":   {map[string]string{framework + "Info.plist": ""}, errors.New("")},
			"list changed":                        {map[string]string{listName: strings.Replace(files[listName], "files2", "files3", 1)}, errors.New("CodeResources")},
			"list of another application":         {map[string]string{listName: mine[listName]}, errors.New("CodeResources")},
			"list taken out":                      {map[string]string{listName: ""}, ErrUnsigned},
			"list of the framework, taken out":    {map[string]string{framework + listName: ""}, ErrUnsigned},
			"file beside the list":                {map[string]string{"_CodeSignature/x": "x"}, ErrMalformed},
			"program of another application":      {map[string]string{"A": mine["A"]}, errors.New("CodeResources")},
			"program of another signer":           {map[string]string{lib: other["A"]}, errors.New("certificate")},
			"library replaced by signed code":     {map[string]string{lib: files[framework+"B"]}, errors.New("")},
			"library that nobody signed":          {map[string]string{lib: stripped[lib]}, macho.ErrUnsigned},
			"code added":                          {map[string]string{"Frameworks/more.dylib": files[lib]}, ErrSealed},
			"code added that nobody signed":       {map[string]string{"more": program(2, 1)}, macho.ErrUnsigned},
			"code taken out":                      {map[string]string{lib: ""}, ErrSealed},
			"file in the framework":               {map[string]string{framework + "z": "x"}, ErrSealed},
			"resource of the framework":           {map[string]string{framework + "y": "x"}, ErrSealed},
			"resource four levels down":           {map[string]string{extension + "Frameworks/F.framework/version.txt": "2"}, ErrSealed},
			"localization changed":                {map[string]string{"en.lproj/a.strings": "text"}, ErrSealed},
			"stub changed":                        {map[string]string{"Watch/W.app/_WatchKitStub/WK": program(2, 2)}, ErrSealed},
			"program no more a program":           {map[string]string{framework + "B": "text"}, ErrMalformed},
			"link of old systems":                 {map[string]string{"CodeResources": "-> _CodeSignature/CodeResources"}, ErrMalformed},
			"link instead of a file":              {map[string]string{"x": "-> Info.plist"}, ErrSealed},
			"framework of macOS":                  {map[string]string{"Frameworks/M.framework/Versions/A/M": "x"}, ErrMalformed},
			"extension with another's own code":   {map[string]string{extension + "E": files["Watch/W.app/W"]}, errors.New("")},
			"framework signed alone once more":    {map[string]string{framework + "B": resigned(t, make, s)}, errors.New("")},
			"signature of the framework, changed": {map[string]string{framework + "B": padded(files[framework+"B"])}, errors.New("not zero")},
		} {
			_, err := verify(t, changed(t, good, c.files), s.Trust())
			if err == nil || !errors.Is(err, c.want) && !strings.Contains(err.Error(), c.want.Error()) {
				t.Errorf("%s: %s: %v: want %v", kind, name, err, c.want)
			}
		}
		// What the rules leave out or let go.
		open := changed(t, good, map[string]string{".DS_Store": "another", "en.lproj/a.strings": ""})
		if kind == "archive" {
			m := map[string]string{"SwiftSupport/iphoneos/libswiftCore.dylib": "x"}
			for p, c := range unpack(t, open) {
				m["Payload/A.app/"+p] = c
			}
			open = archive(m)
		}
		// The older list has both: it is for those who read no other one.
		if _, err = verify(t, open, s.Trust()); err == nil || !strings.Contains(err.Error(), "older list") {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// resigned is the framework's program as it would be signed alone, without its list.
func resigned(t *testing.T, make func(map[string]string) []byte, s *formattest.Signer) string {
	m := smallApp("1")
	m["A"] = program(6, 5)
	return unpack(t, seal(t, make(m), s, nil, false))["A"]
}

// padded changes nothing but the last byte, one of the zeros behind a signature.
func padded(s string) string { return s[:len(s)-1] + "\x01" }

func TestOpenIsReported(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	m := map[string]string{"SwiftSupport/iphoneos/libswiftCore.dylib": "x"}
	for p, c := range largeApp() {
		m["Payload/A.app/"+p] = c
	}
	delete(m, "Payload/A.app/en.lproj/a.strings")
	b := archive(m)
	plan, err := Format{}.Plan(t.Context(), artifact(b), nil)
	if err != nil || !slices.Contains(plan.Facts, format.Fact{Name: "not covered", Value: "SwiftSupport"}) {
		t.Errorf("%v, %v", plan.Facts, err)
	}
	r, err := verify(t, seal(t, b, s, nil, false), s.Trust())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"SwiftSupport, which stands beside the application", "PkgInfo, which the rules leave out"} {
		if !slices.Contains(r.Signatures[5].Open, want) {
			t.Errorf("%q: want %q", r.Signatures[5].Open, want)
		}
	}
}

func TestRefused(t *testing.T) {
	with := func(files map[string]string) map[string]string {
		m := smallApp("1")
		for p, c := range files {
			if m[p] = c; c == "" {
				delete(m, p)
			}
		}
		return m
	}
	deep := map[string]string{}
	at := ""
	for range 4 {
		at += "Frameworks/B.framework/"
		deep[at+"B"], deep[at+"Info.plist"] = program(6, 5), info("com.example.b", "B")
	}
	for name, c := range map[string]struct {
		files map[string]string
		want  error
	}{
		"no program":             {map[string]string{"A": ""}, ErrMalformed},
		"program is a text":      {map[string]string{"A": "a long text"}, ErrMalformed},
		"program is short":       {map[string]string{"A": "text"}, ErrMalformed},
		"program elsewhere":      {map[string]string{"Info.plist": info("x", "../../A")}, ErrMalformed},
		"no identifier":          {map[string]string{"Info.plist": info("", "A")}, ErrMalformed},
		"no Info.plist":          {map[string]string{"Info.plist": ""}, ErrNotApplication},
		"universal file inside":  {map[string]string{"Frameworks/u.dylib": universal(6)}, ErrUniversal},
		"five levels of code":    {deep, ErrMalformed},
		"bundle of macOS inside": {map[string]string{"PlugIns/P.plugin/Contents/Info.plist": info("x", "P")}, ErrMalformed},
	} {
		for kind, b := range map[string][]byte{"folder": tree(with(c.files)), "archive": packed(with(c.files))} {
			if _, err := (Format{}).Plan(t.Context(), artifact(b), nil); !errors.Is(err, c.want) {
				t.Errorf("%s: %s: %v: want %v", kind, name, err, c.want)
			}
		}
	}
	for name, m := range map[string]map[string]string{
		"two applications":  {"Payload/A.app/Info.plist": info("x", "A"), "Payload/B.app/Info.plist": info("x", "B")},
		"program beside":    {"Payload/A.app/Info.plist": info("x", "A"), "run": "x"},
		"file in Payload":   {"Payload/A.app/Info.plist": info("x", "A"), "Payload/x": "x"},
		"no application":    {"x/y": "x"},
		"an Android's name": {"AndroidManifest.xml": "x", "classes.dex": "x"},
	} {
		if (Format{}).Detect(artifact(archive(m))) {
			t.Errorf("%s: detected", name)
		}
	}
	// Names that differ in case alone, which one system would take for one file.
	m := map[string]string{}
	for p, c := range smallApp("1") {
		m["Payload/A.app/"+p] = c
	}
	m["Payload/A.app/X"] = "another"
	if _, err := (Format{}).Plan(t.Context(), artifact(archive(m)), nil); !errors.Is(err, format.ErrTree) {
		t.Errorf("%v", err)
	}
	if (Format{}).Detect(artifact([]byte("text"))) || !(Format{}).Detect(artifact(tree(largeApp()))) || !(Format{}).Detect(artifact(packed(largeApp()))) {
		t.Error("detected")
	}
}

// The application's own program may be universal, for no list names it.
func TestUniversalProgram(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	m := nestedApp("1")
	m["A"] = universal(2)
	good := seal(t, packed(m), s, nil, false)
	r, err := verify(t, good, s.Trust())
	if err != nil || len(r.Signatures) != 3 {
		t.Fatalf("%v", err)
	}
	todo, err := Format{}.Unstamped(t.Context(), artifact(good), nil)
	if err != nil || len(todo) != 2 || todo[0].Index != 1 {
		t.Errorf("%+v, %v", todo, err)
	}
}

// An application that is signed is signed again only when asked for, and is then as if
// it had been signed once.
func TestReplaceAndStamp(t *testing.T) {
	s := formattest.Identity(t, sigalg.RSA3072)
	for kind, make := range map[string]func(map[string]string) []byte{"folder": tree, "archive": packed} {
		good := seal(t, make(largeApp()), s, nil, false)
		if _, err := (Format{}).Plan(t.Context(), artifact(good), nil); !errors.Is(err, macho.ErrSigned) {
			t.Errorf("%s: %v", kind, err)
		}
		todo, err := Format{}.Unstamped(t.Context(), artifact(good), nil)
		if err != nil || len(todo) != 1 || todo[0].Index != 5 {
			t.Fatalf("%s: %+v, %v", kind, todo, err)
		}
		token := s.Timestamp(t, todo[0].Message, formattest.At)
		patch, err := Format{}.Stamp(t.Context(), artifact(good), nil, todo[0], token)
		if err != nil {
			t.Fatal(err)
		}
		stamped := apply(t, good, patch)
		r, err := verify(t, stamped, s.Trust())
		if err != nil || r.Signatures[5].Time.IsZero() {
			t.Errorf("%s: %v", kind, err)
		}
		todo[0].Index = 0
		if _, err := (Format{}).Stamp(t.Context(), artifact(good), nil, todo[0], token); !errors.Is(err, errStamped) {
			t.Errorf("%s: %v", kind, err)
		}
		again := seal(t, stamped, s, format.Params{"replace": "true"}, false)
		if got, want := unpack(t, again), unpack(t, good); len(got) != len(want) || got["A"] != want["A"] || got[listName] != want[listName] {
			t.Errorf("%s: signed twice it differs", kind)
		}
		if patch, err = (Format{}).Remove(t.Context(), artifact(stamped), -1); err != nil {
			t.Fatal(err)
		}
		bare := apply(t, stamped, patch)
		if left := unpack(t, bare); len(left) != len(largeApp()) || left[listName] != "" {
			t.Errorf("%s: %d files are left: want %d", kind, len(left), len(largeApp()))
		}
		if got := unpack(t, seal(t, bare, s, nil, false)); got["A"] != unpack(t, good)["A"] {
			t.Errorf("%s: signed after its signatures were taken off it differs", kind)
		}
		var names []string
		if err := (Format{}).List(t.Context(), artifact(again), func(e format.Entry) error { names = append(names, e.Name); return nil }); err != nil || !slices.Contains(names, listName) {
			t.Errorf("%v, %v", names, err)
		}
	}
}

// Invariant 7: a timestamp on code inside would change what contains it.
func TestNestedTimestampIsRefused(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	b := packed(nestedApp("1"))
	plan, err := Format{}.Plan(t.Context(), artifact(b), nil)
	if err != nil {
		t.Fatal(err)
	}
	sigs := formattest.SignAll(t, Format{}, plan, s, formattest.At)
	sigs[0].Timestamp = s.Timestamp(t, sigs[0].Value, formattest.At)
	if _, err := (Format{}).Attach(t.Context(), artifact(b), plan, s.Identity, formattest.At, sigs); !errors.Is(err, errStamped) {
		t.Errorf("%v", err)
	}
}

// Invariant 6: other entries stay as they are, byte for byte, and in their order.
func TestOtherEntriesStay(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	before := packed(largeApp())
	after := seal(t, before, s, nil, false)
	old, err := zipfile.Open(artifact(before), zipfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	now, err := zipfile.Open(artifact(after), zipfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	changed := 0
	for i := range old.Entries {
		o, n := &old.Entries[i], &now.Entries[i]
		from, to := old.Span(i)
		at, _ := now.Span(i)
		same := bytes.Equal(before[from:to], after[at:at+to-from])
		if o.Name != n.Name || o.Method != n.Method || old.RawRecord(i)[36:42] != now.RawRecord(i)[36:42] || old.RawRecord(i)[12:16] != now.RawRecord(i)[12:16] {
			t.Errorf("%s: name, method, time or attributes", o.Name)
		}
		if code := isCode([]byte(largeApp()[strings.TrimPrefix(o.Name, "Payload/A.app/")] + "        ")); same == code && !isStub(o.Name) {
			t.Errorf("%s: same bytes: %v", o.Name, same)
		} else if !same {
			changed++
		}
	}
	if changed != 6 || len(now.Entries) != len(old.Entries)+5 {
		t.Errorf("%d entries were changed, %d added", changed, len(now.Entries)-len(old.Entries))
	}
}

// Invariant 5.
func TestProfiles(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	granted := plist.Dict{
		{Key: "application-identifier", Value: "TEAM.com.example.*"}, {Key: "get-task-allow", Value: true},
		{Key: "keychain-access-groups", Value: plist.Array{"TEAM.*"}}, {Key: "aps-environment", Value: "production"},
	}
	const later = "2046-01-01T00:00:00Z"
	good := profileOf(t, granted, later, formattest.Identity(t, sigalg.P256), s)
	ask := func(s string) format.Params {
		return format.Params{"entitlements": `<plist version="1.0"><dict>` + s + `</dict></plist>`}
	}
	const id = `<key>application-identifier</key><string>TEAM.com.example.app</string>`
	for name, c := range map[string]struct {
		profile string
		params  format.Params
		want    error
	}{
		"none":                        {good, nil, nil},
		"all":                         {good, ask(id + `<key>get-task-allow</key><true/><key>keychain-access-groups</key><array><string>TEAM.a</string></array>`), nil},
		"one that asks for nothing":   {good, ask(`<key>other</key><false/>`), nil},
		"one that is not granted":     {good, ask(`<key>other</key><true/>`), ErrProfile},
		"another team's group":        {good, ask(`<key>keychain-access-groups</key><array><string>TEAM.a</string><string>ELSE.a</string></array>`), ErrProfile},
		"another value":               {good, ask(`<key>aps-environment</key><string>development</string>`), ErrProfile},
		"a star in what is asked for": {good, ask(`<key>aps-environment</key><string>*</string>`), ErrProfile},
		"another identifier":          {good, ask(`<key>application-identifier</key><string>TEAM.com.example.other</string>`), ErrProfile},
		"profile that has expired":    {profileOf(t, granted, "2020-01-01T00:00:00Z", s), nil, ErrProfile},
		"another certificate":         {profileOf(t, granted, later, formattest.Identity(t, sigalg.P256)), nil, ErrProfile},
		"no CMS message":              {"profile", nil, errors.New("CMS")},
	} {
		m := nestedApp("1")
		m[profileName] = c.profile
		p, err := Format{}.Plan(t.Context(), artifact(packed(m)), c.params)
		if err == nil {
			_, err = Format{}.Assemble(p, s.Identity, formattest.At, nil)
		}
		if !errors.Is(err, c.want) && (err == nil || c.want == nil || !strings.Contains(err.Error(), c.want.Error())) {
			t.Errorf("%s: %v: want %v", name, err, c.want)
		}
		if name == "all" && (!slices.Contains(p.Facts, format.Fact{Name: "profile team", Value: "TEAM"}) || !slices.Contains(p.Facts, format.Fact{Name: "profile expires", Value: later})) {
			t.Errorf("%v", p.Facts)
		}
	}
	// Signed without the profile, then put under one: the list does not have it; and one
	// that grants less, in an application whose list has it.
	m := nestedApp("1")
	m[profileName] = good
	b := seal(t, packed(m), s, ask(id), false)
	if _, err := verify(t, b, s.Trust()); err != nil {
		t.Error(err)
	}
	for name, p := range map[string]string{
		"grants less":         profileOf(t, plist.Dict{{Key: "get-task-allow", Value: true}}, later, s),
		"another certificate": profileOf(t, granted, later, formattest.Identity(t, sigalg.P256)),
	} {
		if _, err := verify(t, changed(t, b, map[string]string{profileName: p}), s.Trust()); !errors.Is(err, ErrProfile) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNestedEntitlements(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	const at = "Watch/W.app/PlugIns/E.appex"
	p := format.Params{"nested-entitlements": `<plist version="1.0"><dict><key>` + at + `</key><dict><key>get-task-allow</key><true/></dict></dict></plist>`}
	plan, err := Format{}.Plan(t.Context(), artifact(packed(largeApp())), p)
	if err != nil || !slices.Contains(plan.Facts, format.Fact{Name: at + ": entitlement get-task-allow", Value: "true"}) {
		t.Errorf("%v, %v", plan, err)
	}
	good := seal(t, packed(largeApp()), s, p, false)
	if _, err := verify(t, good, s.Trust()); err != nil {
		t.Error(err)
	}
	es, err := macho.Entitlements(format.BytesArtifact("E", []byte(unpack(t, good)[at+"/E"])))
	if err != nil || !bytes.Contains(es[0], []byte("get-task-allow")) {
		t.Errorf("%q, %v", es, err)
	}
	p["nested-entitlements"] = strings.ReplaceAll(p["nested-entitlements"], at, "PlugIns/none.appex")
	if _, err := (Format{}).Plan(t.Context(), artifact(packed(largeApp())), p); err == nil {
		t.Error("entitlements of a bundle that is not there")
	}
}

func TestReadsOnce(t *testing.T) {
	m := nestedApp("1")
	m["large"] = strings.Repeat("x", 6<<20)
	for _, b := range [][]byte{tree(m), packed(m)} {
		formattest.Reads(t, Format{}, artifact(b), nil)
	}
}

func TestGoldenPlan(t *testing.T) {
	p, err := Format{}.Plan(t.Context(), artifact(tree(largeApp())), format.Params{"entitlements": entitlements})
	if err != nil {
		t.Fatal(err)
	}
	got, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", "plan.cbor")
	if *update {
		if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(path, got, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("plan differs from %s: %v", path, err)
	}
}

// Invariant 2: a plan whose parts contradict each other is not signed.
func TestAssembleRefuses(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	last := func(b *body) *code { return &b.Code[len(b.Code)-1] }
	for name, change := range map[string]func(b *body){
		"as it is":              func(*body) {},
		"another program":       func(b *body) { last(b).Program = "B" },
		"another Info.plist":    func(b *body) { last(b).Info = []byte(info("com.example.app", "A") + "\n") },
		"a profile":             func(b *body) { last(b).Profile = []byte(profileOf(t, plist.Dict{}, "2046-01-01T00:00:00Z", s)) },
		"file that is code":     func(b *body) { b.Files[0].Path = b.Code[0].Program },
		"files out of order":    func(b *body) { b.Files[0], b.Files[1] = b.Files[1], b.Files[0] },
		"digest cut off":        func(b *body) { b.Files[0].SHA1 = b.Files[0].SHA1[1:] },
		"all in one round":      func(b *body) { last(b).Round = 0 },
		"code without states":   func(b *body) { b.Code[0].States = b.Code[0].States[:0] },
		"states of two lengths": func(b *body) { b.Code[0].States[0].Count += 64 },
		"states of other code":  func(b *body) { b.Code[0].States[0].Count += 64; b.Code[0].States[1].Count += 64 },
		"code twice":            func(b *body) { b.Code = append(b.Code[:1:1], b.Code...) },
		"no application":        func(b *body) { b.Code = b.Code[:1] },
		"place in the archive":  func(b *body) { b.Root = "Payload/../" },
		"program beside":        func(b *body) { b.Root, b.Beside = "Payload/A.app/", []string{"run"} },
	} {
		p, err := Format{}.Plan(t.Context(), artifact(tree(nestedApp("1"))), nil)
		if err != nil {
			t.Fatal(err)
		}
		var b body
		if err := format.Decode(p.Body, &b); err != nil {
			t.Fatal(err)
		}
		change(&b)
		plans, err := b.plans()
		if err != nil {
			t.Fatal(err)
		}
		if c, err := b.content(plans); err == nil {
			p.Content = c
		}
		if f, err := b.facts(plans); err == nil {
			p.Facts = f
		}
		if p.Body, err = format.Encode(b); err != nil {
			t.Fatal(err)
		}
		sign := func() error {
			tbs, err := Format{}.Assemble(p, s.Identity, formattest.At, nil)
			if err != nil {
				return err
			}
			_, err = Format{}.Assemble(p, s.Identity, formattest.At, [][]byte{s.Sign(t, tbs[0].Message)})
			return err
		}
		if err := sign(); (err == nil) != (name == "as it is") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A signature of an earlier round that does not fit is no part of an application.
	b := tree(nestedApp("1"))
	p, err := Format{}.Plan(t.Context(), artifact(b), nil)
	if err != nil {
		t.Fatal(err)
	}
	sigs := formattest.SignAll(t, Format{}, p, s, formattest.At)
	sigs[0].Value = s.Sign(t, []byte("another message"))
	if _, err := (Format{}).Attach(t.Context(), artifact(b), p, s.Identity, formattest.At, sigs); err == nil {
		t.Error("a signature that does not fit")
	}
}

func FuzzParse(f *testing.F) {
	s := formattest.Identity(f, sigalg.P256)
	f.Add(tree(smallApp("1")))
	f.Add(packed(largeApp()))
	f.Add(seal(f, packed(nestedApp("1")), s, format.Params{"reserve": "4096"}, false))
	trust := s.Trust()
	f.Fuzz(func(t *testing.T, b []byte) {
		if !(Format{}).Detect(artifact(b)) {
			return
		}
		Format{}.Inspect(t.Context(), artifact(b))
		Format{}.Verify(t.Context(), artifact(b), trust)
		if p, err := (Format{}).Plan(t.Context(), artifact(b), format.Params{"replace": "true"}); err == nil {
			if _, err := (Format{}).Assemble(p, s.Identity, formattest.At, nil); err != nil && !errors.Is(err, ErrProfile) {
				t.Fatalf("a plan that nobody can sign: %v", err)
			}
		}
	})
}
