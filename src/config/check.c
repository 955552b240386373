// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * check.c - judges the VMs of a draft together; single values were
 * judged when they were read. Makes no system call: paths are compared as text.
 *
 * Theory of operation: first each VM for itself (missing keys, keys that
 * exclude each other), then all of them: CIDs and paths are sorted, so that
 * equal ones are neighbours and thousands of VMs cost no quadratic time. The
 * order is total (ties by place), so the same mistake gives the same line.
 *
 * A path collides also when it is "<uds-path>_<port>" of any VM: a guest that
 * connects to that port would talk to a socket of ours that is not meant for it,
 * and the sockets of --control and --metrics are not meant for any guest.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/private.h"

#define NAME_ROOM 64u
#define NUMBER_ROOM 16u
/* a Unix socket's, with room to spare */
#define PATH_ROOM 128u
/* "4294967295", the longest port */
#define MAX_PORT_DIGITS 10u

/** A CID or a path, and who uses it. */
struct use {
	const char *path;
	uint32_t cid;
	const struct vm_draft *vm;
	enum config_key_id key;
};

static int report_vm(const struct config_draft *draft, const struct vm_draft *vm,
		     enum config_key_id key, const char *value, const char *message)
{
	const struct config_where where = config_where_of(draft, vm, key);

	return config_report(draft->err, &where, value, "%s", message);
}

static int report_number(const struct config_draft *draft, const struct vm_draft *vm,
			 enum config_key_id key, uint32_t number, const char *message)
{
	char value[NUMBER_ROOM];

	(void)snprintf(value, sizeof(value), "%u", number);
	return report_vm(draft, vm, key, value, message);
}

static int check_vm(const struct config_draft *draft, const struct vm_draft *vm)
{
	const struct vm_config *config = &vm->vm;

	if (!config->socket && config->fd == 0) {
		const struct config_where where = config_where_of(draft, vm, KEY_SOCKET);

		return config_key_refuse(draft->err, &where, KEY_SOCKET, NULL);
	}
	if (config->fd != 0 && (config->socket || config->dials))
		return report_number(draft, vm, KEY_FD, config->fd,
				     "expected neither socket nor mode=client beside it");
	if (config->uds_path && config->forward_cid != 0)
		return report_number(draft, vm, KEY_FORWARD_CID, config->forward_cid,
				     "expected only one of uds-path and forward-cid");
	if (config->forward_listen_count > 0 && config->forward_cid == 0)
		return report_number(draft, vm, KEY_FORWARD_LISTEN, config->forward_listen[0].port,
				     "expected forward-cid beside it");
	if (!config->uds_path && config->forward_cid == 0)
		return report_vm(draft, vm, KEY_UDS_PATH, NULL,
				 "missing, expected one of uds-path and forward-cid");
	if (config->max_buffered < config->tx_buffer_size)
		return report_number(draft, vm, KEY_MAX_BUFFERED, config->max_buffered,
				     "expected at least tx-buffer-size, for one connection");
	return 0;
}

/* What runs comes first, so that the newcomer is the one in the wrong. */
static int compare_places(const struct use *a, const struct use *b)
{
	if (a->vm->runs != b->vm->runs)
		return a->vm->runs ? -1 : 1;
	if (a->vm != b->vm)
		return a->vm < b->vm ? -1 : 1;
	return a->key < b->key ? -1 : a->key > b->key;
}

static int compare_cids(const void *left, const void *right)
{
	const struct use *a = left;
	const struct use *b = right;

	if (a->cid != b->cid)
		return a->cid < b->cid ? -1 : 1;
	return compare_places(a, b);
}

/* Length of the next name in a path, 0 at its end; "//" and "/./" count for nothing. */
static size_t next_name(const char **path)
{
	for (;;) {
		size_t len = 0;

		*path += strspn(*path, "/");
		len = strcspn(*path, "/");
		if (len != 1 || **path != '.')
			return len;
		*path += 1;
	}
}

