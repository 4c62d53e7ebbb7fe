package msi

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/format/cfb"
)

// detailNames are the details of an installer, in order.
var detailNames = []string{"template", "custom-action", "binary", "cabinet", "service", "tables"}

// database is the strings of an installer's tables.
type database struct {
	m    *installer
	strs []string
	wide bool // references to strings have three bytes
}

func (m *installer) database(ctx context.Context) *database {
	d := &database{m: m}
	d.strs, d.wide = m.strings(ctx)
	return d
}

// table is a table: its columns stand one after the other, each whole.
type table struct {
	d     *database
	b     []byte
	rows  int
	begin []int // of each column
}

// table reads a table whose columns begin with these kinds: s a string, 2 and 4
// integers of so many bytes. What follows them must be of kinds 2 or 4, as the table of
// columns has it; a table that is not of such columns has no rows.
func (d *database) table(ctx context.Context, name, kinds string) *table {
	t := &table{d: d, b: d.m.small(ctx, tableName(name))}
	row := 0
	var widths []int
	for _, k := range kinds {
		w := int(k - '0')
		if k == 's' {
			w = 2
			if d.wide {
				w = 3
			}
		}
		widths = append(widths, w)
		row += w
	}
	if len(t.b) == 0 || len(t.b)%row != 0 || len(d.strs) == 0 {
		return t
	}
	t.rows = len(t.b) / row
	at := 0
	for _, w := range widths {
		t.begin = append(t.begin, at)
		at += w * t.rows
	}
	return t
}

func (t *table) text(row, column int) string {
	at := t.begin[column] + 2*row
	if t.d.wide {
		at += row
	}
	n := int(binary.LittleEndian.Uint16(t.b[at:]))
	if t.d.wide {
		n |= int(t.b[at+2]) << 16
	}
	if n >= len(t.d.strs) {
		return ""
	}
	return t.d.strs[n]
}

// number is a value of two bytes.
func (t *table) number(row, column int) int {
	return int(binary.LittleEndian.Uint16(t.b[t.begin[column]+2*row:])) ^ 0x8000
}

// columns counts those of each table.
func (d *database) columns(ctx context.Context) map[string]int {
	out := map[string]int{}
	t := d.table(ctx, "_Columns", "s2s2")
	for r := range t.rows {
		out[t.text(r, 0)]++
	}
	return out
}

// actionKinds are what custom actions do, by the lowest six bits of their type.
var actionKinds = map[int]string{
	1: "DLL in the package", 2: "program in the package", 5: "JScript in the package", 6: "VBScript in the package", 7: "installs a package",
	17: "DLL that is installed", 18: "program that is installed", 19: "stops with a message", 21: "JScript that is installed",
	22: "VBScript that is installed", 23: "installs a package", 34: "program in a folder", 35: "sets a folder", 37: "JScript in the table",
	38: "VBScript in the table", 39: "installs a package", 50: "program that a property names", 51: "sets a property",
	53: "JScript in a property", 54: "VBScript in a property",
}

// actionText says what a custom action is: name, what runs, and as whom.
func actionText(name string, typ int, source, target string) string {
	kind, ok := actionKinds[typ&0x3f]
	if !ok {
		kind = fmt.Sprintf("of kind %d", typ&0x3f)
	}
	s := fmt.Sprintf("%s: %s, type %d", name, kind, typ)
	if typ&0x400 != 0 {
		s += ", deferred"
		if typ&0x800 != 0 {
			s += ", as the system"
		}
	}
	if source != "" {
		s += ", " + source
	}
	if len(target) > 64 {
		target = format.Visible(target, 64)
	}
	if target != "" {
		s += " (" + target + ")"
	}
	return s
}

// details are what an installer runs and holds. What is broken gives none.
func (m *installer) details(ctx context.Context, before int) []format.Fact {
	out := format.NewDetails(before)
	out.Say("template", m.summary(ctx)["template"])
	d := m.database(ctx)
	kinds, columns := "s2ss", d.columns(ctx)
	if columns["CustomAction"] == 5 {
		kinds += "4"
	}
	var actions []string
	t := d.table(ctx, "CustomAction", kinds)
	for r := range t.rows {
		actions = append(actions, actionText(t.text(r, 0), t.number(r, 1), t.text(r, 2), t.text(r, 3)))
	}
	out.List("custom-action", 64, actions)
	var binaries, cabinets, tables []string
	for _, i := range m.c.Entry(0).Children {
		e := m.c.Entry(i)
		if e.Type != cfb.Stream || m.isSignature(i) {
			continue
		}
		switch name := streamName(e.Text()); {
		case strings.HasPrefix(name, "!"):
			tables = append(tables, name[1:])
		case strings.HasPrefix(e.Text(), "\x05"), strings.HasPrefix(name, "Icon."):
		case strings.HasPrefix(name, "Binary."):
			binaries = append(binaries, strings.TrimPrefix(name, "Binary."))
		default:
			cabinets = append(cabinets, fmt.Sprintf("%s, %d bytes", name, e.Size))
		}
	}
	out.List("binary", 32, binaries)
	out.List("cabinet", 32, cabinets)
	if columns["ServiceInstall"] > 0 {
		// ServiceInstall begins with its key and the service's name.
		t := d.table(ctx, "ServiceInstall", "sss444sssssss")
		var services []string
		for r := range t.rows {
			services = append(services, t.text(r, 1))
		}
		out.List("service", 32, services)
	}
	out.Count("tables", tables)
	return out.Facts()
}
