// SPDX-License-Identifier: Apache-2.0

package conv

/*
#include <sys/types.h>
#include <grp.h>
#include <locale.h>
#include <stdlib.h>
*/
import "C"

import (
	"fmt"
	"unsafe"
)

// setLocale chooses the language of the modules, which are C code: it is
// setlocale(3) that gettext looks at.
func setLocale(name string) bool {
	s := C.CString(name)
	defer C.free(unsafe.Pointer(s))
	return C.setlocale(C.LC_ALL, s) != nil
}

// initGroups is initgroups(3). glibc applies it to every thread.
func initGroups(user string, gid uint32) error {
	s := C.CString(user)
	defer C.free(unsafe.Pointer(s))
	if r, err := C.initgroups(s, C.gid_t(gid)); r != 0 {
		return fmt.Errorf("initgroups: %w", err)
	}
	return nil
}
