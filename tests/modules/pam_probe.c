// SPDX-License-Identifier: Apache-2.0

//go:build ignore

/*
 * pam_probe: a PAM module that does on command what real modules do only when
 * something is wrong. Its arguments are PHASE:ACTION[=VALUE]; the actions of a
 * phase run in their order. Arguments with spaces are written in brackets:
 *
 *	auth required /path/pam_probe.so [auth:ask=secret,Password: ] auth:expect=pw
 *
 * PHASE is auth, setcred (establish), delcred (delete), account, chauthtok (the
 * update; the preliminary check says yes), open or close.
 *
 *	ask=STYLE,TEXT     ask; STYLE is secret, visible, choice or binary
 *	info=TEXT          say it in style info
 *	error=TEXT         say it in style error
 *	batch=STYLE,TEXT|STYLE,TEXT...
 *	                   several messages in one call; styles info and error too
 *	converr=PAM_XXX    what to return when a question fails, if not PAM_CONV_ERR;
 *	                   PAM_SUCCESS means to go on
 *	expect=TEXT        return PAM_AUTH_ERR if the last answer is another one
 *	fnv1a=HEX          return PAM_AUTH_ERR if the last answer has another checksum
 *	                   than that, FNV-1a of 64 bits: so the answer is nowhere else
 *	export=NAME        put the last answer into the PAM environment; a binary one,
 *	                   which ends where its length says, in hexadecimal
 *	note=FILE          append the last answer to the file
 *	putenv=NAME=VALUE  put that into the PAM environment
 *	tty=NAME           put PAM_TTY into the PAM environment
 *	setuser=NAME       change PAM_USER
 *	result=PAM_XXX     return that
 *	crash=SEGV|ABRT|KILL
 *	hang               never return
 *	fork               leave a process behind that never ends
 *	log=FILE           append the phase to the file; and "end", with the status
 *	                   that pam_end was given, when that comes
 *	at-end=TEXT        say it in style info when pam_end comes
 *	run=COMMAND        have a shell run that; if it fails, PAM_SYSTEM_ERR
 *	delay=USEC         ask for a delay when the stack fails: pam_fail_delay(3)
 *	dumpable           make the process dumpable, as a change of its identity may
 *	seteuid=UID        take on a user's identity
 *	grow               take 64 MiB of memory and 2 MiB of stack, and give it back
 *	limit-files=N      let the process have so many files open, and no more
 *	leave-open=FILE    leave a descriptor of it open, also for what is executed
 *	leave              leave a copy of something on the stack
 *	look=FILE          write whether it is still there
 *	freed=FILE         write how much is left of what was in memory that was freed
 *	facts=FILE         write what the process is like that modules run in
 *
 * TEXT may be hex:48656c6c6f for any bytes, or repeat:N for N times "x".
 */

#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <security/pam_ext.h>
#include <security/pam_modules.h>

#define MAX_BATCH 8

static const char *const results[] = {
	"PAM_SUCCESS", "PAM_OPEN_ERR", "PAM_SYMBOL_ERR", "PAM_SERVICE_ERR", "PAM_SYSTEM_ERR", "PAM_BUF_ERR",
	"PAM_PERM_DENIED", "PAM_AUTH_ERR", "PAM_CRED_INSUFFICIENT", "PAM_AUTHINFO_UNAVAIL", "PAM_USER_UNKNOWN",
	"PAM_MAXTRIES", "PAM_NEW_AUTHTOK_REQD", "PAM_ACCT_EXPIRED", "PAM_SESSION_ERR", "PAM_CRED_UNAVAIL",
	"PAM_CRED_EXPIRED", "PAM_CRED_ERR", "PAM_NO_MODULE_DATA", "PAM_CONV_ERR", "PAM_AUTHTOK_ERR",
	"PAM_AUTHTOK_RECOVERY_ERR", "PAM_AUTHTOK_LOCK_BUSY", "PAM_AUTHTOK_DISABLE_AGING", "PAM_TRY_AGAIN",
	"PAM_IGNORE", "PAM_ABORT", "PAM_AUTHTOK_EXPIRED", "PAM_MODULE_UNKNOWN",
};