static int compare_path_text(const char *a, const char *b)
{
	if ((*a == '/') != (*b == '/'))
		return *a == '/' ? -1 : 1;
	for (;;) {
		size_t a_len = next_name(&a);
		size_t b_len = next_name(&b);
		int order = memcmp(a, b, min_size(a_len, b_len));

		if (order != 0)
			return order;
		if (a_len != b_len)
			return a_len < b_len ? -1 : 1;
		if (a_len == 0)
			return 0;
		a += a_len;
		b += b_len;
	}
}

static int compare_paths(const void *left, const void *right)
{
	const struct use *a = left;
	const struct use *b = right;
	int order = compare_path_text(a->path, b->path);

	return order != 0 ? order : compare_places(a, b);
}

static int compare_path_to_use(const void *path, const void *use)
{
	return compare_path_text(path, ((const struct use *)use)->path);
}

/* Names the other user of something: "--vm 1", "line 4", "--socket". */
static void name_other(const struct config_draft *draft, const struct use *other,
		       char name[NAME_ROOM])
{
	const struct config_where where = config_where_of(draft, other->vm, other->key);

	config_where_name(&where, name, NAME_ROOM);
}

static int check_cids(const struct config_draft *draft, struct use *uses)
{
	for (size_t i = 0; i < draft->vm_count; i++) {
		const struct vm_draft *vm = &draft->vms[i];

		uses[i] = (struct use){ .cid = vm->vm.guest_cid, .vm = vm, .key = KEY_GUEST_CID };
	}
	qsort(uses, draft->vm_count, sizeof(*uses), compare_cids);
	for (size_t i = 1; i < draft->vm_count; i++) {
		struct config_where where;
		char value[NUMBER_ROOM];
		char other[NAME_ROOM];

		if (uses[i].cid != uses[i - 1].cid)
			continue;
		where = config_where_of(draft, uses[i].vm, KEY_GUEST_CID);
		name_other(draft, &uses[i - 1], other);
		(void)snprintf(value, sizeof(value), "%u", uses[i].cid);
		return config_report(draft->err, &where, value,
				     "expected a CID of its own, %s has the same", other);
	}
	return 0;
}

static size_t collect_paths(const struct config_draft *draft, struct use *uses)
{
	size_t count = 0;

	for (size_t i = 0; i < draft->vm_count; i++) {
		const struct vm_draft *vm = &draft->vms[i];

		if (vm->vm.socket)
			uses[count++] = (struct use){
				.path = vm->vm.socket,
				.vm = vm,
				.key = KEY_SOCKET,
			};
		if (vm->vm.uds_path)
			uses[count++] = (struct use){
				.path = vm->vm.uds_path,
				.vm = vm,
				.key = KEY_UDS_PATH,
			};
	}
	return count;
}

static int check_equal_paths(const struct config_draft *draft, const struct use *uses, size_t count)
{
	for (size_t i = 1; i < count; i++) {
		struct config_where where;
		char other[NAME_ROOM];

		if (compare_path_text(uses[i].path, uses[i - 1].path) != 0)
			continue;
		where = config_where_of(draft, uses[i].vm, uses[i].key);
		name_other(draft, &uses[i - 1], other);
		return config_report(draft->err, &where, uses[i].path,
				     "expected a path of its own, %s has the same", other);
	}
	return 0;
}

/* Length of @path without "_PORT", 0 if it does not end so; ports are written without zeros. */
static size_t length_without_port(const char *path)
{
	const char *mark = strrchr(path, '_');
	size_t digits = mark ? strspn(mark + 1, "0123456789") : 0;

	if (digits == 0 || digits > MAX_PORT_DIGITS || mark[1 + digits] != '\0')
		return 0;
	if ((mark[1] == '0' && digits > 1) || strtoull(mark + 1, NULL, 10) > UINT32_MAX)
		return 0;
	return (size_t)(mark - path);
}

