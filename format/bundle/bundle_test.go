package bundle

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
	"github.com/greatseal-io/greatseal/sigalg"
)

const entitlements = `<plist version="1.0"><dict><key>com.apple.security.app-sandbox</key><true/></dict></plist>`

func TestConformance(t *testing.T) {
	formattest.Run(t, Format{}, formattest.Case{
		Artifact: tree(smallApp("1")), Other: tree(smallApp("2")), Name: "A.app", Signer: formattest.Identity(t, sigalg.P256),
		Params:   format.Params{"reserve": "4096", "entitlements": entitlements},
		Refused:  []format.Params{{"flags": "adhoc"}, {"entitlements": "x"}, {"reserve": "1"}},
		Unsigned: []string{"Body"}, // what Attach needs alone
		// Permissions, which are true or false in the tree's list.
		Open: func(b []byte, i int) bool {
			tr, err := format.ReadTree(artifact(b))
			return err == nil && int64(i) < tr.Head() && (b[i] == 0xf4 || b[i] == 0xf5)
		},
	})
}

const list = "Contents/_CodeSignature/CodeResources"

// Invariants 3 and 4.
func TestAttacks(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	good := seal(t, tree(largeApp()), s, format.Params{"entitlements": entitlements}, true)
	r, err := verify(t, good, s.Trust())
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Signatures) != 5 || r.Signatures[4].Label != "Contents/MacOS/A x86_64" || r.Signatures[0].Time.IsZero() {
		t.Errorf("%+v", r.Signatures)
	}
	files := unpack(t, good)
	other := seal(t, tree(smallApp("1")), formattest.Identity(t, sigalg.P256), nil, false)
	mine := unpack(t, seal(t, tree(smallApp("another")), s, nil, false))
	const lib, framework = "Contents/Frameworks/libc.dylib", "Contents/Frameworks/B.framework/"
	for name, c := range map[string]struct {
		files map[string]string
		want  error
	}{
		"resource changed":               {map[string]string{"Contents/Resources/x": "resource 2"}, ErrSealed},
		"resource added":                 {map[string]string{"Contents/Resources/z": "new"}, ErrSealed},
		"resource taken out":             {map[string]string{"Contents/Resources/x": "", "Contents/Resources/link": "-> z"}, ErrSealed},
		"link leads elsewhere":           {map[string]string{"Contents/Resources/link": "-> z"}, ErrSealed},
		"link becomes a file":            {map[string]string{"Contents/Resources/link": "x"}, ErrSealed},
		"Info.plist changed":             {map[string]string{"Contents/Info.plist": files["Contents/Info.plist"] + "\n"}, errors.New("Info.plist")},
		"Info.plist of the framework":    {map[string]string{framework + "Versions/A/Resources/Info.plist": info("com.example.c", "B")}, errors.New("Info.plist")},
		"list changed":                   {map[string]string{list: strings.Replace(files[list], "files2", "files3", 1)}, errors.New("CodeResources")},
		"list of another bundle":         {map[string]string{list: mine[list]}, errors.New("CodeResources")},
		"list taken out":                 {map[string]string{list: ""}, ErrUnsigned},
		"program of another bundle":      {map[string]string{"Contents/MacOS/A": mine["Contents/MacOS/A"]}, errors.New("CodeResources")},
		"program of another signer":      {map[string]string{lib: unpack(t, other)["Contents/MacOS/A"]}, errors.New("certificate")},
		"code replaced by signed code":   {map[string]string{lib: files["Contents/MacOS/helper"]}, ErrSealed},
		"code added":                     {map[string]string{"Contents/MacOS/more": files[lib]}, ErrSealed},
		"unsigned code added":            {map[string]string{"Contents/MacOS/more": string(program(amd64, 2, 1))}, macho.ErrUnsigned},
		"unsigned code inside":           {map[string]string{lib: string(program(amd64, 6, 9))}, macho.ErrUnsigned},
		"code taken out":                 {map[string]string{lib: ""}, ErrSealed},
		"script in a place for code":     {map[string]string{"Contents/MacOS/run.sh": "#!/bin/sh"}, ErrMalformed},
		"file beside Contents":           {map[string]string{"run": "x"}, ErrMalformed},
		"file beside Versions":           {map[string]string{framework + "x": "x"}, ErrMalformed},
		"link beside Versions":           {map[string]string{framework + "x": "-> Versions/A/B"}, ErrMalformed},
		"a second version":               {map[string]string{framework + "Versions/B/B": "x"}, ErrMalformed},
		"another current version":        {map[string]string{framework + "Versions/Current": "-> B"}, ErrNotBundle},
		"file beside the list":           {map[string]string{"Contents/_CodeSignature/x": "x"}, ErrMalformed},
		"file in the framework":          {map[string]string{framework + "Versions/A/Resources/x": "x"}, ErrSealed},
		"resource of the plug-in":        {map[string]string{"Contents/PlugIns/P.plugin/Contents/Resources/y": "z"}, ErrSealed},
		"list of the framework, missing": {map[string]string{framework + "Versions/A/_CodeSignature/CodeResources": ""}, ErrUnsigned},
	} {
		_, err := verify(t, changed(t, good, c.files), s.Trust())
		if err == nil || !errors.Is(err, c.want) && !strings.Contains(err.Error(), c.want.Error()) {
			t.Errorf("%s: %v: want %v", name, err, c.want)
		}
	}
	// What the rules leave out or let go.
	open := changed(t, good, map[string]string{"Contents/PkgInfo": "BNDL????", "Contents/Resources/en.lproj/a.strings": ""})
	r, err = verify(t, open, s.Trust())
	if err != nil || !slices.Contains(r.Signatures[4].Open, "Contents/PkgInfo, which the rules leave out") {
		t.Errorf("%v, %v", r, err)
	}
}

