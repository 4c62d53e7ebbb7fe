package verify

import (
	"cmp"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"fmt"
	"slices"
	"time"

	"github.com/greatseal-io/greatseal/audit"
	"github.com/greatseal-io/greatseal/statement"
)

// ProblemCode is a machine-readable kind of problem. Codes are stable.
type ProblemCode string

// The codes.
const (
	ProblemCheckpoint        ProblemCode = "checkpoint"            // not a checkpoint by the log's key
	ProblemRollback          ProblemCode = "rollback"              // the log is shorter than last time
	ProblemFork              ProblemCode = "fork"                  // the log is another one than last time
	ProblemTree              ProblemCode = "tree"                  // tiles or entries are not those of the head
	ProblemEntry             ProblemCode = "entry"                 // an entry, or what is in it, is not in its form
	ProblemBody              ProblemCode = "body"                  // a body beside the log is missing, or another one
	ProblemRequestTwice      ProblemCode = "request-duplicate"     // a request is entered twice
	ProblemRequestUnknown    ProblemCode = "request-unknown"       // an entry is about a request that was not entered before
	ProblemClosed            ProblemCode = "request-closed"        // an entry is about a request that has ended
	ProblemEndorsementTwice  ProblemCode = "endorsement-duplicate" // an endorsement is entered twice
	ProblemSignature         ProblemCode = "signature"             // a request or endorsement is not by whom it names
	ProblemReceiptSignature  ProblemCode = "receipt-signature"     // a receipt is not by the keeper
	ProblemReceiptGap        ProblemCode = "receipt-gap"           // numbers are missing
	ProblemReceiptTwice      ProblemCode = "receipt-duplicate"     // a number was there before
	ProblemReceiptChain      ProblemCode = "receipt-chain"         // a receipt does not follow the one before
	ProblemReceiptCharter    ProblemCode = "receipt-charter"       // a receipt names a charter that was not in force
	ProblemUnauthorised      ProblemCode = "not-authorised"        // executed, and the evidence in the log does not grant it
	ProblemExecutedTwice     ProblemCode = "executed-twice"        // a request was executed before
	ProblemExecutedWithdrawn ProblemCode = "executed-withdrawn"    // executed after it was cancelled or had expired
	ProblemCharterEntry      ProblemCode = "charter-entry"         // a charter's entry is missing, or of no charter that came into force
	ProblemKeeperChanged     ProblemCode = "keeper-changed"        // a charter names another keeper or log
)

// Problem is something that is wrong with a log.
type Problem struct {
	Index   int64        `json:"index"` // of the entry; -1: the log as a whole
	Code    ProblemCode  `json:"code"`
	Detail  string       `json:"detail"`
	Request statement.ID `json:"request,omitzero"`
	Receipt uint64       `json:"receipt,omitzero"` // number
}

func (p Problem) String() string {
	s := fmt.Sprintf("entry %d: ", p.Index)
	if p.Index < 0 {
		s = ""
	}
	if p.Receipt != 0 {
		s += fmt.Sprintf("receipt %d: ", p.Receipt)
	}
	return s + string(p.Code) + ": " + shown(p.Detail)
}

// LogReport is what was found in a log.
type LogReport struct {
	Deployment string               `json:"deployment"`
	Root       statement.ID         `json:"root"` // of the charter chain, pinned
	Origin     string               `json:"origin"`
	Size       int64                `json:"size"`
	TreeRoot   string               `json:"treeRoot"`   // of the head, base64
	Checkpoint string               `json:"checkpoint"` // the head: keep it as OldHead for the next time
	OldSize    int64                `json:"oldSize,omitzero"`
	From       int64                `json:"from"`    // first entry that was judged
	Entries    int64                `json:"entries"` // entries that were read
	Kinds      map[audit.Kind]int64 `json:"kinds"`
	Receipts   ReceiptCounts        `json:"receipts"`
	Charter    statement.CharterRef `json:"charter"`  // in force at the end
	Open       int64                `json:"open"`     // requests that are neither executed nor withdrawn
	Problems   []Problem            `json:"problems"` // by index
	Stopped    bool                 `json:"stopped"`  // there were so many problems that the rest was not judged
}

// ReceiptCounts are the receipts of a log.
type ReceiptCounts struct {
	First     uint64       `json:"first"` // numbers
	Last      uint64       `json:"last"`
	LastID    statement.ID `json:"lastId"`
	LastTime  time.Time    `json:"lastTime,omitzero"`
	Executed  int64        `json:"executed"`
	Refused   int64        `json:"refused"`
	Signed    int64        `json:"signed"`    // files
	Judged    int64        `json:"judged"`    // executed receipts whose evidence was judged again
	Reordered int64        `json:"reordered"` // entered before one with a lower number
}

func newLogReport(root statement.ID, ref statement.CharterRef, origin string, from int64) *LogReport {
	return &LogReport{Root: root, Origin: origin, From: from, Kinds: map[audit.Kind]int64{}, Charter: ref, Problems: []Problem{}}
}

// OK reports whether the whole log was judged and nothing is wrong with it.
func (l *LogReport) OK() bool {
	return len(l.Problems) == 0 && !l.Stopped && l.Checkpoint != "" && l.Entries == l.Size
}

// JSON is the report for programs: one object.
func (l *LogReport) JSON() ([]byte, error) {
	b, err := json.Marshal(l, json.Deterministic(true), jsontext.WithIndent("  "))
	if err != nil {
		return nil, fmt.Errorf("verify: log: %w", err)
	}
	return b, nil
}

// finish fills in what is known at the end. No other goroutine runs any more.
func (r *logRun) finish() *LogReport {
	l := r.report
	l.Deployment, l.From = r.first.Deployment, r.o.From
	_, l.Charter = r.chain.Head()
	l.Open = r.book.open
	if p := r.chained.last; p != nil {
		l.Receipts.Last, l.Receipts.LastID, l.Receipts.LastTime = p.Number, r.chained.lastID, p.Time
	}
	l.Problems = append(l.Problems, r.problems...)
	slices.SortStableFunc(l.Problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Index, b.Index), cmp.Compare(a.Code, b.Code), cmp.Compare(a.Detail, b.Detail))
	})
	l.Stopped = len(l.Problems) >= MaxProblems
	return l
}
