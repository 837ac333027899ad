/* SPDX-License-Identifier: Apache-2.0 */

#define _GNU_SOURCE
#include "helper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "reply.h"

#ifndef PAMPROMPT_CONV
#define PAMPROMPT_CONV "/usr/libexec/pamprompt/pamprompt-conv"
#endif

#ifndef PAMPROMPT_PATIENCE
#define PAMPROMPT_PATIENCE 10
#endif

enum {
	PATIENCE = PAMPROMPT_PATIENCE, /* seconds for the broker to be there, and for it to take a question */
	START_PATIENCE = (PAMPROMPT_PATIENCE + 1) / 2, /* seconds for the helper to be started */
	HELPER_SOCKET = 3, /* where the helper has its end */
	ABOVE = 16,        /* of all numbers that the helper's own descriptors have */
};

deadline deadline_in(unsigned seconds)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (deadline)now.tv_sec * 1000 + now.tv_nsec / 1000000 + (deadline)seconds * 1000;
}

int remaining(deadline until)
{
	deadline left = until - deadline_in(0);

	return left < 0 ? 0 : left > 1000000 ? 1000000 : (int)left;
}

__attribute__((format(printf, 3, 4))) static enum outcome trouble(struct trouble *t, enum outcome o, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	vsnprintf(t->text, sizeof t->text, format, list);
	va_end(list);
	return o;
}

/* Whether the number is still that of our socket. */
static bool ours(const struct link *l)
{
	struct stat st;

	return l->owner != 0 && fstat(l->socket, &st) == 0 && st.st_dev == l->device && st.st_ino == l->inode;
}

bool link_up(const struct link *l) { return l->owner == getpid() && ours(l); }

void link_end(struct link *l)
{
	if (ours(l))
		close(l->socket);
	l->owner = 0;
}

/*
 * The process that was started has the helper started by another one, and ends; so
 * nothing of it is left that the program could wait for. The program may ignore
 * SIGCHLD, or reap it before we do: then there is no such child.
 */
static enum outcome reap(pid_t pid, struct trouble *t)
{
	deadline until = deadline_in(START_PATIENCE);
	struct timespec pause = {0, 500000};
	bool killed = false;
	int status;
	pid_t ended;

	while ((ended = waitpid(pid, &status, WNOHANG)) == 0 || (ended < 0 && errno == EINTR)) {
		if (remaining(until) == 0) {
			if (killed)
				return trouble(t, AWAY, "%s cannot be killed", PAMPROMPT_CONV);
			kill(pid, SIGKILL);
			killed = true;
			until = deadline_in(1);
		}
		nanosleep(&pause, NULL);
		if (pause.tv_nsec < 16000000)
			pause.tv_nsec *= 2;
	}
	if (killed)
		return trouble(t, AWAY, "%s was not started within %d seconds", PAMPROMPT_CONV, START_PATIENCE);
	if (ended == pid && (!WIFEXITED(status) || WEXITSTATUS(status) != 0))
		return trouble(t, AWAY, "%s failed with %s %d", PAMPROMPT_CONV,
			       WIFEXITED(status) ? "status" : "signal", WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
	return DONE;
}

/* Has posix_spawn give the helper its end of the socket, and nothing else of the program's. */
static int prepare(posix_spawn_file_actions_t *files, posix_spawnattr_t *how, int end)
{
	sigset_t none, all;
	int wrong;

	sigemptyset(&none);
	sigfillset(&all);
	if ((wrong = posix_spawn_file_actions_addopen(files, 0, "/dev/null", O_RDWR, 0)) ||
	    (wrong = posix_spawn_file_actions_adddup2(files, 0, 1)) ||
	    (wrong = posix_spawn_file_actions_adddup2(files, 0, 2)) ||
	    (wrong = posix_spawn_file_actions_adddup2(files, end, HELPER_SOCKET)) ||
	    (wrong = posix_spawn_file_actions_addclosefrom_np(files, HELPER_SOCKET + 1)) ||
	    (wrong = posix_spawnattr_setsigmask(how, &none)) ||
	    (wrong = posix_spawnattr_setsigdefault(how, &all)))
		return wrong;
	return posix_spawnattr_setflags(how, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID);
}

static int spawn(int end, pid_t *pid)
{
	char *const argv[] = {(char *)PAMPROMPT_CONV, NULL}, *const envp[] = {NULL};
	posix_spawn_file_actions_t files;
	posix_spawnattr_t how;
	int wrong;

	if ((wrong = posix_spawn_file_actions_init(&files)))
		return wrong;
	if ((wrong = posix_spawnattr_init(&how)) == 0) {
		if ((wrong = prepare(&files, &how, end)) == 0)
			wrong = posix_spawn(pid, PAMPROMPT_CONV, &files, &how, argv, envp);
		posix_spawnattr_destroy(&how);
	}
	posix_spawn_file_actions_destroy(&files);
	return wrong;
}

/* Waits until a descriptor is ready; false when that took too long. */
static bool await(int fd, short events, deadline until)
{
	struct pollfd p = {.fd = fd, .events = events};
	int n;

	while ((n = poll(&p, 1, remaining(until))) < 0 && errno == EINTR)
		;
	return n > 0;
}

static enum outcome send_packet(struct link *l, const struct iovec *parts, int count, deadline until, struct trouble *t)
{
	struct msghdr m = {.msg_iov = (struct iovec *)parts, .msg_iovlen = (size_t)count};

