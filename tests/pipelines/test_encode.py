from __future__ import annotations

import shutil
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO

import pipelines.stages.outputs as outputs
from pipelines.stages.encode import FORMATS, encode
from pipelines.stages.outputs import cut_out, decide, draw_overlay
from stores.errors import OutputExistsError, StorageFullError, UsageError
from stores.masks import davis_palette
from stores.session import RoundRecord, Session
from stores.video import probe, read_frames
from tests.stores.media import VFR, picture, warnings_of, write_video
from tests.stores.test_video_writer import file_size_limit, read_alpha

FRAMES = len(VFR)
EVERYTHING = tuple(FORMATS)


def soft_masks(index: int, height: int, width: int) -> np.ndarray:
    """float32 [3, H, W]: two discs that move; object 2 is gone in the last frame."""
    y, x = np.mgrid[:height, :width]
    first = 1 / (1 + np.exp(np.hypot(y - height / 2, x - 10 - index) - 5))
    second = 1 / (1 + np.exp(np.hypot(y - height / 2, x - width + 10) - 4)) * (index < FRAMES - 1)
    objects = np.stack([first, second])
    return np.concatenate([1 - objects.sum(0, keepdims=True), objects]).astype(np.float32)


def make_session(path: Path, source: Path, *, size: int = 24, missing: tuple[int, ...] = ()) -> Session:
    """A session with one finished round that skipped the `missing` frames."""
    frames = list(read_frames(source, size=size))
    height, width = frames[0].image.shape[:2]
    session = Session.create(path, probe(source), height=height, width=width)
    for frame in frames:
        session.write_frame(frame)
    session.finish_frames()
    session.begin_round()
    session.add_objects(2)
    for frame in frames:
        if frame.index not in missing:
            session.write_probs(frame.index, soft_masks(frame.index, height, width))
    session.commit_round(RoundRecord(number=1, kind="masks", frame=0, objects=(1, 2)))
    return session


