// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * pkt.c - header encode and decode; knows offsets, validates nothing. Pure.
 */
#include "vsock/pkt.h"

#include "base/le.h"

void pkt_decode(struct pkt *pkt, const uint8_t bytes[VSOCK_HDR_BYTES])
{
	pkt->src_cid = le64_load(bytes + VSOCK_HDR_SRC_CID);
	pkt->dst_cid = le64_load(bytes + VSOCK_HDR_DST_CID);
	pkt->src_port = le32_load(bytes + VSOCK_HDR_SRC_PORT);
	pkt->dst_port = le32_load(bytes + VSOCK_HDR_DST_PORT);
	pkt->len = le32_load(bytes + VSOCK_HDR_LEN);
	pkt->type = le16_load(bytes + VSOCK_HDR_TYPE);
	pkt->op = le16_load(bytes + VSOCK_HDR_OP);
	pkt->flags = le32_load(bytes + VSOCK_HDR_FLAGS);
	pkt->buf_alloc = le32_load(bytes + VSOCK_HDR_BUF_ALLOC);
	pkt->fwd_cnt = le32_load(bytes + VSOCK_HDR_FWD_CNT);
}

void pkt_encode(uint8_t bytes[VSOCK_HDR_BYTES], const struct pkt *pkt)
{
	le64_store(bytes + VSOCK_HDR_SRC_CID, pkt->src_cid);
	le64_store(bytes + VSOCK_HDR_DST_CID, pkt->dst_cid);
	le32_store(bytes + VSOCK_HDR_SRC_PORT, pkt->src_port);
	le32_store(bytes + VSOCK_HDR_DST_PORT, pkt->dst_port);
	le32_store(bytes + VSOCK_HDR_LEN, pkt->len);
	le16_store(bytes + VSOCK_HDR_TYPE, pkt->type);
	le16_store(bytes + VSOCK_HDR_OP, pkt->op);
	le32_store(bytes + VSOCK_HDR_FLAGS, pkt->flags);
	le32_store(bytes + VSOCK_HDR_BUF_ALLOC, pkt->buf_alloc);
	le32_store(bytes + VSOCK_HDR_FWD_CNT, pkt->fwd_cnt);
}

void pkt_patch_len(uint8_t bytes[VSOCK_HDR_BYTES], uint32_t len)
{
	le32_store(bytes + VSOCK_HDR_LEN, len);
}

void pkt_patch_flags(uint8_t bytes[VSOCK_HDR_BYTES], uint32_t flags)
{
	le32_store(bytes + VSOCK_HDR_FLAGS, flags);
}
