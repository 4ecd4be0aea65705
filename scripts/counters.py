#!/usr/bin/env python3
"""What a command costs, counted exactly, and compared with bench/counters.toml.

counters.py [--record] [--top N] [CASE...] | --strace | --self-test

bench/counters replays fixed work on reactors, under valgrind's callgrind; nothing in it depends on time or on the addresses that
the kernel gives. Counted per command, in the turns of the reactors only:

  instructions   in user space; what stands for the kernel is left out, and `rep` counts as one, so that copies count by their
                 bytes, below, and not by how a processor likes them best
  locked         `lock` prefixes, `xchg` with memory and `mfence`
  data_bytes     copied in whole blocks of 512 bytes, or 8 KiB and more at once
  value_bytes    moved otherwise, by `rep` or by calls of memcpy and memmove; what the compiler moves by registers is instructions
  filled_bytes   set by `rep` or by calls of memset
  recv, send     calls that would be the kernel's
  allocations    and messages: to control, and from reactor to reactor
  turns          of all reactors

A figure that is over 3 % off its baseline fails, either way: what got better is to be kept. --record writes the new baselines, of
all cases or those named; they go into a commit of their own, which says why. The counts depend on the compiler, so the
baselines name theirs. CRC32C picks its instructions by the processor, as far as valgrind knows it: x86-64 with AVX2 is taken for
granted. --top shows where instructions and moves are, N lines each. --strace counts system calls per command over real sockets,
with bench/load at the other end of a release build: they depend on who is faster, the more so under strace, and are not compared.

It needs valgrind, objdump and addr2line (Debian: valgrind, binutils); `scripts/ci.sh counters` installs them. A file is not among
the disks, as its completions come when the kernel likes.
"""
import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import tomllib

from callgrind import Listing, Profile
from harness import ROOT, Checks, Lunette, expect

BASELINES = pathlib.Path(ROOT, "bench/counters.toml")
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")))
PROGRAM = TARGET / "dist/lunette-counters"
FIGURES = ("instructions", "locked", "data_bytes", "value_bytes", "filled_bytes", "recv", "send", "allocations", "messages",
           "turns")
TOLERANCE = 0.03
HEAD = """\
# What a command costs, counted by scripts/counters.py, which says what the figures are. One that is over 3 % off fails. After a
# change that is meant: scripts/counters.py --record, and a commit of its own that says why.
"""


