/* SPDX-License-Identifier: Apache-2.0 */

#include <limits.h>
#include <malloc.h>
#include <stdlib.h>
#include <unistd.h>

#define ROOM (1 << 20)
#define PIECE (64 << 10)

/*
 * Has free overwrite what it gets, for modules that do not wipe what they were
 * told; and has the heap of the main thread, on which PAM runs, be a mebibyte
 * larger than it was, once and for all: so it can be locked as a whole.
 */
void prepare_heap(void)
{
	void *pieces[2 * ROOM / PIECE], *end = sbrk(0);
	int n = 0;

	mallopt(M_PERTURB, 0xff); /* what malloc gives is zero then, the kindest there is */
	mallopt(M_TOP_PAD, ROOM);
	mallopt(M_TRIM_THRESHOLD, INT_MAX);
	while (n < 2 * ROOM / PIECE && sbrk(0) == end)
		pieces[n++] = malloc(PIECE);
	while (n > 0)
		free(pieces[--n]);
}
