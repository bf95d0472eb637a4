"""Fusion data: layout and encoding as published, whole references only, and videos that cannot be used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.engine import ModelChoice, Networks, networks
from pipelines.networks.aggregate import aggregate_wbg
from pipelines.stages.propagate import Anchor, Pass, Propagator
from pipelines.synthesis import fusion_data, shared_keys
from pipelines.synthesis.fusion_data import generate_fusion
from pipelines.synthesis.fusion_run import FusionRun
from pipelines.synthesis.fusion_videos import find_fusion_videos, read_image
from pipelines.training.samples import Clip
from stores.davis import DavisDataset, write_davis_sequence
from stores.errors import DatasetError, OutputExistsError, SessionLockedError, StorageFullError, UsageError
from stores.labels import read_labels
from stores.masks import write_mask

FRAMES, HEIGHT, WIDTH = 6, 96, 160
NAMES = ("bear", "car-turn")


@pytest.fixture(scope="module")
def nano() -> Networks:
    return networks(ModelChoice("nano", "cpu", "torch"))


@pytest.fixture(scope="module")
def cut(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two real sequences, six small frames each; the right half of each object is object 3 instead of 1."""
    root: Path = tmp_path_factory.mktemp("davis")
    dataset = DavisDataset(shared_data)
    for name in NAMES:
        pairs = []
        for image, mask in zip(dataset.frames(name)[:FRAMES], dataset.annotations(name)[:FRAMES], strict=True):
            small = Image.open(image).convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.BOX)
            labels = np.asarray(Image.open(mask).resize((WIDTH, HEIGHT), Image.Resampling.NEAREST)).copy()
            middle = int(np.nonzero(labels)[1].mean())
            labels[:, middle:] *= 3
            pairs.append((np.asarray(small), labels))
        write_davis_sequence(root, name, pairs, split="train")
    return root


@pytest.fixture
def root(cut: Path, tmp_path: Path) -> Path:
    """A copy to break things in."""
    return shutil.copytree(cut, tmp_path / "root")


def files(out: Path) -> dict[str, bytes]:
    """All maps of a run; hidden folders and run.json left out."""
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.glob("[!.]*/*/*/*.png"))}


def test_layout_and_encoding_are_the_published_ones(cut: Path, tmp_path: Path, nano: Networks) -> None:
    seen: list[tuple[int, int]] = []
    report = generate_fusion(
        find_fusion_videos(cut), tmp_path / "run", nano, separation=4, progress=lambda *at: seen.append(at)
    )
    expected = {
        f"{name}/{ref:05d}/{k:05d}/{frame:05d}.png"
        for name in NAMES for ref in (0, 4) for k in (1, 3) for frame in range(FRAMES)
    }  # fmt: skip
    assert set(files(tmp_path / "run")) == expected
    assert (report.videos, report.references, report.maps, report.failed) == (2, 4, len(expected), ())
    assert seen == [(n, 20) for n in range(1, 21)]
    clip = find_fusion_videos(cut).clip("bear")
    labels = read_labels(clip.labels[4])
    planes = torch.from_numpy(np.stack([labels == k for k in (1, 3)]).astype(np.float32))
    masks = aggregate_wbg(planes[:, None], keep_bg=False)[:, 0].numpy()
    propagator = Propagator(
        nano, lambda i: read_image(clip.images[i]), labels.shape, 2, [Anchor(4, masks, 2)]  # type: ignore[arg-type]
    )  # fmt: skip
    wanted = {4: masks}
    for plan in (Pass(4, 1, FRAMES, None), Pass(4, -1, -1, None)):
        wanted |= {item.index: item.probs[1:] for item in propagator.run(plan)}
    for frame, probs in wanted.items():
        for k, plane in zip((1, 3), probs, strict=True):
            with Image.open(tmp_path / "run" / "bear" / "00004" / f"{k:05d}" / f"{frame:05d}.png") as image:
                assert image.mode == "L" and np.array_equal(np.asarray(image), np.floor(255 * plane))
            if frame == 4:
                assert set(np.unique(np.floor(255 * plane))) == {0, 255}, "aggregation leaves certain masks"


def test_range_memory_and_size(cut: Path, tmp_path: Path, nano: Networks) -> None:
    videos = find_fusion_videos(cut, videos=["bear"])
    runs = {"near": {"reach": 2}, "usual": {}, "often": {"mem_every": 1}, "small": {"size": 64}}
    for name, options in runs.items():
        generate_fusion(videos, tmp_path / name, nano, separation=3, **options)  # type: ignore[arg-type]
    found = {name: files(tmp_path / name) for name in runs}
    frames = [
        sorted({path[-9:-4] for path in found["near"] if path.startswith(f"bear/{ref}")}) for ref in ("00000", "00003")
    ]
    assert frames == [["00000", "00001", "00002"], ["00001", "00002", "00003", "00004", "00005"]]
    assert found["usual"].keys() == found["often"].keys() and found["usual"] != found["often"]
    with Image.open(tmp_path / "small" / "bear" / "00000" / "00001" / "00005.png") as image:
        assert image.size == (107, 64)
    assert json.loads((tmp_path / "often" / "run.json").read_text())["memory_every"] == 1
    assert nano.rules.every == 5, "the shared networks keep their rules"


