"""Samples of the published recipes: order, curriculum, objects, geometry, scribbles."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pipelines.training.clip_samples import StillSamples, VideoSamples, max_jump, three_frames, usable
from pipelines.training.deform import thin_plate
from pipelines.training.fusion_pairs import PairSamples, fusion_videos
from pipelines.training.fusion_samples import FusionSampler
from pipelines.training.lvis import open_lvis, outline_mask
from pipelines.training.order import Epochs, drawing
from pipelines.training.samples import Clip, FrameCache, find_videos
from pipelines.training.scribbles import boundary, curves, perturbed, random_strokes, robot_strokes, scribbles, skeleton
from pipelines.training.sets import VideoItem, davis_items, rendered_items, static_items, youtube_items
from pipelines.training.stroke_samples import ScribbleSamples
from pipelines.training.thinning import bezier, longest_paths, thin
from stores.errors import DatasetError
from stores.masks import write_mask
from tests.pipelines.training_data import HEIGHT, WIDTH, make_sets


@pytest.fixture(scope="module")
def sets(carphone_video: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sets(carphone_video, tmp_path_factory.mktemp("sets"))


@pytest.fixture(scope="module")
def shape() -> np.ndarray:
    mask = np.zeros((160, 200), np.uint8)
    cv2.ellipse(mask, (90, 80), (70, 35), 20, 0, 360, 1, -1)
    cv2.circle(mask, (185, 20), 10, 1, -1)
    return mask


def test_every_epoch_is_another_order_of_all_items() -> None:
    epochs = Epochs(items=10, batch=3, seed=1)
    places = [epochs.place(index) for index in range(18)]
    assert epochs.steps == 3 and [epoch for epoch, _ in places] == [0] * 9 + [1] * 9
    first, second = [item for _, item in places[:9]], [item for _, item in places[9:]]
    assert len(set(first)) == len(set(second)) == 9 and first != second
    assert epochs.total(7) == 3
    assert {item for _, item in map(Epochs(2, 5, 0).place, range(5))} == {0, 1}  # fewer items than a step takes


def test_torch_draws_from_the_given_generator_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    with drawing(np.random.default_rng(1)):
        a = torch.rand(2)
    with drawing(np.random.default_rng(1)):
        b = torch.rand(2)
    assert torch.equal(a, b) and torch.equal(before, torch.get_rng_state())


def test_jumps_grow_and_fall_back() -> None:
    found = [max_jump(epoch, 100, 0.9) for epoch in (0, 9, 10, 20, 30, 40, 89, 90)]
    assert found == [5, 5, 10, 15, 20, 25, 25, 5] and max_jump(80, 100, 0.8) == 5
    rng, seen = np.random.default_rng(0), set()
    for _ in range(500):
        a, b, c = frames = three_frames(rng, 40, 10)
        assert 0 <= min(frames) and max(frames) < 40 and (a <= b <= c or a >= b >= c)
        seen |= {abs(a - b), abs(b - c)}
    assert seen == set(range(12))  # up to jump + 1, and the authors' caps let frames coincide
    assert all(max(three_frames(rng, 3, 25)) < 3 for _ in range(50))


def test_small_rendered_objects_must_stay_small() -> None:
    labels = np.zeros((3, 384, 384), np.uint8)
    for label, sizes in {1: (40, 40, 40), 2: (15, 15, 15), 3: (15, 40, 15), 4: (8, 8, 8)}.items():
        for frame, side in enumerate(sizes):
            labels[frame, 80 * label : 80 * label + side, :side] = label
    assert usable(labels, rendered=False) == [1, 2, 3, 4]
    assert usable(labels, rendered=True) == [1, 2]  # 3 gets large later, 4 has under 100 pixels


def test_sets_are_found_and_weighted(sets: Path) -> None:
    assert len(davis_items(sets)) == 5
    (video,) = youtube_items(sets / "youtube")
    assert video.step == 5 and len(video.clip.images) == 12
    (sets / "youtube" / "yv_subset.txt").write_text("another\n")
    with pytest.raises(DatasetError, match="no annotated video"):
        youtube_items(sets / "youtube")
    (sets / "youtube" / "yv_subset.txt").unlink()
    assert rendered_items((sets / "bl30k",))[0].rendered
    assert len(static_items(sets / "static")) == 2 + 5
    with pytest.raises(DatasetError, match="holds no"):
        static_items(sets / "lvis")


def test_clips_share_geometry_and_leave_void_alone(sets: Path) -> None:
    items = davis_items(sets)
    samples = VideoSamples(items, Epochs(len(items), 2, 5), 96, 100)
    counts = set()
    for index in range(8):
        images, given, labels, present = samples(index)
        assert images.dtype == labels.dtype == torch.uint8 and images.shape == (3, 96, 96, 3)
        assert all(torch.equal(a, b) for a, b in zip((images, given, labels, present), samples(index), strict=True))
        assert torch.equal(given[0] > 0, labels[0] == 1) and torch.equal(given[1] > 0, labels[0] == 2)
        assert set(labels.unique().tolist()) <= {0, 1, 2} and given[0].any()
        assert bool(given[1].any()) == bool(present[1])
        counts.add(int(present[1]))
    assert 1 in counts


def test_images_and_labels_of_clips_are_warped_alike(tmp_path: Path) -> None:
    images, masks = [], []
    for frame in range(12):
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        corners = np.array([[20, 15], [120, 25], [70, 60], [40 + 4 * frame, 110]])  # no two sides alike
        cv2.fillPoly(mask, [corners.astype(np.int32)], 1)
        images.append(tmp_path / f"{frame:05d}.png")
        masks.append(tmp_path / f"label{frame:05d}.png")
        cv2.imwrite(str(images[-1]), 255 * mask)  # the image shows its own mask
        write_mask(masks[-1], mask)
    items = [VideoItem(Clip("painted", tuple(images), tuple(masks)))]
    samples, overlaps, moved = VideoSamples(items, Epochs(1, 1, 4), 96, 100), [], 0
    for index in range(10):
        pictures, _, labels, _ = samples(index)
        bright = pictures.float().mean(-1) > 160  # above the fill; the jitter of colours changes a tenth
        both = (bright & (labels == 1)).flatten(1).sum(1)
        overlaps += (both / (bright | (labels == 1)).flatten(1).sum(1)).tolist()
        moved += not torch.equal(labels[0], labels[1])
    assert min(overlaps) > 0.93 and moved >= 9


def test_masks_that_cannot_be_read_are_named(sets: Path, tmp_path: Path) -> None:
    whole = davis_items(sets)[0].clip
    for name, content in (("cut", whole.labels[0].read_bytes()[:-200]), ("text", b"no image")):
        path = tmp_path / f"{name}.png"
        path.write_bytes(content)
        clip = Clip(name, (whole.images[0],) * 3, (path,) * 3)
        readers = (
            lambda clip=clip: clip.read(0),
            lambda clip=clip: VideoSamples([VideoItem(clip)], Epochs(1, 1, 0), 96, 100)(0),
            lambda clip=clip: StillSamples([clip], Epochs(1, 1, 0), 96)(0),
        )
        for read in readers:
            with pytest.raises(DatasetError, match=f"{name}.png: cannot be read") as caught:
                read()
            assert "\n" not in str(caught.value) and caught.value.hint


def test_decoded_frames_are_kept_up_to_a_number_of_bytes(sets: Path) -> None:
    clip = davis_items(sets)[0].clip
    cache, size = FrameCache(3 * 4 * HEIGHT * WIDTH), 4 * HEIGHT * WIDTH  # three frames
    frames = [cache.read(clip.images[i], clip.labels[i]) for i in range(3)]
    assert len(cache) == 3 and cache.used == 3 * size
    assert cache.read(clip.images[0], clip.labels[0]) is frames[0]
    cache.read(clip.images[3], clip.labels[3])  # in place of 1, which was not used for longest
    assert len(cache) == 3 and cache.used == 3 * size
    assert cache.read(clip.images[0], clip.labels[0]) is frames[0]
    again = cache.read(clip.images[1], clip.labels[1])
    assert again is not frames[1] and all(np.array_equal(a, b) for a, b in zip(again, frames[1], strict=True))
    cache.limit = size // 2  # less than one frame: nothing is kept
    assert np.array_equal(cache.read(clip.images[2], clip.labels[2])[0], frames[2][0])
    cache.read(clip.images[5], clip.labels[5])
    assert len(cache) == 0 and cache.used == 0


def test_neighbours_are_references_too(sets: Path, tmp_path: Path) -> None:
    run = copied_maps(sets, tmp_path / "run", lambda reference, frame: True, {0: 0, 4: 1})
    sampler = FusionSampler(find_videos(sets), [run], 120, 96, 1)
    times = np.stack([sampler.sample(index).time for index in range(20)])
    assert (np.abs(times[:, 0] - times[:, 1]) == 1).all()  # none between the two, and the distance of both is 1
    assert len(np.unique(times[:, 0])) > 4


@pytest.mark.parametrize("kind", ["nano", "authors"])
def test_the_second_reference_was_reached_by_the_first(sets: Path, tmp_path: Path, kind: str) -> None:
    """0 and 4 followed their objects everywhere, 8 only to 5 to 11: 8 can be second, but first for none."""
    run = copied_maps(sets, tmp_path / "run", lambda reference, frame: reference != 8 or frame > 4, {0: 0, 4: 4, 8: 8})
    clips = find_videos(sets)
    if kind == "nano":
        nano = FusionSampler(clips, [run], 120, 96, 1)
        times = [nano.sample(index).time for index in range(30)]
    else:
        pairs = PairSamples(fusion_videos(clips, [run]), Epochs(100, 2, 0), 96)
        times = [pairs(index)[4].numpy() for index in range(30)]
    far, near = 0, 0
    for time in times:  # distances to the first and the second, over the distance of the two (4 or 8)
        possible = {
            (first, second, target)
            for first, second in ((0, 4), (4, 0), (0, 8), (4, 8))
            for target in range(5 if second == 8 else 0, 12)
            if np.allclose(np.abs([first - target, second - target]) / abs(first - second), time)
        }
        assert possible
        far += all(second == 8 for _, second, _ in possible)
        near += all(second != 8 for _, second, _ in possible)
    assert far and near


def test_a_video_without_usable_pairs_does_not_end_the_run(sets: Path, tmp_path: Path) -> None:
    run = copied_maps(sets, tmp_path / "run", lambda reference, frame: True, {0: 0, 4: 4})
    (car,) = find_videos(sets)
    lonely = [Clip(f"lonely{i}", car.images, car.labels) for i in range(12)]
    for clip in lonely:  # two references that reached nothing
        for reference in (0, 4):
            (run / clip.name / f"{reference:05d}" / "00001").mkdir(parents=True)
    sampler = FusionSampler([*lonely, car], [run], 120, 96, 2)
    assert all(sampler.sample(index).maps.any() for index in range(25))
    samples = PairSamples(fusion_videos([*lonely, car], [run]), Epochs(13, 1, 0), 96)
    assert all(samples(index)[2].any() for index in range(25))
    with pytest.raises(DatasetError, match="no usable sample"):
        FusionSampler(lonely, [run], 120, 96, 2).sample(0)


def copied_maps(sets: Path, run: Path, reached: Callable[[int, int], bool], names: dict[int, int]) -> Path:
    """Made-up maps of the sets' references under other numbers, of the frames that were reached."""
    for (old, new), label, frame in itertools.product(names.items(), ("00001", "00003"), range(12)):
        if reached(new, frame):
            target = run / "car" / f"{new:05d}" / label
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(sets / "fusion" / "car" / f"{old:05d}" / label / f"{frame:05d}.png", target)
    return run


