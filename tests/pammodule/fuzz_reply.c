// SPDX-License-Identifier: Apache-2.0

//go:build ignore

/*
 * Gives what comes from outside to pam/reply.c. libFuzzer calls the entry point; built
 * with -DFROM_STANDARD_INPUT it reads inputs from there, each after its length (4
 * bytes, as the machine has them), and says a byte for each.
 */

#include "../../pam/reply.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

/* The first byte chooses: a packet with so many descriptors, or a response. */
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	unsigned char *copy; /* that nothing is read beyond the end shows in memory of just this size */
	struct reply reply;
	volatile unsigned char touched = 0;

	if (size < 1 || (copy = malloc(size)) == NULL)
		return 0;
	memcpy(copy, data + 1, size - 1);
	copy = realloc(copy, size - 1 ? size - 1 : 1);
	if ((data[0] & 1) == 0) {
		if (reply_parse(copy, size - 1, data[0] >> 1 & 3, &reply) == 0)
			for (size_t i = 0; i < reply.length; i++)
				touched ^= (unsigned char)reply.text[i];
	} else if (response_parse(copy, size - 1) == RESPONSE_ANSWER) {
		unsigned char *packet = malloc(size);

		if (size - 1 < 1 || copy[0] != '+' || memchr(copy, 0, size - 1))
			abort();
		if (packet && packet_decode(copy + 1, size - 2, packet) > (size - 2) / 4 * 3)
			abort();
		free(packet);
	}
	free(copy);
	return 0;
}

#ifdef FROM_STANDARD_INPUT
int main(void)
{
	static unsigned char data[1 << 18];
	unsigned size;

	while (fread(&size, sizeof size, 1, stdin) == 1) {
		if (size > sizeof data || fread(data, 1, size, stdin) != size)
			return 2;
		LLVMFuzzerTestOneInput(data, size);
		putchar('.');
		fflush(stdout);
	}
	return 0;
}
#endif
