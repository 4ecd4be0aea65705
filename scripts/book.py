#!/usr/bin/env python3
"""docs/ is a book: every chapter is in docs/SUMMARY.md, every link leads somewhere, and every command runs or says why not.

book.py [--only FILE]... [--self-test]

A block of commands (```sh, ```console, ```powershell) has a comment in the line before it:

    <!-- run -->                            all of it runs
    <!-- run without WORD WORD: REASON -->  but for the lines that have one of these words in them
    <!-- not run: REASON -->                nothing does

and before that, where it takes something that readers have and an empty machine has not, <!-- before: COMMANDS -->.

What runs, runs for each chapter in one shell, in the chapter's order, in an empty folder, with network, /etc, /run, /srv, /var/lib
and /var/tmp of its own; 192.0.2.10 is an address of that network. `lunette serve` in the foreground has to come up, and is asked to stop
then; with & it stays until the chapter ends. Needs root, for the namespaces.
"""
import argparse
import os
import re
import subprocess
import sys
import tempfile

from harness import BINARY, ROOT, Checks, expect

COMMANDS = ("sh", "console", "powershell")
FENCE = re.compile(r"^(\s*)```(\w*)\s*$")
BEFORE = re.compile(r"^<!-- before: (.+) -->$")
MARK = re.compile(r"^<!-- (?:(run)|run without ([^:]+): .+|not run: .+) -->$")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
# Not chapters of the book, but their links count.
BESIDE = ("README.md", "ARCHITECTURE.md", "CHANGELOG.md")
CHAPTER_SECONDS = 120

# What a chapter's commands find: `lunette`, which waits for daemons that were started before, and ends those that would stay.
PRELUDE = r"""
set -euo pipefail
settle() { # until every daemon that was started serves, or has ended
  local pid
  for pid in $(jobs -p); do
    until [[ -e $BOOK/ready.$pid ]] || ! kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
  done
}
store() { # a daemon with what the guide's examples begin with, and `rpc` to call it
  export LUNETTE_SOCKET=/run/lunette.sock
  lunette serve -r /run/lunette.sock &
  rpc() { lunette rpc -s /run/lunette.sock "$@"; }
  rpc bdev_malloc_create '{"name":"disk0","num_blocks":131072,"block_size":512}'
  rpc iscsi_create_portal_group '{"tag":1,"portals":[{"host":"192.0.2.10","port":"3260"}]}'
  rpc iscsi_create_portal_group '{"tag":2,"portals":[{"host":"192.0.2.10","port":"3261"}]}'
  rpc iscsi_create_initiator_group '{"tag":1,"initiators":["ANY"],"netmasks":["ANY"]}'
  rpc iscsi_create_target_node '{"name":"iqn.2026-11.com.example:store","alias_name":"","queue_depth":64,
    "luns":[{"bdev_name":"disk0","lun_id":0}],"pg_ig_maps":[{"pg_tag":1,"ig_tag":1},{"pg_tag":2,"ig_tag":1}]}'
}
lunette() {
  local pid
  if [[ $1 != serve ]]; then
    ((BASHPID != $$)) || settle
    command lunette "$@"
  elif ((BASHPID != $$)); then
    exec lunette "$@" --ready-file "$BOOK/ready.$BASHPID"
  else
    command lunette "$@" --ready-file "$BOOK/ready.once" &
    pid=$!
    until [[ -e $BOOK/ready.once ]]; do kill -0 "$pid" || { wait "$pid"; return 1; }; sleep 0.05; done
    rm "$BOOK/ready.once"
    kill "$pid"
    wait "$pid"
  fi
}
trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT
"""
# Namespaces of its own: nothing that a chapter does is left on the machine.
ENTER = r"""
set -euo pipefail
ip link set lo up
ip addr add 192.0.2.10/24 dev lo
cp -a /etc "$BOOK/etc"
mount --bind "$BOOK/etc" /etc
for folder in /run /srv /var/lib /var/tmp; do mount -t tmpfs tmpfs "$folder"; done
mkdir -p /etc/lunette "$BOOK/folder"
cd "$BOOK/folder"
ln -s "$ROOT/scripts" "$ROOT/packaging" .
exec bash "$BOOK/script"
"""


