package charter

import (
	"fmt"
	"strings"
	"time"
)

// MaxDuration is the longest Duration.
const MaxDuration = Duration(366 * 24 * time.Hour)

// String is the one written form: hours, minutes and seconds without parts that
// are zero: "72h", "1h30m", "90s" is "1m30s".
func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// MarshalText is String.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what time.ParseDuration does, from one second to
// MaxDuration in whole seconds. (A charter's statement has String's form only:
// Decode compares.)
func (d *Duration) UnmarshalText(b []byte) error {
	if len(b) > 32 {
		return fmt.Errorf("charter: duration %.32q…: want hours, minutes and seconds, like 72h or 1h30m", b)
	}
	t, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("charter: duration %q: want hours, minutes and seconds, like 72h or 1h30m", b)
	}
	if t < time.Second || t > time.Duration(MaxDuration) || t%time.Second != 0 {
		return fmt.Errorf("charter: duration %q: want whole seconds, from 1s to %s", b, MaxDuration)
	}
	*d = Duration(t)
	return nil
}

// Or is d, or the default where d is zero.
func (d Duration) Or(otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return time.Duration(d)
}
