#!/usr/bin/env python3
"""Holds a medium against the journal of `recorder`: each write that was answered before the last answered FUA write of
its place, or before the last answered SYNCHRONIZE CACHE was sent, must be there, or a later one of the same place. WRITE SAME
and UNMAP are writes, the latter of zeroes.

powercut.py image JOURNAL FILE                    what was left after the cut
powercut.py log JOURNAL LOG [--points N] [--seed N]   a log of dm-log-writes, cut at random points

At each point of a log, what a device may lose is lost: of the writes that no flush covers and that have no FUA all in
every second point, any of them in the others. What had been answered by then is told by the log itself: a write in it
was sent after everything that stands before it in the journal.

Status 0: nothing is lost; 3: something is; 1: the files say too little to judge, or are not what they should be.
"""
import argparse
import random
import struct
import sys

MAGIC = 0x6c756e6574746521
SECTOR = 512
RECORD_BYTES = 32
# struct log_write_super and log_write_entry of the kernel's drivers/md/dm-log-writes.c
LOG_MAGIC = 0x6a736677736872
SUPER, ENTRY = struct.Struct("<QQQI"), struct.Struct("<QQQQ")
FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8
REQUIRED_SHARE = 0.5  # of the points must demand something, or the test says nothing
SHOWN = 5


class Unusable(Exception):
    pass


