// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * prove_credit.c - for every state that flow control can be in, every claim of the
 * receiver's and every packet: what is in flight fits the receiver's buffer though all counters
 * wrap, a claim is refused exactly if it is a lie, and a group of packets counts until
 * its last byte was consumed and no longer.
 *
 * The state is any that keeps the rules of is_legal(), not only one that few steps
 * reach. That they are kept is proved of a packet, sent when the table of groups goes
 * round, and of a claim with one group: the solver cannot do it with more. There are three
 * groups, as the code treats all alike.
 *
 * @with src/vsock/credit.h s/CREDIT_GROUPS 6u/CREDIT_GROUPS 3u/
 * @unwind 4
 * @run claim -DSTEP=claim
 * @run retire -DSTEP=retire
 * @run send -DSTEP=send
 * @run receive -DSTEP=receive
 * @mutant claim: src/vsock/credit.h s/fwd_cnt - c->fwd_cnt > c->sent - c->fwd_cnt/fwd_cnt > c->sent/
 * @mutant claim: src/vsock/credit.h s/c->packets = .uint16_t..c->packets - .*;//
 * @mutant retire: src/vsock/credit.h s/c->sent - end < c->sent - c->fwd_cnt/end > c->fwd_cnt/
 * @mutant send: src/vsock/credit.h s/in_flight < c->buf_alloc \?/c->sent != c->fwd_cnt ?/
 * @mutant send: src/vsock/credit.h s/c->group_end\[last\] = c->sent;//
 * @mutant receive: src/vsock/credit.h s/held <= window && //
 */
#include "vsock/credit.h"

bool nondet_bool(void);
uint32_t nondet_uint32(void);
struct credit_out nondet_credit_out(void);
struct credit_in nondet_credit_in(void);

static uint32_t slot(const struct credit_out *c, uint32_t i)
{
	uint32_t at = c->group_first + i;

	return at < CREDIT_GROUPS ? at : at - CREDIT_GROUPS;
}

/* Bytes in flight up to the end of a group. */
static uint32_t end_of(const struct credit_out *c, uint32_t i)
{
	return c->group_end[slot(c, i)] - c->fwd_cnt;
}

/* What groups add up to from either end: one number, but each step is proved with the
 * sum that it changes at the outer end, as the solver knows nothing of sums. */
static uint16_t sum_from_first(const struct credit_out *c)
{
	uint16_t packets = 0;

	for (uint32_t i = 0; i < c->group_count; i++)
		packets = (uint16_t)(packets + c->group_packets[slot(c, i)]);
	return packets;
}

static uint16_t sum_from_last(const struct credit_out *c)
{
	uint16_t packets = 0;

	for (uint32_t i = c->group_count; i > 0; i--)
		packets = (uint16_t)(packets + c->group_packets[slot(c, i - 1)]);
	return packets;
}

static bool is_legal(const struct credit_out *c)
{
	uint32_t in_flight = credit_out_in_flight(c);
	uint32_t before = 0;

	if (c->group_first >= CREDIT_GROUPS || c->group_count > CREDIT_GROUPS)
		return false;
	for (uint32_t i = 0; i < c->group_count; i++) {
		if (end_of(c, i) < before || end_of(c, i) > in_flight)
			return false;
		before = end_of(c, i);
	}
	return before == in_flight;
}

static void claim(void)
{
	struct credit_out c = nondet_credit_out();
	struct credit_out old = c;
	uint32_t fwd_cnt = nondet_uint32();
	uint64_t consumed = (uint32_t)(fwd_cnt - c.fwd_cnt);
	bool taken;

	__CPROVER_assume(is_legal(&c) && c.packets == sum_from_last(&c));
	taken = credit_out_update(&c, nondet_uint32(), fwd_cnt);
	__CPROVER_assert(taken == (consumed <= credit_out_in_flight(&old)),
			 "only a lie is refused");
	__CPROVER_assert(taken || (c.fwd_cnt == old.fwd_cnt && c.buf_alloc == old.buf_alloc &&
				   c.packets == old.packets),
			 "a lie changes nothing");
	if (!taken)
		return;
	__CPROVER_assert(credit_out_in_flight(&c) + consumed == credit_out_in_flight(&old),
			 "what was consumed is not in flight any more");
	__CPROVER_assert(c.packets == sum_from_last(&c), "no packet is forgotten");
	__CPROVER_assert(credit_out_in_flight(&c) != 0 || c.packets == 0, "nor counted twice");
}

static void retire(void)
{
	struct credit_out c = nondet_credit_out();
	uint32_t fwd_cnt = nondet_uint32();
	uint32_t consumed = fwd_cnt - c.fwd_cnt;
	bool stays;

	__CPROVER_assume(c.group_count == 1 && is_legal(&c));
	stays = end_of(&c, 0) > consumed;
	__CPROVER_assume(credit_out_update(&c, nondet_uint32(), fwd_cnt));
	__CPROVER_assert(is_legal(&c), "the rules are kept");
	__CPROVER_assert(c.group_count == stays, "a group leaves with its last byte");
}

static void send(void)
{
	struct credit_out c = nondet_credit_out();
	struct credit_out old = c;
	uint32_t bytes = nondet_uint32();
	bool whole = nondet_bool();

	/* the place from which the next one goes round at once */
	c.group_first = CREDIT_GROUPS - 1;
	old.group_first = c.group_first;
	__CPROVER_assume(is_legal(&c) && c.packets == sum_from_first(&c));
	__CPROVER_assert(credit_out_usable(&c) <= credit_out_allowed(&c),
			 "never more than allowed");
	__CPROVER_assume(bytes > 0);
	__CPROVER_assume(whole ? credit_out_takes(&c, bytes) : bytes <= credit_out_usable(&c));
	credit_out_sent(&c, bytes);
	__CPROVER_assert(is_legal(&c), "the rules are kept");
	__CPROVER_assert(c.packets == sum_from_first(&c), "no packet is forgotten");
	__CPROVER_assert((uint64_t)credit_out_in_flight(&old) + bytes == credit_out_in_flight(&c),
			 "all of it is in flight");
	__CPROVER_assert(credit_out_in_flight(&c) <= c.buf_alloc, "the receiver has room for it");
	__CPROVER_assert(c.packets != 0 && c.packets == old.packets + 1, "one packet more");
	__CPROVER_assert(c.packets <= credit_out_packet_limit(&c), "and room for one packet more");
}

static void receive(void)
{
	struct credit_in c = nondet_credit_in();
	uint32_t len = nondet_uint32();
	uint32_t window = nondet_uint32();
	uint64_t after = (uint64_t)credit_in_held(&c) + len;

	__CPROVER_assert(credit_in_fits(&c, len, window) == (after <= window),
			 "what fits is taken, and nothing else");
	if (!credit_in_fits(&c, len, window))
		return;
	c.received += len;
	__CPROVER_assert(credit_in_held(&c) <= window, "no more is held than was promised");
}

int main(void)
{
	STEP();
	return 0;
}
