// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * methods_capture.c - the request that turns a client's connection into a stream
 * of packets.
 */
#include <errno.h>

#include "daemon/methods_private.h"

#define MAX_SNAPLEN 262144u /* as tcpdump */

/* Return: whether they are port numbers, and not too many. */
static bool read_ports(const json_t *ports, struct capture_wish *wish)
{
	if (ports == NULL)
		return true;
	if (!json_is_array(ports) || json_array_size(ports) > CAPTURE_MAX_PORTS)
		return false;
	for (size_t i = 0; i < json_array_size(ports); i++) {
		const json_t *port = json_array_get(ports, i);

		if (!json_is_integer(port) || json_integer_value(port) < 0 ||
		    json_integer_value(port) > UINT32_MAX)
			return false;
		wish->ports[wish->port_count++] = (uint32_t)json_integer_value(port);
	}
	return true;
}

static json_t *begin(const struct call *call, struct vm *vm, const struct capture_wish *wish)
{
	struct capture *capture = NULL;
	int err = capture_begin(&call->methods->captures, vm, wish, &capture);

	if (err == -EBUSY)
		return control_fail(call->error, "limit", "there are %u captures already",
				    CAPTURE_MAX);
	if (err < 0)
		return method_no_memory(call);
	control_take(call->client, capture_stream, capture);
	return json_pack("{s:i, s:I}", "linktype", (int)CAPTURE_LINKTYPE, "snaplen",
			 (json_int_t)wish->snaplen);
}

json_t *method_capture(const struct call *call)
{
	struct capture_wish wish = { .port_count = 0 };
	json_int_t snaplen = MAX_SNAPLEN;
	json_t *ports = NULL;
	json_int_t cid = 0;
	struct vm *vm;

	if (!method_parse(call, "{s:I, s?o, s?I!}", "cid", &cid, "ports", &ports, "snaplen",
			  &snaplen))
		return NULL;
	if (snaplen < CAPTURE_HEADER_BYTES || snaplen > MAX_SNAPLEN)
		return control_fail(call->error, "invalid", "snaplen: expected %u to %u",
				    CAPTURE_HEADER_BYTES, MAX_SNAPLEN);
	if (!read_ports(ports, &wish))
		return control_fail(call->error, "invalid", "ports: expected up to %u numbers",
				    CAPTURE_MAX_PORTS);
	wish.snaplen = (uint32_t)snaplen;
	vm = method_find(call, cid);
	return vm != NULL ? begin(call, vm, &wish) : NULL;
}
