package notify

import (
	"embed"
	"encoding/json/v2"
	"fmt"
	"html/template"
	"strings"
	"time"
)

// The events that only people and channels are told of.
const (
	Unreachable Event = "request.unreachable" // its quorum cannot be reached as things stand
	Escalated   Event = "request.escalated"   // still waits: others are told
	Proposed    Event = "charter.proposed"    // somebody asks for another charter
	Digest      Event = "digest"              // what waits, at the times that a person has chosen
	Test        Event = "test"                // somebody tries whether messages reach him
)

// ChannelEvents lists the events that a channel may name.
func ChannelEvents() []Event { return append(Events(), Unreachable, Escalated, Proposed) }

// Item is one request in a message. Names and Reason are the requester's word.
type Item struct {
	Request   string    `json:"request"`
	Command   string    `json:"command"`
	Policy    string    `json:"policy,omitzero"`
	Key       string    `json:"key,omitzero"`
	Requester string    `json:"requester"`
	Count     int       `json:"count,omitzero"`
	Expires   time.Time `json:"expires,omitzero"`
	State     string    `json:"state,omitzero"`
	Names     []string  `json:"names,omitzero"`
	Reason    string    `json:"reason,omitzero"`
}

// Voice is what one endorser has said of a request. Comment is his word.
type Voice struct {
	Name    string `json:"name"`
	Verdict string `json:"verdict"`
	Comment string `json:"comment,omitzero"`
}

// Letter is a message to a person or a channel, before it has a form. All that is
// in it may be hostile but Event, Deployment, the times and what the charter has
// checked: commands, policies, keys and people's names.
type Letter struct {
	ID         string    `json:"id"` // hexadecimal; the same on every attempt and way
	Event      Event     `json:"event"`
	Deployment string    `json:"deployment"`
	Time       time.Time `json:"time"`
	To         string    `json:"to,omitzero"` // person
	Item       *Item     `json:"item,omitzero"`
	Detail     string    `json:"detail,omitzero"` // the server's words, with what endorsers wrote in them
	Voices     []Voice   `json:"voices,omitzero"`
	Awaits     []string  `json:"awaits,omitzero"`
	Waiting    []Item    `json:"waiting,omitzero"`  // digest: what waits for To
	Happened   []Item    `json:"happened,omitzero"` // digest: what became of others
	More       int       `json:"more,omitzero"`     // of Waiting, which are not listed
	Facts      []Fact    `json:"facts,omitzero"`    // of events that are about no request
}

// Fact is one line of an event that is about no request. Value may be hostile.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Encode writes a letter for the database.
func (l *Letter) Encode() ([]byte, error) { return json.Marshal(l, json.Deterministic(true)) }

// DecodeLetter reads what Encode writes.
func DecodeLetter(b []byte) (*Letter, error) {
	var l Letter
	if err := json.Unmarshal(b, &l, json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("notify: letter: %w", err)
	}
	return &l, nil
}

// headline says of an event what it is, in our words.
func (l *Letter) headline() string {
	switch l.Event {
	case Pending:
		return "endorsement wanted"
	case Reminder:
		return "still waits for endorsement"
	case Escalated:
		return "waits too long for endorsement"
	case Unreachable:
		return "cannot reach its quorum"
	case Proposed:
		return "another charter is proposed"
	case Executed:
		return "executed"
	case Disapproved:
		return "disapproved"
	case Failed:
		return "failed"
	case Expired:
		return "expired"
	case Cancelled:
		return "cancelled"
	case Rejected:
		return "an agent refused a job"
	case Untrusted:
		return "a protected record does not verify"
	case Test:
		return "test message"
	case Digest:
		switch n := len(l.Waiting) + l.More; n {
		case 0:
			return "what became of requests"
		case 1:
			return "1 request waits for you"
		default:
			return fmt.Sprintf("%d requests wait for you", n)
		}
	}
	return string(l.Event)
}

// what says what an item asks for: names that the charter has checked, and numbers.
func (i Item) what() string {
	s := i.Command
	switch {
	case i.Policy != "":
		s += " under " + i.Policy
	case i.Key != "":
		s += " " + i.Key
	}
	if i.Count == 1 {
		s += ", 1 file"
	} else if i.Count > 1 {
		s += fmt.Sprintf(", %d files", i.Count)
	}
	return s
}

func (i Item) short() string { return i.Request[:min(12, len(i.Request))] }

// Subject is the subject of a mail. Nothing that a requester writes is in it.
func (l *Letter) Subject() string {
	s := "[" + Line(l.Deployment, maxName) + "] " + l.headline()
	if l.Item != nil {
		s += ": " + Line(l.Item.what(), maxName) + ", request " + l.Item.short()
	}
	return s
}

// Links says where things are; URL is the console's server, or empty.
type Links struct{ URL string }

func (k Links) request(id string) string {
	if k.URL == "" || id == "" {
		return ""
	}
	return strings.TrimSuffix(k.URL, "/") + "/console/requests/" + id
}

func (k Links) inbox() string {
	if k.URL == "" {
		return ""
	}
	return strings.TrimSuffix(k.URL, "/") + "/console/"
}

