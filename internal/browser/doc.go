// Package browser is a suite: the console before a real Chromium, with a real OpenID
// provider (Dex), passkeys in a virtual authenticator, and "greatseal" as processes of
// their own. It has tests alone.
//
// What they show is written to the folder "screens" at the root: every page in light and
// dark, 1440 and 390 pixels wide.
package browser
