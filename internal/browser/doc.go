// Package browser is a suite: the console before a real Chromium, with a real OpenID
// provider (Dex), passkeys in a virtual authenticator, and "greatseal" as processes of
// their own. It has tests alone.
//
// The pages of a protected instance are those of the one that "greatseal demo" leaves, to
// somebody whose browser has a client certificate. Every page that the console has is
// looked at, or the suite says why not.
//
// What they show is written to the folder "screens" at the root: every page in light and
// dark, 1440 and 390 pixels wide.
package browser