def test_stills_move_like_their_masks(sets: Path, tmp_path: Path) -> None:
    folder = tmp_path / "static" / "one"
    folder.mkdir(parents=True)
    mask = np.zeros((90, 120), np.uint8)
    cv2.circle(mask, (55, 45), 25, 255, -1)
    cv2.imwrite(str(folder / "a.jpg"), cv2.cvtColor(mask, cv2.COLOR_GRAY2BGR))
    cv2.imwrite(str(folder / "a.png"), mask)
    items = static_items(tmp_path / "static")
    samples, overlaps, moved = StillSamples(items, Epochs(1, 1, 2), 96), [], 0
    for index in range(6):
        images, given, labels, present = samples(index)
        assert given.shape == (1, 96, 96) and float(given.max()) <= 1 and present.tolist() == [1]
        bright = images.float().mean(-1) > 160  # the white disk
        for frame in range(3):
            both, either = (bright[frame] & (labels[frame] > 0)).sum(), (bright[frame] | (labels[frame] > 0)).sum()
            overlaps.append(float(both / either))
        moved += not torch.equal(labels[0], labels[1])
    assert np.median(overlaps) > 0.9 and moved == 6


def test_thin_plates_move_control_points(shape: np.ndarray) -> None:
    square = np.zeros((128, 128), np.uint8)
    square[32:96, 32:96] = 200
    image = np.repeat(square[..., None], 3, axis=2)
    bent, mask = thin_plate(np.random.default_rng(0), image, square, (124, 116, 104))
    assert bent.shape == image.shape and set(np.unique(mask)) <= {0, 200}
    changed = (mask != square).mean()
    assert 0.002 < changed < 0.2
    inside = cv2.erode(mask, np.ones((5, 5), np.uint8)) > 0
    assert (bent[inside] == 200).mean() > 0.99


