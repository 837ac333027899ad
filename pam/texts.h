/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What modules have told the program since their last question. If the next one is
 * the broker's, whoever answers has to see it: "wrong password" stands above the prompt.
 */
#ifndef PAMPROMPT_TEXTS_H
#define PAMPROMPT_TEXTS_H

#include <stdbool.h>

#include <security/pam_modules.h>

enum { MAX_TEXTS = 8 }; /* the oldest ones are left out */

struct texts {
	struct pam_message list[MAX_TEXTS]; /* the first count of them, in their order; their text is ours */
	int count;
};

/* Whether a message of a style wants no answer. */
bool is_text(int style);

/* Keeps those of n messages that are texts. One for which there is no memory is left out. */
void texts_keep(struct texts *t, int n, const struct pam_message **messages);

void texts_forget(struct texts *t);

#endif
