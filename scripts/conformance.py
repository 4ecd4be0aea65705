#!/usr/bin/env python3
"""libiscsi's iscsi-test-cu against lunette's disks, and against Debian's tgt in the same run.

conformance.py [--record] [--runs N] [--match REGEX] [--out DIR] [--run NAME...] [--at NAME=URL]... [--expected FILE]

Each run is the whole suite at a disk at LUN 0 of a daemon of its own. Eight runs differ in seven ways, so that each two
settings meet in two of them: a RAM disk or a file, blocks of 512 or 4096 bytes, one path or two (portals of two groups), header digests, CHAP
(one way or mutual), InitialR2T, immediate data. Of the first three, which is what --runs 3 asks for, each has most of it.
Tests that ask for more find it, so that they do not skip: WRITE_PROTECTED ones the disk with SWP set by iscsi-swp, LARGE_BLOCKS ones a RAM
disk at LUN 1 that says it has larger physical blocks, where LUN 0 is a RAM disk, REMOVABLE ones a disk of the same kind whose medium
comes out at LUN 2, SLOW ones a slow disk at LUN 3, MULTIPATH ones two paths in any run. Every test runs by itself under a time limit.

What it ends with must be exactly what conformance.toml says: a test listed there under [skip] or [fail], or for some runs under
[SECTION.skip] or [SECTION.fail], must end so and have a reason; any other must pass. Sections of a run are parts of its name (file-512+chap: file,
file-512, chap) and the whole. Under `either` is what passes or not by an accident of the tool's, which its reason has to name. A listed test that passes, a name that the tool does not have, and another number of tests are failures
too; a timeout or a crash cannot be listed. --record rewrites the file from this run, which must be of all eight, and keeps the reasons; what is
new in it says UNEXPLAINED, which fails until somebody writes why. tgt is only there to compare with. Results land in DIR:
table.md, *.tsv, *.log.
"""
import argparse
import functools
import itertools
import json
import os
import re
import subprocess
import sys
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor

from harness import BINARY, MIB, ROOT, Target, Tgt, run, wait_until

TOOL = "iscsi-test-cu"
LIMIT_SECONDS = 60
DISK_MIB = 256
JOBS = 2  # disks at once: most of a test's time is waiting
WRITE_PROTECTED = ("ReadOnly.ReadOnlySBC",)
LARGE_BLOCKS = ("CompareAndWrite.InvalidDataOutSize", "WriteSame10.InvalidDataOutSize", "WriteSame10.UnmapUnaligned",
                "WriteSame16.InvalidDataOutSize", "WriteSame16.UnmapUnaligned")
# These find a disk at LUN 3 that is slow enough for them, and so many seconds: they look once a minute for what they wait for.
SLOW = {"Sanitize.Reset": 200}
SLOW_MIB = 8
MULTIPATH = "MultipathIO."
REMOVABLE = ("NoMedia.", "PreventAllow.", "StartStopUnit.Simple", "StartStopUnit.NoLoej")
UNEXPLAINED = "UNEXPLAINED"
# A listed failure whose reason begins so may end in a crash of the tool as well: tgt's does, too.
TOOL_IS_WRONG = "the tool is wrong"
KINDS = ("skip", "fail", "either")
HEAD = """\
# What libiscsi's iscsi-test-cu is expected to end with on lunette's disks where that is not a pass, and why: on all of
# them, then what only some of them end with. scripts/conformance.py compares exactly: a listed test that starts to pass is
# a failure, and so is an unlisted one that does not. After a change: scripts/conformance.py --record, then write the reasons.
"""


# The secrets of CHAP, each way.
CHAP = ("suite", "one-way-secret-1", "target", "other-way-secret")


