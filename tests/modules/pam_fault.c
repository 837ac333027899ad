// SPDX-License-Identifier: Apache-2.0

//go:build ignore

/*
 * pam_fault: a PAM module that does to the process that it runs in what no module
 * should. Its arguments are those of pam_probe, PHASE:ACTION[=VALUE], with other
 * actions; a stack may have both modules.
 *
 *	close=FIRST,LAST   close these descriptors; LAST may be -1
 *	directory=DIR      go there
 *	root=DIR           make that the root directory
 *	umask=OCTAL        set the umask
 *	environment        empty the environment
 *	limit=NAME,N       let the process have no more than that: files, memory,
 *	                   processes or cpu
 *	block              block every signal
 *	handle=SIGNAL,default|ignore
 *	                   what becomes of a signal, by its number; 0 is every one
 *	setuid=UID         become that user, with no way back
 *	exit=N             exit(3)
 *	quit=N             _exit(2)
 *	abort              abort(3)
 *	jump               jump to an address that is none
 *	overflow           use up the stack
 *	childless          have the kernel refuse every fork(2) of this thread with ENOMEM
 *	fill               open files until it may open no more
 *	eat                take memory and use it until there is none
 *	threads=N          start threads that never end
 *	write=N            write as many bytes to standard output and standard error
 *	leave=FILE         leave a process behind that holds every descriptor; the file
 *	                   is where its number is written
 *	stuck              never return, whatever signal comes that can be ignored
 *	ask=N              ask N questions, "question 1" and so on; each answer must be
 *	                   its number
 *	tell=N             say N texts of a kilobyte in style info
 *	return=N           return that number, whatever it means
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <security/pam_ext.h>
#include <security/pam_modules.h>

static int result_of(int failed)
{
	return failed ? PAM_SYSTEM_ERR : PAM_SUCCESS;
}

static int limit(const char *value)
{
	static const struct { const char *name; int resource; } limits[] = {
		{"files", RLIMIT_NOFILE}, {"memory", RLIMIT_AS}, {"processes", RLIMIT_NPROC}, {"cpu", RLIMIT_CPU},
	};
	const char *comma = strchrnul(value, ',');

	for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
		struct rlimit to;

		if (strncmp(limits[i].name, value, (size_t)(comma - value)) != 0 || !*comma)
			continue;
		to.rlim_cur = to.rlim_max = strtoul(comma + 1, NULL, 10);
		return result_of(setrlimit(limits[i].resource, &to));
	}
	return PAM_SYSTEM_ERR;
}

static int block(void)
{
	sigset_t all;

	sigfillset(&all);
	return result_of(pthread_sigmask(SIG_SETMASK, &all, NULL));
}

static int handle(const char *value)
{
	struct sigaction action = {.sa_handler = strstr(value, ",ignore") ? SIG_IGN : SIG_DFL};
	int only = atoi(value);

	for (int sig = 1; sig < 65; sig++)
		if (!only || sig == only)
			sigaction(sig, &action, NULL);
	return PAM_SUCCESS;
}

static __attribute__((noinline)) int overflow(int n)
{
	volatile char frame[64 << 10];

	frame[0] = (char)n;
	return n < 0 ? 0 : overflow(n + 1) + frame[0];
}

/* Without malloc, which would give up in time. */
static int eat(void)
{
	for (;;) {
		char *piece = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (piece == MAP_FAILED)
			return PAM_BUF_ERR;
		memset(piece, 1, 1 << 20);
	}
}

/* A pid namespace whose first process has ended takes no other: pid_namespaces(7). */
static int childless(void)
{
	pid_t pid;

	if (unshare(CLONE_NEWPID))
		return PAM_SYSTEM_ERR;
	pid = fork();
	if (pid == 0)
		_exit(0);
	return result_of(pid < 0 || waitpid(pid, NULL, 0) < 0);
}

static void *forever(void *nothing)
{
	for (;;)
		pause();
	return nothing;
}

static int threads(int n)
{
	pthread_t thread;

	while (n-- > 0)
		if (pthread_create(&thread, NULL, forever, NULL))
			return PAM_SYSTEM_ERR;
	return PAM_SUCCESS;
}

static int fill(size_t n)
{
	char line[1024];

	memset(line, 'y', sizeof line);
	line[sizeof line - 1] = '\n';
	for (; n >= sizeof line; n -= sizeof line)
		if (write(1, line, sizeof line) < 0 || write(2, line, sizeof line) < 0)
			return PAM_SYSTEM_ERR;
	return PAM_SUCCESS;
}

