"""A project on a real clip: drawing, rounds, pauses, undo over both, and what a killed process leaves."""

from __future__ import annotations

import base64
import itertools
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipelines import flow
from pipelines.editing.project import Action, Cancelled, Project
from pipelines.engine import ModelChoice
from pipelines.rounds import Progress
from stores.drafts import Drafts
from stores.errors import MaskError, SessionLockedError, StoreError, UsageError
from stores.masks import write_mask
from stores.session import Session
from stores.video import read_frames

FRAMES, SIZE = 11, 80
TORCH = ModelChoice(engine="torch")


@pytest.fixture(scope="module")
def decoded(bikes_video: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A session of the first frames of a real video, nothing drawn yet."""
    folder = tmp_path_factory.mktemp("clip")
    for frame in itertools.islice(read_frames(bikes_video, size=160), FRAMES):
        cv2.imwrite(str(folder / f"{frame.index:05d}.png"), frame.image[..., ::-1])
    project = Project.open(folder.parent / "base.mivos", source=folder, size=SIZE, model=TORCH)
    project.decode()
    project.close()
    return folder.parent / "base.mivos"


@pytest.fixture
def project(decoded: Path, tmp_path: Path) -> Iterator[Project]:
    shutil.copytree(decoded, tmp_path / "s.mivos")
    with_session = Project.open(tmp_path / "s.mivos", model=TORCH)
    yield with_session
    with_session.close()


def again(project: Project) -> Project:
    """The project as a new process finds it."""
    project.close()
    return Project.open(project.path, model=TORCH)


names = (f"a{n}" for n in itertools.count())


def action(frame: int, kind: str, **fields: Any) -> Action:
    data = {"id": next(names), "frame": frame, "kind": kind, "object": 1, **fields}
    return Action.from_json(data, num_frames=FRAMES)


def blob(frame: int, x: float, object_id: int = 1, radius: float = 0.15) -> Action:
    return action(frame, "brush", path=[[x, 0.5], [x + 0.02, 0.5]], radius=radius, object=object_id)


def shown(project: Project, frame: int, which: str = "shown") -> np.ndarray:
    labels = project.labels(frame, which)
    assert labels is not None
    return labels


# ---- tools


def test_strokes_of_one_kind_of_work_add_up(project: Project) -> None:
    line = [[0.3, 0.45], [0.35, 0.5], [0.4, 0.55]]
    project.act(action(2, "scribble", path=line))
    one = shown(project, 2)
    assert (one == 1).any() and project.labels(3) is None and project.labels(2, "committed") is None
    project.act(action(2, "scribble", path=[[0.7, 0.5], [0.75, 0.5]], object=2))
    assert set(np.unique(shown(project, 2))) == {0, 1, 2}
    spot = shown(project, 2)[round(0.5 * (SIZE - 1)), round(0.35 * (one.shape[1] - 1))]
    assert spot == 1
    project.act(action(2, "scribble", path=line, positive=False))
    assert (shown(project, 2) == 1).sum() < (one == 1).sum()
    project.act(action(2, "click", path=[[0.35, 0.5]]))
    assert len(project.draft(2)) == 4


def test_brush_eraser_and_lasso_are_obeyed_to_the_pixel(project: Project) -> None:
    height, width = project.canvas.size
    project.act(blob(0, 0.5, radius=0.2))
    disk = shown(project, 0)
    drawn = np.zeros((height, width), np.uint8)
    ends = [round(x * (width - 1)) for x in (0.5, 0.52)]
    cv2.line(drawn, (ends[0], round(0.5 * (height - 1))), (ends[1], round(0.5 * (height - 1))), 1, round(0.4 * height))
    assert np.count_nonzero(disk != drawn) < 0.02 * drawn.sum()
    project.act(action(0, "brush", path=[[0.5, 0.5]], radius=0.05, positive=False))
    assert shown(project, 0)[round(0.5 * (height - 1)), round(0.5 * (width - 1))] == 0
    project.act(action(0, "lasso", path=[[0.0, 0.0], [0.2, 0.0], [0.2, 0.3], [0.0, 0.3]], object=4))
    corner = shown(project, 0)[: int(0.28 * height), : int(0.19 * width)]
    assert (corner == 4).all() and (shown(project, 0) == 1).any()
    project.act(action(0, "lasso", path=[[0.0, 0.0], [1, 0], [1, 1], [0, 1]], positive=False, object=0))
    assert not shown(project, 0).any()


def test_a_window_changes_nothing_outside(project: Project) -> None:
    project.act(blob(1, 0.3))
    before = shown(project, 1)
    window = [0.5, 0.2, 0.9, 0.9]
    project.act(action(1, "scribble", path=[[0.6, 0.5], [0.7, 0.55]], window=window, object=2))
    after = shown(project, 1)
    height, width = after.shape
    outside = np.ones_like(after, bool)
    outside[int(0.2 * height) : round(0.9 * height), int(0.5 * width) : round(0.9 * width)] = False
    assert np.array_equal(after[outside], before[outside]) and (after == 2).any()


def test_clear_and_reset(project: Project) -> None:
    project.act(blob(4, 0.4))
    project.propagate("none")
    project.act(action(4, "clear"))
    assert not shown(project, 4).any() and shown(project, 4, "committed").any()
    project.act(action(4, "reset"))
    assert np.array_equal(shown(project, 4), shown(project, 4, "committed"))


def test_paste_and_import(project: Project, tmp_path: Path) -> None:
    project.act(blob(0, 0.3))
    project.act(blob(0, 0.7, object_id=2))
    project.paste("p1", 5, 0, [2])
    assert set(np.unique(shown(project, 5))) == {0, 2}
    project.paste("p2", 5, 0)
    assert np.array_equal(shown(project, 5), shown(project, 0))
    source = project.session.source
    labels = np.zeros((source.height, source.width), np.uint8)
    labels[20:60, 30:90] = 7
    write_mask(tmp_path / "00006.png", labels)
    png = (tmp_path / "00006.png").read_bytes()
    assert project.import_mask("p3", None, "00006.png", png) == 6
    assert set(np.unique(shown(project, 6))) == {0, 7}
    assert 7 in [item["id"] for item in project.state()["objects"]]
    with pytest.raises(MaskError, match="cat.png: is not named after a frame"):
        project.import_mask("p4", None, "cat.png", png)
    with pytest.raises(MaskError, match="bad.png"):
        project.import_mask("p5", 3, "bad.png", png[: len(png) // 2])
    with pytest.raises(UsageError, match="no mask to copy"):
        project.paste("p6", 5, 9)


# ---- rounds


def test_propagate_in_every_direction(project: Project) -> None:
    project.act(blob(5, 0.4))
    for direction, to, reached in (
        ("none", None, range(5, 6)),
        ("to", 7, range(5, 8)),
        ("backward", None, range(0, 8)),
        ("forward", None, range(0, 11)),
    ):
        assert project.propagate(direction, to, [5])
        assert np.flatnonzero(project.session.computed()).tolist() == list(reached), direction
    assert len(project.session.rounds) == 4 and not project.drafts.entries
    assert project.state()["computed"][0][0] == 0


def test_several_drafts_become_rounds_in_order_of_work(project: Project) -> None:
    project.act(blob(8, 0.6))
    project.act(blob(2, 0.4))
    seen: list[Progress] = []
    assert project.propagate(progress=seen.append)
    assert [record.frame for record in project.session.rounds] == [8, 2]
    assert {item.frame for item in seen if item.stage == "propagate"} >= set(range(11)) - {8, 2}
    assert np.array_equal(shown(project, 8, "committed") > 0, shown(project, 8) > 0)


def test_a_paused_round_shows_its_frames_and_ends_as_one_that_was_not(project: Project, tmp_path: Path) -> None:
    project.act(blob(3, 0.4))
    project.close()
    shutil.copytree(project.path, tmp_path / "whole.mivos")
    whole = Project.open(tmp_path / "whole.mivos", model=TORCH)
    assert whole.propagate()
    project = Project.open(project.path, model=TORCH)
    calls = itertools.count(1)
    assert not project.propagate(stop=lambda: next(calls) == 4)
    assert project.labels(7) is not None and project.labels(8) is None
    for broken in (lambda: project.undo(), lambda: project.propagate(), lambda: project.delete_object(1)):
        with pytest.raises(UsageError, match="paused"):
            broken()
    project = again(project)
    state = project.state()
    assert state["round"] == {"frame": 3, "done": 4, "total": 10, "paused": True} and state["drafts"] == []
    assert project.labels(7) is not None
    calls = itertools.count(1)
    assert not project.resume(stop=lambda: next(calls) == 4)
    assert project.resume()
    for index in range(FRAMES):
        a, b = project.session.probs(index, border=True), whole.session.probs(index, border=True)
        assert a is not None and b is not None and np.array_equal(a, b), index
    whole.close()
    project.close()


def test_keep_and_discard(project: Project) -> None:
    project.act(blob(0, 0.4))
    assert not project.propagate(stop=lambda: True)
    project.discard()
    assert project.state()["round"] is None and project.labels(1) is None and len(project.draft(0)) == 1
    calls = itertools.count(1)
    assert not project.propagate(stop=lambda: next(calls) == 3)
    project.keep()
    assert np.flatnonzero(project.session.computed()).tolist() == [0, 1, 2, 3]
    assert len(project.session.rounds) == 1 and not project.drafts.entries
    with pytest.raises(UsageError, match="no paused round"):
        project.resume()


def test_cancel_leaves_the_draft(project: Project) -> None:
    def cancel(item: Progress) -> None:
        if item.stage == "propagate" and item.done == 2:
            raise Cancelled

    project.act(blob(0, 0.4))
    with pytest.raises(Cancelled):
        project.propagate(progress=cancel)
    assert project.state()["round"] is None and len(project.draft(0)) == 1 and project.labels(1) is None
    assert project.propagate()


def test_a_failure_in_a_round_goes_back_to_its_checkpoint(project: Project) -> None:
    def fail(item: Progress) -> None:
        if item.stage == "propagate" and item.done == 6:
            raise RuntimeError("no more memory")

    project.act(blob(0, 0.4))
    with pytest.raises(RuntimeError):
        project.propagate(progress=fail)
    assert project.state()["round"] is not None
    assert project.resume() and len(project.session.rounds) == 1


def test_a_cancelled_or_failed_start_leaves_no_round(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def cancel(item: Progress) -> None:
        raise Cancelled

    def full(state: dict[str, Any]) -> None:
        raise StoreError("the disk is full")

    project.act(blob(2, 0.4))
    with pytest.raises(Cancelled):
        project.propagate(progress=cancel)
    assert project.state()["round"] is None and len(project.draft(2)) == 1
    with monkeypatch.context() as patch:
        patch.setattr(project.session, "checkpoint", full)
        with pytest.raises(StoreError, match="full"):
            project.propagate()
    assert project.state()["round"] is None and project.propagate("none")


# ---- undo and redo


def test_undo_goes_through_actions_and_rounds_and_back(project: Project) -> None:
    project.act(blob(0, 0.3))
    project.act(blob(0, 0.6))
    project.propagate()
    project.act(blob(9, 0.5, object_id=2))
    project.propagate()
    project.act(blob(4, 0.5))
    pictures = []
    words = []
    while (step := project.undo()) is not None:
        words.append(step.what)
        pictures.append([None if (m := project.labels(i)) is None else m.copy() for i in range(FRAMES)])
    assert [w.split(":")[0] for w in words] == [
        "brush on frame 4", "round 2", "brush on frame 9", "round 1", "brush on frame 0", "brush on frame 0",
    ]  # fmt: skip
    project = again(project)
    for expected, word in zip([*pictures[-2::-1]], words[::-1], strict=False):
        step = project.redo()
        assert step is not None and step.what == word
        for index, mask in enumerate(expected):
            now = project.labels(index)
            assert (mask is None) == (now is None) and (mask is None or np.array_equal(now, mask)), (word, index)
    assert project.redo() is not None and project.redo() is None
    assert len(project.session.rounds) == 2
    project.close()


def test_rounds_of_drafts_that_were_drawn_together_come_back(project: Project) -> None:
    project.act(blob(0, 0.3))
    project.act(blob(9, 0.5))
    project.propagate()
    done = [shown(project, index) for index in range(FRAMES)]
    back = []
    while (step := project.undo()) is not None:
        back.append(step.what)
    forth = []
    while (step := project.redo()) is not None:
        forth.append(step.what)
    assert len(back) == 4 and forth == back[::-1]
    assert all(np.array_equal(shown(project, index), mask) for index, mask in enumerate(done))
    assert not project.drafts.entries


def test_something_new_ends_redo_but_undoing_it_brings_redo_back(project: Project) -> None:
    project.act(blob(0, 0.3))
    project.propagate()
    project.undo()
    assert project.state()["redo"].startswith("round 1")
    project.act(blob(0, 0.7))
    assert project.state()["redo"] is None and project.redo() is None
    project.undo()
    assert project.state()["redo"] == "brush on frame 0"  # the action comes first, then there is the round


def test_before_is_what_was_there_before(project: Project) -> None:
    project.act(blob(0, 0.3))
    project.propagate()
    first = shown(project, 6)
    assert project.labels(6, "before") is None
    project.act(blob(10, 0.7))
    assert np.array_equal(shown(project, 10, "before"), shown(project, 10, "committed"))
    project.propagate()
    assert np.array_equal(shown(project, 6, "before"), first) and not np.array_equal(shown(project, 6), first)


# ---- objects


def test_objects_are_named_coloured_added_late_and_deleted(project: Project) -> None:
    assert project.add_object() == 1
    project.act(blob(0, 0.3))
    project.propagate()
    assert project.add_object("  van   man ", "#AABBCC") == 2
    project.act(blob(5, 0.7, object_id=2))
    project.propagate()
    assert set(np.unique(shown(project, 5))) == {0, 1, 2}
    assert project.state()["objects"][1] == {"id": 2, "name": "van man", "colour": "#aabbcc", "used": True}
    reference = shown(project, 5)
    project.delete_object(1)
    assert set(np.unique(shown(project, 5))) == {0, 2} and [o["id"] for o in project.state()["objects"]] == [2]
    assert project.add_object() == 3  # numbers are not given twice
    assert project.undo() is not None and np.array_equal(shown(project, 5), reference)
    project.redo()
    project.act(blob(8, 0.4, object_id=3))
    project.propagate()
    assert set(np.unique(shown(project, 8))) <= {0, 2, 3}
    with pytest.raises(UsageError, match="no object 9"):
        project.change_object(9, name="x")
    with pytest.raises(UsageError, match="colour"):
        project.change_object(2, colour="red")


def test_deleting_an_object_that_was_only_drawn(project: Project) -> None:
    project.act(blob(0, 0.3))
    project.act(blob(0, 0.7, object_id=2))
    project.delete_object(2)
    assert set(np.unique(shown(project, 0))) == {0, 1}
    project.propagate()
    assert project.session.object_ids == (1,)


def test_strokes_of_a_deleted_object_do_not_bring_it_back(project: Project) -> None:
    project.act(action(2, "scribble", path=[[0.3, 0.45], [0.4, 0.55]]))
    project.act(action(2, "scribble", path=[[0.7, 0.5], [0.75, 0.5]], object=2))
    project.delete_object(2)
    project.act(action(2, "scribble", path=[[0.3, 0.5], [0.4, 0.5]]))
    project.act(action(2, "scribble", path=[[0.3, 0.9], [0.4, 0.9]], object=0))
    assert [item["id"] for item in project.state()["objects"]] == [1] and shown(project, 2).max() <= 1


def test_a_deletion_that_is_done_again_takes_the_name_along(project: Project) -> None:
    project.act(blob(2, 0.3))
    project.act(blob(2, 0.7, object_id=2))
    project.propagate("none")
    project.delete_object(2)
    for step, left in ((project.undo, [1, 2]), (project.redo, [1])):
        step()
        assert [item["id"] for item in project.state()["objects"]] == left


# ---- disk and other processes


def test_a_round_that_another_program_made_is_not_taken_for_the_pages(project: Project, tmp_path: Path) -> None:
    project.act(blob(3, 0.4))
    project.propagate("none")
    project.undo()
    project.undo()
    path = project.path
    project.close()
    labels = np.zeros(project_size(path), np.uint8)
    labels[10:40, 10:40] = 1
    write_mask(tmp_path / "m.png", labels)
    flow.interact(path, masks=tmp_path / "m.png", model=TORCH)
    flow.propagate(path, model=TORCH)
    flow.fuse(path, model=TORCH)
    project = Project.open(path, model=TORCH)
    assert project.undo() is not None and not project.drafts.entries  # not the strokes of the page's round 1
    project.close()


def project_size(path: Path) -> tuple[int, int]:
    with Session.open(path) as session:
        return session.source.height, session.source.width


def test_nothing_is_lost_between_processes(project: Project) -> None:
    done = blob(3, 0.4)
    project.act(done)
    project.act(blob(6, 0.6, object_id=2))
    project.change_object(2, name="bus")
    project.undo()
    picture = shown(project, 3)
    with pytest.raises(SessionLockedError):
        Project.open(project.path)
    project = again(project)
    assert np.array_equal(shown(project, 3), picture) and project.labels(6) is None
    project.act(done)  # a page that did not hear of its success sends it again
    assert len(project.drafts.entries) == 1
    assert project.redo() is not None and (shown(project, 6) == 2).any()
    assert [o["name"] for o in project.state()["objects"]] == ["Object 1", "bus"]
    project.close()


def test_a_kill_between_round_and_draft_list_is_settled(project: Project) -> None:
    project.act(blob(3, 0.4))
    project.drafts.begin(3)
    lists = (project.path / "desk" / "desk.json").read_text()
    assert project.propagate("none")
    project.close()
    (project.path / "desk" / "desk.json").write_text(lists)  # as if killed right after the session's commit
    project = Project.open(project.path, model=TORCH)
    assert not project.drafts.entries and len(project.drafts.of_round(1)) == 1
    assert project.undo() is not None and len(project.draft(3)) == 1
    project.close()


def test_a_session_that_cannot_be_opened_is_not_locked(project: Project) -> None:
    project.act(blob(3, 0.4))
    project.close()
    path = project.path / "desk" / "desk.json"
    good = path.read_text()
    path.write_text(good[:20])
    with pytest.raises(StoreError, match="desk.json: is damaged"):
        Project.open(project.path, model=TORCH)
    path.write_text(good)
    again(project).close()


def test_export_ignores_drafts_and_state_is_plain_json(project: Project, tmp_path: Path) -> None:
    project.act(blob(0, 0.4))
    with pytest.raises(UsageError, match="no masks yet"):
        project.export(tmp_path / "out", ["png"])
    project.propagate()
    project.act(blob(0, 0.8))
    files = project.export(tmp_path / "out", ["png"])
    written = cv2.imread(str(Path(files["png"]) / "00000.png"), cv2.IMREAD_UNCHANGED)
    assert written is not None and not written[:, int(0.75 * written.shape[1]) :].any()
    state = project.state()
    assert len(base64.b64decode(state["confidence"])) == FRAMES and state["undo"] == "brush on frame 0"
    assert asdict(ModelChoice())["name"] == state["model"]["name"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "laser"}, "kind"),
        ({"frame": 11}, "frame is 11, outside 0..10"),
        ({"frame": True}, "frame must be an integer"),
        ({"object": 0, "kind": "click"}, "object is 0"),
        ({"object": 256}, "outside 0..255"),
        ({"path": []}, "path must be 1 or more"),
        ({"path": [[0.5, 1.5]]}, "fractions"),
        ({"path": [[0.5, float("nan")]]}, "fractions"),
        ({"path": "x"}, "path"),
        ({"kind": "lasso", "path": [[0, 0], [1, 1]]}, "3 or more"),
        ({"kind": "brush", "radius": -1}, "radius"),
        ({"window": [0, 0, 0.001, 1]}, "smaller than"),
        ({"window": [0, 0, 1]}, "four fractions"),
        ({"positive": "yes"}, "true or false"),
        ({"id": "../x"}, "id must be"),
        ({"kind": "paste", "png": "%%"}, "base64"),
    ],
)
def test_bad_actions_are_one_line(change: dict[str, Any], words: str) -> None:
    good = {"id": "a", "frame": 0, "kind": "scribble", "object": 1, "path": [[0.5, 0.5]]}
    with pytest.raises(UsageError, match=words) as caught:
        Action.from_json({**good, **change}, num_frames=FRAMES)
    assert "\n" not in str(caught.value)
    assert Action.from_json(good, num_frames=FRAMES).to_json()["path"] == [[0.5, 0.5]]


def test_drafts_of_an_empty_session_take_no_room(project: Project) -> None:
    assert not (project.path / "desk").exists() and Drafts(project.path).entries == ()
    assert Session.exists(project.path)


def test_refined_clicks_hold(project: Project) -> None:
    spots = [(True, 0.35, 0.5), (False, 0.5, 0.5), (True, 0.45, 0.3), (False, 0.4, 0.75)]
    for positive, x, y in spots:
        project.act(action(2, "click", path=[[x, y]], positive=positive, refine=True))
    labels = shown(project, 2)
    height, width = labels.shape
    said = [labels[round(y * (height - 1)), round(x * (width - 1))] == positive for positive, x, y in spots]
    assert sum(said) >= 3, said  # at this size one cell covers several of the clicks
