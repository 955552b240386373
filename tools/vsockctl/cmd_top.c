// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * cmd_top.c - "top": the VMs and what goes through them, live on a terminal,
 * once anywhere else.
 *
 * Rates are the difference of two pictures. The terminal is left as it was
 * found, by q as by a signal.
 */
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include "base/fd.h"
#include "common/hybrid.h"
#include "vsockctl/control.h"
#include "vsockctl/show.h"
#include "vsockctl/table.h"
#include "vsockctl/vsockctl.h"

#define CLEAR_SCREEN "\033[H\033[2J"
#define KEY_CTRL_C 3
#define MIN_WIDTH 20
#define HEAD_LINES 4

struct row {
	json_int_t cid;
	json_int_t conns;
	json_int_t to_guest; /* bytes, ever */
	json_int_t from_guest;
	json_int_t in; /* bytes per second; -1: not known yet */
	json_int_t out;
	const char *state;
	const char *place;
};

/* What the daemon told at one time. */
struct picture {
	json_t *vms; /* holds the strings of the rows */
	struct row *rows;
	size_t count;
	int64_t at_ms;
};

struct order {
	const char *name;
	char key;
	int (*compare)(const void *a, const void *b);
};

static int by(json_int_t a, json_int_t b)
{
	return (a > b) - (a < b);
}

static int by_cid(const void *a, const void *b)
{
	return by(((const struct row *)a)->cid, ((const struct row *)b)->cid);
}

/* The busiest first; equals by CID, so that they do not jump. */
#define DESCENDING(member)                                                                        \
	static int by_##member(const void *a, const void *b)                                      \
	{                                                                                         \
		int order = by(((const struct row *)b)->member, ((const struct row *)a)->member); \
                                                                                                  \
		return order != 0 ? order : by_cid(a, b);                                         \
	}
DESCENDING(conns)
DESCENDING(in)
DESCENDING(out)

static int by_state(const void *a, const void *b)
{
	int order = strcmp(((const struct row *)a)->state, ((const struct row *)b)->state);

	return order != 0 ? order : by_cid(a, b);
}

static const struct order orders[] = {
	{ "cid", 'c', by_cid }, { "conns", 'n', by_conns }, { "in", 'i', by_in },
	{ "out", 'o', by_out }, { "state", 's', by_state },
};

static const struct order *find_order(const char *name)
{
	for (size_t i = 0; i < array_size(orders); i++)
		if (strcmp(orders[i].name, name) == 0)
			return &orders[i];
	return NULL;
}

static const json_t *find_vm(const json_t *list, json_int_t cid)
{
	size_t i;
	json_t *vm;

	json_array_foreach (list, i, vm)
		if (show_number(vm, "cid") == cid)
			return vm;
	return NULL;
}

/* Figures of each VM join what "list" says. */
static void merge(json_t *vms, const json_t *stats)
{
	const json_t *figures = json_object_get(stats, "vms");
	size_t i;
	json_t *vm;

	json_array_foreach (vms, i, vm) {
		const json_t *more = json_array_get(figures, i);

		/* Both lists are in the same order, unless a VM came or went. */
		if (show_number(more, "cid") != show_number(vm, "cid"))
			more = find_vm(figures, show_number(vm, "cid"));
		if (more != NULL)
			json_object_update_missing(vm, (json_t *)(uintptr_t)more);
	}
}

static void fill_row(struct row *row, const json_t *vm)
{
	const char *place = show_string(vm, "uds_path");
	const char *slash = strrchr(place, '/');

	*row = (struct row){
		.cid = show_number(vm, "cid"),
		.conns = show_number(vm, "connections"),
		.to_guest = show_number(vm, "rx_bytes"),
		.from_guest = show_number(vm, "tx_bytes"),
		.in = -1,
		.out = -1,
		.state = show_string(vm, "state"),
		.place = slash != NULL ? slash + 1 : place,
	};
}

