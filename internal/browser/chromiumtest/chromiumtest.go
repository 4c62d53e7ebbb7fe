// Package chromiumtest drives a real Chromium for tests: people with browser
// profiles and authenticators of their own, who open pages, fill in forms and touch
// their keys; pictures of what they see, and axe-core's opinion of it.
//
// Invariants:
//
//  1. Certificates are checked: a browser trusts the authorities that the test
//     names, besides its own, and no error is ignored.
//  2. What the browser complains of (exceptions, refused content, policies that a
//     page broke) is kept, and [Page.Complaints] returns it.
//  3. A browser that is missing fails the test.
//  4. A client certificate is shown to the site that it was put in for, and to no
//     other one ([StartWith]).
package chromiumtest

import (
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"
)

// patience is how long a page may take to become what a test waits for. It is long:
// only a broken page takes it.
const patience = 60 * time.Second

// Browser is one Chromium.
type Browser struct {
	tb  testing.TB
	ctx context.Context
	own bool // people share its profile: certificates are in that one alone
}

// Certificate is one that a person shows, and the site that he chose to show it to.
type Certificate struct {
	File, Key string // PEM
	Site      string // https://HOST:PORT
}

// Start starts Chromium. cas are PEM files of authorities that it trusts.
func Start(tb testing.TB, cas ...string) *Browser {
	tb.Helper()
	return start(tb, nil, cas)
}

// StartWith starts a Chromium into which somebody has put a certificate, as
// docs/operate/console.md says. It is one person's: [Browser.Person] opens tabs of the
// one profile.
func StartWith(tb testing.TB, c Certificate, cas ...string) *Browser {
	tb.Helper()
	return start(tb, &c, cas)
}

func start(tb testing.TB, shown *Certificate, cas []string) *Browser {
	tb.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		tb.Fatal("chromium is missing: apt-get install chromium, or make deps")
	}
	home := tb.TempDir()
	db := filepath.Join(home, ".pki", "nssdb")
	if err := os.MkdirAll(db, 0o700); err != nil {
		tb.Fatal(err)
	}
	run := func(name string, args ...string) {
		tb.Helper()
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			tb.Fatalf("%s: %v (apt-get install libnss3-tools, or make deps)\n%s", name, err, out)
		}
	}
	run("certutil", "-d", "sql:"+db, "-N", "--empty-password")
	for i, ca := range cas {
		run("certutil", "-d", "sql:"+db, "-A", "-t", "C,,", "-n", fmt.Sprintf("test %d", i), "-i", ca)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.Env("HOME="+home),
		chromedp.Flag("lang", "en-GB"), chromedp.Flag("force-prefers-reduced-motion", true), chromedp.Flag("hide-scrollbars", false),
		chromedp.Flag("disable-features", "Translate,OptimizationHints,MediaRouter"), chromedp.WSURLReadTimeout(patience))
	if shown != nil {
		p12 := filepath.Join(home, "person.p12")
		run("openssl", "pkcs12", "-export", "-in", shown.File, "-inkey", shown.Key, "-out", p12, "-passout", "pass:")
		run("pk12util", "-d", "sql:"+db, "-i", p12, "-W", "", "-K", "")
		profile := filepath.Join(home, "profile")
		// What the dialogue that asks for a certificate would have kept.
		chosen, err := json.Marshal(map[string]any{"profile": map[string]any{"content_settings": map[string]any{"exceptions": map[string]any{"auto_select_certificate": map[string]any{
			shown.Site + ",*": map[string]any{"setting": map[string]any{"filters": []any{map[string]any{}}}},
		}}}}})
		if err == nil {
			err = os.MkdirAll(filepath.Join(profile, "Default"), 0o700)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(profile, "Default", "Preferences"), chosen, 0o600)
		}
		if err != nil {
			tb.Fatal(err)
		}
		options = append(options, chromedp.UserDataDir(profile))
	}
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, end := chromedp.NewContext(ctx)
	b := &Browser{tb: tb, ctx: ctx, own: shown != nil}
	tb.Cleanup(func() {
		end()
		cancel()
	})
	if err := chromedp.Do(ctx); err != nil {
		tb.Fatalf("chromium: %v", err)
	}
	return b
}

// Authenticator is what a person's passkeys are in.
type Authenticator struct {
	Synced bool // its passkeys are backed up by a provider
}

// Page is one tab of one person, in a profile of its own.
type Page struct {
	tb   testing.TB
	ctx  context.Context
	name string
	auth webauthn.AuthenticatorID

	asked map[string]bool // addresses, by DeadLinks

	mu    sync.Mutex
	heard []string
}