def blocks(text):
    """Each fenced block: its first line's number, its language, the comments before it, its lines."""
    lines, found, number = text.splitlines(), [], 0
    while number < len(lines):
        fence = FENCE.match(lines[number])
        if fence:
            end = next((at for at in range(number + 1, len(lines)) if lines[at].strip() == "```"), None)
            expect(end is not None, f"line {number + 1}: the block has no end")
            comments = []
            for line in reversed(lines[:number]):
                if not re.match(r"<!-- .* -->$", line.strip()):
                    break
                comments.insert(0, line.strip())
            found.append((number + 1, fence[2], comments, lines[number + 1:end]))
            number = end
        number += 1
    return found


def logical(lines):
    """Commands that go on over several lines, in quotes or after a backslash, as one."""
    whole = []
    for line in lines:
        if whole and (whole[-1].endswith("\\") or whole[-1].count("'") % 2):
            whole[-1] += "\n" + line
        else:
            whole.append(line)
    return whole


def tells_a_secret(command):
    """Whether a secret is an argument of a command here: what its standard input or a file tells, nobody else reads."""
    return bool(re.search(r'\\?"m?secret\\?"\s*:', command)) and not re.search(r"\|\s*(?:rpc|lunette rpc)\b[^|]*\s-\s*$", command)


def script(text):
    """What of a chapter runs, and how many blocks that is. Fails where a block says nothing of itself."""
    parts, count = [], 0
    for number, language, comments, lines in blocks(text):
        if language not in COMMANDS:
            continue
        mark = MARK.match(comments[-1]) if comments else None
        expect(mark, f"line {number}: commands without a word on whether they run")
        for line in logical(lines):
            expect(not tells_a_secret(line), f"line {number}: a secret as an argument: everybody on the machine reads those")
        if comments[-1].startswith("<!-- not run"):
            continue
        first = [found[1] for found in map(BEFORE.match, comments) if found]
        left_out = (mark[2] or "").split()
        for word in left_out:
            expect(any(word in line for line in lines), f"line {number}: no command has {word!r}")
        lines = [line for line in logical(lines) if not any(word in line for word in left_out)]
        parts.append(f"echo '-- line {number}'\n" + "\n".join([*first, *lines]) + "\n")
        count += 1
    return "".join(parts), count


