"""Semi-supervised evaluation on small copies of real sequences: the protocols' files, scores, and going on."""

from __future__ import annotations

import csv
import json
import shutil
import zipfile
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import resize
from vos_benchmark.benchmark import VideoEvaluator

from pipelines.engine import ModelChoice, networks
from pipelines.evaluation.contact_sheet import worst_frames
from pipelines.evaluation.eval_report import EvalReport, FrameScore, ObjectScore, SequenceScores
from pipelines.evaluation.eval_sequences import DavisProtocol, YouTubeProtocol, youtube_size
from pipelines.evaluation.scoring import score_folders
from pipelines.evaluation.semi_supervised import evaluate
from pipelines.stages.follow import follow
from pipelines.stages.tensors import image_tensor
from stores.davis import DavisDataset, write_davis_sequence
from stores.errors import DatasetError, MaskError, MivosError, OutputExistsError, UsageError
from stores.masks import davis_palette, read_annotation, write_mask
from stores.youtube import YouTubeObject, write_youtube_video

SEQUENCES = ("car-turn", "kite-walk")
FRAMES, HEIGHT, WIDTH = 7, 96, 172
LATE = 3  # the frame on which the second object of the YouTube clip comes in
MODEL = ModelChoice(engine="torch", device="cpu")
Frames = list[tuple[np.ndarray, np.ndarray]]


def small(shared_data: Path, sequence: str) -> Frames:
    dataset = DavisDataset(shared_data)
    pairs = zip(dataset.frames(sequence), dataset.annotations(sequence), strict=True)
    return [
        (
            np.asarray(Image.open(image).convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.BOX)),
            np.asarray(Image.open(mask).resize((WIDTH, HEIGHT), Image.Resampling.NEAREST)),
        )
        for image, mask in islice(pairs, FRAMES)
    ]


@pytest.fixture(scope="module")
def clips(shared_data: Path) -> dict[str, Frames]:
    return {name: small(shared_data, name) for name in SEQUENCES}


def paste(clips: dict[str, Frames], ids: tuple[int, int], start: int = 0) -> Frames:
    """The first clip as object ids[0]; from frame `start` on with the object of the second one, ids[1], in front."""
    frames = []
    for index, ((image, mask), (other, front)) in enumerate(zip(*clips.values(), strict=True)):
        shown = (front > 0) & (index >= start)
        labels = np.where(shown, ids[1], np.where(mask > 0, ids[0], 0)).astype(np.uint8)
        frames.append((np.where(shown[..., None], other, image), labels))
    return frames


