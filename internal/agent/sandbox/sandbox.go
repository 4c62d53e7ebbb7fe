// Package sandbox runs a program that was verified, but that nobody should have to
// trust with the agent's host: without network, files, privileges, company or time.
//
// Before the program there is a helper: the agent's own binary, started again with
// Argv0, which takes every restriction on itself and then becomes the program. The
// program's text is a sealed memfd: it has no name, and nobody can change it.
//
// Invariants:
//
//  1. A restriction that cannot be put in place ends the run before the program
//     starts, with the restriction's name; only Landlock can be made optional, and
//     only by Config.
//  2. The program sees an empty folder of its own, what Readable names, and nothing
//     else of the file system; it writes to that folder alone, which is gone after.
//  3. Without Ports it opens no socket of any family; with them, TCP connections to
//     those ports alone.
//  4. It runs as a user of its own where the agent is root, with no capability, no
//     way to gain one, and without the agent's environment and descriptors.
//  5. Time, processor time, memory, processes, files, file sizes and output are
//     bounded. When the program ends, or has to, all it started ends with it.
//  6. When the agent dies, at any point, the program dies.
//
// A caller may not conclude that a program without network cannot reach out through
// a service that it finds in a Readable folder's devices; and total memory is the
// product of Processes and Memory.
package sandbox

import (
	"errors"
	"time"
)

// Argv0 is the name that the own binary is started with to be the helper. A main
// function whose os.Args[0] is Argv0 calls Main and exits with what it returns.
const Argv0 = "greatseal-sandbox"

// Is reports whether a process was started as the helper.
func Is(args []string) bool { return len(args) > 0 && args[0] == Argv0 }

// ErrUnsupported means that this system has no sandbox: scripts do not run.
var ErrUnsupported = errors.New("sandbox: scripts run on Linux (amd64, arm64) only")

// ErrSetup means that a restriction could not be put in place.
var ErrSetup = errors.New("sandbox: the restrictions are not all in place")

// Config is what an operator may choose.
type Config struct {
	Landlock string   `yaml:"landlock"` // "required" (also when empty) or "optional"
	Readable []string `yaml:"readable"` // further absolute paths that programs may read and execute
	Work     string   `yaml:"work"`     // folder in which the programs' folders are made; empty: that of temporary files
	FirstUID int      `yaml:"firstUID"` // of the users that programs run as when the agent is root; 0: 1900000000
	UIDs     int      `yaml:"uids"`     // how many; 0: 1000. Two agents on one host need ranges of their own
}

// Limits bound one run. All are needed.
type Limits struct {
	Wall      time.Duration
	CPU       time.Duration // of each process; whole seconds
	Memory    int64         // address space of each process, bytes
	Processes int64         // with threads
	Files     int64         // open descriptors of each process
	FileSize  int64         // of the largest file, bytes
	Workspace int64         // of all files, bytes; held where there are namespaces
	Output    int64         // standard output and error together, bytes
}

// Check refuses limits that are none.
func (l Limits) Check() error {
	if l.Wall <= 0 || l.CPU < time.Second || l.Memory <= 0 || l.Processes <= 0 || l.Files < 8 || l.FileSize < 0 || l.Workspace <= 0 || l.Output <= 0 {
		return errors.New("sandbox: a limit is missing")
	}
	return nil
}

// Run is one program.
type Run struct {
	Program string   // absolute path of the interpreter
	Args    []string // ScriptArg in them stands for Script
	Script  []byte
	Stdin   []byte
	Env     []string // beside PATH, HOME, TMPDIR, LANG
	Ports   []uint16 // TCP ports that may be connected to; none: no network
	Limits  Limits
	// Output gets what is written, in order, from one goroutine at a time; stderr says
	// from where. An error of it ends the run.
	Output func(p []byte, stderr bool) error
}

// Self is the own binary as a program: Args[0] is the name it is started with.
const Self = "/proc/self/exe"

// ScriptArg is replaced by a path from which the script can be read.
const ScriptArg = "{script}"

// Reason says why a program was ended.
type Reason string

// The reasons.
const (
	Time   Reason = "time"
	Output Reason = "output"
)

// Exit is how a program ended.
type Exit struct {
	Code   int    // 128 and the signal when a signal ended it
	Reason Reason // empty: by itself, or by a limit that the kernel holds
	CPU    time.Duration
}

// Isolation says what this system gives beside what every run has.
type Isolation struct {
	Landlock   int  // version of its interface; 0: none
	Namespaces bool // of processes, mounts, network, IPC
	OwnUser    bool
}
