//go:build !unix

package mariatemp

import "syscall"

// asMySQL has nobody to change to: there is no root here.
func asMySQL(string) (*syscall.SysProcAttr, error) { return nil, ErrMissing }
