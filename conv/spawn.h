/* SPDX-License-Identifier: Apache-2.0 */

#ifndef SPAWN_H
#define SPAWN_H

#include <sys/resource.h>
#include <sys/types.h>

/* child is the process that spawn makes. */
struct child {
	char **arguments, **environment;
	char **programs;       /* to be tried in this order, up to NULL */
	const char *directory; /* to be entered, */
	const char *otherwise; /* or this one; NULL is none */
	int stdio[3];          /* descriptors from 3 on */
	int terminal;          /* the first one becomes the controlling terminal */
	uid_t uid;
	gid_t gid;
	struct rlimit files, core;
};

/* Where a child failed. */
enum step {
	STEP_FORK = 1,
	STEP_SESSION,
	STEP_STDIO,
	STEP_LIMITS,
	STEP_IDENTITY,
	STEP_PROTECT,
	STEP_TERMINAL,
	STEP_DIRECTORY,
	STEP_EXEC,
};

struct trouble {
	int step, number; /* 0 when there is none; number is an errno */
};

/* As they were before the Go runtime and this program changed them. */
extern struct rlimit first_files, first_core;

pid_t spawn(const struct child *c, struct trouble *t);

#endif
