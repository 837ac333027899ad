/* SPDX-License-Identifier: Apache-2.0 */

/*
 * pam_pamprompt.so: brings the questions of the modules below it in the stack to the
 * broker of pamprompt. It replaces the conversation of the transaction by one of its
 * own, and says PAM_IGNORE. See docs/pam-module.md.
 *
 * It runs in programs that know nothing of it, which may have threads, be about to
 * fork, close descriptors that they did not open, and wait for children: so it has no
 * global state and no threads, and what talks to the broker is a process of its own.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#define PAM_SM_AUTH
#define PAM_SM_ACCOUNT
#define PAM_SM_SESSION
#define PAM_SM_PASSWORD
#include <security/pam_ext.h>
#include <security/pam_modules.h>
#include <security/pam_modutil.h>

#include "answers.h"
#include "helper.h"
#include "options.h"
#include "reply.h"
#include "texts.h"

#define DATA_NAME "pam_pamprompt"
#define LOG_NAME "pam_pamprompt: " /* pam_syslog(3) names the module that asks */

enum {
	GRACE = 5,     /* seconds for the broker to say that a question has waited too long */
	MAX_TRIES = 5, /* of one question, whose broker or helper goes away */
};

/* What a transaction has of us, from the first time that it comes to us. */
struct state {
	pam_handle_t *pamh;
	struct pam_conv own; /* the program's conversation */
	struct options options;
	struct texts texts; /* that it has taken */
	struct link link;
	char *user; /* whom the helper was started for */
	bool away;  /* the broker could not be asked, and is not tried again: the program has its own limits of time */
};

static bool is_question(int style)
{
	return style == PAM_PROMPT_ECHO_OFF || style == PAM_PROMPT_ECHO_ON || style == PAM_RADIO_TYPE || style == PAM_BINARY_PROMPT;
}

/* Has the program's own conversation answer. */
static int ask_program(struct state *s, int n, const struct pam_message **messages, struct pam_response **responses)
{
	*responses = NULL;
	if (!s->own.conv)
		return PAM_CONV_ERR;
	return s->own.conv(n, messages, responses, s->own.appdata_ptr);
}

/* Whether a conversation that says it worked has answered every question. */
static bool answered(int n, const struct pam_message **messages, const struct pam_response *responses)
{
	for (int i = 0; i < n; i++)
		if (is_question(messages[i]->msg_style) && (!responses || !responses[i].resp))
			return false;
	return true;
}

/* Notes what the program's conversation has dealt with. */
static void note_texts(struct state *s, int n, const struct pam_message **messages)
{
	for (int i = 0; i < n; i++)
		if (is_question(messages[i]->msg_style)) {
			texts_forget(&s->texts); /* its user has seen them, and has answered */
			return;
		}
	texts_keep(&s->texts, n, messages);
}

static void drop_helper(struct state *s)
{
	link_end(&s->link);
	free(s->user);
	s->user = NULL;
}

/* The uid of a user, as NSS has it in this program. */
static uint32_t uid_of(pam_handle_t *pamh, const char *user)
{
	const struct passwd *account = *user ? pam_modutil_getpwnam(pamh, user) : NULL;

	return account ? account->pw_uid : NO_UID;
}

/* Sees that there is a helper, for the user that the transaction is about now. */
static enum outcome need_helper(struct state *s, bool again, struct trouble *t)
{
	const void *service = NULL, *user = NULL;
	struct context c = {.service = s->options.service, .reason = s->options.reason, .timeout = s->options.timeout, .again = again};
	enum outcome o;

	pam_get_item(s->pamh, PAM_USER, &user);
	c.user = user ? user : "";
	if (link_up(&s->link) && s->user && strcmp(s->user, c.user) == 0)
		return DONE;
	drop_helper(s);
	c.uid = uid_of(s->pamh, c.user);
	if (!c.service) {
		pam_get_item(s->pamh, PAM_SERVICE, &service);
		c.service = service ? service : "";
	}
	if ((s->user = strdup(c.user)) == NULL) {
		strcpy(t->text, "there is no memory");
		return AWAY;
	}
	if ((o = link_start(&s->link, &c, t)) != DONE)
		drop_helper(s);
	else if (s->options.debug)
		pam_syslog(s->pamh, LOG_DEBUG, LOG_NAME "the broker is ready to ask for %s", c.user);
	return o;
}

