package wire

import "time"

// NoticePreferences are how somebody wants to be told.
type NoticePreferences struct {
	Deliver   string   `json:"deliver" doc:"immediate, hourly or daily"`
	At        string   `json:"at" doc:"HH:MM of daily, in zone"`
	Zone      string   `json:"zone" doc:"as Europe/Berlin"`
	QuietFrom string   `json:"quietFrom,omitempty" doc:"HH:MM; with quietTo, or both empty"`
	QuietTo   string   `json:"quietTo,omitempty"`
	Ways      []string `json:"ways,omitempty" doc:"mail, chat; none: all that there are"`
	Outcomes  bool     `json:"outcomes,omitempty" doc:"also what became of requests that one has endorsed or disapproved"`
}

// NoticeSettings are somebody's preferences, and what follows from them.
type NoticeSettings struct {
	NoticePreferences
	Set     bool     `json:"set,omitempty"`     // they are the person's own, not the deployment's defaults
	Reached []string `json:"reached,omitempty"` // ways on which the person is reached now
}

// NoticeTest says on which ways a test message was sent.
type NoticeTest struct {
	Ways []string `json:"ways"`
}

// Told is one message about a request to one recipient.
type Told struct {
	Event     string    `json:"event"`
	Recipient string    `json:"recipient,omitempty"` // person
	Way       string    `json:"way"`                 // "mail", "chat", "channel:NAME", "digest"
	State     string    `json:"state"`
	Attempts  int       `json:"attempts,omitempty"`
	Error     string    `json:"error,omitempty"`
	Created   time.Time `json:"created"`
	Updated   time.Time `json:"updated"`
}

// ToldList is who was told about a request.
type ToldList struct {
	Notices []Told `json:"notices"`
}
