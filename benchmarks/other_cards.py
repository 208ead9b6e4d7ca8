"""Blanks the kernels of other GPUs in a library, so that it packs to a third of its size; see `gpu_kit.sh`.

    python benchmarks/other_cards.py 90 LIBRARY

CUDA's compiler puts the same kernels into a library once for each kind of GPU. The driver takes those of the card at
hand by the entries' heads, which stay. Entries without machine code, PTX for cards that came later, are blanked too.
"""

import re
import struct
import subprocess
import sys

# cuobjdump shows these fields of the section .nv_fatbin: a fatbin's head, then entries with heads of their own.
FATBIN = struct.Struct("<IHHQ")  # magic, version, size of the head, size of the entries
ENTRY = struct.Struct("<HHIQIIHHI")  # kind, version, size of the head, size, ..., card
MAGIC = 0xBA55ED50
MACHINE_CODE = 2


def _section(path):
    """Offset and size of the kernels in the file."""
    listing = subprocess.run(["readelf", "-SW", path], capture_output=True, text=True, check=True)
    found = re.search(r"\.nv_fatbin\s+PROGBITS\s+\w+\s+(\w+)\s+(\w+)", listing.stdout)
    if not found:
        sys.exit(f"error: {path} has no kernels: no section .nv_fatbin")
    return int(found[1], 16), int(found[2], 16)


def _entries(kernels):
    """(kind, card, start, end) of each entry's content."""
    position = 0
    while position + FATBIN.size <= len(kernels):
        magic, _, head, size = FATBIN.unpack_from(kernels, position)
        if magic != MAGIC:  # fatbins start at multiples of 8
            position += 8
            continue
        position += head
        end = position + size
        while position < end:
            kind, _, head, size, *_, card = ENTRY.unpack_from(kernels, position)
            yield kind, card, position + head, position + head + size
            position += head + size


def main() -> None:
    """Rewrites the library in its place."""
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    wanted, path = int(sys.argv[1]), sys.argv[2]
    offset, size = _section(path)
    with open(path, "r+b") as file:
        file.seek(offset)
        kernels = bytearray(file.read(size))
        kept = 0
        for kind, card, start, end in list(_entries(kernels)):
            if kind == MACHINE_CODE and card == wanted:
                kept += end - start
            else:
                kernels[start:end] = bytes(end - start)
        if not kept:
            sys.exit(f"error: {path} has no machine code for a GPU of capability {wanted}")
        file.seek(offset)
        file.write(kernels)
    print(f"{path}: {kept / 1e6:.0f} of {size / 1e6:.0f} MB of kernels kept")


if __name__ == "__main__":
    main()
