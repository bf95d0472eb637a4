"""The DAVIS interactive benchmark with the official robot, on short pieces of two real sequences."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

pytest.importorskip("davisinteractive.common", reason="needs davisinteractive 1.0.4, see make bench")

from mivos_cli.app import guarded
from mivos_cli.bench_davis import davis
from pipelines.engine import ModelChoice, networks
from pipelines.evaluation import robot
from pipelines.evaluation.davis_interactive import (
    InteractiveReport,
    RobotProcessor,
    evaluate_davis_interactive,
)
from pipelines.evaluation.davis_tasks import play_sequences
from pipelines.evaluation.eval_tasks import Share
from pipelines.evaluation.recorded import of_davis
from pipelines.evaluation.robot import find_sequences, load_davisinteractive, tables
from pipelines.execution.executors import Setup
from pipelines.flow import decode
from pipelines.rounds import Progress
from stores.davis import DavisDataset, write_davis_sequence
from stores.errors import DatasetError, MaskError, UsageError
from stores.masks import write_mask
from stores.scribbles import Interaction, ScribbleFile, read_scribbles, write_scribbles
from stores.session import Session
from tests.conftest import ROOT

FRAMES, DRAWN = 8, 3
WIDTH, HEIGHT = 216, 120
NAMES = ("car-turn", "chair")
NOISE = 0.03  # J&F that one more interaction may cost


@pytest.fixture(scope="module")
def tiny_root(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight frames of each sequence around the frame of its first scribble file, made small, as a DAVIS tree."""
    root: Path = tmp_path_factory.mktemp("davis")
    dataset = DavisDataset(shared_data)
    for name in NAMES:
        (drawn, *_) = read_scribbles(dataset.scribbles(name)[0]).interactions
        chosen = slice(drawn.frame - DRAWN, drawn.frame - DRAWN + FRAMES)
        images = [
            np.asarray(Image.open(path).convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.BOX))
            for path in dataset.frames(name)[chosen]
        ]
        masks = [
            np.asarray(Image.open(path).resize((WIDTH, HEIGHT), Image.Resampling.NEAREST))
            for path in dataset.annotations(name)[chosen]
        ]
        write_davis_sequence(root, name, zip(images, masks, strict=True))
        folder = root / "Scribbles" / name
        folder.mkdir(parents=True)
        write_scribbles(folder / "001.json", ScribbleFile(name, FRAMES, (Interaction(DRAWN, drawn.strokes),)))
    return root


class Stop(Exception):
    """What stops a run in the tests."""


def stop_in(name: str, done: list[str]) -> object:
    def report(progress: Progress) -> None:
        done.append(progress.stage)
        if progress.stage.startswith(name):
            raise Stop

    return report


