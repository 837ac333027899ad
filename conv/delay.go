// SPDX-License-Identifier: Apache-2.0

package conv

// #include "delay.h"
import "C"

import (
	"time"

	"github.com/msteinert/pam/v2"
)

// delayFailures has delay.c do what modules ask with pam_fail_delay(3). Neither
// a signal nor a Close makes that shorter: whoever guesses could close and open
// again otherwise, and never wait.
func delayFailures(t *pam.Transaction) error {
	h, err := handle(t)
	if err != nil {
		return err
	}
	if r := C.delay_failures((*C.pam_handle_t)(h)); r != C.PAM_SUCCESS {
		return pam.Error(r)
	}
	return nil
}

// delayLeft is how long libpam still waits after a failure; 0 when it does not.
func delayLeft() time.Duration { return time.Duration(C.delay_left()) }