@pytest.fixture
def video(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return write_video(tmp_path / "in" / "clip.mp4", pts=VFR, sound="aac")


@pytest.fixture
def session(tmp_path: Path, video: Path) -> Iterator[Session]:
    with make_session(tmp_path / "session", video) as made:
        yield made


def expected_labels(session: Session, index: int) -> np.ndarray:
    probs = session.probs(index)
    assert probs is not None
    return np.stack([cv2.resize(p, (64, 48), interpolation=cv2.INTER_LINEAR) for p in probs]).argmax(0)


def test_all_formats(tmp_path: Path, video: Path, session: Session) -> None:
    calls: list[tuple[int, int]] = []
    out = tmp_path / "new" / "out"
    made = encode(session, out, formats=EVERYTHING, progress=lambda done, total: calls.append((done, total)))
    assert list(made) == list(EVERYTHING)
    targets = ["masks", "overlay.mp4", "binary", "alpha.webm", "alpha.mov", "coco.json"]
    targets += ["youtube-vis.json", "cvat.xml", "label-studio", "ome.zarr"]
    assert sorted(p.name for p in out.iterdir()) == sorted(targets)
    assert calls == [(i + 1, FRAMES) for i in range(FRAMES)]

    files = sorted(Path(made["png"]).iterdir())
    assert [f.name for f in files] == [f"{i:05d}.png" for i in range(FRAMES)]
    for index, file in enumerate(files):
        image = Image.open(file)
        assert image.mode == "P"
        labels = np.asarray(image)
        assert np.array_equal(labels, expected_labels(session, index))
        assert set(np.unique(labels)) == ({0, 1, 2} if index < FRAMES - 1 else {0, 1})
        for number in (1, 2):
            binary = np.asarray(Image.open(Path(made["binary"]) / str(number) / file.name))
            assert np.array_equal(binary, (labels == number) * np.uint8(255))
    assert (image.getpalette() or [])[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]

    for name in ("overlay", "webm", "prores"):
        base = Fraction(*probe(Path(made[name])).time_base)
        times = [f.pts * base for f in read_frames(Path(made[name]), size=None)]
        assert np.allclose([float(t) for t in times], np.array(VFR) / 30, atol=0.0005 * (name == "webm"))
    assert probe(Path(made["overlay"])).has_audio
    for name in ("webm", "prores"):
        for index, alpha in enumerate(read_alpha(Path(made[name]))):
            disagreement = (alpha >= 0.5) != (expected_labels(session, index) > 0)
            assert disagreement.mean() < 0.002
    overlay = next(read_frames(Path(made["overlay"]), size=None)).image.astype(int)
    source = next(read_frames(video, size=None)).image
    untouched = cv2.dilate((expected_labels(session, 0) > 0).astype(np.uint8), np.ones((5, 5))) == 0
    assert np.abs(overlay - source)[untouched].mean() < 3
    assert np.abs(overlay - draw_overlay(source, expected_labels(session, 0).astype(np.uint8))).mean() < 6


def test_coco_loads(tmp_path: Path, session: Session) -> None:
    made = encode(session, tmp_path / "out", formats=["coco"])
    coco = COCO(made["coco"])
    assert len(coco.imgs) == FRAMES and list(coco.cats) == [1, 2]
    assert len(coco.anns) == 2 * FRAMES - 1
    assert coco.imgs[1]["file_name"] == "00000.png" and coco.dataset["videos"][0]["length"] == FRAMES
    for annotation in coco.anns.values():
        assert isinstance(annotation["segmentation"]["counts"], str)
        labels = expected_labels(session, annotation["image_id"] - 1)
        mask = coco.annToMask(annotation)
        assert np.array_equal(mask, labels == annotation["category_id"])
        assert annotation["area"] == mask.sum()
        y, x = np.nonzero(mask)
        assert annotation["bbox"] == [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1]
        assert rle.area(annotation["segmentation"]) == mask.sum()


def test_folder_names_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for index, name in enumerate(["b9.png", "b10.png", "b11.png"]):
        cv2.imwrite(str(folder / name), picture(index)[..., ::-1])
    with make_session(tmp_path / "session", folder) as session:
        made = encode(session, tmp_path / "out", formats=["png", "coco", "overlay"])
    assert sorted(p.name for p in Path(made["png"]).iterdir()) == ["b10.png", "b11.png", "b9.png"]
    assert COCO(made["coco"]).imgs[2]["file_name"] == "b10.png"
    assert len(list(read_frames(Path(made["overlay"])))) == 3


def test_frames_that_were_not_computed(tmp_path: Path, video: Path, caplog: pytest.LogCaptureFixture) -> None:
    with make_session(tmp_path / "session", video, missing=(1, 4)) as session:
        made = encode(session, tmp_path / "out", formats=EVERYTHING)
    names = [f"{i:05d}.png" for i in (0, 2, 3, 5)]
    assert sorted(p.name for p in Path(made["png"]).iterdir()) == names
    assert sorted(p.name for p in (Path(made["binary"]) / "1").iterdir()) == names
    assert [i["frame_index"] for i in COCO(made["coco"]).imgs.values()] == [0, 2, 3, 5]
    assert len(list(read_frames(Path(made["overlay"])))) == FRAMES
    alphas = read_alpha(Path(made["prores"]))
    assert alphas[1].max() == 0 and alphas[2].max() == 1
    assert "2 of 6 frames" in warnings_of(caplog)[0]


def test_existing_output_is_kept_unless_forced(tmp_path: Path, session: Session) -> None:
    out = tmp_path / "out"
    (out / "masks").mkdir(parents=True)
    encode(session, out, formats=["png"])  # an empty folder is nothing to lose
    (out / "masks" / "00000.png").write_text("mine")
    (out / "notes.txt").write_text("mine too")
    with pytest.raises(OutputExistsError, match="masks exists"):
        encode(session, out, formats=["overlay", "png"])
    assert not (out / "overlay.mp4").exists()
    (out / "masks" / "stale.png").touch()
    encode(session, out, formats=["png"], force=True)
    assert len(list((out / "masks").iterdir())) == FRAMES
    assert Image.open(out / "masks" / "00000.png").mode == "P"
    assert sorted(p.name for p in out.iterdir()) == ["masks", "notes.txt"]


@pytest.mark.parametrize("what", ["gone", "changed", "shorter"])
def test_source_that_is_not_what_it_was(
    tmp_path: Path, video: Path, session: Session, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    if what == "gone":
        video.unlink()
    else:
        write_video(video, pts=VFR if what == "changed" else VFR[:2], size=(96, 64))
    made = encode(session, tmp_path / "out", formats=["overlay", "png"])
    (warning,) = warnings_of(caplog)
    assert str(video) in warning and "smaller pictures" in warning
    info = probe(Path(made["overlay"]))
    assert (info.width, info.height, info.has_audio) == (64, 48, False)
    assert len(list(read_frames(Path(made["overlay"])))) == FRAMES
    caplog.clear()
    encode(session, tmp_path / "masks only", formats=["png", "coco", "binary"])  # needs no pictures
    assert not warnings_of(caplog)


def test_usage_errors(tmp_path: Path, video: Path, session: Session) -> None:
    with pytest.raises(UsageError, match="unknown format 'gif'"):
        encode(session, tmp_path / "out", formats=["png", "gif"])
    with pytest.raises(UsageError, match="no output format"):
        encode(session, tmp_path / "out", formats=[])
    frames = list(read_frames(video, size=24))
    with Session.create(tmp_path / "fresh", probe(video), height=24, width=32) as fresh:
        for frame in frames:
            fresh.write_frame(frame)
        fresh.finish_frames()
        with pytest.raises(UsageError, match="no masks yet"):
            encode(fresh, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", EVERYTHING)
def test_full_disk_leaves_nothing(tmp_path: Path, session: Session, name: str) -> None:
    out = tmp_path / "out"
    with pytest.raises(StorageFullError), file_size_limit(60):
        encode(session, out, formats=[name])
    assert not out.exists()


def test_unwritable_output(tmp_path: Path, session: Session) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(StorageFullError):
            encode(session, out, formats=["png"])


def test_interrupt_cleans_up(tmp_path: Path, session: Session) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    out = tmp_path / "out"
    out.mkdir()
    (out / "overlay.mp4").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        encode(session, out, formats=EVERYTHING, force=True, progress=interrupt)
    assert [p.name for p in out.iterdir()] == ["overlay.mp4"]
    assert (out / "overlay.mp4").read_text() == "old"


def test_leftovers_of_a_killed_run_go(tmp_path: Path, session: Session) -> None:
    out = tmp_path / "out"
    (out / ".mivos-encode-dead" / "masks").mkdir(parents=True)
    encode(session, out, formats=["png"])
    assert [p.name for p in out.iterdir()] == ["masks"]


def test_decide_is_upsample_then_argmax() -> None:
    probs = np.random.default_rng(0).random((4, 6, 8), dtype=np.float32)
    upsampled = np.stack([cv2.resize(p, (20, 13), interpolation=cv2.INTER_LINEAR) for p in probs])
    assert np.array_equal(decide(probs, 13, 20), upsampled.argmax(0))
    assert np.array_equal(decide(probs, 6, 8), probs.argmax(0))
    assert not decide(np.full((3, 4, 4), 0.25, np.float32), 4, 4).any()


def test_overlay_style() -> None:
    image = np.full((60, 80, 3), 100, np.uint8)
    labels = np.zeros((60, 80), np.uint8)
    labels[10:50, 10:40] = 1
    labels[10:50, 40:70] = 2
    drawn = draw_overlay(image, labels)
    assert np.array_equal(drawn[labels == 0], image[labels == 0])
    assert np.array_equal(drawn[30, 25], (100 + davis_palette()[1].astype(int)) // 2)
    assert tuple(drawn[30, 10]) == tuple(drawn[30, 39]) == (255, 0, 0)  # outlined, also where objects touch
    assert tuple(drawn[30, 40]) == (0, 255, 0)
    assert (image == 100).all()


def test_cut_out_keeps_colour_at_the_edge() -> None:
    image = np.full((60, 80, 3), 100, np.uint8)
    labels = np.zeros((60, 80), np.uint8)
    labels[20:40, 20:40] = 3
    rgba = cut_out(image, labels)
    assert tuple(rgba[30, 30]) == (100, 100, 100, 255)
    assert tuple(rgba[30, 18]) == (100, 100, 100, 0)
    assert tuple(rgba[5, 5]) == (0, 0, 0, 0)
    assert 0 < rgba[30, 19, 3] < 128 <= rgba[30, 20, 3] < 255
    assert not cut_out(image, None).any()


def test_every_format_has_its_own_target() -> None:
    targets = [sink.target for sink in FORMATS.values()]
    assert len(set(targets)) == len(targets)
    assert outputs.FORMATS is FORMATS


def test_real_masks(tmp_path: Path, shared_data: Path) -> None:
    folder = tmp_path / "bear"
    folder.mkdir()
    images = sorted((shared_data / "JPEGImages" / "480p" / "bear").iterdir())[:3]
    for image in images:
        shutil.copy(image, folder)
    truth = [np.asarray(Image.open(shared_data / f"Annotations/480p/bear/{i.stem}.png")) for i in images]
    with Session.create(tmp_path / "session", probe(folder), height=480, width=854) as session:
        for frame in read_frames(folder):
            session.write_frame(frame)
        session.finish_frames()
        session.begin_round()
        session.add_objects(1)
        for index, labels in enumerate(truth):
            session.write_probs(index, np.stack([labels == 0, labels == 1]).astype(np.float32))
        session.commit_round(RoundRecord(number=1, kind="masks", frame=0, objects=(1,)))
        made = encode(session, tmp_path / "out")
    for image, labels in zip(images, truth, strict=True):
        assert np.array_equal(np.asarray(Image.open(Path(made["png"]) / f"{image.stem}.png")), labels)
    assert len(list(read_frames(Path(made["overlay"])))) == 3