/* One phase of one call: what its actions share. */
struct probe {
	pam_handle_t *pamh;
	const char *phase;
	int converr;
	int style;     /* of the last question */
	char *answer;  /* the last one, or NULL */
};

static int result_of(const char *name)
{
	for (size_t i = 0; i < sizeof results / sizeof *results; i++)
		if (strcmp(results[i], name) == 0)
			return (int)i;
	return PAM_SYSTEM_ERR;
}

static int style_of(const char *name, size_t len)
{
	static const struct { const char *name; int style; } styles[] = {
		{"secret", PAM_PROMPT_ECHO_OFF}, {"visible", PAM_PROMPT_ECHO_ON}, {"choice", PAM_RADIO_TYPE},
		{"binary", PAM_BINARY_PROMPT}, {"info", PAM_TEXT_INFO}, {"error", PAM_ERROR_MSG},
	};

	for (size_t i = 0; i < sizeof styles / sizeof *styles; i++)
		if (strlen(styles[i].name) == len && strncmp(styles[i].name, name, len) == 0)
			return styles[i].style;
	return atoi(name); /* any other, by its number */
}

/* The text that an argument stands for, to be freed. */
static char *text_of(const char *arg, size_t len)
{
	char *text;

	if (strncmp(arg, "repeat:", 7) == 0) {
		size_t n = strtoul(arg + 7, NULL, 10);

		text = calloc(n + 1, 1);
		return memset(text, 'x', n);
	}
	if (strncmp(arg, "hex:", 4) != 0)
		return strndup(arg, len);
	text = calloc(len / 2, 1);
	for (size_t i = 0; 4 + 2 * i + 1 < len; i++)
		sscanf(arg + 4 + 2 * i, "%2hhx", (unsigned char *)&text[i]);
	return text;
}

static void forget(struct probe *p)
{
	if (p->answer)
		explicit_bzero(p->answer, p->style == PAM_BINARY_PROMPT ? 1 : strlen(p->answer));
	free(p->answer);
	p->answer = NULL;
}

/* Sends what "STYLE,TEXT|STYLE,TEXT" describes as one batch. */
static int converse(struct probe *p, const char *arg)
{
	struct pam_message messages[MAX_BATCH];
	const struct pam_message *list[MAX_BATCH];
	struct pam_response *responses = NULL;
	const struct pam_conv *conv = NULL;
	int n = 0, result;

	while (n < MAX_BATCH) {
		size_t len = strcspn(arg, "|");
		const char *comma = memchr(arg, ',', len);

		if (!comma)
			return PAM_SYSTEM_ERR;
		messages[n].msg_style = style_of(arg, (size_t)(comma - arg));
		messages[n].msg = text_of(comma + 1, len - (size_t)(comma + 1 - arg));
		list[n] = &messages[n];
		n++;
		if (arg[len] == '\0')
			break;
		arg += len + 1;
	}
	result = pam_get_item(p->pamh, PAM_CONV, (const void **)&conv);
	if (result == PAM_SUCCESS) /* cron and atd have none, which pam_prompt(3) minds too */
		result = conv && conv->conv ? conv->conv(n, list, &responses, conv->appdata_ptr) : PAM_CONV_ERR;
	for (int i = 0; i < n; i++) {
		int style = messages[i].msg_style;

		free((char *)messages[i].msg);
		if (result != PAM_SUCCESS)
			continue;
		if (style == PAM_TEXT_INFO || style == PAM_ERROR_MSG) {
			free(responses[i].resp);
			continue;
		}
		forget(p);
		p->style = style;
		p->answer = responses[i].resp;
	}
	free(responses);
	return result == PAM_SUCCESS ? PAM_SUCCESS : p->converr;
}

