/* SPDX-License-Identifier: Apache-2.0 */

#include "options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include <security/pam_ext.h>

enum {
	DEFAULT_TIMEOUT = 120,
	MAX_TIMEOUT = 24 * 3600,
};

static unsigned parse_timeout(pam_handle_t *pamh, const char *arg, const char *value)
{
	unsigned long seconds;
	char *end;

	errno = 0;
	seconds = strtoul(value, &end, 10);
	if (*value >= '0' && *value <= '9' && *end == '\0' && errno == 0 && seconds >= 1 && seconds <= MAX_TIMEOUT)
		return (unsigned)seconds;
	pam_syslog(pamh, LOG_ERR, "%s is no number of seconds from 1 to %d: it is taken for %d", arg, MAX_TIMEOUT, DEFAULT_TIMEOUT);
	return DEFAULT_TIMEOUT;
}

/* What follows the name of an option, or NULL if it is another one. */
static const char *value_of(const char *arg, const char *name)
{
	size_t length = strlen(name);

	return strncmp(arg, name, length) == 0 ? arg + length : NULL;
}

void parse_options(pam_handle_t *pamh, int argc, const char **argv, struct options *o)
{
	*o = (struct options){.reason = "", .timeout = DEFAULT_TIMEOUT};
	for (int i = 0; i < argc; i++) {
		const char *value;

		if ((value = value_of(argv[i], "service=")) != NULL)
			o->service = value;
		else if ((value = value_of(argv[i], "reason=")) != NULL)
			o->reason = value;
		else if ((value = value_of(argv[i], "timeout=")) != NULL)
			o->timeout = parse_timeout(pamh, argv[i], value);
		else if (strcmp(argv[i], "fallback") == 0)
			o->fallback = true;
		else if (strcmp(argv[i], "quiet") == 0)
			o->quiet = true;
		else if (strcmp(argv[i], "debug") == 0)
			o->debug = true;
		else
			pam_syslog(pamh, LOG_ERR, "there is no option %s: there are service=, reason=, timeout=, fallback, quiet and debug", argv[i]);
	}
}
