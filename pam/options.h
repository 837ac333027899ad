/* SPDX-License-Identifier: Apache-2.0 */

/* The arguments of pam_pamprompt.so in a stack. */
#ifndef PAMPROMPT_OPTIONS_H
#define PAMPROMPT_OPTIONS_H

#include <stdbool.h>

#include <security/pam_modules.h>

struct options {
	const char *service; /* whom the broker is told to ask for; NULL for PAM_SERVICE */
	const char *reason;  /* empty for none */
	unsigned timeout;    /* seconds that a question waits */
	bool fallback;       /* the broker comes first, the program's conversation when it is away */
	bool quiet;          /* nothing is logged when it is */
	bool debug;
};

/*
 * Logs what is wrong, and goes on with what is right. The options point into argv,
 * which lasts as long as the transaction.
 */
void parse_options(pam_handle_t *pamh, int argc, const char **argv, struct options *o);

#endif
