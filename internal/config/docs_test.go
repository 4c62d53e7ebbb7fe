package config

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// TestDocumented: every field of a configuration stands in its page.
func TestDocumented(t *testing.T) {
	for page, v := range map[string]any{"server.md": Server{}, "keeper.md": KeeperServer{}, "clients.md": Client{}} {
		b, err := os.ReadFile("../../docs/operate/" + page)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		fields(reflect.TypeOf(v), func(name string) {
			n++
			if !regexp.MustCompile("`[^`\n]*\\b" + name + "\\b[^`\n]*`").Match(b) {
				t.Errorf("%s says nothing about %s", page, name)
			}
		})
		if n < 7 {
			t.Errorf("%s: %d fields", page, n)
		}
	}
}

func fields(x reflect.Type, f func(name string)) {
	for x.Kind() == reflect.Pointer || x.Kind() == reflect.Slice {
		x = x.Elem()
	}
	if x.Kind() != reflect.Struct {
		return
	}
	for i := range x.NumField() {
		name, _, _ := strings.Cut(x.Field(i).Tag.Get("yaml"), ",")
		if name == "" && !x.Field(i).Anonymous {
			continue
		}
		if name != "" {
			f(name)
		}
		fields(x.Field(i).Type, f)
	}
}
