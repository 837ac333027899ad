/* SPDX-License-Identifier: Apache-2.0 */

#include "reply.h"

#include <string.h>

#include <security/pam_appl.h>

#ifndef PAM_BINARY_PROMPT
#define PAM_BINARY_PROMPT 7
#endif

enum { HEADER = 5 };

static uint32_t number_at(const unsigned char *b)
{
	return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

int reply_parse(const unsigned char *packet, size_t size, int descriptors, struct reply *out)
{
	if (size < HEADER || size > MAX_REPLY)
		return -1;
	out->kind = packet[0];
	out->number = number_at(packet + 1);
	out->text = (const char *)packet + HEADER;
	out->length = size - HEADER;
	switch (out->kind) {
	case REPLY_READY:
	case REPLY_TOLD:
		return out->length == 0 && descriptors == 0 ? 0 : -1;
	case REPLY_ASKED:
		return out->length == 0 && descriptors == 1 ? 0 : -1;
	case REPLY_AWAY:
		return descriptors == 0 ? 0 : -1;
	}
	return -1;
}

size_t packet_length(const unsigned char *packet)
{
	uint32_t length = number_at(packet);

	return length >= HEADER && length <= MAX_ANSWER ? length : 0;
}

enum response_kind response_parse(const unsigned char *bytes, size_t size, int style)
{
	if (size == 0)
		return RESPONSE_LOST;
	if (size > MAX_RESPONSE)
		return RESPONSE_MALFORMED;
	if (bytes[0] == '-')
		return RESPONSE_REFUSAL;
	if (bytes[0] != '+')
		return RESPONSE_MALFORMED;
	bytes++;
	size--;
	if (style == PAM_BINARY_PROMPT)
		return size >= HEADER && packet_length(bytes) == size ? RESPONSE_ANSWER : RESPONSE_MALFORMED;
	return memchr(bytes, 0, size) ? RESPONSE_MALFORMED : RESPONSE_ANSWER;
}
