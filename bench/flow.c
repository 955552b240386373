// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * flow.c - the guests' ends of flows. See flow.h.
 */
#include "bench/flow.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/hostside.h"
#include "bench/pattern.h"

static struct guest *guest_of(const struct flow *flow)
{
	return flow->world->guests[flow->vm];
}

static bool stopping(const struct flow *flow)
{
	return __atomic_load_n(flow->stop, __ATOMIC_RELAXED);
}

static void count(struct flow *flow, uint64_t n)
{
	__atomic_store_n(&flow->got, flow->got + n, __ATOMIC_RELAXED);
}

static void on_opened(struct gsock *sock)
{
	struct flow *flow = sock->app;
	bool *mark = sock == &flow->sock ? &flow->opened : &flow->other_opened;

	__atomic_store_n(mark, true, __ATOMIC_RELEASE);
}

static void on_closed(struct gsock *sock)
{
	struct flow *flow = sock->app;

	if (!stopping(flow))
		die("flow %u was reset after %llu", flow->index, (unsigned long long)flow->got);
}

/* --- bulk --- */

static void bulk_writable(struct gsock *sock)
{
	if (!stopping(sock->app))
		gsock_send(sock, UINT64_MAX);
}

static void bulk_received(struct gsock *sock, const uint8_t *bytes, uint32_t len)
{
	struct flow *flow = sock->app;

	if (sock->guest->config.verify &&
	    !pattern_matches(guest_pattern(sock->guest), sock->total_received, bytes, len))
		die("flow %u: wrong content near byte %llu", flow->index,
		    (unsigned long long)sock->total_received);
	count(flow, len);
}

static const struct gsock_ops bulk_sender = {
	.opened = on_opened,
	.writable = bulk_writable,
	.closed = on_closed,
};

static const struct gsock_ops bulk_receiver = {
	.opened = on_opened,
	.received = bulk_received,
	.closed = on_closed,
};

/* --- request and response --- */

static void ask(struct gsock *sock)
{
	struct flow *flow = sock->app;

	flow->asked_ns = now_ns();
	flow->pending = 0;
	if (gsock_send(sock, flow->message) != flow->message)
		die("a request found no credit");
}

static void asker_received(struct gsock *sock, const uint8_t *bytes, uint32_t len)
{
	struct flow *flow = sock->app;

	(void)bytes;
	flow->pending += len;
}

/* Called when all that came has been read. */
static void asker_writable(struct gsock *sock)
{
	struct flow *flow = sock->app;

	if (flow->pending < flow->message)
		return;
	if (__atomic_load_n(flow->measuring, __ATOMIC_RELAXED))
		samples_add(&flow->latency, now_ns() - flow->asked_ns);
	count(flow, 1);
	if (!stopping(flow))
		ask(sock);
}

static void answerer_received(struct gsock *sock, const uint8_t *bytes, uint32_t len)
{
	struct flow *flow = sock->app;

	(void)bytes;
	flow->other_pending += len;
}

static void answerer_writable(struct gsock *sock)
{
	struct flow *flow = sock->app;

	if (flow->other_pending < flow->message)
		return;
	flow->other_pending = 0;
	if (gsock_send(sock, flow->message) != flow->message)
		die("a response found no credit");
}

static const struct gsock_ops asker = {
	.opened = on_opened,
	.received = asker_received,
	.writable = asker_writable,
	.closed = on_closed,
};

static const struct gsock_ops answerer = {
	.opened = on_opened,
	.received = answerer_received,
	.writable = answerer_writable,
	.closed = on_closed,
};

/* --- life --- */

static const struct {
	const char *name;
	const struct gsock_ops *first; /* the guest named by the flow */
	const struct gsock_ops *other; /* its sibling, if that takes part */
} kinds[] = {
	[FLOW_G2H] = { "g2h", &bulk_sender, NULL },
	[FLOW_H2G] = { "h2g", &bulk_receiver, NULL },
	[FLOW_SIB] = { "sib", &bulk_sender, &bulk_receiver },
	[FLOW_RR] = { "rr", &asker, NULL },
	[FLOW_RRH] = { "rrh", &answerer, NULL },
	[FLOW_RRS] = { "rrs", &asker, &answerer },
};

