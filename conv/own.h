/* SPDX-License-Identifier: Apache-2.0 */

#ifndef PAMPROMPT_OWN_H
#define PAMPROMPT_OWN_H

/* Of this thread and process: what becomes of signals, and which are blocked. */
void note_signals(void);
void restore_signals(void);

#endif
