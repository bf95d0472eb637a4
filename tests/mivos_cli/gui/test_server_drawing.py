"""Through the real server: the list of projects, pictures, drawing, objects, masks from elsewhere, two tabs."""

from __future__ import annotations

import io
import time
import uuid
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from tests.mivos_cli.conftest import CYCLIST, HEIGHT, TAXI, WIDTH
from tests.mivos_cli.gui.conftest import LENGTH
from tests.mivos_cli.gui.running import Message, Server, Work

RIDER, CAR = CYCLIST[1], TAXI[1]
SQUARE = [[0.1, 0.2], [0.3, 0.2], [0.3, 0.7], [0.1, 0.7]]


def png(labels: np.ndarray) -> bytes:
    image = Image.fromarray(labels, "P")
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    image.save(file := io.BytesIO(), "PNG")
    return file.getvalue()


def new_id() -> str:
    return uuid.uuid4().hex


# ---- the list, and pictures


def test_the_list_of_projects(server: Server, opened: Work) -> None:
    home = server.http.get("/api/home").json()
    assert home["only"] is None and home["model"] == "nano" and Path(home["folder"]).name.startswith("library")
    projects = {project["name"]: project for project in home["projects"]}
    traffic = projects.get("traffic.mp4.mivos") or projects["traffic.mp4"]
    assert {"frames": LENGTH, "width": WIDTH, "height": HEIGHT}.items() <= traffic.items()
    assert traffic["id"] == opened.id and traffic["open"] is True and traffic["kind"] == "session"
    assert projects["broken.mp4"]["kind"] == "video" and "broken.mp4" in projects["broken.mp4"]["error"]
    assert not projects["broken.mp4"]["open"]
    answer = opened.get("thumb.jpg")
    image = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)
    assert answer.headers["content-type"] == "image/jpeg" and image.shape[:2] == (HEIGHT, WIDTH)
    broken = projects["broken.mp4"]["id"]
    assert server.http.get(f"/api/projects/{broken}/thumb.jpg").status_code == 404


def test_a_broken_video(server: Server, projects: dict[str, str], library: Path) -> None:
    answer = server.http.post(f"/api/projects/{projects['broken.mp4']}/open")
    assert answer.status_code == 400
    assert "broken.mp4" in answer.json()["error"]
    assert server.http.get(f"/api/projects/{projects['broken.mp4']}/state").status_code == 409
    assert not list(library.glob("broken.mp4.*"))