class Disk(Target):
    """lunette with a disk at LUN 0, and what LARGE_BLOCKS and REMOVABLE say at LUN 1 and 2."""

    def __init__(self, kind, block_bytes, one_path=False, digest=False, chap=None, r2t=False, no_immediate=False):
        self.kind, self.block_bytes = kind, block_bytes
        self.one_path, self.digest, self.chap, self.r2t, self.no_immediate = one_path, digest, chap, r2t, no_immediate
        tags = (one_path and "one-path", digest and "digest", chap, r2t and "r2t", no_immediate and "no-immediate")
        self.name = "+".join([f"{kind}-{block_bytes}", *filter(None, tags)])

    def start(self):
        ready, config = (os.path.join(self.work, name) for name in ("ready", "config.json"))
        with open(config, "w") as f:
            json.dump(self.config(), f)
        self.spawn([BINARY, "serve", "-c", config, "--ready-file", ready, "--idle", "park", "-m", "0x3"])
        wait_until("ready file", 10, lambda: self.alive() and os.path.exists(ready))
        with open(ready) as f:
            self.portals = f.read().split()

    def config(self):
        """The calls that make the target, in the form that `lunette serve --config` reads."""
        def call(method, **params):
            return {"method": method, "params": params}

        size = {"block_size": self.block_bytes, "num_blocks": DISK_MIB * MIB // self.block_bytes}
        path = functools.partial(os.path.join, self.work)
        if self.kind == "malloc":
            bdevs = [call("bdev_malloc_create", name="disk", **size),
                     call("bdev_malloc_create", name="large", physical_block_size=8 * self.block_bytes, **size),
                     call("bdev_malloc_create", name="removable", lunette_removable=True, **size)]
            base = call("bdev_malloc_create", name="base", block_size=self.block_bytes,
                        num_blocks=SLOW_MIB * MIB // self.block_bytes)
        else:
            bdevs = [call("bdev_aio_create", name=name, filename=path(name), block_size=self.block_bytes,
                          lunette_create_size=DISK_MIB * MIB, lunette_removable=name == "removable") for name in ("disk", "removable")]
            base = call("bdev_aio_create", name="base", filename=path("base"), block_size=self.block_bytes,
                        lunette_create_size=SLOW_MIB * MIB)
        # Of a write of 256 KiB.
        us = {"avg_write_latency": 300_000, "p99_write_latency": 300_000, "avg_read_latency": 1, "p99_read_latency": 1}
        slow = call("bdev_delay_create", base_bdev_name="base", name="slow", **us)
        numbers = {"disk": 0, "large": 1, "removable": 2, "slow": 3}
        luns = [{"bdev_name": name, "lun_id": numbers[name]} for name in (bdev["params"]["name"] for bdev in [*bdevs, slow])]
        bdevs += [base, slow]
        iscsi = [
            call("iscsi_set_options", immediate_data=not self.no_immediate, lunette_initial_r2t=self.r2t),
            *(call("iscsi_create_portal_group", tag=tag, portals=[{"host": "127.0.0.1", "port": "0"}]) for tag in (1, 2)),
            call("iscsi_create_initiator_group", tag=1, initiators=["ANY"], netmasks=["ANY"]),
            call("iscsi_create_auth_group", tag=1, secrets=[dict(zip(("user", "secret", "muser", "msecret"), CHAP))]),
            call("iscsi_create_target_node", name=self.iqn, alias_name="", queue_depth=64, luns=luns, header_digest=self.digest,
                 require_chap=bool(self.chap), mutual_chap=self.chap == "mutual", chap_group=1,
                 pg_ig_maps=[{"pg_tag": tag, "ig_tag": 1} for tag in (1, 2)]),
        ]
        return {"subsystems": [{"subsystem": "bdev", "config": bdevs}, {"subsystem": "iscsi", "config": iscsi}]}

    def urls_for(self, test):
        lun = 0
        if test.startswith(REMOVABLE):
            lun = 2
        elif test in SLOW:
            lun = 3
        elif test in LARGE_BLOCKS and self.kind == "malloc":
            lun = 1
        login = f"{CHAP[0]}%{CHAP[1]}@" if self.chap else ""
        query = f"?target_user={CHAP[2]}&target_password={CHAP[3]}" if self.chap == "mutual" else ""
        paths = 1 if self.one_path and not test.startswith(MULTIPATH) else 2
        return [self.url(lun, portal, login, query) for portal in range(paths)]


class Elsewhere(Target):
    """A disk that somebody else serves: a lab's. Its URLs are apart by commas."""

    def __init__(self, name, urls):
        self.name, self._urls = name, urls.split(",")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def alive(self):
        return True

    def urls_for(self, _):
        return self._urls


class Peer(Tgt):
    def __init__(self):
        super().__init__(disks_mib=[DISK_MIB])

    def urls_for(self, _):
        # Its second path is a second session.
        return [self.url()] * 2


def write_protect(url, how):
    run("iscsi-swp", "-s", how, url, seconds=LIMIT_SECONDS)


def pairwise():
    """The eight runs: three bits and their sums, so that any two columns have each pair of bits twice."""
    mutual = itertools.cycle(("mutual", "chap"))
    for a, b, c in ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0), (1, 0, 0), (0, 0, 1), (0, 1, 0), (1, 1, 1)):
        yield Disk(("malloc", "file")[a], (512, 4096)[b], one_path=not c, digest=bool(a ^ b), chap=next(mutual) if a ^ c else None,
                   r2t=bool(b ^ c), no_immediate=bool(a ^ b ^ c))


