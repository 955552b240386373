// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * metrics_text.c - the page of metrics. Samples of a family stand together, as
 * the format wants it; a family is a row of a table or a few lines here.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/metrics.h"

#define PREFIX "vhost_device_vsock_"
#define LINE_BYTES 256u

/** What is told of a VM. */
struct metered {
	struct vm_info info;
	uint32_t states[CONN_STATE_COUNT];
};

/** Text under construction. */
struct page {
	char *text;
	size_t length;
	size_t room;
	bool failed;      /* no memory */
	bool openmetrics; /* else Prometheus' own format, where counters end in _total */
	const struct metered *vms;
	size_t count;
};

static void grow(struct page *page, size_t length)
{
	size_t room = page->room > 0 ? page->room : 4096;
	char *text;

	while (room < page->length + length)
		room *= 2;
	if (room == page->room)
		return;
	text = realloc(page->text, room);
	if (text == NULL) {
		page->failed = true;
		return;
	}
	page->text = text;
	page->room = room;
}

static printf_like(2, 3)
void add(struct page *page, const char *format, ...)
{
	char line[LINE_BYTES];
	va_list args;
	int length;

	va_start(args, format);
	length = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (length < 0 || (size_t)length >= sizeof(line))
		page->failed = true;
	if (!page->failed)
		grow(page, (size_t)length);
	if (page->failed)
		return;
	memcpy(page->text + page->length, line, (size_t)length);
	page->length += (size_t)length;
}

static void head(struct page *page, const char *name, bool counter, const char *help)
{
	const char *suffix = counter && !page->openmetrics ? "_total" : "";

	add(page, "# HELP %s%s %s\n# TYPE %s%s %s\n", name, suffix, help, name, suffix,
	    counter ? "counter" : "gauge");
}

static void count(struct page *page, const char *name, const struct vm_info *info,
		  const char *label, const char *value, uint64_t number)
{
	if (label == NULL)
		add(page, "%s_total{cid=\"%" PRIu32 "\"} %" PRIu64 "\n", name, info->cid, number);
	else
		add(page, "%s_total{cid=\"%" PRIu32 "\",%s=\"%s\"} %" PRIu64 "\n", name, info->cid,
		    label, value, number);
}

#define STAT(member) offsetof(struct vm_info, stats.member)

/* Counters of a VM that have no further label. */
static void add_counters(struct page *page)
{
	static const struct {
		const char *name;
		const char *help;
		size_t offset;
	} rows[] = {
		{ PREFIX "tx_packets", "Packets taken from the guest.", STAT(tx_packets) },
		{ PREFIX "tx_bytes", "Payload from the guest to the host.", STAT(tx_bytes) },
		{ PREFIX "rx_packets", "Packets given to the guest by its own worker.",
		  STAT(rx_packets) },
		{ PREFIX "rx_bytes", "Payload from the host to the guest.", STAT(rx_bytes) },
		{ PREFIX "credit_stalls", "Times bytes of the host waited for the guest to read.",
		  STAT(credit_stalls) },
		{ PREFIX "rx_starved", "Times the guest had given too few RX buffers.",
		  STAT(rx_starved) },
		{ PREFIX "spilled_bytes", "Bytes the host side did not take at once.",
		  STAT(spilled_bytes) },
		{ PREFIX "tx_paced", "Times the guest's ring waited for tx-rate.", STAT(tx_paced) },
		{ PREFIX "rx_paced", "Times programs of the host waited for rx-rate.",
		  STAT(rx_paced) },
		{ PREFIX "kicks", "Notifications by the guest.", offsetof(struct vm_info, kicks) },
		{ PREFIX "guest_errors", "Rules that the guest broke.",
		  offsetof(struct vm_info, guest_errors) },
		{ PREFIX "captured_packets", "Packets given to captures.",
		  offsetof(struct vm_info, captured) },
		{ PREFIX "capture_lost_packets", "Packets that captures had no room for.",
		  offsetof(struct vm_info, capture_lost) },
	};

	for (size_t i = 0; i < array_size(rows); i++) {
		head(page, rows[i].name, true, rows[i].help);
		for (size_t j = 0; j < page->count; j++) {
			const struct vm_info *info = &page->vms[j].info;
			uint64_t number;

			memcpy(&number, (const char *)info + rows[i].offset, sizeof(number));
			count(page, rows[i].name, info, NULL, NULL, number);
		}
	}
}