def test_frames_are_pictures_that_may_be_kept(opened: Work) -> None:
    whole, small = opened.get("frames/3.jpg"), opened.get("frames/3.jpg", params={"w": 80})
    shapes = [cv2.imdecode(np.frombuffer(a.content, np.uint8), cv2.IMREAD_COLOR).shape for a in (whole, small)]
    assert shapes == [(HEIGHT, WIDTH, 3), (34, 80, 3)]
    assert "immutable" in whole.headers["cache-control"] and "private" in whole.headers["cache-control"]
    again = opened.get("frames/3.jpg", headers={"If-None-Match": whole.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert opened.get("frames/4.jpg", headers={"If-None-Match": whole.headers["etag"]}).status_code == 200


# ---- drawing


def test_a_stroke_is_seen_in_all_tabs(work: Work) -> None:
    assert work.mask(3) is None
    with work.tab() as one, work.tab() as two:
        starts = [len(tab.messages) for tab in (one, two)]
        answer = work.act(3, 1, RIDER)
        assert answer.status_code == 200
        revision = answer.json()["revision"]
        for tab, start in zip((one, two), starts, strict=True):
            tab.wait(lambda m: m["type"] == "state" and m["revision"] == revision, start)
            first = tab.messages[start]
            assert (first["type"], first["frames"]) == ("masks", [3]), "the mask is told before all else"
            assert tab.of("state", start)[-1]["drafts"] == [{"frame": 3, "actions": 1, "objects": [1]}]
    assert set(np.unique(work.shown(3))) == {0, 1}
    columns = np.nonzero(work.shown(3))[1]
    assert 0.55 < columns.mean() / WIDTH < 0.75
    assert work.mask(3, "committed") is None
    drawn = work.get("drafts/3").json()["actions"]
    assert [(a["kind"], a["object"], a["path"]) for a in drawn] == [("scribble", 1, RIDER)]
    assert work.get("drafts/4").json() == {"actions": []}


def test_an_action_sent_twice_is_done_once(work: Work) -> None:
    name = new_id()
    for _ in range(2):
        assert work.act(0, 1, SQUARE, kind="lasso", id=name).status_code == 200
    assert work.state()["drafts"] == [{"frame": 0, "actions": 1, "objects": [1]}]


def test_an_action_that_cannot_be(work: Work) -> None:
    before = work.state()
    for frame, object_id, path, fields in (
        (LENGTH, 1, RIDER, {}),
        (0, 256, RIDER, {}),
        (0, 1, [], {}),
        (0, 1, [[2, 2]], {}),
        (0, 1, RIDER, {"kind": "magic"}),
        (0, 1, RIDER, {"id": "../x"}),
    ):
        answer = work.act(frame, object_id, path, **fields)
        assert answer.status_code == 400 and answer.json()["error"], (frame, fields)
    assert work.state()["drafts"] == before["drafts"]


def test_undo_and_redo(work: Work) -> None:
    assert work.post("undo").status_code == 409
    work.act(0, 1, SQUARE, kind="lasso")
    square = work.shown(0)
    work.act(0, 2, RIDER, kind="brush", radius=0.02)
    both = work.shown(0)
    assert (square != both).any() and work.state()["undo"]
    with work.tab() as tab:
        start = len(tab.messages)
        assert work.ok("undo")["frame"] == 0
        assert tab.wait(lambda m: m["type"] == "masks", start)["frames"] == [0]
    assert (work.shown(0) == square).all()
    assert work.ok("redo")["frame"] == 0
    assert (work.shown(0) == both).all()
    assert work.post("redo").status_code == 409
    work.ok("undo"), work.ok("undo")
    assert work.mask(0) is None


def test_objects(work: Work) -> None:
    with work.tab() as tab:
        start = len(tab.messages)
        number = work.ok("objects", {"name": "a bike", "colour": "#AABBCC"})["id"]
        told = tab.wait(lambda m: m["type"] == "state" and any(o["id"] == number for o in m["objects"]), start)
        look = next(o for o in told["objects"] if o["id"] == number)
        assert look == {"id": number, "name": "a bike", "colour": "#aabbcc", "used": False}
    address = f"{work.path}/objects/{number}"
    assert work.server.http.patch(address, json={"name": "the bike"}).status_code == 200
    assert next(o for o in work.state()["objects"] if o["id"] == number)["name"] == "the bike"
    assert work.server.http.patch(f"{work.path}/objects/200", json={"name": "x"}).status_code == 400

    work.act(0, number, SQUARE, kind="lasso")
    assert number in work.shown(0)
    with work.tab() as tab:
        job = work.server.http.delete(address).json()["job"]
        assert tab.job(job)["state"] == "done"
    assert number not in {o["id"] for o in work.state()["objects"]}
    assert number not in work.shown(0)
    with work.tab() as tab:
        gone = tab.job(work.server.http.delete(address).json()["job"])
        assert gone["state"] == "failed" and str(number) in gone["error"]


def test_masks_from_elsewhere(work: Work) -> None:
    work.act(0, 1, SQUARE, kind="lasso")
    work.ok("paste", {"id": new_id(), "frame": 7, "from": 0, "objects": None})
    assert (work.shown(7) == work.shown(0)).all()
    assert work.post("paste", {"id": new_id(), "frame": 8, "from": 30, "objects": None}).status_code == 400
    assert work.post("paste", {"id": new_id(), "frame": 8, "from": LENGTH, "objects": None}).status_code == 404

    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[40:90, 100:200] = 2
    address = f"{work.path}/import"

    def put(content: bytes, **where: str | int) -> tuple[int, Message]:
        answer = work.server.http.put(address, params={"id": new_id(), **where}, content=content)
        return answer.status_code, answer.json()

    assert put(png(labels), frame=11) == (200, {"frame": 11})
    assert (work.shown(11) == labels).all()
    assert put(png(labels), name="00012.png") == (200, {"frame": 12})
    assert (work.shown(12) == labels).all()
    for content, where in (
        (png(labels), {}),
        (png(labels), {"frame": 1, "name": "00001.png"}),
        (png(labels), {"name": "../00013.png.exe"}),
        (png(labels[:50]), {"frame": 13}),
        (b"GIF89a", {"frame": 13}),
    ):
        status, told = put(content, **where)
        assert status == 400 and told["error"]
    assert work.mask(13) is None


def test_an_answer_takes_little_longer_than_the_work(work: Work) -> None:
    """A lasso needs no network; what is left is the way here and back, and keeping it on disk."""
    with work.tab() as tab:
        waits = []
        for _ in range(8):
            start, began = len(tab.messages), time.monotonic()
            work.act(0, 1, SQUARE, kind="lasso")
            waits.append(tab.wait(lambda m: m["type"] == "masks", start)["at"] - began)
    assert min(waits) < 0.1, waits
