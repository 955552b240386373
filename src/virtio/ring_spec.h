// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * ring_spec.h - facts of the virtio specification about features, split and
 * packed rings; no behaviour.
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
#define VIRTIO_F_NOTIFICATION_DATA_BIT 38

/* "The Virtqueue Descriptor Table": le64 addr, le32 len, le16 flags, le16 next */
#define VRING_DESC_BYTES 16u
#define VRING_DESC_F_NEXT 1u
#define VRING_DESC_F_WRITE 2u
#define VRING_DESC_F_INDIRECT 4u

/* An entry of the available ring, and each index word of a split ring */
#define VRING_INDEX_BYTES 2u

/* "The Virtqueue Available Ring": le16 flags, le16 idx, le16 ring[], le16 used_event */
#define VRING_AVAIL_IDX 2u
#define VRING_AVAIL_RING 4u
#define VRING_AVAIL_F_NO_INTERRUPT 1u

/* "The Virtqueue Used Ring": le16 flags, le16 idx, {le32 id, le32 len}[], le16 avail_event */
#define VRING_USED_IDX 2u
#define VRING_USED_RING 4u
#define VRING_USED_ELEM_BYTES 8u
#define VRING_USED_F_NO_NOTIFY 1u

/* "The Virtqueue Descriptor Format" of packed rings: le64 addr, le32 len, le16 id,
 * le16 flags; VRING_DESC_BYTES and the flags above, and these two */
#define VRING_PACKED_DESC_F_AVAIL 0x80u
#define VRING_PACKED_DESC_F_USED 0x8000u

/* "Event Suppression Structure Format": le16 place, le16 flags */
#define VRING_PACKED_EVENT_BYTES 4u
#define VRING_PACKED_EVENT_F_ENABLE 0u
#define VRING_PACKED_EVENT_F_DISABLE 1u
#define VRING_PACKED_EVENT_F_DESC 2u
#define VRING_PACKED_EVENT_F_MASK 3u

/* A place in a packed ring as 16 bits: the offset, and the wrap counter on top */
#define VRING_PACKED_OFFSET_MASK 0x7fffu
#define VRING_PACKED_WRAP 0x8000u

#endif