// A list with a rule that leaves everything out would seal nothing.
func TestRulesOfItsOwnAreRefused(t *testing.T) {
	lines := []sealed{{Path: "Resources/x", SHA1: []byte{}, SHA256: digest([]byte("x"))}}
	good, err := encodeList(lines, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := compareList(good, lines, nil); err != nil {
		t.Fatal(err)
	}
	loose := strings.Replace(string(good), "<key>^.*</key>\n\t\t<true/>", "<key>^.*</key>\n\t\t<dict><key>omit</key><true/></dict>", 1)
	if err := compareList([]byte(loose), lines, nil); !errors.Is(err, ErrMalformed) {
		t.Errorf("%v", err)
	}
	for _, part := range []string{"files2", "rules2", "rules"} {
		if err := compareList([]byte(strings.Replace(string(good), "<key>"+part+"<", "<key>x<", 1)), lines, nil); !errors.Is(err, ErrMalformed) {
			t.Errorf("without %s: %v", part, err)
		}
	}
}

func TestRefused(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  error
	}{
		"no program":         {map[string]string{"Contents/MacOS/A": ""}, ErrMalformed},
		"program is a text":  {map[string]string{"Contents/MacOS/A": "text"}, ErrMalformed},
		"program elsewhere":  {map[string]string{"Contents/Info.plist": info("x", "../../A")}, ErrMalformed},
		"no identifier":      {map[string]string{"Contents/Info.plist": info("", "A")}, ErrMalformed},
		"no Info.plist":      {map[string]string{"Contents/Info.plist": ""}, ErrNotBundle},
		"bundle of iOS":      {map[string]string{"Contents/Info.plist": "", "Info.plist": info("x", "A"), "A": string(program(arm64, 2, 1))}, ErrNotBundle},
		"script with code":   {map[string]string{"Contents/MacOS/run.sh": "#!/bin/sh"}, ErrMalformed},
		"file beside it all": {map[string]string{"run": "x"}, ErrMalformed},
	} {
		if _, err := (Format{}).Plan(t.Context(), artifact(changed(t, tree(smallApp("1")), c.files)), nil); !errors.Is(err, c.want) {
			t.Errorf("%s: %v: want %v", name, err, c.want)
		}
	}
	if (Format{}).Detect(artifact([]byte("text"))) || !(Format{}).Detect(artifact(tree(largeApp()))) {
		t.Error("detected")
	}
}

