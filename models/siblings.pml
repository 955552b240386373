/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * siblings.pml - two guests send to each other, each device on its own thread.
 *
 * Stands for: sibling_forward(), note_own_credit(), enter() and sibling_flush()
 * of src/vsock/sibling.c; inbox_deliver(), inbox_drain(), inbox_credit() and
 * inbox_probe() of src/vsock/inbox.c; device_end_sibling_fill(),
 * device_probe_siblings() of src/vsock/device.c; device_run_rx(),
 * watch_blocked() of src/vsock/rx.c; rx_fill_publish() of src/vsock/rx_fill.c;
 * run(), wake(), on_wake_up() of src/daemon/vm.c. Memory order of the rings is
 * sleep_kick.pml's subject: here their words are seen at once.
 *
 * Each guest sends ITEMS packets, has an RX ring of RING buffers, and may leave
 * CREDIT packets unread; it volunteers no credit (Linux before 6.7) and answers
 * a CREDIT_REQUEST. HOST packets of host programs want the ring, too.
 * A -DPOLITE one sends only with credit that it has heard of, and asks nobody.
 * A -DCURT one does so only if it has read something since its last word.
 * `timeout` is the clock: it moves when nobody can.
 *
 * Claim: no thread waits for ever for a lock or a wake-up, nothing stays in an
 * inbox, every packet is read, and no run goes round for ever.
 *
 * @run one_way ends -DITEMS_1=0 -DITEMS_0=2
 * @run one_way_host safety -DITEMS_1=0 -DITEMS_0=1 -DHOST=1
 * @run one_way_deep safety -DITEMS_1=0 -DITEMS_0=3 -DCREDIT=2 -DRING=2
 * @run one_way_wide safety -DITEMS_1=0 -DITEMS_0=4 -DCREDIT=5 -DRING=2
 * @run curt safety -DITEMS_1=0 -DITEMS_0=3 -DRING=2 -DCURT
 * @run polite safety -DITEMS_1=0 -DITEMS_0=3 -DRING=2 -DPOLITE
 * @run both safety
 * @run both_deep safety -DCREDIT=2
 * @mutant two_locks both
 * @mutant no_wake_blocked curt
 * @mutant no_wake_budget one_way_wide
 * @mutant no_probe_timer one_way
 * @mutant probe_asks_once one_way
 * @mutant no_second_look one_way
 * @mutant only_what_is_held polite
 * @mutant credit_not_noted one_way
 */
#ifndef ITEMS_0
#define ITEMS_0 2 /* of guest 0, for guest 1 */
#endif
#ifndef ITEMS_1
#define ITEMS_1 1
#endif
#ifndef CREDIT
#define CREDIT 1
#endif
#ifndef RING
#define RING 1
#endif
#ifndef BUDGET
#define BUDGET 1 /* RX_BUDGET_SIBLING */
#endif
#ifndef HOST
#define HOST 0
#endif

mtype = { NOWHERE, READY, BLOCKED };

/* Of each guest: its rings, as it and its device see them. */
byte to_send[2];  /* packets it has not put on its TX ring */
byte tx_rw[2];	  /* packets on its TX ring */
bool tx_credit[2]; /* a CREDIT_UPDATE is on it... */
byte tx_fwd[2];	  /* ...with this fwd_cnt */
bool kick[2];	  /* edge of a kick eventfd */
byte rx_free[2];  /* RX buffers the device may take */
bool rx_kick_on[2];
byte got_rw[2];	  /* packets in its RX ring's used part */
bool got_ask[2];
byte got_host[2];
byte host_left[2] = HOST;
byte unread[2];	  /* taken from the ring, not read by the program */
byte fwd_total[2]; /* read by the program */
byte put[2];	   /* packets it has put on its TX ring */
byte heard[2];	   /* fwd_cnt that it knows of its peer */

/* Of each device. */
byte lock[2];	     /* 0: free, else 1 + the thread that holds it */
bool scheduled[2];   /* the owner's task is queued */
bool mail[2];	     /* vm->wake_up is in the owner's mailbox */
bool woken[2];	     /* vm->woken; under the lock */
bool timer[2];	     /* probe_later() */
byte host_owes[2];   /* packets of host programs for the guest; owner only */
/* The inbox, under the lock. */
mtype where[2] = NOWHERE; /* the one flow's list */
byte held[2];
bool owes_ask[2];    /* CONN_OWES_CREDIT_REQUEST */
bool asked[2];
byte sent[2];	     /* credit_out towards the guest */
byte fwd_cnt[2];
bool watched[2];
bool yield[2];