def test_fusion_pairs_agree_with_what_lies_on_disk(sets: Path) -> None:
    videos = fusion_videos(find_videos(sets), [sets / "fusion"])
    samples = PairSamples(videos, Epochs(100, 2, 0), 96)
    for index in range(6):
        target, reference, maps, labels, time, present = samples(index)
        assert target.shape == reference.shape == (96, 96, 3) and maps.shape == (2, 3, 96, 96)
        assert float((maps[0, 0] - maps[0, 1]).abs().max()) > 0.1
        for slot in range(2):
            if present[slot]:  # the maps look like the masks they were made of
                truth = labels[0] == slot + 1
                overlap = ((maps[slot] > 0.5)[:2] & truth).sum() / truth.sum().clamp(min=1)
                assert not truth.sum() > 200 or overlap > 0.3
        span = time.sum() if 0 <= float(time.min()) and float(time.max()) <= 1 else None
        assert span is None or float(span) == pytest.approx(1)
    with pytest.raises(DatasetError, match="two propagated references"):
        fusion_videos(find_videos(sets), [sets / "static"])


def test_skeletons_are_thin_and_connected(shape: np.ndarray) -> None:
    lines = thin(shape)
    assert lines.any() and not (lines & ~shape & 1).any()
    assert cv2.connectedComponents(lines, connectivity=8)[0] == cv2.connectedComponents(shape, connectivity=8)[0]
    squares = cv2.filter2D(lines, cv2.CV_8U, np.ones((2, 2), np.float32))
    assert (squares == 4).sum() == 0  # nowhere two pixels wide
    longest = max(map(len, longest_paths(lines)))
    assert longest > 60  # along the ellipse of 140 x 70
    assert not thin(np.zeros((5, 5), np.uint8)).any()


