"""The run, the report and the pictures that the README shows: `python -m experiments.sample`.

Runs the README's main command, keeps its report, its figures and what it printed, and photographs the report and the
page of `evoprompt.serve` in a headless browser (Chromium, by playwright of the extra `test`).
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

HERE = Path(__file__).parent
RUN = Path("outputs/sample")
KEPT = ("report.html", "metrics.json", "report.png", "committee.png")
QUESTION = "Should I bring my relatives to the party?"
PATIENCE = 120.0  # seconds until a server answers


def run() -> str:
    """The main command, in a folder of its own; what it printed, without the lines of its progress."""
    shutil.rmtree(RUN, ignore_errors=True)
    command = [sys.executable, "-m", "evoprompt.run", "+culture=arab", f"hydra.run.dir={RUN}"]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    lines = printed.splitlines(keepends=True)
    last = max(i for i, line in enumerate(lines) if line.startswith("generation "))
    return "".join(line for i, line in enumerate(lines) if not line.startswith("generation ") or i == last)


@contextmanager
def server() -> Iterator[str]:
    """`python -m evoprompt.serve` with the experts of the package; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "evoprompt.serve", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + PATIENCE
    try:
        while True:
            try:
                urllib.request.urlopen(f"{address}/health").close()
                break
            except urllib.error.URLError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("the server did not start") from None
                time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait()


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless browser: the system's where there is one, else the one that playwright has installed."""
    from playwright.sync_api import Error, sync_playwright

    with sync_playwright() as playwright:
        found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        try:
            browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        except Error as error:
            raise RuntimeError(f"no browser starts: {str(error).splitlines()[0]}") from None
        yield browser
        browser.close()


def photograph(browser: Browser, report: Path, address: str) -> None:
    """The report's first screen, and the committee's answer on the server's page."""
    page = browser.new_page(viewport={"width": 1180, "height": 1000}, device_scale_factor=1.5)
    page.goto(report.resolve().as_uri())
    page.screenshot(path=RUN / "report.png")
    page = browser.new_page(viewport={"width": 1000, "height": 900}, device_scale_factor=1.5)
    page.goto(address)
    page.locator("#compose").select_option("panel")
    page.locator("#question").fill(QUESTION)
    page.locator("#question").press("Enter")
    page.locator("#status").get_by_text(re.compile("Answered in")).wait_for(timeout=1000 * PATIENCE)
    page.screenshot(path=RUN / "committee.png", full_page=True)


def main() -> int:
    """Run, photograph, keep. Returns the exit code: 0, or 2 where something is not installed."""
    if len(sys.argv) > 1:
        print(f"evoprompt: it takes no arguments, not {sys.argv[1:]}", file=sys.stderr)
        return 2
    try:
        with server() as address, chromium() as browser:
            printed = run()
            photograph(browser, RUN / "report.html", address)
    except (ImportError, RuntimeError) as error:
        print(f"evoprompt: {error}; the pictures need the extras serve and test and a Chromium", file=sys.stderr)
        return 2
    (HERE / "printed.txt").write_text(printed, encoding="utf-8")
    for name in KEPT:
        shutil.copy(RUN / name, HERE)
    shutil.copytree(RUN / "plots", HERE / "plots", dirs_exist_ok=True)
    print(printed, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
