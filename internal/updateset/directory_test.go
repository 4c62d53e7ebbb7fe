package updateset_test

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/internal/updateset"
	"github.com/greatseal-io/greatseal/record/recordtest"
	"github.com/greatseal-io/greatseal/rejection"
)

// checkout is a folder with the set in it, and its root.
func checkout(t testing.TB, b []byte) (string, *os.Root) {
	t.Helper()
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	if err := open(t, b).WriteDirectory(context.Background(), root); err != nil {
		t.Fatal(err)
	}
	return dir, root
}

func openDir(root *os.Root) (*updateset.Set, error) {
	return updateset.OpenDirectory(context.Background(), root, updateset.Limits{})
}

func content(t testing.TB, dir string) map[string]string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "update", "*"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, f := range list {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		out[filepath.Base(f)] = string(b)
	}
	return out
}

// A folder is sealed, judged and carried back into a file as a file is; what was
// there stays byte for byte.
func TestDirectory(t *testing.T) {
	w := newWorld(t, recordtest.Configurations())
	dir, root := checkout(t, everything(t))
	before := content(t, dir)
	if len(before) != 4 || before["sys_data_source_"+sourceID+".xml"] == "" {
		t.Fatalf("%d files", len(before))
	}
	s, err := openDir(root)
	if err != nil {
		t.Fatal(err)
	}
	sigs := w.sign(t, s)
	if _, err := s.SealDirectory(context.Background(), each(sigs)); err != nil {
		t.Fatal(err)
	}
	after := content(t, dir)
	for name, b := range before {
		if after[name] != b {
			t.Errorf("%s changed", name)
		}
	}
	if len(after) != len(before)+len(sigs)+1 {
		t.Errorf("%d files", len(after))
	}
	sealed, err := openDir(root)
	if err != nil {
		t.Fatal(err)
	}
	if p, _ := w.verify(t, sealed); p.Counts[updateset.Valid] != 3 || p.Counts[updateset.Missing] != 0 {
		t.Errorf("%v", p.Counts)
	}
	if done, err := sealed.SealDirectory(context.Background(), each(sigs)); err != nil || done.Already != len(sigs) || done.Signatures+done.Roots != 0 {
		t.Errorf("%+v, %v", done, err)
	}
	// To a file, and to another folder: the same documents.
	var file bytes.Buffer
	x, err := updateset.NewWriter(&file, "n", setID, when, "ann")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(x.Copy(context.Background(), sealed), x.Close()); err != nil {
		t.Fatal(err)
	}
	if got := w.rejects(t, file.Bytes()); len(got) > 0 {
		t.Errorf("%v", got)
	}
	other, _ := checkout(t, file.Bytes())
	for name, b := range content(t, other) {
		if after[name] != b {
			t.Errorf("%s is another after a round", name)
		}
		delete(after, name)
	}
	if len(after) > 0 {
		t.Errorf("%d files are lost", len(after))
	}
	// Changed under the set.
	if err := os.WriteFile(filepath.Join(dir, "update", scriptName+".xml"), []byte(one("<script>x</script>")), 0o600); err != nil {
		t.Fatal(err)
	}
	err = sealed.Updates(context.Background(), func(*updateset.Update) error { return nil })
	if !errors.Is(err, &rejection.Error{Code: rejection.PayloadMalformed}) {
		t.Error(err)
	}
}

// What was left over by a seal that was killed is no part of the set, and the next
// one succeeds.
func TestDirectoryLeftover(t *testing.T) {
	w := newWorld(t, nil)
	dir, root := checkout(t, everything(t))
	s, err := openDir(root)
	if err != nil {
		t.Fatal(err)
	}
	sigs := w.sign(t, s)
	if _, err := s.SealDirectory(context.Background(), each(sigs)); err != nil {
		t.Fatal(err)
	}
	for name := range content(t, dir) {
		if name[0] == 'x' {
			place := filepath.Join(dir, "update", name)
			if err := os.Rename(place, filepath.Join(dir, "update", ".greatseal-"+name[:len(name)-4])); err != nil {
				t.Fatal(err)
			}
		}
	}
	s, err = openDir(root)
	if err != nil || s.Info().Signatures != 0 {
		t.Fatal(err)
	}
	if done, err := s.SealDirectory(context.Background(), each(sigs)); err != nil || done.Signatures != len(sigs) {
		t.Errorf("%+v, %v", done, err)
	}
}