/* What is to be sent of a message, which is text unless its style is PAM_BINARY_PROMPT; 0 for what cannot be. */
static size_t size_of(const struct pam_message *m)
{
	if (m->msg_style != PAM_BINARY_PROMPT)
		return m->msg ? strnlen(m->msg, MAX_TEXT) : 0;
	return m->msg ? packet_length((const unsigned char *)m->msg) : 0;
}

/* How a message went. */
enum result {
	GOOD,
	REFUSED, /* somebody does not want to answer, or nobody did in time */
	NOBODY,  /* the broker is away */
};

/*
 * Puts one message to the broker. A helper that is gone is started again, and so
 * is one whose broker went away while the question waited: the next broker is asked.
 */
static enum result put(struct state *s, const struct pam_message *m, char **answer, struct trouble *t)
{
	deadline until = deadline_in(s->options.timeout + GRACE);
	size_t size = size_of(m);
	bool lost = false;

	if (m->msg_style == PAM_BINARY_PROMPT && (size == 0 || size > MAX_TEXT)) {
		pam_syslog(s->pamh, LOG_ERR, LOG_NAME "a binary question has no length, or is longer than %d bytes", MAX_TEXT);
		return REFUSED;
	}
	for (int tries = 0; tries < MAX_TRIES; tries++) {
		enum response_kind kind;
		enum outcome o;
		int pipe = -1;

		if ((o = need_helper(s, lost, t)) != DONE)
			return NOBODY;
		if (is_text(m->msg_style))
			o = link_tell(&s->link, m->msg_style, m->msg ? m->msg : "", t);
		else
			o = link_ask(&s->link, m->msg_style, m->msg, size, &pipe, t);
		if (o == BROKEN) {
			drop_helper(s);
			continue;
		}
		if (o != DONE) {
			drop_helper(s);
			return NOBODY;
		}
		if (is_text(m->msg_style))
			return GOOD;
		kind = answer_read(pipe, m->msg_style, until, answer);
		close(pipe);
		if (kind == RESPONSE_LOST && remaining(until) > 0) {
			strcpy(t->text, "the broker went away while it asked, several times");
			drop_helper(s);
			lost = true;
			continue;
		}
		if (kind == RESPONSE_REFUSAL && remaining(until) == 0)
			drop_helper(s); /* which takes back what still waits */
		else
			link_done(&s->link);
		if (kind == RESPONSE_MALFORMED)
			pam_syslog(s->pamh, LOG_ERR, LOG_NAME "an answer was not fit for the question: it has more than %d bytes, or a NUL, or is no packet", MAX_ANSWER);
		return kind == RESPONSE_ANSWER ? GOOD : REFUSED;
	}
	return NOBODY;
}

/* Has the broker answer. */
static enum result ask_broker(struct state *s, int n, const struct pam_message **messages, struct pam_response **responses)
{
	struct trouble t = {""};
	enum result r = GOOD;

	*responses = NULL;
	if (s->away)
		return NOBODY;
	if ((*responses = calloc((size_t)n, sizeof **responses)) == NULL)
		return REFUSED;
	for (int i = 0; i < s->texts.count && r == GOOD; i++)
		r = put(s, &s->texts.list[i], NULL, &t);
	texts_forget(&s->texts);
	for (int i = 0; i < n && r == GOOD; i++)
		r = put(s, messages[i], &(*responses)[i].resp, &t);
	if (r == GOOD)
		return GOOD;
	answers_forget(n, messages, *responses);
	*responses = NULL;
	if (r == NOBODY) {
		s->away = true;
		if (!s->options.quiet)
			pam_syslog(s->pamh, LOG_WARNING, LOG_NAME "the broker cannot be asked, the program is left to itself: %s", t.text);
	}
	return r;
}

