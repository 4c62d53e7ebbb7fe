// Package condition is the condition of a signature configuration: a CEL expression
// over the fields of a record that says whether the record is signed.
package condition

// Condition is one compiled condition. It is safe for concurrent use.
type Condition struct {
	source string
	fields []string
}
