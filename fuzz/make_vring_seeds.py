#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Write the seeds of fuzz_vring.c: well-formed rings of each shape.

Usage: make_vring_seeds.py DIRECTORY
"""
import pathlib
import struct
import sys

NEXT, WRITE, INDIRECT = 1, 2, 4
AVAIL, USED, PACKED, WRAP = 1 << 7, 1 << 15, 1 << 7, 1 << 15
POP, PUSH, PUBLISH, UNPOP, KICK, AVAILABLE = 5 << 3, 2, 3, 4 | 1 << 3, 5, 7 | 1 << 3
RESTART, REGIONS = 7, (4096, 100, 7, 900, 4096, 4096)
EVENT_IDX = 1 << 5  # bit 29, in units of bit 24
TABLE = 256         # guest address of the indirect table


def desc(addr, length, flags=0, following=0):
    return struct.pack("<QIHH", addr, length, flags, following)


def seed(descs, heads, table=b"", table_at=TABLE, features=EVENT_IDX, index=0, script=None):
    """One input: a ring that just fits, all regions, @heads available; zeros at the end implied."""
    log2 = max(len(descs), len(heads), 1).bit_length()
    size = 1 << log2
    if script is None:
        script = [AVAILABLE, POP, PUSH, PUBLISH, KICK] * len(heads) + [POP]
    slots = [0] * size
    for i, head in enumerate(heads):
        slots[(index + i) % size] = head
    memory = bytearray(sum(REGIONS))
    memory[table_at:table_at + len(table)] = table
    return b"".join((
        bytes((log2, len(REGIONS) - 1, features, len(script))), struct.pack("<H", index),
        bytes(script),
        b"".join(descs).ljust(16 * size, b"\0"),
        struct.pack(f"<HH{size}HH", 0, (index + len(heads)) & 0xffff, *slots, 0),
        bytes(6 + 8 * size), bytes(memory))).rstrip(b"\0")


def seeds():
    header_and_data = [desc(0x10000, 44, NEXT, 1), desc(0x10100, 500)]
    table = desc(0, 44, NEXT, 1) + desc(4000, 300, NEXT, 2) + desc(0x10000, 9, WRITE)
    yield "single", seed([desc(0x10000, 1000, WRITE)] * 3, [0, 1, 2])
    yield "two", seed(header_and_data, [0, 0])
    yield "borders", seed([desc(4090, 1000)], [0])
    yield "top", seed([desc((1 << 64) - 2, 1, WRITE)], [0])
    yield "indirect", seed([desc(TABLE, 48, INDIRECT)] * 3, [0, 1], table)
    yield "indirect-odd", seed([desc(TABLE + 1, 48, INDIRECT)] * 3, [2], table, TABLE + 1)
    yield "indirect-border", seed([desc(4070, 48, INDIRECT)] * 3, [0], table, 4070)
    yield "prefix", seed([desc(0, 44, NEXT, 1), desc(TABLE, 48, INDIRECT)] * 2, [0], table)
    yield "wrap", seed(header_and_data, [0, 0, 0], index=0xfffe)
    yield "flags", seed(header_and_data, [0, 0], features=1,
                        script=[KICK, KICK | 8, POP, POP, UNPOP, POP, PUSH, PUBLISH, RESTART, POP])
    yield "loop", seed([desc(0, 1, NEXT, 1), desc(0, 1, NEXT, 0)], [0])


def packed(addr, length, flags=0, ident=0):
    return struct.pack("<QIHH", addr, length, ident, flags)


def packed_seed(descs, table=b"", table_at=TABLE, features=EVENT_IDX, index=WRAP, script=None,
                size=None):
    """As seed(), for a packed ring of @size, as many as @descs if that is not said."""
    size = size or len(descs)
    memory = bytearray(sum(REGIONS))
    memory[table_at:table_at + len(table)] = table
    if script is None:
        script = [AVAILABLE, POP, PUSH, PUBLISH, KICK] * len(descs) + [POP]
    return b"".join((
        bytes((PACKED | size - 1, len(REGIONS) - 1, features, len(script))),
        struct.pack("<H", index), bytes(script), b"".join(descs).ljust(16 * size, b"\0"),
        struct.pack("<HH", WRAP | 1, 2), bytes(4), bytes(memory))).rstrip(b"\0")


def packed_seeds():
    drive = [6 | 3 << 3, AVAILABLE, POP, POP, POP, UNPOP, POP, PUSH, PUSH, PUSH, PUBLISH, KICK]
    table = packed(0, 44) + packed(4000, 300) + packed(0x10000, 9, WRITE | NEXT | INDIRECT)
    chain = [packed(0x10000, 44, AVAIL | NEXT), packed(0x10100, 500, AVAIL, 7)]
    yield "packed-single", packed_seed([packed(0x10000, 1000, WRITE | AVAIL, i) for i in range(3)])
    yield "packed-chain", packed_seed(chain * 2)
    yield "packed-laps", packed_seed([packed(0x10000, 44)] * 3, script=drive * 6)
    yield "packed-flags", packed_seed([packed(0x10000, 44, WRITE)] * 5, features=0,
                                      script=(drive + [KICK | 8, RESTART]) * 4)
    yield "packed-indirect", packed_seed([packed(TABLE, 48, INDIRECT | AVAIL)] * 3, table)
    yield "packed-odd", packed_seed([packed(TABLE + 1, 48, INDIRECT | AVAIL)], table, TABLE + 1,
                                    size=3)
    yield "packed-wrap", packed_seed([packed(0x10000, 44, USED | NEXT)] * 2, index=1, size=3,
                                     script=drive * 3)
    yield "packed-endless", packed_seed([packed(0, 1, NEXT | AVAIL)] * 4)


def main():
    directory = pathlib.Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for name, data in (*seeds(), *packed_seeds()):
        (directory / name).write_bytes(data)


if __name__ == "__main__":
    main()
