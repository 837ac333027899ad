/* SPDX-License-Identifier: Apache-2.0 */

#include <security/pam_appl.h>

/*
 * Makes the transaction wait after a failure for as long as its modules asked
 * with pam_fail_delay(3), whatever comes. There can be one such transaction in a
 * process. Returns a PAM code.
 */
int delay_failures(pam_handle_t *pamh);

/* How much of such a wait is left, in nanoseconds; 0 while there is none. */
long long delay_left(void);
