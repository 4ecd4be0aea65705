#!/usr/bin/env python3
"""iso.py IMAGE NAME FILE MIB - the smallest ISO 9660 image with one file in its root, as long as it is to be, and bootable (El Torito):
what boots says LUNETTE BOOTED at port 402h, where QEMU's firmware has its debugging output."""
import sys

BLOCK = 2048
TABLES, ROOT, CATALOG, BOOT, FIRST = (19, 20), 21, 22, 23, 24
WORDS = b"LUNETTE BOOTED\n"


def both(value, size):
    return value.to_bytes(size, "little") + value.to_bytes(size, "big")


def record(name, block, length, is_folder):
    name = name if isinstance(name, bytes) else name.encode()
    body = bytes([0]) + both(block, 4) + both(length, 4) + bytes([126, 11, 21, 0, 0, 0, 0])
    body += bytes([2 if is_folder else 0, 0, 0]) + both(1, 2) + bytes([len(name)]) + name
    body += bytes((len(body) + 1) % 2)
    return bytes([len(body) + 1]) + body


def catalog():
    head = bytearray([1, 0, 0, 0]) + b"LUNETTE".ljust(24, b"\0") + bytes([0, 0, 0x55, 0xaa])
    words = sum(int.from_bytes(head[at:at + 2], "little") for at in range(0, 32, 2))
    head[28:30] = (-words & 0xffff).to_bytes(2, "little")
    # Bootable, no emulation, at the usual segment, one sector of 512 bytes.
    return bytes(head) + bytes([0x88, 0, 0, 0, 0, 0]) + (1).to_bytes(2, "little") + BOOT.to_bytes(4, "little") + bytes(20)


def boot():
    # 16-bit code: mov dx, 402h; for each byte mov al, byte; out dx, al; then hlt, again and again.
    code = b"\xba\x02\x04" + b"".join(bytes([0xb0, byte, 0xee]) for byte in WORDS)
    return (code + b"\xf4\xeb\xfd").ljust(510, b"\0") + b"\x55\xaa"


def main():
    image, name, file, mib = sys.argv[1:]
    with open(file, "rb") as f:
        data = f.read()
    blocks = int(mib) * (1 << 20) // BLOCK
    folder = record(b"\0", ROOT, BLOCK, True) + record(b"\1", ROOT, BLOCK, True) + record(name + ";1", FIRST, len(data), False)
    little = bytes([1, 0]) + ROOT.to_bytes(4, "little") + (1).to_bytes(2, "little") + bytes(2)
    big = bytes([1, 0]) + ROOT.to_bytes(4, "big") + (1).to_bytes(2, "big") + bytes(2)
    volume = bytes([1]) + b"CD001" + bytes([1, 0]) + b" " * 32 + b"LUNETTE".ljust(32) + bytes(8) + both(blocks, 4) + bytes(32)
    volume += both(1, 2) * 2 + both(BLOCK, 2) + both(len(little), 4)
    volume += TABLES[0].to_bytes(4, "little") + bytes(4) + TABLES[1].to_bytes(4, "big") + bytes(4)
    volume += record(b"\0", ROOT, BLOCK, True) + b" " * (128 * 4 + 37 * 3) + (b"0" * 16 + b"\0") * 4 + bytes([1])
    boots = bytes([0]) + b"CD001" + bytes([1]) + b"EL TORITO SPECIFICATION".ljust(64, b"\0") + CATALOG.to_bytes(4, "little")
    end = bytes([255]) + b"CD001" + bytes([1])
    with open(image, "wb") as f:
        f.seek(16 * BLOCK)
        for part in (volume, boots, end, little, big, folder, catalog(), boot(), data):
            f.write(part + bytes(-len(part) % BLOCK))
        f.truncate(blocks * BLOCK)


main()
