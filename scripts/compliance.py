#!/usr/bin/env python3
"""Every MUST of RFC 7143 and what shows it: makes the last part of docs/compliance.md of docs/rfc7143.toml, and checks both.

compliance.py [--write] | --ran LOG | --self-test

Without an option: the rows of each section add up to the words that the RFC has there; each row is shown or has a reason; each
test named is in the sources; each text cited is in its file once; the page is what the table makes. --write writes the page.
--ran LOG: each test named ran, as the log of a `cargo test --workspace` says, and passed.
"""
import argparse
import copy
import pathlib
import re
import sys
import textwrap
import tomllib

from harness import ROOT, Checks, expect

TABLE = pathlib.Path(ROOT, "docs/rfc7143.toml")
PAGE = pathlib.Path(ROOT, "docs/compliance.md")
HEADING = "## RFC 7143, MUST by MUST\n"
STATES = {
    "not yet": "what it belongs to is not there yet",
    "open": "known to be missing or wrong, and to be mended",
    "chosen": "different on purpose",
    "moot": "cannot arise here",
}


def load():
    return tomllib.loads(TABLE.read_text())


def shown(table):
    return [row for row in table["must"] if "tests" in row]


def words(row):
    return row.get("words", 1)


def tests(table):
    """Every test named, once."""
    return sorted({test for row in shown(table) for test in row["tests"]})


# --- the page -------------------------------------------------------------------------------------


def order(at):
    """Sections as numbers; appendices last."""
    return [int(part) if part.isdecimal() else 1000 + ord(part) for part in at.split(".")]


def section(at):
    return f"§{at}" if at[0].isdecimal() else f"app. {at}"


def part(table):
    """The part of the page, from its heading on."""
    rows = sorted(table["must"], key=lambda row: order(row["at"]))
    counts = {state: sum(words(row) for row in rows if row.get("not") == state) for state in STATES}
    others = sum(sum(other["at"].values()) for other in table["others"])
    lines = [
        HEADING,
        textwrap.fill(
            "Made by `scripts/compliance.py --write` from `rfc7143.toml` beside this page, in our words. MUST, MUST NOT, SHALL and "
            f"REQUIRED stand {sum(table['words'].values())} times in RFC 7143. {others} of them bind no target (at the end). Of the "
            f"others {sum(map(words, shown(table)))} are shown by tests that CI runs (`it::` stands for `tests/it`, the rest are the "
            "library's); `scripts/mutate.py` breaks the code cited, and looks whether the first test notices. Not shown are:", 130),
        "",
        *(f"- *{state}*, {counts[state]}: {about}" for state, about in STATES.items()),
        "",
        "| RFC 7143 | what it asks | shown by, or why not | decided in |",
        "|---|---|---|---|",
    ]
    for row in rows:
        if "tests" in row:
            how = ", ".join(f"`{test}`" for test in row["tests"])
            how += f" ({row['note']})" if "note" in row else ""
            where = f"`{row['file']}`"
        else:
            how, where = f"*{row['not']}*: {row['why']}", ""
        lines.append(f"| {section(row['at'])} | {row['says']} | {how} | {where} |")
    lines += ["", "### Words that bind no target", "", "| whom | sections, and how often |", "|---|---|"]
    for other in table["others"]:
        at = (f"{section(at)} ({count})" for at, count in sorted(other["at"].items(), key=lambda item: order(item[0])))
        lines.append(f"| {other['who']} | {', '.join(at)} |")
    return "\n".join(lines) + "\n"


def page(table, old):
    """The whole page: what is above the heading stays as people wrote it."""
    return old.partition(HEADING)[0] + part(table)


# --- what may be wrong ----------------------------------------------------------------------------


def wrong_counts(table):
    found = dict.fromkeys(table["words"], 0)
    for row in table["must"]:
        found[row["at"]] = found.get(row["at"], 0) + words(row)
    for other in table["others"]:
        for at, count in other["at"].items():
            found[at] = found.get(at, 0) + count
    return [f"{section(at)}: the rows are about {count} words, the RFC has {table['words'].get(at, 0)}"
            for at, count in found.items() if count != table["words"].get(at, 0)]


def wrong_rows(table):
    wrong = []
    for row in table["must"]:
        name = f"{section(row['at'])} {row['says']}"
        if "tests" in row:
            if not row["tests"] or not {"file", "code"} <= row.keys() or row.keys() & {"not", "why"}:
                wrong.append(f"{name}: needs tests, file and code, and no reason")
            elif row.get("mutant") == row["code"]:
                wrong.append(f"{name}: the mutant is the code")
        elif row.get("not") not in STATES or not row.get("why"):
            wrong.append(f"{name}: needs tests, or one of {', '.join(STATES)} and why")
    return wrong


def sources(test):
    """The files in which a test of this path may be: its module's, or one that has the module inside."""
    top, *path, _ = ["src", *test.split("::")] if not test.startswith("it::") else ["tests/it", *test.split("::")[1:]]
    for length in range(len(path), 0, -1):
        stem = "/".join([top, *path[:length]])
        yield from (pathlib.Path(ROOT, stem + end) for end in (".rs", "/mod.rs"))


