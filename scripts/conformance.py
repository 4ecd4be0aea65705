#!/usr/bin/env python3
"""libiscsi's iscsi-test-cu against lunette's RAM disk, and against Debian's tgt in the same run.

conformance.py [--record] [--match REGEX] [--out DIR] [--target lunette|tgt] [--expected FILE]

Every test runs by itself under a time limit. What lunette's tests end with must be exactly what conformance.toml says:
a test listed there under [skip] or [fail] must end so and have a reason, any other must pass. A listed test that
passes, a name that the tool does not have, and another number of tests are failures too; a timeout or a crash cannot be
listed. --record rewrites the file from this run and keeps the reasons; what is new in it says UNEXPLAINED, which
fails until somebody writes why. tgt is only there to compare with. Results land in DIR: table.md, *.tsv, *.log.
"""
import argparse
import os
import re
import subprocess
import sys
import time
import tomllib

from harness import ROOT, TARGETS

TOOL = "iscsi-test-cu"
LIMIT_SECONDS = 30
DISK_MIB = 256
UNEXPLAINED = "UNEXPLAINED"
# A listed failure whose reason begins so may end in a crash of the tool as well: tgt's does, too.
TOOL_IS_WRONG = "the tool is wrong"
HEAD = """\
# What libiscsi's iscsi-test-cu is expected to end with on lunette's RAM disk where that is not a pass, and why.
# scripts/conformance.py compares exactly: a listed test that starts to pass is a failure, and so is an unlisted one
# that does not. After a change: scripts/conformance.py --record, then write the reasons.
"""


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
    skips = [s for s in re.findall(r"\[SKIPPED\].*", body) if "REPORT_SUPPORTED_OPCODES" not in s]
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


def run_suite(kind, tests, out_dir):
    """{name: (result, seconds, reason)} of every test on a fresh target."""
    results = {}
    with kind(disks_mib=[DISK_MIB], options=["--idle", "park", "-m", "0x3"]) as target:
        url = target.url()
        with open(os.path.join(out_dir, f"{kind.name}.log"), "w") as log:
            for name in tests:
                start = time.monotonic()
                # The URL twice: the second is the other path of the multipath tests, a session of its own.
                argv = [TOOL, "-d", "-f", "-v", f"--test=ALL.{name}", url, url]
                process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                           stderr=subprocess.STDOUT, text=True, errors="replace")
                try:
                    out, code = process.communicate(timeout=LIMIT_SECONDS)[0], process.returncode
                except subprocess.TimeoutExpired:
                    process.kill()
                    out, code = process.communicate()[0], None
                result, reason = judge(out, code)
                results[name] = (result, time.monotonic() - start, reason)
                log.write(f"=== {name}: {result}\n{out}\n")
                target.alive()
    with open(os.path.join(out_dir, f"{kind.name}.tsv"), "w") as f:
        for name, (result, seconds, reason) in results.items():
            f.write(f"{name}\t{result}\t{seconds:.2f}\t{reason}\n")
    return results


def compare(results, expected, partial=False):
    """(number of tests that ended as expected, what is wrong: one line each)."""
    wrong = []
    listed = {name: (kind, reason) for kind in ("skip", "fail") for name, reason in expected.get(kind, {}).items()}
    if not partial:
        wrong += [f"{name}: listed, but the tool has no such test" for name in listed if name not in results]
        if expected.get("tests") != len(results):
            wrong.append(f"{len(results)} tests, but {expected.get('tests')} are expected")
    right = 0
    for name, (result, _, why) in results.items():
        want, reason = listed.get(name, ("pass", None))
        if result == "crash" and want == "fail" and reason.startswith(TOOL_IS_WRONG):
            result = "fail"
        if result != want:
            wrong.append(f"{name}: {result} where {want} is expected{': ' + why if why else ''}")
        elif reason is not None and (not reason.strip() or UNEXPLAINED in reason):
            wrong.append(f"{name}: listed without a reason")
        else:
            right += 1
    return right, wrong


def record(results, expected):
    """The text of a new conformance.toml. What timed out or crashed is left out, so that it stays a failure."""
    text = HEAD + f"tests = {len(results)}\n"
    for kind in ("skip", "fail"):
        text += f"\n[{kind}]\n"
        old = expected.get(kind, {})
        known = old if kind == "fail" else {}
        crashed = [n for n, r in results.items() if r[0] == "crash" and known.get(n, "").startswith(TOOL_IS_WRONG)]
        for name in sorted([n for n, r in results.items() if r[0] == kind] + (crashed if kind == "fail" else [])):
            reason = old.get(name) or f"{UNEXPLAINED}: {results[name][2]}"
            text += '"%s" = "%s"\n' % (name, reason.replace("\\", "\\\\").replace('"', '\\"'))
    return text