RUNS = {run.name: run for run in pairwise()}


def names():
    out = subprocess.run([TOOL, "-l"], capture_output=True, text=True, check=True).stdout.split()
    return list(dict.fromkeys(n.removeprefix("ALL.") for n in out if n.startswith("ALL.") and n.count(".") == 2))


def judge(out, code):
    """(result, reason) of one test from what the tool printed; `code` is None when it ran out of time.

    What stands before "Suite:" is the tool's own look at the target. A test that goes on without REPORT SUPPORTED
    OPERATION CODES says so in a line like that of a skipped one.
    """
    body = out.partition("Suite:")[2]
    # What the tool's own tidying says behind a test's verdict (it looks for reservations) is no part of the test.
    verdict = re.search(r"^(.*?)(?<!\[)(?:passed|FAILED)([^\n]*\n(?:\s+\d+\. .*\n?)*)", body, re.S)
    if verdict:
        body = verdict[1] + re.sub(r"\[SKIPPED\].*", "", verdict[2])
    skips = [s for s in re.findall(r"\[SKIPPED\].*", body)
             if "REPORT_SUPPORTED_OPCODES" not in s or "not implemented according to" in s]
    fails = re.findall(r"\[FAILED\].*|^\s+\d+\. .*CU_.*", body, re.M)
    reason = re.sub(r"\s+", " ", (fails or skips or [""])[0]).strip()[:160]
    summary = re.search(r"^\s*tests\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)", out, re.M)  # total, ran, passed, failed
    if code is None:
        return "timeout", reason
    if code < 0:
        return "crash", reason or f"signal {-code}"
    if not summary:
        return "fail", reason or f"status {code}: {(out.strip().splitlines() or ['no output'])[-1][:120]}"
    if int(summary[4]) > 0:
        return "fail", reason
    if skips:
        return "skip", reason
    return ("pass", "") if int(summary[3]) > 0 else ("fail", "no test ran")


def run_suite(target, tests, out_dir):
    """{name: (result, seconds, reason)} of every test on this target, freshly started."""
    results = {}
    with target, open(os.path.join(out_dir, f"{target.name}.log"), "w") as log:
        for name in tests:
            urls = target.urls_for(name)
            is_protected = name in WRITE_PROTECTED and not isinstance(target, Peer)
            if is_protected:
                write_protect(urls[0], "on")
            start = time.monotonic()
            # The second is the other path of the multipath tests.
            # Line by line, so that one whose time is up has said how far it was.
            argv = ["stdbuf", "-oL", TOOL, "-d", "-f", "-v", "--allow-sanitize", f"--test=ALL.{name}", *urls]
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                       stderr=subprocess.STDOUT, text=True, errors="replace")
            try:
                limit_seconds = SLOW.get(name, LIMIT_SECONDS)
                out, code = process.communicate(timeout=limit_seconds)[0], process.returncode
            except subprocess.TimeoutExpired:
                process.kill()
                out, code = process.communicate()[0], None
            result, reason = judge(out, code)
            results[name] = (result, time.monotonic() - start, reason)
            if is_protected:
                write_protect(urls[0], "off")
            log.write(f"=== {name}: {result}\n{out}\n")
            target.alive()
    with open(os.path.join(out_dir, f"{target.name}.tsv"), "w") as f:
        for name, (result, seconds, reason) in results.items():
            f.write(f"{name}\t{result}\t{seconds:.2f}\t{reason}\n")
    return results


def sections(run):
    """The parts of conformance.toml that are about a run, beside what is about all."""
    disk, *tags = run.split("+")
    return list(dict.fromkeys([disk.partition("-")[0], disk, *tags, run]))


def listed(expected, run):
    """{name: (result, reason)} of what is listed for this run, and the names that are listed twice for it. What is listed as
    `either` passes or fails, by an accident of the tool's."""
    found, twice = {}, []
    for part in (expected, *(expected.get(section, {}) for section in sections(run))):
        for kind in KINDS:
            for name, reason in part.get(kind, {}).items():
                if name in found:
                    twice.append(name)
                found[name] = (kind, reason)
    return found, twice


