"""Through the real server: rounds with pause and cancel, several projects at once, exports, closing."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from stores.session import Session
from tests.mivos_cli.conftest import CYCLIST, TAXI
from tests.mivos_cli.gui.conftest import LENGTH
from tests.mivos_cli.gui.running import Message, Server, Tab, Work, until

RIDER, CAR = CYCLIST[1], TAXI[1]
SQUARE = [[0.1, 0.2], [0.3, 0.2], [0.3, 0.7], [0.1, 0.7]]


def rounds(state: Message) -> list[Message]:
    """Those that were not undone (by an earlier test)."""
    return [item for item in state["rounds"] if not item["undone"]]


def running(tab: Tab, job: str, frames: int = 1) -> Message:
    """Waits until a job has done some frames."""
    return tab.wait(lambda m: m["type"] == "progress" and m["job"] == job and m["done"] >= frames)


# ---- rounds


def test_a_propagation_from_start_to_end(work: Work) -> None:
    work.act(0, 1, RIDER), work.act(0, 2, CAR)
    drawn = work.shown(0)
    with work.tab() as tab:
        start = len(tab.messages)
        job = work.ok("propagate", {"direction": "both"})["job"]
        running(tab, job, 2)
        refused = work.act(5, 1, RIDER)
        assert refused.status_code == 409 and "pause" in refused.json()["hint"]
        assert work.post("propagate").status_code == 409
        assert work.post("undo").status_code == 409
        state = work.state()  # answered while the worker is busy
        assert state["jobs"][0]["id"] == job and state["round"]["paused"] is False
        assert tab.job(job) == {"id": job, "kind": "propagate", "state": "done", "error": None, "hint": None}
        steps = [m for m in tab.of("progress", start) if m["job"] == job]
        assert (steps[-1]["done"], steps[-1]["total"]) == (LENGTH - 1, LENGTH - 1)
        assert [m["done"] for m in steps] == sorted(m["done"] for m in steps)
        seconds = steps[-1]["at"] - steps[0]["at"]
        assert len(steps) <= 20 * seconds + 3
        pushed = {frame for m in tab.of("masks", start) for frame in m["frames"] or ()}
        assert any(m["frames"] is None for m in tab.of("masks", start))  # at the end: all, which may swallow the last
        assert pushed >= set(range(1, LENGTH - 2))
        tab.wait(lambda m: m["type"] == "state" and rounds(m) and not m["jobs"], start)
    state = work.state()
    assert state["computed"] == [[0, LENGTH - 1, 1]] and state["drafts"] == [] and state["round"] is None
    assert (work.shown(0) == drawn).all()
    assert set(np.unique(work.shown(LENGTH - 1))) == {0, 1, 2}

    step = work.ok("undo")
    assert step["frame"] == 0
    assert work.mask(LENGTH - 1) is None and (work.shown(0) == drawn).all()
    assert work.state()["drafts"] == [{"frame": 0, "actions": 2, "objects": [1, 2]}]
    work.ok("redo")
    assert work.state()["drafts"] == [] and work.mask(LENGTH - 1) is not None
    work.act(10, 1, RIDER, positive=False)
    assert (work.shown(10) != work.mask(10, "committed")).any()
    assert (work.mask(10, "before") == work.mask(10, "committed")).all()


def test_pause_and_continue(work: Work) -> None:
    for what in ("pause", "continue", "keep", "discard"):
        assert work.post(what).status_code == 409
    work.act(0, 1, RIDER)
    with work.tab() as tab:
        job = work.ok("propagate", {"direction": "forward"})["job"]
        running(tab, job)
        assert work.ok("pause")["job"] == job
        state = work.state()  # it has stopped when the answer comes
        assert state["jobs"] == [] and state["round"]["paused"] is True
        reached = state["round"]["done"]
        assert 0 < reached < LENGTH - 1 and state["round"]["total"] == LENGTH - 1
        assert work.mask(reached) is not None and work.mask(reached + 1) is None
        assert work.post("propagate").status_code == 409
        job = work.ok("continue")["job"]
        assert tab.job(job)["state"] == "done"
        assert next(m for m in tab.of("progress") if m["job"] == job)["done"] > reached
    assert work.ready()["computed"] == [[0, LENGTH - 1, 1]]


@pytest.mark.parametrize("end", ["keep", "discard"])
def test_the_end_of_a_pause(work: Work, end: str) -> None:
    work.act(0, 1, RIDER)
    with work.tab() as tab:
        running(tab, work.ok("propagate")["job"])
        work.ok("pause")
    reached = work.state()["round"]["done"]
    work.ok(end)
    state = work.state()
    assert state["round"] is None
    assert len(rounds(state)) == (1 if end == "keep" else 0)
    assert state["computed"] == ([[0, reached, 1]] if end == "keep" else [])
    assert [draft["frame"] for draft in state["drafts"]] == ([] if end == "keep" else [0])


def test_cancel(work: Work) -> None:
    work.act(0, 1, RIDER)
    before = work.shown(0)
    with work.tab() as tab:
        job = work.ok("propagate")["job"]
        running(tab, job)
        work.ok(f"jobs/{job}/cancel")
        assert tab.job(job)["state"] == "cancelled"
    state = work.ready()
    assert state["round"] is None and rounds(state) == [] and state["computed"] == []
    assert (work.shown(0) == before).all() and work.mask(1) is None
    assert work.post("jobs/nothing/cancel").status_code == 404


def test_part_of_the_video(work: Work) -> None:
    work.act(10, 1, RIDER)
    with work.tab() as tab:
        assert tab.job(work.ok("propagate", {"direction": "to", "to": 13})["job"])["state"] == "done"
        assert work.state()["computed"] == [[10, 13, 1]]
        work.act(20, 1, RIDER)
        assert tab.job(work.ok("propagate", {"direction": "none", "frames": [20]})["job"])["state"] == "done"
        assert work.state()["computed"] == [[10, 13, 1], [20, 20, 2]]
        failed = tab.job(work.ok("propagate", {"direction": "to", "frames": [20]})["job"])
        assert failed["state"] == "failed" and failed["error"]
    assert work.post("propagate", {"direction": "to", "to": LENGTH}).status_code == 404
    assert work.post("propagate", {"direction": "sideways"}).status_code == 400


def test_another_project_is_not_kept_waiting(server: Server, work: Work, projects: dict[str, str]) -> None:
    work.act(0, 1, RIDER)
    with work.tab() as tab:
        job = work.ok("propagate")["job"]
        running(tab, job)
        other = server.open(projects["short.mp4"])
        with other.tab() as second:
            assert not [m for m in second.messages if m["type"] == "progress" and m["job"] == job]
        assert job in [item["id"] for item in work.state()["jobs"]], "it was opened during the propagation"
        assert tab.job(job)["state"] == "done"
        other.ready()
        job = work.ok("propagate", {"frames": [0]})["job"]
        running(tab, job)
        assert other.act(2, 1, RIDER).status_code == 200
        assert job in [item["id"] for item in work.state()["jobs"]], "it was drawn during the propagation"
        assert other.shown(2).any()
        assert tab.job(job)["state"] == "done"
    other.ok("close")


# ---- exports


def test_export_and_download(work: Work) -> None:
    refused = work.post("export", {"formats": ["png"]})
    assert refused.status_code == 409 and refused.json()["hint"]
    work.act(5, 1, RIDER)
    with work.tab() as tab:
        tab.job(work.ok("propagate", {"direction": "forward"})["job"])
        start = len(tab.messages)
        job = work.ok("export", {"formats": ["png", "overlay", "coco"]})["job"]
        assert tab.wait(lambda m: m["type"] == "state" and m["exporting"], start)
        assert tab.job(job)["state"] == "done"
        last = [m for m in tab.of("progress", start) if m["job"] == job][-1]
        assert (last["stage"], last["done"], last["total"]) == ("export", LENGTH, LENGTH)
        assert any("never computed" in m["text"] for m in tab.of("message", start)), "warnings come here"
    assert work.state()["exporting"] is False

    export = work.get("exports").json()["exports"][0]
    assert export["formats"] == ["png", "overlay", "coco"] and Path(export["folder"]).is_dir()
    names = {file["name"]: file["bytes"] for file in export["files"]}
    assert {"masks.zip", "overlay.mp4"} <= set(names) and len(names) == 3
    address = f"exports/{export['id']}"
    answer = work.get(f"{address}/masks.zip")
    assert len(answer.content) == names["masks.zip"] and "attachment" in answer.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert len(archive.namelist()) == LENGTH - 5
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        image = Image.open(io.BytesIO(archive.read("masks/00007.png")))
        assert (np.asarray(image) == work.shown(7)).all()
    part = work.get(f"{address}/overlay.mp4", headers={"Range": "bytes=100-299"})
    whole = work.get(f"{address}/overlay.mp4").content
    assert part.status_code == 206 and part.content == whole[100:300]
    with av.open(io.BytesIO(whole)) as video:
        assert sum(1 for _ in video.decode(video=0)) == LENGTH
    for wrong in (
        f"{address}/export.json",
        f"{address}/nothing",
        f"{address}/masks",
        "exports/20000101-000000/masks.zip",
    ):
        assert work.get(wrong).status_code == 404, wrong

    assert work.server.http.delete(f"{work.path}/{address}").status_code == 200
    assert work.get("exports").json() == {"exports": []} and not Path(export["folder"]).exists()
    assert work.server.http.delete(f"{work.path}/{address}").status_code == 404


def test_an_export_that_is_cancelled_leaves_nothing(work: Work) -> None:
    work.act(5, 1, RIDER)
    with work.tab() as tab:
        tab.job(work.ok("propagate", {"direction": "none"})["job"])
        job = work.ok("export", {"formats": ["webm", "prores"]})["job"]
        running(tab, job)
        assert work.act(6, 1, RIDER).status_code == 200, "drawing goes on meanwhile"
        work.ok(f"jobs/{job}/cancel")
        assert tab.job(job)["state"] == "cancelled"
    assert work.get("exports").json() == {"exports": []}
    assert not (Path(work.state()["path"]) / "exports").exists()


# ---- closing


def test_closing_gives_the_session_back(work: Work, server: Server) -> None:
    work.act(0, 1, SQUARE, kind="lasso")
    drawn, folder = work.shown(0), Path(work.state()["path"])
    with work.tab() as tab:
        work.ok("close")
        until(lambda: tab.closed is not None)
        assert tab.closed == 4000
    for what in ("state", "masks/0", "frames/0.jpg"):
        answer = work.get(what)
        assert answer.status_code == 409 and "not open" in answer.json()["error"]
    with Session.open(folder, write=True):
        answer = server.http.post(f"{work.path}/open")
        assert answer.status_code == 409 and "is being written by" in answer.json()["error"]
    server.open(work.id)
    assert (work.shown(0) == drawn).all()
