/* SPDX-License-Identifier: Apache-2.0 */

#include <security/pam_appl.h>

/*
 * Stands between the modules of a transaction and its conversation, for modules
 * that call it wrongly. There can be one such transaction in a process. Returns
 * a PAM code.
 */
int guard_conversation(pam_handle_t *pamh);
