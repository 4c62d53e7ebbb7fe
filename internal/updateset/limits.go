package updateset

// Limits bound what a set may ask of its reader. Zero means the default.
type Limits struct {
	Update     int   // bytes of one update as it stands in the file; 64 MiB
	Updates    int   // of a set, signatures included; 2 097 152
	Operations int   // of one payload; 20 000
	Fields     int   // of one element; 4 096
	Attachment int64 // bytes of one attachment, unpacked; 512 MiB
	Signatures int   // of one record; 64
}

func (l Limits) orDefault() Limits {
	if l.Update == 0 {
		l.Update = 64 << 20
	}
	if l.Updates == 0 {
		l.Updates = 1 << 21
	}
	if l.Operations == 0 {
		l.Operations = 20_000
	}
	if l.Fields == 0 {
		l.Fields = 4096
	}
	if l.Attachment == 0 {
		l.Attachment = 512 << 20
	}
	if l.Signatures == 0 {
		l.Signatures = 64
	}
	return l
}

// Limits that no real set comes near, and that nobody needs to change.
const (
	maxName       = 256     // bytes of the name of an element, attribute or update
	maxAttributes = 64      // of one element
	maxAttribute  = 1 << 20 // bytes of one attribute's value: queries stand there
	maxItems      = 10_000  // decoded terms of one condition
	maxChunks     = 100_000 // of one attachment
	maxHeader     = 1 << 20 // bytes of the set's own record
)
