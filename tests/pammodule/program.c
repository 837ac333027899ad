// SPDX-License-Identifier: Apache-2.0

//go:build ignore

/*
 * program: a program that runs a PAM transaction, as programs do that know nothing of
 * pam_pamprompt.so, and says on standard output, a line each, how each call ended.
 *
 *	program STACKS SERVICE USER WORD...
 *
 * USER may be - for none. The words are done in their order:
 *
 *	conv=null            it has no conversation
 *	conv=refuse          it refuses
 *	conv=dirty           it refuses, and leaves an answer that is none
 *	conv=answer,TEXT     it answers every question so, and says "told" for every text
 *	conv=texts           it says "told" for every text, and refuses questions
 *	conv=nothing         it says that it worked, and answers nothing
 *	authenticate, account, establish, open, close, delete
 *	                     the calls of libpam; NAME RESULT is said
 *	user=NAME            PAM_USER becomes that
 *	env=NAME             the value in the PAM environment
 *	close-descriptors    close all that it did not open itself, and have a file of
 *	                     its own by each number
 *	low                  close standard input and error
 *	ignore               ignore SIGCHLD and SIGHUP
 *	reap                 reap every child in a handler of SIGCHLD, as cron does
 *	thread               all further calls are those of another thread
 *	fork                 the rest is done by a process forked from this one
 *	end                  pam_end
 *	children             "children none", or the number of one that it has
 *	descriptors          how many it has more than at first
 *	search=TEXT          "found" or "not found": whether TEXT, which is written backwards
 *	                     here, stands anywhere in memory
 *	leak=FILE            open it without O_CLOEXEC
 *	pause                wait for a line on standard input
 */

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#include <security/pam_appl.h>

void __syslog_chk(int priority, int flag, const char *format, ...);

static FILE *out;
static const char *behaviour = "refuse";
static pam_handle_t *pamh;
static int status;

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
	va_list list;

	va_start(list, format);
	vfprintf(out, format, list);
	va_end(list);
	fputc('\n', out);
	fflush(out);
}

/* What modules log comes here: libpam finds these before those of the C library. */
static void logged(int priority, const char *format, va_list list)
{
	static const char *const levels[] = {"emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"};
	char text[1024];

	vsnprintf(text, sizeof text, format, list);
	say("log %s %s", levels[priority & 7], text);
}

void syslog(int priority, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	logged(priority, format, list);
	va_end(list);
}

void __syslog_chk(int priority, int flag, const char *format, ...)
{
	va_list list;

	(void)flag;
	va_start(list, format);
	logged(priority, format, list);
	va_end(list);
}

static int own(int n, const struct pam_message **messages, struct pam_response **responses, void *data)
{
	(void)data;
	if (strcmp(behaviour, "refuse") == 0)
		return PAM_CONV_ERR;
	if (strcmp(behaviour, "dirty") == 0) {
		*responses = (struct pam_response *)8;
		return PAM_CONV_ERR;
	}
	for (int i = 0; i < n && strcmp(behaviour, "texts") == 0; i++)
		if (messages[i]->msg_style != PAM_TEXT_INFO && messages[i]->msg_style != PAM_ERROR_MSG)
			return PAM_CONV_ERR;
	*responses = calloc((unsigned)n, sizeof **responses);
	for (int i = 0; i < n; i++) {
		bool text = messages[i]->msg_style == PAM_TEXT_INFO || messages[i]->msg_style == PAM_ERROR_MSG;

		if (text)
			say("told %s", messages[i]->msg);
		else if (strncmp(behaviour, "answer,", 7) == 0)
			(*responses)[i].resp = strdup(behaviour + 7);
	}
	return PAM_SUCCESS;
}

static void use(const char *conversation)
{
	struct pam_conv c = {strcmp(conversation, "null") == 0 ? NULL : own, NULL};

	behaviour = conversation;
	pam_set_item(pamh, PAM_CONV, &c);
}

static void said(const char *name, int result)
{
	status = result;
	say("%s %s", name, result == PAM_SUCCESS ? "PAM_SUCCESS" : pam_strerror(pamh, result));
}

static void reap(int number)
{
	int saved = errno;

	(void)number;
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
	errno = saved;
}

static int count(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = -3; /* itself, and two that are no files */

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void replace_descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	struct dirent *e;

	while ((e = readdir(d))) {
		int fd = atoi(e->d_name), other;

		if (fd <= 2 || fd == dirfd(d) || fd == fileno(out))
			continue;
		other = open("/dev/null", O_RDWR | O_CLOEXEC);
		dup3(other, fd, O_CLOEXEC);
		close(other);
	}
	closedir(d);
}

