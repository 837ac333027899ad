/* SPDX-License-Identifier: Apache-2.0 */

#include "guard.h"

#include <stdlib.h>
#include <string.h>

/* Of the one transaction of this process. */
static struct pam_conv inner;

static int asks(int style)
{
	return style != PAM_TEXT_INFO && style != PAM_ERROR_MSG;
}

/*
 * Some modules (pam_matrix of libpam-wrapper is one) pass no place for responses
 * when they only have something to say. The conversation of msteinert/pam writes
 * there without looking, so it is given one here, which is thrown away.
 */
static int guarded(int n, const struct pam_message **msg, struct pam_response **resp, void *data)
{
	struct pam_response *unwanted = NULL;
	int result;

	(void)data;
	if (n <= 0 || n > PAM_MAX_NUM_MSG || !msg)
		return PAM_CONV_ERR;
	for (int i = 0; i < n; i++)
		if (!msg[i] || (!resp && asks(msg[i]->msg_style)))
			return PAM_CONV_ERR;
	result = inner.conv(n, msg, resp ? resp : &unwanted, inner.appdata_ptr);
	for (int i = 0; unwanted && i < n; i++)
		free(unwanted[i].resp);
	free(unwanted);
	return result;
}

int guard_conversation(pam_handle_t *pamh)
{
	const struct pam_conv outer = {.conv = guarded};
	const void *item = NULL;
	int result = pam_get_item(pamh, PAM_CONV, &item);

	if (result != PAM_SUCCESS)
		return result;
	inner = *(const struct pam_conv *)item;
	return pam_set_item(pamh, PAM_CONV, &outer);
}
