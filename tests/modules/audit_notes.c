// SPDX-License-Identifier: Apache-2.0

//go:build ignore

/*
 * audit_notes: stands before libaudit, by LD_PRELOAD, and appends to the file
 * AUDIT_NOTES what libpam tells the kernel's audit system, and whether the kernel
 * took it, one event a line:
 *
 *	1100 PAM:authentication grantors=pam_unix acct=anna host=- tty=- success=1 taken=1
 *
 * The numbers are those of linux/audit.h. Where audit is not enabled the kernel
 * takes events and forgets them, so nobody else can see them.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int notes = -1;

/* Before the program empties its environment. */
__attribute__((constructor)) static void open_notes(void)
{
	const char *path = getenv("AUDIT_NOTES");

	if (path)
		notes = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

int audit_log_acct_message(int fd, int type, const char *program, const char *op, const char *name,
			   unsigned int id, const char *host, const char *addr, const char *tty, int result);

int audit_log_acct_message(int fd, int type, const char *program, const char *op, const char *name,
			   unsigned int id, const char *host, const char *addr, const char *tty, int result)
{
	__typeof__(&audit_log_acct_message) real = dlsym(RTLD_NEXT, "audit_log_acct_message");
	int r = real ? real(fd, type, program, op, name, id, host, addr, tty, result) : -1;

	dprintf(notes, "%d %s acct=%s host=%s tty=%s success=%d taken=%d\n", type, op, name ? name : "-",
		host ? host : "-", tty ? tty : "-", result, r > 0);
	return r;
}
