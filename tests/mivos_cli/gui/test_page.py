"""The page in a real browser: from the first stroke to the export, by mouse and by keyboard, through crashes."""

from __future__ import annotations

import itertools
import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from mivos_cli.gui.browser import browser as start_browser
from mivos_cli.gui.browser import find_browser
from tests.mivos_cli.gui.running import Server, Work, kill, until

if find_browser() is None:
    if os.environ.get("MIVOS_REQUIRE_BROWSER"):
        raise RuntimeError("no Chromium or Chrome for the tests of the page; Debian: apt-get install chromium")
    pytest.skip("no Chromium or Chrome; install one or set MIVOS_BROWSER", allow_module_level=True)
pytest.importorskip("playwright", reason='needs playwright: pip install -e ".[test]"')

from playwright.sync_api import Browser, expect  # noqa: E402

from tests.mivos_cli.gui.browsing import Person  # noqa: E402

CYCLIST = ((0.655, 0.1), (0.652, 0.2), (0.66, 0.35), (0.655, 0.6), (0.65, 0.9))
TAXI = ((0.05, 0.15), (0.3, 0.2), (0.4, 0.5), (0.42, 0.8), (0.1, 0.9), (0.05, 0.5))
numbers = itertools.count()
GROUND = ((0.5, 0.3), (0.495, 0.9))  # below the banner


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with start_browser() as running:
        yield running


@pytest.fixture
def work(server: Server, library: Path, long_clip: Path) -> Iterator[Work]:
    """A project of its own, decoded, in a server that has the networks loaded already."""
    video = Path(shutil.copy(long_clip, library / f"page{next(numbers)}.mp4"))
    listed = server.http.get("/api/home").json()["projects"]
    opened = server.open(next(project["id"] for project in listed if project["name"] == video.name))
    opened.ready()
    yield opened
    opened.post("close")


@pytest.mark.parametrize("size", [(1280, 720), (1920, 1080)])
def test_from_the_first_stroke_to_the_export(
    chromium: Browser, work: Work, size: tuple[int, int], tmp_path: Path
) -> None:
    with Person(chromium, work, *size, accept_downloads=True) as person:
        person.ready()
        expect(person["project-name"]).to_contain_text("page")
        plain = person.tinted("red")
        person.draw(*CYCLIST)
        one = until(lambda: (red := person.tinted("red")) > plain + 50 and red)
        person.draw(*TAXI, button="right")  # not this: nothing of the taxi becomes red
        assert person.tinted("red") < 1.5 * one
        person["add-object"].click()
        expect(person["object-2"]).to_be_visible()
        green = person.tinted("green")
        person.draw(*TAXI)
        until(lambda: person.tinted("green") > green + 200)
        person.propagate()
        person.go(39)
        until(lambda: person.tinted("green") > 300)
        expect(person["round-1"]).to_be_visible()
        # correct another frame
        before = work.shown(25)
        person.go(30)
        person["object-1"].click()
        person["tool-eraser"].click()
        person.draw((0.6, 0.3), (0.7, 0.7))
        person.propagate("backward")
        assert not np.array_equal(work.shown(25), before)
        # export
        person["export"].click()
        person["export-start"].click()
        with person.page.expect_download() as waiting:
            person["export-file"].first.click()
        target = tmp_path / waiting.value.suggested_filename
        waiting.value.save_as(target)
    names = _exported(target)
    assert len(names) == 40 or target.suffix == ".mp4", names


def _exported(file: Path) -> list[str]:
    if file.suffix != ".zip":
        return [file.name]
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        names = [name for name in archive.namelist() if name.endswith(".png")]
        picture = cv2.imdecode(np.frombuffer(archive.read(names[0]), np.uint8), cv2.IMREAD_UNCHANGED)
        assert picture.shape[:2] == (136, 320)
        return names


def test_undo_redo_and_reload_find_everything(chromium: Browser, work: Work) -> None:
    with Person(chromium, work) as person:
        person.ready()
        person.draw(*CYCLIST)
        person["add-object"].click()
        expect(person["object-2"]).to_be_visible()
        person.draw(*TAXI)
        both = work.shown(0)
        person.press("Control+z")
        until(lambda: set(np.unique(work.shown(0))) == {0, 1})
        person.press("Control+Shift+z")
        until(lambda: np.array_equal(work.shown(0), both))
        person["object-pick-2"].dblclick()
        person.page.get_by_label("Name of object 2").fill("taxi")
        person.press("Enter")
        until(lambda: work.state()["objects"][1]["name"] == "taxi")
        mask = person.data("mask")
        person.page.reload()
        person.ready()
        assert person.data("mask") is not None and mask is not None
        until(lambda: person.tinted("green") > 200)
        expect(person["object-2"]).to_contain_text("taxi")
        expect(person["edit-0"]).to_be_visible()
        person["undo"].click()
        until(lambda: set(np.unique(work.shown(0))) == {0, 1})
        person.propagate()
        person["undo"].click()  # the round; its strokes are a draft again
        expect(person["edit-0"]).to_be_visible()
        assert work.state()["computed"] == []
        person["redo"].click()
        until(lambda: work.state()["computed"] == [[0, 39, 1]])


