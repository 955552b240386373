/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * life.pml - the life of one connection between a guest and a host program.
 *
 * Stands for: src/vsock/conn.c, src/vsock/conn_guest.c, src/vsock/conn_host.c,
 * host_packet() of src/vsock/tx.c, emit_all_owed() and rx_read_ended() of
 * src/vsock/rx.c, device_owe_rst() of src/vsock/device.c. The guest is Linux,
 * net/vmw_vsock/virtio_transport_common.c. `timeout` is the clock: it moves when
 * nobody else can, so a time-out is never the faster one.
 *
 * The guest asks, or the host program does (-DHOST_ASKS). Each end writes up to
 * two bytes, closes one direction or both, when it likes; the guest may forget
 * the connection and ask again by the same ports (-DAGAIN). The host program
 * takes bytes when it likes, so they may be kept for it.
 *
 * Claim: who ended cleanly is read to the last byte by an end that still reads;
 * the host's socket, the connection and its predecessor are gone at the end; a
 * RST is never answered; no run goes round for ever.
 *
 * @run guest_asks ends
 * @run host_asks ends -DHOST_ASKS
 * @run again safety -DAGAIN
 * @run small_rings safety -DDEPTH=1
 * @mutant closes_with_spill guest_asks
 * @mutant no_orphan again
 * @mutant shutdown_before_bytes guest_asks
 * @mutant rst_for_rst guest_asks
 * @mutant no_close_timer guest_asks
 * @mutant end_passed_early guest_asks
 */
#ifndef DEPTH
#define DEPTH 2 /* of each virtqueue */
#endif
#ifdef AGAIN
#define BYTES 1
#else
#define BYTES 2
#endif
#define RCV 1
#define SEND 2
#define BOTH 3

mtype = { REQUEST, RESPONSE, RW, SHUTDOWN, RST };
mtype = { FREE, REQUESTED, ESTABLISHED, CLOSING, RESET };
mtype = { NONE, ASKED, OPEN, CLOSED, GONE };

/* Operation, flags, and, for the checks only, which life of the connection. */
chan tx = [DEPTH] of { mtype, byte, bit };
chan rx = [DEPTH] of { mtype, byte, bit };

/* The device's connection. */
mtype state = FREE;
bit life; /* which it is */
byte spill, guest_shut, host_shut;
bool owes_request, owes_response, owes_shutdown, owes_rst, discard, request_sent, timer;
byte rsts;   /* without a connection */
byte orphan; /* what is left of life 0 */

/* The host's socket of each life. */
bool is_open[2], ended[2] /* no more bytes come */, writes_end[2], closed[2];
byte got[2], wrote[2], unread[2];

/* The guest's socket. */
mtype sock = NONE;
bit g_life;
bool g_owes_rst, g_owes_response, lazy;
byte g_shut, g_peer_shut, g_got;
byte g_sent[2];
bool g_clean[2]; /* its last bytes are followed by SHUTDOWN, or a new life */

inline close_host()
{
	is_open[life] = false;
	ended[life] = true;
	spill = 0;
	timer = false
}

inline forget()
{
	state = FREE;
	guest_shut = 0; host_shut = 0; discard = false; request_sent = false;
	owes_request = false; owes_response = false; owes_shutdown = false; owes_rst = false
}

inline conn_reset()
{
	close_host();
	owes_request = false; owes_response = false; owes_shutdown = false;
	owes_rst = true;
	state = RESET
}

inline conn_detach_guest()
{
	if
#ifndef MUTANT_no_orphan
	:: state == ESTABLISHED && spill > 0 -> /* only one: no later life has a successor */
		if
		:: life == 0 -> orphan = spill; spill = 0
		:: else -> last_orphan = spill; spill = 0
		fi;
		timer = false
#endif
	:: else -> close_host()
	fi;
	forget()
}

inline conn_declare_shutdown(flags)
{
	host_shut = host_shut | flags;
	owes_shutdown = true;
	if
	:: host_shut == BOTH ->
		close_host();
		state = CLOSING;
#ifndef MUTANT_no_close_timer
		timer = true;
#endif
		if
		:: guest_shut == BOTH -> conn_reset()
		:: else
		fi
	:: else
	fi
}

inline conn_drained()
{
	if
	:: guest_shut == BOTH -> conn_reset()
	:: guest_shut == SEND -> ended[life] = true
	:: else
	fi
}

inline on_shutdown(flags)
{
	news = flags & (BOTH - (guest_shut & flags));
	guest_shut = guest_shut | flags;
	if
	:: state == CLOSING && guest_shut == BOTH -> conn_reset()
	:: state == CLOSING && guest_shut != BOTH
	:: state != CLOSING && (news & RCV) && closed[life] -> conn_declare_shutdown(BOTH)
	:: state != CLOSING && !((news & RCV) && closed[life]) ->
		if
#ifdef MUTANT_closes_with_spill
		:: news != 0 -> conn_drained()
#else
		:: news != 0 && spill == 0 -> conn_drained()
#endif
		:: else
		fi
	fi;
	news = 0
}