@pytest.fixture(scope="module")
def played(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[InteractiveReport, Path]:
    """A run of three interactions that was stopped inside its second sample and called again."""
    out = tmp_path_factory.mktemp("out")
    with pytest.raises(Stop):
        evaluate_davis_interactive(tiny_root, out, interactions=3, masks=True, progress=stop_in("chair", []))  # type: ignore[arg-type]
    assert [path.name for path in (out / "samples").glob("*.csv")] == ["car-turn-001.csv"]
    assert not (out / "summary.json").exists()
    before = (out / "samples" / "car-turn-001.csv").read_bytes()
    seen: list[str] = []
    report = evaluate_davis_interactive(
        tiny_root, out, interactions=3, masks=True, progress=lambda progress: seen.append(progress.stage)
    )
    assert set(seen) == {"chair 1"} and report.resumed == 1
    assert (out / "samples" / "car-turn-001.csv").read_bytes() == before
    return report, out


def test_summary_has_the_official_fields(played: tuple[InteractiveReport, Path], tiny_root: Path) -> None:
    report, out = played
    summary = json.loads((out / "summary.json").read_text())
    assert set(summary) == {"auc", "metric_at_threshold", "curve"}
    assert summary["metric_at_threshold"]["threshold"] == 60
    time, quality = summary["curve"]["time"], summary["curve"]["J_AND_F"]
    assert len(time) == len(quality) == 5 and time[0] == quality[0] == 0
    objects = sum(facts.objects for facts in find_sequences(DavisDataset(tiny_root))[0]) / len(NAMES)
    assert time[-1] == pytest.approx(240 * objects) and time == sorted(time)
    assert report.auc == pytest.approx(np.trapezoid(quality, time) / time[-1])
    assert report.at_60 == pytest.approx(np.interp(60, time, quality))
    json.dumps(report.to_json(), allow_nan=False)


def test_report_is_the_raw_one_and_gives_the_curve(played: tuple[InteractiveReport, Path], tiny_root: Path) -> None:
    report, out = played
    with open(out / "report.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = "session_id sequence scribble_idx interaction object_id frame jaccard contour j_and_f timing"
    assert list(rows[0])[1:] == columns.split()
    for row in report.rows:
        mine = [float(r["j_and_f"]) for r in rows if int(r["interaction"]) == row["interaction"]]
        assert row["j_and_f"] == pytest.approx(np.mean(mine))  # as many frames and samples for each object
    assert {row["sequence"] for row in rows} == set(NAMES)
    assert len(rows) == 3 * FRAMES * sum(facts.objects for facts in find_sequences(DavisDataset(tiny_root))[0])


def test_more_interactions_do_not_lower_the_curve(played: tuple[InteractiveReport, Path]) -> None:
    quality = [row["j_and_f"] for row in played[0].rows]
    assert all(later > earlier - NOISE for earlier, later in zip(quality, quality[1:], strict=False)), quality
    assert quality[-1] > quality[0] + 0.2 and quality[-1] > 0.6, "the third interaction propagates"


def test_kept_masks_are_the_scored_ones(played: tuple[InteractiveReport, Path], tiny_root: Path) -> None:
    """J of the masks on disk, by its definition, is the J of the report."""
    report, out = played
    dataset = DavisDataset(tiny_root)
    for row in report.sequences:
        scores = []
        for path in dataset.annotations(row["sequence"]):
            truth = dataset.labels(path).labels
            labels = np.asarray(Image.open(out / "masks" / "001" / row["sequence"] / path.name))
            for k in range(1, max(dataset.object_ids(row["sequence"])) + 1):
                scores.append(((labels == k) & (truth == k)).sum() / ((labels == k) | (truth == k)).sum())
        assert row["j"] == pytest.approx(np.mean(scores), abs=1e-6)


def test_plots_are_pictures(played: tuple[InteractiveReport, Path]) -> None:
    report, _ = played
    with Image.open(report.files["png"]) as image:
        assert image.width > 800 and len(np.unique(np.asarray(image.convert("L")))) > 10
    assert "<svg" in Path(report.files["svg"]).read_text()


def test_samples_of_other_settings_are_not_mixed(played: tuple[InteractiveReport, Path], tiny_root: Path) -> None:
    with pytest.raises(UsageError, match="interactions") as error:
        evaluate_davis_interactive(tiny_root, played[1], interactions=2)
    assert "--force" in str(error.value.hint)


def test_the_package_forgets_the_data_set(played: tuple[InteractiveReport, Path]) -> None:
    table = load_davisinteractive().davis
    assert len(table.sets["val"]) == 30 and "chair" not in table.dataset
    assert table.dataset["car-turn"]["num_frames"] == 80


def test_command_prints_the_scores(tiny_root: Path, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(guarded(davis))
    command = ["--davis", str(tiny_root), "-o", str(tmp_path), "--sequence", "chair", "--interactions", "1", "--json"]
    first = CliRunner().invoke(app, command)
    assert first.exit_code == 0, first.output
    data = json.loads(first.stdout)
    assert data["samples"] == 1 and data["resumed"] == 0 and 0 < data["at_60"] < 1
    again = CliRunner().invoke(app, command[:-1])
    assert again.exit_code == 0 and f"J&F@60s {100 * data['at_60']:.2f}" in again.stdout
    nothing = CliRunner().invoke(app, [*command[:4], "--sequence", "nowhere"])
    assert nothing.exit_code == 1 and "nowhere" in nothing.stderr


def test_fewer_samples_and_the_kind_of_fusion_are_kept(tiny_root: Path, tmp_path: Path) -> None:
    root = copy_of(tiny_root, tmp_path / "copy")
    (root / "Scribbles" / "chair" / "002.json").write_bytes((root / "Scribbles" / "chair" / "001.json").read_bytes())
    choice = ModelChoice(device="cpu", fusion="off")
    report = evaluate_davis_interactive(root, tmp_path / "out", model=choice, interactions=1, samples=1)
    assert report.samples == 1 and report.sequences[0]["j_and_f"] > 0
    assert json.loads((tmp_path / "out" / "run.json").read_text())["model"]["fusion"] == "off"
    settings = of_davis(report, root, choice).settings
    assert (settings["fusion"], settings["samples"], settings["interactions"]) == ("off", 1, 1)
    full = ModelChoice(device="cpu")
    with pytest.raises(UsageError, match="other settings .model."):
        evaluate_davis_interactive(root, tmp_path / "out", model=full, interactions=1)
    more = evaluate_davis_interactive(root, tmp_path / "out", model=choice, interactions=1)
    assert (more.samples, more.resumed) == (2, 1)


def test_the_robot_draws_the_same_again(tiny_root: Path) -> None:
    load_davisinteractive()
    from davisinteractive.robot import InteractiveScribblesRobot

    dataset = DavisDataset(tiny_root)
    truth = np.stack([dataset.labels(path).labels for path in dataset.annotations("car-turn")])
    drawn = [
        InteractiveScribblesRobot(0.2).interact("car-turn", np.zeros_like(truth), truth, nb_objects=1, frame=4)
        for _ in range(3)
    ]
    paths = [[stroke["path"] for stroke in scribbles["scribbles"][4]] for scribbles in drawn]
    assert paths[0] and paths[0] == paths[1] == paths[2]


def test_an_empty_scribble_breaks_nothing(tiny_root: Path, tmp_path: Path) -> None:
    """After the first mask the robot finds no error on its frame; the third interaction propagates the mask anyway."""
    dataset = DavisDataset(tiny_root)
    decode(dataset.frames("car-turn")[0].parent, tmp_path / "session", size=None)
    first = json.loads(dataset.scribbles("car-turn")[0].read_text())
    nothing = {"sequence": "car-turn", "scribbles": [[] for _ in range(FRAMES)]}
    with Session.open(tmp_path / "session", write=True) as session:
        processor = RobotProcessor(session, networks("nano"), 1)
        drawn, candidates = processor.answer(first)
        assert candidates == [DRAWN] and drawn[DRAWN].any() and not drawn[0].any()
        same, candidates = processor.answer(nothing)
        assert candidates == [DRAWN] and np.array_equal(same, drawn)
        spread, candidates = processor.answer(nothing)
        assert candidates is None and all(mask.any() for mask in spread)
        assert np.array_equal(spread[DRAWN], drawn[DRAWN])
        for _ in range(5):
            masks, candidates = processor.answer(nothing)
            assert candidates is None and np.array_equal(masks, spread)
        assert processor.empty == 7


def test_perfect_masks_get_an_empty_scribble_from_the_robot(tiny_root: Path, tmp_path: Path) -> None:
    """The official session itself with true masks: what the test above feeds is what the robot gives."""
    dataset = DavisDataset(tiny_root)
    (facts,), _ = find_sequences(dataset, ["car-turn"])
    truth = np.stack([dataset.labels(path).labels for path in dataset.annotations("car-turn")])
    with tables("val", [facts]):
        with load_davisinteractive().session(
            davis_root=str(tiny_root), max_nb_interactions=2, report_save_dir=str(tmp_path), user_key="test"
        ) as official:
            given = []
            while official.next():
                given.append(official.get_scribbles(only_last=True)[1])
                official.submit_masks(truth)
    assert [any(scribbles["scribbles"]) for scribbles in given] == [True, False]
    assert official.get_global_summary()["curve"]["J_AND_F"][1:] == [1.0, 1.0, 1.0]


def copy_of(root: Path, target: Path) -> Path:
    (target / "Scribbles").mkdir(parents=True)
    for kind in ("JPEGImages", "Annotations"):
        (target / kind / "480p" / "chair").mkdir(parents=True)
        for path in (root / kind / "480p" / "chair").iterdir():
            (target / kind / "480p" / "chair" / path.name).write_bytes(path.read_bytes())
    (target / "Scribbles" / "chair").mkdir()
    (target / "Scribbles" / "chair" / "001.json").write_bytes((root / "Scribbles" / "chair" / "001.json").read_bytes())
    return target


def test_data_checks(tiny_root: Path, tmp_path: Path) -> None:
    """No lists: everything there is. Masks of 0 and 255, another size, a listed sequence that is not there."""
    root = copy_of(tiny_root, tmp_path / "copy")
    dataset = DavisDataset(root)
    ((facts,), missing) = find_sequences(dataset)
    assert (facts.name, facts.frames, facts.height, facts.width, facts.scribbles) == ("chair", 8, HEIGHT, WIDTH, 1)
    assert missing == ()
    (root / "ImageSets" / "2017").mkdir(parents=True)
    (root / "ImageSets" / "2017" / "val.txt").write_text("bear\nchair\n")
    assert find_sequences(dataset)[1] == ("bear",)
    with pytest.raises(DatasetError, match="bear"):
        find_sequences(dataset, ["bear"])
    mask = root / "Annotations" / "480p" / "chair" / "00005.png"
    kept = mask.read_bytes()
    write_mask(mask, np.zeros((HEIGHT, WIDTH - 1), np.uint8))
    with pytest.raises(DatasetError, match="00005.png: is 215x120"):
        find_sequences(dataset)
    mask.write_bytes(kept[: len(kept) // 2])
    with pytest.raises(MaskError, match="00005.png: cannot be read"):
        find_sequences(dataset)
    for path in mask.parent.iterdir():
        Image.fromarray(np.full((HEIGHT, WIDTH), 255, np.uint8)).save(path)
    with pytest.raises(MaskError, match="holds an object") as error:
        find_sequences(dataset)
    assert "255 means void" in str(error.value.hint)
    again = copy_of(tiny_root, tmp_path / "again")
    (again / "Scribbles" / "chair" / "001.json").rename(again / "Scribbles" / "chair" / "002.json")
    with pytest.raises(DatasetError, match="001.json: is missing"):
        find_sequences(DavisDataset(again))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_tests_of_the_package_pass(shared_data: Path, tmp_path: Path) -> None:
    """Its own suite in a process of its own, in its own order (its tests change tables in place).

    The release lacks the pictures of its tests, so a copy of it is given others. Left out are one test that downloads
    DAVIS and two that compare scores with those of the missing pictures.
    """
    spec = importlib.util.find_spec("davisinteractive")
    assert spec is not None and spec.submodule_search_locations
    package = tmp_path / "site" / "davisinteractive"
    shutil.copytree(spec.submodule_search_locations[0], package, ignore=shutil.ignore_patterns("__pycache__"))
    give_pictures(package, DavisDataset(shared_data))
    left_out = "not test_checking_success and not test_integration_multiple_sequences"
    code = (
        f"import sys; from {robot.__name__} import load_davisinteractive; load_davisinteractive(); import pytest; "
        "sys.exit(pytest.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "-q", "-p", "no:cacheprovider", "-o", "python_files=*_test.py"]
    result = subprocess.run(
        [*command, "--rootdir", str(tmp_path), "-k", left_out, str(package)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(package.parent), str(ROOT)]), "MPLBACKEND": "Agg"},
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-1000:]
    assert "72 passed, 3 deselected" in result.stdout


def give_pictures(package: Path, dataset: DavisDataset) -> None:
    """The first frames of one sequence under all the names that the tests of the package read."""
    frames, masks = dataset.frames("bear"), dataset.annotations("bear")
    copies = {package / "dataset/test_data/DAVIS/JPEGImages/480p/bear/00000.jpg": frames[0]}
    copies[package / "dataset/test_data/DAVIS/Annotations/480p/bear/00000.png"] = masks[0]
    for index, mask in enumerate(masks[:6]):
        copies[package / f"third_party/mask_api/test_files/{index:05d}.png"] = mask
        for name in ("bear", "blackswan", "tennis"):
            copies[package / f"session/test_data/DAVIS/Annotations/480p/{name}/{index:05d}.png"] = mask
    for target, source in copies.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    for index, mask in enumerate(masks[:3]):
        labels = dataset.labels(mask).labels
        left = labels * (np.arange(labels.shape[1]) < labels.shape[1] // 2).astype(np.uint8)
        parts = {"input_masks/1": left, "input_masks/2": labels - left, "output_masks": 2 * labels - left}
        for name, values in parts.items():
            target = package / "utils/masks_test" / name / f"{index:05d}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            write_mask(target, values)


def test_shards_share_a_folder(played: tuple[InteractiveReport, Path], tiny_root: Path, tmp_path: Path) -> None:
    def share(k: int) -> Share:
        return play_sequences(
            tiny_root, tmp_path, Setup(shard=(k, 2)), subset="val", sequences=None, model=ModelChoice(),
            interactions=1, max_time=240, samples=None, masks=False,
        )  # fmt: skip

    first, second = share(2), share(1)
    assert [outcome.id for outcome in (*first.outcomes, *second.outcomes)] == ["chair", "car-turn"]
    assert (first.finished, first.whole, second.finished, second.whole) == (1, False, 2, True)
    settings = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**settings, "threads": 99, "device": "cuda"}))  # of other machines
    report = evaluate_davis_interactive(tiny_root, tmp_path, interactions=1, played_elsewhere=True)
    assert report.resumed == report.samples == 2
    assert report.rows[0]["j_and_f"] == pytest.approx(played[0].rows[0]["j_and_f"])
    with pytest.raises(UsageError, match=r"other settings \(device, threads\)"):
        evaluate_davis_interactive(tiny_root, tmp_path, interactions=1)