static int has_checksum(const struct probe *p, const char *want)
{
	unsigned long long sum = 0xcbf29ce484222325;

	for (const unsigned char *c = (const unsigned char *)p->answer; c && *c; c++)
		sum = (sum ^ *c) * 0x100000001b3;
	return p->answer && sum == strtoull(want, NULL, 16) ? PAM_SUCCESS : PAM_AUTH_ERR;
}

static int say(struct probe *p, const char *style, const char *text)
{
	char *arg = NULL;
	int result;

	if (asprintf(&arg, "%s,%s", style, text) < 0)
		return PAM_BUF_ERR;
	result = converse(p, arg);
	free(arg);
	return result;
}

static void say_at_end(pam_handle_t *pamh, void *text, int status)
{
	struct probe p = {.pamh = pamh, .converr = PAM_CONV_ERR};

	if (!(status & PAM_DATA_REPLACE))
		say(&p, "info", text);
	free(text);
}

static int export(struct probe *p, const char *name)
{
	const unsigned char *packet = (const unsigned char *)p->answer;
	char *entry = NULL, *hex;
	size_t len;
	int result;

	if (!p->answer)
		return PAM_SYSTEM_ERR;
	if (p->style != PAM_BINARY_PROMPT) {
		if (asprintf(&entry, "%s=%s", name, p->answer) < 0)
			return PAM_BUF_ERR;
	} else {
		len = (size_t)packet[0] << 24 | (size_t)packet[1] << 16 | (size_t)packet[2] << 8 | packet[3];
		hex = calloc(2 * len + 1, 1);
		for (size_t i = 0; i < len; i++)
			sprintf(hex + 2 * i, "%02x", packet[i]);
		if (asprintf(&entry, "%s=%s", name, hex) < 0)
			return PAM_BUF_ERR;
		free(hex);
	}
	result = pam_putenv(p->pamh, entry);
	free(entry);
	return result;
}

static int crash(const char *how)
{
	if (strcmp(how, "SEGV") == 0)
		*(volatile int *)8 = 1;
	if (strcmp(how, "ABRT") == 0)
		abort();
	kill(getpid(), SIGKILL);
	return PAM_SYSTEM_ERR;
}

static void append(const char *file, const char *line)
{
	int fd = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

	if (fd >= 0) {
		dprintf(fd, "%s\n", line);
		close(fd);
	}
}

static int note(struct probe *p, const char *file)
{
	append(file, p->answer ? p->answer : "");
	return PAM_SUCCESS;
}

static void at_end(pam_handle_t *pamh, void *file, int status)
{
	char line[64];

	(void)pamh;
	if (!(status & PAM_DATA_REPLACE)) {
		snprintf(line, sizeof line, "end %d", status & 0xff);
		append(file, line);
	}
	free(file);
}

static int log_phase(struct probe *p, const char *file)
{
	append(file, p->phase);
	return pam_set_data(p->pamh, "pam_probe", strdup(file), at_end);
}

/* Counts the descriptors that a command would inherit besides 0, 1 and 2. */
static int inheritable(void)
{
	int n = 0;

	for (int fd = 3; fd < 1024; fd++) {
		int flags = fcntl(fd, F_GETFD);

		n += flags >= 0 && !(flags & FD_CLOEXEC);
	}
	return n;
}

static int facts(const char *file)
{
	FILE *f = fopen(file, "we");
	struct sigaction sigpipe;
	struct rlimit core;
	mode_t mask = umask(0);
	char *cwd = getcwd(NULL, 0);
	int variables = 0;
	extern char **environ;

	umask(mask);
	sigaction(SIGPIPE, NULL, &sigpipe);
	getrlimit(RLIMIT_CORE, &core);
	while (environ && environ[variables])
		variables++;
	if (!f)
		return PAM_SYSTEM_ERR;
	fprintf(f, "main thread %d\nvariables %d\ndumpable %d\ncore %lu of %lu\numask %03o\ncwd %s\nsession leader %d\n"
		"SIGPIPE ignored %d\ninherited descriptors %d\n",
		syscall(SYS_gettid) == getpid(), variables, prctl(PR_GET_DUMPABLE), (unsigned long)core.rlim_cur, (unsigned long)core.rlim_max,
		mask, cwd, getsid(0) == getpid(), sigpipe.sa_handler == SIG_IGN, inheritable());
	free(cwd);
	return fclose(f) == 0 ? PAM_SUCCESS : PAM_SYSTEM_ERR;
}

