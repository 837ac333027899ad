/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What pam_pamprompt.so is told, and by whom: packets of its helper, and what comes
 * on the pipe of a question. Nothing in here reads or writes anything; all of it
 * works on bytes that are there already.
 */
#ifndef PAMPROMPT_REPLY_H
#define PAMPROMPT_REPLY_H

#include <stddef.h>
#include <stdint.h>

/* cmd/pamprompt-conv/packets.go is the other side of these. */
enum {
	PROTOCOL = 1,
	MAX_NAME = 255,          /* service and user */
	MAX_REASON = 4096,
	MAX_TEXT = 32 << 10,     /* of a message; a binary packet may be as long */
	MAX_REQUEST = 16 + MAX_TEXT,
	MAX_REPLY = 1024,
	MAX_ANSWER = 64 << 10,
	MAX_RESPONSE = 1 + MAX_ANSWER, /* what a pipe may say */
};

/* The first byte of a request; the next four are its number, the most significant first. */
enum request_kind {
	REQUEST_OPEN = 'O', /* protocol, whether to wait for a broker that was there (1), seconds a question waits (4 bytes), the user's uid (4), and service, user and reason, each ended by NUL */
	REQUEST_ASK = 'Q',  /* style, text */
	REQUEST_TELL = 'T', /* style, text */
	REQUEST_DONE = 'E', /* the last question has ended; there is no reply */
};

/* The first byte of a reply; the next four are the number of the request. */
enum reply_kind {
	REPLY_READY = 'R', /* to OPEN */
	REPLY_ASKED = 'A', /* to ASK: the pipe of the answer rides along */
	REPLY_TOLD = 'D',  /* to TELL */
	REPLY_AWAY = 'U',  /* to any: it cannot be done, and why */
};

struct reply {
	enum reply_kind kind;
	uint32_t number;
	const char *text; /* of REPLY_AWAY: not ended by NUL, and may hold anything */
	size_t length;
};

/*
 * Takes a packet apart that came with so many descriptors. Returns 0, or -1 for what
 * is no reply. out points into the packet.
 */
int reply_parse(const unsigned char *packet, size_t size, int descriptors, struct reply *out);

enum response_kind {
	RESPONSE_ANSWER,    /* what follows the first byte */
	RESPONSE_REFUSAL,   /* nobody answered: a word follows */
	RESPONSE_LOST,      /* the broker is gone */
	RESPONSE_MALFORMED,
};

/*
 * Says what came on the pipe of a question, up to its end. An answer has no NUL in it;
 * that to a question of style PAM_BINARY_PROMPT is a packet in base64.
 */
enum response_kind response_parse(const unsigned char *bytes, size_t size);

/*
 * Decodes a packet of libpamc (security/pam_client.h), which says of itself how long
 * it is, header included. packet has room for three quarters of size. Returns its
 * length, or 0 for what is not one whole packet in base64 (RFC 4648, with padding).
 */
size_t packet_decode(const unsigned char *text, size_t size, unsigned char *packet);

/* The length that the header of a packet says; 0 if that cannot be. */
size_t packet_length(const unsigned char *packet);

#endif