def test_nothing_is_lost_when_the_server_dies(chromium: Browser, long_clip: Path, tmp_path: Path) -> None:
    video = Path(shutil.copy(long_clip, tmp_path / "traffic.mp4"))
    with Server(video) as first:
        port, work = str(first.port), first.only()
        with Person(chromium, work) as person:
            person.ready()
            person.draw(*CYCLIST)
            kill(first)
            person.until(lambda: person.data("connection") == "offline", "the page to notice")
            expect(person["banner"]).to_be_visible()
            # what is drawn meanwhile waits in the page
            points = [person.place(*point) for point in GROUND]
            person.page.mouse.move(*points[0])
            person.page.mouse.down(button="right")
            person.page.mouse.move(*points[1], steps=5)
            person.page.mouse.up(button="right")
            with Server(video, "--port", port) as second:
                work = second.only()
                person.open(work)
                person.ready()
                until(lambda: len(work.get("drafts/0").json()["actions"]) == 2)  # it has arrived
                person["propagate"].click()
                until(lambda: (work.state()["round"] or {}).get("done", 0) > 3)
                person["pause"].click()
                person["continue"].wait_for()
                done = work.state()["round"]["done"]
                person["continue"].click()
                until(lambda: (work.state()["round"] or {}).get("done", 0) > done)
                kill(second)
            with Server(video, "--port", port) as third:
                work = third.only()
                assert work.state()["round"]["paused"] and work.state()["round"]["done"] >= done
                person.open(work)
                person.ready()
                person["continue"].click()
                until(lambda: work.state()["computed"] == [[0, 39, 1]])
                person.until(lambda: person["round-1"].is_visible(), "the round")


def test_keyboard_only(chromium: Browser, work: Work) -> None:
    with Person(chromium, work) as person:
        person.ready()
        person.press("c")
        for _ in range(3):
            person.press("Alt+ArrowRight")
        before = person.data("mask")
        person.press("Alt+ArrowLeft", "Enter")
        person.until(lambda: person.data("mask") != before, "the mask of a click")
        assert work.shown(0).any()
        # everything can be reached by Tab, and shows that it is
        seen = set()
        for _ in range(70):
            person.press("Tab")
            seen.add(person.page.evaluate("document.activeElement?.dataset.testid ?? ''"))
        assert {"undo", "propagate", "export", "tool-click", "add-object", "timeline", "play"} <= seen, seen
        person["view"].focus()
        person.press("p")
        until(lambda: work.state()["computed"] == [[0, 39, 1]])
        person.until(lambda: not person["pause"].is_visible())
        person.press("End")
        person.at_frame(39)
        person.press("Shift+ArrowLeft")
        person.at_frame(29)
        person.press("ArrowLeft")
        person.at_frame(28)
        person.press("Home")
        person.at_frame(0)
        person.press("?")
        expect(person["help-dialog"]).to_be_visible()
        person.press("Escape")
        expect(person["help-dialog"]).to_be_hidden()


def test_two_tabs_see_the_same(chromium: Browser, work: Work) -> None:
    with Person(chromium, work) as one, Person(chromium, work) as two:
        one.ready()
        two.ready()
        plain = two.tinted("red")
        one.draw(*CYCLIST)
        two.until(lambda: two.tinted("red") > plain + 50, "the other tab's mask")
        two["add-object"].click()
        expect(one["object-2"]).to_be_visible()
        two.press("Control+z")
        one.until(lambda: one.tinted("red") < plain + 30, "the undo of the other tab")


def test_brush_lasso_window_and_clicks(chromium: Browser, work: Work) -> None:
    with Person(chromium, work) as person:
        person.ready()
        person["tool-brush"].click()
        person.draw((0.2, 0.3), (0.3, 0.3))
        painted = work.shown(0)
        assert painted[round(0.3 * 135), round(0.25 * 319)] == 1
        person["tool-lasso"].click()
        person.draw((0.7, 0.2), (0.9, 0.2), (0.9, 0.8), (0.7, 0.8), (0.7, 0.2))
        assert work.shown(0)[round(0.5 * 135), round(0.8 * 319)] == 1
        person.draw((0.7, 0.2), (0.9, 0.2), (0.9, 0.8), (0.7, 0.8), (0.7, 0.2), button="right")
        assert work.shown(0)[round(0.5 * 135), round(0.8 * 319)] == 0
        person["tool-click"].click()
        person["add-object"].click()
        expect(person["object-2"]).to_be_visible()
        person.draw((0.655, 0.4))
        assert (work.shown(0) == 2).any()
        outside = work.shown(0)
        person["tool-window"].click()
        a, b = person.place(0.5, 0.1), person.place(0.8, 0.95)
        person.page.mouse.move(*a)
        person.page.mouse.down()
        person.page.mouse.move(*b, steps=5)
        person.page.mouse.up()
        person["finish-window"].wait_for()
        person["tool-scribble"].click()
        person.draw((0.655, 0.3), (0.655, 0.6))
        person["finish-window"].click()
        inside = work.shown(0)
        assert np.array_equal(inside[:, : int(0.49 * 320)], outside[:, : int(0.49 * 320)])
        actions = work.get("drafts/0").json()["actions"]
        assert [action["kind"] for action in actions][-1] == "scribble" and actions[-1]["window"] is not None


def test_the_page_loads_nothing_from_elsewhere(chromium: Browser, work: Work) -> None:
    with Person(chromium, work) as person:
        asked: list[str] = []
        person.page.on("request", lambda request: asked.append(request.url))
        person.page.reload()
        person.ready()
        person["export"].click()
        foreign = [url for url in asked if not url.startswith((work.server.base, "blob:", "data:"))]
        assert len(asked) > 10 and not foreign


def test_forward_first_then_backward_from_the_same_frame(chromium: Browser, work: Work) -> None:
    with Person(chromium, work) as person:
        person.ready()
        person.go(20)
        person.draw(*CYCLIST)
        person.propagate("forward")
        assert work.state()["computed"] == [[20, 39, 1]]
        person.go(20)
        person.propagate("backward")
        until(lambda: work.state()["computed"][0][0] == 0)
        person["undo"].click()
        until(lambda: work.state()["computed"] == [[20, 39, 1]])
