package opc

import (
	"errors"
	"strings"
	"testing"
)

func TestScanner(t *testing.T) {
	x, err := New("text", []byte("\ufeff<?xml version='1.0'?><!-- a --><a b='&lt;&#x41;&#66;'>x<c/>y</a>\n"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for {
		tg, more, err := x.Next()
		if err != nil {
			t.Fatal(err)
		}
		if !more {
			break
		}
		s := tg.Name + tg.Get("b")
		if tg.Shut {
			s = "/" + s
		}
		got = append(got, x.Text+s+strings.Join(x.Open, ">"))
	}
	if s := strings.Join(got, " "); s != "a<ABa xca>c /ca y/a" {
		t.Error(s)
	}
}

func TestRefused(t *testing.T) {
	for _, s := range []string{
		"", " ", "x", "<a>", "<a", "<a></b>", "</a>", "<a/><b/>", "<a/>x", "<a b/>", "<a b=c/>", "<a b='c/>", "<a b='1' b='2'/>", "<a b='<'/>",
		"<a b='1'c='2'/>", "<a b='&c;'/>", "<a b='&'/>", "<a b='&#0;'/>", "<a b='&#xd800;'/>", "<!DOCTYPE a><a/>", "<a><?php ?></a>", "<a><!-- -- --></a>", "<a><![CDATA[</a>",
		"<?xml version='1.0' encoding='utf-16'?><a/>", "<?xml <a/>", "\xff<a/>", "<a>\x00</a>", "< a/>", strings.Repeat("<a>", 65) + strings.Repeat("</a>", 65),
	} {
		x, err := New("text", []byte(s))
		for err == nil {
			more := false
			if _, more, err = x.Next(); err == nil && !more {
				t.Errorf("%q is read", s)
				break
			}
		}
		if err != nil && !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func FuzzXML(f *testing.F) {
	for _, s := range []string{`<?xml version="1.0" encoding="UTF-8"?><Types><Default A="b"/></Types>`, `<a b='&#x41;&#66;'><![CDATA[<]]><!-- c --></a>`, "\ufeff<a/>", `<a><b></a></b>`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := New("text", b)
		if err != nil {
			return
		}
		begun, ended := 0, 0
		for {
			tg, more, err := x.Next()
			if err != nil {
				return
			}
			if !more {
				break
			}
			if tg.Shut {
				ended++
			} else {
				begun++
			}
		}
		if begun == 0 || begun != ended {
			t.Errorf("%d elements begin and %d end", begun, ended)
		}
	})
}
