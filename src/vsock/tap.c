// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * tap.c - the list of those who look at a device's packets. Pure.
 */
#include "vsock/tap.h"

void taps_add(struct taps *taps, struct tap *tap)
{
	tap->next = taps->first;
	taps->first = tap;
}

void taps_remove(struct taps *taps, struct tap *tap)
{
	struct tap **link = &taps->first;

	while (*link != NULL && *link != tap)
		link = &(*link)->next;
	if (*link != NULL)
		*link = tap->next;
}

void taps_show(struct taps *taps, const uint8_t header[VSOCK_HDR_BYTES], struct iov_cursor payload,
	       uint32_t len)
{
	payload.left = min_size(payload.left, len);
	for (struct tap *tap = taps->first; tap != NULL; tap = tap->next) {
		enum tap_result result = tap->packet(tap, header, payload);

		if (result == TAP_KEPT)
			(void)__atomic_add_fetch(&taps->kept, 1, __ATOMIC_RELAXED);
		else if (result == TAP_LOST)
			(void)__atomic_add_fetch(&taps->lost, 1, __ATOMIC_RELAXED);
	}
}
