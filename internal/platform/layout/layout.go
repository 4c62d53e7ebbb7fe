// Package layout says where an application keeps what belongs to its records. It is
// apart from package platform so that configurations can hold it.
package layout

// Options say how a platform is attached to; postgres.Open, mariadb.Open and
// sqlite.Open take them.
type Options struct {
	Schema      string            `yaml:"schema,omitempty"`      // PostgreSQL: of the application's tables; "": public
	Own         string            `yaml:"own,omitempty"`         // PostgreSQL: schema of Greatseal's tables; "": greatseal
	Attachments []AttachmentTable `yaml:"attachments,omitempty"` // where attachments are; none: records have none
}

// AttachmentTable says how attachments are kept. Either Content is a column with the
// bytes, or Chunks names a second table that holds them in pieces.
type AttachmentTable struct {
	Table       string   `yaml:"table"`                 // one row an attachment
	OwnerTable  string   `yaml:"ownerTable,omitempty"`  // column with the name of the record's table; "": the rows belong to Owner
	OwnerPrefix []string `yaml:"ownerPrefix,omitempty"` // prefixes before the table's name in OwnerTable that mean the same record, such as ZZ_YY
	Owner       string   `yaml:"owner,omitempty"`       // table of the records, where OwnerTable is ""
	OwnerKey    string   `yaml:"ownerKey"`              // column with the record's key, which is of one column
	Name        string   `yaml:"name"`                  // column with the file's name
	Type        string   `yaml:"type"`                  // column with the media type
	Size        string   `yaml:"size,omitempty"`        // column with the size in bytes; needed with Chunks
	Content     string   `yaml:"content,omitempty"`     // column with the bytes
	Chunks      *Chunks  `yaml:"chunks,omitempty"`
}

// Chunks is a table of pieces: text in base64 that makes up one gzip stream.
type Chunks struct {
	Table      string `yaml:"table"`
	Attachment string `yaml:"attachment"` // column with the key of the attachment's row
	Position   string `yaml:"position"`   // column that counts from 0
	Data       string `yaml:"data"`       // column with the text
	Length     string `yaml:"length,omitempty"`
}

// SysAttachment is how tables named sys_attachment and sys_attachment_doc keep them.
func SysAttachment() AttachmentTable {
	return AttachmentTable{
		Table: "sys_attachment", OwnerTable: "table_name", OwnerPrefix: []string{"ZZ_YY"}, OwnerKey: "table_sys_id",
		Name: "file_name", Type: "content_type", Size: "size_bytes",
		Chunks: &Chunks{Table: "sys_attachment_doc", Attachment: "sys_attachment", Position: "position", Data: "data", Length: "length"},
	}
}