static void add_calls(struct page *page)
{
	static const char name[] = PREFIX "calls";

	head(page, name, true, "Notifications of the guest.");
	for (size_t i = 0; i < page->count; i++) {
		count(page, name, &page->vms[i].info, "ring", "rx", page->vms[i].info.rx_calls);
		count(page, name, &page->vms[i].info, "ring", "tx", page->vms[i].info.tx_calls);
	}
}

static void add_outcomes(struct page *page, const char *name, const char *help, size_t offset)
{
	head(page, name, true, help);
	for (size_t i = 0; i < page->count; i++) {
		uint64_t numbers[CONN_END_COUNT];

		memcpy(numbers, (const char *)&page->vms[i].info + offset, sizeof(numbers));
		for (unsigned int why = 0; why < CONN_END_COUNT; why++)
			count(page, name, &page->vms[i].info, "reason",
			      conn_end_name((enum conn_end)why), numbers[why]);
	}
}

static void add_connections(struct page *page)
{
	static const char name[] = PREFIX "connections_opened";

	head(page, name, true, "Connections with the host side that were established.");
	for (size_t i = 0; i < page->count; i++) {
		const struct device_stats *stats = &page->vms[i].info.stats;

		count(page, name, &page->vms[i].info, "initiator", "guest", stats->opened_by_guest);
		count(page, name, &page->vms[i].info, "initiator", "host", stats->opened_by_host);
	}
	add_outcomes(page, PREFIX "connections_closed", "Established connections that ended.",
		     STAT(closed));
	add_outcomes(page, PREFIX "connections_refused", "Connections that did not come about.",
		     STAT(refused));
}

static void add_limits(struct page *page)
{
	static const char name[] = PREFIX "limit_hits";

	head(page, name, true, "Times that a bound was hit, by the option that sets it.");
	for (size_t i = 0; i < page->count; i++) {
		const struct vm_info *info = &page->vms[i].info;

		for (unsigned int limit = 0; limit < VM_LIMIT_COUNT; limit++)
			count(page, name, info, "option", vm_limit_name(limit),
			      info->limit_hits[limit]);
	}
}

static void add_states(struct page *page)
{
	static const char name[] = PREFIX "connection_states";

	head(page, name, false, "Connections with the host side by state.");
	for (size_t i = 0; i < page->count; i++) {
		for (unsigned int state = CONN_FREE + 1; state < CONN_STATE_COUNT; state++)
			add(page, "%s{cid=\"%" PRIu32 "\",state=\"%s\"} %" PRIu32 "\n", name,
			    page->vms[i].info.cid, vm_state_name((enum conn_state)state),
			    page->vms[i].states[state]);
	}
}

static uint64_t gauge_of(const struct vm_info *info, size_t row)
{
	const uint64_t values[] = {
		info->state == VM_RUNNING, info->draining,    info->connections,   info->siblings,
		info->max_conns,           info->spill_bytes, info->sibling_bytes,
	};

	return values[row];
}

