// Package record is what is said, signed and judged of records that execute:
// scripts, SQL of data sources, business rules and their attachments.
package record
