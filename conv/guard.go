// SPDX-License-Identifier: Apache-2.0

package conv

// #include "guard.h"
import "C"

import (
	"errors"
	"reflect"
	"unsafe"

	"github.com/msteinert/pam/v2"
)

// guard puts the check of guard.c before the conversation of a transaction.
func guard(t *pam.Transaction) error {
	h, err := handle(t)
	if err != nil {
		return err
	}
	if r := C.guard_conversation((*C.pam_handle_t)(h)); r != C.PAM_SUCCESS {
		return pam.Error(r)
	}
	return nil
}

// handle is the handle of libpam, which msteinert/pam does not show. Should a
// later version keep it elsewhere, no session opens, and the tests say so.
func handle(t *pam.Transaction) (unsafe.Pointer, error) {
	h := reflect.ValueOf(t).Elem().FieldByName("handle")
	if h.Kind() != reflect.Pointer || h.IsNil() {
		return nil, errors.New("the handle of libpam is not where it was in msteinert/pam 2.1.0")
	}
	return h.UnsafePointer(), nil
}