void flow_parse(struct flow *flow, const char *text)
{
	char name[16] = "";
	size_t len = strcspn(text, ":@");
	const char *rest = text + len;

	if (len < sizeof(name))
		memcpy(name, text, len);
	flow->kind = FLOW_G2H;
	while (flow->kind < FLOW_RRS && strcmp(kinds[flow->kind].name, name) != 0)
		flow->kind++;
	if (strcmp(kinds[flow->kind].name, name) != 0)
		die("unknown flow '%s'", text);
	flow->message = 1;
	if (*rest == ':')
		flow->message = (uint32_t)strtoul(rest + 1, (char **)(uintptr_t)&rest, 10);
	if (*rest == '@')
		flow->vm = (uint32_t)strtoul(rest + 1, (char **)(uintptr_t)&rest, 10);
	if (*rest != 0 || flow->message == 0 || flow->message > GUEST_MAX_PACKET)
		die("unknown flow '%s'", text);
}

struct gsock *flow_accept(struct guest *guest, uint32_t local_port)
{
	struct flow *flows = guest->app;

	for (uint32_t i = 0; i < WORLD_MAX_FLOWS; i++) {
		struct flow *flow = &flows[i];
		bool sibling = kinds[flow->kind].other != NULL;
		struct gsock *sock = sibling ? &flow->other : &flow->sock;

		if (flow->world == NULL || flow_port(flow) != local_port)
			continue;
		gsock_init(sock, sibling ? kinds[flow->kind].other : kinds[flow->kind].first);
		sock->app = flow;
		return sock;
	}
	return NULL;
}

static void connect_to(struct flow *flow, uint64_t cid)
{
	gsock_connect(guest_of(flow), &flow->sock, kinds[flow->kind].first, cid, flow_port(flow));
	flow->sock.app = flow;
}

/* Drive both siblings from this thread until they agree. */
static void open_sibling(struct flow *flow)
{
	uint64_t deadline = now_ns() + 10 * NS_PER_S;
	struct guest *to = flow->world->guests[flow->vm + 1];

	connect_to(flow, to->cid);
	while (!flow->opened || !flow->other_opened) {
		bool busy = guest_poll(guest_of(flow));

		if (now_ns() > deadline)
			die_hung("siblings do not connect");
		if (!guest_poll(to) && !busy)
			guest_wait(to, 1);
	}
}

void flow_open(struct flow *flow)
{
	const char *uds = flow->world->uds[flow->vm];

	flow->host_fd = -1;
	if (kinds[flow->kind].other != NULL) {
		if (flow->vm + 1 >= flow->world->vms)
			die("flow %u: there is no next guest", flow->index);
		open_sibling(flow);
		return;
	}
	flow->buffer = must_calloc(1, flow->world->options->host_io);
	if (flow->kind == FLOW_H2G || flow->kind == FLOW_RRH) {
		flow_host_start(flow); /* connects */
		guest_until(guest_of(flow), &flow->opened, "the host's connection");
		return;
	}
	flow->listener = host_listen(uds, flow_port(flow));
	connect_to(flow, 2);
	guest_until(guest_of(flow), &flow->opened, "the guest's connection");
	flow->host_fd = host_accept(flow->listener);
	close(flow->listener);
	flow_host_start(flow);
}

void flow_go(struct flow *flow)
{
	if (flow->kind == FLOW_G2H || flow->kind == FLOW_SIB)
		gsock_want_write(&flow->sock, true);
	else if (flow->kind == FLOW_RR || flow->kind == FLOW_RRS)
		ask(&flow->sock);
}

void flow_close(struct flow *flow)
{
	if (flow->host_fd >= 0)
		shutdown(flow->host_fd, SHUT_RDWR);
	if (flow->has_thread)
		pthread_join(flow->thread, NULL);
	if (flow->host_fd >= 0)
		close(flow->host_fd);
	free(flow->buffer);
	samples_fini(&flow->latency);
}