def compare(disk, results, expected, is_part=False):
    """(number of tests that ended as expected, what is wrong: one line each)."""
    exceptions, wrong = listed(expected, disk)
    wrong = [f"{name}: listed twice" for name in wrong]
    if not is_part:
        wrong += [f"{name}: listed, but the tool has no such test" for name in exceptions if name not in results]
        if expected.get("tests") != len(results):
            wrong.append(f"{len(results)} tests, but {expected.get('tests')} are expected")
    right = 0
    for name, (result, _, why) in results.items():
        want, reason = exceptions.get(name, ("pass", None))
        if want != "pass" and reason.startswith(TOOL_IS_WRONG):
            result = "fail" if result == "crash" else result
            if want == "either" and result in ("pass", "fail"):
                want = result
        if result != want:
            wrong.append(f"{name}: {result} where {want} is expected{': ' + why if why else ''}")
        elif reason is not None and (not reason.strip() or UNEXPLAINED in reason):
            wrong.append(f"{name}: listed without a reason")
        else:
            right += 1
    return right, [f"{disk}: {line}" for line in wrong]


def record(results, expected):
    """The text of a new conformance.toml from {run: results}. What timed out or crashed is left out, so that it stays a
    failure; what all runs end with stands once, and what all of a section do once in that."""
    exceptions = {}
    for run, of in results.items():
        known, _ = listed(expected, run)
        for name, (result, _, why) in of.items():
            kind, reason = known.get(name, ("", ""))
            if kind == "either":
                result = kind
            if result == "crash" and kind == "fail" and reason.startswith(TOOL_IS_WRONG):
                result = "fail"
            if result in KINDS:
                reason = reason if kind == result else f"{UNEXPLAINED}: {why}"
                exceptions.setdefault((result, name, reason), set()).add(run)
    about = {"": set(results)}
    for run in results:
        for section in sections(run):
            about.setdefault(section, set()).add(run)
    tables = {}
    for (kind, name, reason), left in sorted(exceptions.items()):
        # The largest first; no run is told twice.
        for section, runs in sorted(about.items(), key=lambda item: -len(item[1])):
            if runs <= left and runs:
                tables.setdefault((section, kind), {})[name] = reason
                left = left - runs
    # What a lab ran with --at is kept as it is.
    for section, of in expected.items():
        if isinstance(of, dict) and section not in KINDS and section not in about:
            tables.update({(section, kind): reasons for kind, reasons in of.items()})
    text = HEAD + f"tests = {max(len(of) for of in results.values())}\n"
    for section, kind in sorted(tables, key=lambda key: (key[0], KINDS.index(key[1]))):
        prefix = f'"{section}".' if "+" in section else section and f"{section}."
        text += f"\n[{prefix}{kind}]\n"
        for name, reason in tables[section, kind].items():
            text += '"%s" = "%s"\n' % (name, reason.replace("\\", "\\\\").replace('"', '\\"'))
    return text


def table(results):
    def tally(of):
        found = [r[0] for r in of.values()]
        return ", ".join(f"{found.count(word)} {word}" for word in dict.fromkeys(["pass", "skip", "fail", *found]))

    lines = [f"{name}: {tally(of)}" for name, of in results.items()]
    lines += ["", f"| test | {' | '.join(results)} |", f"| --- {'| --- ' * len(results)}|"]
    for test in dict.fromkeys(test for of in results.values() for test in of):
        lines.append(f"| {test} | {' | '.join(of[test][0] for of in results.values())} |")
    return "\n".join(lines) + "\n"


def ways(runs, count):
    """{settings of so many kinds that meet in a run: in how many}"""
    met = {}
    for run in runs:
        settings = (run.kind, run.block_bytes, run.one_path, run.digest, bool(run.chap), run.r2t, run.no_immediate)
        for some in itertools.combinations(enumerate(settings), count):
            met[some] = met.get(some, 0) + 1
    return met


