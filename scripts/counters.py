#!/usr/bin/env python3
"""counters.py [CASE...] - what an IO costs, counted exactly, and compared with bench/counters.toml.

bench/counters replays fixed work on reactors under callgrind; nothing in it depends on time. Counted per command:

  instructions   those of the reactor's turn, in user space. What stands for the kernel is left out, and `rep` counts once
  locked         those of them with a lock: `lock` prefixes, and `xchg` with memory
  data_bytes     bytes copied in whole blocks, or 8 KiB and more at once: data
  value_bytes    bytes moved otherwise, as far as by `rep` or calls of memcpy and the like
  filled_bytes   bytes set, as far as by `rep` or calls of memset
  recv, send     calls that would be the kernel's
  allocations, messages (to control and from reactor to reactor), turns

  --write        print the baselines as they would be now
  --top [N]      print where instructions and moves are, N lines each (40)
  --build        build only

A figure that is over 3 % off its baseline, either way, fails. The new baseline goes into a commit of its own, with the reason.
"""

import argparse
import collections
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
BASELINES = ROOT / "bench" / "counters.toml"
PROGRAM = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "dist" / "lunette-counters"
FIGURES = ["instructions", "locked", "data_bytes", "value_bytes", "filled_bytes", "recv", "send", "allocations", "messages", "turns"]
TOLERANCE = 0.03
MOVES = ("memcpy", "memmove", "memset")
REP = re.compile(r"rep\S* (?:movs|stos)(.*)")
STEP_BYTES = {"%rax": 8, "%eax": 4, "%ax": 2, "%al": 1}


class Listing:
    """The program's instructions, by address."""

    def __init__(self, program):
        self.texts, self.order = {}, {}
        text = subprocess.run(["objdump", "-d", "--no-show-raw-insn", program], check=True, capture_output=True, text=True).stdout
        previous = None
        for line in text.splitlines():
            match = re.match(r"\s*([0-9a-f]+):\t(.*)", line)
            if match:
                address = int(match[1], 16)
                self.texts[address] = match[2].strip()
                if previous is not None:
                    self.order[previous] = address
                previous = address
        self.before = {after: before for before, after in self.order.items()}

    def is_locked(self, address):
        text = self.texts[address]
        return text.startswith("lock ") or (text.startswith("xchg") and "(" in text)

    def is_data(self, address, size):
        """Whether the moves there, of `size` bytes in the mean, are copies of data. bench/counters/src/moves.rs tells them apart one by
        one, and has a `nop` before those that are."""
        return self.texts[self.before[address]] == "nop" or size % 512 == 0 or size >= 8192

    def step(self, address):
        """(bytes a step, whether it sets rather than moves) of a string instruction."""
        match = REP.match(self.texts[address])
        if not match:
            return None
        operands = match[1]
        is_fill = "stos" in self.texts[address]
        if is_fill:
            return STEP_BYTES[operands.split(",")[0].split()[-1]], True
        return {"b": 1, "w": 2, "l": 4, "q": 8}[operands[0]], False


class Profile:
    """What callgrind has written: executions by (function, address), and calls."""

    def __init__(self, path, listing):
        self.executed = collections.Counter()
        self.calls = []  # (function, address, callee, cost)
        function, callee, is_call = None, None, False
        for line in path.read_text().splitlines():
            if line.startswith("fn="):
                function = line[3:]
            elif line.startswith("cfn="):
                callee = line[4:]
            elif line.startswith("calls="):
                is_call = True  # how many it does not tell: those count that were made while nothing was collected
            elif line.startswith("0x"):
                address, _, count = line.split()
                if is_call:
                    if int(count):
                        self.calls.append((function, int(address, 16), callee, int(count)))
                    is_call = False
                else:
                    self.executed[function, int(address, 16)] += int(count)
        # Not those that only enclose what counts.
        self.calls = [call for call in self.calls if self.executed[call[0], call[1]]]
        by_address = collections.Counter()
        for (_, address), count in self.executed.items():
            by_address[address] += count
        unknown = {function for function, address in self.executed if address not in listing.texts}
        assert not unknown, f"instructions outside of the program: {unknown}"
        self.steps = collections.Counter()
        self.data_bytes = self.value_bytes = self.filled_bytes = self.locked = 0
        for address, count in by_address.items():
            self.locked += count * listing.is_locked(address)
            if (step := listing.step(address)) is None:
                continue
            # It is begun as often as its neighbours are executed; where one of them is reached in other ways too, the other tells.
            neighbours = [listing.order[address]]
            if not listing.texts[listing.before[address]].startswith("jmp"):
                neighbours.append(listing.before[address])
            begun = min(count, *(by_address[neighbour] for neighbour in neighbours))
            # Each ends with one step that finds nothing left to do.
            size = (count - begun) * step[0]
            if step[1]:
                self.filled_bytes += size
            elif begun and listing.is_data(address, size / begun):
                self.data_bytes += size
            else:
                self.value_bytes += size
            (function,) = [key[0] for key in self.executed if key[1] == address]
            self.executed[function, address] = begun
            self.steps[function] += count - begun
        self.instructions = sum(self.executed.values())
        self.cost = collections.Counter()
        for (function, _), count in self.executed.items():
            self.cost[function] += count
        for function in self.steps:
            self.cost[function] += self.steps[function]
        for function, _, _, cost in self.calls:
            self.cost[function] += cost
        self.known = {}

    def all_steps(self, function):
        """Steps of `rep` beyond the first, in a function and below."""
        if function not in self.known:
            self.known[function] = self.steps[function]
            below = sum(self.steps_below(callee, cost) for caller, _, callee, cost in self.calls if caller == function)
            self.known[function] = self.steps[function] + below
        return self.known[function]

    def steps_below(self, callee, cost):
        """Those of calls that cost so much: all calls of a function have their share, in proportion."""
        return cost * self.all_steps(callee) / self.cost[callee] if self.cost[callee] else 0


