package cli

import (
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/greatseal-io/greatseal/format/oci"
)

// What image sign passes on arrives as it was, whatever an image's configuration holds.
func TestImageParams(t *testing.T) {
	for name, config := range map[string]string{
		"none": "", "no equals sign": `{"os":"linux"}`, "one": `{"Env":["A=b"]}`, "several": `{"Env":["A=b","C=d,e=\"f\""]}`, "lines": "{\n \"os\": \"linux\"\r\n}\n", "quotes": `"""`, "odd": "\u2028=,\x00\x7f'",
	} {
		var b []byte
		if config != "" {
			b = []byte(config)
		}
		text, err := imageParams("cosign", b)
		if err != nil {
			t.Fatal(err)
		}
		f := pflag.NewFlagSet("sign", pflag.ContinueOnError)
		got := map[string]string{}
		f.StringToStringVar(&got, "param", nil, "")
		if err := f.Parse([]string{"--param", text}); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := ""
		if b != nil {
			if want, err = oci.ConfigOption(b); err != nil {
				t.Fatal(err)
			}
		}
		if got["form"] != "cosign" || got["config"] != want || strings.Contains(text, "\n") {
			t.Errorf("%s: %q", name, got)
		}
	}
}
