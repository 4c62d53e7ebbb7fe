package pe

import (
	"fmt"
	"strings"

	"github.com/greatseal-io/greatseal/format"
)

// detailNames are the details of an image, in order.
var detailNames = []string{"hardening", "lacks", "runtime", "import", "delay-import", "function", "functions", "exported-name", "exports", "resource", "overlay", "section"}

// Limits of what is read for details.
const (
	maxDetailPages = 512 // pages of 4 KiB
	maxLibraries   = 1024
	maxFunctions   = 16384
	maxSymbol      = 512 // bytes of a library's or function's name
	maxLibrary     = 96  // shown
	maxNotable     = 40
)

// The entries of the data directories that details are read from.
const (
	dirExport      = 0
	dirImport      = 1
	dirResource    = 2
	dirLoadConfig  = 10
	dirDelayImport = 13
	dirCLR         = 14
)

// notable are functions that whoever puts his name to a program wants to have seen:
// they begin other programs, write into them, listen to keys, and lead outside.
var notable = map[string]bool{
	"CreateRemoteThread": true, "CreateRemoteThreadEx": true, "WriteProcessMemory": true, "ReadProcessMemory": true, "VirtualAllocEx": true,
	"VirtualProtectEx": true, "QueueUserAPC": true, "SetThreadContext": true, "NtCreateThreadEx": true, "NtMapViewOfSection": true, "ZwMapViewOfSection": true,
	"NtUnmapViewOfSection": true, "ZwUnmapViewOfSection": true, "RtlCreateUserThread": true, "OpenProcess": true, "NtOpenProcess": true,
	"SetWindowsHookExA": true, "SetWindowsHookExW": true, "GetAsyncKeyState": true, "AdjustTokenPrivileges": true, "OpenProcessToken": true,
	"DuplicateTokenEx": true, "ImpersonateLoggedOnUser": true, "CreateProcessA": true, "CreateProcessW": true, "CreateProcessAsUserA": true,
	"CreateProcessAsUserW": true, "CreateProcessWithTokenW": true, "WinExec": true, "ShellExecuteA": true, "ShellExecuteW": true, "ShellExecuteExA": true,
	"ShellExecuteExW": true, "URLDownloadToFileA": true, "URLDownloadToFileW": true, "InternetOpenA": true, "InternetOpenW": true, "WinHttpOpen": true,
	"WSAStartup": true, "CryptEncrypt": true, "CryptDecrypt": true, "BCryptEncrypt": true, "BCryptDecrypt": true, "CryptUnprotectData": true,
	"CreateServiceA": true, "CreateServiceW": true, "NtLoadDriver": true, "MiniDumpWriteDump": true, "IsDebuggerPresent": true,
	"LsaRetrievePrivateData": true, "SamConnect": true, "system": true, "_wsystem": true,
}

// details say what an image wants, holds and is built with. What is broken or beyond
// the limits gives no detail: loaders may refuse it, and it changes nothing about what
// is signed.
// Parts follow when the image was read.
func (im *image) details(a format.Artifact, before int) *format.Details {
	d := format.NewDetails(before)
	m := &memory{im: im, a: a, pages: map[uint32][]byte{}}
	im.hardening(d, m)
	if rva, _ := im.directory(dirCLR); rva != 0 {
		d.Say("runtime", ".NET")
	}
	var functions []string
	libraries := m.imports(&functions)
	d.List("import", maxLibrary, libraries)
	d.List("delay-import", maxLibrary, m.delayed(&functions))
	var seen []string
	for _, f := range functions {
		if _, name, _ := strings.Cut(f, "!"); notable[name] {
			seen = append(seen, f)
		}
	}
	d.List("function", maxNotable, seen)
	d.Count("functions", functions)
	name, count := m.exports()
	d.Say("exported-name", name)
	if count > 0 {
		d.Sayf("exports", "%d functions", count)
	}
	d.List("resource", 32, m.resourceKinds())
	last := int64(len(im.head))
	for _, s := range im.spans() {
		last = max(last, int64(s.Offset)+int64(s.Size))
	}
	if n := im.end() - last; n > 0 {
		d.Sayf("overlay", "%d bytes after the last section", n)
	}
	return d
}

