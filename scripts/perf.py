#!/usr/bin/env python3
"""4 KiB reads and writes against lunette's RAM disk and against Debian's tgt, in turns, as a table.

perf.py [--rounds N] [--seconds S] [--record]

Reads are iscsi-perf's, at random places; writes are `qemu-img bench`'s, one behind the other, as iscsi-perf has none. Both are one
process with one session, and both are libiscsi, which is slower than lunette: what they count is a lower bound. tgt's disk is
a file in /dev/shm, so that both targets serve memory; both disks are full before the first round. Each round runs every
command against both, and who is first changes from round to round; the table has the medians, the least and the most of
them, and the ratio of the medians. lunette runs as it does without options: one reactor, `--idle adaptive`. --record puts the
table into README.md, where the last one stands.
"""
import argparse
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack

from harness import ROOT, Lunette, Tgt, expect, run

DISK_MIB = 256
BLOCK_BYTES = 512
IO_BYTES = 4096
README = os.path.join(ROOT, "README.md")
MARKS = ("<!-- written by scripts/perf.py --record -->\n", "<!-- end -->\n")


def reads(depth):
    def rate(url, seconds):
        argv = ["iscsi-perf", "-m", str(depth), "-b", str(IO_BYTES // BLOCK_BYTES), "-t", str(seconds), "-r", url]
        out = run(*argv, seconds=seconds + 30)
        found = re.findall(r"iops average (\d+)", out)
        expect(found, f"no rate in {out!r}")
        return int(found[-1])

    return f"iscsi-perf -r -b {IO_BYTES // BLOCK_BYTES} -m {depth}", rate


def bench(url, depth, count, io_bytes=IO_BYTES):
    """Seconds that so many writes take."""
    argv = ["qemu-img", "bench", "-f", "raw", "-t", "none", "-w", "-d", str(depth), "-s", str(io_bytes), "-c", str(count), url]
    out = run(*argv, seconds=300)
    found = re.search(r"Run completed in ([\d.]+) seconds", out)
    expect(found, f"no time in {out!r}")
    return max(float(found[1]), 0.001)


def writes(depth):
    def rate(url, seconds):
        count = max(1000, int(seconds * 2000 / bench(url, depth, 2000)))
        return round(count / bench(url, depth, count))

    return f"qemu-img bench -w -s {IO_BYTES} -d {depth}", rate


CASES = [("4 KiB read, QD 1", *reads(1)), ("4 KiB read, QD 32", *reads(32)),
         ("4 KiB write, QD 1", *writes(1)), ("4 KiB write, QD 32", *writes(32))]


def machine():
    """What the numbers belong to."""
    with open("/proc/cpuinfo") as f:
        model = re.search(r"model name\s*: (.*)", f.read())
    packages = subprocess.run(["dpkg-query", "-W", "-f", "${Package} ${Version}, ", "tgt", "libiscsi-bin", "qemu-utils"],
                              capture_output=True, text=True).stdout.rstrip(", ")
    name = model[1] if model else platform.machine()
    return f"{os.cpu_count()} x {name}, Linux {platform.release()}; {packages}; load before: {os.getloadavg()[0]:.1f}"


def measure(rounds, seconds):
    """{case: {target: [rate of each round]}}"""
    results = {name: {"lunette": [], "tgt": []} for name, *_ in CASES}
    with ExitStack() as stack:
        targets = [stack.enter_context(kind(disks_mib=[DISK_MIB])) for kind in (Lunette, Tgt)]
        for target in targets:
            bench(target.url(), 8, DISK_MIB, 1 << 20)
        for number in range(rounds):
            for name, command, rate in CASES:
                for target in targets if number % 2 == 0 else reversed(targets):
                    results[name][target.name].append(rate(target.url(), seconds))
                    target.alive()
                print(f"round {number + 1}, {name}:", *(f"{t} {rates[-1]}" for t, rates in results[name].items()), flush=True)
    return results


def table(results):
    def told(rates):
        return f"{statistics.median(rates):.0f} ({min(rates)} to {max(rates)})"

    lines = ["| what | command | lunette, IO/s | tgt, IO/s | ratio |", "|---|---|---|---|---|"]
    for name, command, _ in CASES:
        lunette, tgt = results[name]["lunette"], results[name]["tgt"]
        ratio = statistics.median(lunette) / statistics.median(tgt)
        lines.append(f"| {name} | `{command}` | {told(lunette)} | {told(tgt)} | {ratio:.2f} |")
    return "\n".join(lines) + "\n"


def put(text, page):
    """The page with this text between its marks."""
    head, begin, rest = page.partition(MARKS[0])
    _, end, tail = rest.partition(MARKS[1])
    expect(begin and end, f"no {MARKS} in it")
    return f"{head}{begin}{text}{end}{tail}"


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--rounds", type=int, default=5)
    a.add_argument("--seconds", type=int, default=4, help="of each command in each round")
    a.add_argument("--record", action="store_true", help="puts the table into README.md")
    a = a.parse_args()
    tempfile.tempdir = "/dev/shm"  # tgt's disk
    text = f"{machine()}; medians of {a.rounds} rounds, {a.seconds} s for each command.\n\n"
    text += table(measure(a.rounds, a.seconds))
    print(f"\n{text}", end="")
    if a.record:
        with open(README) as f:
            page = put(text, f.read())
        with open(README, "w") as f:
            f.write(page)


if __name__ == "__main__":
    sys.exit(main())
