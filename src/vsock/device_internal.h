// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * device_internal.h - what the files of the device share with each other and
 * nobody else may include.
 */
#ifndef VSOCK_DEVICE_INTERNAL_H
#define VSOCK_DEVICE_INTERNAL_H

#include "virtio/iov.h"
#include "vsock/device.h"

/* --- device.c --- */

/** Owe the guest an RST in answer to @pkt; never in answer to an RST. */
void device_owe_rst(struct device *device, const struct pkt *pkt);

/** Whether the TX ring must wait because too many RSTs are owed. */
static inline bool device_is_congested(const struct device *device)
{
	return device->rst_count == DEVICE_MAX_RSTS;
}

/** Whether the guest's driver may use sockets of this type. */
static inline bool device_has_type(const struct device *device, uint16_t type)
{
	return type <= VSOCK_TYPE_SEQPACKET && (device->types >> type & 1u) != 0;
}

/** Begin to fill @ring, the device's RX ring or NULL. Under the lock. */
struct rx_fill device_begin_fill(struct device *device, struct vring *ring, struct scratch *scratch,
				 uint32_t budget) must_use;

/** Publish what was emitted and notify the guest if it wants that. Under the lock. */
void device_publish_rx(struct device *device, struct rx_fill *fill);

/** End a fill by a sibling's owner; wakes our owner if it must go on. Under the lock. */
void device_end_sibling_fill(struct device *device, struct rx_fill *fill);

/** The RX ring as far as a sibling may fill it now: NULL if not. Under the lock. */
static inline struct vring *device_sibling_ring(struct device *device)
{
	return device->inbox.yield ? NULL : device->rx;
}

/**
 * device_new_conn() - A connection within the bounds
 *
 * None is made while there is no room for a window of its bytes: so new ones
 * are refused before those that are open lose anything.
 *
 * Return: as conntab_alloc(), or NULL after the owner was told which bound it is
 */
struct conn *device_new_conn(struct device *device) must_use;

/* --- paced.c --- */

/** Rates of a new device, see device_set_rates(). */
void device_init_rates(struct device *device, const struct device_rates *rates);

/**
 * device_pace() - Of @wanted bytes, how many may pass now
 * @rate:  of this device, with a limit
 * @count: counts each time that it has to wait
 *
 * Return: 0: none, and the owner will be scheduled when there are
 */
uint32_t device_pace(struct device *device, struct rate *rate, uint32_t wanted, uint64_t *count)
	must_use;

/** Whether another connection may begin, which is counted; the owner is told if not. */
bool device_may_connect(struct device *device) must_use;

/* --- stats.c: each of these is counted, and told to who listens --- */

/** The connection is established. */
void conn_note_open(struct device *device, struct conn *conn);

/** The connection is over, or refused, for this reason; later ones do not count. */
void conn_note_end(struct device *device, struct conn *conn, enum conn_end why);

/** Refused before it was a connection; @pkt: the guest's request, NULL: a client's. */
void device_note_refusal(struct device *device, const struct pkt *pkt, enum conn_end why);

/* --- conn.c: steps that guest and host events share --- */

/** Count a connection as half-open, until conn_settled(). */
void conn_begin_wait(struct device *device, struct conn *conn);

/** Both sides agreed, or it is over; legal when it is not half-open. */
void conn_settled(struct device *device, struct conn *conn);

/** Owe the guest the packets of CONN_OWES_* @bits. */
void conn_owe(struct device *device, struct conn *conn, uint8_t bits);

/** Put the connection on the list of those to be read, if it may be read. */
void conn_wake_reader(struct device *device, struct conn *conn);

/** Both sides end now: the host socket is closed, the guest gets an RST. @why: the
 *  reason unless one was noted before. */
void conn_reset(struct device *device, struct conn *conn, enum conn_end why);

/** The host side will not receive (and/or send) any more: tell the guest. */
void conn_declare_shutdown(struct device *device, struct conn *conn, uint8_t flags);

/** Close the host socket and give the connection back. */
void conn_free(struct device *device, struct conn *conn);

/** The guest's side is over: free it, or keep it until the host took its bytes. */
void conn_detach_guest(struct device *device, struct conn *conn, enum conn_end why);

/**
 * conn_hand_on() - Give bytes of the guest to the host, keep what it does not take
 *
 * Afterwards the connection may be in another state or, when it was an orphan,
 * freed.
 */