def table(results, peer):
    def tally(of):
        found = [r[0] for r in of.values()]
        return ", ".join(f"{found.count(word)} {word}" for word in dict.fromkeys(["pass", "skip", "fail", *found]))

    lines = [f"lunette: {tally(results)}", "", f"tgt: {tally(peer)}", "", "| test | lunette | tgt |", "| --- | --- | --- |"]
    lines += [f"| {name} | {results[name][0]} | {peer[name][0]} |" for name in results]
    return "\n".join(lines) + "\n"


def self_test():
    """The judgement above, shown to say no: prints one line per case like any other script of checks."""
    def text(failed, body="", passed=1):
        return f"look\n[SKIPPED] early\nSuite: s\n{body}\n   tests  1  1  {passed}  {failed}  0\n"

    ran = {"A.a": ("pass", 0, ""), "B.b": ("skip", 0, "[SKIPPED] x"), "C.c": ("fail", 0, "boo")}
    good = {"tests": 3, "skip": {"B.b": "no tape drive"}, "fail": {"C.c": "the test is wrong: …"}}
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
        ("as expected", compare(ran, good), (3, [])),
        ("unlisted skip", len(compare(ran, good | {"skip": {}})[1]), 1),
        ("listed one passes", len(compare(ran | {"C.c": ("pass", 0, "")}, good)[1]), 1),
        ("skip turns to fail", len(compare(ran | {"B.b": ("fail", 0, "")}, good)[1]), 1),
        ("no reason", len(compare(ran, good | {"fail": {"C.c": " "}})[1]), 1),
        ("unexplained", len(compare(ran, good | {"fail": {"C.c": f"{UNEXPLAINED}: boo"}})[1]), 1),
        ("unknown name", len(compare(ran, good | {"skip": good["skip"] | {"D.d": "x"}})[1]), 1),
        ("a test less", len(compare(ran, good | {"tests": 4})[1]), 1),
        ("a crash of the tool", compare(ran | {"C.c": ("crash", 0, "")}, good | {"fail": {"C.c": TOOL_IS_WRONG}}), (3, [])),
        ("another crash", len(compare(ran | {"C.c": ("crash", 0, "")}, good)[1]), 1),
        ("a timeout is never listed", len(compare(ran | {"C.c": ("timeout", 0, "")}, good)[1]), 1),
        ("record keeps reasons", tomllib.loads(record(ran, good)), good),
        ("record quotes", tomllib.loads(record(quoted, {}))["fail"], {"A.a": f'{UNEXPLAINED}: say "no" \\ then'}),
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
    a.add_argument("--target", choices=TARGETS, default="lunette")
    a.add_argument("--expected", default=os.path.join(ROOT, "conformance.toml"))
    a = a.parse_args()
    if a.self_test:
        return self_test()
    os.makedirs(a.out, exist_ok=True)
    tests = [n for n in names() if re.search(a.match or "", n)]
    results = run_suite(TARGETS[a.target], tests, a.out)
    peer = run_suite(TARGETS["tgt"], tests, a.out)
    text = table(results, peer)
    with open(os.path.join(a.out, "table.md"), "w") as f:
        f.write(text)
    print("\n".join(line for line in text.splitlines()[:3] if line))
    print(f"the table: {os.path.relpath(f.name)}")
    expected = {}
    if os.path.exists(a.expected):
        with open(a.expected, "rb") as f:
            expected = tomllib.load(f)
    if a.record and not a.match:
        with open(a.expected, "w") as f:
            f.write(record(results, expected))
        with open(a.expected, "rb") as f:
            expected = tomllib.load(f)
    right, wrong = compare(results, expected, partial=bool(a.match))
    for line in wrong:
        print(f"FAIL {line}")
    listed = sum(len(expected.get(kind, {})) for kind in ("skip", "fail"))
    print(f"{right} as expected; conformance.toml lists {listed} exceptions")
    print(f"checks: {right} passed, {len(wrong)} failed, 0 skipped")
    return 1 if wrong or not right else 0


if __name__ == "__main__":
    sys.exit(main())
