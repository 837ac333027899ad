/* SPDX-License-Identifier: Apache-2.0 */

#define _GNU_SOURCE
#include "answers.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Makes the answer of what follows the first byte of a response; NULL for what is none. */
static char *answer_of(const unsigned char *response, size_t size, int style)
{
	char *answer = calloc(size, 1); /* with room for a NUL in the place of that byte */

	if (!answer)
		return NULL;
	if (style != PAM_BINARY_PROMPT)
		return memcpy(answer, response + 1, size - 1);
	if (packet_decode(response + 1, size - 1, (unsigned char *)answer))
		return answer;
	explicit_bzero(answer, size);
	free(answer);
	return NULL;
}

enum response_kind answer_read(int pipe, int style, deadline until, char **answer)
{
	unsigned char *all = malloc(MAX_RESPONSE + 1);
	enum response_kind kind = RESPONSE_REFUSAL;
	size_t size = 0;

	if (!all)
		return RESPONSE_MALFORMED;
	while (size <= MAX_RESPONSE) {
		struct pollfd p = {.fd = pipe, .events = POLLIN};
		ssize_t n = poll(&p, 1, remaining(until));

		if (n == 0)
			break;
		if (n > 0)
			n = read(pipe, all + size, MAX_RESPONSE + 1 - size);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n <= 0) {
			kind = n == 0 ? response_parse(all, size) : RESPONSE_MALFORMED;
			break;
		}
		size += (size_t)n;
	}
	if (size > MAX_RESPONSE || (kind == RESPONSE_ANSWER && (*answer = answer_of(all, size, style)) == NULL))
		kind = RESPONSE_MALFORMED;
	explicit_bzero(all, size);
	free(all);
	return kind;
}

void answers_forget(int n, const struct pam_message **messages, struct pam_response *responses)
{
	if (!responses)
		return;
	for (int i = 0; i < n; i++) {
		char *answer = responses[i].resp;

		if (answer && messages[i]->msg_style == PAM_BINARY_PROMPT)
			explicit_bzero(answer, packet_length((unsigned char *)answer));
		else if (answer)
			explicit_bzero(answer, strlen(answer));
		free(answer);
	}
	free(responses);
}
