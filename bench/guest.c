// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * guest.c - memory and rings of an emulated guest. See guest.h.
 */
#include "bench/guest.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/le.h"
#include "bench/gsock.h"
#include "bench/pattern.h"
#include "bench/util.h"
#include "virtio/ring_spec.h"
#include "vsock/vsock_spec.h"

#define GUEST_GPA UINT64_C(0x100000000)
#define PAGE 4096u
#define HEADER_STRIDE 64u
#define SETUP_LIMIT_NS (30 * NS_PER_S)

static size_t page_up(size_t n)
{
	return (n + PAGE - 1) & ~(size_t)(PAGE - 1);
}

/* Bytes between RX buffers, as the slab allocator would leave. */
static uint32_t rx_stride_of(enum rx_shape shape)
{
	/* RX_SPLIT: the header lies in the page before */
	return shape == RX_3776 ? PAGE : 2 * PAGE;
}

static void lay_out(struct guest *g)
{
	bool indirect = (g->device.features & bit64(VIRTIO_F_INDIRECT_DESC_BIT)) != 0;
	bool event_idx = (g->device.features & bit64(VIRTIO_F_EVENT_IDX_BIT)) != 0;
	uint16_t n = g->config.ring;
	size_t queue = page_up(vq_bytes(n, indirect));

	g->rx_stride = rx_stride_of(g->config.shape);
	g->tx_stride = g->config.tx_pieces > 1 ? HEADER_STRIDE
					       : VSOCK_HDR_BYTES + g->config.max_packet + 20;
	g->rx_place = 2 * queue;
	g->tx_place = g->rx_place + (size_t)n * g->rx_stride;
	g->pattern_place = page_up(g->tx_place + (size_t)n * g->tx_stride);
	g->memory_bytes = page_up(g->pattern_place + PATTERN_BYTES);
	if (ftruncate(g->memfd, (off_t)g->memory_bytes) < 0)
		die("guest memory: %s", strerror(errno));
	g->memory = mmap(NULL, g->memory_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, g->memfd, 0);
	if (g->memory == MAP_FAILED)
		die("guest memory: %s", strerror(errno));
	vq_init(&g->rx, n, g->memory, GUEST_GPA, event_idx, indirect);
	vq_init(&g->tx, n, g->memory + queue, GUEST_GPA + queue, event_idx, indirect);
	g->rx.writable = true;
	g->rx_max = g->config.shape == RX_SPLIT && !indirect ? n / 2 : n;
	g->rx_spare = must_calloc(n, sizeof(*g->rx_spare));
	g->tx_spare = must_calloc(n, sizeof(*g->tx_spare));
	g->rx_spare_count = g->rx_max;
	g->tx_spare_count = n;
	for (uint32_t i = 0; i < n; i++) {
		g->rx_spare[i] = i;
		g->tx_spare[i] = n - 1 - i;
	}
}

static uint8_t *rx_header(const struct guest *g, uint32_t number)
{
	return g->memory + g->rx_place + (size_t)number * g->rx_stride;
}

static void post_one(struct guest *g, uint32_t number)
{
	uint64_t gpa = GUEST_GPA + g->rx_place + (uint64_t)number * g->rx_stride;
	struct vq_piece pieces[2] = {
		{ .gpa = gpa, .bytes = VSOCK_HDR_BYTES },
		{ .gpa = gpa + PAGE, .bytes = PAGE },
	};

	memset(rx_header(g, number), 0, VSOCK_HDR_BYTES); /* as Linux does */
	if (g->config.shape != RX_SPLIT)
		pieces[0].bytes = g->config.shape == RX_4140 ? 4140 : 3776;
	if (!vq_add(&g->rx, pieces, g->config.shape == RX_SPLIT ? 2 : 1, number))
		die("no room for an RX buffer");
	g->rx_posted++;
}

static void fill_rx(struct guest *g)
{
	while (g->rx_spare_count > 0)
		post_one(g, g->rx_spare[--g->rx_spare_count]);
	vq_kick(&g->rx);
}

static void start_ring(struct guest *g, struct vq *vq, unsigned int index)
{
	struct ring_setup setup = {
		.index = index,
		.size = vq->size,
		.desc = (uintptr_t)vq->desc,
		.avail = (uintptr_t)vq->avail,
		.used = (uintptr_t)vq->used,
		.call_fd = g->call_fd,
	};

	vq->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (vq->kick_fd < 0)
		die("eventfd: %s", strerror(errno));
	setup.kick_fd = vq->kick_fd;
	g->device.ops->start_ring(&g->device, &setup);
}

/*
 * Somewhere else in each run, as Linux begins: the kernel's device remembers a
 * connection whose guest is gone for seconds.
 */
static uint32_t first_port(void)
{
	return 20000 + (uint32_t)(now_ns() / 1000 % 1000000000);
}

struct guest *guest_new(const struct guest_config *config, uint32_t cid, const char *path,
			uint64_t deadline_ns)
{
	struct guest *g = must_calloc(1, sizeof(*g));

	g->config = *config;
	g->cid = cid;
	g->next_port = first_port();
	list_init(&g->pending);
	list_init(&g->unread);
	list_init(&g->sending);
	g->device.ops = config->kernel ? &backend_kernel : &backend_user;
	g->device.ops->open(&g->device, path,
			    bit64(VIRTIO_F_VERSION_1_BIT) | bit64(VIRTIO_F_EVENT_IDX_BIT) |
				    bit64(VIRTIO_F_INDIRECT_DESC_BIT),
			    deadline_ns);
	g->memfd = memfd_create("guest", MFD_CLOEXEC);
	g->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (g->memfd < 0 || g->call_fd < 0)
		die("guest: %s", strerror(errno));
	lay_out(g);
	g->device.ops->share_memory(&g->device, g->memfd, g->memory, GUEST_GPA, g->memory_bytes);
	start_ring(g, &g->rx, VSOCK_RING_RX);
	start_ring(g, &g->tx, VSOCK_RING_TX);
	g->device.ops->finish(&g->device, cid);
	close(g->memfd);
	fill_rx(g);
	return g;
}

