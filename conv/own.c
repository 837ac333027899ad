/* SPDX-License-Identifier: Apache-2.0 */

#include "own.h"

#include <pthread.h>
#include <signal.h>

#define SIGNALS 64

static struct sigaction actions[SIGNALS + 1];
static sigset_t mask;

void note_signals(void)
{
	for (int sig = 1; sig <= SIGNALS; sig++)
		sigaction(sig, NULL, &actions[sig]); /* fails for those of the C library's own */
	pthread_sigmask(SIG_SETMASK, NULL, &mask);
}

/*
 * Without its handler of SIGCHLD the Go runtime does not hear that the command has
 * ended, and one that a module leaves behind may run on a stack of the runtime's.
 */
void restore_signals(void)
{
	for (int sig = 1; sig <= SIGNALS; sig++) {
		struct sigaction now;

		if (sigaction(sig, NULL, &now) == 0 &&
		    (now.sa_handler != actions[sig].sa_handler || now.sa_flags != actions[sig].sa_flags))
			sigaction(sig, &actions[sig], NULL);
	}
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
}
