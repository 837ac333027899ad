// SPDX-License-Identifier: Apache-2.0
//
// Opens a session, answers its prompts, waits until it is open and closes it.
// Written from the README and dbus-1/interfaces alone, with libdbus. Service,
// user and answers come from the environment: PAM_SERVICE, PAM_USER, PASSWORD,
// CODE. It exits with 0 when everything went as described there.

#define _GNU_SOURCE
#include <dbus/dbus.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define NAME "org.pamprompt.Broker1"
#define ROOT "/org/pamprompt/Broker1"
#define MANAGER NAME ".Manager"
#define SESSION NAME ".Session"
#define TIMEOUT 60000 // milliseconds

static DBusConnection *bus;
static char broker[256];   // unique name of the broker: only its signals count
static char path[256];     // of our session
static const char *answer; // to the next prompt
static char state[16];
static int asked;

static void die(const char *what, const char *why) {
	fprintf(stderr, "client.c: %s: %s\n", what, why);
	exit(1);
}

// call sends m, waits for the reply and frees m.
static DBusMessage *call(DBusMessage *m) {
	DBusError error = DBUS_ERROR_INIT;
	DBusMessage *reply = dbus_connection_send_with_reply_and_block(bus, m, TIMEOUT, &error);
	if (!reply)
		die(dbus_message_get_member(m), error.message);
	dbus_message_unref(m);
	return reply;
}

// find_broker notes who owns the name.
static void find_broker(void) {
	DBusMessage *m = dbus_message_new_method_call(DBUS_SERVICE_DBUS, DBUS_PATH_DBUS, DBUS_INTERFACE_DBUS, "GetNameOwner");
	const char *name = NAME, *owner;
	dbus_message_append_args(m, DBUS_TYPE_STRING, &name, DBUS_TYPE_INVALID);
	DBusMessage *reply = call(m);
	if (!dbus_message_get_args(reply, NULL, DBUS_TYPE_STRING, &owner, DBUS_TYPE_INVALID))
		die("GetNameOwner", "the reply is not (s)");
	snprintf(broker, sizeof broker, "%s", owner);
	dbus_message_unref(reply);
}

static void append_option(DBusMessageIter *options, const char *key, const char *type, int dtype, const void *value) {
	DBusMessageIter entry, variant;
	dbus_message_iter_open_container(options, DBUS_TYPE_DICT_ENTRY, NULL, &entry);
	dbus_message_iter_append_basic(&entry, DBUS_TYPE_STRING, &key);
	dbus_message_iter_open_container(&entry, DBUS_TYPE_VARIANT, type, &variant);
	dbus_message_iter_append_basic(&variant, dtype, value);
	dbus_message_iter_close_container(&entry, &variant);
	dbus_message_iter_close_container(options, &entry);
}

static void open_session(const char *service, const char *user) {
	DBusMessage *m = dbus_message_new_method_call(NAME, ROOT, MANAGER, "OpenSession");
	DBusMessageIter args, options;
	dbus_bool_t agent = TRUE;
	const char *reason = "the C test";
	dbus_message_iter_init_append(m, &args);
	dbus_message_iter_append_basic(&args, DBUS_TYPE_STRING, &service);
	dbus_message_iter_append_basic(&args, DBUS_TYPE_STRING, &user);
	dbus_message_iter_open_container(&args, DBUS_TYPE_ARRAY, "{sv}", &options);
	append_option(&options, "agent", "b", DBUS_TYPE_BOOLEAN, &agent);
	append_option(&options, "reason", "s", DBUS_TYPE_STRING, &reason);
	dbus_message_iter_close_container(&args, &options);

	DBusMessage *reply = call(m);
	dbus_uint64_t id;
	const char *session;
	if (!dbus_message_get_args(reply, NULL, DBUS_TYPE_UINT64, &id, DBUS_TYPE_OBJECT_PATH, &session, DBUS_TYPE_INVALID))
		die("OpenSession", "the reply is not (t, o)");
	snprintf(path, sizeof path, "%s", session);
	dbus_message_unref(reply);
}

