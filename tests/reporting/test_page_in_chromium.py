"""The page in a real browser: nothing runs, nothing is fetched, nothing has to be scrolled sideways."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    f"--{flag}"
    for flag in (
        "headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
        "disable-component-update", "disable-sync", "hide-scrollbars", "host-resolver-rules=MAP * ~NOTFOUND",
    )
]  # fmt: skip

pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs a browser: apt-get install chromium")

# What the page is measured by, inside a frame: a frame is as narrow as told, a headless window is not.
MEASURE = """<script>addEventListener("load", () => {
  const shown = [...document.querySelectorAll("figure svg")].filter(svg => svg.getBoundingClientRect().width > 0);
  const letters = shown.flatMap(svg => [...svg.querySelectorAll("text")].map(text =>
    parseFloat(getComputedStyle(text).fontSize) * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width));
  parent.postMessage({scroll: document.documentElement.scrollWidth, width: innerWidth, shown: shown.length,
    figures: document.querySelectorAll("figure").length, letter: Math.min(...letters)}, "*");
});</script>"""
FRAME = """<!DOCTYPE html><script>addEventListener("message", event => {
  document.title = JSON.stringify(event.data); });</script>
<iframe src="%s" width="%d" height="800" style="border:0"></iframe>"""


def browse(folder: Path, *arguments: str) -> str:
    command = [BROWSER, *FLAGS, f"--user-data-dir={folder / 'profile'}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.fixture(scope="module")
def measurable(page, tmp_path_factory) -> Path:
    """A copy of the page that may run one script, ours, which writes what it measured into the title."""
    copy = tmp_path_factory.mktemp("measurable") / "page.html"
    html = re.sub(r"<meta http-equiv=[^>]+>", "", page.read_text(encoding="utf-8"))
    copy.write_text(html.replace("</head>", MEASURE + "</head>"), encoding="utf-8")
    return copy


def test_names_run_no_script(page, tmp_path):
    dom = browse(tmp_path, "--dump-dom", page.as_uri())
    assert "<main" in dom
    assert "<script" not in dom and "<img" not in dom
    assert dom.count("<figure") > 10


@pytest.mark.parametrize("width", [390, 1200])
def test_it_fits_the_screen_and_text_stays_legible(measurable, width, tmp_path):
    (tmp_path / "frame.html").write_text(FRAME % (measurable.as_uri(), width))
    dom = browse(tmp_path, "--virtual-time-budget=10000", "--dump-dom", (tmp_path / "frame.html").as_uri())
    found = json.loads(re.search("<title>(.*?)</title>", dom)[1])
    assert found["width"] == width
    assert found["scroll"] <= width  # nothing has to be scrolled sideways
    assert found["shown"] == found["figures"] > 10  # of each pair of figures, one
    assert found["letter"] > 9.5  # CSS pixels of the smallest text


@pytest.mark.parametrize("width", [390, 1200])
def test_it_can_be_pictured(page, width, tmp_path):
    picture = tmp_path / "page.png"
    browse(tmp_path, f"--window-size={width},3000", f"--screenshot={picture}", page.as_uri())
    pixels = plt.imread(picture)
    assert pixels.shape[:2] == (3000, width)
    assert pixels[..., :3].std() > 0.05  # not an empty page
