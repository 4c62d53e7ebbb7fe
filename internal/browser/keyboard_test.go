package browser

import (
	"fmt"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/internal/browser/chromiumtest"
	"github.com/greatseal-io/greatseal/internal/release/releasetest"
	"github.com/greatseal-io/greatseal/internal/sso/dextest"
)

// Somebody without a mouse, at a wide window and at a narrow one: he signs in, skips the
// navigation, finds what waits, says what he thinks of it, and signs with his passkey.
func TestKeyboardAlone(t *testing.T) {
	s := newStage(t)
	carol := s.browser.Person("carol", chromiumtest.Authenticator{})
	s.signIn(carol, "carol")
	s.registers(carol, "carol", "the blue key")
	for _, width := range []int64{1440, 390} {
		t.Run(fmt.Sprint(width), func(t *testing.T) {
			name := fmt.Sprintf("keyboard-%d", width)
			id := s.asks("alice", s.program(name+".exe", releasetest.Program(releasetest.Hardened, nil, words(name, "1.0.0.0"))), "release", "--reason", "for "+name)
			carol.Look(width, false)
			carol.Open(s.url + "/console/")
			carol.Focus(`form[action="/console/logout"] button`, 40)
			carol.Press("\r")
			carol.At("/console/log") // "Signed out", of the provider, or the page to sign in
			carol.Open(s.url + "/console/")
			carol.At("/console/login")
			carol.Focus(`a[href^="/console/login/dex"]`, 20)
			carol.Press("\r")
			carol.At("/dex/auth")
			carol.Focus("#login", 20)
			carol.Press(s.dex.Users["carol"].Email + "\t" + dextest.Password + "\r")
			carol.At("/console/")

			// The first thing that the tabulator reaches leads past the navigation.
			if way := carol.Walk(1); len(way) != 1 || !strings.Contains(way[0], "skip to the content") {
				t.Fatalf("first comes %q", way)
			}
			carol.Press("\r")
			carol.Focus(`#inbox a[href="/console/requests/`+id+`"]`, 20)
			carol.Press("\r")
			carol.At("/console/requests/" + id)
			carol.Focus("#comment", 200)
			carol.Press("looked at it without a mouse")
			carol.Focus(`#endorse button[value="endorse"]`, 10)
			carol.Press("\r")
			carol.See("#sign", "looked at it without a mouse")
			carol.Focus("#sign [data-sign-go]", 10)
			carol.Press("\r")
			carol.See(".said", "looked at it without a mouse")

			// A list with j, k and Enter; the keys are told with "?", and Escape closes that.
			carol.Open(s.url + "/console/requests")
			carol.Press("?")
			carol.See("#keys", "next and previous in a list")
			carol.Press("\x1b")
			carol.Gone("#keys", "next and previous in a list")
			carol.Press("j")
			on := func() string {
				return chromiumtest.Eval[string](carol, `(e => e && e.pathname || "")(document.activeElement)`)
			}
			first := on()
			if !strings.HasPrefix(first, "/console/requests/") {
				t.Fatalf("j leads to %q", first)
			}
			carol.Press("\r")
			carol.At(first)
		})
	}
}
