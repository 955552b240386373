/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * credit_in.pml - a guest sends to the host side on one connection, for ever.
 *
 * Stands for: credit_in_*() of src/vsock/credit.h; conn_guest_bytes() of
 * src/vsock/conn_guest.c; conn_hand_on(), conn_flush() and
 * conn_progress() of src/vsock/conn.c; where conn->in.reported moves in
 * src/vsock/rx.c. The guest is Linux: it sends as much as the window leaves, no
 * more than its own buffer, and asks for nothing when it may not send.
 *
 * Claim: the guest is never found to have sent too much, what is kept for the
 * host never exceeds the window, and the stream goes on for ever, with windows
 * of any two sizes, and while part of the window is withheld now and then
 * (SHARED is what is left of it: device_withheld()).
 *
 * @run equal progress -DWINDOW=4 -DOWN=4
 * @run small_guest progress -DWINDOW=6 -DOWN=2
 * @run tiny_guest progress -DWINDOW=6 -DOWN=1
 * @run small_device progress -DWINDOW=3 -DOWN=6
 * @run tiny_device progress -DWINDOW=1 -DOWN=6
 * @run other_traffic progress -DWINDOW=5 -DOWN=3 -DTRAFFIC
 * @run shared progress -DWINDOW=6 -DOWN=6 -DSHARED=2
 * @run shared_tiny progress -DWINDOW=5 -DOWN=4 -DSHARED=1
 * @run shared_traffic progress -DWINDOW=5 -DOWN=5 -DSHARED=2 -DTRAFFIC
 * @mutant half_of_ours small_guest
 * @mutant threshold_of_the_whole shared
 * @mutant withholds_all shared
 * @mutant takes_back shared
 * @mutant threshold_whole_and_more equal
 * @mutant no_update equal
 * @mutant reports_unsent equal
 * @mutant counts_received equal
 * @mutant strict_window equal
 */
#ifndef WINDOW
#define WINDOW 4 /* buf_alloc we advertise */
#endif
#ifndef OWN
#define OWN 4 /* buf_alloc of the guest */
#endif
#ifndef SHARED
#define SHARED min(WINDOW, OWN) /* nothing is ever withheld */
#endif
#define ROUND 16

#define diff(a, b) (((a) + ROUND - (b)) % ROUND)
#define min(a, b) (((a) < (b)) -> (a) : (b))

#ifdef MUTANT_withholds_all
#define WITHHELD (shared -> min(WINDOW, OWN) : 0)
#else
#define WITHHELD (shared -> min(WINDOW, OWN) - SHARED : 0)
#endif

/* credit_in_told() */
#ifdef MUTANT_takes_back
#define TOLD ((fwd_cnt + ROUND - WITHHELD) % ROUND)
#else
#define TOLD (diff(fwd_cnt, reported) > WITHHELD -> (fwd_cnt + ROUND - WITHHELD) % ROUND : reported)
#endif

#ifdef MUTANT_half_of_ours
#define THRESHOLD (WINDOW / 2)
#else
#ifdef MUTANT_threshold_whole_and_more
#define THRESHOLD (min(WINDOW, OWN) + 1)
#else
#ifdef MUTANT_threshold_of_the_whole
#define THRESHOLD ((min(WINDOW, OWN) + 1) / 2)
#else
#define THRESHOLD ((min(WINDOW, OWN) - WITHHELD) / 2) /* credit_in_update_due() */
#endif
#endif
#endif

chan to_device = [2] of { byte }; /* RW: bytes */
chan to_guest = [2] of { byte };  /* any header: fwd_cnt */

active proctype device()
{
	byte received, fwd_cnt, reported, n;
	bool owes, shared;

	do
	:: atomic { to_device ? n -> /* conn_guest_bytes() */
		assert(n > 0);
#ifdef MUTANT_strict_window
		assert(diff(received, fwd_cnt) + n < WINDOW);
#else
		assert(diff(received, fwd_cnt) + n <= WINDOW);
#endif
		received = (received + n) % ROUND;
		n = 0 }
	:: atomic { received != fwd_cnt -> /* the host takes some or all */
		n = 1;
		do
		:: n < diff(received, fwd_cnt) -> n++
		:: break
		od;
		fwd_cnt = (fwd_cnt + n) % ROUND;
		n = 0;
		if
		:: shared = true
		:: shared = false
		fi;
		if
		:: TOLD != reported && diff(TOLD, reported) >= THRESHOLD -> owes = true
		:: else
#ifdef MUTANT_reports_unsent
			-> reported = fwd_cnt
#endif
		fi };
progress:	skip
#ifndef MUTANT_no_update
	:: atomic { owes && nfull(to_guest) ->
#else
	:: atomic { owes && nfull(to_guest) && false ->
#endif
		if
		:: shared = true
		:: shared = false
		fi;
#ifdef MUTANT_counts_received
		to_guest ! received;
#else
		to_guest ! TOLD;
#endif
		reported = TOLD;
		owes = false }
#ifdef TRAFFIC
	:: atomic { nfull(to_guest) && TOLD != reported -> /* in the header of bytes */
		to_guest ! TOLD;
		reported = TOLD }
#endif
	od
}

active proctype guest()
{
	byte tx_cnt, peer_fwd, n;

	do
	:: atomic { to_guest ? n ->
		assert(diff(n, peer_fwd) <= diff(tx_cnt, peer_fwd)); /* never less than before */
		peer_fwd = n;
		n = 0 }
	:: atomic { diff(tx_cnt, peer_fwd) < min(WINDOW, OWN) && nfull(to_device) ->
		n = 1;
		do
		:: n < min(WINDOW, OWN) - diff(tx_cnt, peer_fwd) -> n++
		:: break
		od;
		to_device ! n;
		tx_cnt = (tx_cnt + n) % ROUND;
		n = 0 }
	od
}
