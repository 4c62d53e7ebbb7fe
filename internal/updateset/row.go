package updateset

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/greatseal-io/greatseal/record"
	"github.com/greatseal-io/greatseal/rejection"
)

// The tables that signatures travel in.
const (
	SignatureTable = "x_greatseal_signature"
	RootTable      = "x_greatseal_root"
)

// row is a record of one of the two tables.
type row struct {
	ref       record.Ref // what is signed
	deleted   bool
	signature *record.Signature // without Root; nil: a signed root
	digest    [sha256.Size]byte // of the signed root
	content   []byte            // of the signed root
}

// rowID is the sys_id of a row: 128 bits that follow from what it holds.
func rowID(table string, parts ...[]byte) string {
	h := sha256.New()
	h.Write([]byte("greatseal row v1"))
	for _, p := range append([][]byte{[]byte(table)}, parts...) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		h.Write(p)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

func signatureID(s *record.Signature, root [sha256.Size]byte) string {
	return rowID(SignatureTable, s.Statement, root[:])
}

func rootID(content []byte) string { return rowID(RootTable, content) }

// own reports whether a table is one that signatures travel in, here or on a
// platform (internal/platform).
func own(table string) bool {
	return strings.HasPrefix(table, "x_greatseal_") || strings.HasPrefix(table, "greatseal_")
}

// readRow reads the row that an update carries; nil: it carries none. An update that
// touches these tables in any other way is refused: taking signatures away is an
// attack, not a change.
func readRow(u *Update) (*row, *rejection.Error) {
	mine := false
	for i := range u.Operations {
		mine = mine || own(u.Operations[i].Table)
	}
	if !mine {
		return nil, nil
	}
	o := &u.Operations[0]
	if len(u.Operations) > 1 || o.Action != Upsert || o.Wrapper != "" || o.Keys != nil || o.Table != SignatureTable && o.Table != RootTable {
		return nil, rejection.New(rejection.ExtraOperation, o.Table, "signatures are only ever added, each in an update of its own: remove the update")
	}
	bad := func(problem string) (*row, *rejection.Error) {
		return nil, rejection.New(rejection.SigMalformed, o.Table, problem+": seal the set again")
	}
	want := []string{"content", "digest"}
	if o.Table == SignatureTable {
		want = []string{"deleted", "leaf", "path", "purpose", "record_key", "record_table", "revision", "root", "statement"}
	}
	known := map[string]bool{}
	for _, f := range want {
		if _, ok := o.Fields[f]; !ok {
			return bad("the field " + f + " is missing")
		}
		known[f] = true
	}
	for f := range o.Fields {
		if !known[f] && !strings.HasPrefix(f, "sys_") {
			return bad("a field that is not known")
		}
	}
	r := &row{}
	var err error
	if o.Table == RootTable {
		if r.content, err = base64.StdEncoding.Strict().DecodeString(o.Fields["content"]); err != nil || strings.ContainsAny(o.Fields["content"], "\r\n") {
			return bad("content is not base64")
		}
		if _, err := record.DecodeSignedRoot(r.content); err != nil {
			return bad("content is no signed root")
		}
		r.digest = sha256.Sum256(r.content)
		if o.Fields["digest"] != hex.EncodeToString(r.digest[:]) || o.SysID != rootID(r.content) || u.Name != RootTable+"_"+o.SysID {
			return bad("digest and name do not follow from content")
		}
		return r, nil
	}
	sig := &record.Signature{}
	if sig.Statement, err = base64.StdEncoding.Strict().DecodeString(o.Fields["statement"]); err != nil || strings.ContainsAny(o.Fields["statement"], "\r\n") {
		return bad("statement is not base64")
	}
	if sig.Path, err = base64.StdEncoding.Strict().DecodeString(o.Fields["path"]); err != nil || strings.ContainsAny(o.Fields["path"], "\r\n") {
		return bad("path is not base64")
	}
	sig.Index, err = strconv.ParseInt(o.Fields["leaf"], 10, 64)
	if err != nil || sig.Index < 0 || strconv.FormatInt(sig.Index, 10) != o.Fields["leaf"] {
		return bad("leaf is no number")
	}
	root, err := hex.DecodeString(o.Fields["root"])
	if err != nil || len(root) != sha256.Size || hex.EncodeToString(root) != o.Fields["root"] {
		return bad("root is no digest")
	}
	r.digest = [sha256.Size]byte(root)
	st, err := record.DecodeStatement(sig.Statement)
	if err != nil {
		return bad("statement is none")
	}
	if o.SysID != signatureID(sig, r.digest) || u.Name != SignatureTable+"_"+o.SysID {
		return bad("the name does not follow from the statement")
	}
	for name, value := range statementFields(st) {
		if o.Fields[name] != value {
			return bad("the row says something else than its statement")
		}
	}
	r.ref, r.deleted, r.signature = st.Ref, st.Deleted, sig
	return r, nil
}

// statementFields are what a row repeats of its statement, for people and queries.
func statementFields(st *record.Statement) map[string]string {
	key, err := json.Marshal(st.Ref.Key)
	if err != nil {
		panic(err) // strings always encode
	}
	return map[string]string{"deleted": strconv.FormatBool(st.Deleted), "purpose": st.Purpose, "record_key": string(key),
		"record_table": st.Ref.Table, "revision": strconv.FormatUint(st.Revision, 10)}
}

// Row is a record to be written as an update.
type Row struct {
	Table, SysID string
	Target       string // for people
	Kind         string // for people: "Script Include"
	Action       Action
	Fields       map[string]string // sys_id and sys_update_name are added
	References   map[string]string // display values of those that are references
	Attachments  []File
	At           time.Time // of the change
	By           string    // who made it
}

// Name is the name of the update.
func (r *Row) Name() string { return r.Table + "_" + r.SysID }

func signatureRow(s *record.Signature, st *record.Statement, root *record.SignedRoot, digest [sha256.Size]byte) *Row {
	f := statementFields(st)
	f["leaf"], f["root"] = strconv.FormatInt(s.Index, 10), hex.EncodeToString(digest[:])
	f["statement"], f["path"] = base64.StdEncoding.EncodeToString(s.Statement), base64.StdEncoding.EncodeToString(s.Path)
	return &Row{Table: SignatureTable, SysID: signatureID(s, digest), Target: st.Ref.String(), Kind: "Record Signature", Action: Upsert,
		Fields: f, At: time.Unix(root.SignedAt, 0), By: "greatseal"}
}

func rootRow(content []byte, root *record.SignedRoot, digest [sha256.Size]byte) *Row {
	hexed := hex.EncodeToString(digest[:])
	return &Row{Table: RootTable, SysID: rootID(content), Target: hexed[:16], Kind: "Signed Root", Action: Upsert,
		Fields: map[string]string{"content": base64.StdEncoding.EncodeToString(content), "digest": hexed},
		At:     time.Unix(root.SignedAt, 0), By: "greatseal"}
}