def is_there(test):
    name = test.rsplit("::", 1)[1]
    pattern = re.compile(rf"#\[test\]\s*(?:#\[[^\]]*\]\s*)*fn {re.escape(name)}\(")
    return any(pattern.search(path.read_text()) for path in sources(test) if path.is_file())


def wrong_tests(table):
    return [f"no test {test} in the sources" for test in tests(table) if not is_there(test)]


def wrong_code(table):
    wrong = []
    for row in shown(table):
        path = pathlib.Path(ROOT, row["file"])
        count = path.read_text().count(row["code"]) if path.is_file() else 0
        if count != 1:
            wrong.append(f"{section(row['at'])} {row['says']}: {row['file']} has {count} times: {row['code']!r}")
    return wrong


def wrong_page(table, there):
    made = page(table, there)
    return [] if made == there else ["docs/compliance.md is not what docs/rfc7143.toml makes: scripts/compliance.py --write"]


def ran(log):
    """The tests that passed, by the log of a cargo test: those of the library by their path, those of tests/it with `it::`."""
    passed, prefix = set(), None
    for line in log.splitlines():
        if found := re.match(r"\s*Running .*\(.*/deps/(\w+)-[0-9a-f]+\)$", line):
            prefix = {"lunette": "", "it": "it::"}.get(found[1])
        elif line.lstrip().startswith(("Running", "Doc-tests")):
            prefix = None
        elif prefix is not None and (found := re.match(r"test (\S+) \.\.\. ok$", line)):
            passed.add(prefix + found[1])
    return passed


def not_run(table, log):
    passed = ran(log)
    return [f"{test} is cited and did not run" for test in tests(table) if test not in passed]


def none(wrong):
    expect(not wrong, "\n     ".join(["", *wrong]))


# --- the judgement, shown to say no ---------------------------------------------------------------

LOG = """\
     Running unittests src/lib.rs (target/debug/deps/lunette-0123456789abcdef)
test iscsi::sn::tests::it_wraps ... ok
test iscsi::sn::tests::it_does_not ... FAILED
     Running tests/it/main.rs (target/debug/deps/it-0123456789abcdef)
test session::it_goes_on ... ok
     Running unittests src/lib.rs (target/debug/deps/lunette_initiator-0123456789abcdef)
test sn::tests::order ... ok
"""


def is_found(find, spoil):
    table = copy.deepcopy(load())
    expect(not find(table), "found something before it was spoilt")
    spoil(table)
    expect(find(table), "not found")


def self_test():
    checks = Checks()
    there = PAGE.read_text()
    first = next(index for index, row in enumerate(load()["must"]) if "tests" in row)
    reason = next(index for index, row in enumerate(load()["must"]) if "why" in row)
    for name, find, spoil in [
        ("a word too few", wrong_counts, lambda t: t["must"].pop()),
        ("a word too many", wrong_counts, lambda t: t["words"].update({"99": 1})),
        ("no reason", wrong_rows, lambda t: t["must"][reason].update(why="")),
        ("no such state", wrong_rows, lambda t: t["must"][reason].update({"not": "later"})),
        ("no code", wrong_rows, lambda t: t["must"][first].pop("code")),
        ("a mutant that is none", wrong_rows, lambda t: t["must"][first].update(mutant=t["must"][first]["code"])),
        ("a test that is not there", wrong_tests, lambda t: t["must"][first].update(tests=["iscsi::sn::tests::no_such"])),
        ("code that is not there", wrong_code, lambda t: t["must"][first].update(code="no such code")),
        ("code that is there twice", wrong_code, lambda t: t["must"][first].update(code="a")),
        ("a row that the page has not", lambda t: wrong_page(t, there), lambda t: t["must"][first].update(says="else")),
    ]:
        checks.check(f"found: {name}", is_found, find, spoil)
    expected = {"iscsi::sn::tests::it_wraps", "it::session::it_goes_on"}
    checks.check("what ran", lambda: expect(ran(LOG) == expected, str(ran(LOG))))
    return checks.finish()


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--write", action="store_true", help="write the page")
    a.add_argument("--ran", metavar="LOG", type=pathlib.Path, help="the log of a cargo test: did what is cited run?")
    a.add_argument("--self-test", action="store_true")
    a = a.parse_args()
    if a.self_test:
        return self_test()
    table, checks = load(), Checks()
    if a.ran:
        checks.check(f"{len(tests(table))} tests cited ran", lambda: none(not_run(table, a.ran.read_text(errors="replace"))))
        return checks.finish()
    if a.write:
        PAGE.write_text(page(table, PAGE.read_text()))
    checks.check("every word of the RFC has its row", lambda: none(wrong_counts(table)))
    checks.check("every row is shown or has a reason", lambda: none(wrong_rows(table)))
    checks.check("every test cited is in the sources", lambda: none(wrong_tests(table)))
    checks.check("every text cited is in its file once", lambda: none(wrong_code(table)))
    checks.check("the page is what the table makes", lambda: none(wrong_page(table, PAGE.read_text())))
    return checks.finish()


if __name__ == "__main__":
    sys.exit(main())