// Person opens a tab with a fresh profile, or with that of [StartWith], and an authenticator that says who the
// person is by a finger or a PIN.
func (b *Browser) Person(name string, a Authenticator) *Page {
	b.tb.Helper()
	p := &Page{tb: b.tb, name: name}
	how := []chromedp.ContextOption{chromedp.WithListener(p.hear)}
	if !b.own {
		how = append(how, chromedp.WithNewBrowserContext())
	}
	ctx, cancel := chromedp.NewContext(b.ctx, how...)
	p.ctx = ctx
	b.tb.Cleanup(cancel)
	// The first action's context is the tab's life: it has no end of its own.
	p.tell(chromedp.Do(ctx, chromedp.Navigate("about:blank")))
	p.tell(call(ctx, log.Enable))
	p.tell(call(ctx, runtime.Enable))
	// Several people look at a time: each page takes itself for the one in front.
	_, err := chromedp.Call(ctx, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true})
	p.tell(err)
	_, err = chromedp.Call(ctx, webauthn.Enable, webauthn.EnableParams{})
	p.tell(err)
	r, err := chromedp.Call(ctx, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
		Protocol: webauthn.AuthenticatorProtocolCtap2, Ctap2version: webauthn.Ctap2versionCtap21, Transport: webauthn.AuthenticatorTransportInternal,
		HasResidentKey: true, HasUserVerification: true, IsUserVerified: true, AutomaticPresenceSimulation: true,
		DefaultBackupEligibility: a.Synced, DefaultBackupState: a.Synced,
	}})
	p.tell(err)
	p.auth = r.AuthenticatorID
	return p
}

func (p *Page) hear(ev any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := ev.(type) {
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			p.heard = append(p.heard, fmt.Sprintf("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL))
		}
	case *runtime.EventExceptionThrown:
		p.heard = append(p.heard, "exception: "+e.ExceptionDetails.Text+" "+e.ExceptionDetails.URL)
	}
}

// Complaints returns what the browser complained of since the last call.
func (p *Page) Complaints() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := p.heard
	p.heard = nil
	return out
}

func (p *Page) tell(err error) {
	p.tb.Helper()
	if err != nil {
		p.tb.Fatalf("%s's browser: %v", p.name, err)
	}
}

func (p *Page) do(steps ...chromedp.Action[chromedp.Void]) {
	p.tb.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		p.tb.Fatalf("%s's browser at %s: %v\n%s\nheard: %q", p.name, p.where(), err, p.seen(), p.Complaints())
	}
}

func (p *Page) where() string {
	s, _ := eval[string](p, "location.href")
	return s
}

func (p *Page) seen() string {
	s, _ := eval[string](p, "document.body ? document.body.innerText : ''")
	return s[:min(len(s), 4000)]
}

// eval evaluates an expression; a promise is awaited.
func eval[T any](p *Page, js string) (T, error) {
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	return chromedp.Run(ctx, chromedp.Evaluate[T](js, chromedp.EvalAwaitPromise))
}

// Eval evaluates an expression in the page; a promise is awaited.
func Eval[T any](p *Page, js string) T {
	p.tb.Helper()
	v, err := eval[T](p, js)
	if err != nil {
		p.tb.Fatalf("%s's browser at %s: %s: %v", p.name, p.where(), js, err)
	}
	return v
}

// Open opens an address.
func (p *Page) Open(address string) {
	p.tb.Helper()
	p.do(chromedp.Navigate(address))
}

// Click clicks what a selector finds, once it is visible.
func (p *Page) Click(css string) {
	p.tb.Helper()
	p.do(chromedp.Click(chromedp.CSS(css), chromedp.NodeVisible))
}

// Type empties a field and types text into it.
func (p *Page) Type(css, text string) {
	p.tb.Helper()
	p.do(chromedp.WaitVisible(chromedp.CSS(css)))
	Eval[bool](p, fmt.Sprintf("(e => { e.value = ''; e.dispatchEvent(new Event('input', {bubbles: true})); return true; })(document.querySelector(%s))", quote(css)))
	p.do(chromedp.SendKeys(chromedp.CSS(css), text))
}

// Press presses keys, as they come: "\r" is Enter, "\t" the tabulator.
func (p *Page) Press(keys string) {
	p.tb.Helper()
	p.do(chromedp.KeyEvent(keys))
}

// See waits until something that css finds contains text.
func (p *Page) See(css, text string) {
	p.tb.Helper()
	p.wait(fmt.Sprintf("[...document.querySelectorAll(%s)].some(e => e.checkVisibility() && e.innerText.includes(%s))", quote(css), quote(text)), css+": "+text)
}

