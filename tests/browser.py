"""Headless Chromium, driven through a pipe by the protocol of its developer tools."""

import fcntl
import json
import os
import select
import shutil
import subprocess
import time

PATH = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE = 120  # seconds for an answer
ERRORS = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")


class Browser:
    """A process with one page, as a context manager."""

    def __init__(self, profile):
        to_read, self.to_write = os.pipe()
        self.to_answer, answers = os.pipe()
        # The browser uses 3 and 4 for the pipe, so the shell's ends must have other numbers.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (to_read, answers)]
        flags = "--headless --no-sandbox --disable-gpu --no-first-run --remote-debugging-pipe"
        self.process = subprocess.Popen(  # noqa: S603
            ["bash", "-c", f'exec "$0" {flags} "$@" 3<&{ends[0]} 4>&{ends[1]}',  # noqa: S607
             PATH, f"--user-data-dir={profile}"],
            pass_fds=ends, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for end in (to_read, answers, *ends):
            os.close(end)
        self.received, self.events, self.session, self.n_calls = b"", [], {}, 0

    def __enter__(self):
        try:
            target = self.call("Target.createTarget", url="about:blank")["targetId"]
            attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
            self.session = {"sessionId": attached["sessionId"]}
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.call(f"{domain}.enable")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait(PATIENCE)
        os.close(self.to_write)
        os.close(self.to_answer)

    def call(self, method, **params):
        """The result of a method of the protocol."""
        self.n_calls += 1
        message = {"id": self.n_calls, "method": method, "params": params, **self.session}
        os.write(self.to_write, json.dumps(message).encode() + b"\0")
        answer = self.wait_for(lambda message: message.get("id") == self.n_calls)
        assert "result" in answer, answer
        return answer["result"]

    def wait_for(self, is_it):
        """The first message for which ``is_it`` is true; events before it are kept."""
        deadline = time.monotonic() + PATIENCE
        while True:
            while b"\0" not in self.received:
                left = deadline - time.monotonic()
                if left < 0 or not select.select([self.to_answer], [], [], left)[0]:
                    raise TimeoutError(f"the browser said nothing for {PATIENCE} seconds")
                read = os.read(self.to_answer, 1 << 20)
                assert read, "the browser ended"
                self.received += read
            line, _, self.received = self.received.partition(b"\0")
            message = json.loads(line)
            self.events.append(message)
            if is_it(message):
                return message

    def open(self, path, width, scheme):
        """Show a file in a window of that width, light or dark."""
        self.events = []
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **metrics)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])
        self.call("Page.navigate", url=path.as_uri())
        self.wait_for(lambda message: message.get("method") == "Page.loadEventFired")

    def evaluate(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"]["value"]

    @property
    def errors(self):
        """Errors that the console shows for the open page."""
        return [event for event in self.events if event.get("method") in ERRORS]

    @property
    def requests(self):
        """Addresses that the page has requested."""
        return [
            event["params"]["request"]["url"]
            for event in self.events
            if event.get("method") == "Network.requestWillBeSent"
        ]