// memfd returns a sealed memfd that holds the answer.
static int memfd(const char *text) {
	int fd = memfd_create("answer", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text) ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
		die("memfd", "cannot make one");
	return fd;
}

static void on_prompt(DBusMessage *signal) {
	dbus_uint64_t id;
	const char *session, *style, *message;
	if (!dbus_message_get_args(signal, NULL, DBUS_TYPE_UINT64, &id, DBUS_TYPE_OBJECT_PATH, &session, DBUS_TYPE_STRING,
				   &style, DBUS_TYPE_STRING, &message, DBUS_TYPE_INVALID))
		die("Prompt", "the signal is not (t, o, s, s, ...)");
	if (strcmp(session, path) != 0)
		return;
	printf("%s prompt: %s\n", style, message);
	int fd = memfd(answer);
	DBusMessage *m = dbus_message_new_method_call(NAME, ROOT, MANAGER, "AnswerPromptFD");
	dbus_message_append_args(m, DBUS_TYPE_UINT64, &id, DBUS_TYPE_UNIX_FD, &fd, DBUS_TYPE_INVALID);
	close(fd); // the message has a copy
	answer = getenv("CODE");
	asked++;
	dbus_message_unref(call(m));
}

// read_state asks for the property State.
static void read_state(void) {
	DBusMessage *m = dbus_message_new_method_call(NAME, path, DBUS_INTERFACE_PROPERTIES, "Get");
	const char *interface = SESSION, *property = "State", *value;
	dbus_message_append_args(m, DBUS_TYPE_STRING, &interface, DBUS_TYPE_STRING, &property, DBUS_TYPE_INVALID);
	DBusMessage *reply = call(m);
	DBusMessageIter args, variant;
	dbus_message_iter_init(reply, &args);
	dbus_message_iter_recurse(&args, &variant);
	dbus_message_iter_get_basic(&variant, &value);
	if (strcmp(state, value) != 0)
		printf("state: %s\n", value);
	snprintf(state, sizeof state, "%s", value);
	dbus_message_unref(reply);
}

// wait_for handles signals until the session is in the state wanted. Signals
// that came while a call was waiting, before the path was known too, are in
// the connection's queue still, so none is missed.
static void wait_for(const char *want) {
	read_state();
	while (strcmp(state, want) != 0) {
		if (strcmp(state, "failed") == 0 || strcmp(state, "closed") == 0)
			die("the session is unexpectedly", state);
		DBusMessage *m;
		while (!(m = dbus_connection_pop_message(bus)))
			if (!dbus_connection_read_write(bus, TIMEOUT))
				die("the bus", "the connection is gone");
		if (!dbus_message_has_sender(m, broker))
			; // anybody may send us signals of any name
		else if (dbus_message_is_signal(m, MANAGER, "Prompt"))
			on_prompt(m);
		else if (dbus_message_is_signal(m, DBUS_INTERFACE_PROPERTIES, "PropertiesChanged") && dbus_message_has_path(m, path))
			read_state();
		dbus_message_unref(m);
	}
}

int main(void) {
	DBusError error = DBUS_ERROR_INIT;
	bus = dbus_bus_get(DBUS_BUS_SYSTEM, &error);
	if (!bus)
		die("the system bus", error.message);
	dbus_bus_add_match(bus, "type='signal',sender='" NAME "',member='PropertiesChanged'", &error);
	if (dbus_error_is_set(&error))
		die("AddMatch", error.message);
	find_broker();
	answer = getenv("PASSWORD");
	open_session(getenv("PAM_SERVICE"), getenv("PAM_USER"));
	wait_for("open");
	dbus_message_unref(call(dbus_message_new_method_call(NAME, path, SESSION, "Close")));
	wait_for("closed");
	if (asked != 2)
		die("the session", "it did not ask twice");
	puts("ok");
	return 0;
}
