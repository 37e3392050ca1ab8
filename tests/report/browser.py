"""A page in Chromium with the network off."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--dump-dom"),
    *("--no-first-run", "--disable-sync", "--disable-component-update", "--disable-background-networking"),
    *("--disable-quic", "--proxy-server=127.0.0.1:9", "--host-resolver-rules=MAP * ~NOTFOUND"),
    *("--enable-logging=stderr", "--v=0"),
)


def browse(page: Path, *flags: str) -> tuple[str, list[str]]:
    """The document after loading, and the console's lines."""
    profile = page.parent / "profile"
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", *flags, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def probe(page: Path, script: str, *flags: str) -> Any:
    """What an expression gives inside a copy of the page."""
    text = re.sub(r"<meta http-equiv[^>]*>", "", page.read_text(encoding="utf-8"))
    copy = page.with_name("probe.html")
    ending = f'<pre id="probe"></pre><script>document.querySelector("#probe").textContent = JSON.stringify({script})'
    copy.write_text(text.replace("</body>", ending + "</script></body>"), encoding="utf-8")
    document, console = browse(copy, *flags)
    assert console == []
    return json.loads(html.unescape(re.search(r'<pre id="probe">(.*?)</pre>', document, re.DOTALL)[1]))


def framed(page: Path, width: int, script: str, height: int = 844) -> Any:
    """What an expression of `doc` gives in the page in a frame of that size: a window has a least width."""
    inner = html.escape(re.sub(r"<meta http-equiv[^>]*>", "", page.read_text(encoding="utf-8")))
    outer = page.with_name("frame.html")
    frame = f'<iframe width="{width}" height="{height}" style="border:0" srcdoc="{inner}"></iframe>'
    ready = f"""onload = () => {{
      const doc = document.querySelector("iframe").contentDocument;
      const found = document.createElement("pre");
      found.id = "found";
      found.textContent = JSON.stringify({script});
      document.body.append(found);
    }}"""
    outer.write_text(f"<!DOCTYPE html><body>{frame}<script>{ready}</script>", encoding="utf-8")
    document, _ = browse(outer)
    return json.loads(html.unescape(re.search(r'<pre id="found">(.*?)</pre>', document, re.DOTALL)[1]))
