/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * credit_out.pml - the device sends to a guest on one connection, for ever.
 *
 * Stands for: credit_out_*() of src/vsock/credit.h; rx_starve(), read_once() and
 * usable_credit() of src/vsock/rx.c; end_starvation() of src/vsock/conn_guest.c;
 * probe() of src/vsock/conn_host.c. The guest is Linux, net/vmw_vsock: a reader
 * takes bytes when LOWAT of them are there (SO_RCVLOWAT), and the kernel then
 * sends CREDIT_UPDATE if the sender may believe that less than a packet's room
 * is free, or, unless it is OLD, if fewer bytes are left than LOWAT. It answers
 * every CREDIT_REQUEST.
 *
 * Small numbers stand for large ones; counters wrap at ROUND instead of 2^32.
 * The host program always has bytes, in pieces of any size.
 *
 * Claim: never more bytes in the guest's queue than its buffer, never more
 * packets than the limit, every header is believed, and the reader goes on
 * reading for ever. The latter holds for a reader that waits for no more bytes
 * than packets are allowed less what the groups may err by: the mutant lowat_high shows why (bytes sent one by one use
 * the packets up before LOWAT is reached), and is the price of the packet limit.
 *
 * @run plain progress
 * @run old_kernel progress -DOLD
 * @run window_even progress -DWINDOW=4 -DOLD
 * @run window_one progress -DWINDOW=1 -DPACKETS=1 -DOLD
 * @run lowat progress -DLOWAT=2
 * @run lowat_whole progress -DWINDOW=4 -DLOWAT=4 -DPACKETS=8 -DOLD
 * @run packets_one progress -DPACKETS=1 -DOLD
 * @run bound safety -DOLD
 * @mutant no_window bound
 * @mutant no_packet_limit bound
 * @mutant early_retire bound
 * @mutant no_probe old_kernel
 * @mutant sliver_for_ever lowat_whole
 * @mutant lowat_high plain
 */
#ifndef WINDOW
#define WINDOW 5 /* buf_alloc of the guest */
#endif
#ifndef PACKETS
#define PACKETS 3 /* credit_out_packet_limit() */
#endif
#ifndef LOWAT
#define LOWAT 1
#endif
#ifdef MUTANT_lowat_high
#undef LOWAT
#define LOWAT 5
#endif
#define PACKET 2 /* VIRTIO_VSOCK_MAX_PKT_BUF_SIZE */
#define ROUND 11
#define GROUPS 2
#define GROUP_SIZE (PACKETS / GROUPS + 1)
#if WINDOW > 2
#define SLIVER 2 /* a larger part of the window than in life */
#else
#define SLIVER 0
#endif

#define diff(a, b) (((a) + ROUND - (b)) % ROUND)

mtype = { RW, REQUEST };
chan to_guest = [2] of { mtype, byte };
chan to_device = [2] of { byte }; /* fwd_cnt of a CREDIT_UPDATE */

/* struct credit_out */
byte fwd_cnt, sent, packets;
byte group_end[GROUPS], group_packets[GROUPS], group_first, group_count;

#define in_flight diff(sent, fwd_cnt)
#define bytes_left ((in_flight < WINDOW) -> WINDOW - in_flight : 0)
#ifdef MUTANT_no_packet_limit
#define allowed bytes_left
#else
#define allowed ((packets < PACKETS) -> bytes_left : 0)
#endif
#define usable ((allowed < SLIVER && in_flight > 0) -> 0 : allowed)

inline credit_out_sent(bytes)
{
	last = (group_first + group_count + GROUPS - 1) % GROUPS;
	sent = (sent + bytes) % ROUND;
	packets++;
	if
	:: group_count == 0 || (group_packets[last] >= GROUP_SIZE && group_count < GROUPS) ->
		last = (group_first + group_count) % GROUPS;
		group_packets[last] = 0;
		group_count++
	:: else
	fi;
	group_packets[last]++;
	group_end[last] = sent;
	last = 0
}

