package pe

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/authenticode"
)

// The facts of a plan, in their order: three of the headers (kindFacts), those of
// the version resource that are there, those of an EFI image's sections, how many signatures the file has, and the
// signer of each; then the details. Nothing but the first three follows from the body, and no
// signature covers any: they are the word of whoever made the plan until somebody
// makes it anew from the bytes.

// versionNames are the strings of a VERSIONINFO that become facts, in order.
var versionNames = [...]struct{ key, fact string }{
	{"ProductName", "product-name"},
	{"ProductVersion", "product-version"},
	{"FileVersion", "file-version"},
	{"FileDescription", "file-description"},
	{"CompanyName", "company-name"},
	{"OriginalFilename", "original-filename"},
}

// checkFacts says what is wrong with facts that no Plan makes of an image with
// this body, or "".
func (b *body) checkFacts(facts []format.Fact, params format.Params) string {
	facts, err := format.CutDetails(facts, detailNames...)
	if err != nil {
		return err.Error()
	}
	for _, k := range kindFacts(b.Magic, b.Machine, b.Subsystem, b.DLL) {
		if len(facts) == 0 || facts[0] != k {
			return "the first facts are not about an image like this"
		}
		facts = facts[1:]
	}
	for _, n := range versionNames {
		if len(facts) == 0 || facts[0].Name != n.fact {
			continue
		}
		if v := facts[0].Value; v == "" || authenticode.PlainText(v) != v || utf8.RuneCountInString(v) > maxVersionText {
			return "fact " + n.fact + " is not in its form"
		}
		facts = facts[1:]
	}
	facts, why := checkSectionFacts(facts, b.efi())
	if why != "" {
		return why
	}
	if len(facts) == 0 || facts[0].Name != authenticode.FactSignatures {
		return "a fact is unknown, stands twice or is out of order"
	}
	n, err := strconv.Atoi(facts[0].Value)
	switch {
	case b.TableSize == 0 && facts[0].Value != "0":
		return "facts tell of signatures, and there is no certificate table"
	case facts[0].Value == authenticode.Unreadable && params["existing"] == "replace":
		n = 0
	case err != nil || strconv.Itoa(n) != facts[0].Value || b.TableSize > 0 && n < 1 || n > maxEntries+authenticode.MaxNested:
		return "number of signatures is not in its form"
	}
	signers := facts[1:]
	if len(signers) != n {
		return "facts tell of " + strconv.Itoa(len(signers)) + " signers and " + strconv.Itoa(n) + " signatures"
	}
	for _, s := range signers {
		if s.Name != authenticode.FactSigner || s.Value == "" || strings.ContainsFunc(s.Value, func(r rune) bool { return !unicode.IsPrint(r) }) {
			return "a signer is not in its form"
		}
	}
	return ""
}
