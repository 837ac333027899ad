// SPDX-License-Identifier: Apache-2.0

package conv

/*
#include <sys/types.h>
#include <grp.h>
#include <locale.h>
#include <stdlib.h>
#include "wipe.h"
*/
import "C"

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// setLocale chooses the language of the modules, which are C code: it is
// setlocale(3) that gettext looks at.
func setLocale(name string) bool {
	s := C.CString(name)
	defer C.free(unsafe.Pointer(s))
	return C.setlocale(C.LC_ALL, s) != nil
}

// wipeLeftovers wipes what modules left on the stack of this thread, on which the
// Go runtime has C code run.
func wipeLeftovers() { C.wipe_leftovers() }

// initGroups is initgroups(3) for the calling thread, the one that modules run
// on. That of glibc waits until every other thread has the groups too, and the
// one in the user's own directory may have to wait there (mirror.go).
func initGroups(user string, gid uint32) error {
	groups, err := groupsOf(user, gid)
	if err == nil {
		err = unix.Setgroups(groups)
	}
	if err != nil {
		return fmt.Errorf("initgroups: %w", err)
	}
	return nil
}

// groupsOf is getgrouplist(3).
func groupsOf(user string, gid uint32) ([]int, error) {
	s := C.CString(user)
	defer C.free(unsafe.Pointer(s))
	for room := 64; room <= maxGroups; room *= 2 {
		list, n := make([]C.gid_t, room), C.int(room)
		if C.getgrouplist(s, C.gid_t(gid), &list[0], &n) < 0 {
			continue
		}
		groups := make([]int, n)
		for i := range groups {
			groups[i] = int(list[i])
		}
		return groups, nil
	}
	return nil, fmt.Errorf("%s is in more than %d groups", user, maxGroups)
}

// maxGroups is the kernel's NGROUPS_MAX.
const maxGroups = 65536