// Gone waits until nothing visible that css finds contains text.
func (p *Page) Gone(css, text string) {
	p.tb.Helper()
	p.wait(fmt.Sprintf("![...document.querySelectorAll(%s)].some(e => e.checkVisibility() && e.innerText.includes(%s))", quote(css), quote(text)), "not "+css+": "+text)
}

// At waits until the path of the address begins with prefix.
func (p *Page) At(prefix string) {
	p.tb.Helper()
	p.wait("location.pathname.startsWith("+quote(prefix)+") && document.readyState === 'complete'", "path "+prefix)
}

func (p *Page) wait(js, what string) {
	p.tb.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		// A page that is on its way to another one cannot be asked.
		if ok, err := eval[bool](p, js); err == nil && ok {
			return
		}
		if time.Now().After(end) {
			p.tb.Fatalf("%s's browser at %s never saw %s; it sees\n%s\nheard: %q", p.name, p.where(), what, p.seen(), p.Complaints())
		}
	}
}

// Has reports whether css finds anything visible now.
func (p *Page) Has(css string) bool {
	p.tb.Helper()
	return Eval[bool](p, fmt.Sprintf("[...document.querySelectorAll(%s)].some(e => e.checkVisibility())", quote(css)))
}

// Text is the text of the first that css finds.
func (p *Page) Text(css string) string {
	p.tb.Helper()
	return Eval[string](p, fmt.Sprintf("(document.querySelector(%s)?.innerText ?? '').trim()", quote(css)))
}

// Path is the path of the address.
func (p *Page) Path() string {
	p.tb.Helper()
	u, err := url.Parse(Eval[string](p, "location.href"))
	p.tell(err)
	return u.Path
}

// Passkeys is how many passkeys the person's authenticator has.
func (p *Page) Passkeys() int {
	p.tb.Helper()
	r, err := chromedp.Call(p.ctx, webauthn.GetCredentials, webauthn.GetCredentialsParams{AuthenticatorID: p.auth})
	p.tell(err)
	return len(r.Credentials)
}

// Absent has the authenticator fail to tell who touches it.
func (p *Page) Absent(absent bool) {
	p.tb.Helper()
	_, err := chromedp.Call(p.ctx, webauthn.SetUserVerified, webauthn.SetUserVerifiedParams{AuthenticatorID: p.auth, IsUserVerified: !absent})
	p.tell(err)
}

// Look sets the size of the window in CSS pixels, and whether the person prefers
// dark colours.
func (p *Page) Look(width int64, dark bool) {
	p.tb.Helper()
	height, mobile := int64(900), false
	if width < 600 {
		height, mobile = 844, true
	}
	_, err := chromedp.Call(p.ctx, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 1, Mobile: mobile})
	p.tell(err)
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	_, err = chromedp.Call(p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
	p.tell(err)
}

// Shot is a picture of the whole page, PNG.
func (p *Page) Shot() []byte {
	p.tb.Helper()
	for end := time.Now().Add(patience); ; {
		// A picture that Chromium has no frame for is never answered: it is asked for again.
		ctx, cancel := context.WithTimeout(p.ctx, patience/4)
		r, err := chromedp.Call(ctx, page.CaptureScreenshot, page.CaptureScreenshotParams{Format: page.CaptureScreenshotFormatPng, CaptureBeyondViewport: new(true)})
		cancel()
		if errors.Is(err, context.DeadlineExceeded) && p.ctx.Err() == nil && time.Now().Before(end) {
			continue
		}
		p.tell(err)
		return r.Data
	}
}

// Overflow lists elements that stick out of the window, or of the card or the cell that
// they stand in, to the right, outside of containers that scroll.
func (p *Page) Overflow() []string {
	p.tb.Helper()
	return Eval[[]string](p, `(() => {
  const w = document.documentElement.clientWidth, out = [];
  const scrolls = e => { for (; e && e !== document.documentElement; e = e.parentElement) { const o = getComputedStyle(e).overflowX; if (o === 'auto' || o === 'scroll' || o === 'hidden' || o === 'clip') return true; } return false; };
  for (const e of document.body.querySelectorAll('*')) {
    const r = e.getBoundingClientRect();
    if (r.width > 0 && r.height > 0 && r.right > w + 1 && e.checkVisibility() && !scrolls(e.parentElement)) out.push(e.tagName + '.' + e.className + ' ' + Math.round(r.right) + ' > ' + w + ': ' + e.innerText.slice(0, 60));
  }
  for (const card of document.querySelectorAll('.card, td, th, dd')) {
    const c = card.getBoundingClientRect();
    for (const e of card.querySelectorAll('*')) {
      const r = e.getBoundingClientRect();
      if (r.width > 0 && r.height > 0 && r.right > c.right + 1 && e.checkVisibility() && e.closest('.card, td, th, dd, dl') && !scrolls(e.parentElement)) { out.push(e.tagName + '.' + e.className + ' leaves its ' + card.tagName + ' by ' + Math.round(r.right - c.right) + ': ' + e.innerText.slice(0, 60)); break; }
    }
  }
  if (document.documentElement.scrollWidth > w + 1) out.push('the page is ' + document.documentElement.scrollWidth + ' wide in a window of ' + w);
  return out.slice(0, 20);
})()`)
}