def test_curves_begin_and_end_at_their_points() -> None:
    points = np.array([[0.0, 0], [5, 10], [10, 0]])
    curve = bezier(points, 101)
    assert np.allclose(curve[[0, 50, 100]], [[0, 0], [5, 5], [10, 0]], atol=1e-3)
    many = bezier(np.stack([np.arange(2000.0), np.zeros(2000)], axis=1), 11)
    assert np.allclose(many[:, 0], np.linspace(0, 1999, 11), atol=0.5)  # no overflow


@pytest.mark.parametrize("kind", ["robot", "boundary", "skeleton", "curves", "random", "clicks"])
def test_each_kind_of_stroke_lies_in_its_region(kind: str, shape: np.ndarray) -> None:
    grown, drawn = cv2.dilate(shape, np.ones((7, 7), np.uint8)), 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        strokes = {
            "robot": lambda: robot_strokes(shape),
            "boundary": lambda rng=rng: boundary(rng, shape),
            "skeleton": lambda rng=rng: skeleton(rng, shape),
            "curves": lambda rng=rng: curves(rng, shape, 2),
            "random": lambda rng=rng: random_strokes(rng, shape, 0.0),
            "clicks": lambda rng=rng: random_strokes(rng, shape, 1.0),
        }[kind]()
        assert strokes.dtype == np.uint8 and set(np.unique(strokes)) <= {0, 1}
        assert not (strokes & ~grown & 1).any()
        drawn += bool(strokes.any())
        assert strokes.sum() < 0.5 * shape.sum()
    assert drawn >= 8