bool config_reaches(const struct vm_config *vm, const char *path)
{
	size_t len = length_without_port(path);
	char stem[PATH_ROOM];

	/* nobody can listen at a longer one */
	if (!vm->uds_path || len == 0 || len >= sizeof(stem))
		return false;
	memcpy(stem, path, len);
	stem[len] = '\0';
	return compare_path_text(stem, vm->uds_path) == 0;
}

static int check_port_paths(const struct config_draft *draft, const struct use *uses, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		size_t len = length_without_port(uses[i].path);
		char *stem = len > 0 ? strndup(uses[i].path, len) : NULL;
		const struct use *found = NULL;
		struct config_where where;
		char other[NAME_ROOM];

		if (len == 0)
			continue;
		if (!stem)
			return -ENOMEM;
		found = bsearch(stem, uses, count, sizeof(*uses), compare_path_to_use);
		free(stem);
		if (!found || found->key != KEY_UDS_PATH)
			continue;
		where = config_where_of(draft, uses[i].vm, uses[i].key);
		name_other(draft, found, other);
		return config_report(draft->err, &where, uses[i].path,
				     "expected a path that is not the uds-path of %s with '_PORT'",
				     other);
	}
	return 0;
}

static const char *given(const char *by_option, const char *by_file)
{
	return by_option ? by_option : by_file;
}

/* Guests ask nothing of the daemon itself: @path is the socket of option @key, or NULL. */
static int check_service(const struct config_draft *draft, enum config_key_id key, const char *path)
{
	for (size_t i = 0; path && i < draft->vm_count; i++) {
		const struct vm_draft *vm = &draft->vms[i];
		const struct config_where where = config_where_of(draft, vm, KEY_UDS_PATH);

		if (config_reaches(&vm->vm, path))
			return config_report(draft->err, &where, vm->vm.uds_path,
					     "expected a path that with '_PORT' is not the socket "
					     "of --%s",
					     config_key(key)->name);
	}
	return 0;
}

static int check_services(const struct config_draft *draft)
{
	const char *control = given(draft->by_option.control, draft->by_file.control);
	const char *metrics = given(draft->by_option.metrics, draft->by_file.metrics);
	int ret = check_service(draft, KEY_CONTROL, control);

	if (ret)
		return ret;
	return check_service(draft, KEY_METRICS, metrics ? config_endpoint_path(metrics) : NULL);
}

static int check_together(const struct config_draft *draft, struct use *uses)
{
	size_t count = 0;
	int ret = check_cids(draft, uses);

	if (ret)
		return ret;
	count = collect_paths(draft, uses);
	qsort(uses, count, sizeof(*uses), compare_paths);
	ret = check_equal_paths(draft, uses, count);
	if (ret)
		return ret;
	return check_port_paths(draft, uses, count);
}

static int refuse_none(const struct config_draft *draft)
{
	enum config_key_id key = draft->file != NULL ? KEY_VMS : KEY_SOCKET;
	const struct config_where where = {
		.file = draft->file,
		.line = draft->by_file.marks.line[KEY_VMS],
		.key = config_key(key)->name,
	};

	return config_key_refuse(draft->err, &where, key, draft->file != NULL ? "[]" : NULL);
}

int config_check(const struct config_draft *draft)
{
	struct use *uses = NULL;
	int ret = 0;

	if (draft->vm_count == 0 && (draft->by_option.control || draft->by_file.control))
		return 0; /* they can be added later */
	if (draft->vm_count == 0)
		return refuse_none(draft);
	for (size_t i = 0; i < draft->vm_count; i++) {
		ret = check_vm(draft, &draft->vms[i]);
		if (ret)
			return ret;
	}
	ret = check_services(draft);
	if (ret)
		return ret;
	uses = calloc(draft->vm_count, 2 * sizeof(*uses));
	if (!uses)
		return -ENOMEM;
	ret = check_together(draft, uses);
	free(uses);
	return ret;
}
