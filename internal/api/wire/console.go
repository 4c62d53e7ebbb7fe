package wire

import "time"

// ConsoleLink signs its owner in to the console, once and within a minute.
type ConsoleLink struct {
	URL     string    `json:"url"` // of the page that takes the code, without it
	Code    string    `json:"code"`
	Expires time.Time `json:"expires"`
}

// ConsoleSession is a browser that somebody signed in with.
type ConsoleSession struct {
	ID      string    `json:"id"`
	Person  string    `json:"person"`
	Via     string    `json:"via"` // oidc, passkey, link
	Agent   string    `json:"agent,omitzero"`
	Created time.Time `json:"created"`
	Seen    time.Time `json:"seen"`
	Expires time.Time `json:"expires"`
}

// ConsoleSessions lists sessions of the console.
type ConsoleSessions struct {
	Sessions []ConsoleSession `json:"sessions"`
}
