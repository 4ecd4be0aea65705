"""What callgrind has counted, instruction by instruction, beside the program's listing."""
import collections
import os
import re
import subprocess

MOVES = ("memcpy", "memmove", "memset")
STRING = re.compile(r"rep\S* (movs|stos)(.*)")
# How far a step of `rep movs` or `rep stos` goes: by the suffix of the first, the register of the other.
STEP_BYTES = {"b": 1, "w": 2, "l": 4, "q": 8, "al": 1, "ax": 2, "eax": 4, "rax": 8}


class Listing:
    """A program's instructions, by address."""

    def __init__(self, program):
        self.program, self.texts, self.next, self.previous = str(program), {}, {}, {}
        argv = ["objdump", "-d", "--no-show-raw-insn", program]
        last = None
        for line in subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines():
            if match := re.match(r"\s*([0-9a-f]+):\t(.*)", line):
                address = int(match[1], 16)
                self.texts[address] = match[2].strip()
                self.next[last], self.previous[address] = address, last
                last = address

    def is_locked(self, address):
        text = self.texts[address]
        return text.startswith(("lock ", "mfence")) or (text.startswith("xchg") and "(" in text)

    def string(self, address):
        """Whether it moves ("movs") or sets ("stos") a row of bytes, and how many a step; none where it is neither."""
        if not (match := STRING.match(self.texts[address])):
            return None
        size = match[2][0] if match[1] == "movs" else re.match(r" %(\w+)", match[2])[1]
        return match[1], STEP_BYTES[size]

    def is_data(self, address, size_bytes):
        """Whether the moves there, so long in the mean, are copies of data: whole blocks, or 8 KiB and more. Those of
        bench/counters/src/moves.rs have been told apart one by one: a `nop` stands before those that are."""
        return self.texts[self.previous[address]] == "nop" or size_bytes % 512 == 0 or size_bytes >= 8192


class Profile:
    """One run. Other objects than the program are counted, but not looked into."""

    def __init__(self, path, listing):
        self.listing = listing
        self.executed = collections.Counter()  # by function and address, which is none in other objects
        self.calls = []  # (function, address, callee, what it cost)
        self.read(path)
        self.by_address = collections.Counter()
        for (_, address), count in self.executed.items():
            self.by_address[address] += count
        self.steps = collections.Counter()  # of `rep` instructions beyond the first, by function
        self.data_bytes = self.value_bytes = self.filled_bytes = self.locked = 0
        for function, address in list(self.executed):
            if address is not None:
                self.locked += self.executed[function, address] * listing.is_locked(address)
                self.unroll(function, address)
        self.instructions = sum(self.executed.values())
        self.cost = self.steps.copy()
        for (function, _), count in self.executed.items():
            self.cost[function] += count
        for function, _, _, cost in self.calls:
            self.cost[function] += cost
        self.steps_known = {}

    def read(self, path):
        function = address = callee = None
        is_ours = is_call = False
        for line in path.read_text().splitlines():
            key, _, value = line.partition("=")
            if key == "ob":
                is_ours = os.path.realpath(value) == os.path.realpath(self.listing.program)
            elif key == "fn":
                function = value
            elif key == "cfn":
                callee = value
            elif key == "calls":
                is_call = True
            elif line.startswith("0x"):
                address, _, count = line.split()
                place = function, int(address, 16) if is_ours else None
                if is_call:
                    self.calls.append((*place, callee, int(count)))
                else:
                    self.executed[place] += int(count)
                is_call = False
        # Not those that only enclose what counts.
        self.calls = [call for call in self.calls if call[3] and self.executed[call[:2]]]

    def unroll(self, function, address):
        """A `rep` instruction counts as often as it is begun; callgrind counts its steps, and a last that finds nothing to do."""
        if not (string := self.listing.string(address)):
            return
        steps = self.by_address[address]
        # It is begun as often as its neighbours are executed; where one is reached in other ways too, the other tells.
        neighbours = [self.listing.next[address]]
        if not self.listing.texts[self.listing.previous[address]].startswith("jmp"):
            neighbours.append(self.listing.previous[address])
        begun = min(steps, *(self.by_address[neighbour] for neighbour in neighbours))
        size_bytes = (steps - begun) * string[1]
        if string[0] == "stos":
            self.filled_bytes += size_bytes
        elif begun and self.listing.is_data(address, size_bytes / begun):
            self.data_bytes += size_bytes
        else:
            self.value_bytes += size_bytes
        self.executed[function, address] = begun
        self.steps[function] += steps - begun

    def all_steps(self, function):
        """Steps of `rep` beyond the first, in a function and below it."""
        if function not in self.steps_known:
            self.steps_known[function] = self.steps[function]
            below = sum(self.steps_below(call[2], call[3]) for call in self.calls if call[0] == function)
            self.steps_known[function] += below
        return self.steps_known[function]

    def steps_below(self, callee, cost):
        """Those of calls that cost so much, about: all calls of a function have their share, in proportion."""
        return cost * self.all_steps(callee) / self.cost[callee] if self.cost[callee] else 0

    def print_top(self, commands, count, root):
        """Where it goes, per command, inlined functions by name; what the standard library does is its caller's."""
        chains = frames(self.listing.program, root, {place[1] for place in self.executed} - {None})
        chains[None] = ["other objects"]
        own, inclusive = collections.Counter(), collections.Counter()
        for (_, address), executed in self.executed.items():
            own[chains[address][0]] += executed
            for name in set(chains[address]):
                inclusive[name] += executed
        for _, address, callee, cost in self.calls:
            for name in set(chains[address]):
                inclusive[name] += cost - self.steps_below(callee, cost)
        for title, table in (("own", own), ("with what it calls", inclusive)):
            print(f"instructions per command, {title}:")
            for name, executed in table.most_common(count):
                print(f"  {executed / commands:10.1f}  {name}")
        print("calls of memcpy and the like per command, bytes of each (about), where:")
        for callee in MOVES:
            sites = [(cost, address, self.executed[function, address])
                     for function, address, name, cost in self.calls if name == callee]
            # What is not a step is the same for all, but for an instruction or two.
            overhead = (self.cost[callee] - self.steps[callee]) / max(1, sum(calls for _, _, calls in sites))
            for cost, address, calls in sorted(sites, key=lambda site: -site[0])[:count]:
                print(f"  {calls / commands:8.2f} {cost / calls - overhead:8.0f}  {callee} in {' < '.join(chains[address][:5])}")


def frames(program, root, addresses):
    """By address: the functions below `root` it belongs to with their files, the innermost of those inlined first."""
    ask = "".join(f"{address:#x}\n" for address in sorted(addresses))
    argv = ["addr2line", "-a", "-C", "-i", "-f", "-e", program]
    lines = iter(subprocess.run(argv, input=ask, check=True, capture_output=True, text=True).stdout.splitlines())
    found, chain = {}, None
    for line in lines:
        if line.startswith("0x"):
            chain = found.setdefault(int(line, 16), [])
            continue
        place = next(lines).split(":")[0]
        name, generics = line.replace("->", ""), 1
        while generics:
            name, generics = re.subn("<[^<>]*>", "", name)
        if place.startswith(str(root)):
            chain.append(f"{name.split('::')[-1]} ({os.path.relpath(place, root)})")
        elif "/registry/" in place:
            chain.append("crate " + place.split("/registry/")[1].split("/")[2])
    return {address: chain or ["library"] for address, chain in found.items()}
