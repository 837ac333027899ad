/* SPDX-License-Identifier: Apache-2.0 */

#include "wipe.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>

/* Of the stack below the caller; the deepest modules use less. */
#define DEPTH (128 << 10)

void wipe_leftovers(void)
{
	char below[DEPTH];

	explicit_bzero(below, sizeof below);
	/*
	 * A signal that comes while a module copies an answer leaves the registers
	 * that it copied with on the signal stack. The next one, to which the Go
	 * runtime has nothing to say, overwrites them.
	 */
	pthread_kill(pthread_self(), SIGURG);
}
