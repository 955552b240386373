// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * cmd_events.c - "events": a line for everything that happens, as it happens,
 * until the daemon or the reader of our output goes away.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "vsockctl/control.h"
#include "vsockctl/show.h"
#include "vsockctl/vsockctl.h"

/* "12:00:00 connection-opened cid=3 guest_port=1234" */
static void print_event(const json_t *event)
{
	char text[SHOW_VALUE_SIZE];
	char when[sizeof("00:00:00")] = "";
	struct tm local;
	time_t now = time(NULL);
	const char *key;
	json_t *value;

	if (localtime_r(&now, &local) != NULL)
		strftime(when, sizeof(when), "%H:%M:%S", &local);
	printf("%s %s", when, show_value(json_object_get(event, "event"), text));
	json_object_foreach ((json_t *)(uintptr_t)event, key, value) {
		if (strcmp(key, "event") == 0 || json_is_null(value))
			continue;
		printf(" %s=%s", key, show_value(value, text));
	}
	putchar('\n');
	fflush(stdout);
}

int cmd_events(const struct options *options, int argc, char **argv)
{
	struct control control;
	json_t *message;
	int status = STATUS_OK;

	(void)argc;
	(void)argv;
	if (control_open(&control, options->control) < 0)
		return STATUS_FAILED;
	message = control_call(&control, "subscribe", NULL);
	if (message == NULL)
		status = STATUS_FAILED;
	while (message != NULL) {
		json_decref(message);
		/* Whoever read our output is gone. */
		if (ferror(stdout))
			break;
		message = control_read(&control, -1);
		if (message == NULL)
			status = STATUS_FAILED;
		else if (options->json)
			show_json(message);
		else
			print_event(message);
	}
	control_close(&control);
	return status;
}