static int leave(const char *file)
{
	pid_t pid = fork();

	if (pid == 0) {
		block();
		forever(NULL);
	}
	if (pid > 0) {
		FILE *f = fopen(file, "we");

		if (f) {
			fprintf(f, "%d\n", pid);
			return result_of(fclose(f));
		}
	}
	return PAM_SYSTEM_ERR;
}

static int ask(pam_handle_t *pamh, int n)
{
	for (int i = 1; i <= n; i++) {
		char *answer = NULL;
		int result = pam_prompt(pamh, PAM_PROMPT_ECHO_OFF, &answer, "question %d", i);
		int right = answer && atoi(answer) == i;

		free(answer);
		if (result != PAM_SUCCESS)
			return result;
		if (!right)
			return PAM_AUTH_ERR;
	}
	return PAM_SUCCESS;
}

static int tell(pam_handle_t *pamh, int n)
{
	for (int i = 1; i <= n; i++) {
		int result = pam_prompt(pamh, PAM_TEXT_INFO, NULL, "%d %01000d", i, 0);

		if (result != PAM_SUCCESS)
			return result;
	}
	return PAM_SUCCESS;
}

static void stuck(void)
{
	handle("0,ignore");
	forever(NULL);
}

/* Runs one action; *done says that the phase returns what it returned. */
static int act(pam_handle_t *pamh, const char *action, int *done)
{
	size_t len = strcspn(action, "=");
	const char *value = action[len] ? action + len + 1 : "";

#define IS(name) (len == sizeof name - 1 && strncmp(action, name, len) == 0)
	if (IS("close")) {
		int last = atoi(strchrnul(value, ',') + 1);

		return result_of((int)syscall(SYS_close_range, atoi(value), last, 0));
	}
	if (IS("directory"))
		return result_of(chdir(value));
	if (IS("root"))
		return result_of(chroot(value));
	if (IS("umask"))
		return umask((mode_t)strtoul(value, NULL, 8)), PAM_SUCCESS;
	if (IS("environment"))
		return result_of(clearenv());
	if (IS("limit"))
		return limit(value);
	if (IS("block"))
		return block();
	if (IS("handle"))
		return handle(value);
	if (IS("setuid"))
		return result_of(setuid((uid_t)atoi(value)));
	if (IS("exit"))
		exit(atoi(value));
	if (IS("quit"))
		_exit(atoi(value));
	if (IS("abort"))
		abort();
	if (IS("jump"))
		((void (*)(void))16)();
	if (IS("overflow"))
		return overflow(0);
	if (IS("childless"))
		return childless();
	if (IS("fill")) {
		while (open("/dev/null", O_RDONLY | O_CLOEXEC) >= 0)
			;
		return result_of(errno != EMFILE);
	}
	if (IS("eat"))
		return eat();
	if (IS("threads"))
		return threads(atoi(value));
	if (IS("write"))
		return fill(strtoul(value, NULL, 10));
	if (IS("leave"))
		return leave(value);
	if (IS("stuck"))
		stuck();
	if (IS("ask"))
		return ask(pamh, atoi(value));
	if (IS("tell"))
		return tell(pamh, atoi(value));
	if (IS("return"))
		return *done = 1, atoi(value);
#undef IS
	return PAM_SYSTEM_ERR;
}

static int fault(pam_handle_t *pamh, const char *phase, int argc, const char **argv)
{
	size_t len = strlen(phase);
	int result = PAM_SUCCESS, done = 0;

	for (int i = 0; i < argc && !done && result == PAM_SUCCESS; i++)
		if (strncmp(argv[i], phase, len) == 0 && argv[i][len] == ':')
			result = act(pamh, argv[i] + len + 1, &done);
	return result;
}

int pam_sm_authenticate(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	(void)flags;
	return fault(pamh, "auth", argc, argv);
}

int pam_sm_setcred(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	return fault(pamh, flags & PAM_DELETE_CRED ? "delcred" : "setcred", argc, argv);
}

int pam_sm_acct_mgmt(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	(void)flags;
	return fault(pamh, "account", argc, argv);
}

int pam_sm_chauthtok(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	return flags & PAM_PRELIM_CHECK ? PAM_SUCCESS : fault(pamh, "chauthtok", argc, argv);
}

int pam_sm_open_session(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	(void)flags;
	return fault(pamh, "open", argc, argv);
}

int pam_sm_close_session(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	(void)flags;
	return fault(pamh, "close", argc, argv);
}