static void drop_picture(struct picture *picture)
{
	json_decref(picture->vms);
	free(picture->rows);
	*picture = (struct picture){ 0 };
}

/* Return: 0, or -1 after a complaint. */
static int take_picture(struct control *control, struct picture *picture)
{
	json_t *list = control_call(control, "list", NULL);
	json_t *stats = list != NULL ? control_call(control, "stats", NULL) : NULL;
	size_t i;
	json_t *vm;

	*picture = (struct picture){ .at_ms = hybrid_now_ms() };
	if (stats != NULL) {
		picture->vms = json_incref(json_object_get(list, "vms"));
		merge(picture->vms, stats);
		picture->rows = calloc(json_array_size(picture->vms) + 1, sizeof(*picture->rows));
	}
	json_decref(list);
	json_decref(stats);
	if (picture->rows == NULL) {
		drop_picture(picture);
		return -1;
	}
	json_array_foreach (picture->vms, i, vm)
		fill_row(&picture->rows[i], vm);
	picture->count = json_array_size(picture->vms);
	qsort(picture->rows, picture->count, sizeof(*picture->rows), by_cid);
	return 0;
}

static json_int_t per_second(json_int_t now, json_int_t before, int64_t ms)
{
	return now >= before && ms > 0 ? (now - before) * 1000 / ms : 0;
}

/* Both are sorted by CID. */
static void set_rates(struct picture *now, const struct picture *before)
{
	int64_t ms = now->at_ms - before->at_ms;

	for (size_t i = 0; i < now->count; i++) {
		struct row *row = &now->rows[i];
		const struct row *old =
			before->count == 0
				? NULL
				: bsearch(row, before->rows, before->count, sizeof(*row), by_cid);

		if (old == NULL)
			continue;
		row->in = per_second(row->to_guest, old->to_guest, ms);
		row->out = per_second(row->from_guest, old->from_guest, ms);
	}
}

/* Bytes in at most 5 columns: "1023", "12.3M". */
static void add_bytes(struct table *table, json_int_t bytes)
{
	static const char units[] = "kMGTPE";
	double value = (double)bytes;
	size_t unit = 0;

	if (bytes < 0) {
		table_add(table, "-");
		return;
	}
	if (bytes < 1024) {
		table_add(table, "%lld", (long long)bytes);
		return;
	}
	for (value /= 1024; value >= 1000 && unit < sizeof(units) - 2; unit++)
		value /= 1024;
	table_add(table, "%.*f%c", value < 99.95 ? 1 : 0, value, units[unit]);
}

static void print_rows(const struct picture *picture, const struct order *order, size_t width,
		       size_t rows)
{
	static const struct table_column columns[] = {
		{ "CID", true },   { "STATE", false }, { "CONNS", true }, { "IN/s", true },
		{ "OUT/s", true }, { "IN", true },     { "OUT", true },   { "SOCKET", false },
	};
	struct row *sorted = calloc(picture->count + 1, sizeof(*sorted));
	struct table table;

	if (sorted == NULL)
		return;
	memcpy(sorted, picture->rows, picture->count * sizeof(*sorted));
	qsort(sorted, picture->count, sizeof(*sorted), order->compare);
	table_init(&table, columns, array_size(columns));
	for (size_t i = 0; i < picture->count; i++) {
		table_add(&table, "%lld", (long long)sorted[i].cid);
		table_add(&table, "%s", sorted[i].state);
		table_add(&table, "%lld", (long long)sorted[i].conns);
		add_bytes(&table, sorted[i].in);
		add_bytes(&table, sorted[i].out);
		add_bytes(&table, sorted[i].to_guest);
		add_bytes(&table, sorted[i].from_guest);
		table_add(&table, "%s", sorted[i].place);
	}
	table_print(&table, stdout, width, rows);
	table_fini(&table);
	free(sorted);
}