def slug(heading):
    """A heading's anchor, as GitHub and mdBook make it."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def plain(text):
    """Without fenced blocks."""
    kept, inside = [], False
    for line in text.splitlines():
        if line.strip().startswith("```"):
            inside = not inside
        elif not inside:
            kept.append(line)
    return "\n".join(kept)


def anchors(text):
    return {slug(line.lstrip("#").strip()) for line in plain(text).splitlines() if re.match(r"#{1,6} ", line)}


def read(path):
    with open(os.path.join(ROOT, path)) as file:
        return file.read()


def dead_links(path, text, read_file=read):
    """The links of a page that lead nowhere in this tree."""
    dead = []
    # Code in backquotes is no link.
    for link in LINK.findall(re.sub(r"`[^`\n]*`", "", plain(text))):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = os.path.normpath(os.path.join(os.path.dirname(path), file)) if file else path
        try:
            known = anchors(read_file(target)) if target.endswith(".md") and anchor else set()
            if not os.path.exists(os.path.join(ROOT, target)) and read_file is read:
                dead.append(link)
            elif anchor and target.endswith(".md") and anchor not in known:
                dead.append(link)
        except OSError:
            dead.append(link)
    return dead


def chapters():
    return [os.path.join("docs", link) for link in LINK.findall(read("docs/SUMMARY.md"))]


def structure():
    listed = chapters()
    there = {os.path.join("docs", name) for name in os.listdir(os.path.join(ROOT, "docs")) if name.endswith(".md")} - {"docs/SUMMARY.md"}
    expect(len(listed) == len(set(listed)), "a chapter is in SUMMARY.md twice")
    expect(set(listed) == there, f"SUMMARY.md and docs/ differ in {sorted(set(listed) ^ there)}")
    for path in listed:
        expect(read(path).startswith("# "), f"{path} has no title")
    return f"{len(listed)} chapters"


def links():
    dead = [f"{path}: {link}" for path in [*chapters(), *BESIDE] for link in dead_links(path, read(path))]
    expect(not dead, "; ".join(dead))


def run_chapter(path):
    commands, count = script(read(path))
    if not count:
        return "nothing to run"
    with tempfile.TemporaryDirectory(prefix="book.") as book:
        os.mkdir(f"{book}/bin")
        os.symlink(BINARY, f"{book}/bin/lunette")
        with open(f"{book}/script", "w") as file:
            file.write(PRELUDE + commands)
        environment = {**os.environ, "BOOK": book, "ROOT": ROOT, "PATH": f"{book}/bin:{os.environ['PATH']}", "HOME": book}
        environment.pop("LUNETTE_SOCKET", None)
        done = subprocess.run(["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", ENTER], env=environment, text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=CHAPTER_SECONDS)
        expect(done.returncode == 0, f"status {done.returncode}:\n" + "\n".join(done.stdout.splitlines()[-30:]))
    return f"{count} blocks"


def self_test():
    """That what is wrong is found."""
    def refused(text):
        try:
            script(text)
        except AssertionError:
            return
        raise AssertionError(f"not refused: {text!r}")
    refused("```sh\ntrue\n```\n")
    refused("<!-- not run: -->\n```sh\ntrue\n```\n")
    refused("<!-- run without false: why -->\n```sh\ntrue\n```\n")
    refused("<!-- run -->\n```sh\ntrue\n")
    refused("<!-- run -->\n\n```sh\ntrue\n```\n")
    expect(script("<!-- before: x; y -->\n<!-- run -->\n```sh\nz\n```\n") == ("echo '-- line 3'\nx; y\nz\n", 1), "before")
    expect(script("<!-- run without /dev: none -->\n```sh\na '{\n/dev}'\nb \\\n  c\n```\n") == ("echo '-- line 2'\nb \\\n  c\n", 1), "lines")
    for told in ('rpc x \'{"secret":"a"}\'', 'rpc x "{\\"msecret\\": \\"$(lunette chap-secret)\\"}"'):
        refused(f"<!-- run -->\n```sh\n{told}\n```\n")
        refused(f"<!-- not run: why -->\n```sh\n{told}\n```\n")
    for quiet in ('rpc x \'{"lunette_secret_file":"/a"}\'', 'printf \'{"secret":"%s"}\' "$s" | rpc x -'):
        script(f"<!-- run -->\n```sh\n{quiet}\n```\n")
    expect(script("```xml\n<a/>\n```\n") == ("", 0), "what is no command")
    expect(slug("SCSI devices, passed through") == "scsi-devices-passed-through", "anchors")
    page = "# A b\n[x](#a-b) [y](#c) [z](http://example.org) `[v](w)`\n```\n[in](block)\n```\n"
    expect(dead_links("docs/p.md", page, lambda path: page) == ["#c"], dead_links("docs/p.md", page, lambda path: page))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", action="append", metavar="FILE")
    parser.add_argument("--self-test", action="store_true")
    arguments = parser.parse_args()
    checks = Checks()
    if arguments.self_test:
        checks.check("what is wrong is found", self_test)
        return checks.finish()
    if not arguments.only:
        checks.check("the book's chapters", structure)
        checks.check("its links", links)
    for path in arguments.only or [*chapters(), "README.md"]:
        checks.check(f"the commands of {path}", run_chapter, path)
    return checks.finish()


if __name__ == "__main__":
    sys.exit(main())