	while (sendmsg(l->socket, &m, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return trouble(t, BROKEN, "%s has ended", PAMPROMPT_CONV);
		if (!await(l->socket, POLLOUT, until))
			return trouble(t, AWAY, "%s takes nothing", PAMPROMPT_CONV);
	}
	return DONE;
}

/* The descriptors that came with a packet: how many, and one of them. All others are closed. */
static int descriptors_of(struct msghdr *m, int *one)
{
	int count = 0;

	*one = -1;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t at = 0; at + sizeof(int) <= c->cmsg_len - CMSG_LEN(0); at += sizeof(int)) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + at, sizeof fd);
			if (count++ == 0)
				*one = fd;
			else
				close(fd);
		}
	}
	return count;
}

static void drop(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* Waits for the reply to the last request. buffer is of MAX_REPLY bytes, and what reply points into. */
static enum outcome receive(struct link *l, unsigned char *buffer, struct reply *reply, int *fd, deadline until, struct trouble *t)
{
	union { char space[CMSG_SPACE(2 * sizeof(int))]; struct cmsghdr align; } control;
	struct iovec part = {buffer, MAX_REPLY};
	struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space};
	ssize_t n;
	int count;

	if (!await(l->socket, POLLIN, until))
		return trouble(t, AWAY, "%s does not reply", PAMPROMPT_CONV);
	while ((n = recvmsg(l->socket, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT)) < 0 && errno == EINTR)
		;
	if (n <= 0)
		return trouble(t, BROKEN, "%s has ended", PAMPROMPT_CONV);
	count = descriptors_of(&m, fd);
	if ((m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0 && reply_parse(buffer, (size_t)n, count, reply) == 0 &&
	    reply->number == l->number)
		return DONE;
	drop(fd);
	return trouble(t, AWAY, "%s says what it should not", PAMPROMPT_CONV);
}

static void put_number(unsigned char *at, uint32_t number)
{
	for (int i = 0; i < 4; i++)
		at[i] = (unsigned char)(number >> (24 - 8 * i));
}

/* Sends a request of two parts and waits for the reply that it must have. */
static enum outcome request(struct link *l, enum request_kind kind, const void *head, size_t head_size,
			    const void *body, size_t body_size, enum reply_kind wanted, int *fd, struct trouble *t)
{
	deadline until = deadline_in(PATIENCE);
	unsigned char first[5], buffer[MAX_REPLY];
	struct iovec parts[] = {{first, sizeof first}, {(void *)head, head_size}, {(void *)body, body_size}};
	struct reply reply;
	enum outcome o;

	l->number++;
	first[0] = (unsigned char)kind;
	put_number(first + 1, l->number);
	*fd = -1;
	if ((o = send_packet(l, parts, 3, until, t)) != DONE || kind == REQUEST_DONE)
		return o;
	if ((o = receive(l, buffer, &reply, fd, until, t)) != DONE)
		return o;
	if (reply.kind == wanted)
		return DONE;
	drop(fd);
	if (reply.kind != REPLY_AWAY)
		return trouble(t, AWAY, "%s says what it should not", PAMPROMPT_CONV);
	trouble(t, AWAY, "%.*s", (int)reply.length, reply.text);
	for (char *c = t->text; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 127)
			*c = '?'; /* it is for one line of a log */
	return AWAY;
}

static enum outcome introduce(struct link *l, const struct context *c, struct trouble *t)
{
	unsigned char head[2 + 4 + 4] = {PROTOCOL, c->again};
	char body[2 * (MAX_NAME + 1) + MAX_REASON + 1];
	int none, size;

	if (strnlen(c->service, MAX_NAME + 1) > MAX_NAME || strnlen(c->user, MAX_NAME + 1) > MAX_NAME)
		return trouble(t, AWAY, "the name of the service or of the user has more than %d bytes", MAX_NAME);
	put_number(head + 2, c->timeout);
	put_number(head + 6, c->uid);
	size = snprintf(body, sizeof body, "%s%c%s%c%.*s", c->service, 0, c->user, 0, MAX_REASON, c->reason);
	return request(l, REQUEST_OPEN, head, sizeof head, body, (size_t)size + 1, REPLY_READY, &none, t);
}

/* Remembers what the socket is known by. */
static bool note(struct link *l, int socket)
{
	struct stat st;

	if (fstat(socket, &st))
		return false;
	*l = (struct link){.socket = socket, .owner = getpid(), .device = st.st_dev, .inode = st.st_ino};
	return true;
}

/* A socket pair whose numbers are none that the helper has. */
static int high_pair(int pair[2])
{
	int low[2], wrong = 0;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, low))
		return -1;
	for (int i = 0; i < 2; i++)
		if ((pair[i] = fcntl(low[i], F_DUPFD_CLOEXEC, ABOVE)) < 0)
			wrong = errno;
	close(low[0]);
	close(low[1]);
	if (wrong) {
		for (int i = 0; i < 2; i++)
			if (pair[i] >= 0)
				close(pair[i]);
		errno = wrong;
		return -1;
	}
	return 0;
}

