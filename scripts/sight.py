#!/usr/bin/env python3
"""What the daemon shows, seen by those it is for: promtool and Prometheus (Debian's) at /metrics, Chromium at the status page.

sight.py [--out FOLDER]        screenshots are left in FOLDER: look at them
"""
import argparse
import base64
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request

from devtools import Chromium
from harness import BINARY, ROOT, Checks, Lunette, expect, free_port, run, wait_until

# So much of the page's own time, which does not wait for ours: it looks some hundred times.
PATIENCE = "--virtual-time-budget=300000"
# Width, whether what the machine prefers is dark, whether it is a phone.
SCREENS = {"light": (1280, False, False), "dark": (1280, True, False), "phone": (390, False, True), "small-phone": (320, True, True)}
# What is to be seen and wider than the screen, but for tables that are scrolled (what is folded away may have the place that it had on the
# screen before); and the events that are to be seen in their list.
LOOK = """({
  page: document.documentElement.scrollWidth, screen: innerWidth, height: document.documentElement.scrollHeight,
  wide: [...document.querySelectorAll("body *")].filter((e) => !e.closest("table") && e.checkVisibility() && e.getBoundingClientRect().right > innerWidth + 1)
    .map((e) => `${e.tagName} ${e.className} ${e.textContent.slice(0, 40)}`),
  events: [...document.querySelectorAll("#events li")].filter((e) => {
    const box = e.getBoundingClientRect(), list = e.parentNode.getBoundingClientRect();
    return box.width > 100 && box.height > 10 && box.bottom <= list.bottom + 1 && e.checkVisibility();
  }).map((e) => e.textContent),
  facts: document.querySelector("#bdevs .facts").textContent, legend: document.querySelector("#reactors").textContent,
  stages: [...document.querySelectorAll("#reactors polygon, #bdevs .card:first-child details polygon")].map((e) => e.getAttribute("points").split(" ").length),
})"""

# Of what has not happened there are no series.
UNHAPPENED = ("lunette_initiator_throttled_commands_total", "lunette_initiator_throttled_seconds_total", "lunette_device_errors_total", "lunette_initiator_errors_total", "lunette_login_failures_total",
              "lunette_connections_closed_total", "lunette_task_management_total", "lunette_rejects_total", "lunette_rpc_calls_total",
              "lunette_rpc_errors_total")


def get(url):
    with urllib.request.urlopen(url, timeout=60) as answer:
        return answer.read().decode()


def where(target):
    """The address in the daemon's log."""
    with open(target.log.name) as log:
        found = re.search(r"http://(127\.0\.0\.1:\d+)/", log.read())
    return found and found[1]


def work(target, mib=64):
    """Writes to the first disk and reads it back."""
    run("qemu-img", "bench", "-c", str(mib * 16), "-d", "16", "-s", "64k", "-w", "-f", "raw", target.url())
    run("qemu-img", "bench", "-c", str(mib * 16), "-d", "16", "-s", "64k", "-f", "raw", target.url())


def lints(base):
    done = subprocess.run(["promtool", "check", "metrics"], input=get(f"{base}/metrics"), text=True, capture_output=True, timeout=60)
    expect(done.returncode == 0, f"promtool: {done.stdout}{done.stderr}")
    return f"{done.stdout}{done.stderr}".strip() or "nothing to complain about"


def scraped(target, base, work_folder):
    """Prometheus scrapes it, and each expression of the dashboard is one."""
    port = free_port()
    config = os.path.join(work_folder, "prometheus.yml")
    with open(config, "w") as f:
        f.write("global: { scrape_interval: 1s, scrape_timeout: 1s }\nscrape_configs:\n  - job_name: lunette\n"
                f"    static_configs: [{{ targets: ['{base.removeprefix('http://')}'] }}]\n")
    run("promtool", "check", "config", config)
    log = open(os.path.join(work_folder, "prometheus.log"), "w")
    prometheus = subprocess.Popen(
        ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={work_folder}/tsdb", f"--web.listen-address=127.0.0.1:{port}"],
        stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)

    def ask(expression):
        try:
            answer = json.loads(get(f"http://127.0.0.1:{port}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"))
        except (urllib.error.HTTPError, urllib.error.URLError, ConnectionError) as error:
            if isinstance(error, urllib.error.HTTPError) and error.code != 503:  # that is: not ready yet
                raise AssertionError(f"{expression}: {error.read().decode()}")
            return []
        return answer["data"]["result"]

    def value(expression):
        result = ask(expression)
        return float(result[0]["value"][1]) if result else 0

    try:
        wait_until("a scrape", 60, lambda: value('up{job="lunette"}') == 1 and value("lunette_uptime_seconds") > 0)
        before = value('sum(lunette_bdev_bytes_total{op="write"})')
        work(target, 16)
        wait_until("what was written", 30, lambda: value('sum(lunette_bdev_bytes_total{op="write"})') >= before + (16 << 20))
        with open(os.path.join(ROOT, "docs/grafana.json")) as f:
            panels = json.load(f)["panels"]
        expressions = [query["expr"] for panel in panels for query in panel.get("targets", [])]
        for name, text in (("$instance", ".*"), ("$bdev", ".*"), ("$__rate_interval", "10s")):
            expressions = [expression.replace(name, text) for expression in expressions]
        wanted = [one for one in expressions if not any(f"{name}{{" in one for name in UNHAPPENED)]
        answered = set()

        def all_answer():
            # A scrape that comes late makes all silent for a moment: who was is asked again.
            answered.update(one for one in expressions if one not in answered and ask(one))
            return answered.issuperset(wanted)

        try:
            wait_until("an answer to each expression", 15, all_answer)
        except TimeoutError:
            raise AssertionError(f"nothing answers to: {'; '.join(one for one in wanted if one not in answered)}") from None
        return f"{sum(one in answered for one in expressions)} of {len(expressions)} expressions of the dashboard have an answer"
    finally:
        prometheus.terminate()
        prometheus.wait(120)
        log.close()


