/* SPDX-License-Identifier: Apache-2.0 */

#include "texts.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_LENGTH = 4096 }; /* of one that is kept */

static void keep(struct texts *t, int style, const char *text)
{
	char *copy = strndup(text, MAX_LENGTH);

	if (!copy)
		return;
	if (t->count == MAX_TEXTS) {
		free((char *)t->list[0].msg);
		memmove(t->list, t->list + 1, sizeof t->list[0] * (MAX_TEXTS - 1));
		t->count--;
	}
	t->list[t->count++] = (struct pam_message){style, copy};
}

bool is_text(int style) { return style == PAM_TEXT_INFO || style == PAM_ERROR_MSG; }

void texts_keep(struct texts *t, int n, const struct pam_message **messages)
{
	for (int i = 0; i < n; i++)
		if (is_text(messages[i]->msg_style) && messages[i]->msg)
			keep(t, messages[i]->msg_style, messages[i]->msg);
}

void texts_forget(struct texts *t)
{
	for (int i = 0; i < t->count; i++)
		free((char *)t->list[i].msg);
	t->count = 0;
}