enum outcome link_start(struct link *l, const struct context *c, struct trouble *t)
{
	int pair[2], wrong;
	pid_t pid = -1;

	if (high_pair(pair))
		return trouble(t, AWAY, "no socket for %s: %m", PAMPROMPT_CONV);
	if (!note(l, pair[0])) {
		close(pair[0]);
		close(pair[1]);
		return trouble(t, AWAY, "no socket for %s: %m", PAMPROMPT_CONV);
	}
	wrong = spawn(pair[1], &pid);
	close(pair[1]);
	errno = wrong;
	if (wrong || pid <= 0)
		trouble(t, AWAY, "%s cannot be started: %m", PAMPROMPT_CONV);
	else if (reap(pid, t) == DONE && introduce(l, c, t) == DONE)
		return DONE;
	link_end(l);
	return AWAY;
}

enum outcome link_tell(struct link *l, int style, const char *text, struct trouble *t)
{
	unsigned char head = (unsigned char)style;
	int none;

	return request(l, REQUEST_TELL, &head, 1, text, strnlen(text, MAX_TEXT), REPLY_TOLD, &none, t);
}

enum outcome link_ask(struct link *l, int style, const void *text, size_t size, int *pipe, struct trouble *t)
{
	unsigned char head = (unsigned char)style;

	return request(l, REQUEST_ASK, &head, 1, text, size, REPLY_ASKED, pipe, t);
}

void link_done(struct link *l)
{
	struct trouble ignored;
	int none;

	if (link_up(l))
		request(l, REQUEST_DONE, NULL, 0, NULL, 0, REPLY_TOLD, &none, &ignored);
}
