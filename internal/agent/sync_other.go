//go:build !unix

package agent

// syncDir does nothing: a folder cannot be synchronised here; its names are the file
// system's own journal's.
func syncDir(string) error { return nil }
