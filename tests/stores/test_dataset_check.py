"""Real sequences and stills, damaged in every way that is looked for."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stores.dataset_check import Report, check_dataset
from stores.dataset_files import RULES
from stores.davis import DavisDataset, write_davis_sequence
from stores.errors import DatasetError
from stores.masks import write_mask
from tests.conftest import ROOT

FRAMES, HEIGHT, WIDTH = 4, 96, 170
NAMES = ("bear", "car-turn")


@pytest.fixture(scope="module")
def sound(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sequences of four small frames, one to train on and one to validate on, and three stills."""
    root: Path = tmp_path_factory.mktemp("davis")
    dataset = DavisDataset(shared_data)
    for name, split in zip(NAMES, ("train", "val"), strict=True):
        pairs = zip(dataset.frames(name)[:FRAMES], dataset.annotations(name)[:FRAMES], strict=True)
        small = [
            (
                np.asarray(Image.open(image).convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.BOX)),
                np.asarray(Image.open(mask).resize((WIDTH, HEIGHT), Image.Resampling.NEAREST)),
            )
            for image, mask in pairs
        ]
        write_davis_sequence(root, name, small, split=split)
    (root / "static" / "cats").mkdir(parents=True)
    for path in sorted((shared_data / "static" / "feral_cat").glob("*.jpg"))[:3]:
        for file in (path, path.with_suffix(".png")):
            shutil.copy(file, root / "static" / "cats")
    return root


@pytest.fixture
def root(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "root"))


def kinds(report: Report) -> dict[str, int]:
    return {problem.kind: problem.count for problem in report.problems}


def test_the_shared_data_set_is_sound(shared_data: Path) -> None:
    steps: list[tuple[int, int]] = []
    report = check_dataset(shared_data, quick=True, progress=lambda *at: steps.append(at))
    assert report.errors == 0 and {"davis", "static"} == set(report.layouts), report.problems
    assert report.videos == len(list((shared_data / "JPEGImages" / "480p").iterdir()))
    assert steps[-1][0] == steps[-1][1] and [done for done, _ in steps] == sorted(done for done, _ in steps)


def test_a_sound_data_set_has_no_problems(sound: Path) -> None:
    report = check_dataset(sound)
    assert report.problems == () and report.layouts == ("davis", "static")
    assert (report.videos, report.frames, report.stills) == (2, 8, 3)
    json.dumps(report.to_json())


IMAGE, MASK = "JPEGImages/480p/bear/00002.jpg", "Annotations/480p/bear/00002.png"
TRAIN, VAL = "ImageSets/2017/train.txt", "ImageSets/2017/val.txt"


def labels(root: Path) -> np.ndarray:
    return np.array(Image.open(root / MASK))


