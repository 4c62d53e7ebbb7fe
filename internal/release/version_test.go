package release

import (
	"os/exec"
	"strings"
	"testing"
)

var samples = []string{
	"1.0", "1.0.0", "1", "1.1", "1.10", "1.9", "1.0~rc1", "1.0~rc2", "1.0~", "1.0+dfsg", "1.0a", "1.0b", "1.0-1", "1.0-2", "1.0-10", "1:0.9", "1:1.0-1", "2:0",
	"0", "00", "1.01", "1.001", "2024.01.02", "20240102", "1.0.1~git20240101.abcdef", "1.0^git1", "1.0^", "1.0^git1~pre", "1.0-1ubuntu1", "1.0-1ubuntu1.2", "1.0-1build1",
	"a", "b", "a1", "1a", "1.0.a", "1.0.1a", "1.0z", "999999999999999999999999", "1000000000000000000000000", "1.0-0.1", "1.0-1~bpo12+1", "1.0+1", "1.0+1-1", "1.0.~1",
}

// The order of Debian's versions is dpkg's.
func TestDebianOrder(t *testing.T) {
	dpkg, err := exec.LookPath("dpkg")
	if err != nil {
		t.Fatal("dpkg is wanted: ", err)
	}
	var script strings.Builder
	type pair struct{ a, b string }
	var pairs []pair
	for _, a := range samples {
		for _, b := range samples {
			if strings.Contains(a+b, "^") || strings.Trim(a[:1]+b[:1], "0123456789") != "" { // dpkg begins with a digit and knows no ^
				continue
			}
			pairs = append(pairs, pair{a, b})
			script.WriteString("if " + dpkg + " --compare-versions '" + a + "' lt '" + b + "'; then echo -1; elif " + dpkg + " --compare-versions '" + a + "' eq '" + b + "'; then echo 0; else echo 1; fi\n")
		}
	}
	if len(pairs) < 1000 {
		t.Fatalf("%d pairs", len(pairs))
	}
	// A process a pair costs: a part of the pairs is asked, all of them over the samples.
	lines := strings.Split(script.String(), "\n")
	var some strings.Builder
	var asked []pair
	for i, p := range pairs {
		if i%7 == 0 {
			some.WriteString(lines[i] + "\n")
			asked = append(asked, p)
		}
	}
	out, err := exec.Command("sh", "-c", some.String()).Output()
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Fields(string(out))
	if len(got) != len(asked) {
		t.Fatalf("%d answers to %d questions", len(got), len(asked))
	}
	for i, p := range asked {
		if c := Compare(Version{p.a, Debian}, Version{p.b, Debian}); want(c) != got[i] {
			t.Errorf("%s and %s: %d, dpkg says %s", p.a, p.b, c, got[i])
		}
	}
}

func want(c int) string {
	switch {
	case c < 0:
		return "-1"
	case c > 0:
		return "1"
	}
	return "0"
}

// The order of RPM's versions is rpm's.
func TestRPMOrder(t *testing.T) {
	rpm, err := exec.LookPath("rpm")
	if err != nil {
		t.Fatal("rpm is wanted: ", err)
	}
	var lua strings.Builder
	type pair struct{ a, b string }
	var pairs []pair
	for _, a := range samples {
		for _, b := range samples {
			pairs = append(pairs, pair{a, b})
			lua.WriteString(`print(rpm.vercmp("` + a + `","` + b + `") .. "\n")` + "\n")
		}
	}
	out, err := exec.Command(rpm, "--eval", "%{lua:\n"+lua.String()+"}").Output()
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Fields(string(out))
	if len(got) != len(pairs) {
		t.Fatalf("%d answers to %d questions", len(got), len(pairs))
	}
	for i, p := range pairs {
		if c := Compare(Version{p.a, RPM}, Version{p.b, RPM}); want(c) != got[i] {
			t.Errorf("%s and %s: %d, rpm says %s", p.a, p.b, c, got[i])
		}
	}
}

// What semver.org says of its order, and what Windows and Android have.
func TestDottedOrder(t *testing.T) {
	for _, l := range [][]string{
		{"1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.0.1", "1.10.0", "2"},
		{"1.2.3.4", "1.2.3.5", "1.2.10.0", "1.10"}, {"v1.2", "v1.3"}, {"1, 2, 3, 4", "1, 2, 3, 5"}, {"1.2+9", "1.2+10"}, {"9", "10", "99999999999999999999", "100000000000000000000"},
	} {
		for i, a := range l {
			for j, b := range l {
				if c := Compare(Version{a, Dotted}, Version{b, Dotted}); want(c) != want(i-j) {
					t.Errorf("%s and %s: %d", a, b, c)
				}
			}
		}
	}
	for _, eq := range [][2]string{{"1.0", "1.0.0.0"}, {"1.2.0+a", "1.2"}, {"01.2", "1.2"}, {"1,2,0,0", "1.2"}} {
		if Compare(Version{eq[0], Dotted}, Version{eq[1], Dotted}) != 0 {
			t.Errorf("%v differ", eq)
		}
	}
}

// Whatever the versions are: nothing panics, and the order is one.
func FuzzCompare(f *testing.F) {
	for i, s := range samples {
		f.Add(s, samples[(i+1)%len(samples)])
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		for _, s := range []Scheme{Dotted, Debian, RPM, Sequence} {
			x, y := Compare(Version{a, s}, Version{b, s}), Compare(Version{b, s}, Version{a, s})
			if want(x) != want(-y) {
				t.Errorf("%s: %q and %q: %d, the other way %d", s, a, b, x, y)
			}
			if Compare(Version{a, s}, Version{a, s}) != 0 {
				t.Errorf("%s: %q is not itself", s, a)
			}
		}
	})
}