def replay(case, listing):
    """The figures of a case, per command, and its profile."""
    with tempfile.TemporaryDirectory() as work:
        out = pathlib.Path(work) / "out"
        command = ["setarch", "-R", "valgrind", "-q", "--tool=callgrind", "--dump-instr=yes", "--compress-pos=no", "--compress-strings=no"]
        command += [f"--callgrind-out-file={out}"]
        command += ["--zero-before=*::World::measure"]
        command += [f"--toggle-collect=*::{name}" for name in ("counted_turn", "outside_ready", "outside_recv", "outside_send")] + [PROGRAM, case]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        profile = Profile(out, listing)
    counts = dict((name, int(count)) for name, count in map(str.split, said.splitlines()))
    counts |= {name: getattr(profile, name) for name in FIGURES if hasattr(profile, name)}
    return {name: counts[name] / counts["commands"] for name in FIGURES}, profile, counts["commands"]


def frames(addresses):
    """By address: the functions of ours it belongs to with their files, the innermost of those inlined first."""
    ask = "".join(f"{address:#x}\n" for address in addresses)
    command = ["addr2line", "-a", "-C", "-i", "-f", "-e", PROGRAM]
    said = subprocess.run(command, input=ask, check=True, capture_output=True, text=True).stdout
    found, chain = {}, None
    lines = iter(said.splitlines())
    for line in lines:
        if line.startswith("0x"):
            chain = found.setdefault(int(line, 16), [])
            continue
        place = next(lines).split(":")[0]
        name, generics = line.replace("->", ""), 1
        while generics:
            name, generics = re.subn("<[^<>]*>", "", name)
        if place.startswith(str(ROOT)):
            chain.append(f"{name.split('::')[-1]} ({os.path.relpath(place, ROOT)})")
        elif "registry" in place:
            chain.append("crate " + place.split("registry")[1].split("/")[3])
    return {address: chain or ["library"] for address, chain in found.items()}


def top(profile, commands, count):
    """Where it goes, inlined functions by name; what the standard library does is its caller's."""
    chains = frames(sorted({address for _, address in profile.executed}))
    own, inclusive = collections.Counter(), collections.Counter()
    for (_, address), executed in profile.executed.items():
        own[chains[address][0]] += executed
        for name in set(chains[address]):
            inclusive[name] += executed
    for function, address, callee, cost in profile.calls:
        cost -= profile.steps_below(callee, cost)
        for name in set(chains[address]):
            inclusive[name] += cost
    for title, table in (("own", own), ("with what it calls", inclusive)):
        print(f"instructions per command, {title}:")
        for name, executed in table.most_common(count):
            print(f"  {executed / commands:10.1f}  {name}")
    print("calls of memcpy and the like per command, bytes of each (about), where:")
    for callee in MOVES:
        sites = [(cost, address, profile.executed[function, address]) for function, address, name, cost in profile.calls if name == callee]
        for cost, address, calls in sorted(sites, reverse=True)[:count]:
            # What is not a step is the same for all, but for an instruction or two.
            size = cost / calls - (profile.cost[callee] - profile.steps[callee]) / sum(site[2] for site in sites)
            print(f"  {calls / commands:8.2f} {size:8.0f}  {callee} in {' < '.join(chains[address][:5])}")


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("cases", nargs="*")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--build", action="store_true")
    parser.add_argument("--top", type=int, nargs="?", const=40)
    options = parser.parse_args()
    subprocess.run(["cargo", "build", "--locked", "--profile", "dist", "-p", "lunette-counters"], cwd=ROOT, check=True)
    listing = Listing(PROGRAM)
    names = subprocess.run([PROGRAM], check=True, capture_output=True, text=True).stdout.split()
    for case in options.cases or names:
        figures, profile, commands = replay(case, listing)
        print(case, {name: round(value, 2) for name, value in figures.items()})
        if options.top:
            top(profile, commands, options.top)


if __name__ == "__main__":
    main()