def test_a_frame_is_encoded_once_for_all_references(
    cut: Path, tmp_path: Path, nano: Networks, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    runner = nano.runner("propagation")
    run = runner.run
    monkeypatch.setattr(runner, "run", lambda method, *tensors: (calls.append(method), run(method, *tensors))[1])
    videos = find_fusion_videos(cut)
    generate_fusion(videos, tmp_path / "kept", nano, separation=2)
    assert calls.count("encode_key") == len(NAMES) * FRAMES
    monkeypatch.setattr(shared_keys, "KEPT_BYTES", 0)
    generate_fusion(videos, tmp_path / "not", nano, separation=2)
    assert calls.count("encode_key") == len(NAMES) * FRAMES * (1 + 3)
    assert files(tmp_path / "kept") == files(tmp_path / "not")


def test_objects_that_are_kept(root: Path, tmp_path: Path, nano: Networks) -> None:
    """More than 100 pixels, at most five, void is none; a frame without an object is no reference."""
    folder = root / "Annotations" / "480p" / "bear"
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    for place, k in enumerate((255, 2, 9, 4, 5, 7, 8)):
        labels[:20, 20 * place : 20 * place + 20] = k
    labels[50:60, 50:60] = 1  # exactly 100
    for frame in range(FRAMES):
        write_mask(folder / f"{frame:05d}.png", labels if frame else 0 * labels)
    report = generate_fusion(find_fusion_videos(root, videos=["bear"]), tmp_path / "run", nano, separation=5, reach=1)
    assert (report.references, report.empty) == (1, 1)
    assert [path.name for path in sorted((tmp_path / "run" / "bear").iterdir())] == ["00005"]
    objects = sorted(path.name for path in (tmp_path / "run" / "bear" / "00005").iterdir())
    assert objects == ["00002", "00004", "00005", "00007", "00008"]


def test_layouts_lists_and_ranges(root: Path, tmp_path: Path) -> None:
    assert find_fusion_videos(root).names == NAMES
    assert find_fusion_videos(root, start=1).names == NAMES[1:] == find_fusion_videos(root, start=1, end=1).names
    assert find_fusion_videos(root, end=0).names == NAMES[:1] == find_fusion_videos(root, videos=["bear"]).names
    (root / "ImageSets" / "2017" / "train.txt").write_text("car-turn\n")
    assert find_fusion_videos(root).names == ("car-turn",)
    with pytest.raises(DatasetError, match="other.txt"):
        find_fusion_videos(root, split="other")
    with pytest.raises(UsageError, match="no video is left"):
        find_fusion_videos(root, start=5)
    with pytest.raises(DatasetError, match="nowhere"):
        find_fusion_videos(root, videos=["nowhere"])
    shutil.rmtree(root / "ImageSets")
    assert find_fusion_videos(root).names == NAMES
    flat = tmp_path / "flat"
    for kind in ("JPEGImages", "Annotations"):
        shutil.copytree(root / kind / "480p", flat / kind)
    videos = find_fusion_videos(flat)
    assert (videos.layout, videos.names, videos.count("bear")) == ("bl30k", NAMES, FRAMES)
    with pytest.raises(UsageError, match="no lists"):
        find_fusion_videos(flat, split="train")
    with pytest.raises(DatasetError, match="neither in DAVIS nor in BL30K"):
        find_fusion_videos(tmp_path)


def test_masks_mean_what_training_reads(cut: Path, tmp_path: Path) -> None:
    clip = find_fusion_videos(cut).clip("bear")
    values = np.array([[0, 1, 255], [2, 0, 7]], np.uint8)
    write_mask(tmp_path / "p.png", values)
    Image.fromarray(values).save(tmp_path / "l.png")
    cv2.imwrite(str(tmp_path / "image.jpg"), np.zeros((2, 3, 3), np.uint8))
    for path, image in (
        (clip.labels[0], clip.images[0]),
        *((tmp_path / f"{n}.png", tmp_path / "image.jpg") for n in "pl"),
    ):
        assert np.array_equal(read_labels(path), Clip("a", (image,), (path,)).read(0)[1])
    with Image.open(tmp_path / "p.png") as mask:
        mask.convert("RGB").save(tmp_path / "rgb.png")
    with pytest.raises(DatasetError, match="is a RGB image"):
        read_labels(tmp_path / "rgb.png")


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("broken", ["image", "mask", "missing", "size", "empty"])
def test_a_video_that_fails_is_named_and_the_rest_is_done(
    root: Path, tmp_path: Path, nano: Networks, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    images, masks = (root / kind / "480p" / "bear" for kind in ("JPEGImages", "Annotations"))
    if broken in ("image", "mask"):
        halve(images / "00004.jpg" if broken == "image" else masks / "00003.png")
    elif broken == "missing":
        (masks / "00004.png").unlink()
    elif broken == "size":
        write_mask(masks / "00004.png", np.zeros((HEIGHT, WIDTH - 1), np.uint8))
    else:
        for path in images.iterdir():
            path.unlink()
    videos = find_fusion_videos(root)
    report = generate_fusion(videos, tmp_path / "run", nano, separation=3, reach=1)
    ((name, problem),) = [(failure.video, failure.problem) for failure in report.failed]
    assert name == "bear" and name in caplog.text
    words = {"image": "00004.jpg: cannot be read", "mask": "00003.png: cannot be read", "missing": "1 of 6 frames"}
    assert words.get(broken, {"size": "159x96", "empty": "no frames"}.get(broken, "")) in problem
    assert sorted(path.name for path in (tmp_path / "run" / "car-turn").iterdir()) == ["00000", "00003"]
    assert not any((tmp_path / "run" / ".work").glob("*-*"))
    for reference in (tmp_path / "run" / "bear").glob("*"):
        assert {len(list(objects.iterdir())) for objects in reference.iterdir()} == {2}, "only the first one is whole"
    assert report.references == 2 + (broken == "image"), "the others are found out before any work"


def test_a_run_goes_on_and_takes_no_other_settings(cut: Path, tmp_path: Path, nano: Networks) -> None:
    videos, run = find_fusion_videos(cut, videos=["bear"]), tmp_path / "run"
    assert generate_fusion(videos, run, nano, separation=4, reach=1).references == 2
    before = files(run)
    shutil.rmtree(run / "bear" / "00004")
    left = run / ".work" / "bear-00004" / "00001"
    left.mkdir(parents=True)
    (left / "00000.png").write_bytes(b"half")
    report = generate_fusion(find_fusion_videos(cut), run, nano, separation=4, reach=1)
    assert (report.references, report.existing) == (3, 1) and not left.exists()
    assert files(run).items() >= before.items()
    for options, named in (
        ({"separation": 3, "reach": 1}, "separation: 4, now 3"),
        ({"separation": 4}, "range: 1, now None"),
    ):
        with pytest.raises(UsageError, match=named):
            generate_fusion(videos, run, nano, **options)  # type: ignore[arg-type]
    (run / "run.json").rename(tmp_path / "kept.json")
    for folder in (run / "bear", run / "car-turn"):
        folder.rename(tmp_path / folder.name)
    (run / ".0123456789ab.tmp").write_text("{")  # killed while it wrote run.json
    assert generate_fusion(videos, run, nano, separation=4, reach=1).references == 2
    assert (run / "run.json").read_bytes() == (tmp_path / "kept.json").read_bytes()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match="no run.json"):
        generate_fusion(videos, tmp_path / "other", nano)
    assert [path.name for path in (tmp_path / "other").glob("[!.]*")] == ["notes.txt"]


def test_a_folder_that_cannot_be_written(
    cut: Path, tmp_path: Path, nano: Networks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fills up in the second reference: the first stays, nothing of the second is seen."""
    write = fusion_data._write

    def full(folder: Path, frame: int, *rest: object) -> None:
        if folder.name == "bear-00004" and frame == 3:
            raise OSError(28, "No space left on device")
        write(folder, frame, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(fusion_data, "_write", full)
    with pytest.raises(StorageFullError, match="No space left"):
        generate_fusion(find_fusion_videos(cut), tmp_path / "run", nano, separation=4, reach=1)
    assert [path.name for path in (tmp_path / "run" / "bear").iterdir()] == ["00000"]
    assert not any((tmp_path / "run" / ".work").glob("*-*"))


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    with FusionRun.opened(tmp_path, {"a": 1}), pytest.raises(SessionLockedError, match="is being written"):
        with FusionRun.opened(tmp_path, {"a": 1}):
            pass


@pytest.mark.parametrize(("model", "network"), [("mivos", "propagation"), ("mivos-stcn", "propagation_stcn")])
def test_any_propagation_model(
    cut: Path, tmp_path: Path, checkpoint_files: dict[str, Path], model: str, network: str
) -> None:
    choice = ModelChoice(model, "cpu", "torch", checkpoints=(checkpoint_files[network],))
    videos = find_fusion_videos(cut, videos=["bear"])
    report = generate_fusion(videos, tmp_path / "run", Networks(choice), separation=6, reach=2, size=48)
    assert report.maps == 6
    settings = json.loads((tmp_path / "run" / "run.json").read_text())
    assert settings["model"] == model and len(settings["weights"]) == 64 and settings["memory_every"] == 5
