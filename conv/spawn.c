/* SPDX-License-Identifier: Apache-2.0 */

#define _GNU_SOURCE
#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct rlimit first_files, first_core;

/* The Go runtime raises its soft limit of open files before any Go code of ours. */
__attribute__((constructor)) static void note_limits(void)
{
	getrlimit(RLIMIT_NOFILE, &first_files);
	getrlimit(RLIMIT_CORE, &first_core);
}

static int fail(int out, enum step step)
{
	struct trouble t = {step, errno};

	while (write(out, &t, sizeof t) < 0 && errno == EINTR)
		;
	_exit(127);
}

/*
 * Modules may have opened what they did not close, without O_CLOEXEC. Before
 * Linux 5.11 there is no call for all of them.
 */
static void close_on_exec(void)
{
#ifdef SYS_close_range
	if (syscall(SYS_close_range, 3U, UINT_MAX, 1U << 2 /* CLOSE_RANGE_CLOEXEC */) == 0)
		return;
#endif
	for (int fd = 3; fd < 65536; fd++)
		fcntl(fd, F_SETFD, FD_CLOEXEC);
}

/* Takes on the user's identity for good. The groups are those of the thread. */
static int become(uid_t uid, gid_t gid)
{
	uid_t r, e, s;
	gid_t rg, eg, sg;

	if (setresgid(gid, gid, gid) || setresuid(uid, uid, uid))
		return -1;
	if (getresuid(&r, &e, &s) || getresgid(&rg, &eg, &sg))
		return -1;
	if (r != uid || e != uid || s != uid || rg != gid || eg != gid || sg != gid ||
	    (uid != 0 && setresuid(-1, 0, -1) == 0)) {
		errno = EPERM;
		return -1;
	}
	return 0;
}

/* As execvp(3) does it, but no shell runs what is no program. */
static void execute(const struct child *c)
{
	int denied = 0;

	for (char **program = c->programs; *program; program++) {
		execve(*program, c->arguments, c->environment);
		if (errno == EACCES)
			denied = 1;
		else if (errno != ENOENT && errno != ENOTDIR)
			return;
	}
	errno = denied ? EACCES : ENOENT;
}

/*
 * struct sigaction of the kernel, all zero: SIG_DFL. The C library's function does
 * not let two signals of its own be touched, which somebody may have ignored.
 */
static const unsigned long default_action[4];
#define KERNEL_SIGNALS 64

/*
 * The child, after fork(2) in a process with threads: nothing but calls that
 * signal-safety(7) allows.
 */
static void run(const struct child *c, int out, pid_t parent)
{
	sigset_t none;

	/* What is ignored or blocked would stay so in the command. */
	for (int sig = 1; sig <= KERNEL_SIGNALS; sig++)
		syscall(SYS_rt_sigaction, sig, default_action, NULL, KERNEL_SIGNALS / 8);
	if (setsid() < 0)
		fail(out, STEP_SESSION);
	for (int fd = 0; fd < 3; fd++)
		if (dup2(c->stdio[fd], fd) < 0)
			fail(out, STEP_STDIO);
	close_on_exec();
	if (setrlimit(RLIMIT_NOFILE, &c->files) || setrlimit(RLIMIT_CORE, &c->core))
		fail(out, STEP_LIMITS);
	if (become(c->uid, c->gid))
		fail(out, STEP_IDENTITY);
	/*
	 * Up to exec this is a copy of the worker, with whatever modules keep of
	 * answers, and now it is the user's: the change of identity has made it
	 * what fs.suid_dumpable says. exec makes it dumpable again. The signal is
	 * for the worker's death, which nobody could clear up after; a
	 * worker that is dead already sends none.
	 */
	if (prctl(PR_SET_DUMPABLE, 0) || prctl(PR_SET_PDEATHSIG, SIGHUP))
		fail(out, STEP_PROTECT);
	if (getppid() != parent)
		_exit(127);
	/* As the user, who cannot take a terminal away from another session. */
	if (c->terminal && ioctl(0, TIOCSCTTY, 0) < 0)
		fail(out, STEP_TERMINAL);
	if (chdir(c->directory) && (!c->otherwise || chdir(c->otherwise)))
		fail(out, STEP_DIRECTORY);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execute(c);
	fail(out, STEP_EXEC);
}

/*
 * Starts a process as a copy of this thread: with its groups, its keyrings, its
 * loginuid and its mount namespace. It is not the fork of the Go runtime, which
 * shares the memory of the worker with the child while that is already the
 * user's, and knows neither of signals that modules have blocked nor of limits.
 * It returns when the command runs, or with -1 and why it does not.
 */
pid_t spawn(const struct child *c, struct trouble *t)
{
	int ends[2];
	sigset_t all, old;
	pid_t parent = getpid(), pid;
	ssize_t n;

	*t = (struct trouble){STEP_FORK, 0};
	if (pipe2(ends, O_CLOEXEC) < 0) {
		t->number = errno;
		return -1;
	}
	/* No handler of the Go runtime is to run in the child. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pid = fork();
	if (pid == 0)
		run(c, ends[1], parent);
	t->number = errno;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	close(ends[1]);
	if (pid < 0) {
		close(ends[0]);
		return -1;
	}
	while ((n = read(ends[0], t, sizeof *t)) < 0 && errno == EINTR)
		;
	close(ends[0]);
	if (n == 0) {
		*t = (struct trouble){0, 0};
		return pid;
	}
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return -1;
}