def rustc():
    return subprocess.run(["rustc", "--version"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def build(*argv):
    subprocess.run(["cargo", "build", "--locked", *argv], cwd=ROOT, check=True)


def replay(listing, *argv):
    """What a replay counts in all, and its profile."""
    with tempfile.TemporaryDirectory() as work:
        out = pathlib.Path(work, "out")
        valgrind = ["setarch", "-R", "valgrind", "-q", "--tool=callgrind", "--dump-instr=yes", "--compress-pos=no",
                    "--compress-strings=no", f"--callgrind-out-file={out}", "--zero-before=*::World::measure"]
        names = ("counted_turn", "outside_ready", "outside_recv", "outside_send")
        valgrind += [f"--toggle-collect=*::{name}" for name in names]
        said = subprocess.run([*valgrind, PROGRAM, *argv], check=True, capture_output=True, text=True).stdout
        profile = Profile(out, listing)
    counts = {name: int(count) for name, count in map(str.split, said.splitlines())}
    return counts | {name: getattr(profile, name) for name in FIGURES if name not in counts}, profile


def per_command(counts):
    return {name: round(counts[name] / counts["commands"], 4) for name in FIGURES}


def compare(case, figures, baselines):
    """(how many figures are right, what is wrong with the others)"""
    if case not in baselines:
        return 0, [f"{case}: there is no baseline"]
    right, wrong = 0, []
    for name, now in figures.items():
        was = baselines[case].get(name)
        if was is not None and abs(now - was) <= TOLERANCE * was:
            right += 1
        else:
            change = f", {(now - was) / was:+.1%}" if was else ""
            wrong.append(f"{case}: {name} is {now}, was {was}{change}")
    return right, wrong


def text(baselines, compiler):
    """As it is written into the file."""
    lines = [f"{HEAD}rustc = {json.dumps(compiler)}\n"]
    for case, figures in baselines.items():
        lines.append(f"\n[{case}]\n" + "".join(f"{name} = {figures[name]}\n" for name in FIGURES))
    return "".join(lines)


def is_seen(listing):
    """Once a turn an allocation, a locked addition and a copy of a block are planted, and found."""
    plain, _ = replay(listing, "read_4k_qd1")
    planted, _ = replay(listing, "read_4k_qd1", "planted")
    turns = plain["turns"]
    found = {name: (planted[name] - plain[name]) / turns for name in ("allocations", "locked", "data_bytes", "messages", "turns")}
    expect(found == {"allocations": 1, "locked": 1, "data_bytes": 512, "messages": 0, "turns": 0}, f"found {found}")
    more = (planted["instructions"] - plain["instructions"]) / turns
    expect(10 < more < 1000, f"{more} instructions more")


def is_same(listing):
    """A second run counts the same."""
    first, second = (replay(listing, "write_4k")[0] for _ in range(2))
    expect(first == second, f"{first}, then {second}")


def gate(options):
    if "CI_BUILT" not in os.environ: # stage build has
        build("--profile", "dist", "-p", "lunette-counters")
    listing = Listing(PROGRAM)
    names = subprocess.run([PROGRAM], check=True, capture_output=True, text=True).stdout.split()
    cases = options.cases or names
    baselines = tomllib.loads(BASELINES.read_text()) if BASELINES.exists() else {}
    was_compiler, compiler = baselines.pop("rustc", None), rustc()
    checks = Checks()
    figures = {}
    for case in cases:
        counts, profile = replay(listing, case)
        figures[case] = per_command(counts)
        print(f"{case:20} " + "  ".join(f"{name} {value:g}" for name, value in figures[case].items()), flush=True)
        if options.top:
            profile.print_top(counts["commands"], options.top, ROOT)
    if options.record:
        # What was not counted now is kept where it can be compared.
        all_figures = (baselines if was_compiler == compiler else {}) | figures
        BASELINES.write_text(text({case: all_figures[case] for case in names if case in all_figures}, compiler))
        return 0
    if options.top:
        return 0
    for name, check in (("what is planted is seen", is_seen), ("two runs count the same", is_same)):
        checks.check(name, check, listing)
    if compiler != was_compiler:
        checks.failed += 1
        print(f"FAIL the baselines are {was_compiler}'s, and this is {compiler}: record them with it at the commit before yours, "
              "in a commit of its own, and then look at what yours changes")
        return checks.finish()
    wrong = []
    for case in cases:
        right, off = compare(case, figures[case], baselines)
        checks.passed += right
        wrong += off
    wrong += [f"{case}: there is no such case" for case in baselines if case not in names]
    checks.failed += len(wrong)
    for line in wrong:
        print(f"FAIL {line}")
    if wrong:
        changed = {case: figures[case] for case in cases if any(line.startswith(f"{case}:") for line in wrong)}
        print("If that is meant: scripts/counters.py --record, and commit bench/counters.toml by itself, with the reason:\n")
        print(text(changed, compiler).removeprefix(HEAD))
    return checks.finish()


def syscalls(portal, pid, rw, depth):
    """Commands, and system calls of the target by name meanwhile."""
    load = os.environ.get("LOAD", TARGET / "release/lunette-load")
    with tempfile.TemporaryDirectory() as work:
        out = pathlib.Path(work, "out")
        argv = ["strace", "-f", "-c", "-U", "calls,name", "-o", out, "-p", str(pid)]
        strace = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
        try:
            expect("attached" in strace.stderr.readline(), "strace cannot look at the target")
            argv = [load, "--portal", portal, "--rw", rw, "--qd", str(depth)]
            argv += ["--seconds", "2", "--warmup", "0", "--json", "--quiet"]
            said = json.loads(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)
        finally:
            strace.send_signal(signal.SIGINT)
            strace.wait(timeout=60)
        rows = [line.split() for line in out.read_text().splitlines()]
    return said["ios"], {row[1]: int(row[0]) for row in rows if len(row) == 2 and row[0].isdigit() and row[1] != "total"}


def over_sockets():
    build("--release", "-p", "lunette", "-p", "lunette-load", "--bin", "lunette", "--bin", "lunette-load")
    print("system calls per command of 4 KiB, one session, under strace:")
    for rw in ("randread", "randwrite"):
        for depth in (1, 32):
            with Lunette((256,)) as lunette:
                commands, counts = syscalls(lunette.portals[0], lunette.process.pid, rw, depth)
            most = sorted(counts.items(), key=lambda item: -item[1])[:5]
            each = ", ".join(f"{name} {count / commands:.3f}" for name, count in most)
            print(f"{rw:9} QD {depth:2}: {sum(counts.values()) / commands:7.3f} of {commands} commands: {each}", flush=True)
    return 0


def self_test():
    """The judgement above, shown to say no."""
    good = {"a": {"instructions": 100.0, "locked": 0.0}}
    same = good["a"]
    cases = [
        ("the same", compare("a", same, good), (2, [])),
        ("3 % more", compare("a", same | {"instructions": 103.0}, good), (2, [])),
        ("over 3 % more", compare("a", same | {"instructions": 103.1}, good),
         (1, ["a: instructions is 103.1, was 100.0, +3.1%"])),
        ("over 3 % less", compare("a", same | {"instructions": 96.9}, good),
         (1, ["a: instructions is 96.9, was 100.0, -3.1%"])),
        ("anything where there was nothing", compare("a", same | {"locked": 0.0001}, good),
         (1, ["a: locked is 0.0001, was 0.0"])),
        ("no such case", compare("b", same, good), (0, ["b: there is no baseline"])),
        ("no such figure", compare("a", {"turns": 1.0}, good), (0, ["a: turns is 1.0, was None"])),
        ("what is written is read", tomllib.loads(text({"a": dict.fromkeys(FIGURES, 1.5)}, 'rustc "1"')),
         {"rustc": 'rustc "1"', "a": dict.fromkeys(FIGURES, 1.5)}),
    ]
    checks = Checks()
    for name, got, want in cases:
        checks.check(name, expect, got == want, f"{got!r}, not {want!r}")
    return checks.finish()


def main():
    a = argparse.ArgumentParser()
    a.add_argument("cases", nargs="*", metavar="CASE")
    a.add_argument("--record", action="store_true")
    a.add_argument("--top", type=int, metavar="N")
    a.add_argument("--strace", action="store_true")
    a.add_argument("--self-test", action="store_true")
    a = a.parse_args()
    if a.self_test:
        return self_test()
    return over_sockets() if a.strace else gate(a)


if __name__ == "__main__":
    sys.exit(main())