@pytest.fixture(scope="module")
def davis(clips: dict[str, Frames], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sequences with one object, and one with two whose ids have a gap; lists of 2017 and 2016."""
    root: Path = tmp_path_factory.mktemp("davis")
    for name, frames in clips.items():
        write_davis_sequence(root, name, frames)
    write_davis_sequence(root, "both", paste(clips, (2, 5)))
    (root / "ImageSets/2016").mkdir()
    (root / "ImageSets/2016/val.txt").write_text(f"{SEQUENCES[0]}\n")
    return root


@pytest.fixture(scope="module")
def youtube(clips: dict[str, Frames], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One video, objects 4 and 9, the second one later; every frame in all_frames, some of them in the split."""
    root: Path = tmp_path_factory.mktemp("youtube")
    frames = paste(clips, (4, 9), LATE)
    stems = [f"{5 * index + 5:05d}" for index in range(FRAMES)]
    given = {0: np.where(frames[0][1] == 4, 4, 0), LATE: np.where(frames[LATE][1] == 9, 9, 0)}
    listed = [0, LATE, LATE + 2]
    objects = (YouTubeObject(4, "car", tuple(stems[i] for i in listed)), YouTubeObject(9, "", (stems[LATE],)))
    blank = (stems[1], frames[1][0], np.zeros((HEIGHT, WIDTH), np.uint8))  # a given mask may show nothing
    video = [(stems[i], frames[i][0], given.get(i)) for i in listed]
    write_youtube_video(root, "valid", "clip", sorted([*video, blank], key=lambda item: item[0]), objects)
    (root / "all_frames").mkdir()
    every = [(stem, image, None) for stem, (image, _) in zip(stems, frames, strict=True)]
    write_youtube_video(root / "all_frames", "valid_all_frames", "clip", every)
    return root


@pytest.fixture(scope="module")
def finished(davis: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, EvalReport]:
    out = tmp_path_factory.mktemp("out")
    return out, evaluate(DavisProtocol(davis), out, model=MODEL)


def direct(truth: Path, masks: Path, sequence: str) -> tuple[dict[int, float], dict[int, float]]:
    _, j, f = VideoEvaluator(str(truth), str(masks))(sequence)
    return j, f


def labels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_davis17_scores_are_those_of_the_scorer(sequence: str, davis: Path, finished: tuple[Path, EvalReport]) -> None:
    out, report = finished
    (row,) = (row for row in report.rows if row.sequence == sequence)
    assert row.scores is not None and row.frames == row.written == FRAMES and not row.resumed
    j, f = direct(davis / "Annotations/480p", out, sequence)
    assert [(o.object_id, o.j, o.f) for o in row.scores.objects] == [(k, j[k], f[k]) for k in sorted(j)]
    assert 50 < row.scores.jf < 100
    worst = min(row.scores.frames, key=lambda frame: frame.j)
    truth = labels(davis / "Annotations/480p" / sequence / f"{worst.frame}.png") > 0
    got = labels(out / sequence / f"{worst.frame}.png") > 0
    assert row.scores.worst.j == pytest.approx(100 * (truth & got).sum() / (truth | got).sum())
    assert np.mean([frame.j for frame in row.scores.frames]) == pytest.approx(row.scores.j)


def test_davis17_masks(clips: dict[str, Frames], davis: Path, finished: tuple[Path, EvalReport]) -> None:
    out, _ = finished
    for name, frames in clips.items():
        assert sorted(path.name for path in (out / name).iterdir()) == [f"{i:05d}.png" for i in range(FRAMES)]
        assert np.array_equal(labels(out / name / "00000.png"), frames[0][1] > 0)
        expected = follow(networks(MODEL), lambda i, f=frames: f[i][0].copy(), (HEIGHT, WIDTH), 1, {0: frames[0][1]})
        assert np.array_equal(next(expected).labels(), labels(out / name / "00000.png"))
    # the mask of the original holds positions of ids; the scores are of the objects all the same
    both = [np.unique(labels(path)).tolist() for path in sorted((out / "both").iterdir())]
    assert all(set(values) <= {0, 1, 2} for values in both) and both[0] == [0, 1, 2]
    row = finished[1].rows[-1]
    assert row.scores is not None and [item.object_id for item in row.scores.objects] == [2, 5]
    assert row.scores.jf > 50


def test_a_palette_is_that_of_blackswan(davis: Path, tmp_path: Path) -> None:
    root = shutil.copytree(davis, tmp_path / "davis")
    colours = davis_palette()
    colours[1] = 7, 8, 9
    (root / "Annotations/480p/blackswan").mkdir()
    write_mask(root / "Annotations/480p/blackswan/00000.png", np.eye(4, dtype=np.uint8), colours)
    evaluate(DavisProtocol(root), tmp_path / "out", model=MODEL, sequences=[SEQUENCES[0]])
    palette = read_annotation(tmp_path / "out" / SEQUENCES[0] / "00003.png").palette
    assert palette is not None and palette[1].tolist() == [7, 8, 9]


def test_report_files(finished: tuple[Path, EvalReport]) -> None:
    out, report = finished
    assert set(report.outputs) == {"masks", "worst.png", "scores.json", "sequences.csv", "objects.csv"}
    data = json.loads((out / "scores.json").read_text())
    assert data == json.loads(json.dumps(report.to_json()))
    with open(out / "sequences.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["sequence"] for row in rows] == [*SEQUENCES, "both"]
    for row, told in zip(rows, data["rows"], strict=True):
        assert float(row["J&F"]) == pytest.approx(told["scores"]["jf"], abs=1e-3)
        assert row["worst frame"] == told["scores"]["worst"]["frame"]
        assert float(row["frames/s"]) > 0 and float(row["peak memory (MB)"]) > 50
    with open(out / "objects.csv", newline="") as file:
        found = [(row["sequence"], row["object"], float(row["J"])) for row in csv.DictReader(file)]
    assert [item[:2] for item in found] == [*((name, "1") for name in SEQUENCES), ("both", "2"), ("both", "5")]
    assert report.mean is not None and report.mean["objects"] == 4
    assert report.mean["j"] == pytest.approx(np.mean([item[2] for item in found]), abs=1e-3)
    with Image.open(out / "worst.png") as sheet:
        assert sheet.width > 1200 and sheet.height > 200


def test_finished_sequences_are_kept(davis: Path, finished: tuple[Path, EvalReport], tmp_path: Path) -> None:
    out = shutil.copytree(finished[0], tmp_path / "out")
    shutil.rmtree(out / SEQUENCES[1])  # as if it had not been reached
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/*.png")}
    (out / f".{SEQUENCES[1]}.partial").mkdir()
    write_mask(out / f".{SEQUENCES[1]}.partial" / "99999.png", np.eye(4, dtype=np.uint8))
    report = evaluate(DavisProtocol(davis), out, model=MODEL)
    assert [row.resumed for row in report.rows] == [True, False, True]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert [row.scores for row in report.rows] == [row.scores for row in finished[1].rows]
    assert not list(out.glob(".*")) and len(list((out / SEQUENCES[1]).iterdir())) == FRAMES


def test_an_interrupted_sequence_is_begun_again(davis: Path, tmp_path: Path) -> None:
    def stop(progress) -> None:
        if progress.stage == SEQUENCES[1] and progress.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(DavisProtocol(davis), tmp_path, model=MODEL, sequences=SEQUENCES, progress=stop)
    assert (tmp_path / SEQUENCES[0]).is_dir() and not (tmp_path / SEQUENCES[1]).exists()
    report = evaluate(DavisProtocol(davis), tmp_path, model=MODEL, sequences=SEQUENCES)
    assert [row.resumed for row in report.rows] == [True, False]


def test_changed_data_are_done_again(davis: Path, finished: tuple[Path, EvalReport], tmp_path: Path) -> None:
    out = shutil.copytree(finished[0], tmp_path / "out")
    root = shutil.copytree(davis, tmp_path / "davis")
    first = root / "Annotations/480p" / SEQUENCES[0] / "00000.png"
    write_mask(first, np.roll(labels(first), 3, axis=1))
    report = evaluate(DavisProtocol(root), out, model=MODEL)
    assert [row.resumed for row in report.rows] == [False, True, True]


def test_what_is_not_ours_is_not_overwritten(davis: Path, finished: tuple[Path, EvalReport], tmp_path: Path) -> None:
    out = shutil.copytree(finished[0], tmp_path / "out")
    with pytest.raises(UsageError, match=r"other settings \(rules\)"):
        evaluate(DavisProtocol(davis), out, model=MODEL, rules={"every": 2})
    report = evaluate(DavisProtocol(davis), out, model=MODEL, rules={"every": 2}, force=True, sequences=SEQUENCES[:1])
    assert not report.rows[0].resumed and report.settings["rules"]["every"] == 2
    (tmp_path / "mine" / SEQUENCES[0]).mkdir(parents=True)
    with pytest.raises(OutputExistsError):
        evaluate(DavisProtocol(davis), tmp_path / "mine", model=MODEL, sequences=SEQUENCES[:1])
    (out / "run.json").write_text("[]")
    with pytest.raises(UsageError, match=r"run\.json"):
        evaluate(DavisProtocol(davis), out, model=MODEL)


def test_davis16(davis: Path, tmp_path: Path) -> None:
    report = evaluate(DavisProtocol(davis, "2016"), tmp_path / "out", model=MODEL, sequences=["both", SEQUENCES[0]])
    with Image.open(tmp_path / "out/both/00000.png") as image:
        assert image.mode == "L"
        first = np.asarray(image)
    both = labels(davis / "Annotations/480p/both/00000.png")
    assert np.array_equal(first, np.where(both > 0, 255, 0)), "all objects are one"
    for path in sorted((davis / "Annotations/480p/both").iterdir()):
        (tmp_path / "truth/both").mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.where(labels(path) > 0, 255, 0).astype(np.uint8)).save(tmp_path / "truth/both" / path.name)
    j, f = direct(tmp_path / "truth", tmp_path / "out", "both")
    scores = report.rows[0].scores
    assert scores is not None and [(o.j, o.f) for o in scores.objects] == [(j[255], f[255])]
    assert DavisProtocol(davis, "2016").sequences() == [SEQUENCES[0]]


def test_without_ground_truth_there_is_a_zip(clips: dict[str, Frames], tmp_path: Path) -> None:
    root, out = tmp_path / "davis", tmp_path / "out"
    frames = clips[SEQUENCES[0]]
    masks = [frames[0][1], *[None] * (FRAMES - 1)]
    images = [image for image, _ in frames]
    write_davis_sequence(root / "2017/test-dev", "hidden", zip(images, masks, strict=True), split="test-dev")
    report = evaluate(DavisProtocol(root, split="test-dev"), out, model=MODEL)
    assert report.mean is None and report.rows[0].scores is None
    assert report.notes == ("no ground truth beyond the given masks: 1 of 1 sequences not scored",)
    assert set(report.outputs) == {"masks", "submission.zip", "scores.json", "sequences.csv", "objects.csv"}
    with zipfile.ZipFile(out / "submission.zip") as archive:
        assert archive.namelist() == [f"hidden/{i:05d}.png" for i in range(FRAMES)]
        assert archive.read("hidden/00002.png") == (out / "hidden/00002.png").read_bytes()
    again = evaluate(DavisProtocol(root, split="test-dev"), out, model=MODEL, archive=False)
    assert "submission.zip" not in again.outputs and again.rows[0].resumed


def test_youtube(youtube: Path, clips: dict[str, Frames], tmp_path: Path) -> None:
    report = evaluate(YouTubeProtocol(youtube, size=HEIGHT), tmp_path, model=MODEL)
    masks = tmp_path / "Annotations/clip"
    assert sorted(path.stem for path in masks.iterdir()) == ["00005", "00020", "00030"], "those of meta.json"
    with zipfile.ZipFile(tmp_path / "submission.zip") as archive:
        assert archive.namelist() == [f"Annotations/clip/{stem}.png" for stem in ("00005", "00020", "00030")]
    frames = paste(clips, (4, 9), LATE)
    assert np.array_equal(labels(masks / "00005.png"), frames[0][1])
    late = labels(masks / "00020.png")
    assert np.array_equal(late == 9, frames[LATE][1] == 9) and (late == 4).any()
    assert set(np.unique(labels(masks / "00030.png"))) == {0, 4, 9}
    assert report.rows[0].frames == FRAMES and report.rows[0].written == 3 and report.rows[0].scores is None
    assert report.settings["frames"] == "all"

    images = [np.asarray(Image.open(p)) for p in sorted((youtube / "all_frames").rglob("*.jpg"))]
    given = {0: np.where(frames[0][1] == 4, 4, 0), LATE: np.where(frames[LATE][1] == 9, 9, 0)}
    given = {index: mask.astype(np.uint8) for index, mask in given.items()}
    *_, last = follow(networks(MODEL), images.__getitem__, (HEIGHT, WIDTH), FRAMES, given, wanted=[0, LATE, LATE + 2])
    assert np.array_equal(labels(masks / "00030.png"), last.labels())


def test_youtube_output_all_at_another_size(youtube: Path, tmp_path: Path) -> None:
    protocol = YouTubeProtocol(youtube, size=64, output_all=True)
    clip = protocol.clip("clip")
    assert clip.size == (64, 114) and {index: mask.shape for index, mask in clip.working_masks().items()} == {
        0: (64, 114),
        LATE: (64, 114),
    }
    evaluate(protocol, tmp_path, model=MODEL)
    files = sorted((tmp_path / "Annotations/clip").iterdir())
    assert [path.stem for path in files] == [f"{5 * i + 5:05d}" for i in range(FRAMES)]
    assert {labels(path).shape for path in files} == {(HEIGHT, WIDTH)}
    assert [9 in labels(path) for path in files] == [index >= LATE for index in range(FRAMES)]


def test_youtube_frames_are_resized_as_the_authors_do(youtube: Path) -> None:
    clip = YouTubeProtocol(youtube, size=64).clip("clip")
    image = torch.from_numpy(np.asarray(Image.open(clip.frames[2]))).permute(2, 0, 1).float() / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normal = (image - mean[:, None, None]) / std[:, None, None]
    expected = resize(normal, 64, InterpolationMode.BICUBIC, antialias=False)
    got = image_tensor(clip.read_frame(2))[0, :, :, 7:-7]
    assert got.shape == expected.shape
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)
    assert youtube_size(720, 1280, 480) == (480, 853) and youtube_size(1280, 720, 480) == (853, 480)


def test_youtube_with_more_masks_is_scored(clips: dict[str, Frames], tmp_path: Path) -> None:
    frames = paste(clips, (4, 9), LATE)
    stems = [f"{index:05d}" for index in range(FRAMES)]
    write_youtube_video(tmp_path, "train", "clip", [(s, *frame) for s, frame in zip(stems, frames, strict=True)])
    (tmp_path / "train/meta.json").unlink()
    clip = YouTubeProtocol(tmp_path, "train").clip("clip")
    assert {index: np.unique(mask).tolist() for index, mask in clip.given.items()} == {0: [0, 4], LATE: [0, 9]}
    report = evaluate(YouTubeProtocol(tmp_path, "train", HEIGHT), tmp_path / "out", model=MODEL)
    assert report.settings["frames"] == "of the split" and "all_frames/train_all_frames is missing" in report.notes[0]
    j, f = direct(tmp_path / "train/Annotations", tmp_path / "out/Annotations", "clip")
    scores = report.rows[0].scores
    assert scores is not None and {o.object_id: (o.j, o.f) for o in scores.objects} == {k: (j[k], f[k]) for k in (4, 9)}


def test_perfect_masks_score_100_and_shifted_ones_less(davis: Path, tmp_path: Path) -> None:
    truth = davis / "Annotations/480p"
    perfect = score_folders(truth, truth)
    assert perfect.mean == {"objects": 4, "j": 100, "f": 100, "jf": 100}
    for path in truth.rglob("*.png"):
        target = tmp_path / "Annotations" / path.relative_to(truth)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_mask(target, np.roll(labels(path), 4, axis=1))
    shifted = score_folders(truth, tmp_path, images=davis / "JPEGImages/480p", out=tmp_path / "scores", worst=2)
    assert shifted.mean is not None and 20 < shifted.mean["jf"] < 95
    for row in shifted.rows:
        j, f = direct(truth, tmp_path / "Annotations", row.sequence)
        assert row.scores is not None
        assert {o.object_id: (o.j, o.f) for o in row.scores.objects} == {k: (j[k], f[k]) for k in j}
    assert (tmp_path / "scores/sequences.csv").is_file() and "worst.png" in shifted.outputs
    one = score_folders(truth / "both", tmp_path / "Annotations/both", edges=True)
    assert [len(row.scores.frames) for row in one.rows if row.scores] == [FRAMES]
    again = score_folders(truth, truth, out=tmp_path / "scores")
    assert "worst.png" not in again.outputs and not (tmp_path / "scores/worst.png").exists()


def test_void_in_the_truth_is_background(davis: Path, tmp_path: Path) -> None:
    source = davis / "Annotations/480p" / SEQUENCES[0]
    for path in source.iterdir():
        (tmp_path / "void").mkdir(exist_ok=True)
        mask = labels(path).copy()
        mask[:4] = 255
        write_mask(tmp_path / "void" / path.name, mask)
    assert score_folders(tmp_path / "void", source).mean == {"objects": 1, "j": 100, "f": 100, "jf": 100}


def test_errors_name_the_file(davis: Path, tmp_path: Path) -> None:
    truth = davis / "Annotations/480p"
    cases: list[tuple[type[MivosError], str, str]] = [
        (DatasetError, "both: is missing", "both"),
        (MaskError, r"car-turn.00003\.png: there is no such file", SEQUENCES[0]),
        (MaskError, "is 172x90", SEQUENCES[1]),
    ]
    for name in SEQUENCES:
        shutil.copytree(truth / name, tmp_path / name)
    (tmp_path / SEQUENCES[0] / "00003.png").unlink()
    write_mask(tmp_path / SEQUENCES[1] / "00003.png", np.zeros((90, WIDTH), np.uint8))
    for error, words, name in cases:
        with pytest.raises(error, match=words):
            score_folders(truth, tmp_path, sequences=[name])
    with pytest.raises(DatasetError, match="no such folder"):
        score_folders(truth, tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="JPEGImages/480p/nope"):
        evaluate(DavisProtocol(davis), tmp_path / "out", model=MODEL, sequences=["nope"])


def test_worst_frames_are_apart() -> None:
    def scores(name: str, *values: float) -> SequenceScores:
        frames = tuple(FrameScore(name, f"{i:05d}", j) for i, j in enumerate(values))
        return SequenceScores((ObjectScore(1, 0, 0),), frames)

    a, b = scores("a", 9, 8, 7, 9, 9, 9, 9, 10), scores("b", 100, 8.5, 100)
    assert [(f.sequence, f.frame) for f in worst_frames([a, b], 9)] == [("a", "00002"), ("b", "00001"), ("a", "00007")]
    assert len(worst_frames([a, b], 2)) == 2
