// SPDX-License-Identifier: Apache-2.0

package conv

// #include "guard.h"
import "C"

import (
	"errors"
	"reflect"

	"github.com/msteinert/pam/v2"
)

// guard puts the check of guard.c before the conversation of a transaction.
// msteinert/pam does not show the handle of libpam, which that needs; should a
// later version keep it elsewhere, no session opens, and the tests say so.
func guard(t *pam.Transaction) error {
	handle := reflect.ValueOf(t).Elem().FieldByName("handle")
	if handle.Kind() != reflect.Pointer || handle.IsNil() {
		return errors.New("the handle of libpam is not where it was in msteinert/pam 2.1.0")
	}
	if r := C.guard_conversation((*C.pam_handle_t)(handle.UnsafePointer())); r != C.PAM_SUCCESS {
		return pam.Error(r)
	}
	return nil
}
