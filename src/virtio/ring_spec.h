// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * ring_spec.h - facts of the virtio specification about features and split
 * rings; no behaviour.
 */
#ifndef VIRTIO_RING_SPEC_H
#define VIRTIO_RING_SPEC_H

/* Feature bit numbers: virtio 1.3, "Reserved Feature Bits" */
#define VIRTIO_F_NOTIFY_ON_EMPTY_BIT 24 /* "Legacy Interface: Reserved Feature Bits" */
#define VIRTIO_F_ANY_LAYOUT_BIT 27
#define VIRTIO_F_INDIRECT_DESC_BIT 28
#define VIRTIO_F_EVENT_IDX_BIT 29
#define VIRTIO_F_VERSION_1_BIT 32
#define VIRTIO_F_ACCESS_PLATFORM_BIT 33
#define VIRTIO_F_RING_PACKED_BIT 34
#define VIRTIO_F_IN_ORDER_BIT 35

/* "The Virtqueue Descriptor Table": le64 addr, le32 len, le16 flags, le16 next */
#define VRING_DESC_BYTES 16u
#define VRING_DESC_F_NEXT 1u
#define VRING_DESC_F_WRITE 2u
#define VRING_DESC_F_INDIRECT 4u

/* "The Virtqueue Available Ring": le16 flags, le16 idx, le16 ring[], le16 used_event */
#define VRING_AVAIL_IDX 2u
#define VRING_AVAIL_RING 4u
#define VRING_AVAIL_F_NO_INTERRUPT 1u

/* "The Virtqueue Used Ring": le16 flags, le16 idx, {le32 id, le32 len}[], le16 avail_event */
#define VRING_USED_IDX 2u
#define VRING_USED_RING 4u
#define VRING_USED_ELEM_BYTES 8u
#define VRING_USED_F_NO_NOTIFY 1u

#endif
