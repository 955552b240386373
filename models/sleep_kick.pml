/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * sleep_kick.pml - a driver and the device go to sleep and wake each other over
 * one virtqueue.
 *
 * Stands for: vring_pop(), vring_push(), vring_publish(), vring_enable_kick(),
 * vring_disable_kick() of src/virtio/vring.c for split rings, event_is_passed()
 * of src/virtio/vring_split.c;
 * device_run_tx() of src/vsock/tx.c; the edge-triggered kick of
 * src/vhost_user/vu_ring.c and the turn of src/loop/loop.c. The driver's half is
 * that of Linux, drivers/virtio/virtio_ring.c.
 *
 * Memory: each side's stores go to a store buffer and reach memory later, those
 * to different words in any order (weaker than x86, which keeps the order). A
 * release store waits for the earlier ones; a fence waits for all. Loads are in
 * program order and see one's own buffer first.
 *
 * Claim: the driver gets every buffer back. Whoever sleeps while the other one
 * waits for it shows as a state without a way on.
 *
 * @run event_idx safety
 * @run event_idx_budget safety -DBUDGET=1
 * @run event_idx_batch safety -DBATCH=2
 * @run flags safety -DFLAGS
 * @run flags_batch safety -DFLAGS -DBATCH=2
 * @mutant no_fence_enable event_idx
 * @mutant no_fence_enable flags
 * @mutant no_fence_publish event_idx
 * @mutant no_fence_publish flags
 * @mutant no_second_look event_idx
 * @mutant no_second_look flags
 * @mutant no_release event_idx
 * @mutant event_ahead event_idx
 * @mutant only_last_passed event_idx_batch
 * @mutant edge_taken_late event_idx
 * @mutant stays_silent flags
 * @mutant no_turn_after_budget event_idx_budget
 */
#ifndef BUDGET
#define BUDGET 2 /* TX_BUDGET_CHAINS */
#endif
#ifndef BATCH
#define BATCH 1 /* chains the driver shows at once */
#endif
#define SIZE 2	 /* of the ring */
#define ROUND 8	 /* indices count modulo this, as 2^16 in the ring */
#ifdef FLAGS
#define FIRST 0
#else
#define FIRST 6 /* where the indices begin: they wrap on the way */
#endif
#define CHAINS 4

#define inc(i) (((i) + 1) % ROUND)
#define diff(a, b) (((a) + ROUND - (b)) % ROUND)
#ifdef MUTANT_only_last_passed
#define passed(event, new, old) (diff(new, inc(event)) == 0)
#else
#define passed(event, new, old) (diff(new, inc(event)) < diff(new, old))
#endif

/* The words of the ring, in memory and in the buffer of the side that writes them. */
mtype = { avail_idx, used_event, used_idx, avail_event, slot };

byte memory[6] = FIRST;
bool pending[6];
byte buffered[6];

#define store(word, value)               \
	atomic {                         \
		buffered[word] = value;  \
		pending[word] = true     \
	}
#define own(word) (pending[word] -> buffered[word] : memory[word])
#define other(word) memory[word]
#define driver_fence() (!pending[avail_idx] && !pending[used_event])
#define device_fence() (!pending[used_idx] && !pending[avail_event] && !pending[slot])

bool kick; /* an edge of the kick eventfd that epoll has not reported */
bool call; /* an interrupt the driver has not taken */

/* A buffer empties itself whenever it likes. */
active proctype buffers()
{
end:
	do
	:: atomic { pending[avail_idx] -> memory[avail_idx] = buffered[avail_idx]; pending[avail_idx] = false }
	:: atomic { pending[used_event] -> memory[used_event] = buffered[used_event]; pending[used_event] = false }
	:: atomic { pending[used_idx] -> memory[used_idx] = buffered[used_idx]; pending[used_idx] = false }
	:: atomic { pending[avail_event] -> memory[avail_event] = buffered[avail_event]; pending[avail_event] = false }
	:: atomic { pending[slot] -> memory[slot] = buffered[slot]; pending[slot] = false }
	od
}