/* Needs the stack, whatever the compiler thinks of it. */
static int deep(int n)
{
	volatile char frame[64 << 10];

	frame[0] = frame[sizeof frame - 1] = (char)n;
	return n == 0 ? frame[0] : deep(n - 1) + frame[sizeof frame - 1];
}

static int grow(void)
{
	void *pieces[1024];
	int n = 0, result = PAM_SUCCESS;

	for (; n < 1024 && result == PAM_SUCCESS; n++) {
		pieces[n] = malloc(64 << 10);
		if (!pieces[n])
			result = PAM_BUF_ERR;
	}
	while (n > 0)
		free(pieces[--n]);
	return deep(32) < 0 ? PAM_SYSTEM_ERR : result;
}

#define LEFT 512

/* Has n frames of 4 KiB between the caller and what it leaves. */
static __attribute__((noinline)) int leave(int n)
{
	volatile char frame[4096];

	for (size_t i = 0; i < LEFT; i++)
		frame[i] = n == 0 ? 'L' : 0;
	return n == 0 ? frame[0] : leave(n - 1) + frame[0];
}

/* Counts, for the whole depth, what leave left there. */
static __attribute__((noinline)) int look(const char *file)
{
	volatile char frame[128 << 10];
	volatile char *p = frame;
	size_t left = 0;

	__asm__("" : "+r"(p)); /* the compiler must not see that nothing was written there */
	for (size_t i = 0; i < sizeof frame; i++)
		left += p[i] == 'L';
	append(file, left >= LEFT ? "left" : "wiped");
	return PAM_SUCCESS;
}

/* What malloc itself writes into memory that is free, and does not. */
#define MALLOC_OWN 40

static int freed(const char *file)
{
	static const size_t sizes[] = {64, 600, 5000, 40000};
	FILE *f = fopen(file, "we");

	if (!f)
		return PAM_SYSTEM_ERR;
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		char *piece = malloc(sizes[i]), *behind = malloc(16);
		volatile char *p = piece;
		size_t left = 0;

		__asm__("" : "+r"(p)); /* the compiler must not see that it is the same */
		for (size_t j = 0; j < sizes[i]; j++)
			p[j] = 'S';
		free(piece);
		for (size_t j = 0; j < sizes[i]; j++)
			left += p[j] == 'S';
		fprintf(f, "%zu: %s\n", sizes[i], left > MALLOC_OWN ? "left" : "overwritten");
		free(behind);
	}
	return fclose(f) == 0 ? PAM_SUCCESS : PAM_SYSTEM_ERR;
}

static void hang(void)
{
	for (;;)
		pause();
}

static int export_tty(struct probe *p, const char *name)
{
	const void *tty = NULL;
	char entry[256];

	pam_get_item(p->pamh, PAM_TTY, &tty);
	snprintf(entry, sizeof entry, "%s=%s", name, tty ? (const char *)tty : "none");
	return pam_putenv(p->pamh, entry);
}

