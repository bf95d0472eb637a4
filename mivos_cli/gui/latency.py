"""How long a person waits: strokes, frame changes and propagation, timed in the real page in a real browser.

The page's own clock is used: from the event that the person causes to the moment right after the canvas was drawn
(the page then sets `data-frame` and `data-mask` on its root element).
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mivos_cli.gui.browser import browser
from stores.errors import UsageError

if TYPE_CHECKING:
    from playwright.sync_api import Page

FRAMES = 60
PATIENCE = 120_000  # milliseconds for anything
# Starts a clock at the next EVENT, stops it when the root element's data changes to something WANTED.
CLOCK = """() => {
  const root = document.documentElement;
  window.mivosClock = new Promise((done) => {
    addEventListener("EVENT", () => {
      const started = performance.now();
      const before = { ...root.dataset };
      const observer = new MutationObserver(() => {
        const data = root.dataset;
        if (!(WANTED)) return;
        observer.disconnect();
        done(performance.now() - started);
      });
      observer.observe(root, { attributes: true });
    }, { once: true, capture: true });
  });
}"""
OTHER_FRAME, OTHER_MASK = "data.frame !== before.frame", "data.mask !== before.mask"
# Frames are on screen, the video is read and the networks are loaded.
READY = """async () => {
  if (document.documentElement.dataset.frame === undefined) return false;
  const home = await (await fetch("api/home")).json();
  const state = await (await fetch(`api/projects/${home.only}/state`)).json();
  return state.decoded && state.jobs.length === 0;
}"""


@dataclass(frozen=True)
class Waits:
    """Milliseconds of one kind of waiting."""

    what: str
    target: float
    median: float
    p90: float
    worst: float
    times: int

    @classmethod
    def of(cls, what: str, target: float, values: Sequence[float]) -> Waits:
        ordered = sorted(values)
        p90 = ordered[min(len(ordered) - 1, round(0.9 * (len(ordered) - 1)))]
        return cls(what, target, statistics.median(ordered), p90, ordered[-1], len(ordered))


@dataclass(frozen=True)
class LatencyReport:
    """What `measure_latency` found; `rows` in the order of work."""

    width: int
    height: int
    frames: int
    browser: str
    rows: tuple[Waits, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@contextmanager
def server(path: Path, *options: str) -> Iterator[str]:
    """`mivos gui` in a process of its own; yields the address of its page."""
    command = [sys.executable, "-m", "mivos_cli", "gui", str(path), "--no-open", "--json", "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["url"]
    finally:
        process.terminate()
        process.communicate()


def measure_latency(
    *, source: Path | None = None, size: int = 480, frames: int = FRAMES, times: int = 12, model: str = "nano"
) -> LatencyReport:
    """Waits of a person at work on the first frames of a video.

    Args:
        source: a video or image folder; None: the one of `mivos bench speed`, cropped to 16:9.

    Raises:
        UsageError: there is no browser, or no such model. VideoError: the video cannot be used.
    """
    from pipelines.evaluation.speed import default_video, read_at_size
    from stores.davis import write_jpeg

    with tempfile.TemporaryDirectory(prefix="mivos-gui-") as name, browser() as chromium:
        folder = Path(name) / "clip"
        folder.mkdir()
        count = 0
        for image in read_at_size(source or default_video(), frames, size, crop=source is None):
            write_jpeg(folder / f"{count:05d}.jpg", image)
            height, width = image.shape[:2]
            count += 1
        with server(folder, "--model", model, "--size", str(size)) as address:
            page = chromium.new_page(viewport={"width": 1280, "height": 720})
            page.goto(address)
            _wait(page, READY)
            rows = tuple(_measure(page, count, times))
        return LatencyReport(width, height, count, chromium.version, rows)


def _wait(page: Page, condition: str) -> None:
    """Polls from here: the page's content policy forbids Playwright's own way."""
    end = time.monotonic() + PATIENCE / 1000
    while not page.evaluate(condition):
        if time.monotonic() > end:
            raise UsageError("the page does not become ready", hint="try it by hand with `mivos gui`")
        page.wait_for_timeout(200)


def _measure(page: Page, count: int, times: int) -> Iterator[Waits]:
    box = page.get_by_test_id("view").bounding_box()
    assert box is not None

    def timed(event: str, wanted: str, act: Any) -> float:
        page.evaluate(CLOCK.replace("EVENT", event).replace("WANTED", wanted))
        act()
        return float(page.evaluate("window.mivosClock"))

    def key(name: str, wanted: str) -> float:
        return timed("keydown", wanted, lambda: page.keyboard.press(name))

    def stroke(number: int) -> float:
        x = box["x"] + box["width"] * (0.35 + 0.02 * (number % 12))
        y = box["y"] + box["height"] * 0.5
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + 15, y + 25, steps=6)
        return timed("pointerup", OTHER_MASK, page.mouse.up)

    page.keyboard.press("Home")
    yield Waits.of("next frame (arrow key)", 60, [key("ArrowRight", OTHER_FRAME) for _ in range(times)])

    line = page.get_by_test_id("timeline").bounding_box()
    assert line is not None
    jumps = []
    for number in range(times):
        place = 0.05 + 0.9 * ((number * 7) % times) / times
        page.mouse.move(line["x"] + place * line["width"], line["y"] + 0.3 * line["height"])
        jumps.append(timed("pointerdown", OTHER_FRAME, page.mouse.down))
        page.mouse.up()
        page.wait_for_timeout(150)
    yield Waits.of("jump to a frame (timeline)", 60, jumps)

    page.get_by_test_id("tool-scribble").click()
    firsts, others = [], []
    for number in range(times):
        page.get_by_test_id("frame-number").fill(str((number * 5) % count))
        page.keyboard.press("Enter")
        page.get_by_test_id("view").hover()
        page.wait_for_timeout(200)
        firsts.append(stroke(number))
        others.append(stroke(number + 3))
    yield Waits.of("first stroke on a frame, to its mask", 400, firsts)
    yield Waits.of("further stroke, to its mask", 400, others)
    for _ in range(2 * times - 1):  # one stroke stays
        page.keyboard.press("Control+z")
        page.wait_for_timeout(60)
    page.wait_for_timeout(500)

    waits = []
    for _ in range(max(3, times // 4)):
        # the page shows frames as they are propagated: the first one that it draws
        waits.append(timed("click", OTHER_FRAME, page.get_by_test_id("propagate").click))
        page.get_by_test_id("pause").click()
        page.get_by_test_id("discard").wait_for(timeout=PATIENCE)
        page.get_by_test_id("discard").click()
        if page.get_by_test_id("confirm-yes").is_visible():
            page.get_by_test_id("confirm-yes").click()
        page.get_by_test_id("discard").wait_for(state="hidden", timeout=PATIENCE)
        page.wait_for_timeout(300)
        page.get_by_test_id("frame-number").fill("0")
        page.keyboard.press("Enter")
        page.wait_for_timeout(300)
    yield Waits.of("press Propagate, to the first propagated frame", 600, waits)
