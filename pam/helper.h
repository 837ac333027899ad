/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The helper of one PAM transaction: a process of its own, which talks to the broker
 * and to us by packets. It is no child of the program: whoever waits for children
 * never meets it.
 */
#ifndef PAMPROMPT_HELPER_H
#define PAMPROMPT_HELPER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* A link is zeroed at first, which means that there is no helper. */
struct link {
	int socket;
	pid_t owner;  /* who started the helper: a process forked from that must not talk to it */
	dev_t device; /* what the socket is known by: the program may close descriptors that */
	ino_t inode;  /* it does not know, and have another file by the number */
	uint32_t number; /* of the last request */
};

#define NO_UID UINT32_MAX /* (uid_t) -1 */

struct context {
	const char *service;
	const char *user;   /* empty when it is not known yet */
	const char *reason; /* empty for none */
	uint32_t uid;       /* of the user; NO_UID when it is not known */
	unsigned timeout;   /* seconds */
	bool again;         /* there was a broker: wait for the next one */
};

/* Milliseconds of CLOCK_MONOTONIC: no wait is longer than until one of these. */
typedef int64_t deadline;
deadline deadline_in(unsigned seconds);

/* What is left of until, for poll(2); 0 when it has passed. */
int remaining(deadline until);

enum outcome {
	DONE,
	AWAY,   /* the helper or the broker cannot do it; trouble says why */
	BROKEN, /* the helper is gone, which may be since it had nothing to do for long */
};

struct trouble { char text[256]; };

/* Whether there is a helper that this process may talk to. */
bool link_up(const struct link *l);

/* Starts a helper and waits until the broker is ready. There must be none. */
enum outcome link_start(struct link *l, const struct context *c, struct trouble *t);

/* Ends the helper, if there is one. A forked process ends nothing. */
void link_end(struct link *l);

/* Tells somebody a text. */
enum outcome link_tell(struct link *l, int style, const char *text, struct trouble *t);

/*
 * Puts a question of size bytes; pipe is what the answer comes on, which the caller
 * closes. done says that it is not waited for any more.
 */
enum outcome link_ask(struct link *l, int style, const void *text, size_t size, int *pipe, struct trouble *t);
void link_done(struct link *l);

#endif
