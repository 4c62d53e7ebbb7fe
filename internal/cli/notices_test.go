package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/greatseal-io/greatseal/internal/api/wire"
)

// Who was told when, in a line: each once, what failed counted, and nothing that a
// terminal would obey.
func TestToldSummary(t *testing.T) {
	at := time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)
	list := []wire.Told{
		{Event: "request.pending", Recipient: "bob", Way: "mail", State: "sent", Updated: at},
		{Event: "request.pending", Way: "channel:ops\x1b[2J", State: "sent", Updated: at},
		{Event: "request.pending", Recipient: "carol", Way: "mail", State: "failed", Error: "refused", Updated: at},
		{Event: "request.reminder", Recipient: "bob", Way: "mail", State: "sent", Updated: at.Add(time.Hour)},
		{Event: "request.reminder", Recipient: "dave", Way: "digest", State: "held", Updated: at},
	}
	s := toldSummary(list)
	if strings.Count(s, "bob") != 1 || !strings.Contains(s, "bob "+when(at.Add(time.Hour))) || !strings.Contains(s, "1 could not be told") || strings.ContainsAny(s, "\x1b\n") || strings.Contains(s, "dave") {
		t.Errorf("%q", s)
	}
	if s := toldSummary(nil); s != "" {
		t.Errorf("nobody: %q", s)
	}
	if s := toldSummary(list[2:3]); !strings.HasPrefix(s, "1 could not") {
		t.Errorf("%q", s)
	}
	if s := toldLine(list[2]); !strings.Contains(s, "carol by mail: failed (refused)") {
		t.Errorf("%q", s)
	}
}
