package cli

import (
	"bufio"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/greatseal-io/greatseal/format/file"
)

// input is one file to work on.
type input struct {
	path string
	name string // by which the request knows it: the base name, or the path below a folder
	walk bool   // found below a folder, not named
}

// evidenceSuffix is what follows a signed file's name in that of its evidence.
const evidenceSuffix = ".evidence.json"

// maxInputLine is the longest path that --files-from takes.
const maxInputLine = 64 << 10

// inputs finds the files that the user means: arguments with globs, for shells
// that have none, folders with -r, and a list in a file or "-".
func (a *App) inputs(args []string, recursive bool, from string) ([]input, error) {
	if from != "" {
		list, err := a.fileList(from)
		if err != nil {
			return nil, err
		}
		args = append(args, list...)
	}
	var out []input
	seen := map[string]bool{}
	add := func(in input) {
		abs, err := filepath.Abs(in.path)
		if err != nil {
			abs = in.path
		}
		if !seen[abs] {
			seen[abs] = true
			out = append(out, in)
		}
	}
	for _, arg := range args {
		paths, globbed := []string{arg}, false
		if _, err := os.Lstat(arg); err != nil && strings.ContainsAny(arg, "*?[") {
			if paths, err = filepath.Glob(arg); err != nil {
				return nil, fail(exitUsage, "quote it if the file is really called so", "%s: %v", arg, err)
			}
			if len(paths) == 0 {
				return nil, fail(exitFailed, "", "%s matches no file", arg)
			}
			globbed = true
		}
		for _, p := range paths {
			st, err := os.Stat(p)
			if err != nil {
				return nil, err
			}
			if globbed && ours(filepath.Base(p)) {
				continue
			}
			if !st.IsDir() || file.IsBundle(p) {
				add(input{path: p, name: filepath.Base(p)})
				continue
			}
			if !recursive {
				return nil, fail(exitUsage, "-r takes the files below it", "%s is a folder", p)
			}
			if err := below(p, add); err != nil {
				return nil, err
			}
		}
	}
	if len(out) == 0 {
		return nil, fail(exitUsage, "name files, or folders with -r, or --files-from LIST", "no file to work on")
	}
	unique(out)
	return out, nil
}

func (a *App) fileList(from string) ([]string, error) {
	in := a.In
	if from != "-" {
		f, err := os.Open(from)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	var out []string
	s := bufio.NewScanner(in)
	s.Buffer(nil, maxInputLine)
	for s.Scan() {
		if line := strings.TrimRight(s.Text(), "\r"); line != "" {
			out = append(out, line)
		}
	}
	return out, s.Err()
}

// below finds the regular files of a folder, and the bundles, which are one artifact each; what greatseal itself puts beside
// files is left out: evidence, journals, and detached signatures of files that are
// there.
func below(dir string, add func(input)) error {
	return filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		bundle := err == nil && d.IsDir() && p != dir && file.IsBundle(p)
		if err != nil || !d.Type().IsRegular() && !bundle {
			return err
		}
		if ours(d.Name()) {
			return nil
		}
		for _, s := range suffixes() {
			if of, ok := strings.CutSuffix(p, s); ok {
				if st, err := os.Lstat(of); err == nil && st.Mode().IsRegular() {
					return nil
				}
			}
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		add(input{path: p, name: filepath.ToSlash(rel), walk: true})
		if bundle {
			return fs.SkipDir
		}
		return nil
	})
}

// ours reports whether greatseal itself puts files of that name beside others.
func ours(name string) bool {
	return strings.HasSuffix(name, evidenceSuffix) || strings.HasPrefix(name, ".greatseal-") || strings.HasSuffix(name, ".greatseal-journal")
}

// unique gives files of one name the path by which they were named, so that
// endorsers can tell them apart.
func unique(list []input) {
	have := map[string]int{}
	for _, in := range list {
		have[in.name]++
	}
	for i, in := range list {
		if have[in.name] > 1 {
			list[i].name = filepath.ToSlash(filepath.Clean(in.path))
		}
	}
}