def chromium(profile, *argv):
    return run("chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run",
               "--disable-background-networking", "--disable-component-update", f"--user-data-dir={profile}", *argv, seconds=180)


def page(base, profile, target):
    """After some seconds the page shows sessions, disks and reactors, and nothing was refused by its policy."""
    out = chromium(profile, "--enable-logging=stderr", PATIENCE, "--dump-dom", f"{base}/")
    out = re.sub(r"<script>.*</script>", "", out, flags=re.S)
    for expected in ("live", "reactor 0", "disk0", target.iqn, "busiest reactor", "session up", "a command's time"):
        expect(expected in out, f"the page does not say {expected!r}: {out[-2000:]}")
    for wrong in ("Content Security Policy", "Uncaught", "not to be reached"):
        expect(wrong not in out, f"{wrong}: {out[-2000:]}")
    points = re.findall(r'points="([^"]+)"', out)
    expect(any(len(line.split()) > 2 for line in points), "no chart has a line")
    return f"{len(points)} lines"


def lacking(look, width):
    """What is not to be seen yet on a screen of this width."""
    conditions = [
        (look["screen"] == width, f"the screen is {look['screen']} wide"),
        (any("session up" in event for event in look["events"]), f"no login among the events that are to be seen: {look['events']}"),
        (look["stages"] and all(points > 4 for points in look["stages"]), f"stages {look['stages']}"),
        ("for the limit" in look["facts"], f"nobody waits for the limit: {look['facts']}"),
        (re.search(r"queue [0-9.]+ (µs|ms|s)", look["legend"]), f"no time in the queue: {look['legend']}"),
    ]
    return [complaint for holds, complaint in conditions if not holds]


def screens(base, profile, target, out):
    """On every screen nothing is wider than that, events are to be seen, stages are drawn; a picture of each for who looks at it."""
    # What waits for a limit takes some time, by which there is something to draw.
    run(BINARY, "rpc", "-s", target.socket, "bdev_set_qos_limit", '{"name":"disk0","rw_ios_per_sec":200}')
    with Chromium(profile) as browser:
        browser.screen(1280, 1400)
        browser.ask("Page.navigate", url=f"{base}/")
        drawn = 'Math.max(0, ...[...document.querySelectorAll("polyline")].map((e) => (e.getAttribute("points") || "").split(" ").length))'
        wait_until("charts with some points", 60, lambda: browser.value(drawn) >= 8)
        browser.value('document.querySelector("#bdevs details").open = true')
        for name, (width, is_dark, is_phone) in SCREENS.items():
            browser.screen(width, 1400, is_dark, is_phone)
            look = {}

            def is_drawn():
                look.update(browser.value(LOOK))
                return not lacking(look, width)

            try:  # what it shows is of the last second, in which others may have had the machine
                wait_until(name, 5, is_drawn)
            except TimeoutError:
                pass  # what is wrong is said below
            expect(not lacking(look, width), f"{name}: {'; '.join(lacking(look, width))}")
            expect(look["page"] <= width and not look["wide"], f"{name}: {look['page']} of {width}, too wide: {look['wide'][:5]}")
            browser.screen(width, min(look["height"], 8000), is_dark, is_phone)
            picture = base64.b64decode(browser.ask("Page.captureScreenshot")["data"])
            path = os.path.join(out, f"status-{name}.png")
            with open(path, "wb") as f:
                f.write(picture)
        expect(not browser.complaints, f"the browser complains: {browser.complaints}")
    return f"status-*.png in {out}"


def taken():
    """An address that is taken: the daemon does not start, and says what to do."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        address = "127.0.0.1:%d" % s.getsockname()[1]
        said = run(BINARY, "serve", "--demo", "--portal", "127.0.0.1:0", "--metrics", address, status=1)
    expect("choose another port" in said, said)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=os.path.join(ROOT, "target/ci/sight"))
    out = parser.parse_args().out
    os.makedirs(out, exist_ok=True)
    checks = Checks()
    folder = tempfile.mkdtemp(prefix="sight.")
    try:
        checks.check("an address that is taken", taken)
        rpc = os.path.join(folder, "rpc.sock")
        with Lunette(disks_mib=(64, 64), options=("--metrics", "127.0.0.1:0", "--idle", "park", "--rpc-socket", rpc)) as target:
            target.socket = rpc
            base = "http://" + wait_until("the address", 10, lambda: where(target))
            work(target)
            checks.check("promtool check metrics", lints, base)
            checks.check("Prometheus", scraped, target, base, folder)
            # Somebody at work while the page is looked at.
            load = subprocess.Popen(["qemu-img", "bench", "-c", "100000000", "-d", "8", "-s", "16k", "-f", "raw", target.url()],
                                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            try:
                profile = os.path.join(folder, "chromium")
                checks.check("the page", page, base, profile, target)
                checks.check("screens", screens, base, os.path.join(folder, "browser"), target, out)
            finally:
                load.kill()
                load.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return checks.finish()


if __name__ == "__main__":
    sys.exit(main())
