"""A real browser without a window, for the benchmark of the page and its tests. Needs the package playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from stores.errors import UsageError

if TYPE_CHECKING:
    from playwright.sync_api import Browser

VARIABLE = "MIVOS_BROWSER"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# It must not talk to anybody but the server, and draws without a graphics card.
FLAGS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
)


def find_browser() -> Path | None:
    """Chromium or Chrome: $MIVOS_BROWSER, else the first of `NAMES` that is installed."""
    given = os.environ.get(VARIABLE)
    found = given or next((path for name in NAMES if (path := shutil.which(name))), None)
    return None if found is None else Path(found)


@contextmanager
def browser() -> Iterator[Browser]:
    """A running browser.

    Raises:
        UsageError: there is none, or no playwright to drive it.
    """
    path = find_browser()
    if path is None:
        raise UsageError(
            "no Chromium or Chrome was found", hint=f"install one (Debian: chromium), or set {VARIABLE} to its path"
        )
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise UsageError("the package playwright is not installed", hint="pip install playwright") from error
    # Chromium refuses to start its sandbox as root, which is what containers run as.
    flags = [*FLAGS, *(["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=str(path), args=flags)
        try:
            yield running
        finally:
            running.close()