def test_scribbles_correct_the_previous_mask(shape: np.ndarray) -> None:
    found = {"positive": 0, "negative": 0}
    for seed in range(12):
        rng = np.random.default_rng(seed)
        previous = perturbed(rng, shape, 0.6)
        union = (previous | shape).sum()
        assert 0.3 < (previous & shape).sum() / union < 0.75
        positive, negative = scribbles(rng, shape, previous, from_zero=False)
        assert not (positive & ~cv2.dilate(shape, np.ones((7, 7), np.uint8)) & 1).any()
        found["positive"] += bool(positive.any())
        found["negative"] += bool(negative.any())
    assert min(found.values()) >= 6
    positive, negative = scribbles(np.random.default_rng(0), shape, shape, from_zero=False)
    assert positive.any() and negative.any()  # nothing to correct: drawn from the truth


def test_lvis_objects_and_disturbing_ones(sets: Path) -> None:
    lvis = open_lvis(sets / "lvis")
    assert [item.area for item in lvis.objects] == [4900, 3000]
    assert lvis.objects[0].mask().sum() == pytest.approx(4900, rel=0.04)
    assert len(lvis.others[lvis.objects[0].image]) == 2
    samples = ScribbleSamples(tuple(static_items(sets / "static")[:1]), lvis, Epochs(3, 1, 0), 96)
    marked = set()
    for index in range(18):
        image, planes, truth = samples(index)
        assert image.shape == (96, 96, 3) and planes.shape == (3, 96, 96) and truth.shape == (96, 96)
        assert planes.dtype == torch.uint8 and int(planes.max()) <= 1
        marked.add(bool((planes[0] & ~truth & 1).any()))
    assert marked == {True, False}
    with pytest.raises(DatasetError, match="is missing"):
        open_lvis(sets)


def test_outlines_in_all_forms() -> None:
    mask = np.zeros((12, 9), np.uint8)
    mask[3:8, 2:6] = 1
    flat = mask.T.ravel()
    changes = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    assert np.array_equal(outline_mask({"size": [12, 9], "counts": counts}, 12, 9), mask)
    assert np.array_equal(outline_mask([[2, 3, 6, 3, 6, 8, 2, 8]], 12, 9), mask)
    coco = pytest.importorskip("pycocotools.mask")
    assert np.array_equal(outline_mask(coco.encode(np.asfortranarray(mask)), 12, 9), mask)
    with pytest.raises(DatasetError, match="neither"):
        outline_mask({"counts": [3]}, 12, 9)