// row is one line of a message. Value is quoted already where it has to be.
type row struct {
	Name, Value, Link, Code string
}

// day writes a time for people anywhere.
func day(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// rows are the lines of a letter; quote quotes what others have written.
func (l *Letter) rows(k Links, quote func(string, int) string) []row {
	var out []row
	add := func(name, value string) {
		if value != "" {
			out = append(out, row{Name: name, Value: value})
		}
	}
	for _, f := range l.Facts {
		add(f.Name, quote(f.Value, maxReason))
	}
	i := l.Item
	if i == nil {
		return out
	}
	add("Request", i.short())
	add("Command", Line(i.what(), maxName))
	add("Requester", Line(i.Requester, maxName))
	if i.Reason != "" {
		add("Reason given", quote(i.Reason, maxReason))
	}
	for n, name := range i.Names {
		if n == maxNames {
			add("File, as named", fmt.Sprintf("and %d more", max(i.Count, len(i.Names))-maxNames))
			break
		}
		add("File, as named", quote(name, maxName))
	}
	for _, v := range l.Voices {
		s := Line(v.Name, maxName)
		if v.Comment != "" {
			s += ": " + quote(v.Comment, maxReason)
		}
		add(map[string]string{"endorse": "Endorsed by", "disapprove": "Disapproved by"}[v.Verdict], s)
	}
	if l.Detail != "" {
		add("Why", quote(l.Detail, maxReason))
	}
	if len(l.Awaits) > 0 {
		list := strings.Join(l.Awaits[:min(len(l.Awaits), 10)], ", ")
		if len(l.Awaits) > 10 {
			list += fmt.Sprintf(" and %d more", len(l.Awaits)-10)
		}
		add("Waits for", Line(list, maxReason))
	}
	switch l.Event {
	case Pending, Reminder, Escalated, Unreachable, Proposed:
		add("Expires", day(i.Expires))
	}
	if link := k.request(i.Request); link != "" {
		out = append(out, row{Name: "In the console", Link: link})
	}
	out = append(out, row{Name: "Command line", Code: "greatseal request show " + i.short()})
	return out
}

// list are the requests of a digest.
func (l *Letter) list(k Links, items []Item, quote func(string, int) string) []row {
	var out []row
	for _, i := range items {
		v := Line(i.what(), maxName) + ", by " + Line(i.Requester, maxName)
		if i.Reason != "" {
			v += ", reason given: " + quote(i.Reason, maxName)
		}
		if i.State != "" && i.State != "pending" {
			v += ": " + Line(i.State, maxName)
		} else if !i.Expires.IsZero() {
			v += ", until " + day(i.Expires)
		}
		out = append(out, row{Name: i.short(), Value: v, Link: k.request(i.Request)})
	}
	return out
}

const footer = "Nobody can endorse with this message: endorsements are signed with your own key, after you have looked at the request."

// Text is a letter as plain text.
func (l *Letter) Text(k Links) string { return l.text(k, Quote) }

func (l *Letter) text(k Links, quote func(string, int) string) string {
	var b strings.Builder
	write := func(rows []row) {
		for _, r := range rows {
			v := strings.TrimSpace(r.Value + " " + r.Link + r.Code)
			fmt.Fprintf(&b, "%s: %s\n", r.Name, v)
		}
	}
	fmt.Fprintf(&b, "%s: %s\n", Line(l.Deployment, maxName), l.headline())
	write(l.rows(k, quote))
	if l.Event == Digest {
		if len(l.Waiting) > 0 {
			b.WriteString("\nWaits for your endorsement:\n")
			write(l.list(k, l.Waiting, quote))
			if l.More > 0 {
				fmt.Fprintf(&b, "and %d more\n", l.More)
			}
		}
		if len(l.Happened) > 0 {
			b.WriteString("\nWhat became of requests:\n")
			write(l.list(k, l.Happened, quote))
		}
		if link := k.inbox(); link != "" {
			fmt.Fprintf(&b, "\nInbox: %s\n", link)
		}
		b.WriteString("Command line: greatseal inbox\n")
	}
	return b.String()
}

// Chat is a letter as a chat service shows it: text without markup.
func (l *Letter) Chat(k Links) string { return strings.TrimSuffix(l.text(k, ChatQuote), "\n") }

//go:embed letter.html
var letterHTML embed.FS

// HTML is a letter as a small page.
func (l *Letter) HTML(k Links) (string, error) {
	t, err := template.ParseFS(letterHTML, "letter.html")
	if err != nil {
		return "", fmt.Errorf("notify: letter: %w", err)
	}
	data := struct {
		Deployment, Headline, Footer, Inbox string
		Rows, Waiting, Happened             []row
		More                                int
		Digest                              bool
	}{Line(l.Deployment, maxName), l.headline(), footer, k.inbox(), l.rows(k, Quote), l.list(k, l.Waiting, Quote), l.list(k, l.Happened, Quote), l.More, l.Event == Digest}
	var b strings.Builder
	if err := t.Execute(&b, data); err != nil {
		return "", fmt.Errorf("notify: letter: %w", err)
	}
	return b.String(), nil
}
