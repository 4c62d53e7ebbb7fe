package charter_test

import (
	"bytes"
	"crypto"
	"errors"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/charter"
	"github.com/greatseal-io/greatseal/credential"
	"github.com/greatseal-io/greatseal/credential/credentialtest"
)

func sshAsX509(t *testing.T, name string) credential.Credential {
	t.Helper()
	c, ok := credentialtest.SSH(name).Credential().(interface{ Public() crypto.PublicKey })
	if !ok {
		t.Fatal("an SSH credential has no public key")
	}
	x, err := credential.NewX509(c.Public())
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// Every error names its line, and what to do.
func TestParseYAMLRefuses(t *testing.T) {
	good := string(exampleYAML(t))
	for _, c := range []struct{ from, to, want string }{
		{"version: 1\n", "version: one\n", `version: "one": want a whole number`},
		{"version: 1\n", "version: 0x1\n", "want a whole number"},
		{"version: 1\n", "version: \"1\"\n", "want a whole number"},
		{"version: 1\n", "version: 0\n", "0 says nothing"},
		{"version: 1\n", "version: -1\n", "want a whole number"},
		{"version: 1\n", "version: 1\nversion: 1\n", "line 4: version: stands twice: first in line 3"},
		{"version: 1\n", "version: 1\nverzion: 1\n", "line 4: verzion: is not known here: want deployment, version"},
		{"version: 1\n", "version:\n", "has no value"},
		{"version: 1\n", "version: ~\n", "has no value"},
		{"version: 1\n", "version: [1]\n", "want one value, not a list"},
		{"version: 1\n", "version: !!int 1\n", "tags are not accepted"},
		{"version: 1\n", "version: &v 1\n", "anchors are not accepted"},
		{"deployment: example\n", "deployment: &d example\n", "anchors"},
		{"owner: bob", "<<: {owner: bob}", "want a name"},
		{"created: 2026-11-21T12:00:00Z", "created: yesterday", "want a time like"},
		{"unattended: true", "unattended: yes", `"yes": want true or false`},
		{"unattended: true", "unattended: \"true\"", "want true or false"},
		{"need: 4\n", "need: 0\n", "0 says nothing"},
		{"72h0m0s", "3d", "line "},
		{"72h0m0s", "3d", "policies.windows.rule.expires: duration \"3d\": want hours"},
		{"members: [dave, erin]", "members: dave", "groups.security.members: want a list"},
		{"members: [dave, erin]", "members: [dave, zoe]", `line 35: groups.security.members[1]: there is no person or machine "zoe"`},
		{"quorum: {need: 2, group: officers}\n    veto", "quorum: {need: 2, group: [officers]}\n    veto", "want one value"},
		{"  - {need: 1, group: security}", "  - {need: 3, group: security}", "policies.windows.rule.quorum.of[1]: group security has 2 members, needs 3"},
		{"\ntimestamping:", "\n---\ntimestamping:", "want one document"},
		{"deployment: example", "deployment: {a: b}", "want one value, not a mapping"},
		{"people:\n", "people:\n  ? [a]\n  : b\n", "want a name"},
	} {
		bad := strings.Replace(good, c.from, c.to, 1)
		if bad == good {
			t.Errorf("%q is not in the example", c.from)
			continue
		}
		_, err := charter.ParseYAML([]byte(bad))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v\n want %s", c.to, err, c.want)
		}
		if err != nil && !errors.Is(err, charter.ErrCharter) {
			t.Errorf("%s: %T", c.to, err)
		}
	}
	for name, b := range map[string]string{
		"empty":   "",
		"comment": "# nothing\n",
		"scalar":  "x",
		"list":    "[a]",
		"deep":    strings.Repeat("[", 100) + strings.Repeat("]", 100),
		"laughs":  "a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n",
		"alias":   "deployment: *x\n",
		"binary":  "\x00\x01",
		"large":   strings.Repeat("#", charter.MaxYAML+1),
	} {
		if _, err := charter.ParseYAML([]byte(b)); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func FuzzParseYAML(f *testing.F) {
	b := exampleYAML(f)
	if len(b) == 0 {
		f.Fatal("no seed")
	}
	f.Add(b)
	f.Add([]byte("deployment: example\nversion: 1\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := charter.ParseYAML(b)
		if err != nil {
			return
		}
		payload, err := charter.Encode(c)
		if err != nil {
			if len(b) > 100<<10 {
				return // too large for a statement
			}
			t.Fatal(err)
		}
		d, err := charter.Decode(payload)
		if err != nil {
			t.Fatal(err)
		}
		y, err := d.YAML()
		if err != nil {
			t.Fatal(err)
		}
		e, err := charter.ParseYAML(y)
		if err != nil {
			t.Fatalf("%v\n%s", err, y)
		}
		again, err := charter.Encode(e)
		if err != nil || !bytes.Equal(again, payload) {
			t.Fatalf("round trip: %v", err)
		}
		charter.Lint(c)
		if diff := charter.Diff(c, e); len(diff) != 0 {
			t.Fatal(diff)
		}
	})
}
