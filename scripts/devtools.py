"""Chromium without a window, told what to do by its DevTools protocol over a pipe: no port, nothing to install."""
import fcntl
import json
import os
import select
import subprocess
import time

from harness import expect

# No answer takes longer, on a busy machine either.
PATIENCE = 120


class Chromium:
    """A browser with one page, `with` which things are done; what its console complained of is in `complaints`."""

    def __init__(self, profile):
        self.argv = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
                     "--no-first-run", "--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe",
                     f"--user-data-dir={profile}", "about:blank"]
        self.number, self.session, self.left, self.complaints = 0, None, b"", []

    def __enter__(self):
        ours, theirs = [], []
        for mine, other in ((1, 0), (0, 1)):  # We write the first and read the second.
            ends = os.pipe()
            ours.append(ends[mine])
            # Above 4, where bash puts them (dash knows no descriptor above 9).
            theirs.append(fcntl.fcntl(ends[other], fcntl.F_DUPFD, 10))
            os.close(ends[other])
        shell = f'exec "$@" 3<&{theirs[0]} 4>&{theirs[1]}'
        self.process = subprocess.Popen(["bash", "-c", shell, "bash", *self.argv], pass_fds=theirs, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for end in theirs:
            os.close(end)
        self.to, self.of = ours
        try:
            target = self.ask("Target.createTarget", url="about:blank")["targetId"]
            self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log"):
                self.ask(f"{domain}.enable")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.to)
        os.close(self.of)

    def ask(self, method, **params):
        """A command's result."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + PATIENCE
        while True:
            answer = self.message(until - time.monotonic())
            if answer.get("id") == self.number:
                expect("error" not in answer, f"{method}: {answer.get('error')}")
                return answer["result"]
            if answer.get("method") == "Log.entryAdded" and answer["params"]["entry"]["level"] == "error":
                self.complaints.append(answer["params"]["entry"]["text"])
            elif answer.get("method") == "Runtime.exceptionThrown":
                self.complaints.append(answer["params"]["exceptionDetails"]["text"])

    def message(self, seconds):
        while b"\0" not in self.left:
            ready, _, _ = select.select([self.of], [], [], max(0, seconds))
            expect(ready, "the browser does not answer")
            more = os.read(self.of, 1 << 16)
            expect(more, "the browser is gone")
            self.left += more
        message, self.left = self.left.split(b"\0", 1)
        return json.loads(message)

    def value(self, expression):
        """What a JavaScript expression is on the page."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        expect("exceptionDetails" not in answer, f"{expression}: {answer.get('exceptionDetails')}")
        return answer["result"].get("value")

    def screen(self, width, height, is_dark=False, is_phone=False):
        """Another screen under the same page."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2 if is_phone else 1, mobile=is_phone)
        feature = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[feature])
