package openpgp

import (
	"bytes"
	"encoding/base64"
)

// The kinds of armour.
const (
	ArmorSignature = "PGP SIGNATURE"
	ArmorPublicKey = "PGP PUBLIC KEY BLOCK"
)

const maxArmor = 4 << 20

// crc24 is the checksum of armour (RFC 9580 section 6.1.1). It protects nobody; a
// wrong one is a sign of damage and refused.
func crc24(b []byte) (crc uint32) {
	crc = 0xb704ce
	for _, c := range b {
		crc ^= uint32(c) << 16
		for range 8 {
			if crc <<= 1; crc&0x1000000 != 0 {
				crc ^= 0x1864cfb
			}
		}
	}
	return crc & 0xffffff
}

// Armor writes data in ASCII armour, without headers and with a checksum, which
// version 4 implementations want.
func Armor(kind string, data []byte) []byte {
	var b bytes.Buffer
	b.WriteString("-----BEGIN " + kind + "-----\n\n")
	text := base64.StdEncoding.AppendEncode(nil, data)
	for len(text) > 64 {
		b.Write(text[:64])
		b.WriteByte('\n')
		text = text[64:]
	}
	b.Write(text)
	c := crc24(data)
	b.WriteString("\n=" + base64.StdEncoding.EncodeToString([]byte{byte(c >> 16), byte(c >> 8), byte(c)}) + "\n-----END " + kind + "-----\n")
	return b.Bytes()
}

// Dearmor reads armour that begins at the first byte of b and ends with its last.
// Lines end all in LF or all in CRLF, the last one too. headers are the lines
// between the first and the empty one ("Version: GnuPG v2"): nothing signs them.
func Dearmor(kind string, b []byte) (data []byte, headers []string, err error) {
	if len(b) > maxArmor {
		return nil, nil, malformed("armour of %d bytes", len(b))
	}
	begin, end := "-----BEGIN "+kind+"-----", "-----END "+kind+"-----"
	sep := []byte("\n")
	if bytes.HasPrefix(b, []byte(begin+"\r\n")) {
		sep = []byte("\r\n")
	}
	lines := bytes.Split(b, sep)
	n := len(lines) - 1
	if n < 4 || string(lines[0]) != begin || len(lines[n]) > 0 || string(lines[n-1]) != end {
		return nil, nil, malformed("armour")
	}
	lines = lines[1 : n-1]
	for len(lines) > 0 && len(lines[0]) > 0 {
		name, value, ok := bytes.Cut(lines[0], []byte(": "))
		if !ok || len(headers) == 16 || len(name) == 0 || !printable(name) || !printable(value) {
			return nil, nil, malformed("armour header")
		}
		headers, lines = append(headers, string(lines[0])), lines[1:]
	}
	if len(lines) < 2 {
		return nil, nil, malformed("armour")
	}
	lines = lines[1:]
	var sum []byte
	if l := lines[len(lines)-1]; len(l) == 5 && l[0] == '=' {
		if sum, err = base64.StdEncoding.Strict().AppendDecode(nil, l[1:]); err != nil {
			return nil, nil, malformed("checksum of armour")
		}
		lines = lines[:len(lines)-1]
	}
	var text []byte
	for i, l := range lines {
		if len(l) == 0 || len(l) > 76 || i > 0 && i < len(lines)-1 && len(l) != len(lines[0]) || bytes.ContainsAny(l, "\r\n") {
			return nil, nil, malformed("line of armour")
		}
		text = append(text, l...)
	}
	if data, err = base64.StdEncoding.Strict().AppendDecode(nil, text); err != nil || len(data) == 0 {
		return nil, nil, malformed("base64 of armour")
	}
	if c := crc24(data); sum != nil && (len(sum) != 3 || c != uint32(sum[0])<<16|uint32(sum[1])<<8|uint32(sum[2])) {
		return nil, nil, malformed("checksum of armour")
	}
	return data, headers, nil
}

func printable(b []byte) bool {
	for _, c := range b {
		if c < ' ' || c == 0x7f {
			return false
		}
	}
	return true
}