/* The conversation: pam_conv(3). */
static int converse(int n, const struct pam_message **messages, struct pam_response **responses, void *data)
{
	struct pam_response *program = NULL;
	struct state *s = data;
	int own = PAM_CONV_ERR;

	if (n < 1 || n > PAM_MAX_NUM_MSG || !messages || !responses)
		return PAM_CONV_ERR;
	*responses = NULL;
	for (int i = 0; i < n; i++)
		if (!messages[i])
			return PAM_CONV_ERR;
	if (!s->options.fallback) {
		own = ask_program(s, n, messages, &program);
		if (own == PAM_SUCCESS && answered(n, messages, program)) {
			*responses = program;
			note_texts(s, n, messages);
			return PAM_SUCCESS;
		}
		if (own != PAM_SUCCESS)
			program = NULL; /* pam_conv(3): then there is none */
	}
	for (int i = 0; i < n; i++)
		if (!is_question(messages[i]->msg_style) && !is_text(messages[i]->msg_style))
			goto program_only;
	switch (ask_broker(s, n, messages, responses)) {
	case GOOD:
		answers_forget(n, messages, program);
		return PAM_SUCCESS;
	case REFUSED:
		answers_forget(n, messages, program);
		return PAM_CONV_ERR;
	case NOBODY:
		break;
	}
program_only: /* what it would have done without us */
	if (s->options.fallback)
		return ask_program(s, n, messages, responses);
	*responses = program;
	return own;
}

/* The end of the transaction: the program may still talk to other modules. */
static void end(pam_handle_t *pamh, void *data, int status)
{
	const struct pam_conv *now = NULL;
	struct state *s = data;

	(void)status;
	if (pam_get_item(pamh, PAM_CONV, (const void **)&now) == PAM_SUCCESS && now && now->conv == converse)
		pam_set_item(pamh, PAM_CONV, &s->own);
	drop_helper(s);
	texts_forget(&s->texts);
	free(s);
}

/* The state of the transaction; a new one when it has none. */
static struct state *state_of(pam_handle_t *pamh)
{
	struct state *s = NULL;

	if (pam_get_data(pamh, DATA_NAME, (const void **)&s) == PAM_SUCCESS && s)
		return s;
	if ((s = calloc(1, sizeof *s)) == NULL)
		return NULL;
	s->pamh = pamh;
	if (pam_set_data(pamh, DATA_NAME, s, end) == PAM_SUCCESS)
		return s;
	free(s);
	return NULL;
}

/* Puts our conversation in the place of the program's, which may have set another one since. */
static int take_over(pam_handle_t *pamh, int argc, const char **argv)
{
	const struct pam_conv *now = NULL;
	struct state *s = state_of(pamh);

	if (!s) {
		pam_syslog(pamh, LOG_CRIT, "there is no memory");
		return PAM_IGNORE;
	}
	parse_options(pamh, argc, argv, &s->options);
	if (pam_get_item(pamh, PAM_CONV, (const void **)&now) != PAM_SUCCESS)
		now = NULL;
	if (!now || now->conv != converse) {
		struct pam_conv ours = {converse, s};

		s->own = now ? *now : (struct pam_conv){NULL, NULL};
		if (pam_set_item(pamh, PAM_CONV, &ours) != PAM_SUCCESS)
			pam_syslog(pamh, LOG_ERR, "the conversation cannot be replaced");
	}
	return PAM_IGNORE;
}

#define ENTRY(name)                                                                        \
	PAM_EXTERN __attribute__((visibility("default"))) int name(                        \
		pam_handle_t *pamh, int flags, int argc, const char **argv)                \
	{                                                                                  \
		(void)flags;                                                               \
		return take_over(pamh, argc, argv);                                        \
	}

ENTRY(pam_sm_authenticate)
ENTRY(pam_sm_setcred)
ENTRY(pam_sm_acct_mgmt)
ENTRY(pam_sm_open_session)
ENTRY(pam_sm_close_session)
ENTRY(pam_sm_chauthtok)
