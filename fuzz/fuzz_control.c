// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * fuzz_control.c - libFuzzer harness for the control socket: control/server.c
 * and daemon/methods*.c on a real loop, with VMs that are only names.
 *
 * Input: a byte that says in what pieces the rest arrives, then what a client
 * sends. Checked: what comes back are whole lines of JSON, the greeting, then one
 * answer for each line that has something in it, in order; each is a result, or
 * an error of a code that docs/control.md has; after a capture was granted nothing
 * comes, as nothing is captured; a VM that was added can be found,
 * and nothing of a client is left when it has gone.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"
#include "check.h"
#include "daemon/methods_private.h"

#define OUTPUT_ROOM (1u << 20)
#define MAX_VMS 3u
#define TURNS 3

struct vm {
	struct vm_config *config;
	struct taps taps;
};

static struct loop *loop;
static struct methods methods;
static struct manager manager;
static struct sockaddr_un address;
static socklen_t address_length;

/* --- what stands in for the rest of the daemon --- */

int broker_listen_private(struct broker *broker, struct unix_listener *listener, const char *path)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	(void)broker;
	(void)path;
	address.sun_family = AF_UNIX;
	check(fd >= 0);
	/* no name: the kernel finds one that is no path */
	check(bind(fd, (struct sockaddr *)&address, sizeof(address.sun_family)) == 0);
	address_length = sizeof(address);
	check(getsockname(fd, (struct sockaddr *)&address, &address_length) == 0);
	check(listen(fd, 8) == 0);
	listener->fd = fd;
	return 0;
}

void broker_unlisten(struct broker *broker, struct unix_listener *listener)
{
	(void)broker;
	fd_close(&listener->fd);
}

const struct vm_config *vm_config(const struct vm *vm)
{
	return vm->config;
}

const char *vm_tag(char tag[VM_TAG_BYTES], uint32_t cid)
{
	(void)snprintf(tag, VM_TAG_BYTES, "vm=%u", cid);
	return tag;
}

uint32_t vm_cid(const struct vm *vm)
{
	return vm->config->guest_cid;
}

struct worker *vm_worker(const struct vm *vm)
{
	(void)vm;
	return manager.workers;
}

void vm_drain(struct vm *vm, bool on)
{
	(void)vm;
	(void)on;
}

const char *vm_state_name(enum conn_state state)
{
	return state == CONN_FREE ? "free" : "state";
}

const char *vm_limit_name(unsigned int limit)
{
	return limit == 0 ? "max-connections" : "limit";
}

void vm_add_tap(struct vm *vm, struct tap *tap)
{
	taps_add(&vm->taps, tap);
}

void vm_remove_tap(struct vm *vm, struct tap *tap)
{
	taps_remove(&vm->taps, tap);
}

void vm_get_info(struct vm *vm, struct vm_info *info)
{
	*info = (struct vm_info){ .cid = vm_cid(vm) };
}

void vm_get_details(struct vm *vm, struct vm_details *details)
{
	memset(details, 0, sizeof(*details));
	details->info.cid = vm_cid(vm);
	details->region_count = 2;
}

size_t vm_get_conns(struct vm *vm, struct vm_conn *conns, size_t max)
{
	for (size_t i = 0; i < max && i < 3; i++)
		conns[i] = (struct vm_conn){ .cid = vm_cid(vm), .guest_port = (uint32_t)i };
	return 3;
}

size_t manager_count(const struct manager *m)
{
	const struct vm_table *table = vm_set_table(&m->set);

	return table ? table->count : 0;
}

static void swap_table(struct vm *add, const struct vm *leave_out)
{
	struct vm_table *table = vm_set_copy(&manager.set, add, leave_out);

	check(table);
	free(vm_set_publish(&manager.set, table));
}

int manager_add(struct manager *m, const struct vm_config *config, bool from_file, char *why)
{
	struct vm *vm = calloc(1, sizeof(*vm));

	(void)from_file;
	check(vm);
	why[0] = '\0';
	if (manager_count(m) == MAX_VMS) {
		free(vm);
		return -ENFILE;
	}
	vm->config = config_copy_vm(config);
	check(vm->config);
	swap_table(vm, NULL);
	check(vm_set_find(&m->set, config->guest_cid) == vm);
	return 0;
}

int manager_remove(struct manager *m, struct vm *vm)
{
	check(vm_set_find(&m->set, vm_cid(vm)) == vm);
	swap_table(NULL, vm);
	while (vm->taps.first != NULL) {
		struct tap *tap = vm->taps.first;

		taps_remove(&vm->taps, tap);
		tap->gone(tap);
	}
	config_free_vm(vm->config);
	free(vm);
	return 0;
}

void manager_change(struct manager *m, struct vm *vm, struct vm_config *config)
{
	(void)m;
	check(vm->config->guest_cid == config->guest_cid);
	config_free_vm(vm->config);
	vm->config = config;
}