// hardening says which protections the image was built with, and which it lacks.
func (im *image) hardening(d *format.Details, m *memory) {
	var has, lacks []string
	say := func(name string, there bool) {
		if there {
			has = append(has, name)
		} else {
			lacks = append(lacks, name)
		}
	}
	c := im.characteristics
	say("ASLR", c&0x40 != 0)
	if im.magic == magicPE32Plus {
		say("high-entropy ASLR", c&0x20 != 0)
	}
	say("DEP", c&0x100 != 0)
	if !im.efi() {
		say("CFG", c&0x4000 != 0)
		cookie, handlers := m.loadConfig()
		say("GS", cookie)
		if im.machine == 0x14c {
			say("SafeSEH", handlers || c&0x400 != 0)
		}
		if c&0x80 != 0 {
			has = append(has, "forced integrity")
		}
		if c&0x1000 != 0 {
			has = append(has, "AppContainer")
		}
	}
	d.List("hardening", 16, has)
	d.List("lacks", 16, lacks)
}

// directory is entry i of the data directories: address and size.
func (im *image) directory(i int) (rva, size uint32) {
	if 8*i+8 > len(im.directories) {
		return 0, 0
	}
	return le32(im.directories[8*i:]), le32(im.directories[8*i+4:])
}

// memory reads an image as it is loaded, page by page, each once.
type memory struct {
	im    *image
	a     format.Artifact
	pages map[uint32][]byte // by the address where they begin
}

// at reads up to n bytes at rva, fewer where a section's raw data ends.
func (m *memory) at(rva uint32, n int) []byte {
	for _, s := range m.im.sections {
		if rva < s.rva || uint64(rva) >= uint64(s.rva)+uint64(s.size) {
			continue
		}
		var out []byte
		for at := rva; n > 0 && uint64(at) < uint64(s.rva)+uint64(s.size); {
			begin := s.rva + (at-s.rva)/pageSize*pageSize
			p, ok := m.pages[begin]
			if !ok {
				if len(m.pages) == maxDetailPages {
					return nil
				}
				p = make([]byte, min(pageSize, s.size-(begin-s.rva)))
				if m.im.readRVA(m.a, p, begin, 0) != nil {
					return nil
				}
				m.pages[begin] = p
			}
			b := p[at-begin:]
			b = b[:min(len(b), n)]
			out = append(out, b...)
			n -= len(b)
			if uint64(at)+uint64(len(b)) > 1<<32-1 {
				break
			}
			at += uint32(len(b))
		}
		return out
	}
	return nil
}

// whole is at for all n bytes, or nil.
func (m *memory) whole(rva uint32, n int) []byte {
	if b := m.at(rva, n); len(b) == n {
		return b
	}
	return nil
}

// name reads a name that ends with a zero, of characters that names have, or "".
func (m *memory) name(rva uint32) string {
	b := m.at(rva, maxSymbol)
	n := strings.IndexByte(string(b), 0)
	if n <= 0 {
		return ""
	}
	return string(b[:n])
}

// imports are the libraries that the loader brings in, and what is used of them as
// LIBRARY!function.
func (m *memory) imports(functions *[]string) (out []string) {
	rva, _ := m.im.directory(dirImport)
	for ; rva != 0 && len(out) < maxLibraries; rva += 20 {
		b := m.whole(rva, 20)
		if b == nil || le32(b[12:]) == 0 {
			break
		}
		name := library(m.name(le32(b[12:])))
		if name == "" {
			break
		}
		out = append(out, name)
		thunks := le32(b)
		if thunks == 0 {
			thunks = le32(b[16:])
		}
		m.functions(name, thunks, functions)
	}
	return out
}