def halve(name: str) -> Callable[[Path], object]:
    return lambda root: (root / name).write_bytes((root / name).read_bytes()[: (root / name).stat().st_size // 2])


def mask(make: Callable[[np.ndarray], object], **options: object) -> Callable[[Path], object]:
    """Replaces one mask; `make` turns its ids into an image or an array."""

    def damage(root: Path) -> None:
        made = make(labels(root))
        image = made if isinstance(made, Image.Image) else Image.fromarray(np.asarray(made))
        image.save(root / MASK, **options)  # type: ignore[arg-type]

    return damage


def palette(values: np.ndarray) -> Image.Image:
    image = Image.fromarray(values.astype(np.uint8))
    image.putpalette(bytes(range(256)) * 3)
    return image


def all_masks(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], object]:
    def damage(root: Path) -> None:
        for path in (root / MASK).parent.iterdir():
            write_mask(path, change(np.array(Image.open(path))))

    return damage


def smooth(values: np.ndarray) -> Image.Image:
    grey = Image.fromarray(np.where(values > 0, np.uint8(255), np.uint8(0)))
    return grey.resize((WIDTH // 4, HEIGHT // 4), Image.Resampling.BOX).resize(
        (WIDTH, HEIGHT), Image.Resampling.BICUBIC
    )


def many(values: np.ndarray) -> np.ndarray:
    return (np.arange(values.size).reshape(values.shape) % 300).astype(np.uint16)


def turned(root: Path) -> None:
    with Image.open(root / IMAGE) as image:
        exif = image.getexif()
        exif[0x0112] = 3
        image.save(root / IMAGE, exif=exif)


def fewer(root: Path) -> None:
    for kind, suffix in (("JPEGImages", "jpg"), ("Annotations", "png")):
        for number in (2, 3):
            (root / kind / "480p" / "bear" / f"0000{number}.{suffix}").unlink()


def renumber(root: Path) -> None:
    for kind, suffix in (("JPEGImages", "jpg"), ("Annotations", "png")):
        folder = root / kind / "480p" / "bear"
        (folder / f"00003.{suffix}").rename(folder / f"00007.{suffix}")


def resized(root: Path) -> None:
    for name in (IMAGE, MASK):
        with Image.open(root / name) as image:
            image.resize((WIDTH + 2, HEIGHT), Image.Resampling.NEAREST).save(root / name)


def moved(root: Path) -> None:
    for kind in ("JPEGImages", "Annotations"):
        (root / kind / "480p").rename(root / kind / "1080p")


def below(root: Path) -> None:
    (root / "trainval").mkdir()
    for kind in ("JPEGImages", "Annotations", "ImageSets"):
        (root / kind).rename(root / "trainval" / kind)


def no_frames(root: Path) -> None:
    for path in (root / IMAGE).parent.iterdir():
        path.unlink()


STILL = "static/cats"


def still(suffix: str) -> Callable[[Path], Path]:
    return lambda root: sorted((root / STILL).glob(f"*.{suffix}"))[0]


first_jpg, first_png = still("jpg"), still("png")


def blank_still(root: Path) -> None:
    path = first_png(root)
    write_mask(path, np.zeros(np.asarray(Image.open(path)).shape[:2], np.uint8))


DAMAGES: list[tuple[str, Callable[[Path], object], int]] = [
    ("no-images", lambda root: [shutil.rmtree(root / "JPEGImages"), shutil.rmtree(root / "static")], 1),
    ("no-masks", lambda root: (root / "Annotations").rename(root / "annotations"), 1),
    ("no-videos", lambda root: [shutil.rmtree(path) for path in (root / "JPEGImages/480p").iterdir()], 1),
    ("nested", below, 1),
    ("resolution", moved, 1),
    ("list-missing", lambda root: (root / TRAIN).unlink(), 1),
    ("list-unreadable", lambda root: (root / TRAIN).write_bytes(b"be\xffar\n"), 1),
    ("list-empty", lambda root: (root / TRAIN).write_text("\n"), 1),
    ("list-blank", lambda root: (root / TRAIN).write_text("bear\n\n\n"), 2),
    ("list-name", lambda root: (root / TRAIN).write_text("bear\nmy video\n"), 1),
    ("list-absent", lambda root: (root / TRAIN).write_text("bear\nwolf\nfox\n"), 2),
    ("list-twice", lambda root: (root / TRAIN).write_text("bear\nbear\n"), 1),
    ("list-leak", lambda root: (root / TRAIN).write_text("bear\ncar-turn\n"), 1),
    ("unlisted", lambda root: (root / VAL).write_text("bear\n"), 1),
    ("video-empty", no_frames, 1),
    ("video-no-masks", lambda root: shutil.rmtree((root / MASK).parent), 1),
    ("video-no-images", lambda root: (root / "Annotations/480p/wolf").mkdir(), 1),
    ("short", fewer, 1),
    ("mask-missing", lambda root: (root / MASK).unlink(), 1),
    ("image-missing", lambda root: (root / IMAGE).unlink(), 1),
    ("numbering", renumber, 1),
    ("suffix", lambda root: (root / IMAGE).rename((root / IMAGE).with_suffix(".jpeg")), 1),
    ("same-stem", lambda root: shutil.copy(root / IMAGE, (root / IMAGE).with_suffix(".JPG")), 1),
    ("hidden", lambda root: (root / IMAGE).with_name("._00000.jpg").write_bytes(b"mac"), 1),
    ("video-sizes", resized, 1),
    ("all-empty", all_masks(lambda ids: 0 * ids), 1),
    ("gaps", all_masks(lambda ids: 3 * ids), 1),
    ("unreadable", halve(IMAGE), 1),
    ("unreadable", halve(MASK), 1),
    ("unreadable", lambda root: (root / MASK).write_bytes(b""), 1),
    ("mask-size", lambda root: write_mask(root / MASK, np.zeros((HEIGHT, WIDTH - 1), np.uint8)), 1),
    ("mask-jpeg", mask(lambda ids: 255 * ids, format="JPEG"), 1),
    ("mask-jpeg", lambda root: (root / MASK).rename((root / MASK).with_suffix(".jpg")), 1),
    ("mask-format", mask(lambda ids: ids, format="BMP"), 1),
    ("mask-rgb", mask(lambda ids: palette(ids).convert("RGB")), 1),
    ("mask-alpha", mask(lambda ids: palette(ids).convert("RGBA")), 1),
    ("mask-16bit", mask(lambda ids: ids.astype(np.uint16)), 1),
    ("mask-many", mask(many), 1),
    ("mask-blended", mask(smooth), 1),
    ("mask-blended", mask(lambda ids: palette(np.asarray(smooth(ids)))), 1),
    ("mask-picture", mask(lambda ids: np.random.default_rng(0).integers(0, 255, ids.shape).astype(np.uint8)), 1),
    ("mask-grey-ids", mask(lambda ids: ids + (ids > 0) * (np.arange(WIDTH) > WIDTH // 2)), 1),
    ("void", mask(lambda ids: palette(np.where(ids > 0, ids, 255))), 1),
    ("still-empty", blank_still, 1),
    ("image-format", lambda root: Image.open(root / IMAGE).save(root / IMAGE, format="PNG"), 1),
    ("turned", turned, 1),
    ("still-no-mask", lambda root: first_png(root).unlink(), 1),
    ("still-no-image", lambda root: first_jpg(root).unlink(), 1),
]  # fmt: skip
HEADERS_SHOW_IT = {"mask-16bit", "mask-rgb", "mask-alpha", "mask-size", "mask-format", "video-sizes", "turned", "short"}


@pytest.mark.parametrize(("kind", "damage", "count"), DAMAGES, ids=[f"{k}-{n}" for n, (k, *_) in enumerate(DAMAGES)])
def test_a_damage_is_told(root: Path, kind: str, damage: Callable[[Path], object], count: int) -> None:
    damage(root)
    report = check_dataset(root)
    assert kinds(report).get(kind) == count, report.problems
    (problem,) = [problem for problem in report.problems if problem.kind == kind]
    assert problem.level == RULES[kind].level and problem.hint
    line = problem.line()
    assert "\n" not in line and line.startswith(f"{problem.level}: ") and problem.first in line and "->" in line
    others = {other.kind for other in report.problems if other.level == "error"} - {kind}
    besides = {"no-videos": {"list-absent"}, "image-missing": {"numbering"}, "suffix": {"numbering"}}
    assert others <= besides.get(kind, set()), others
    assert bool(report.errors) == (RULES[kind].level == "error" or bool(others))
    if kind in HEADERS_SHOW_IT:
        assert kinds(check_dataset(root, quick=True)).get(kind) == count


def test_every_rule_is_tested() -> None:
    assert {kind for kind, *_ in DAMAGES} == set(RULES)


def test_many_files_are_one_problem(root: Path) -> None:
    for name in NAMES:
        for path in (root / "Annotations" / "480p" / name).iterdir():
            Image.open(path).convert("RGB").save(path)
    (problem,) = check_dataset(root).problems
    assert (problem.kind, problem.count, problem.first) == ("mask-rgb", 8, "Annotations/480p/bear/00000.png")


def test_flat_layouts(root: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    for kind in ("JPEGImages", "Annotations"):
        shutil.copytree(root / kind / "480p", flat / kind)
    report = check_dataset(flat)
    assert report.layouts == ("bl30k",) and report.problems == () and report.frames == 8
    (flat / "JPEGImages" / "bear" / "@eaDir").mkdir()  # a folder beside the frames is none of videos
    assert check_dataset(flat) == report
    for path in list((flat / "Annotations").glob("*/*")):
        if path.stem != "00000":
            path.unlink()
    assert kinds(check_dataset(flat)) == {"mask-missing": 6}
    (flat / "meta.json").write_text("{}")
    for kind, suffix in (("JPEGImages", "jpg"), ("Annotations", "png")):
        for path in sorted((flat / kind).glob(f"*/*.{suffix}"), reverse=True):
            path.rename(path.with_stem(f"{5 * int(path.stem):05d}"))
    report = check_dataset(flat)
    assert report.layouts == ("youtube",) and report.problems == ()


def test_stills_alone(root: Path, tmp_path: Path) -> None:
    report = check_dataset(root / "static")
    assert report.layouts == ("static",) and report.stills == 3 and report.problems == ()
    grey = np.asarray(smooth(np.asarray(Image.open(root / MASK))))
    image = sorted((root / STILL).glob("*.jpg"))[0]
    Image.open(image).resize((WIDTH, HEIGHT)).save(image)
    Image.fromarray(grey).save(image.with_suffix(".png"))
    (problem,) = check_dataset(root / "static").problems
    assert (problem.kind, problem.level) == ("mask-blended", "warning"), "soft edges of stills are usual"


def test_a_folder_of_frames_is_no_data_set(root: Path) -> None:
    report = check_dataset((root / IMAGE).parent)
    assert kinds(report)["no-images"] == 1 and report.errors == 1
    with pytest.raises(DatasetError, match="is no folder"):
        check_dataset(root / "nowhere")


def test_it_needs_no_networks() -> None:
    code = "import sys; import stores.dataset_check; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