#define credit(d) (sent[d] - fwd_cnt[d] < CREDIT)
#define room(d) (rx_free[d] > 0)
#ifdef MUTANT_only_what_is_held
#define used_up(d) false
#else
#define used_up(d) (!credit(d)) /* inbox_flow_is_used_up() */
#endif

#ifdef POLITE
#define may_send(g) (put[g] - heard[g] < CREDIT)
#else
#define may_send(g) true
#endif

#define acquire(d) atomic { assert(lock[d] != 1 + me); lock[d] == 0; lock[d] = 1 + me }
#define release(d) lock[d] = 0

inline wake(d)
{
	if
	:: !woken[d] -> mail[d] = true
	:: else
	fi;
	woken[d] = true
}

/* Bytes of the flow, to the ring. */
inline emit(d)
{
	sent[d]++;
	rx_free[d]--;
	got_rw[d]++;
	left--
}

/* inbox_drain(): emit_flow() and drain_flow() as long as there is room. */
inline drain(d)
{
	do
	:: where[d] != READY || starved || left == 0 -> break
	:: else ->
		if
		:: held[d] > 0 && credit(d) && room(d) -> held[d]--; emit(d)
		:: held[d] > 0 && credit(d) && !room(d) -> starved = true
		:: else ->
			if
			:: held[d] > 0 && !asked[d] -> asked[d] = true; owes_ask[d] = true
			:: else
			fi;
			if
			:: owes_ask[d] && !room(d) -> starved = true
			:: else ->
				if
				:: owes_ask[d] ->
					owes_ask[d] = false;
					rx_free[d]--;
					got_ask[d] = true;
					left--
				:: else
				fi;
				where[d] = (held[d] > 0 || used_up(d) -> BLOCKED : NOWHERE)
			fi
		fi
	od
}

/* vring_enable_kick() in two steps: the driver may come between. */
inline publish(d, has_ring)
{
	if
	:: starved && has_ring ->
		rx_kick_on[d] = true;
#ifndef MUTANT_no_second_look
		if
		:: rx_free[d] > 0 -> starved = false
		:: else
		fi
#endif
	:: else
	fi
}

inline watch_blocked(d)
{
	if
	:: where[d] == BLOCKED ->
		watched[d] = true;
#ifndef MUTANT_no_probe_timer
		timer[d] = true
#endif
	:: else
	fi
}

/* A packet of guest @me for guest @d: sibling_forward() to sibling_flush(). */
inline forward(d, rw)
{
	acquire(me); /* note_own_credit() */
#ifndef MUTANT_credit_not_noted
	if
	:: !rw ->
		if
		:: fwd_cnt[me] != tx_fwd[me] -> asked[me] = false
		:: else
		fi;
		fwd_cnt[me] = tx_fwd[me]
	:: else
	fi;
#endif
	if
	:: held[me] > 0 && credit(me) -> where[me] = READY
	:: held[me] == 0 && !owes_ask[me] -> where[me] = (used_up(me) -> BLOCKED : NOWHERE)
	:: else
	fi;
	if
	:: where[me] == READY || (where[me] == BLOCKED && !watched[me]) -> scheduled[me] = true
	:: else
	fi;
#ifndef MUTANT_two_locks
	release(me);
#endif
	acquire(d);
	has_ring = !yield[d];
	starved = !has_ring;
	left = BUDGET;
	if /* inbox_deliver() */
	:: rw && held[d] == 0 && !owes_ask[d] && credit(d) && !starved && room(d) ->
		emit(d);
		if
		:: used_up(d) -> where[d] = BLOCKED
		:: else
		fi
	:: rw && !(held[d] == 0 && !owes_ask[d] && credit(d) && !starved && room(d)) ->
		if
		:: held[d] == 0 && !owes_ask[d] && credit(d) && !room(d) -> starved = true
		:: else
		fi;
		held[d]++;
		where[d] = READY
	:: !rw -> heard[d] = fwd_cnt[me] /* CREDIT_UPDATE; its way to the guest is left out */
	fi;
	/* device_end_sibling_fill() */
	drain(d);
	publish(d, has_ring);
	if
#ifndef MUTANT_no_wake_budget
	:: where[d] == READY && (!starved || yield[d]) -> wake(d)
#endif
#ifndef MUTANT_no_wake_blocked
	:: where[d] == BLOCKED && !watched[d] -> wake(d)
#endif
	:: else
	fi;
	release(d);
#ifdef MUTANT_two_locks
	release(me);
#endif
	starved = false;
	has_ring = false;
	left = 0
}