/* host_packet() */
inline packet(op, flags, l)
{
	if
	:: op == REQUEST ->
		if
		:: state != FREE -> conn_detach_guest()
		:: else
		fi;
		life = l;
		if
		:: state = ESTABLISHED; owes_response = true; is_open[life] = true
		:: rsts++; ended[life] = true /* nobody listens */
		fi
	:: op != REQUEST && state == FREE ->
		if
#ifndef MUTANT_rst_for_rst
		:: op == RST
#endif
		:: else ->
			assert(op != RST);
			rsts++
		fi
	:: op == RST && state != FREE -> conn_detach_guest()
	:: op == RESPONSE && state == REQUESTED && request_sent ->
		state = ESTABLISHED;
		timer = false
	:: (op == RW || op == SHUTDOWN) && state == REQUESTED -> conn_reset()
	:: op == RW && state == ESTABLISHED ->
		assert((guest_shut & SEND) == 0);
		if
		:: discard
		:: else -> spill++
		fi
	:: op == SHUTDOWN && (state == ESTABLISHED || state == CLOSING) -> on_shutdown(flags)
	:: else
	fi
}

byte last_orphan; /* what is left of life 1 */

active proctype device()
{
	mtype op;
	byte flags, news;
	bit l;

	do
	:: atomic { rsts < 2 && nempty(tx) -> tx ? op, flags, l; packet(op, flags, l); flags = 0; l = 0; op = 0 }
	/* device_run_rx() */
	:: atomic { rsts > 0 && nfull(rx) -> rx ! RST(0, g_life); rsts-- }
	:: atomic { rsts == 0 && nfull(rx) && owes_request ->
		rx ! REQUEST(0, life);
		owes_request = false;
		request_sent = true }
	:: atomic { rsts == 0 && nfull(rx) && owes_response -> rx ! RESPONSE(0, life); owes_response = false }
	:: atomic { rsts == 0 && nfull(rx) && owes_shutdown && !owes_request && !owes_response ->
		rx ! SHUTDOWN(host_shut, life);
		owes_shutdown = false }
	:: atomic { rsts == 0 && nfull(rx) && owes_rst && !owes_shutdown ->
		rx ! RST(0, life);
		forget() }
	:: atomic { state == ESTABLISHED && nfull(rx) && !owes_response &&
		    !(guest_shut & RCV) && !(host_shut & SEND) && unread[life] > 0 -> /* read_once() */
		unread[life]--;
		rx ! RW(0, life) }
	:: atomic { state == ESTABLISHED && !(guest_shut & RCV) && !(host_shut & SEND) &&
#ifndef MUTANT_shutdown_before_bytes
		    unread[life] == 0 &&
#endif
		    writes_end[life] -> /* rx_read_ended() */
		if
		:: closed[life] -> conn_declare_shutdown(BOTH)
		:: else -> conn_declare_shutdown(SEND)
		fi }
	:: atomic { state == ESTABLISHED && closed[life] && host_shut != BOTH &&
		    ((guest_shut & RCV) || (host_shut & SEND)) -> /* conn_host_readable(), hung up */
		conn_declare_shutdown(BOTH) }
	/* conn_flush() */
	:: atomic { state == ESTABLISHED && spill > 0 && !closed[life] ->
#ifdef MUTANT_end_passed_early
		if
		:: guest_shut == BOTH -> conn_reset()
		:: else -> spill--; got[life]++
		fi;
#else
		spill--;
		got[life]++;
#endif
		if
		:: spill == 0 && state == ESTABLISHED -> conn_drained()
		:: else
		fi }
	:: atomic { state == ESTABLISHED && spill > 0 && closed[life] -> /* conn_host_refuses() */
		spill = 0;
		discard = true;
		if
		:: guest_shut == BOTH -> conn_drained()
		:: else -> conn_declare_shutdown(RCV)
		fi }
	:: atomic { orphan > 0 -> orphan--; got[0] = got[0] + (closed[0] -> 0 : 1);
		if
		:: orphan == 0 -> is_open[0] = false; ended[0] = true
		:: else
		fi }
	:: atomic { last_orphan > 0 -> last_orphan--; got[1] = got[1] + (closed[1] -> 0 : 1);
		if
		:: last_orphan == 0 -> is_open[1] = false; ended[1] = true
		:: else
		fi }
	:: atomic { timeout && timer -> conn_reset() }
	:: atomic { timeout && !timer && !(sock == CLOSED || sock == ASKED) ->
		/* nothing will ever happen again */
		assert(state == FREE && rsts == 0 && orphan == 0 && last_orphan == 0);
		assert(!is_open[0] && !is_open[1]);
		assert(sock == GONE || sock == NONE);
		assert(!g_clean[0] || closed[0] || got[0] == g_sent[0]);
		assert(!g_clean[1] || closed[1] || got[1] == g_sent[1]);
		break }
	od
}

