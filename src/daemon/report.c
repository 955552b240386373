// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * report.c - structures to JSON. Asks nobody, decides nothing.
 */
#include "daemon/report.h"

#include <stdlib.h>
#include <string.h>

#include "virtio/ring_spec.h"

#define MAX_CHARACTER_BYTES 4u /* of UTF-8 */

/* Bytes of the character that begins at @text; 0: it is none in UTF-8. */
static size_t character_bytes(const char *text)
{
	size_t most = strnlen(text, MAX_CHARACTER_BYTES);

	for (size_t bytes = 1; bytes <= most; bytes++) {
		json_t *character = json_stringn(text, bytes);

		json_decref(character);
		if (character != NULL)
			return bytes;
	}
	return 0;
}

json_t *report_text(const char *text)
{
	json_t *value = json_string(text);
	char *copy;

	if (value != NULL)
		return value;
	copy = strdup(text);
	for (char *p = copy; p != NULL && *p != '\0';) {
		size_t bytes = character_bytes(p);

		if (bytes == 0)
			*p = '?';
		p += bytes == 0 ? 1 : bytes;
	}
	value = json_string(copy);
	free(copy);
	return value;
}

static json_t *texts(char *const *list, size_t count)
{
	json_t *array = json_array();

	for (size_t i = 0; i < count; i++)
		(void)json_array_append_new(array, report_text(list[i]));
	return array;
}

static json_t *socket_text(const struct vm_config *config)
{
	char text[sizeof("fd:4294967295")];

	if (config->socket != NULL)
		return report_text(config->socket);
	(void)snprintf(text, sizeof(text), "fd:%u", config->fd);
	return report_text(text);
}

json_t *report_vm(const struct vm_config *config, const struct vm_info *info, unsigned int worker)
{
	static const char *const state_names[] = {
		[VM_WAITING] = "waiting",
		[VM_CONNECTED] = "connected",
		[VM_RUNNING] = "running",
	};

	return json_pack("{s:I, s:o, s:o?, s:b, s:o?, s:o, s:s, s:b, s:I, s:i}", "cid",
			 (json_int_t)info->cid, "socket", socket_text(config), "uds_path",
			 config->uds_path != NULL ? report_text(config->uds_path) : NULL, "ack",
			 (int)!config->no_ack, "forward_cid",
			 config->forward_cid != 0 ? json_integer(config->forward_cid) : NULL,
			 "groups", texts(config->groups, config->group_count), "state",
			 state_names[info->state], "draining", (int)info->draining, "connections",
			 (json_int_t)info->connections, "worker", (int)worker);
}

static json_t *reasons(const uint64_t counts[CONN_END_COUNT])
{
	json_t *object = json_object();

	for (unsigned int i = 0; i < CONN_END_COUNT; i++)
		(void)json_object_set_new(object, conn_end_name((enum conn_end)i),
					  json_integer((json_int_t)counts[i]));
	return object;
}

static json_t *limit_hits(const struct vm_info *info)
{
	json_t *object = json_object();

	for (unsigned int i = 0; i < VM_LIMIT_COUNT; i++)
		(void)json_object_set_new(object, vm_limit_name(i),
					  json_integer((json_int_t)info->limit_hits[i]));
	return object;
}

json_t *report_stats(const struct vm_info *info)
{
	const struct device_stats *stats = &info->stats;
	const struct {
		const char *name;
		uint64_t value;
	} counters[] = {
		{ "tx_packets", stats->tx_packets },
		{ "tx_bytes", stats->tx_bytes },
		{ "rx_packets", stats->rx_packets },
		{ "rx_bytes", stats->rx_bytes },
		{ "opened_by_guest", stats->opened_by_guest },
		{ "opened_by_host", stats->opened_by_host },
		{ "credit_stalls", stats->credit_stalls },
		{ "rx_starved", stats->rx_starved },
		{ "spilled_bytes", stats->spilled_bytes },
		{ "tx_paced", stats->tx_paced },
		{ "rx_paced", stats->rx_paced },
		{ "held_bytes", info->spill_bytes },
		{ "sibling_held_bytes", info->sibling_bytes },
		{ "kicks", info->kicks },
		{ "rx_calls", info->rx_calls },
		{ "tx_calls", info->tx_calls },
		{ "guest_errors", info->guest_errors },
		{ "captured_packets", info->captured },
		{ "capture_lost_packets", info->capture_lost },
		{ "connections", info->connections },
		{ "sibling_connections", info->siblings },
	};
	json_t *object = json_pack("{s:I}", "cid", (json_int_t)info->cid);

	for (size_t i = 0; i < array_size(counters); i++)
		(void)json_object_set_new(object, counters[i].name,
					  json_integer((json_int_t)counters[i].value));
	(void)json_object_set_new(object, "limit_hits", limit_hits(info));
	(void)json_object_set_new(object, "refused", reasons(stats->refused));
	(void)json_object_set_new(object, "closed", reasons(stats->closed));
	return object;
}

static json_t *features(uint64_t bits)
{
	static const struct {
		unsigned int bit;
		const char *name;
	} rows[] = {
		{ VIRTIO_F_NOTIFY_ON_EMPTY_BIT, "notify-on-empty" },
		{ VIRTIO_F_INDIRECT_DESC_BIT, "indirect-desc" },
		{ VIRTIO_F_EVENT_IDX_BIT, "event-idx" },
		{ VIRTIO_F_VERSION_1_BIT, "version-1" },
		{ 0, "stream" },
		{ 1, "seqpacket" },
		{ 34, "ring-packed" },
	};
	json_t *array = json_array();

	for (size_t i = 0; i < array_size(rows); i++) {
		if ((bits & bit64(rows[i].bit)) != 0)
			(void)json_array_append_new(array, json_string(rows[i].name));
	}
	return array;
}

