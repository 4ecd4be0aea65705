#!/usr/bin/env python3
"""What the daemon shows, seen by those it is for: promtool and Prometheus (Debian's) at /metrics, Chromium at the status page.

sight.py [--out FOLDER]        screenshots are left in FOLDER: look at them
"""
import argparse
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

from harness import BINARY, ROOT, Checks, Lunette, expect, free_port, run, wait_until

# So much of the page's own time, which does not wait for ours: it looks some hundred times.
PATIENCE = "--virtual-time-budget=300000"
# Width, height, and whether what the machine prefers is dark.
SCREENS = {"light": (1280, 1400, False), "dark": (1280, 1400, True), "phone": (390, 1600, False)}

# Of what has not happened there are no series.
UNHAPPENED = ("lunette_initiator_throttled_commands_total", "lunette_initiator_throttled_seconds_total", "lunette_device_errors_total", "lunette_initiator_errors_total", "lunette_login_failures_total",
              "lunette_connections_closed_total", "lunette_task_management_total", "lunette_rejects_total", "lunette_rpc_calls_total",
              "lunette_rpc_errors_total")


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
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
        answered, silent = 0, []
        for expression in expressions:
            for name, text in (("$instance", ".*"), ("$bdev", ".*"), ("$__rate_interval", "10s")):
                expression = expression.replace(name, text)
            if ask(expression):
                answered += 1
            elif not any(f"{name}{{" in expression for name in UNHAPPENED):
                silent.append(expression)
        expect(not silent, f"nothing answers to: {'; '.join(silent)}")
        return f"{answered} of {len(expressions)} expressions of the dashboard have an answer"
    finally:
        prometheus.terminate()
        prometheus.wait(20)
        log.close()


def chromium(profile, *argv):
    return run("chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run",
               "--disable-background-networking", "--disable-component-update", f"--user-data-dir={profile}", *argv, seconds=180)


def page(base, profile, target):
    """After some seconds the page shows sessions, disks and reactors, and nothing was refused by its policy."""
    out = chromium(profile, "--enable-logging=stderr", PATIENCE, "--dump-dom", f"{base}/")
    out = re.sub(r"<script>.*</script>", "", out, flags=re.S)
    for expected in ("live", "reactor 0", "disk0", target.iqn, "busiest reactor"):
        expect(expected in out, f"the page does not say {expected!r}: {out[-2000:]}")
    for wrong in ("Content Security Policy", "Uncaught", "not to be reached"):
        expect(wrong not in out, f"{wrong}: {out[-2000:]}")
    points = re.findall(r'points="([^"]+)"', out)
    expect(any(len(line.split()) > 2 for line in points), "no chart has a line")
    return f"{len(points)} lines"


def screenshot(base, profile, out, name):
    width, height, is_dark = SCREENS[name]
    path = os.path.join(out, f"status-{name}.png")
    dark = ["--force-dark-mode", "--blink-settings=preferredColorScheme=0"] if is_dark else []
    chromium(profile, f"--window-size={width},{height}", PATIENCE, f"--screenshot={path}", *dark, f"{base}/")
    expect(os.path.getsize(path) > 10_000, "the picture is empty")
    return path


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
        with Lunette(disks_mib=(64, 64), options=("--metrics", "127.0.0.1:0", "--idle", "park")) as target:
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
                for name in SCREENS:
                    checks.check(f"screenshot, {name}", screenshot, base, profile, out, name)
            finally:
                load.kill()
                load.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return checks.finish()


if __name__ == "__main__":
    sys.exit(main())