/* A program of the host and its socket of each life. */
active proctype host()
{
#ifdef HOST_ASKS
	atomic { state = REQUESTED; owes_request = true; timer = true; is_open[0] = true; life = 0 };
#endif
end:	do
	:: atomic { is_open[0] && !writes_end[0] && wrote[0] < BYTES -> wrote[0]++; unread[0]++ }
	:: atomic { is_open[0] && !writes_end[0] -> writes_end[0] = true }
	:: atomic { is_open[0] && !closed[0] -> writes_end[0] = true; closed[0] = true }
#ifdef AGAIN
	:: atomic { is_open[1] && !writes_end[1] && wrote[1] < BYTES -> wrote[1]++; unread[1]++ }
	:: atomic { is_open[1] && !closed[1] -> writes_end[1] = true; closed[1] = true }
#endif
	od
}

#define g_may_write (sock == OPEN && !(g_shut & SEND) && !(g_peer_shut & RCV))

active proctype guest()
{
	mtype op;
	byte flags;
	bit l;

#ifndef HOST_ASKS
	atomic { tx ! REQUEST(0, 0); sock = ASKED };
#endif
end:	do
	:: atomic { !g_owes_rst && !g_owes_response && nempty(rx) -> rx ? op, flags, l;
		if
		:: op == REQUEST && sock == NONE ->
			if
			:: sock = OPEN; g_owes_response = true
			:: g_owes_rst = true; sock = GONE /* nobody listens */
			fi
		:: op == RESPONSE && sock == ASKED && l == g_life -> sock = OPEN
		:: op == RST -> sock = GONE
		:: op == RW && (sock == OPEN || sock == CLOSED) -> assert(l == g_life); g_got++
		:: op == SHUTDOWN && (sock == OPEN || sock == CLOSED) ->
			g_peer_shut = g_peer_shut | flags;
			assert(!(flags & SEND) || (g_shut & RCV) || g_got == wrote[l]);
			if
			:: g_peer_shut == BOTH -> g_owes_rst = true; sock = GONE
			:: sock == OPEN -> lazy = true /* its program has not read all, and never will */
			:: g_peer_shut != BOTH
			fi
		:: else ->
			g_owes_rst = true;
			sock = GONE
		fi;
		op = 0; flags = 0; l = 0 }
	:: atomic { g_owes_response && nfull(tx) -> tx ! RESPONSE(0, g_life); g_owes_response = false }
	:: atomic { g_owes_rst && nfull(tx) -> tx ! RST(0, g_life); g_owes_rst = false }
	:: atomic { !g_owes_response && nfull(tx) && g_may_write && g_sent[g_life] < BYTES ->
		tx ! RW(0, g_life);
		g_sent[g_life]++ }
	:: atomic { !g_owes_response && nfull(tx) && sock == OPEN && !lazy && !(g_shut & SEND) ->
		tx ! SHUTDOWN(SEND, g_life);
		g_shut = g_shut | SEND;
		g_clean[g_life] = true }
	:: atomic { !g_owes_response && nfull(tx) && sock == OPEN && !lazy && !(g_shut & RCV) ->
		tx ! SHUTDOWN(RCV, g_life);
		g_shut = g_shut | RCV }
	:: atomic { !g_owes_response && nfull(tx) && sock == OPEN && !lazy -> /* close() */
		if
		:: g_peer_shut == BOTH -> tx ! RST(0, g_life); sock = GONE
		:: g_peer_shut != BOTH ->
			if
			:: g_shut != BOTH -> tx ! SHUTDOWN(BOTH, g_life)
			:: else
			fi;
			g_shut = BOTH;
			g_clean[g_life] = true;
			sock = CLOSED
		fi }
#ifdef AGAIN
	:: atomic { !g_owes_rst && g_life == 0 && nfull(tx) && sock != NONE -> /* by the same ports */
		g_clean[0] = g_clean[0] || sock == OPEN || sock == CLOSED;
		g_life = 1;
		g_shut = 0;
		g_peer_shut = 0;
		g_got = 0;
		tx ! REQUEST(0, 1);
		sock = ASKED }
#endif
	/* its own clock: longer than the device's */
	:: atomic { timeout && !timer && (sock == CLOSED || sock == ASKED) -> g_owes_rst = sock == CLOSED; sock = GONE }
	od
}