active proctype driver()
{
	byte made;  /* chains ever made available */
	byte taken; /* chains ever taken back */
	byte avail = FIRST; /* its avail->idx */
	byte last = FIRST;  /* used elements taken, as an index */
	byte old, event, n;

	do
	:: made < CHAINS && made - taken < SIZE ->
		old = avail;
		n = 0;
		do
		:: n < BATCH && made < CHAINS && made - taken < SIZE ->
			atomic { made++; avail = inc(avail); n++ }
		:: n > 0 -> break
		od;
		store(avail_idx, avail);
		driver_fence();
		event = other(avail_event);
#ifdef FLAGS
		if
		:: event == 0 -> kick = true
		:: else
		fi
#else
		if
		:: passed(event, avail, old) -> kick = true
		:: else
		fi
#endif
	:: other(used_idx) != last ->
		/* virtqueue_get_buf(): what the index promised has been written */
		atomic {
			assert(diff(other(slot), last) > 0 && diff(other(slot), last) <= SIZE);
			taken++;
			last = inc(last)
		}
	:: made > taken -> /* wait for the device, as it may at any time */
#ifdef FLAGS
		store(used_event, 0);
#else
		store(used_event, last);
#endif
		driver_fence();
		if
		:: other(used_idx) == last ->
			call;
			call = false
		:: other(used_idx) != last
		fi;
#ifdef FLAGS
		store(used_event, 1) /* VRING_AVAIL_F_NO_INTERRUPT, until it waits again */
#endif
	:: taken == CHAINS -> break
	od
}

active proctype device()
{
	byte next = FIRST;      /* next_avail */
	byte used = FIRST;      /* next_used */
	byte published = FIRST; /* used->idx as the driver sees it */
	byte seen, event, n;

	goto turn; /* a ring that starts is looked at once */
sleep:
end:
	kick;
#ifndef MUTANT_edge_taken_late
	kick = false;
#endif
turn:
#ifdef FLAGS
	store(avail_event, 1); /* vring_disable_kick(): VRING_USED_F_NO_NOTIFY */
#endif
	n = 0;
	do /* drain(): vring_pop(), vring_push() */
	:: n == BUDGET -> break
	:: n < BUDGET ->
		seen = other(avail_idx);
		if
		:: seen == next -> break
		:: else ->
			assert(diff(seen, next) <= SIZE);
			next = inc(next);
			used = inc(used);
			store(slot, used);
			n++
		fi
	od;
	if /* vring_publish() */
	:: used != published ->
#ifndef MUTANT_no_release
		!pending[slot];
#endif
		store(used_idx, used);
#ifndef MUTANT_no_fence_publish
		device_fence();
#endif
		event = other(used_event);
#ifdef FLAGS
		if
		:: event == 0 -> call = true
		:: else
		fi;
#else
		if
		:: passed(event, used, published) -> call = true
		:: else
		fi;
#endif
		published = used
	:: else
	fi;
#ifdef MUTANT_no_turn_after_budget
	if
	:: n == BUDGET -> goto sleep
	:: else
	fi;
#else
	if
	:: n == BUDGET -> goto turn
	:: else
	fi;
#endif
	/* vring_enable_kick() */
#ifdef FLAGS
#ifndef MUTANT_stays_silent
	store(avail_event, 0);
#endif
#else
#ifdef MUTANT_event_ahead
	store(avail_event, inc(next));
#else
	store(avail_event, next);
#endif
#endif
#ifndef MUTANT_no_fence_enable
	device_fence();
#endif
#ifndef MUTANT_no_second_look
	if
	:: other(avail_idx) != next -> goto turn
	:: other(avail_idx) == next
	fi;
#endif
#ifdef MUTANT_edge_taken_late
	kick = false;
#endif
	goto sleep
}
