package rules

import (
	"encoding/binary"
	"fmt"
	"os"
)

// Where a PE image has its flags (PE Format, "DOS header", "COFF header", "Optional
// header": DllCharacteristics is at the same place in PE32 and PE32+).
const (
	newHeaderAt = 0x3c
	flagsAt     = 4 + 20 + 70 // from the signature "PE\0\0" on
)

var dllCharacteristics = [...]struct {
	bit  uint16
	name string
}{
	{0x0020, "high_entropy"},
	{0x0040, "aslr"},
	{0x0080, "force_integrity"},
	{0x0100, "dep"},
	{0x0400, "no_seh"},
	{0x1000, "appcontainer"},
	{0x4000, "cfg"},
}

// hardening reads the flags of a PE image. Its headers have been checked: its plan was
// made from the same bytes. Only two numbers of it are read here.
func hardening(path string) (map[string]bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("gate: rules: %w", err)
	}
	defer f.Close()
	var b [4]byte
	if _, err := f.ReadAt(b[:], newHeaderAt); err != nil {
		return nil, fmt.Errorf("gate: rules: %w", err)
	}
	at := int64(binary.LittleEndian.Uint32(b[:]))
	if _, err := f.ReadAt(b[:2], at+flagsAt); err != nil {
		return nil, fmt.Errorf("gate: rules: %w", err)
	}
	flags := binary.LittleEndian.Uint16(b[:])
	out := map[string]bool{}
	for _, c := range dllCharacteristics {
		out[c.name] = flags&c.bit != 0
	}
	return out, nil
}
