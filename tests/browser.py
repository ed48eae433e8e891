"""A headless Chromium, driven by the DevTools protocol: what a test of pages needs, and no more."""

import base64
import json
import os
import shutil
import subprocess
import time
from itertools import count
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def find():
    """The path of a Chromium, None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One tab.

    Args:
        folder: an empty folder for the browser's own files.
    """

    def __init__(self, folder: Path):
        import websocket

        flags = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run")
        offline = ("--disable-background-networking", "--disable-component-update", "--disable-sync")
        ports = ("--remote-debugging-port=0", "--remote-allow-origins=*", f"--user-data-dir={folder}")
        self.process = subprocess.Popen([find(), *flags, *offline, *ports, "about:blank"], stderr=subprocess.DEVNULL)
        port = folder / "DevToolsActivePort"
        deadline = time.monotonic() + 60
        while not port.exists() or len(port.read_text().splitlines()) < 2:
            if time.monotonic() > deadline:
                raise RuntimeError("the browser does not start")
            time.sleep(0.05)
        number, path = port.read_text().splitlines()
        self.socket = websocket.create_connection(f"ws://127.0.0.1:{number}{path}", timeout=60)
        self.numbers, self.session = count(1), None
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.send("Page.enable")
        self.send("Page.setBypassCSP", enabled=True)  # the pages forbid scripts: those of the test, too

    def send(self, method, **params):
        """Call a method of the protocol and wait for its result."""
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": params}
        self.socket.send(json.dumps(message | ({"sessionId": self.session} if self.session else {})))
        while True:
            answer = json.loads(self.socket.recv())
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def open(self, page: Path, width: int, dark: bool = False):
        """Load a page at a width, and wait until it is there."""
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 700
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self.send("Page.navigate", url=page.as_uri())
        while self.evaluate("document.readyState") != "complete" or self.evaluate("location.href") == "about:blank":
            time.sleep(0.02)

    def visit(self, address: str):
        """Load a page of a server, and wait until it is there."""
        self.send("Emulation.setDeviceMetricsOverride", width=1400, height=900, deviceScaleFactor=1, mobile=False)
        self.send("Page.navigate", url=address)
        self.wait("document.readyState == 'complete' && location.href != 'about:blank'")

    def wait(self, condition: str, seconds: float = 120):
        """Wait until a JavaScript expression is true."""
        deadline = time.monotonic() + seconds
        while not self.evaluate(condition):
            if time.monotonic() > deadline:
                raise RuntimeError(f"not within {seconds} s: {condition}")
            time.sleep(0.1)

    def evaluate(self, expression):
        """The value of a JavaScript expression in the page; of a promise, what it resolves to."""
        answer = self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def screenshot(self, file: Path):
        """The whole page as PNG."""
        picture = self.send("Page.captureScreenshot", captureBeyondViewport=True, format="png")
        file.write_bytes(base64.b64decode(picture["data"]))

    def close(self):
        self.socket.close()
        self.process.terminate()
        self.process.wait(10)


# --- what a page must hold ----------------------------------------------------------------------------------------

AXE = "axe.run().then(result => result.violations.map(v => v.id + ': ' + v.nodes.map(n => n.html).join(' | ')))"

WIDE = (
    "[...document.querySelectorAll('main *:not(thead, thead *)')]"
    ".filter(e => e.clientWidth && e.scrollWidth > e.clientWidth + 1)"
    ".filter(e => !['hidden', 'clip'].includes(getComputedStyle(e).overflowX)).map(e => e.outerHTML)"
)
"""The elements whose content is wider than they are."""

ORDER = (
    "[...document.querySelectorAll('main h1, main h2, main h3, main h4')].map(e => +e.tagName[1])"
    ".map((level, place, levels) => place ? level - levels[place - 1] : level).filter(step => step > 1)"
)
"""Steps by which headings go down more than one level."""


def faults(browser: Browser, axe: str, page: Path, width: int, dark: bool) -> list[str]:
    """What is wrong with a page at a width and in a colour scheme: to scroll sideways, cut off, not for everybody.

    Where BGETUNE_SCREENSHOTS names a folder, a screenshot is kept there: CI does, and keeps them when a test fails.
    """
    browser.open(page, width, dark=dark)
    if folder := os.environ.get("BGETUNE_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        language = browser.evaluate("document.documentElement.lang")
        name = f"{page.parent.name}-{page.stem}-{language}-{width}-{'dark' if dark else 'light'}.png"
        browser.screenshot(Path(folder) / name)
    found = []
    if (there := browser.evaluate("document.documentElement.scrollWidth")) > width:
        found.append(f"{there} px wide")
    found += [f"cut off: {html}" for html in browser.evaluate(WIDE)]
    found += [f"a heading goes down {step} levels" for step in browser.evaluate(ORDER)]
    if browser.evaluate("document.querySelectorAll('main').length") != 1:
        found.append("not one <main>")
    browser.evaluate(f"{axe}; 0")
    return found + browser.evaluate(AXE)
