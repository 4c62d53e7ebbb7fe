package wire

import (
	"encoding/hex"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/greatseal-io/greatseal/format"
	"github.com/greatseal-io/greatseal/internal/keeper"
	"github.com/greatseal-io/greatseal/statement"
)

var update = flag.Bool("update", false, "write the golden files anew")

// Server and keeper may be of different ages: the frames of a version are frozen.
func TestGolden(t *testing.T) {
	var b strings.Builder
	add := func(what string, h head, v any) {
		var body []byte
		if v != nil {
			var err error
			if body, err = format.Encode(v); err != nil {
				t.Fatal(err)
			}
		}
		b.WriteString(what + " " + hex.EncodeToString(frame(t, h, body)) + "\n")
	}
	add("hello", head{Kind: kindHello, Protocol: protocol, Versions: []uint64{1}}, nil)
	add("execute", head{Kind: kindCall, ID: 1, Method: mExecute}, order())
	add("outcome", head{Kind: kindAnswer, ID: 1}, keeper.Outcome{Receipt: []byte{1}, Signatures: [][][]byte{{{2}}}, Chain: [][]byte{{3}}})
	add("checkpoint", head{Kind: kindCall, ID: 2, Method: mCheckpoint}, keeper.Extension{Size: 9, Root: []byte{4}, Consistency: [][]byte{{5}}})
	add("receipts", head{Kind: kindCall, ID: 3, Method: mReceipts}, receiptsArgs{7, 10})
	add("status", head{Kind: kindAnswer, ID: 4}, keeper.Status{Charter: statement.CharterRef{Version: 2, ID: statement.ID{6}}, Keys: []keeper.KeyStatus{{Name: "k"}}})
	add("cancel", head{Kind: kindCancel, ID: 3}, nil)
	add("error", head{Kind: kindAnswer, ID: 3, Code: "stopped", Text: "why"}, nil)
	add("hello-2", head{Kind: kindHello, Protocol: protocol, Versions: []uint64{1, 2}}, nil)
	add("consider", head{Kind: kindCall, ID: 5, Method: mConsider}, considerArgs{order().Evidence})
	const path = "testdata/frames.hex"
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("the frames have changed:\n%s", b.String())
	}
}