int manager_parse(const struct manager *m, const char *text, struct vm_config **vm, FILE *err)
{
	const struct vm_table *table = vm_set_table(&m->set);
	const struct vm_config *others[MAX_VMS];
	size_t count = table ? table->count : 0;

	for (size_t i = 0; i < count; i++)
		others[i] = table->vms[i]->config;
	return config_parse_vm(vm, text, others, count, err);
}

int manager_reload(struct manager *m, const struct reload_report *report, FILE *err)
{
	(void)m;
	(void)err;
	report->vm(report->ctx, 3, RELOAD_FAILED, "a reason \xff");
	return 0;
}

void manager_call(struct vm *vm, void (*fn)(struct vm *vm, void *arg), void *arg)
{
	fn(vm, arg);
}

void manager_each(struct manager *m, void (*fn)(struct vm *vm, size_t index, void *arg), void *arg)
{
	const struct vm_table *table = vm_set_table(&m->set);

	for (size_t i = 0; table && i < table->count; i++)
		fn(table->vms[i], i, arg);
}

/* --- a client --- */

struct client {
	int fd;
	size_t got;
	char output[OUTPUT_ROOM];
};

/* The loop runs what there is to do; the client reads. */
static void turn(struct client *c)
{
	ssize_t got;

	for (int i = 0; i < TURNS; i++) {
		loop_stop(loop);
		check(loop_run(loop) == 0);
		got = recv(c->fd, c->output + c->got, sizeof(c->output) - c->got, MSG_DONTWAIT);
		if (got > 0)
			c->got += (size_t)got;
		check(c->got < sizeof(c->output));
	}
}

static void send_all(struct client *c, const uint8_t *data, size_t size, size_t piece)
{
	while (size > 0) {
		size_t part = size < piece ? size : piece;

		if (send(c->fd, data, part, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)part)
			return; /* the server has hung up */
		data += part;
		size -= part;
		turn(c);
	}
}

static size_t lines_with_content(const uint8_t *data, size_t size)
{
	const uint8_t *end;
	size_t count = 0;

	for (; (end = memchr(data, '\n', size)) != NULL; data = end + 1) {
		size_t length = (size_t)(end - data);

		count += length > 1 || (length == 1 && data[0] != '\r');
		size -= length + 1;
	}
	return count;
}

static bool is_known(const char *code)
{
	static const char *const codes[] = { "invalid", "unknown-method", "not-found", "exists",
					     "limit",   "forbidden",      "internal" };

	for (size_t i = 0; i < array_size(codes); i++) {
		if (strcmp(code, codes[i]) == 0)
			return true;
	}
	return false;
}

/* Return: whether it was the last one, and a capture's stream follows. */
static bool check_answer(const char *line, size_t length)
{
	json_t *answer = json_loadb(line, length, JSON_REJECT_DUPLICATES, NULL);
	const json_t *error = json_object_get(answer, "error");
	const char *code = json_string_value(json_object_get(error, "code"));
	bool streams = json_object_get(json_object_get(answer, "result"), "linktype") != NULL;

	check(json_object_size(answer) == 2 && json_object_get(answer, "id"));
	check(error ? code && is_known(code) && json_object_size(error) == 2
		    : json_is_object(json_object_get(answer, "result")));
	json_decref(answer);
	return streams;
}

static void check_output(const struct client *c, size_t wanted)
{
	const char *at = c->output;
	const char *end = c->output + c->got;
	size_t answers = 0;

	for (const char *next; at < end; at = next + 1) {
		next = memchr(at, '\n', (size_t)(end - at));
		check(next);
		if (at == c->output)
			continue;
		answers++;
		if (check_answer(at, (size_t)(next - at))) {
			check(next + 1 == end && answers <= wanted);
			return;
		}
	}
	check(answers == wanted);
}

static void begin(void)
{
	const struct control_place place = { .path = "", .owner = getuid() };
	static struct worker worker;

	loop = loop_new();
	check(loop);
	manager.workers = &worker;
	check(methods_open(&methods, &manager, loop, &place) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct client c;
	const struct vm_table *table;

	if (!loop)
		begin();
	if (size == 0)
		return 0;
	log_set_level(LOG_ERROR);
	c.got = 0;
	c.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	check(c.fd >= 0 && connect(c.fd, (struct sockaddr *)&address, address_length) == 0);
	turn(&c);
	send_all(&c, data + 1, size - 1, data[0] < 200 ? size : data[0] - 199u);
	turn(&c);
	check_output(&c, lines_with_content(data + 1, size - 1));
	check(close(c.fd) == 0);
	c.fd = -1;
	for (int i = 0; i < TURNS; i++) {
		loop_stop(loop);
		check(loop_run(loop) == 0);
	}
	check(methods.server.client_count == 0 && methods.server.subscriber_count == 0);
	check(methods.captures.count == 0);
	table = vm_set_table(&manager.set);
	while (table && table->count > 0) {
		check(manager_remove(&manager, table->vms[0]) == 0);
		table = vm_set_table(&manager.set);
	}
	return 0;
}
