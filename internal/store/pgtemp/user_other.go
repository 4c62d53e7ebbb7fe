//go:build !unix

package pgtemp

import "syscall"

// asPostgres has nobody to change to: there is no root here.
func asPostgres(string) (*syscall.SysProcAttr, error) { return nil, ErrMissing }
