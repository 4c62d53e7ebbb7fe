package platform

import "github.com/greatseal-io/greatseal/internal/platform/layout"

// What an application's tables look like: see package layout.
type (
	Options         = layout.Options
	AttachmentTable = layout.AttachmentTable
	Chunks          = layout.Chunks
)

// SysAttachment is how tables named sys_attachment and sys_attachment_doc keep them.
func SysAttachment() AttachmentTable { return layout.SysAttachment() }
