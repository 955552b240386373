// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * cmd_run.c - "run": becomes a program whose AF_VSOCK sockets are those of the
 * preload library (tools/preload/). Tells it by the environment which guests
 * there are, from --uds or from the daemon.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/guests.h"
#include "vsockctl/control.h"
#include "vsockctl/show.h"
#include "vsockctl/vsockctl.h"

#define STATUS_NOT_FOUND 127 /* as of a shell */
#define STATUS_NOT_RUN 126

#define LIBRARY_PATH_SIZE 2048

/* Room for GUESTS_MAX lines of a CID, '=', a path and a newline. */
#define LIST_SIZE (GUESTS_MAX * (sizeof("4294967294-=\n") + GUESTS_PATH_MAX))

struct list {
	char text[LIST_SIZE];
	size_t len;
	size_t count;
};

/* Return: 0, or -1 after a complaint. */
static int add_guest(struct list *list, uint32_t cid, bool ack, const char *path)
{
	char here[1024] = "";
	size_t len;

	/* The program may change its directory. */
	if (path[0] != '/' && getcwd(here, sizeof(here) - 1) != NULL)
		here[strlen(here)] = '/';
	len = strlen(here) + strlen(path);
	if (*path == '\0' || len > GUESTS_PATH_MAX || strchr(path, '\n') != NULL) {
		complain("uds-path '%s%s': expected 1 to %u bytes, without a newline", here, path,
			 GUESTS_PATH_MAX);
		return -1;
	}
	if (list->count++ == GUESTS_MAX) {
		complain("run: expected at most %u VMs", GUESTS_MAX);
		return -1;
	}
	list->len += (size_t)snprintf(list->text + list->len, sizeof(list->text) - list->len,
				      "%u%s=%s%s\n", cid, ack ? "" : "-", here, path);
	return 0;
}

/* "3=/run/vm3.vsock" */
static int add_option(struct list *list, bool ack, const char *text)
{
	char number[sizeof("4294967295")];
	size_t len = strcspn(text, "=");
	uint32_t cid;

	if (text[len] == '\0' || len >= sizeof(number)) {
		complain("--uds '%s': expected CID=PATH", text);
		return -1;
	}
	memcpy(number, text, len);
	number[len] = '\0';
	if (argument_u32("CID of --uds", number, UINT32_MAX - 1, &cid) < 0)
		return -1;
	return add_guest(list, cid, ack, text + len + 1);
}

/* Forwarding VMs have no Unix sockets. */
static int add_daemon(struct list *list, const char *control)
{
	json_t *result = control_ask(control, "list", NULL);
	int err = result != NULL ? 0 : -1;
	size_t i;
	json_t *vm;

	json_array_foreach (json_object_get(result, "vms"), i, vm) {
		const char *path = json_string_value(json_object_get(vm, "uds_path"));

		if (path != NULL && err == 0)
			err = add_guest(list, (uint32_t)show_number(vm, "cid"),
					!json_is_false(json_object_get(vm, "ack")), path);
	}
	json_decref(result);
	if (err == 0 && list->count == 0) {
		complain("run: the daemon has no VM with an uds-path");
		err = -1;
	}
	return err;
}

/*
 * Beside this program, where the build leaves it, or where it is installed, seen from this program
 * so that a tree may be moved.
 */
static int find_library(char path[LIBRARY_PATH_SIZE])
{
	static const char *const places[] = { "/", "/../" PRELOAD_DIR "/" };
	char self[LIBRARY_PATH_SIZE / 2];
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (len < 0)
		return -1;
	self[len] = '\0';
	*strrchr(self, '/') = '\0';
	for (size_t i = 0; i < array_size(places); i++) {
		(void)snprintf(path, LIBRARY_PATH_SIZE, "%s%s%s", self, places[i], PRELOAD_NAME);
		if (access(path, R_OK) == 0)
			return 0;
	}
	return -1;
}

/* Before what the user preloads already. */
static int set_environment(const struct list *list)
{
	const char *before = getenv("LD_PRELOAD");
	char library[LIBRARY_PATH_SIZE];
	char *value = NULL;
	int err = -1;

	if (find_library(library) < 0) {
		complain("run: %s is missing beside this program", PRELOAD_NAME);
		return -1;
	}
	if (strpbrk(library, ": ") != NULL) {
		complain("run: '%s': the loader takes no library with ':' or ' ' in its path",
			 library);
		return -1;
	}
	if (asprintf(&value, "%s%s%s", library, before != NULL && *before != '\0' ? ":" : "",
		     before != NULL ? before : "") < 0)
		value = NULL;
	if (value != NULL && setenv("LD_PRELOAD", value, 1) == 0)
		err = setenv(GUESTS_VARIABLE, list->text, 1);
	free(value);
	if (err < 0)
		complain("%s", strerror(ENOMEM));
	return err;
}

static int add_options(struct list *list, const struct options *options)
{
	for (size_t i = 0; i < options->n_uds; i++)
		if (add_option(list, !options->no_ack, options->uds[i]) < 0)
			return -1;
	return 0;
}

int cmd_run(const struct options *options, int argc, char **argv)
{
	struct list *list = calloc(1, sizeof(*list));
	int err = -1;

	(void)argc;
	if (list == NULL)
		return STATUS_FAILED;
	if (options->n_uds > 0 && add_options(list, options) < 0) {
		free(list);
		return STATUS_USAGE;
	}
	if (options->n_uds > 0 || add_daemon(list, options->control) == 0)
		err = set_environment(list);
	free(list);
	if (err < 0)
		return STATUS_FAILED;
	signal(SIGPIPE, SIG_DFL);
	execvp(argv[0], argv);
	complain("cannot run '%s': %s", argv[0], strerror(errno));
	return errno == ENOENT ? STATUS_NOT_FOUND : STATUS_NOT_RUN;
}
