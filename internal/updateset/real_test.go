package updateset_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/greatseal-io/greatseal/internal/updateset"
)

// realSets are exports made by others, where they are at hand: file and number of
// updates. The package's own sets are made in maker_test.go.
var realSets = map[string]struct{ updates, operations, attachments int }{
	"AlexAlvarez092__SN-Update-Set-Capture-Record__SNUpdateSetCaptureRecord.xml":              {7, 0, 0},
	"AlexAlvarez092__SN-Update-Set-Collision-Detection-Tool__CollisionToolSourceInstance.xml": {13, 0, 0},
	"Ghost-Venom__Bulk-Update-Set-Exporter__BulkUpdateSetExporter-0.3.0.xml":                  {21, 0, 1},
	"Ghost-Venom__Bulk-Update-Set-Exporter__BulkUpdateSetExporter-0.3.1.xml":                  {21, 0, 1},
	"jacebenson__update-set-host__Developer_Toolbox_1.10.xml":                                 {49, 0, 0},
	"jacebenson__update-set-host__SecurityBestPractiesAudit-V3_1.xml":                         {126, 0, 0},
	"jacebenson__update-set-host__Xplore47.xml":                                               {25, 0, 1},
}

func realFolder(t *testing.T) string {
	dir := filepath.Join("..", "..", "..", "shared", "testdata", "updatesets")
	if _, err := os.Stat(dir); err != nil {
		return ""
	}
	return dir
}

func TestRealSets(t *testing.T) {
	dir := realFolder(t)
	if dir == "" {
		return
	}
	for name, want := range realSets {
		t.Run(name, func(t *testing.T) {
			b, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			s := open(t, b)
			if got := s.Info().Updates; got != want.updates {
				t.Errorf("%d updates, want %d", got, want.updates)
			}
			ops, atts := 0, 0
			s.Updates(context.Background(), func(u *updateset.Update) error {
				ops += len(u.Operations)
				for _, o := range u.Operations {
					atts += len(o.Attachments)
				}
				return nil
			})
			t.Log(ops, atts)
		})
	}
}