static void add_gauges(struct page *page)
{
	static const char *const rows[][2] = {
		{ PREFIX "up", "Whether the guest's driver runs." },
		{ PREFIX "draining", "Whether new connections are refused." },
		{ PREFIX "connections", "Connections with the host side, in any state." },
		{ PREFIX "sibling_connections", "Connections with siblings, in any state." },
		{ PREFIX "max_connections", "Most connections with the host side." },
		{ PREFIX "held_bytes", "Bytes that wait for the host side." },
		{ PREFIX "sibling_held_bytes", "Bytes of the guest that wait for siblings." },
	};

	for (size_t i = 0; i < array_size(rows); i++) {
		head(page, rows[i][0], false, rows[i][1]);
		for (size_t j = 0; j < page->count; j++)
			add(page, "%s{cid=\"%" PRIu32 "\"} %" PRIu64 "\n", rows[i][0],
			    page->vms[j].info.cid, gauge_of(&page->vms[j].info, i));
	}
}

static void add_ring(struct page *page, const char *name, const struct vm_info *info,
		     const char *ring, uint32_t number)
{
	add(page, "%s{cid=\"%" PRIu32 "\",ring=\"%s\"} %" PRIu32 "\n", name, info->cid, ring,
	    number);
}

static void add_rings(struct page *page)
{
	static const char size[] = PREFIX "ring_size";
	static const char available[] = PREFIX "ring_available";

	head(page, size, false, "Entries of a ring, 0 while it does not run.");
	for (size_t i = 0; i < page->count; i++) {
		add_ring(page, size, &page->vms[i].info, "rx", page->vms[i].info.rx.size);
		add_ring(page, size, &page->vms[i].info, "tx", page->vms[i].info.tx.size);
	}
	head(page, available, false, "Entries that the guest gave and that are not taken yet.");
	for (size_t i = 0; i < page->count; i++) {
		add_ring(page, available, &page->vms[i].info, "rx", page->vms[i].info.rx.available);
		add_ring(page, available, &page->vms[i].info, "tx", page->vms[i].info.tx.available);
	}
}

static void add_process(struct page *page, const struct process_usage *usage)
{
	const struct {
		const char *name;
		const char *help;
		int64_t number;
	} rows[] = {
		{ "process_open_fds", "Open descriptors.", usage->descriptors },
		{ "process_max_fds", "Limit of open descriptors.",
		  (int64_t)usage->descriptor_limit },
		{ "process_resident_memory_bytes", "Resident memory.", usage->resident_bytes },
		{ PREFIX "uptime_seconds", "Since the start.",
		  (int64_t)(usage->uptime_ms / 1000u) },
	};

	for (size_t i = 0; i < array_size(rows); i++) {
		if (rows[i].number < 0)
			continue;
		head(page, rows[i].name, false, rows[i].help);
		add(page, "%s %" PRId64 "\n", rows[i].name, rows[i].number);
	}
	head(page, "process_cpu_seconds", true, "Processor time of all threads.");
	add(page, "process_cpu_seconds_total %.6f\n",
	    (double)(usage->user_us + usage->system_us) / 1e6);
	head(page, PREFIX "wakeups", true, "Voluntary context switches of all threads.");
	add(page, PREFIX "wakeups_total %" PRIu64 "\n", usage->switches);
}

static void get_info(struct vm *vm, size_t index, void *arg)
{
	struct metered *vms = arg;

	vm_get_info(vm, &vms[index].info);
	vm_count_states(vm, vms[index].states);
}

char *metrics_text(struct metrics *metrics, bool openmetrics, size_t *length)
{
	size_t vm_count = manager_count(metrics->manager);
	struct metered *vms = calloc(vm_count + 1, sizeof(*vms));
	struct page page = { .openmetrics = openmetrics, .vms = vms, .count = vm_count };
	struct process_usage usage;

	if (vms == NULL)
		return NULL;
	manager_each(metrics->manager, get_info, vms);
	process_get_usage(&metrics->process, &usage);
	add_gauges(&page);
	add_states(&page);
	add_rings(&page);
	add_counters(&page);
	add_calls(&page);
	add_connections(&page);
	add_limits(&page);
	add_process(&page, &usage);
	if (openmetrics)
		add(&page, "# EOF\n");
	free(vms);
	if (page.failed) {
		free(page.text);
		return NULL;
	}
	*length = page.length;
	return page.text;
}