// Hostile names and kinds of file.
func TestHostileDirectory(t *testing.T) {
	good := one("<script>a</script>")
	for name, spoil := range map[string]func(update string) error{
		"link": func(d string) error { return os.Symlink("/etc/passwd", filepath.Join(d, "sys_script_x.xml")) },
		"link to a file of the set": func(d string) error {
			return os.Symlink("sys_properties_"+propID+".xml", filepath.Join(d, "sys_properties_"+goneID+".xml"))
		},
		"hard link of another name": func(d string) error {
			return os.Link(filepath.Join(d, scriptName+".xml"), filepath.Join(d, "sys_script_include_"+goneID+".xml"))
		},
		"folder": func(d string) error { return os.Mkdir(filepath.Join(d, "x.xml"), 0o755) },
		"case": func(d string) error {
			return os.WriteFile(filepath.Join(d, "SYS_script_include_"+scriptID+".xml"), []byte(good), 0o600)
		},
		"another ending": func(d string) error { return os.WriteFile(filepath.Join(d, scriptName+".XML"), []byte(good), 0o600) },
		"no ending":      func(d string) error { return os.WriteFile(filepath.Join(d, "README"), nil, 0o600) },
		"hidden":         func(d string) error { return os.WriteFile(filepath.Join(d, ".x.xml"), []byte(good), 0o600) },
		"space":          func(d string) error { return os.WriteFile(filepath.Join(d, "a b.xml"), []byte(good), 0o600) },
		"backslash":      func(d string) error { return os.WriteFile(filepath.Join(d, `..\x.xml`), []byte(good), 0o600) },
		"newline":        func(d string) error { return os.WriteFile(filepath.Join(d, "a\nb.xml"), []byte(good), 0o600) },
		"another's name": func(d string) error {
			return os.WriteFile(filepath.Join(d, "sys_script_include_"+goneID+"a.xml"), []byte(good), 0o600)
		},
		"empty": func(d string) error { return os.WriteFile(filepath.Join(d, "sys_script_include_x.xml"), nil, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			dir, root := checkout(t, made(t, script(), property()))
			if err := spoil(filepath.Join(dir, "update")); err != nil {
				t.Fatal(err)
			}
			s, err := openDir(root)
			if why := rejection.Of(err); why == nil || s != nil {
				t.Errorf("%v, %v", s, err)
			}
		})
	}
	t.Run("update is a link", func(t *testing.T) {
		dir, root := checkout(t, made(t, script()))
		if err := os.Rename(filepath.Join(dir, "update"), filepath.Join(dir, "real")); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("real", filepath.Join(dir, "update")); err != nil {
			t.Fatal(err)
		}
		if _, err := openDir(root); rejection.Of(err) == nil {
			t.Error(err)
		}
		if err := open(t, made(t, script())).WriteDirectory(context.Background(), root); rejection.Of(err) == nil {
			t.Error(err)
		}
	})
	t.Run("a link where a signature goes", func(t *testing.T) {
		// Where the files will stand follows from their content: seal once to learn it.
		learn, root := checkout(t, made(t, script()))
		s, err := openDir(root)
		if err != nil {
			t.Fatal(err)
		}
		sigs := newWorld(t, nil).sign(t, s)
		if _, err := s.SealDirectory(context.Background(), each(sigs)); err != nil {
			t.Fatal(err)
		}
		sealed := content(t, learn)
		dir, root := checkout(t, made(t, script()))
		if s, err = openDir(root); err != nil {
			t.Fatal(err)
		}
		victim := filepath.Join(t.TempDir(), "victim")
		if err := os.WriteFile(victim, []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		links := 0
		for name := range sealed {
			if name[0] != 'x' {
				continue
			}
			for _, place := range []string{name, ".greatseal-" + strings.TrimSuffix(name, ".xml")} {
				if err := os.Symlink(victim, filepath.Join(dir, "update", place)); err != nil {
					t.Fatal(err)
				}
				links++
			}
		}
		if _, err := s.SealDirectory(context.Background(), each(sigs)); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(victim); err != nil || string(b) != "mine" || links != 4 {
			t.Errorf("%q, %v, %d links", b, err, links)
		}
		if !maps.Equal(content(t, dir), sealed) {
			t.Error("the files are not those of an undisturbed seal")
		}
	})
	t.Run("a name that no file can have", func(t *testing.T) {
		root, err := os.OpenRoot(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		for _, n := range []string{"sys_properties_../../x", "sys_properties_a/b", "sys_properties_a b", "sys_properties_\u202ex"} {
			doc := `<record_update table="sys_properties"><sys_properties action="INSERT_OR_UPDATE"><sys_id>` + propID + `</sys_id><sys_update_name>` + n + `</sys_update_name></sys_properties></record_update>`
			if err := open(t, set(n, "INSERT_OR_UPDATE", cdata(doc))).WriteDirectory(context.Background(), root); rejection.Of(err) == nil {
				t.Errorf("%q: %v", n, err)
			}
		}
	})
}
