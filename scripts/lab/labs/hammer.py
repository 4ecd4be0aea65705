#!/usr/bin/env python3
"""One more user of the disk: logs in with QEMU's initiator, writes patterns into its own range, reads them back and
compares, logs out, and again, until SIGTERM. hammer.py URL FIRST_MIB MIB SEED

All answers are awaited before a range is written again or read, so what must be there is always known.
"""
import random
import signal
import subprocess
import sys

KIB = 1 << 10
SIZES_KIB = (4, 4, 4, 8, 64, 256, 1024)
WRITES = 60  # per login: few enough that most of the range keeps what earlier logins wrote
LIMIT_SECONDS = 120  # for one login's commands

url, first_mib, mib, seed = sys.argv[1], *map(int, sys.argv[2:5])
source = random.Random(seed)
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
ours = [None] * (mib * 256)  # per 4 KiB: the pattern that must be there; None until it is written first
logins = written_kib = 0

while not stop:
    commands = []
    # At most one write in flight per block: what two leave behind is not decided.
    busy = set()
    for _ in range(WRITES):
        blocks = source.choice(SIZES_KIB) // 4
        start = source.randrange(len(ours) - blocks + 1)
        if not busy.isdisjoint(range(start, start + blocks)):
            commands.append("aio_flush")
            busy.clear()
        busy.update(range(start, start + blocks))
        pattern = source.randrange(1, 256)
        ours[start:start + blocks] = [pattern] * blocks
        commands.append(f"aio_write -q -P {pattern} {(first_mib * 256 + start) * 4}k {blocks * 4}k")
        written_kib += blocks * 4
    commands.append("aio_flush")
    start = 0
    while start < len(ours):  # runs of one pattern, by one read each
        end = start
        while end < len(ours) and ours[end] == ours[start]:
            end += 1
        if ours[start] is not None:
            commands.append(f"aio_read -q -P {ours[start]} {(first_mib * 256 + start) * 4}k {(end - start) * 4}k")
        start = end
    commands.append("aio_flush")
    done = subprocess.run(["qemu-io", "-f", "raw", url], input="\n".join(commands) + "\n", text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, timeout=LIMIT_SECONDS)
    trouble = [line for line in done.stdout.replace("qemu-io> ", "").splitlines() if line.strip()]
    if done.returncode or trouble:
        print(f"hammer {seed}: status {done.returncode}: {trouble[:5]}", flush=True)
        sys.exit(1)
    logins += 1
print(f"hammer {seed}: {logins} logins, {written_kib // KIB} MiB written and compared", flush=True)