// Overlap lists texts that lie over one another: two elements with text of their own,
// neither inside the other, whose boxes share more than a few pixels.
func (p *Page) Overlap() []string {
	p.tb.Helper()
	return Eval[[]string](p, `(() => {
  const own = e => [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
  const out = [], all = [];
  for (const e of document.body.querySelectorAll('*')) {
    if (!own(e) || !e.checkVisibility({checkOpacity: true, checkVisibilityCSS: true}) || e.closest('.skip, .hidden, dialog:not([open]), svg, canvas')) continue;
    const range = document.createRange();
    for (const n of e.childNodes) {
      if (n.nodeType !== 3 || !n.textContent.trim()) continue;
      range.selectNodeContents(n);
      for (const r of range.getClientRects()) if (r.width > 2 && r.height > 2) all.push({e, x: r.left, y: r.top, X: r.right, Y: r.bottom});
    }
  }
  all.sort((a, b) => a.y - b.y);
  const clipped = (e, r) => { for (; e && e !== document.body; e = e.parentElement) { const s = getComputedStyle(e); if (s.overflowX !== 'visible' || s.overflowY !== 'visible' || s.clipPath !== 'none') { const b = e.getBoundingClientRect(); if (r.x >= b.right - 1 || r.X <= b.left + 1 || r.y >= b.bottom - 1 || r.Y <= b.top + 1) return true; } } return false; };
  for (let i = 0; i < all.length && out.length < 10; i++) for (let j = i + 1; j < all.length && all[j].y < all[i].Y - 3; j++) {
    const a = all[i], b = all[j];
    if (a.e === b.e || a.e.contains(b.e) || b.e.contains(a.e)) continue;
    if (Math.min(a.X, b.X) - Math.max(a.x, b.x) > 3 && Math.min(a.Y, b.Y) - Math.max(a.y, b.y) > 3 && !clipped(a.e, a) && !clipped(b.e, b)) out.push(a.e.tagName + ' "' + a.e.textContent.trim().slice(0, 40) + '" and ' + b.e.tagName + ' "' + b.e.textContent.trim().slice(0, 40) + '"');
  }
  return out;
})()`)
}

// Settled waits until the page has loaded what it loads by itself.
func (p *Page) Settled() {
	p.tb.Helper()
	p.wait(`document.readyState === 'complete' && !document.querySelector('.htmx-request') &&
  [...document.querySelectorAll('[hx-trigger="load"]')].every(e => !e.querySelector('a[href="' + e.getAttribute('hx-get') + '"]'))`, "a page that has settled")
}

// Violation is what axe-core finds wrong.
type Violation struct {
	ID     string `json:"id"`
	Impact string `json:"impact"` // "minor", "moderate", "serious", "critical"
	Help   string `json:"help"`
	Nodes  []struct {
		HTML    string `json:"html"`
		Summary string `json:"failureSummary"`
	} `json:"nodes"`
}

func (v Violation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%s): %s", v.ID, v.Impact, v.Help)
	for _, n := range v.Nodes {
		fmt.Fprintf(&b, "\n    %.300s\n      %s", n.HTML, strings.ReplaceAll(n.Summary, "\n", " "))
	}
	return b.String()
}

// Axe asks axe-core, whose script is at path, about the page.
func (p *Page) Axe(path string) []Violation {
	p.tb.Helper()
	script, err := os.ReadFile(path)
	if err != nil {
		p.tb.Fatalf("axe-core is missing: make judges (%v)", err)
	}
	_, err = eval[chromedp.Void](p, string(script)+"\n;undefined")
	p.tell(err)
	text := Eval[string](p, `axe.run(document, {resultTypes: ['violations']}).then(r => JSON.stringify(r.violations.map(v => ({id: v.id, impact: v.impact, help: v.help, nodes: v.nodes.map(n => ({html: n.html, failureSummary: n.failureSummary}))}))))`)
	var out []Violation
	p.tell(json.Unmarshal([]byte(text), &out))
	return out
}

func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // the tests' own texts
	}
	return string(b)
}