// delayed are the libraries that are brought in when they are first used.
func (m *memory) delayed(functions *[]string) (out []string) {
	rva, _ := m.im.directory(dirDelayImport)
	for ; rva != 0 && len(out) < maxLibraries; rva += 32 {
		b := m.whole(rva, 32)
		if b == nil || le32(b[4:]) == 0 || le32(b)&1 == 0 { // old linkers wrote addresses of another kind
			break
		}
		name := library(m.name(le32(b[4:])))
		if name == "" {
			break
		}
		out = append(out, name)
		m.functions(name, le32(b[16:]), functions)
	}
	return out
}

// library is a library's name as it is compared: Windows does not tell capital letters.
func library(s string) string { return strings.ToLower(s) }

// functions adds what a table of names or ordinals holds.
func (m *memory) functions(library string, rva uint32, out *[]string) {
	width, ordinal := 4, uint64(1)<<31
	if m.im.magic == magicPE32Plus {
		width, ordinal = 8, 1<<63
	}
	for ; rva != 0 && len(*out) < maxFunctions; rva += uint32(width) {
		b := m.whole(rva, width)
		if b == nil {
			return
		}
		v := uint64(le32(b))
		if width == 8 {
			v |= uint64(le32(b[4:])) << 32
		}
		switch {
		case v == 0:
			return
		case v&ordinal != 0:
			*out = append(*out, fmt.Sprintf("%s!#%d", library, v&0xffff))
		case v < 1<<31:
			*out = append(*out, library+"!"+m.name(uint32(v)+2))
		default:
			return
		}
	}
}

// exports are the image's own name as a library, and how many functions it gives.
func (m *memory) exports() (string, uint32) {
	rva, _ := m.im.directory(dirExport)
	b := m.whole(rva, 40)
	if rva == 0 || b == nil {
		return "", 0
	}
	return m.name(le32(b[12:])), le32(b[20:])
}

// loadConfig says whether there is a cookie on the stack, and a table of exception
// handlers.
func (m *memory) loadConfig() (cookie, handlers bool) {
	rva, _ := m.im.directory(dirLoadConfig)
	if rva == 0 {
		return false, false
	}
	size := m.whole(rva, 4)
	if size == nil {
		return false, false
	}
	b := m.at(rva, int(min(le32(size), 256)))
	if m.im.magic == magicPE32Plus {
		return len(b) >= 96 && (le32(b[88:]) != 0 || le32(b[92:]) != 0), false
	}
	return len(b) >= 64 && le32(b[60:]) != 0, len(b) >= 72 && le32(b[64:]) != 0
}

// resourceTypes are Windows's kinds of resources.
var resourceTypes = map[uint32]string{
	1: "cursor", 2: "bitmap", 3: "icon", 4: "menu", 5: "dialog", 6: "strings", 7: "font directory", 8: "font", 9: "accelerators", 10: "data",
	11: "messages", 12: "cursor group", 14: "icon group", 16: "version", 17: "dialog include", 19: "plug and play", 20: "VxD",
	21: "animated cursor", 22: "animated icon", 23: "HTML", 24: "manifest",
}

// resourceKinds are the kinds of resources, with the number of each.
func (m *memory) resourceKinds() (out []string) {
	root, _ := m.im.directory(dirResource)
	count := func(off uint32) int {
		h := m.whole(root+off, 16)
		if h == nil {
			return 0
		}
		return int(le16(h[12:])) + int(le16(h[14:]))
	}
	if root == 0 {
		return nil
	}
	n := min(count(0), 256)
	entries := m.whole(root+16, 8*n)
	for ; len(entries) > 0; entries = entries[8:] {
		id, to := le32(entries), le32(entries[4:])
		if to&(1<<31) == 0 {
			continue
		}
		kind := resourceTypes[id]
		switch {
		case id&(1<<31) != 0:
			if h := m.whole(root+id&^(1<<31), 2); h != nil {
				kind = utf16Text(m.at(root+id&^(1<<31)+2, 2*min(int(le16(h)), 64)))
			}
		case kind == "":
			kind = fmt.Sprintf("type %d", id)
		}
		out = append(out, fmt.Sprintf("%s: %d", kind, count(to&^(1<<31))))
	}
	return out
}
