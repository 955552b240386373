# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Take the ELF kernel out of a bzImage.

Under software emulation a guest spends seconds on unpacking its kernel. QEMU boots the ELF file
directly by its PVH entry point, so the host unpacks it once. Where the compression is not known
here or its tool is missing, the bzImage is used as it is.
"""

import gzip
import lzma
import os
import struct
import subprocess
import zlib
from pathlib import Path

SETUP_SECTS = 0x1F1
HEADER_MAGIC = 0x202
PAYLOAD = 0x248


def payload(image):
    """Return the compressed kernel inside a bzImage (Linux x86 boot protocol 2.08 and later)."""
    if image[HEADER_MAGIC:HEADER_MAGIC + 4] != b"HdrS":
        raise ValueError("not a bzImage")
    sectors = image[SETUP_SECTS] or 4
    offset, length = struct.unpack_from("<II", image, PAYLOAD)
    start = (sectors + 1) * 512 + offset
    return image[start:start + length]


def piped(command, data):
    """Return what a decompressor makes of data; the size after its end is no error."""
    return subprocess.run(command, input=data, capture_output=True, check=False).stdout


def decompress(data):
    """Return the unpacked kernel."""
    if data.startswith(b"\x1f\x8b"):
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(data)
    if data.startswith(b"\xfd7zXZ"):
        return lzma.LZMADecompressor().decompress(data)
    if data.startswith(b"\x28\xb5\x2f\xfd"):
        return piped(["zstd", "-dc"], data)
    if data.startswith(b"\x02\x21\x4c\x18"):
        return piped(["lz4", "-dc"], data[:-4])
    raise ValueError("unknown compression")


def ensure(image, cache):
    """Return the path of the kernel to boot for a bzImage: the ELF file, or the image itself."""
    image = Path(image)
    target = Path(cache) / "kernel" / f"{image.parent.name}-{image.name}-{image.stat().st_mtime_ns}"
    if target.exists():
        return target
    try:
        elf = decompress(payload(image.read_bytes()))
    except (ValueError, OSError, lzma.LZMAError, gzip.BadGzipFile, zlib.error):
        return image
    if not elf.startswith(b"\x7fELF"):
        return image
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_suffix(f".{os.getpid()}")
    temporary.write_bytes(elf)
    temporary.rename(target)
    return target
