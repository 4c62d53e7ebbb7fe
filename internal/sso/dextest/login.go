package dextest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
)

var formAction = regexp.MustCompile(`<form method="post" action="([^"]*)"`)

// LogIn goes where a login begins at Dex, fills in its form as one of the users does,
// and returns the address to which Dex sends the browser back.
func (d *Dex) LogIn(ctx context.Context, start, user string) (*url.URL, error) {
	u, ok := d.Users[user]
	if !ok {
		return nil, fmt.Errorf("dextest: no user %s", user)
	}
	return d.LogInAs(ctx, start, u.Email, Password)
}

// LogInAs is LogIn with an address and a password.
func (d *Dex) LogInAs(ctx context.Context, start, email, password string) (*url.URL, error) {
	client := d.HTTPClient()
	defer client.CloseIdleConnections()
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	client.Jar = jar
	issuer, err := url.Parse(d.Issuer)
	if err != nil {
		return nil, err
	}
	var back *url.URL
	client.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
		if r.URL.Host != issuer.Host {
			back = r.URL
			return http.ErrUseLastResponse
		}
		return nil
	}
	call := func(method, to string, form url.Values) (string, *url.URL, error) {
		req, err := http.NewRequestWithContext(ctx, method, to, strings.NewReader(form.Encode()))
		if err != nil {
			return "", nil, err
		}
		if form != nil {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		resp, err := client.Do(req)
		if err != nil {
			return "", nil, err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		return string(b), resp.Request.URL, err
	}
	page, at, err := call(http.MethodGet, start, nil)
	if err != nil || back != nil {
		return back, err
	}
	m := formAction.FindStringSubmatch(page)
	if m == nil {
		return nil, fmt.Errorf("dextest: no form at %s: %.300s", at, page)
	}
	post, err := at.Parse(strings.ReplaceAll(m[1], "&amp;", "&"))
	if err != nil {
		return nil, err
	}
	page, at, err = call(http.MethodPost, post.String(), url.Values{"login": {email}, "password": {password}})
	if err == nil && back == nil {
		err = fmt.Errorf("dextest: %s does not let %s in: %.300s", at.Path, email, page)
	}
	return back, err
}