inline credit_out_update(fwd)
{
	assert(diff(fwd, fwd_cnt) <= diff(sent, fwd_cnt));
	fwd_cnt = fwd;
	do
	:: group_count > 0 ->
#ifdef MUTANT_early_retire
		if
		:: diff(sent, group_end[group_first]) < diff(sent, fwd_cnt) - 1 -> break
		:: else
		fi;
#else
		if
		:: diff(sent, group_end[group_first]) < diff(sent, fwd_cnt) -> break
		:: else
		fi;
#endif
		packets = packets - group_packets[group_first];
		group_packets[group_first] = 0;
		group_end[group_first] = 0;
		group_first = (group_first + 1) % GROUPS;
		group_count--
	:: else -> break
	od
}

active proctype device()
{
	bool starved, probing; /* probing: conn->probe_shift > 0 */
	bool owes;	       /* CREDIT_REQUEST */
	bool asked;	       /* the timer runs slower than the guest answers */
	byte n, fwd, last;

	do
	:: atomic { nempty(to_device) ->
		to_device ? fwd;
		credit_out_update(fwd);
		asked = false;
		fwd = 0;
		if /* end_starvation() */
		:: starved && usable > 0 -> starved = false; probing = false
		:: else
		fi }
	:: atomic { owes && nfull(to_guest) -> to_guest ! REQUEST(0); owes = false }
	:: atomic { !starved && nfull(to_guest) -> /* read_once() */
#ifdef MUTANT_no_window
		n = WINDOW;
#else
		n = (probing -> allowed : usable);
#endif
		if
		:: n == 0 -> starved = true
		:: n > 0 ->
			if
			:: n > PACKET -> n = PACKET
			:: else
			fi;
			if /* the program wrote as many, or fewer */
			:: true
			:: n > 1 -> n = 1
			fi;
			to_guest ! RW(n);
			credit_out_sent(n);
			n = 0
		fi }
#ifndef MUTANT_no_probe
	:: atomic { starved && !owes && !asked -> /* probe() */
#ifndef MUTANT_sliver_for_ever
		probing = true;
#endif
		if
#ifndef MUTANT_sliver_for_ever
		:: allowed > 0 -> starved = false
#endif
		:: else -> owes = true; asked = true
		fi }
#endif
	od
}

/* The guest's socket. */
byte consumed, reported, rx_bytes;
byte queue[WINDOW + 2]; /* packets the reader has not finished */
byte queued;
bool due; /* answer or update the TX ring has no room for yet */

active proctype kernel()
{
	byte n;

	do
	:: atomic { nempty(to_guest) && !due ->
		if
		:: to_guest ? RW(n) ->
			queue[queued] = n;
			queued++;
			rx_bytes = rx_bytes + n;
			n = 0;
			assert(rx_bytes <= WINDOW);
			assert(queued <= PACKETS)
		:: to_guest ? REQUEST(n) -> due = true
		fi }
	:: atomic { due && nfull(to_device) ->
		to_device ! consumed;
		reported = consumed;
		due = false }
	od
}

active proctype reader()
{
	byte i;

	do
	:: atomic { rx_bytes >= LOWAT -> /* recv() of one packet or several */
		do
		:: queued > 0 ->
			consumed = (consumed + queue[0]) % ROUND;
			rx_bytes = rx_bytes - queue[0];
			i = 0;
			do
			:: i + 1 < queued -> queue[i] = queue[i + 1]; i++
			:: else -> break
			od;
			queue[i] = 0;
			queued--;
			i = 0;
			if
			:: break
			:: queued > 0
			fi
		od;
		if
		:: consumed != reported && (WINDOW - diff(consumed, reported) < PACKET
#ifndef OLD
					    || rx_bytes < LOWAT
#endif
					    ) -> due = true
		:: else
		fi };
progress:	skip
	od
}
