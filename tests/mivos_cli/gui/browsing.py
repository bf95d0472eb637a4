"""A person at the page: a real browser, driven through what a person can see and touch."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Locator, Page

from tests.mivos_cli.gui.running import Work

PATIENCE = 25.0
# What the overlay looks like on the screen: how many pixels of the viewer are tinted red, green, blue.
TINTED = """() => {
  const view = document.querySelector('[data-testid=view]');
  const { data } = view.getContext('2d').getImageData(0, 0, view.width, view.height);
  const counts = { red: 0, green: 0, blue: 0 };
  for (let i = 0; i < data.length; i += 16) {
    const [r, g, b] = [data[i], data[i + 1], data[i + 2]];
    if (r > g + 40 && r > b + 30) counts.red++;
    if (g > r + 25 && g > b + 25) counts.green++;
    if (b > r + 30 && b > g + 20) counts.blue++;
  }
  return counts;
}"""


class Person:
    """One tab. Errors of the page's scripts fail the test at `leave`."""

    def __init__(self, browser: Browser, work: Work, width: int = 1280, height: int = 720, **options: Any) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": height}, **options)
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE * 1000)
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.work = work
        self.open(work)

    def open(self, work: Work) -> None:
        """Goes to the address that the server printed, and to the project."""
        self.page.goto(work.server.url)
        self.page.goto(f"{work.server.base}/#/p/{work.id}")

    def __enter__(self) -> Person:
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        if kind is not None and (folder := os.environ.get("MIVOS_TEST_SHOTS")):
            self.page.screenshot(path=str(Path(folder) / f"failed-{time.time():.0f}.png"))
        self.context.close()
        if kind is None:
            assert not self.errors, self.errors

    # ---- looking

    def __getitem__(self, name: str) -> Locator:
        return self.page.get_by_test_id(name)

    def data(self, name: str) -> str | None:
        return self.page.evaluate("(name) => document.documentElement.dataset[name] ?? null", name)

    def until(self, condition: Callable[[], Any], what: str = "it") -> Any:
        """Waits for something true and returns it."""
        end = time.monotonic() + PATIENCE
        while not (result := condition()):
            assert time.monotonic() < end, f"waited for {what}; page errors: {self.errors}"
            self.page.wait_for_timeout(30)
        return result

    def at_frame(self, frame: int) -> None:
        self.until(lambda: self.data("frame") == str(frame), f"frame {frame}, not {self.data('frame')}")

    def tinted(self, colour: str) -> int:
        """Pixels of a colour in the viewer; only differences matter, the picture itself has some."""
        return self.page.evaluate(TINTED)[colour]

    def ready(self) -> Person:
        """The first frame is on screen and nothing is being loaded."""
        self.until(lambda: self.data("frame") is not None, "a frame")
        self.until(lambda: not self["job"].inner_text().strip(), "the end of loading")
        return self

    def shot(self, path: Path) -> None:
        self.page.screenshot(path=str(path))

    # ---- doing

    def go(self, frame: int) -> None:
        self["frame-number"].fill(str(frame))
        self["frame-number"].press("Enter")
        self.at_frame(frame)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def place(self, x: float, y: float) -> tuple[float, float]:
        """A point of the frame (fractions) in pixels of the page; the whole frame must be in view."""
        box = self["view"].bounding_box()
        assert box is not None
        scale, left, top = self.page.evaluate(
            """async () => {
              const { viewport } = await import(new URL('js/view.js', location.href).href);
              const ratio = devicePixelRatio;
              return [viewport.scale / ratio, viewport.x / ratio, viewport.y / ratio];
            }"""
        )
        width, height = self.frame_size
        return box["x"] + left + x * width * scale, box["y"] + top + y * height * scale

    frame_size = (320, 136)

    def draw(self, *path: tuple[float, float], button: str = "left") -> None:
        """A line through points of the frame with the chosen tool; waits for the mask that it makes."""
        before = self.data("mask")
        points = [self.place(*point) for point in path]
        self.page.mouse.move(*points[0])
        self.page.mouse.down(button=button)  # type: ignore[arg-type]
        for point in points[1:]:
            self.page.mouse.move(*point, steps=5)
        self.page.mouse.up(button=button)  # type: ignore[arg-type]
        self.until(lambda: self.data("mask") != before, "the mask of a stroke")

    def propagate(self, direction: str | None = None) -> None:
        """Starts it and waits for the end."""
        rounds = len(self.work.state()["rounds"])
        if direction is None:
            self["propagate"].click()
        else:
            self["propagate-menu"].click()
            self[f"direction-{direction}"].click()
        self.until(lambda: len(self.work.state()["rounds"]) > rounds, "the round")
        self.until(lambda: not self["pause"].is_visible(), "the end of the propagation")
