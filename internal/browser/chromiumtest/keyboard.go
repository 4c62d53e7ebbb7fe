package chromiumtest

import (
	"fmt"

	"github.com/chromedp/chromedp"
)

// Unseen lists what the keyboard reaches without its being seen: elements that look the
// same with the focus as without it, or that are out of sight when they have it.
func (p *Page) Unseen() []string {
	p.tb.Helper()
	return Eval[[]string](p, `(() => {
  const out = [], looks = (e) => { const s = getComputedStyle(e); return [s.outlineStyle === 'none' ? '' : s.outlineWidth + s.outlineStyle + s.outlineColor, s.boxShadow, s.borderColor, s.backgroundColor, s.textDecorationLine].join(); };
  const before = document.activeElement;
  for (const e of document.querySelectorAll('a[href], button, input, select, textarea, summary, [tabindex]')) {
    if (e.disabled || e.tabIndex < 0 || e.type === 'hidden' || !e.checkVisibility({visibilityProperty: true}) || e.closest('dialog:not([open])')) continue;
    const plain = looks(e);
    e.focus({focusVisible: true, preventScroll: false});
    if (document.activeElement !== e) continue;
    const r = e.getBoundingClientRect(), w = document.documentElement.clientWidth, h = innerHeight;
    const why = looks(e) === plain ? 'looks the same with the focus' : r.width < 1 || r.height < 1 || r.right <= 0 || r.left >= w || r.bottom <= 0 || r.top >= h ? 'is out of sight with the focus' : '';
    if (why) out.push(e.tagName + ' "' + (e.innerText || e.getAttribute('aria-label') || e.name || '').trim().slice(0, 40) + '" ' + why);
    e.blur();
  }
  before?.focus?.({preventScroll: true});
  scrollTo(0, 0);
  return out;
})()`)
}

// Walk presses the tabulator from the top of the page, n times at the most, and says what
// had the focus, until it comes round or leaves the page.
func (p *Page) Walk(n int) []string {
	p.tb.Helper()
	Eval[bool](p, "(() => { const b = document.body; b.tabIndex = -1; b.focus(); b.removeAttribute('tabindex'); scrollTo(0, 0); window.walked = new Set(); return true; })()")
	var out []string
	for range n {
		p.do(chromedp.KeyEvent("\t"))
		at := Eval[string](p, `(() => { const e = document.activeElement; if (!e || e === document.body || window.walked.has(e)) return ''; window.walked.add(e); return e.tagName + ' ' + (e.innerText || e.getAttribute('aria-label') || e.name || e.id || '').trim().slice(0, 60); })()`)
		if at == "" {
			break
		}
		out = append(out, at)
	}
	return out
}

// Focus puts the focus on what css finds by pressing the tabulator, n times at the most;
// a test that cannot fails: nobody gets there with the keyboard.
func (p *Page) Focus(css string, n int) {
	p.tb.Helper()
	for range n {
		p.do(chromedp.KeyEvent("\t"))
		if Eval[bool](p, fmt.Sprintf("document.activeElement?.matches(%s) === true", quote(css))) {
			return
		}
	}
	p.tb.Fatalf("%s's browser at %s: the tabulator does not reach %s", p.name, p.where(), css)
}

// DeadLinks lists links of the page to this site that are answered with an error; sign-ins
// at providers, which no script may begin, are left out. Each
// address is asked for once in a page's life.
func (p *Page) DeadLinks() []string {
	p.tb.Helper()
	var out []string
	for _, at := range Eval[[]string](p, `[...new Set([...document.querySelectorAll('a[href]')].filter(e => e.origin === location.origin && e.pathname + e.search !== location.pathname + location.search && !e.hasAttribute('download') && !e.pathname.startsWith('/console/login/')).map(e => e.pathname + e.search))]`) {
		if p.asked[at] {
			continue
		}
		if p.asked == nil {
			p.asked = map[string]bool{}
		}
		p.asked[at] = true
		if status := Eval[int](p, "fetch("+quote(at)+", {redirect: 'manual'}).then(async r => { await r.body?.cancel(); return r.type === 'opaqueredirect' ? 300 : r.status; })"); status >= 400 {
			out = append(out, fmt.Sprintf("%s: %d", at, status))
		}
	}
	return out
}
