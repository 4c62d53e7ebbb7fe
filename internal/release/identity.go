package release

import (
	"path"
	"strings"

	"github.com/greatseal-io/greatseal/internal/server"
)

// fact is the first value of a fact, or "".
func fact(f *server.FileView, name string) string {
	for i := range f.Facts {
		if f.Facts[i].Name == name {
			return f.Facts[i].Value
		}
	}
	return ""
}

// Fold is a name with its version numbers folded: app-1.2.3-x64.exe is app-#-x64.exe.
// Numbers that are no version (x64, sha256) are left as they are: they tell files apart.
func Fold(name string) string {
	var b strings.Builder
	for i := 0; i < len(name); {
		c := name[i]
		if !isDigit(c) {
			b.WriteByte(c)
			i++
			continue
		}
		// A run of numbers with dots, then what semver allows behind a sign.
		end, dots := i, 0
		for end < len(name) {
			n := span(name[end:], isDigit)
			end += n
			if n > 0 && end+1 < len(name) && (name[end] == '.' || name[end] == '~' || name[end] == '+') && isDigit(name[end+1]) {
				dots++
				end++
				continue
			}
			break
		}
		number := name[i:end]
		alone := (i == 0 || !isLetter(name[i-1]) || name[i-1] == 'v' && (i == 1 || !isLetter(name[i-2]))) && (end == len(name) || !isLetter(name[end]))
		switch {
		case dots > 0 || alone && number != "32" && number != "64" && number != "86":
			b.WriteByte('#')
			if dots > 0 { // 1.2.3-rc.1, 1.2.3~beta2
				for _, pre := range []string{"rc", "beta", "alpha", "pre", "dev", "preview"} {
					rest := name[end:]
					if len(rest) > 1 && strings.IndexByte("-.~_", rest[0]) >= 0 && strings.HasPrefix(rest[1:], pre) {
						n := 1 + len(pre)
						n += span(rest[n:], func(c byte) bool { return isDigit(c) })
						if n+1 < len(rest) && rest[n] == '.' && isDigit(rest[n+1]) {
							n += 1 + span(rest[n+1:], isDigit)
						}
						end += n
						break
					}
				}
			}
		default:
			b.WriteString(number)
		}
		i = end
	}
	return b.String()
}

// identityFacts say which product a file is, whatever it is called.
var identityFacts = [][]string{
	{"identifier"}, {"package"}, {"id"}, {"upgrade-code"}, {"product-name", "original-filename"}, {"name"}, {"bundle"}, {"title"},
}

// Identity is the product that a file says it is, with what tells it from the same
// product for another machine, or "".
func Identity(f *server.FileView) string {
	for _, names := range identityFacts {
		parts := []string{f.Format}
		for _, n := range names {
			if v := fact(f, n); v != "" {
				parts = append(parts, n+"="+Fold(v))
			}
		}
		if len(parts) != 1+len(names) {
			continue
		}
		return strings.Join(append(parts, fact(f, "machine"), fact(f, "arch"), fact(f, "architecture"), fact(f, "template")), "\x00")
	}
	return ""
}

// base is the last part of a path of any system.
func base(name string) string { return path.Base(strings.ReplaceAll(name, `\`, "/")) }

// pair finds for each of now the file of old that it follows, -1 for none: by its name,
// by its name without versions, by what it says it is, by the last part of its name, by
// its content. No file is followed twice. The time is linear in both.
func pair(old, now []server.FileView) []int {
	out := make([]int, len(now))
	for i := range out {
		out[i] = -1
	}
	taken := make([]bool, len(old))
	left := len(now)
	for _, key := range []func(*server.FileView) string{
		func(f *server.FileView) string { return f.Name },
		func(f *server.FileView) string { return Fold(f.Name) },
		Identity,
		func(f *server.FileView) string { return f.Format + "\x00" + Fold(base(f.Name)) },
		func(f *server.FileView) string { return f.Format + "\x00" + f.Content },
	} {
		if left == 0 {
			break
		}
		queues := make(map[string][]int, len(old))
		for i := range old {
			if !taken[i] {
				if k := key(&old[i]); k != "" {
					queues[k] = append(queues[k], i)
				}
			}
		}
		if len(queues) == 0 {
			break
		}
		for i := range now {
			if out[i] >= 0 {
				continue
			}
			k := key(&now[i])
			if q := queues[k]; k != "" && len(q) > 0 {
				out[i], queues[k] = q[0], q[1:]
				taken[q[0]] = true
				left--
			}
		}
	}
	return out
}
