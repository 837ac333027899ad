/* SPDX-License-Identifier: Apache-2.0 */

#include "reply.h"

#include <string.h>

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

enum response_kind response_parse(const unsigned char *bytes, size_t size)
{
	if (size == 0)
		return RESPONSE_LOST;
	if (size > MAX_RESPONSE || memchr(bytes, 0, size))
		return RESPONSE_MALFORMED;
	return bytes[0] == '+' ? RESPONSE_ANSWER : bytes[0] == '-' ? RESPONSE_REFUSAL : RESPONSE_MALFORMED;
}

/* What a letter of base64 stands for; -1 for what is none. */
static int sextet(unsigned char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

size_t packet_decode(const unsigned char *text, size_t size, unsigned char *packet)
{
	size_t length = 0, padding = 0;

	if (size < 8 || size % 4 != 0 || size > MAX_ANSWER)
		return 0;
	if (text[size - 1] == '=')
		padding = text[size - 2] == '=' ? 2 : 1;
	for (size_t at = 0; at < size; at += 4) {
		size_t letters = at + 4 == size ? 4 - padding : 4;
		uint32_t bits = 0;

		for (size_t i = 0; i < 4; i++) {
			int six = i < letters ? sextet(text[at + i]) : 0;

			if (six < 0)
				return 0;
			bits = bits << 6 | (uint32_t)six;
		}
		for (size_t i = 0; i < letters - 1; i++)
			packet[length++] = (unsigned char)(bits >> (16 - 8 * i));
		if ((bits & ((1U << (8 * (4 - letters))) - 1)) != 0)
			return 0; /* bits that stand for nothing */
	}
	return length >= HEADER && packet_length(packet) == length ? length : 0;
}
