// SPDX-License-Identifier: Apache-2.0

//go:build ignore

/*
 * child_hold: stands before the C library, by LD_PRELOAD, in a worker whose child
 * is to become a program of a user. The child is held, as the user already and not
 * yet the program, where it enters its working directory: it writes its pid to the
 * fifo CHILD_HOLD_SAYS, a line, and waits for a byte from CHILD_HOLD_WAITS.
 *
 * The kernel leaves a process that changes its identity as dumpable as
 * fs.suid_dumpable says, which is one setting for the whole machine. Here it is as
 * where that is 1.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static int says = -1, waits = -1;

/* As root: the user may not enter where they are. */
__attribute__((constructor)) static void open_both(void)
{
	const char *path = getenv("CHILD_HOLD_SAYS");

	if (path)
		says = open(path, O_RDWR | O_CLOEXEC);
	path = getenv("CHILD_HOLD_WAITS");
	if (path)
		waits = open(path, O_RDWR | O_CLOEXEC);
}

int setresuid(uid_t ruid, uid_t euid, uid_t suid)
{
	if (syscall(SYS_setresuid, ruid, euid, suid))
		return -1;
	prctl(PR_SET_DUMPABLE, 1);
	return 0;
}

int chdir(const char *path)
{
	static int held;
	char byte;

	if (geteuid() != 0 && !held) {
		held = 1;
		dprintf(says, "%d\n", getpid());
		while (read(waits, &byte, 1) < 0 && errno == EINTR)
			;
	}
	return (int)syscall(SYS_chdir, path);
}
