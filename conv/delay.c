/* SPDX-License-Identifier: Apache-2.0 */

#include "delay.h"

#include <errno.h>
#include <stdatomic.h>
#include <time.h>

#define SECOND 1000000000LL

/* CLOCK_MONOTONIC, in nanoseconds; 0 while nothing is waited for. */
static _Atomic long long until;

static long long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * SECOND + t.tv_nsec;
}

/*
 * libpam calls this at the end of pam_authenticate and pam_chauthtok, also when
 * there is nothing to wait for. Its own way is one select(2), which ends with
 * the first signal that comes, and a Go program gets many.
 */
static void fail_delay(int status, unsigned int usec, void *data)
{
	long long end = now() + usec * 1000LL;
	const struct timespec t = {.tv_sec = end / SECOND, .tv_nsec = end % SECOND};

	(void)data;
	if (status == PAM_SUCCESS || usec == 0)
		return;
	atomic_store(&until, end);
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
		;
	atomic_store(&until, 0);
}

int delay_failures(pam_handle_t *pamh)
{
	return pam_set_item(pamh, PAM_FAIL_DELAY, (const void *)fail_delay);
}

long long delay_left(void)
{
	long long end = atomic_load(&until), left = end ? end - now() : 0;

	return left > 0 ? left : 0;
}
