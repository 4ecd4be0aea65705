#!/usr/bin/env python3
"""Breaks code that docs/rfc7143.toml cites, one line at a time, and looks whether the first test cited there notices.

mutate.py [--count N] [--seed S] [--all] [--only TEXT] | --self-test

N rows that have a mutant are drawn by the seed (a new one each time, which is printed). The tree is copied to target/mutants, which
keeps a target directory of its own; what is in the way of people and of other stages is not touched. First the tests of all
rows drawn have to pass there as it is. Then each mutant has to compile, and its test to fail, or not to end in time.
"""
import argparse
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

import compliance
from compliance import section
from harness import ROOT, Checks, expect

WORK = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")), "mutants")
TREE = WORK / "tree"
# What is compiled again and again is best compiled quickly.
ENV = os.environ | {"CARGO_TARGET_DIR": str(WORK / "target"), "CARGO_INCREMENTAL": "1", "CARGO_PROFILE_TEST_OPT_LEVEL": "0",
                    "CARGO_PROFILE_DEV_OPT_LEVEL": "0", "CARGO_PROFILE_TEST_DEBUG": "0", "CARGO_PROFILE_DEV_DEBUG": "0"}
# Seconds: a test that waits for what does not come gives up after 10 by itself.
COMPILES, RUNS = 1800, 120


def copy_tree():
    """What git knows and what it would take in, as it stands now. Files that did not change keep their time."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True)
    wanted = {name for name in listed.stdout.splitlines() if pathlib.Path(ROOT, name).is_file()}
    for path in TREE.rglob("*"):
        if path.is_file() and str(path.relative_to(TREE)) not in wanted:
            path.unlink()
    for name in wanted:
        here, there = pathlib.Path(ROOT, name), TREE / name
        if not there.is_file() or here.read_bytes() != there.read_bytes():
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(here, there)


def kind(test):
    return ["--test", "it"] if test.startswith("it::") else ["--lib"]


def build(what):
    """The test binary; none where it does not compile."""
    argv = ["cargo", "test", "--locked", "--no-run", "--message-format=json", *what]
    done = subprocess.run(argv, cwd=TREE, env=ENV, capture_output=True, text=True, timeout=COMPILES)
    messages = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode != 0:
        errors = [message["message"]["rendered"] for message in messages
                  if message["reason"] == "compiler-message" and message["message"]["level"] == "error"]
        return None, "".join(errors) or done.stderr[-2000:]
    binaries = [message["executable"] for message in messages
                if message["reason"] == "compiler-artifact" and message["profile"]["test"] and message["executable"]]
    return binaries[-1], ""


def passes(binary, test):
    """Whether the test, which has to be in the binary, passes; one that does not end has not."""
    argv = [binary, "--exact", test.removeprefix("it::")]
    with tempfile.TemporaryFile("w+") as out:
        try:
            status = subprocess.run(argv, cwd=TREE, stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=RUNS).returncode
        except subprocess.TimeoutExpired:
            status = None
        out.seek(0)
        said = out.read()
    expect("running 1 test\n" in said, f"{test} is not in {binary}: {said[-400:]}")
    return status == 0


def all_pass(rows):
    tests = sorted({row["tests"][0] for row in rows})
    for what in (["--lib"], ["--test", "it"]):
        mine = [test for test in tests if kind(test) == what]
        if mine:
            binary, errors = build(what)
            expect(binary, errors)
            failed = [test for test in mine if not passes(binary, test)]
            expect(not failed, f"without a mutant: {failed}")


def is_noticed(row):
    path, test = TREE / row["file"], row["tests"][0]
    text = path.read_text()
    expect(text.count(row["code"]) == 1, f"{row['file']} has not once {row['code']!r}")
    try:
        path.write_text(text.replace(row["code"], row["mutant"]))
        binary, errors = build(kind(test))
        expect(binary, f"the mutant does not compile: {errors}")
        expect(not passes(binary, test), f"{test} passes although {row['file']} has {row['mutant']!r} for {row['code']!r}")
    finally:
        path.write_text(text)
    return test


def draw(rows, count, seed):
    return random.Random(seed).sample(rows, min(count, len(rows)))


def run(rows):
    checks = Checks()
    copy_tree()
    if checks.check(f"the tests of {len(rows)} rows pass without a mutant", all_pass, rows):
        for row in rows:
            checks.check(f"{section(row['at'])} {row['says']}", is_noticed, row)
    return checks.finish()


def self_test():
    """What is drawn depends on the seed and on nothing else."""
    rows = [row for row in compliance.load()["must"] if "mutant" in row]
    checks = Checks()
    checks.check("the same seed", lambda: expect(draw(rows, 20, 7) == draw(rows, 20, 7), "two draws"))
    checks.check("another seed", lambda: expect(draw(rows, 20, 7) != draw(rows, 20, 8), "one draw"))
    checks.check("20 of them", lambda: expect(len({id(row) for row in draw(rows, 20, 7)}) == 20, "not 20"))
    return checks.finish()


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--count", type=int, default=20, help="how many are drawn (20)")
    a.add_argument("--seed", type=int, default=None, help="by which they are drawn")
    a.add_argument("--all", action="store_true", help="every row that has a mutant")
    a.add_argument("--only", metavar="TEXT", help="rows with this in their section, words or file")
    a.add_argument("--self-test", action="store_true")
    a = a.parse_args()
    if a.self_test:
        return self_test()
    rows = [row for row in compliance.load()["must"] if "mutant" in row]
    if a.only:
        return run([row for row in rows if any(a.only in row[name] for name in ("at", "says", "file"))])
    if a.all:
        return run(rows)
    seed = random.randrange(1 << 32) if a.seed is None else a.seed
    print(f"mutate: {a.count} of {len(rows)} rows, --seed {seed}", flush=True)
    return run(draw(rows, a.count, seed))


if __name__ == "__main__":
    sys.exit(main())