static void draw(const struct picture *picture, const struct order *order)
{
	struct winsize size = { .ws_row = 24, .ws_col = 80 };
	size_t width;
	size_t rows;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_col == 0)
		size = (struct winsize){ .ws_row = 24, .ws_col = 80 };
	width = size.ws_col > MIN_WIDTH ? size.ws_col : MIN_WIDTH;
	rows = size.ws_row > HEAD_LINES ? (size_t)size.ws_row - HEAD_LINES : 1;
	printf(CLEAR_SCREEN
	       "%zu VMs by %s   q: quit   sort by c: cid n: conns i: in o: out s: state\n"
	       "IN is towards the guest\n\n",
	       picture->count, order->name);
	print_rows(picture, order, width, rows);
	fflush(stdout);
}

/* Wait for a key. Return: it, 0 when the time is over, 'q' also at a signal or end of file. */
static int wait_key(int signals, int timeout_ms)
{
	struct pollfd polls[] = {
		{ .fd = STDIN_FILENO, .events = POLLIN },
		{ .fd = signals, .events = POLLIN },
	};
	unsigned char key = 'q';

	if (poll(polls, array_size(polls), timeout_ms) <= 0)
		return 0;
	if (polls[1].revents != 0 || read(STDIN_FILENO, &key, 1) <= 0 || key == KEY_CTRL_C)
		return 'q';
	return key;
}

static const struct order *order_of_key(int key, const struct order *before)
{
	for (size_t i = 0; i < array_size(orders); i++)
		if (orders[i].key == key)
			return &orders[i];
	return before;
}

static int run_live(struct control *control, const struct order *order, uint32_t interval,
		    int signals)
{
	struct picture before = { 0 };
	struct picture now;
	int key = 0;
	int err = 0;

	while (key != 'q') {
		int64_t until;

		err = take_picture(control, &now);
		if (err < 0)
			break;
		set_rates(&now, &before);
		drop_picture(&before);
		before = now;
		until = now.at_ms + (int64_t)interval * 1000;
		do {
			int64_t left = until - hybrid_now_ms();

			draw(&now, order);
			key = wait_key(signals, left > 0 ? (int)left : 0);
			order = order_of_key(key, order);
		} while (key != 'q' && key != 0);
	}
	drop_picture(&before);
	return err < 0 ? STATUS_FAILED : STATUS_OK;
}

/* Keys one by one and without echo; signals by a descriptor. */
static int live(struct control *control, const struct order *order, uint32_t interval)
{
	int signals scoped_fd = -1;
	struct termios before;
	struct termios raw;
	sigset_t set;
	int status;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signals = signalfd(-1, &set, SFD_CLOEXEC);
	if (tcgetattr(STDIN_FILENO, &before) < 0)
		return STATUS_FAILED;
	raw = before;
	raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO | ISIG);
	tcsetattr(STDIN_FILENO, TCSANOW, &raw);
	status = run_live(control, order, interval > 0 ? interval : 1, signals);
	tcsetattr(STDIN_FILENO, TCSANOW, &before);
	return status;
}

static int once(struct control *control, const struct order *order, bool json)
{
	struct picture picture;

	if (take_picture(control, &picture) < 0)
		return STATUS_FAILED;
	if (json) {
		json_t *result = json_pack("{s:O}", "vms", picture.vms);

		show_json(result);
		json_decref(result);
	} else {
		print_rows(&picture, order, 0, SIZE_MAX);
	}
	drop_picture(&picture);
	return STATUS_OK;
}

int cmd_top(const struct options *options, int argc, char **argv)
{
	const struct order *order = find_order(options->sort != NULL ? options->sort : "cid");
	struct control control;
	int status;

	(void)argc;
	(void)argv;
	if (order == NULL) {
		complain("--sort '%s': expected cid, conns, in, out or state", options->sort);
		return STATUS_USAGE;
	}
	if (control_open(&control, options->control) < 0)
		return STATUS_FAILED;
	if (options->json || !isatty(STDOUT_FILENO) || !isatty(STDIN_FILENO))
		status = once(&control, order, options->json);
	else
		status = live(&control, order, options->interval);
	control_close(&control);
	return status;
}
