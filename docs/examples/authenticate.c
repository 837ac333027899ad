// SPDX-License-Identifier: Apache-2.0
//
// Runs PAM itself, as daemons do, and has the questions of its modules answered through
// pamprompt:
//
//	authenticate SERVICE USER
//
//	cc authenticate.c -o authenticate $(pkg-config --cflags --libs dbus-1) -lpam

#define _GNU_SOURCE
#include <dbus/dbus.h>
#include <security/pam_appl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define NAME "org.pamprompt.Broker1"
#define CALL_TIMEOUT 20000 // milliseconds: no call waits for an answer
#define MAX_RESPONSE (64 * 1024)

static DBusConnection *bus;
static char path[256]; // of the conversation

// call sends m, frees it and returns the reply; NULL and a message for none.
static DBusMessage *call(DBusMessage *m) {
	DBusError error = DBUS_ERROR_INIT;
	DBusMessage *reply = dbus_connection_send_with_reply_and_block(bus, m, CALL_TIMEOUT, &error);
	if (!reply) {
		fprintf(stderr, "%s: %s\n", dbus_message_get_member(m), error.message);
		dbus_error_free(&error);
	}
	dbus_message_unref(m);
	return reply;
}

// append_details appends an a{sv}, with a timeout if there is one.
static void append_details(DBusMessage *m, dbus_uint64_t timeout) {
	DBusMessageIter args, dict, entry, variant;
	const char *key = "timeout";
	dbus_message_iter_init_append(m, &args);
	dbus_message_iter_open_container(&args, DBUS_TYPE_ARRAY, "{sv}", &dict);
	if (timeout) {
		dbus_message_iter_open_container(&dict, DBUS_TYPE_DICT_ENTRY, NULL, &entry);
		dbus_message_iter_append_basic(&entry, DBUS_TYPE_STRING, &key);
		dbus_message_iter_open_container(&entry, DBUS_TYPE_VARIANT, "t", &variant);
		dbus_message_iter_append_basic(&variant, DBUS_TYPE_UINT64, &timeout);
		dbus_message_iter_close_container(&entry, &variant);
		dbus_message_iter_close_container(&dict, &entry);
	}
	dbus_message_iter_close_container(&args, &dict);
}

static int open_conversation(const char *service, const char *user) {
	DBusMessage *m = dbus_message_new_method_call(NAME, "/org/pamprompt/Broker1", NAME ".Manager", "OpenConversation");
	dbus_message_append_args(m, DBUS_TYPE_STRING, &service, DBUS_TYPE_STRING, &user, DBUS_TYPE_INVALID);
	append_details(m, 120 * 1000 * 1000);
	DBusMessage *reply = call(m);
	dbus_uint64_t id;
	const char *session;
	if (!reply || !dbus_message_get_args(reply, NULL, DBUS_TYPE_UINT64, &id, DBUS_TYPE_OBJECT_PATH, &session, DBUS_TYPE_INVALID))
		return -1;
	snprintf(path, sizeof path, "%s", session);
	dbus_message_unref(reply);
	return 0;
}

// read_response reads a pipe to its end, and returns the answer, which the caller
// wipes and frees; NULL if there is none.
static char *read_response(int fd) {
	char *all = calloc(1, MAX_RESPONSE + 2), *answer = NULL;
	size_t size = 0;
	ssize_t n = 0;
	while (all && size < MAX_RESPONSE + 1 && (n = read(fd, all + size, MAX_RESPONSE + 1 - size)) > 0)
		size += n;
	if (!all || n < 0)
		fprintf(stderr, "the response cannot be read\n");
	else if (size == 0)
		fprintf(stderr, "no answer: the broker has ended\n");
	else if (all[0] != '+')
		fprintf(stderr, "no answer: %s\n", all + 1);
	else if (memchr(all, 0, size))
		fprintf(stderr, "no answer: it holds a NUL byte\n");
	else
		answer = strdup(all + 1);
	if (all)
		explicit_bzero(all, MAX_RESPONSE + 2);
	free(all);
	return answer;
}

// ask returns what somebody answered; empty for what wants no answer.
static char *ask(const char *style, const char *text) {
	DBusMessage *m = dbus_message_new_method_call(NAME, path, NAME ".Session", "Ask");
	if (!dbus_validate_utf8(text, NULL))
		text = "a question that is not UTF-8";
	dbus_message_append_args(m, DBUS_TYPE_STRING, &style, DBUS_TYPE_STRING, &text, DBUS_TYPE_INVALID);
	append_details(m, 0);
	DBusMessage *reply = call(m);
	dbus_uint64_t id;
	int fd = -1;
	if (!reply)
		return NULL;
	if (!dbus_message_get_args(reply, NULL, DBUS_TYPE_UINT64, &id, DBUS_TYPE_UNIX_FD, &fd, DBUS_TYPE_INVALID))
		fd = -1;
	dbus_message_unref(reply);
	char *answer = read_response(fd); // closing fd instead withdraws the question
	if (fd >= 0)
		close(fd);
	return answer;
}

static const char *style_of(int style) {
	switch (style) {
	case PAM_PROMPT_ECHO_OFF:
		return "secret";
	case PAM_PROMPT_ECHO_ON:
		return "visible";
	case PAM_ERROR_MSG:
		return "error";
	case PAM_TEXT_INFO:
		return "info";
	}
	return NULL;
}

static int converse(int count, const struct pam_message **messages, struct pam_response **responses, void *data) {
	(void)data;
	struct pam_response *all = calloc(count, sizeof *all);
	if (!all)
		return PAM_BUF_ERR;
	for (int i = 0; i < count; i++) {
		const char *style = style_of(messages[i]->msg_style);
		if (style && (all[i].resp = ask(style, messages[i]->msg)))
			continue;
		for (; i >= 0; i--)
			if (all[i].resp) {
				explicit_bzero(all[i].resp, strlen(all[i].resp));
				free(all[i].resp);
			}
		free(all);
		return PAM_CONV_ERR;
	}
	*responses = all;
	return PAM_SUCCESS;
}

int main(int argc, char **argv) {
	DBusError error = DBUS_ERROR_INIT;
	struct pam_conv conv = {converse, NULL};
	pam_handle_t *pam = NULL;
	if (argc != 3) {
		fprintf(stderr, "usage: authenticate SERVICE USER\n");
		return 2;
	}
	prctl(PR_SET_DUMPABLE, 0); // it gets passwords
	if (!(bus = dbus_bus_get(DBUS_BUS_SYSTEM, &error))) {
		fprintf(stderr, "the system bus: %s\n", error.message);
		return 1;
	}
	if (open_conversation(argv[1], argv[2]) < 0)
		return 1;
	int result = pam_start(argv[1], argv[2], &conv, &pam);
	if (result == PAM_SUCCESS)
		result = pam_authenticate(pam, 0);
	if (result == PAM_SUCCESS)
		result = pam_acct_mgmt(pam, 0);
	if (result != PAM_SUCCESS)
		fprintf(stderr, "PAM says no: %s\n", pam_strerror(pam, result));
	else
		puts("ok");
	pam_end(pam, result);
	return result != PAM_SUCCESS; // and the conversation ends with our connection
}