void conn_hand_on(struct device *device, struct conn *conn, const struct iovec *iov, size_t count,
		  uint32_t bytes);

/** Try to hand on what is kept. */
void conn_flush(struct device *device, struct conn *conn);

/** The host has taken all there was: do what waited for that. */
void conn_drained(struct device *device, struct conn *conn);

/** The host program will never take what is kept, nor @bytes more: it shut down
 *  or went away. */
void conn_host_refuses(struct device *device, struct conn *conn, uint32_t bytes);

/** Keep what the host did not take, from byte @skip on. Return: 0, or -errno after
 *  a word about it. */
int conn_keep(struct device *device, struct conn *conn, const struct iovec *iov, size_t count,
	      size_t skip) must_use;

/** Count @bytes kept for a host program or for our guest against the VM's bound.
 *  Return: false, after a word about it, if it is reached */
bool conn_charge(struct device *device, uint32_t bytes) must_use;
void conn_discharge(struct device *device, uint32_t bytes);

/** The host took bytes: tell the guest if it should know. */
void conn_progress(struct device *device, struct conn *conn);

/* --- conn_messages.c: the same for seqpacket --- */

/** Make a fresh connection one of @type. Return: 0 or -ENOMEM. */
int conn_set_type(struct conn *conn, uint16_t type) must_use;

/** Forget the rest of a message for the guest; legal for streams. */
void conn_drop_rest(struct device *device, struct conn *conn);

/**
 * conn_hand_on_message() - conn_hand_on() for a message or a part of it
 * @flags: VSOCK_SEQ_* if it ends here
 */
void conn_hand_on_message(struct device *device, struct conn *conn, const struct iovec *iov,
			  size_t count, uint32_t bytes, uint32_t flags);

/** conn_flush() for messages. */
void conn_flush_messages(struct device *device, struct conn *conn);

/** Whether the guest can take what a starved connection waits with. */
bool conn_message_fits(const struct conn *conn) must_use;

/* --- rx.c --- */

/** Bytes of its window that the guest is not told of now. */
static inline uint32_t device_withheld(const struct device *device, const struct conn *conn)
{
	uint32_t window = min_u32(device->window, conn->out.buf_alloc);

	if (conn->seqpacket || conn->asked) /* a message may need all of it */
		return 0;
	if (conn == device->tx_talker) /* nobody else is known to wait behind it */
		return 0;
	return pace_withheld(&device->tx_pace, conn->smalls, window);
}

/** A packet of @op from the host side to the guest. */
struct pkt rx_conn_pkt(const struct device *device, const struct conn *conn, uint16_t op) must_use;

/** Nothing can be sent before the guest gives credit. */
void rx_starve(struct device *device, struct conn *conn);

/** A read returned nothing or an error. */
void rx_read_ended(struct device *device, struct conn *conn, ssize_t result);

/* --- rx_messages.c --- */

/** Give the guest (the rest of) one message; *@left loses its bytes. Return: false
 *  when the ring is empty. */
bool rx_read_message(struct device *device, struct conn *conn, struct rx_fill *fill, uint32_t *left)
	must_use;

/* --- conn_guest.c --- */

/** REQUEST of the guest; @old is the connection of that key, or NULL. */
void conn_guest_request(struct device *device, const struct pkt *pkt, struct conn *old);

/** Any other packet than REQUEST and RW. */
void conn_guest_packet(struct device *device, struct conn *conn, const struct pkt *pkt);

/**
 * conn_guest_bytes() - Whether an RW packet may deliver its payload
 *
 * Takes note of the header's credit and of pkt->len bytes received.
 *
 * Return: true: hand the payload on; false: it is dropped, and what had to
 * happen to the connection has happened
 */
bool conn_guest_bytes(struct device *device, struct conn *conn, const struct pkt *pkt) must_use;

/* --- sibling.c --- */

/** A packet for another guest. */
void sibling_forward(struct device *device, const struct pkt *header, struct iov_cursor *payload);

/** Tell that all connections with the sibling @cid, 0: with all, end. Owner only. */
void sibling_note_end(struct device *device, uint64_t cid, enum conn_end why);

/** End the batch of packets to one sibling: publish, notify, unlock. */
void sibling_flush(struct device *device);

#endif
