/* SPDX-License-Identifier: Apache-2.0 */

/* Answers: where they come from, and how they go. */
#ifndef PAMPROMPT_ANSWERS_H
#define PAMPROMPT_ANSWERS_H

#include <security/pam_modules.h>

#include "helper.h"
#include "reply.h"

/*
 * Reads what comes on the pipe of a question, and makes the answer of it. When it
 * takes too long that is a refusal.
 */
enum response_kind answer_read(int pipe, int style, deadline until, char **answer);

/* Frees answers, and leaves nothing of them in memory. */
void answers_forget(int n, const struct pam_message **messages, struct pam_response *responses);

#endif