static json_t *ring(const struct vm_ring_info *info)
{
	if (info->size == 0)
		return json_null();
	return json_pack("{s:I, s:I}", "size", (json_int_t)info->size, "available",
			 (json_int_t)info->available);
}

static json_t *regions(const struct vm_details *details)
{
	json_t *array = json_array();

	for (uint32_t i = 0; i < details->region_count; i++)
		(void)json_array_append_new(array,
					    json_pack("{s:I, s:I}", "address",
						      (json_int_t)details->regions[i].gpa, "bytes",
						      (json_int_t)details->regions[i].bytes));
	return array;
}

static json_t *limits(const struct vm_config *config, const struct vm_info *info)
{
	return json_pack(
		"{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "tx_buffer_size",
		(json_int_t)config->tx_buffer_size, "queue_size", (json_int_t)config->queue_size,
		"max_connections", (json_int_t)info->max_conns, "max_half_open",
		(json_int_t)config->max_half_open, "max_buffered", (json_int_t)config->max_buffered,
		"tx_rate", (json_int_t)config->tx_rate, "rx_rate", (json_int_t)config->rx_rate,
		"conn_rate", (json_int_t)config->conn_rate);
}

static json_t *states(const struct vm_details *details)
{
	json_t *object = json_object();

	for (unsigned int i = CONN_FREE + 1; i < CONN_STATE_COUNT; i++)
		(void)json_object_set_new(object, vm_state_name((enum conn_state)i),
					  json_integer(details->states[i]));
	return object;
}

json_t *report_details(const struct vm_config *config, const struct vm_details *details,
		       unsigned int worker)
{
	json_t *object = report_vm(config, &details->info, worker);

	(void)json_object_set_new(object, "limits", limits(config, &details->info));
	(void)json_object_set_new(object, "features", features(details->features));
	(void)json_object_set_new(object, "rings",
				  json_pack("{s:o, s:o}", "rx", ring(&details->info.rx), "tx",
					    ring(&details->info.tx)));
	(void)json_object_set_new(object, "memory", regions(details));
	(void)json_object_set_new(object, "states", states(details));
	(void)json_object_set_new(object, "counters", report_stats(&details->info));
	return object;
}

json_t *report_conn(const struct vm_conn *conn)
{
	const char *other = conn->sibling ? "sibling" : "host";

	return json_pack("{s:I, s:I, s:I, s:I, s:s, s:s, s:s, s:I, s:I, s:I}", "cid",
			 (json_int_t)conn->cid, "guest_port", (json_int_t)conn->guest_port,
			 "host_port", (json_int_t)conn->host_port, "host_cid",
			 (json_int_t)conn->host_cid, "with", other, "state",
			 vm_state_name(conn->state), "initiator", conn->by_guest ? "guest" : other,
			 "tx_bytes", (json_int_t)conn->tx_bytes, "rx_bytes",
			 (json_int_t)conn->rx_bytes, "held_bytes", (json_int_t)conn->held_bytes);
}

static json_t *known(int64_t value)
{
	return value < 0 ? json_null() : json_integer(value);
}

json_t *report_process(const struct process_usage *usage)
{
	return json_pack("{s:f, s:o, s:I, s:o, s:f, s:f, s:I}", "uptime_seconds",
			 (double)usage->uptime_ms / 1e3, "descriptors", known(usage->descriptors),
			 "descriptor_limit", (json_int_t)usage->descriptor_limit, "resident_bytes",
			 known(usage->resident_bytes), "cpu_user_seconds",
			 (double)usage->user_us / 1e6, "cpu_system_seconds",
			 (double)usage->system_us / 1e6, "voluntary_switches",
			 (json_int_t)usage->switches);
}

static json_t *initiator(const struct event *event)
{
	if (event->by_guest)
		return json_string("guest");
	return json_string(event->sibling != 0 ? "sibling" : "host");
}

json_t *report_event(const struct event *event)
{
	static const char *const names[EVENT_KIND_COUNT] = {
		[EVENT_VM_UP] = "vm-up",
		[EVENT_VM_DOWN] = "vm-down",
		[EVENT_CONNECTION_OPENED] = "connection-opened",
		[EVENT_CONNECTION_CLOSED] = "connection-closed",
		[EVENT_CONNECTION_REFUSED] = "connection-refused",
	};
	json_t *object =
		json_pack("{s:s, s:I}", "event", names[event->kind], "cid", (json_int_t)event->cid);

	if (event->kind != EVENT_VM_UP && event->kind != EVENT_VM_DOWN) {
		(void)json_object_set_new(object, "guest_port", json_integer(event->guest_port));
		(void)json_object_set_new(object, "host_port", json_integer(event->host_port));
		(void)json_object_set_new(object, "initiator", initiator(event));
		if (event->sibling != 0)
			(void)json_object_set_new(object, "sibling", json_integer(event->sibling));
	}
	if (event->reason[0] != '\0')
		(void)json_object_set_new(object, "reason", report_text(event->reason));
	return object;
}
