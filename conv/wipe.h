/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Overwrites what functions that have returned left on the stack of the calling
 * thread: of a module, that can be an answer (pam_exec has one in a variable).
 */
void wipe_leftovers(void);