def self_test():
    """The judgement above, shown to say no: prints one line per case like any other script of checks."""
    def text(failed, body="", passed=1):
        return f"look\n[SKIPPED] early\nSuite: s\n{body}\n   tests  1  1  {passed}  {failed}  0\n"

    def wrongs(results, expected):
        return len(compare("d", results, expected)[1])

    ran = {"A.a": ("pass", 0, ""), "B.b": ("skip", 0, "[SKIPPED] x"), "C.c": ("fail", 0, "boo")}
    good = {"tests": 3, "skip": {"B.b": "no tape drive"}, "fail": {"C.c": "the test is wrong: …"}}
    split = {"tests": 3, "fail": good["fail"], "d": {"skip": good["skip"]}}
    tool = good | {"fail": {"C.c": TOOL_IS_WRONG}}
    quoted = {"A.a": ("fail", 0, 'say "no" \\ then')}
    cases = [
        ("pass", judge(text(0), 0), ("pass", "")),
        ("skip", judge(text(0, "[SKIPPED] no tape"), 0), ("skip", "[SKIPPED] no tape")),
        ("what follows the verdict is no skip", judge(text(0, "...passed [SKIPPED] x\n [SKIPPED] y"), 0), ("pass", "")),
        ("failure with asserts", judge(text(1, "...FAILED\n  1. a.c:1 - CU_X [SKIPPED] x"), 0), ("fail", "1. a.c:1 - CU_X")),
        ("opcodes are no skip", judge(text(0, "[SKIPPED] REPORT_SUPPORTED_OPCODES"), 0), ("pass", "")),
        ("fail", judge(text(1, "[FAILED] bad"), 1), ("fail", "[FAILED] bad")),
        ("nothing ran", judge(text(0, passed=0), 0)[0], "fail"),
        ("no summary", judge("Login Failed", 10), ("fail", "status 10: Login Failed")),
        ("timeout", judge("", None)[0], "timeout"),
        ("crash", judge("", -11), ("crash", "signal 11")),
        ("as expected", compare("d", ran, good), (3, [])),
        ("unlisted skip", compare("d", ran, good | {"skip": {}}), (2, ["d: B.b: skip where pass is expected: [SKIPPED] x"])),
        ("listed one passes", wrongs(ran | {"C.c": ("pass", 0, "")}, good), 1),
        ("skip turns to fail", wrongs(ran | {"B.b": ("fail", 0, "")}, good), 1),
        ("pass turns to skip", wrongs(ran | {"A.a": ("skip", 0, "")}, good), 1),
        ("no reason", wrongs(ran, good | {"fail": {"C.c": " "}}), 1),
        ("unexplained", wrongs(ran, good | {"fail": {"C.c": f"{UNEXPLAINED}: boo"}}), 1),
        ("unknown name", wrongs(ran, good | {"skip": good["skip"] | {"D.d": "x"}}), 1),
        ("a test less", wrongs(ran, good | {"tests": 4}), 1),
        ("a crash of the tool", compare("d", ran | {"C.c": ("crash", 0, "")}, tool), (3, [])),
        ("another crash", wrongs(ran | {"C.c": ("crash", 0, "")}, good), 1),
        ("a timeout is never listed", wrongs(ran | {"C.c": ("timeout", 0, "")}, tool), 1),
        ("for one disk", compare("d", ran, split), (3, [])),
        ("not for another", len(compare("e", ran, split)[1]), 1),
        ("twice for one disk", wrongs(ran, good | {"d": {"skip": good["skip"]}}), 1),
        ("record keeps reasons", tomllib.loads(record({"d": ran}, good)), good),
        ("record keeps what a disk has", tomllib.loads(record({"d": ran, "e": ran | {"B.b": ran["A.a"]}}, split)), split),
        ("record leaves crashes out", tomllib.loads(record({"d": ran | {"C.c": ("crash", 0, "")}}, good)),
         {"tests": 3, "skip": good["skip"]}),
        ("record lists crashes of the tool", tomllib.loads(record({"d": ran | {"C.c": ("crash", 0, "")}}, tool)), tool),
        ("sections of a run", sections("file-512+one-path+chap"),
         ["file", "file-512", "one-path", "chap", "file-512+one-path+chap"]),
        ("for runs that have something in common", [wrongs(ran, good | {"skip": {}, section: {"skip": good["skip"]}})
                                                    for section in ("x", "one")], [1, 1]),
        ("listed for a part of a name", len(compare("x-1+one", ran, good | {"skip": {}, "one": {"skip": good["skip"]}})[1]), 0),
        ("not for another part", len(compare("x-1+two", ran, good | {"skip": {}, "one": {"skip": good["skip"]}})[1]), 1),
        ("record finds what runs have in common",
         tomllib.loads(record({"x-1+one": ran, "y-2+one": ran, "x-2": ran | {"B.b": ran["A.a"]}}, {}))["one"],
         {"skip": {"B.b": f"{UNEXPLAINED}: [SKIPPED] x"}}),
        ("record names a single run",
         tomllib.loads(record({"x-1+one+two": ran, "x-2+one": ran | {"B.b": ran["A.a"]}, "y-1+two": ran | {"B.b": ran["A.a"]},
                               "x-1": ran | {"B.b": ran["A.a"]}}, {}))["x-1+one+two"], {"skip": {"B.b": f"{UNEXPLAINED}: [SKIPPED] x"}}),
        ("each two settings meet", sorted(set(ways(RUNS.values(), 2).values())), [2]),
        ("each setting is in the first three, immediate data apart", len(ways(list(RUNS.values())[:3], 1)), 13),
        ("either as it falls", [wrongs(ran | {"A.a": (result, 0, "")}, good | {"either": {"A.a": f"{TOOL_IS_WRONG}: it races"}})
                                for result in ("pass", "fail", "crash", "skip", "timeout")], [0, 0, 0, 1, 1]),
        ("either, but whose fault is it?", wrongs(ran, good | {"either": {"A.a": "it races"}}), 1),
        ("record keeps either", tomllib.loads(record({"d": ran}, good | {"either": {"A.a": TOOL_IS_WRONG}}))["either"], {"A.a": TOOL_IS_WRONG}),
        ("record quotes", tomllib.loads(record({"d": quoted}, {}))["fail"], {"A.a": f'{UNEXPLAINED}: say "no" \\ then'}),
    ]
    wrong = [(name, got, want) for name, got, want in cases if got != want]
    for name, got, want in wrong:
        print(f"FAIL {name}: {got!r}, not {want!r}")
    print(f"checks: {len(cases) - len(wrong)} passed, {len(wrong)} failed, 0 skipped")
    return 1 if wrong else 0


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--self-test", action="store_true")
    a.add_argument("--record", action="store_true")
    a.add_argument("--match", help="only tests whose name this finds; nothing is recorded then")
    a.add_argument("--out", default=os.path.join(ROOT, "target/ci/conformance"))
    a.add_argument("--runs", type=int, default=len(RUNS), help="so many of them, and tgt")
    a.add_argument("--run", action="append", choices=RUNS, help="only this one, without tgt; nothing is recorded then")
    a.add_argument("--at", action="append", metavar="NAME=URL[,URL]", help="only the disk that is served there; nothing is recorded then")
    a.add_argument("--expected", default=os.path.join(ROOT, "conformance.toml"))
    a = a.parse_args()
    if a.self_test:
        return self_test()
    os.makedirs(a.out, exist_ok=True)
    tests = [n for n in names() if re.search(a.match or "", n)]
    targets = [RUNS[name] for name in a.run or list(RUNS)[:a.runs]] + ([] if a.run else [Peer()])
    if a.at:
        targets = [Elsewhere(*at.split("=", 1)) for at in a.at]
    with ThreadPoolExecutor(JOBS) as pool:
        done = [(target.name, pool.submit(run_suite, target, tests, a.out)) for target in targets]
        results = {name: future.result() for name, future in done}
    text = table(results)
    with open(os.path.join(a.out, "table.md"), "w") as f:
        f.write(text)
    print(text.partition("\n\n")[0])
    print(f"the table: {os.path.relpath(f.name)}")
    expected = {}
    if os.path.exists(a.expected):
        with open(a.expected, "rb") as f:
            expected = tomllib.load(f)
    results.pop(Peer.name, None)
    if a.record and not (a.match or a.run or a.at) and len(results) == len(RUNS):
        with open(a.expected, "w") as f:
            f.write(record(results, expected))
        with open(a.expected, "rb") as f:
            expected = tomllib.load(f)
    right, wrong = 0, []
    for run_name, of in results.items():
        as_expected, other = compare(run_name, of, expected, is_part=bool(a.match))
        right, wrong = right + as_expected, wrong + other
    for line in wrong:
        print(f"FAIL {line}")
    print(f"checks: {right} passed, {len(wrong)} failed, 0 skipped")
    return 1 if wrong or not right else 0


if __name__ == "__main__":
    sys.exit(main())
