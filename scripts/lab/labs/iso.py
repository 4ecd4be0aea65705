#!/usr/bin/env python3
"""iso.py IMAGE NAME FILE MIB - the smallest ISO 9660 image with one file in its root, as long as it is to be."""
import sys

BLOCK = 2048


def both(value, size):
    return value.to_bytes(size, "little") + value.to_bytes(size, "big")


def record(name, block, length, is_folder):
    name = name if isinstance(name, bytes) else name.encode()
    body = bytes([0]) + both(block, 4) + both(length, 4) + bytes([126, 11, 21, 0, 0, 0, 0])
    body += bytes([2 if is_folder else 0, 0, 0]) + both(1, 2) + bytes([len(name)]) + name
    body += bytes((len(body) + 1) % 2)
    return bytes([len(body) + 1]) + body


def main():
    image, name, file, mib = sys.argv[1:]
    with open(file, "rb") as f:
        data = f.read()
    blocks = int(mib) * (1 << 20) // BLOCK
    tables, root, first = (18, 19), 20, 21
    folder = record(b"\0", root, BLOCK, True) + record(b"\1", root, BLOCK, True) + record(name + ";1", first, len(data), False)
    little = bytes([1, 0]) + root.to_bytes(4, "little") + (1).to_bytes(2, "little") + bytes(2)
    big = bytes([1, 0]) + root.to_bytes(4, "big") + (1).to_bytes(2, "big") + bytes(2)
    volume = bytes([1]) + b"CD001" + bytes([1, 0]) + b" " * 32 + b"LUNETTE".ljust(32) + bytes(8) + both(blocks, 4) + bytes(32)
    volume += both(1, 2) * 2 + both(BLOCK, 2) + both(len(little), 4)
    volume += tables[0].to_bytes(4, "little") + bytes(4) + tables[1].to_bytes(4, "big") + bytes(4)
    volume += record(b"\0", root, BLOCK, True) + b" " * (128 * 4 + 37 * 3) + (b"0" * 16 + b"\0") * 4 + bytes([1])
    with open(image, "wb") as f:
        f.seek(16 * BLOCK)
        for part in (volume, bytes([255]) + b"CD001" + bytes([1]), little, big, folder, data):
            f.write(part + bytes(-len(part) % BLOCK))
        f.truncate(blocks * BLOCK)


main()
