#!/usr/bin/env python3
"""A node of two that take a disk from each other: registers, preempts, writes its mark as long as it is let, and looks whether it
stays. fight.py DEVICE OWN_KEY OTHER_KEY SECONDS

Who finds the other's mark has lost the disk, so its next write must be refused; if it is not, both had it.
"""
import errno
import mmap
import os
import subprocess
import sys
import time

device, own, other, seconds = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])
BLOCK = 4096
MARKS = 20
fd = os.open(device, os.O_RDWR | os.O_DIRECT)
page = mmap.mmap(-1, BLOCK)


def change(*arguments):
    """The exit status of sg_persist, which tells a unit attention (6) by itself."""
    while True:
        status = subprocess.run(["sg_persist", "--out", *arguments, device], capture_output=True).returncode
        if status != 6:
            return status


def mark(number):
    return f"{own}:{number:<60}".encode().ljust(BLOCK, b".")


def write(number):
    """Whether it was let."""
    page.seek(0)
    page.write(mark(number))
    try:
        os.pwritev(fd, [page], 0)
        return True
    except OSError as error:
        if error.errno != errno.EBADE:  # a reservation conflict
            raise
        return False


def holds(number):
    """Whether the mark is there."""
    os.preadv(fd, [page], 0)
    page.seek(0)
    return page.read(BLOCK) == mark(number)


end = time.monotonic() + seconds
taken = written = lost = number = 0
while time.monotonic() < end:
    change("--register-ignore", f"--param-sark={own}")
    change("--preempt", f"--param-rk={own}", f"--param-sark={other}", "--prout-type=1")
    # Who preempts a node that had registered only takes no reservation by that; the holder may ask again.
    if change("--reserve", f"--param-rk={own}", "--prout-type=1"):
        continue
    taken += 1
    for _ in range(MARKS):
        number += 1
        if not write(number):
            lost += 1
            break
        written += 1
        if not holds(number):
            if write(number + 1):
                sys.exit(f"{own}: the other wrote, and so did this one")
            lost += 1
            break
print(f"{own}: taken {taken} times, lost {lost} times, {written} marks")
sys.exit(0 if taken >= 3 and lost and written else 1)
