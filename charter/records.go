package charter

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/record"
)

// MaxConfigurations is the number of configurations of one charter.
const MaxConfigurations = 1_000

// records checks the section on records, and the policies that are for it. A
// condition is held to its length and its characters alone: the keeper evaluates
// no expressions.
func (k *checker) records() {
	r := k.c.Records
	if r == nil {
		return
	}
	k.name("records.instance", "instance", r.Instance)
	if k.limit("records.configurations", len(r.Configurations), MaxConfigurations) {
		if r.Configurations != nil && len(r.Configurations) == 0 {
			k.add("records.configurations", "is empty: leave it out")
		}
		for _, id := range sorted(r.Configurations) {
			c, at := r.Configurations[id], "records.configurations."+id
			if err := c.Check(id); err != nil {
				k.add(at, "%v", err)
			}
			for _, s := range slices.Concat([]string{c.Table, c.Purpose, c.Condition}, c.Fields, c.Parameters) {
				if strings.ContainsFunc(s, format.Turns) {
					k.add(at, "holds a line end, a control character or one that changes the direction of text")
					break
				}
			}
		}
	}
	for _, n := range sorted(k.c.Policies) {
		p := k.c.Policies[n]
		if slices.Contains(p.Purposes, record.Circle) && p.Rule.Quorum == nil {
			k.add("policies."+n+".rule", "is unattended: what is signed for %s changes trust and needs a quorum", record.Circle)
		}
	}
}

func canonicalConfiguration(c record.Configuration) record.Configuration {
	c.Fields = set(c.Fields)
	c.Parameters = set(c.Parameters)
	return c
}

// records warns of a section that no version of a circle can follow from, and of
// policies that change trust and more.
func (l *linter) records() {
	if l.c.Records == nil {
		return
	}
	found := false
	for _, n := range sorted(l.c.Policies) {
		p := l.c.Policies[n]
		if !slices.Contains(p.Purposes, record.Circle) {
			continue
		}
		found = found || slices.Contains(p.Formats, "circle")
		if len(p.Purposes) > 1 || len(p.Formats) > 1 {
			l.add("policies."+n, "circle-and-more", "changes trust and signs other things too: give "+record.Circle+" a policy of its own")
		}
	}
	if !found {
		l.add("records", "no-circle", "no policy signs the format circle for "+record.Circle+": enforcement, anchors and revocations cannot be published")
	}
}

// records compares the sections on records. Less that is signed is weaker; another
// condition or table may be either.
func (d *differ) records(a, b *Records) {
	if a == nil {
		a = &Records{}
	}
	if b == nil {
		b = &Records{}
	}
	d.value("records.instance", a.Instance, b.Instance, Trust)
	diffMap(d, "records.configurations.", a.Configurations, b.Configurations, configuration, d.configuration, Stronger, Weaker)
}

func (d *differ) configuration(at string, a, b record.Configuration) {
	d.value(at+".version", fmt.Sprint(a.Version), fmt.Sprint(b.Version), "")
	d.value(at+".table", a.Table, b.Table, "")
	d.value(at+".purpose", a.Purpose, b.Purpose, "")
	switch {
	case a.Condition == b.Condition:
	case a.Condition == "":
		d.add(Change{at + ".condition", "", b.Condition, Weaker, "now only records where " + b.Condition})
	case b.Condition == "":
		d.add(Change{at + ".condition", a.Condition, "", Stronger, "now every record; was those where " + a.Condition})
	default:
		d.value(at+".condition", a.Condition, b.Condition, "")
	}
	d.set(at+".fields", a.Fields, b.Fields, Stronger, Weaker)
	if a.Attachments != b.Attachments {
		e := Weaker
		if b.Attachments {
			e = Stronger
		}
		d.value(at+".attachments", fmt.Sprint(a.Attachments), fmt.Sprint(b.Attachments), e)
	}
	d.set(at+".parameters", a.Parameters, b.Parameters, Weaker, Stronger)
}

// configuration is one for people: "sys_data_source for ecc_queue: name, url; with
// attachments; where active == 'true'".
func configuration(c record.Configuration) string {
	s := fmt.Sprintf("%s for %s: %s", c.Table, c.Purpose, cmp.Or(strings.Join(c.Fields, ", "), "no field"))
	if c.Attachments {
		s += "; with attachments"
	}
	if len(c.Parameters) > 0 {
		s += "; parameters " + strings.Join(c.Parameters, ", ")
	}
	if c.Condition != "" {
		s += "; where " + c.Condition
	}
	return s
}