class Journal:
    def __init__(self, path):
        self.slot_of = {}  # write number -> slot
        self.position = {}  # write number -> where in the journal it was sent
        self.sames = set()  # numbers of WRITE SAME
        self.zeroed = {}  # slot -> number of its last UNMAP
        self.events = []
        with open(path) as lines:
            kind, slots, blocks, block_bytes = next(lines).split()
            if kind != "disk" or int(block_bytes) != SECTOR:
                raise Unusable(f"{path}: not a journal of a disk with blocks of {SECTOR} bytes")
            self.slots, self.blocks = int(slots), int(blocks)
            for line in lines:
                kind, number, *rest = line.split()
                number = int(number)
                if kind in "wmz":
                    self.slot_of[number] = int(rest[0])
                    self.position[number] = len(self.events)
                if kind == "m":
                    self.sames.add(number)
                elif kind == "z":
                    self.zeroed[int(rest[0])] = number
                self.events.append((kind, number, kind in "wmz" and rest[1] == "1"))

    def number_of(self, block, lba):
        """The number of the write that a block holds. Zeroes are what the slot's last UNMAP has left, or else 0: nothing was
        written. None: it holds something else."""
        if not any(block):
            return self.zeroed.get(lba // self.blocks, 0)
        magic, at, number, check = struct.unpack_from(">4Q", block)
        whole = block == block[:RECORD_BYTES] * (len(block) // RECORD_BYTES)
        place = lba - lba % self.blocks if number in self.sames else lba
        return number if whole and magic == MAGIC and at == place and check == magic ^ at ^ number else None

    def required(self, positions):
        """For each position, ascending: per slot the oldest write that it may hold, of what was answered before."""
        answered, required = [0] * self.slots, [0] * self.slots
        fua, at_sync = set(), {}
        wanted = iter(positions)
        position = next(wanted, None)
        for at in range(len(self.events) + 1):
            while position is not None and position <= at:
                yield list(required)
                position = next(wanted, None)
            if at == len(self.events):
                return
            kind, number, is_fua = self.events[at]
            if is_fua:
                fua.add(number)
            elif kind == "s":
                at_sync[number] = list(answered)
            elif kind == "d" and number in at_sync:
                required = list(map(max, required, at_sync.pop(number)))
            elif kind == "d":
                slot = self.slot_of[number]
                answered[slot] = max(answered[slot], number)
                if number in fua:
                    required[slot] = max(required[slot], number)

    def losses(self, required, numbers):
        """What `numbers`, a list of one per block, lacks."""
        lost = []
        for lba, number in enumerate(numbers):
            slot = lba // self.blocks
            if number is None:
                lost.append(f"block {lba} holds something that was never written there")
            elif number and self.slot_of.get(number) != slot:
                lost.append(f"block {lba} of slot {slot} holds write {number}, which was for another")
            elif number < required[slot]:
                lost.append(f"block {lba} of slot {slot} holds write {number}, not {required[slot]} or a later one")
        return lost


def report(losses):
    for loss in losses[:SHOWN]:
        print(f"LOST: {loss}")
    if len(losses) > SHOWN:
        print(f"LOST: and {len(losses) - SHOWN} more")
    return 3 if losses else 0


def judge_image(journal, path):
    with open(path, "rb") as image:
        data = image.read(journal.slots * journal.blocks * SECTOR)
    if len(data) != journal.slots * journal.blocks * SECTOR:
        raise Unusable(f"{path}: {len(data)} bytes are not the whole disk")
    numbers = [journal.number_of(data[lba * SECTOR:(lba + 1) * SECTOR], lba) for lba in range(len(data) // SECTOR)]
    required = next(journal.required([len(journal.events)]))
    demanding = sum(1 for number in required if number)
    unmapped = sum(1 for slot, number in journal.zeroed.items() if required[slot] == number)
    if not demanding or (journal.zeroed and not unmapped):
        raise Unusable("the journal demands nothing")
    print(f"{demanding} of {journal.slots} slots must hold something, {unmapped} of them zeroes of an UNMAP; "
          f"{sum(1 for n in numbers if n)} blocks do")
    return report(journal.losses(required, numbers))


def entries(path):
    """(flags, first LBA, data) of each entry of a log."""
    with open(path, "rb") as log:
        magic, version, count, sector_bytes = SUPER.unpack(log.read(SUPER.size))
        if (magic, version, sector_bytes) != (LOG_MAGIC, 1, SECTOR):
            raise Unusable(f"{path}: no log of dm-log-writes with sectors of {SECTOR} bytes")
        at = SECTOR
        for _ in range(count):
            log.seek(at)
            first, sectors, flags, _ = ENTRY.unpack(log.read(ENTRY.size))
            at += SECTOR
            if flags & DISCARD:
                raise Unusable("a discard, which nobody sent")
            log.seek(at)
            yield flags, first, log.read(sectors * SECTOR)
            at += sectors * SECTOR


def cuts(journal, log, points, source):
    """For each point: how far the journal is known to have come, what the medium holds, where it is."""
    stable = [0] * (journal.slots * journal.blocks)
    pending, known = [], 0
    for at, (flags, first, data) in enumerate(log, 1):
        if flags & FLUSH:
            for lba, number in pending:
                stable[lba] = max(stable[lba], number)
            pending = []
        for offset in range(len(data) // SECTOR):
            lba = first + offset
            number = journal.number_of(data[offset * SECTOR:(offset + 1) * SECTOR], lba)
            if not number:
                raise Unusable(f"entry {at}: block {lba} was written with something strange")
            known = max(known, journal.position[number])
            # The log has a FUA write before what it replaces in a cache: a medium never goes back to that.
            if flags & FUA:
                stable[lba] = max(stable[lba], number)
            else:
                pending.append((lba, number))
        if at in points:
            medium = list(stable)
            if source.randrange(2):
                for lba, number in pending:
                    if source.randrange(2):
                        medium[lba] = max(medium[lba], number)
            yield at, known, medium


def judge_log(journal, path, count, seed):
    source = random.Random(seed)
    if journal.zeroed:
        # In a log that is replayed in part, zeroes do not tell which UNMAP they are of; dm-log-writes takes none in any case.
        raise Unusable("a log with UNMAP")
    log = list(entries(path))
    if len(log) < 10 * count:
        raise Unusable(f"{len(log)} entries are too few for {count} points")
    found = list(cuts(journal, log, set(source.sample(range(1, len(log) + 1), count)), source))
    lost, demanding = [], 0
    for (at, _, medium), required in zip(found, journal.required([known for _, known, _ in found])):
        demanding += any(required)
        lost += [f"cut after entry {at}: {loss}" for loss in journal.losses(required, medium)[:1]]
    flags = [sum(1 for entry in log if entry[0] & flag) for flag in (FLUSH, FUA)]
    print(f"{len(log)} entries, of these {flags[0]} flushes and {flags[1]} with FUA; {len(found)} cuts, "
          f"{demanding} of them demand something, {len(lost)} lost something")
    if demanding < REQUIRED_SHARE * count and not lost:
        raise Unusable("the cuts demand too little")
    return report(lost)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=("image", "log"))
    parser.add_argument("journal")
    parser.add_argument("medium")
    parser.add_argument("--points", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    try:
        journal = Journal(args.journal)
        if args.kind == "image":
            return judge_image(journal, args.medium)
        return judge_log(journal, args.medium, args.points, args.seed)
    except Unusable as error:
        print(f"powercut: {error}", file=sys.stderr)
        return 1


sys.exit(main())
