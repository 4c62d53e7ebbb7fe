package record

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/greatseal-io/greatseal/statement"
)

// Limits of what is made and read.
const (
	MaxFields       = 512      // of a configuration
	MaxAttachments  = 1024     // of a record
	MaxName         = 128      // bytes of a table's, field's or parameter's name
	MaxFileName     = 1024     // bytes of an attachment's name
	MaxKey          = 16       // values of a primary key
	MaxKeyValue     = 1024     // bytes of one value of it
	MaxValue        = 64 << 20 // bytes of a field's value
	MaxAudience     = 64       // instances
	MaxPurposes     = 64       // of a job
	MaxTables       = 1024     // of a job
	MaxConfigs      = 1024     // of a job
	MaxStatement    = 2 << 20  // bytes of a statement
	MaxJob          = 1 << 20  // bytes of a job
	MaxRoot         = 2 << 20  // bytes of a signed root
	MaxCertificates = 8        // of a signed root
	MaxSignatures   = 64       // of a record; a record with more is refused
	maxCertificate  = 32 << 10
	maxSignature    = 8 << 10
	maxToken        = 64 << 10
	maxCondition    = 4096
	maxPath         = 41 * 32
	maxSeconds      = 253402300799 // the end of the year 9999
)

// ErrMalformed is wrapped by errors about statements, jobs, configurations and
// references that are not as docs/spec/records.md has them.
var ErrMalformed = errors.New("record: malformed")

func malformed(f string, a ...any) error {
	return fmt.Errorf("%w: "+f, append([]any{ErrMalformed}, a...)...)
}

func validUTF8(s string) bool { return utf8.ValidString(s) }

// checkText refuses what is no name of a table, field or parameter: names of
// platforms are free, but for what would pass for another one where it is shown.
func checkText(what, s string) error {
	if s == "" || len(s) > MaxName || !plain(s) {
		return malformed("name of a %s: want 1 to %d bytes of printable UTF-8", what, MaxName)
	}
	return nil
}

func plain(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] >= 0x7f { // rare: judge it by its characters
			return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
				return !unicode.IsGraphic(r) || unicode.Is(unicode.Bidi_Control, r) || r == 0x2028 || r == 0x2029
			})
		}
	}
	return true
}

// checkWord refuses what is no instance, purpose or configuration.
func checkWord(what, s string) error {
	if err := statement.CheckName(what, s); err != nil {
		return malformed("%s %.80q: want 1 to 64 of a-z 0-9 . _ -, beginning with a letter or digit", what, s)
	}
	return nil
}

// checkSorted refuses names that are out of order or stand twice.
func checkSorted(what string, list []string, limit int, check func(what, s string) error) error {
	if len(list) > limit {
		return malformed("%d times a %s: at most %d", len(list), what, limit)
	}
	for i, s := range list {
		if err := check(what, s); err != nil {
			return err
		}
		if i > 0 && list[i-1] >= s {
			return malformed("%s %.80q is out of order or stands twice", what, s)
		}
	}
	return nil
}