inline run_rx()
{
	acquire(me);
	if
	:: host_owes[me] == 0 && where[me] != READY -> watch_blocked(me)
	:: else ->
		rx_kick_on[me] = false;
		left = 9;
		do /* run_control() */
		:: host_owes[me] > 0 && rx_free[me] > 0 ->
			host_owes[me]--; rx_free[me]--; got_host[me]++
		:: host_owes[me] > 0 && rx_free[me] == 0 -> starved = true; break
		:: host_owes[me] == 0 -> break
		od;
		drain(me);
		publish(me, true);
		watch_blocked(me);
		yield[me] = starved && host_owes[me] > 0;
		if
		:: !starved && (host_owes[me] > 0 || where[me] == READY) -> scheduled[me] = true
		:: else
		fi
	fi;
	release(me);
	starved = false;
	left = 0
}

proctype owner(byte me)
{
	bool starved, has_ring;
	byte left; /* packets this fill may still emit */
	byte peer = 1 - me;

end:	do
	/* a turn of the loop: what came, then the task */
	:: kick[me] || mail[me] || scheduled[me] ->
		atomic {
			if
			:: kick[me] -> kick[me] = false; scheduled[me] = true
			:: else
			fi
		};
		if
		:: mail[me] ->
			mail[me] = false;
			acquire(me);
			woken[me] = false;
			release(me);
			scheduled[me] = true
		:: else
		fi;
		if
		:: scheduled[me] ->
			scheduled[me] = false;
			do /* device_run_tx(); the ring is looked at again by itself */
			:: tx_credit[me] -> tx_credit[me] = false; forward(peer, false)
			:: tx_rw[me] > 0 -> tx_rw[me]--; forward(peer, true)
			:: tx_rw[me] == 0 && !tx_credit[me] -> break
			od;
			run_rx()
		:: else
		fi
	:: host_left[me] > 0 -> /* a socket's event */
		host_left[me]--;
		host_owes[me]++;
		scheduled[me] = true
	:: timeout && timer[me] -> /* device_probe_siblings() */
		timer[me] = false;
		acquire(me);
		watched[me] = false;
		if
		:: where[me] == BLOCKED ->
#ifndef MUTANT_probe_asks_once
			asked[me] = false;
#endif
			if
			:: held[me] == 0 -> owes_ask[me] = true
			:: else
			fi;
			where[me] = READY
		:: else
		fi;
		release(me);
		scheduled[me] = true
	:: timeout && !timer[0] && !timer[1] -> /* nothing will ever happen again */
		assert(held[0] + held[1] == 0 && where[0] == NOWHERE && where[1] == NOWHERE);
		assert(host_owes[0] + host_owes[1] == 0);
		assert(fwd_total[1] == ITEMS_0 && fwd_total[0] == ITEMS_1);
		break
	od
}

/* With an event index a kick is asked for once. */
inline given_back()
{
	atomic {
		kick[me] = kick[me] || rx_kick_on[me];
		rx_kick_on[me] = false
	}
}

/* Its interrupt handler, its program and its socket layer. */
proctype guest(byte me)
{
end:	do
	:: atomic { to_send[me] > 0 && may_send(me) ->
		to_send[me]--; put[me]++; tx_rw[me]++; kick[me] = true }
	:: atomic { unread[me] > 0 -> unread[me]--; fwd_total[me]++ }
	:: atomic { got_rw[me] > 0 -> got_rw[me]--; unread[me]++; rx_free[me]++ };
		given_back()
	:: atomic { got_host[me] > 0 -> got_host[me]--; rx_free[me]++ };
		given_back()
	:: atomic { got_ask[me] ->
		got_ask[me] = false;
		rx_free[me]++;
#ifdef CURT
		if
		:: fwd_total[me] != tx_fwd[me] ->
			tx_fwd[me] = fwd_total[me];
			tx_credit[me] = true;
			kick[me] = true
		:: else
		fi };
#else
		tx_fwd[me] = fwd_total[me];
		tx_credit[me] = true;
		kick[me] = true };
#endif
		given_back()
	od
}

init
{
	atomic {
		to_send[0] = ITEMS_0;
		to_send[1] = ITEMS_1;
		rx_free[0] = RING;
		rx_free[1] = RING;
		run owner(0);
		run owner(1);
		run guest(0);
		run guest(1)
	}
}