/* Runs one action; *done says that the phase returns what it returned. */
static int act(struct probe *p, const char *action, int *done)
{
	size_t len = strcspn(action, "=");
	const char *value = action[len] ? action + len + 1 : "";

#define IS(name) (len == sizeof name - 1 && strncmp(action, name, len) == 0)
	if (IS("ask") || IS("batch"))
		return converse(p, value);
	if (IS("info") || IS("error"))
		return say(p, len == 4 ? "info" : "error", value);
	if (IS("converr"))
		return p->converr = result_of(value), PAM_SUCCESS;
	if (IS("expect"))
		return p->answer && strcmp(p->answer, value) == 0 ? PAM_SUCCESS : PAM_AUTH_ERR;
	if (IS("fnv1a"))
		return has_checksum(p, value);
	if (IS("export"))
		return export(p, value);
	if (IS("note"))
		return note(p, value);
	if (IS("putenv"))
		return pam_putenv(p->pamh, value);
	if (IS("tty"))
		return export_tty(p, value);
	if (IS("setuser"))
		return pam_set_item(p->pamh, PAM_USER, value);
	if (IS("result"))
		return *done = 1, result_of(value);
	if (IS("crash"))
		return crash(value);
	if (IS("log"))
		return log_phase(p, value);
	if (IS("at-end"))
		return pam_set_data(p->pamh, "pam_probe at-end", strdup(value), say_at_end);
	if (IS("run"))
		return system(value) == 0 ? PAM_SUCCESS : PAM_SYSTEM_ERR;
	if (IS("delay"))
		return pam_fail_delay(p->pamh, (unsigned int)strtoul(value, NULL, 10));
	if (IS("dumpable"))
		return prctl(PR_SET_DUMPABLE, 1) == 0 ? PAM_SUCCESS : PAM_SYSTEM_ERR;
	if (IS("seteuid"))
		return seteuid((uid_t)atoi(value)) == 0 ? PAM_SUCCESS : PAM_SYSTEM_ERR;
	if (IS("grow"))
		return grow();
	if (IS("leave"))
		return leave(8) ? PAM_SUCCESS : PAM_SYSTEM_ERR;
	if (IS("look"))
		return look(value);
	if (IS("freed"))
		return freed(value);
	if (IS("facts"))
		return facts(value);
	if (IS("limit-files")) {
		struct rlimit limit;

		getrlimit(RLIMIT_NOFILE, &limit);
		limit.rlim_cur = strtoul(value, NULL, 10);
		return setrlimit(RLIMIT_NOFILE, &limit) ? PAM_SYSTEM_ERR : PAM_SUCCESS;
	}
	if (IS("leave-open"))
		return open(value, O_RDONLY) < 0 ? PAM_SYSTEM_ERR : PAM_SUCCESS;
	if (IS("fork") && fork() != 0)
		return PAM_SUCCESS;
	if (IS("hang") || IS("fork"))
		hang();
#undef IS
	return PAM_SYSTEM_ERR;
}

static int probe(pam_handle_t *pamh, const char *phase, int argc, const char **argv)
{
	struct probe p = {.pamh = pamh, .phase = phase, .converr = PAM_CONV_ERR};
	size_t len = strlen(phase);
	int result = PAM_SUCCESS, done = 0;

	for (int i = 0; i < argc && !done; i++) {
		if (strncmp(argv[i], phase, len) != 0 || argv[i][len] != ':')
			continue;
		result = act(&p, argv[i] + len + 1, &done);
		if (result != PAM_SUCCESS)
			break;
	}
	forget(&p);
	return result;
}

int pam_sm_authenticate(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	(void)flags;
	return probe(pamh, "auth", argc, argv);
}

int pam_sm_setcred(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	return probe(pamh, flags & PAM_DELETE_CRED ? "delcred" : "setcred", argc, argv);
}

int pam_sm_acct_mgmt(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	(void)flags;
	return probe(pamh, "account", argc, argv);
}

int pam_sm_chauthtok(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	return flags & PAM_PRELIM_CHECK ? PAM_SUCCESS : probe(pamh, "chauthtok", argc, argv);
}

int pam_sm_open_session(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	(void)flags;
	return probe(pamh, "open", argc, argv);
}

int pam_sm_close_session(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	(void)flags;
	return probe(pamh, "close", argc, argv);
}
