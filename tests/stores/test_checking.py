"""`check_session` and `repair_session`: what is found, what is mended, what is put aside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stores.checking import check_session
from stores.drafts import Drafts
from stores.errors import SessionLockedError, SessionNotFoundError, StoreError
from stores.repairing import repair_session
from stores.session import REPOSITORY, Session
from stores.snapshots import branches, read_ref, ref_file
from tests.chaos import damage


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return damage.build(tmp_path_factory.mktemp("built"))


@pytest.fixture
def path(built: Path, tmp_path: Path) -> Path:
    return damage.copy(built, tmp_path / "s")


def spoil(path: Path, read: Callable[[Session], object]) -> Path:
    """Lose the chunk without which `read` fails: found by trying."""
    chunks = sorted((path / REPOSITORY / "chunks").iterdir())
    for file in chunks:
        hidden = file.with_suffix(".gone")
        file.rename(hidden)
        try:
            with Session.open(path) as session:
                read(session)
        except StoreError:
            hidden.unlink()
            return file
        hidden.rename(file)
    raise AssertionError("nothing is needed")


def test_a_whole_session_is_clean_and_repair_leaves_it_alone(path: Path) -> None:
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    report = check_session(path)
    assert report.clean and report.findings == [] and report.commits >= 5 and report.images > 20
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before
    assert repair_session(path).actions == []


def test_check_works_beside_a_writer_and_repair_does_not(path: Path) -> None:
    with Session.open(path, write=True):
        assert check_session(path).clean
        with pytest.raises(SessionLockedError):
            repair_session(path)


def test_a_lost_picture_comes_from_the_source_video(path: Path, built: Path) -> None:
    spoil(path, lambda session: session.frame(3))
    report = check_session(path)
    assert not report.clean and any("frame 3, frames" in finding.where for finding in report.findings)
    assert "frame 3: read from the source video again" in repair_session(path).actions
    assert check_session(path).clean and damage.contents(path) == damage.contents(built)


def test_a_lost_mask_of_a_frame_is_marked_and_the_others_stay(path: Path, built: Path) -> None:
    spoil(path, lambda session: session.probs(5))
    actions = repair_session(path).actions
    assert any("frame 5" in action and "not computed" in action for action in actions)
    before, after = damage.contents(built), damage.contents(path)
    assert {name for name in before if before[name] != after[name]} == {"mask 5", "probs 5"}
    assert after["mask 5"] == b"none" and check_session(path).clean
    with Session.open(path) as session:
        assert session.history()[-2].kind == "repair" or session.history()[-1].kind == "repair"


def test_a_damaged_tip_goes_back_to_the_round_before_and_keeps_a_name(path: Path) -> None:
    folder = path / REPOSITORY
    tip = read_ref(folder, "main")
    assert tip is not None
    (folder / "snapshots" / tip).write_bytes(b"")
    with pytest.raises(StoreError, match="damaged") as caught:
        Session.open(path)
    assert caught.value.hint == f"run `mivos session check {path}`, then `mivos session repair {path}`"
    actions = repair_session(path).actions
    assert any("damaged-1" in action for action in actions) and any("went back to: round 1" in a for a in actions)
    assert read_ref(folder, "damaged-1") == tip and check_session(path).clean
    with Session.open(path) as session:
        assert len(session.rounds) == 1 and session.mask(7) is not None


@pytest.mark.parametrize("content", [b"", b'{"snapshot": "', None])
def test_a_lost_main_is_found_by_what_was_last_on_the_disk(path: Path, built: Path, content: bytes | None) -> None:
    file = ref_file(path / REPOSITORY, "main")
    file.unlink() if content is None else file.write_bytes(content)
    assert not check_session(path).clean
    assert any("branch main was lost" in action for action in repair_session(path).actions)
    assert check_session(path).clean and damage.contents(path) == damage.contents(built)


def test_a_commit_in_the_past_that_cannot_be_read_is_stepped_over(path: Path, built: Path) -> None:
    with Session.open(path) as session:
        first_round = next(entry.id for entry in session.history() if entry.round == 1)
    (path / REPOSITORY / "snapshots" / first_round).unlink()
    assert any("steps over it" in action for action in repair_session(path).actions)
    assert check_session(path).clean and damage.contents(path) == damage.contents(built)
    with Session.open(path, write=True) as session:
        assert session.undo().round == 2 and len(session.rounds) == 0


@pytest.mark.parametrize("branch", ["work", "kept", "base"])
def test_an_unreadable_side_branch_does_not_hinder_a_writer(path: Path, branch: str) -> None:
    file = ref_file(path / REPOSITORY, branch)
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"")
    with Session.open(path, write=True) as session:
        session.resume_round()
        session.rollback()
        session.undo()
    assert check_session(path).clean


def test_a_round_in_progress_that_cannot_be_read_is_dropped_with_a_warning(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tip = read_ref(path / REPOSITORY, "work")
    assert tip is not None
    (path / REPOSITORY / "snapshots" / tip).write_bytes(b"x")
    with Session.open(path, write=True) as session:
        assert session.resume_round() is None and "the round in progress cannot be read" in caplog.text
    assert any("the round in progress is damaged: dropped" in action for action in repair_session(path).actions)
    assert "work" not in branches(path / REPOSITORY) and check_session(path).clean


def test_damaged_drafts_are_set_aside_and_the_others_stay(path: Path) -> None:
    drafts = Drafts(path)
    bad, good = drafts.entries[0], drafts.entries[1]
    file = path / "desk" / f"{bad.serial}.png"
    file.write_bytes(file.read_bytes()[:-9] + b"?" + file.read_bytes()[-8:])
    with pytest.raises(StoreError, match="damaged"):
        drafts.result(bad)
    assert not check_session(path).clean
    assert repair_session(path).actions == [f"moved draft {bad.serial}.png to desk/damaged"]
    assert check_session(path).clean and (path / "desk" / "damaged" / f"{bad.serial}.json").exists()
    assert [entry.serial for entry in Drafts(path).entries] == [good.serial]


def test_a_list_of_drafts_with_another_number_in_it_is_not_believed(path: Path) -> None:
    file = path / "desk" / "desk.json"
    file.write_text(file.read_text().replace('"frame": 1', '"frame": 2'))
    with pytest.raises(StoreError, match="damaged") as caught:
        Drafts(path)
    assert caught.value.hint is not None and "session repair" in caught.value.hint
    repair_session(path)
    assert Drafts(path).entries == () and (path / "desk" / "damaged" / "desk.json").exists()


def test_leftovers_of_killed_processes_are_remarks(path: Path) -> None:
    (path / ".session.icechunk-abc").mkdir()
    (path / ".0123456789ab.tmp").write_bytes(b"x")
    report = check_session(path)
    assert report.clean and len(report.findings) == 2
    assert len(repair_session(path).actions) == 2 and check_session(path).findings == []


def test_where_nothing_can_be_saved_it_says_so(path: Path) -> None:
    for file in (path / REPOSITORY / "snapshots").iterdir():
        file.write_bytes(np.random.default_rng(0).bytes(100))
    assert not check_session(path).clean
    with pytest.raises(StoreError, match="nothing can be saved") as caught:
        repair_session(path)
    assert caught.value.hint


def test_no_session(tmp_path: Path) -> None:
    for call in (check_session, repair_session):
        with pytest.raises(SessionNotFoundError):
            call(tmp_path)


def test_the_commands_tell_and_their_exit_codes(path: Path) -> None:
    from typer.testing import CliRunner

    from mivos_cli.app import app

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["session", *arguments, str(path)])
        return result.exit_code, result.stdout

    assert run("check")[0] == 0 and "nothing is damaged" in run("check")[1]
    spoil(path, lambda session: session.probs(2))
    code, said = run("check")
    assert code == 1 and "frame 2, probs, commit" in said and "repair: marks the frame as not computed" in said
    code, said = run("repair")
    assert code == 0 and "frame 2: its mask is lost" in said and said.endswith("repaired\n")
    assert run("check")[0] == 0 and run("repair") == (0, "nothing was damaged\n")
    code, said = run("compact", "--now")
    assert code == 0 and "MB before" in said and "per 1,000 frames" in said
    assert run("check")[0] == 0
