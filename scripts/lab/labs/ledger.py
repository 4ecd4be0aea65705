#!/usr/bin/env python3
"""Writes blocks of a disk past the page cache, each time with a number of its own, and keeps account of what must be there; until
the file STOP is there, then reads all of it back. ledger.py DEVICE MIB STOP

A write that failed has been done or not; what a later read finds decides. Reads that fail say nothing, but at the end.
"""
import mmap
import os
import random
import sys
import threading

BLOCK = 4096
THREADS = 4

device, mib, stop = sys.argv[1], int(sys.argv[2]), sys.argv[3]
per_thread = mib * 256 // THREADS
lost, totals = [], {"written": 0, "failed": 0, "compared": 0}
lock = threading.Lock()


def count(what):
    with lock:
        totals[what] += 1


def read(fd, block, page):
    os.preadv(fd, [page], block * BLOCK)
    page.seek(0)
    content = page.read(BLOCK)
    number = int.from_bytes(content[:8], "big")
    return number if content == number.to_bytes(8, "big") * (BLOCK // 8) else None


def compare(fd, block, may_be, page):
    found = read(fd, block, page)
    if found not in may_be:
        lost.append(f"block {block}: {found}, not {sorted(may_be)}")
    may_be.intersection_update({found})
    count("compared")


def keep(index):
    source = random.Random(index)
    fd = os.open(device, os.O_RDWR | os.O_DIRECT)
    page = mmap.mmap(-1, BLOCK)
    account, number = {}, index
    while not os.path.exists(stop) and not lost:
        block = index * per_thread + source.randrange(per_thread)
        number += THREADS
        page.seek(0)
        page.write(number.to_bytes(8, "big") * (BLOCK // 8))
        try:
            os.pwritev(fd, [page], block * BLOCK)
            account[block] = {number}
            count("written")
        except OSError:
            if block in account:
                account[block].add(number)
            count("failed")
        if number % 8 < THREADS and account:
            block = source.choice(list(account))
            try:
                compare(fd, block, account[block], page)
            except OSError:
                pass
    for block, may_be in account.items():
        try:
            compare(fd, block, may_be, page)
        except OSError as error:
            lost.append(f"block {block} cannot be read: {error}")
            return


threads = [threading.Thread(target=keep, args=(index,)) for index in range(THREADS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(", ".join(f"{number} {what}" for what, number in totals.items()))
for line in lost[:5]:
    print(line)
sys.exit(1 if lost or not totals["written"] else 0)