// A bundle that is signed is signed again only when asked for, and is then as if it
// had been signed once.
func TestReplaceAndStamp(t *testing.T) {
	s := formattest.Identity(t, sigalg.RSA3072)
	good := seal(t, tree(largeApp()), s, nil, false)
	if _, err := (Format{}).Plan(t.Context(), artifact(good), nil); !errors.Is(err, macho.ErrSigned) {
		t.Errorf("%v", err)
	}
	again := seal(t, good, s, format.Params{"replace": "true"}, false)
	if !bytes.Equal(again, good) {
		t.Error("signed twice it differs")
	}
	for want := 5; want > 0; want-- {
		todo, err := Format{}.Unstamped(t.Context(), artifact(again), nil)
		if err != nil || len(todo) != want {
			t.Fatalf("%d unstamped, %v: want %d", len(todo), err, want)
		}
		last := todo[len(todo)/2]
		patch, err := Format{}.Stamp(t.Context(), artifact(again), nil, last, s.Timestamp(t, last.Message, formattest.At))
		if err != nil {
			t.Fatal(err)
		}
		again = apply(t, again, patch)
	}
	r, err := verify(t, again, s.Trust())
	if err != nil || slices.ContainsFunc(r.Signatures, func(s format.SignatureInfo) bool { return s.Time.IsZero() }) {
		t.Errorf("%v", err)
	}
	patch, err := Format{}.Remove(t.Context(), artifact(again), -1)
	if err != nil {
		t.Fatal(err)
	}
	bare := apply(t, again, patch)
	if left := unpack(t, bare); len(left) != len(largeApp()) || left[list] != "" {
		t.Errorf("%d files are left: want %d", len(left), len(largeApp()))
	}
	if b := seal(t, bare, s, nil, false); !bytes.Equal(b, good) {
		t.Error("signed after its signatures were taken off it differs")
	}
	var names []string
	if err := (Format{}).List(t.Context(), artifact(again), func(e format.Entry) error { names = append(names, e.Name); return nil }); err != nil || !slices.Contains(names, list) {
		t.Errorf("%v, %v", names, err)
	}
}

func TestReadsOnce(t *testing.T) {
	m := largeApp()
	m["Contents/Resources/large"] = strings.Repeat("x", 6<<20)
	formattest.Reads(t, Format{}, artifact(tree(m)), nil)
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
		if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(path, got, 0o644), os.WriteFile(filepath.Join("testdata", "program"), program(amd64, 2, 3), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("plan differs from %s: %v", path, err)
	}
	// The program that the stories of the command line sign.
	if b, err := os.ReadFile(filepath.Join("testdata", "program")); err != nil || !bytes.Equal(b, program(amd64, 2, 3)) {
		t.Errorf("program differs: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	s := formattest.Identity(f, sigalg.P256)
	f.Add(tree(smallApp("1")))
	f.Add(tree(largeApp()))
	f.Add(seal(f, tree(smallApp("1")), s, format.Params{"reserve": "4096"}, false))
	trust := s.Trust()
	f.Fuzz(func(t *testing.T, b []byte) {
		if !(Format{}).Detect(artifact(b)) {
			return
		}
		Format{}.Inspect(t.Context(), artifact(b))
		Format{}.Verify(t.Context(), artifact(b), trust)
		if p, err := (Format{}).Plan(t.Context(), artifact(b), format.Params{"replace": "true"}); err == nil {
			if _, err := (Format{}).Assemble(p, s.Identity, formattest.At, nil); err != nil {
				t.Fatalf("a plan that nobody can sign: %v", err)
			}
		}
	})
}

// Invariant 1: which file is the program follows from the Info.plist, and where that
// stands from the path. A plan that says otherwise tells endorsers of another file.
func TestAssembleRefuses(t *testing.T) {
	s := formattest.Identity(t, sigalg.P256)
	for name, change := range map[string]func(b *body){
		"as it is":           func(*body) {},
		"another program":    func(b *body) { b.Code[len(b.Code)-1].Program = "Contents/MacOS/B" },
		"program elsewhere":  func(b *body) { b.Code[len(b.Code)-1].Program = "A" },
		"another base":       func(b *body) { c := &b.Code[len(b.Code)-1]; c.Base, c.Program = "Other", "Other/A" },
		"version of no name": func(b *body) { c := &b.Code[len(b.Code)-1]; c.Base, c.Program = "Versions", "Versions/A" },
		"library elsewhere": func(b *body) {
			for i := range b.Code {
				if b.Code[i].Base == "" {
					b.Code[i].Program = "x/" + b.Code[i].Program
				}
			}
		},
	} {
		p, err := Format{}.Plan(t.Context(), artifact(tree(largeApp())), nil)
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
		var errs [3]error
		p.Content, errs[0] = b.content(plans)
		p.Facts, errs[1] = b.facts(plans)
		p.Body, errs[2] = format.Encode(b)
		if err := errors.Join(errs[:]...); err != nil {
			t.Fatal(err)
		}
		if _, err := (Format{}).Assemble(p, s.Identity, formattest.At, nil); errors.Is(err, ErrPlan) == (name == "as it is") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