void guest_free(struct guest *g)
{
	close(g->device.fd);
	close(g->call_fd);
	close(g->rx.kick_fd);
	close(g->tx.kick_fd);
	munmap(g->memory, g->memory_bytes);
	free(g->rx_spare);
	free(g->tx_spare);
	free(g);
}

const uint8_t *guest_pattern(struct guest *g)
{
	if (!g->pattern_filled)
		pattern_fill(g->memory + g->pattern_place);
	g->pattern_filled = true;
	return g->memory + g->pattern_place;
}

/* --- sending --- */

/* Cut the payload into descriptors: as pages, as two halves of 32 KiB, or whole. */
static size_t cut_payload(const struct guest *g, uint64_t gpa, uint32_t len,
			  struct vq_piece *pieces)
{
	uint32_t most = g->config.tx_pieces > 3 ? PAGE : 32768;
	size_t n = 0;

	if (g->config.tx_pieces == 2)
		most = GUEST_MAX_PACKET;
	while (len > 0) {
		uint32_t part = min_u32(len, most);

		pieces[n++] = (struct vq_piece){ .gpa = gpa, .bytes = part };
		gpa += part;
		len -= part;
	}
	return n;
}

bool guest_send(struct guest *g, const uint8_t header[], uint64_t offset, uint32_t len)
{
	struct vq_piece pieces[VQ_MAX_PIECES];
	size_t place;
	size_t n = 1;
	uint32_t number;

	if (g->tx_spare_count == 0)
		return false;
	number = g->tx_spare[g->tx_spare_count - 1];
	place = g->tx_place + (size_t)number * g->tx_stride;
	memcpy(g->memory + place, header, VSOCK_HDR_BYTES);
	pieces[0].gpa = GUEST_GPA + place;
	pieces[0].bytes = VSOCK_HDR_BYTES;
	if (len > 0 && g->config.tx_pieces > 1) {
		if (g->config.verify)
			(void)guest_pattern(g);
		n += cut_payload(g, GUEST_GPA + g->pattern_place + pattern_place(offset), len,
				 pieces + 1);
	} else if (len > 0) {
		pieces[0].bytes += len;
		if (g->config.verify)
			memcpy(g->memory + place + VSOCK_HDR_BYTES,
			       guest_pattern(g) + pattern_place(offset), len);
	}
	if (!vq_add(&g->tx, pieces, n, number))
		return false;
	g->tx_spare_count--;
	g->packets_out++;
	vq_kick(&g->tx);
	return true;
}

static bool reclaim_tx(struct guest *g)
{
	uint32_t number;
	uint32_t bytes;
	bool any = false;

	while (vq_take(&g->tx, &number, &bytes)) {
		g->tx_spare[g->tx_spare_count++] = number;
		any = true;
	}
	return any;
}

/* --- receiving --- */

static void take_packet(struct guest *g, uint32_t number, uint32_t bytes)
{
	const uint8_t *header = rx_header(g, number);
	uint32_t capacity = g->config.shape == RX_3776 ? 3776 : 4140;
	uint32_t len = le32_load(header + VSOCK_HDR_LEN);

	if (bytes < VSOCK_HDR_BYTES || bytes > capacity || len != bytes - VSOCK_HDR_BYTES)
		die("RX buffer used with %u bytes, header says %u", bytes, len);
	g->packets_in++;
	gsock_packet(g, header,
		     g->config.shape == RX_SPLIT ? header + PAGE : header + VSOCK_HDR_BYTES);
}

static bool drain_rx(struct guest *g)
{
	uint32_t number;
	uint32_t bytes;
	bool any = false;

	while (vq_take(&g->rx, &number, &bytes)) {
		g->rx_posted--;
		take_packet(g, number, bytes);
		g->rx_spare[g->rx_spare_count++] = number;
		any = true;
	}
	if (g->rx_posted < g->rx_max / 2)
		fill_rx(g);
	return any;
}

bool guest_poll(struct guest *g)
{
	bool any = reclaim_tx(g);

	if (drain_rx(g)) {
		gsock_all_read(g);
		any = true;
	}
	return gsock_push_all(g) || any;
}

void guest_wait(struct guest *g, int limit_ms)
{
	struct pollfd p = { .fd = g->call_fd, .events = POLLIN };
	bool idle = vq_enable_callbacks(&g->rx);
	uint64_t count;

	if (vq_enable_callbacks(&g->tx) && idle && poll(&p, 1, limit_ms) > 0 &&
	    read(g->call_fd, &count, sizeof(count)) == sizeof(count))
		g->interrupts++;
	vq_disable_callbacks(&g->rx);
	vq_disable_callbacks(&g->tx);
}

void guest_wake(const struct guest *g)
{
	uint64_t one = 1;

	if (write(g->call_fd, &one, sizeof(one)) != sizeof(one))
		die("eventfd: %s", strerror(errno));
}

void guest_until(struct guest *g, const bool *condition, const char *what)
{
	uint64_t deadline = now_ns() + SETUP_LIMIT_NS;

	while (!__atomic_load_n(condition, __ATOMIC_ACQUIRE)) {
		if (now_ns() > deadline)
			die_hung(what);
		if (!guest_poll(g))
			guest_wait(g, 10);
	}
}