static int first;

/* Compares in place: a copy of what is searched for would be found. */
static bool stands_in(const char *from, const char *to, const char *backwards)
{
	ptrdiff_t n = (ptrdiff_t)strlen(backwards);

	for (const char *at = from; to - at >= n; at++) {
		ptrdiff_t i = 0;

		while (i < n && at[i] == backwards[n - 1 - i])
			i++;
		if (i == n)
			return true;
	}
	return false;
}

static bool search(const char *backwards)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[4096], mode[5];
	bool found = false;
	void *from, *to;

	while (fgets(line, sizeof line, maps))
		if (sscanf(line, "%p-%p %4s", &from, &to, mode) == 3 && mode[0] == 'r' && !strstr(line, "[v"))
			found |= stands_in(from, to, backwards);
	fclose(maps);
	return found;
}

static void step(const char *word)
{
	static const struct { const char *name; int (*call)(pam_handle_t *, int); int flags; } calls[] = {
		{"authenticate", pam_authenticate, 0}, {"account", pam_acct_mgmt, 0},
		{"establish", pam_setcred, PAM_ESTABLISH_CRED}, {"open", pam_open_session, 0},
		{"close", pam_close_session, 0}, {"delete", pam_setcred, PAM_DELETE_CRED},
	};

	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
		if (strcmp(calls[i].name, word) == 0) {
			said(word, calls[i].call(pamh, calls[i].flags));
			return;
		}
	if (strncmp(word, "conv=", 5) == 0) {
		use(word + 5);
	} else if (strncmp(word, "user=", 5) == 0) {
		pam_set_item(pamh, PAM_USER, word + 5);
	} else if (strncmp(word, "env=", 4) == 0) {
		const char *value = pam_getenv(pamh, word + 4);

		say("%s %s", word + 4, value ? value : "(none)");
	} else if (strcmp(word, "close-descriptors") == 0) {
		replace_descriptors();
	} else if (strcmp(word, "low") == 0) {
		out = fdopen(fcntl(1, F_DUPFD_CLOEXEC, 100), "w");
		close(0);
		close(1);
		close(2);
		first -= 2;
	} else if (strncmp(word, "search=", 7) == 0) {
		say(search(word + 7) ? "found" : "not found");
	} else if (strncmp(word, "leak=", 5) == 0) {
		first += open(word + 5, O_RDONLY) >= 0;
	} else if (strcmp(word, "ignore") == 0) {
		signal(SIGCHLD, SIG_IGN);
		signal(SIGHUP, SIG_IGN);
	} else if (strcmp(word, "reap") == 0) {
		signal(SIGCHLD, reap);
	} else if (strcmp(word, "end") == 0) {
		int result = pam_end(pamh, status);

		pamh = NULL;
		said("end", result);
	} else if (strcmp(word, "children") == 0) {
		pid_t pid = waitpid(-1, NULL, WNOHANG | __WALL);

		if (pid < 0 && errno == ECHILD)
			say("children none");
		else
			say("children %d", pid);
	} else if (strcmp(word, "descriptors") == 0) {
		say("descriptors %d", count() - first);
	} else if (strcmp(word, "pause") == 0) {
		char line[16];

		say("pausing");
		if (!fgets(line, sizeof line, stdin))
			exit(2);
	} else {
		fprintf(stderr, "program: there is no word %s\n", word);
		exit(2);
	}
}

static void *rest(void *words)
{
	for (char **word = words; *word; word++) {
		if (strcmp(*word, "thread") == 0) {
			pthread_t other;

			pthread_create(&other, NULL, rest, word + 1);
			pthread_join(other, NULL);
			return NULL;
		}
		if (strcmp(*word, "fork") == 0) {
			pid_t pid = fork();

			if (pid != 0) {
				waitpid(pid, NULL, 0);
				return NULL;
			}
			continue;
		}
		step(*word);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	struct pam_conv c = {own, NULL};

	out = stdout;
	if (argc < 4) {
		fprintf(stderr, "usage: program STACKS SERVICE USER WORD...\n");
		return 2;
	}
	if (pam_start_confdir(argv[2], strcmp(argv[3], "-") ? argv[3] : NULL, &c, argv[1], &pamh) != PAM_SUCCESS) {
		fprintf(stderr, "program: pam_start failed\n");
		return 2;
	}
	first = count();
	rest(argv + 4);
	return 0;
}
