"""Label images: what each kind of PNG means, and what is refused."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from stores import files, masks
from stores.errors import MaskError, StorageFullError
from stores.masks import (
    davis_palette,
    iter_mask_inputs,
    read_annotation,
    read_mask,
    read_mask_inputs,
    write_mask,
    write_masks,
)

FEW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def discs() -> np.ndarray:
    """Two objects, ids 1 and 2."""
    labels = np.zeros((120, 160), dtype=np.uint8)
    cv2.circle(labels, (50, 60), 30, 1, -1)
    cv2.circle(labels, (110, 60), 25, 2, -1)
    return labels


def smooth(colours: list[tuple[int, int, int]]) -> np.ndarray:
    """The same two discs drawn with smoothed edges, uint8 [H, W, 3]; large, so that edges are rare."""
    image = np.zeros((960, 1280, 3), dtype=np.uint8)
    for (x, y, r), colour in zip(((400, 480, 240), (880, 480, 200)), colours, strict=False):
        cv2.circle(image, (x, y), r, colour, -1, cv2.LINE_AA)
    return cv2.resize(image, (640, 480), interpolation=cv2.INTER_AREA)


def save(path: Path, array: np.ndarray) -> Path:
    Image.fromarray(array).save(path)
    return path


def test_davis_palette(shared_data: Path) -> None:
    palette = davis_palette()
    assert palette.shape == (256, 3)
    assert palette[:4].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    assert palette[255].tolist() == [224, 224, 192]
    assert len({tuple(c) for c in palette.tolist()}) == 256
    palette[1] = 0
    assert davis_palette()[1].tolist() == [128, 0, 0]
    with Image.open(shared_data / "Annotations" / "480p" / "chair" / "00000.png") as image:
        stored = np.array(image.getpalette()).reshape(-1, 3)
    np.testing.assert_array_equal(davis_palette()[: len(stored)], stored)


def test_real_annotation_reads_and_copies(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "Annotations" / "480p" / "bear" / "00000.png"
    mask = read_mask(source, size=(480, 854))
    assert mask.ids == (1,)
    assert mask.labels.dtype == np.uint8 and mask.labels.flags.writeable
    write_mask(tmp_path / "copy.png", mask.labels, mask.palette)
    copy = read_mask(tmp_path / "copy.png")
    np.testing.assert_array_equal(copy.labels, mask.labels)
    np.testing.assert_array_equal(copy.palette, mask.palette)
    # The colours of that file survive the way over RGB too.
    with Image.open(source) as image:
        image.convert("RGB").save(tmp_path / "rgb.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "rgb.png").labels, mask.labels)


def test_palette_and_gaps_in_ids_are_kept(tmp_path: Path) -> None:
    labels = discs() * 100
    palette = davis_palette()[::-1]
    write_mask(tmp_path / "m.png", labels, palette)
    with Image.open(tmp_path / "m.png") as image:
        assert image.mode == "P"
    mask = read_mask(tmp_path / "m.png")
    assert mask.ids == (100, 200)
    np.testing.assert_array_equal(mask.labels, labels)
    np.testing.assert_array_equal(mask.palette, palette)
    short = Image.fromarray(discs())
    short.putpalette([0, 0, 0, 9, 9, 9, 8, 8, 8])
    short.save(tmp_path / "short.png")
    mask = read_mask(tmp_path / "short.png")
    assert mask.palette is not None and mask.palette.shape == (256, 3)
    assert mask.palette[1].tolist() == [9, 9, 9] and mask.ids == (1, 2)


def test_grey_images(tmp_path: Path) -> None:
    labels = discs()
    np.testing.assert_array_equal(read_mask(save(tmp_path / "small.png", labels)).labels, labels)
    white = (labels > 0).astype(np.uint8)
    for name, array in (("l", white * 255), ("bool", white > 0), ("16", white.astype(np.uint16) * 65535)):
        mask = read_mask(save(tmp_path / f"{name}.png", array))
        np.testing.assert_array_equal(mask.labels, white)
        assert mask.palette is None and mask.ids == (1,)
    np.testing.assert_array_equal(
        read_mask(save(tmp_path / "16b.png", labels.astype(np.uint16) * 50)).labels, labels * 50
    )
    with pytest.raises(MaskError, match="label 600"):
        read_mask(save(tmp_path / "16c.png", labels.astype(np.uint16) * 300))
    np.testing.assert_array_equal(
        read_mask(save(tmp_path / "rgb.png", np.repeat(white[..., None] * 255, 3, axis=2))).labels, white
    )


def test_void_is_refused_mapped_or_background(tmp_path: Path) -> None:
    labels = discs()
    labels[:5] = 255
    write_mask(tmp_path / "p.png", labels)
    for path in (tmp_path / "p.png", save(tmp_path / "l.png", labels)):
        with pytest.raises(MaskError, match="255"):
            read_mask(path)
        for mask in (read_mask(path, snap=True), read_annotation(path)):
            np.testing.assert_array_equal(mask.labels, np.where(labels == 255, 0, labels))
        np.testing.assert_array_equal(read_annotation(path, binary=True).labels, labels > 0)


def test_snap_leaves_clean_masks_alone(tmp_path: Path) -> None:
    labels = np.zeros((480, 640), dtype=np.uint8)
    for i in range(1, 41):
        labels[i * 10, i * 10] = i  # tiny objects are objects
    write_mask(tmp_path / "m.png", labels)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png", snap=True).labels, labels)
    few = np.where(labels <= 5, labels, 0).astype(np.uint8)
    for snap in (False, True):
        np.testing.assert_array_equal(read_mask(save(tmp_path / "l.png", few), snap=snap).labels, few)


@pytest.mark.parametrize("kind", ["RGB", "RGBA", "P", "L"])
def test_smoothed_edges_are_refused_and_snapped(kind: str, tmp_path: Path) -> None:
    colours = [(128, 0, 0), (0, 128, 0)] if kind in ("RGB", "RGBA") else [(255, 255, 255)] * 2
    image = Image.fromarray(smooth(colours))
    if kind == "P":
        image = image.quantize(64)
    elif kind != "RGB":
        image = image.convert(kind)
    image.save(tmp_path / "m.png")
    with pytest.raises(MaskError) as caught:
        read_mask(tmp_path / "m.png")
    message = str(caught.value)
    assert "colours" in message and "cover < 0.1 %" in message and "anti-aliased" in message
    assert caught.value.hint is not None and "--snap" in caught.value.hint
    mask = read_mask(tmp_path / "m.png", snap=True)
    assert mask.ids == ((1, 2) if kind in ("RGB", "RGBA") else (1,))
    truth = np.zeros((480, 640), dtype=np.uint8)
    cv2.circle(truth, (200, 240), 120, 1, -1)
    cv2.circle(truth, (440, 240), 100, 2 if kind in ("RGB", "RGBA") else 1, -1)
    assert (mask.labels == truth).mean() > 0.995


def test_colours_outside_the_palette(tmp_path: Path) -> None:
    image = np.zeros((60, 80, 3), dtype=np.uint8)
    image[:20], image[40:] = (255, 0, 0), (0, 255, 0)
    path = save(tmp_path / "m.png", image)
    with pytest.raises(MaskError, match=r"3 colours, 2 of which \(#00ff00, #ff0000\) are not"):
        read_mask(path)
    mask = read_mask(path, snap=True)
    assert mask.ids == (1, 2) and mask.palette is not None
    np.testing.assert_array_equal(mask.palette[mask.labels], image)
    transparent = np.dstack([image, np.full((60, 80), 255, dtype=np.uint8)])
    transparent[..., 3] = np.where(image.any(axis=-1), 255, 0)
    transparent[20:40, :, :3] = 77  # colour under full transparency means nothing
    again = read_mask(save(tmp_path / "a.png", transparent), snap=True)
    np.testing.assert_array_equal(again.labels, mask.labels)
    transparent[0, :, 3] = 100
    with pytest.raises(MaskError, match="half transparent"):
        read_mask(save(tmp_path / "b.png", transparent))


def test_photograph_is_no_mask(shared_data: Path, tmp_path: Path) -> None:
    with Image.open(shared_data / "JPEGImages" / "480p" / "bear" / "00000.jpg") as image:
        image.save(tmp_path / "photo.png")
        image.convert("L").save(tmp_path / "grey.png")
        image.quantize(256).save(tmp_path / "palette.png")
        image.save(tmp_path / "photo.jpg")
    with pytest.raises(MaskError, match="RGB image with [0-9]+ colours"):
        read_mask(tmp_path / "photo.png")
    with pytest.raises(MaskError, match="a picture, not a mask"):
        read_mask(tmp_path / "photo.png", snap=True)
    for name in ("grey", "palette"):
        with pytest.raises(MaskError, match="a picture, not a mask"):
            read_mask(tmp_path / f"{name}.png")
    with pytest.raises(MaskError, match="not a PNG"):
        read_mask(tmp_path / "photo.jpg")


def png_header(width: int, height: int, depth: int = 8, colour: int = 0) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


def test_wrong_sizes_damage_and_bombs(tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    write_mask(path, discs())
    with pytest.raises(MaskError, match=r"is 160x120 .* but the frames are 854x480"):
        read_mask(path, size=(480, 854), snap=True)
    data = path.read_bytes()
    for content, words in (
        (b"", "empty"),
        (b"GIF89a" + bytes(40), "not a PNG"),
        (data[: len(data) // 2], "damaged"),
        (png_header(100_000, 100_000), "claims 100000x100000"),
        (png_header(8, 8), "damaged"),
        (png_header(8, 8, depth=16, colour=2), "16-bit colour"),
    ):
        path.write_bytes(content)
        with pytest.raises(MaskError, match=words) as caught:
            read_mask(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(MaskError, match="no such file"):
        read_mask(tmp_path / "none.png")
    with pytest.raises(MaskError, match="directory"):
        read_mask(tmp_path)


@FEW
@given(st.integers(0, 10_000), st.integers(0, 255), st.booleans())
def test_damaged_bytes_never_give_another_error(tmp_path: Path, place: int, value: int, snap: bool) -> None:
    path = tmp_path / "m.png"
    write_mask(path, discs()[::4, ::4])
    data = bytearray(path.read_bytes())
    data[place % len(data)] = value
    path.write_bytes(data)
    try:
        read_mask(path, size=(30, 40), snap=snap)
    except MaskError as error:
        assert "\n" not in str(error)


@FEW
@given(st.integers(1, 9), st.integers(1, 9), st.data())
def test_write_then_read_gives_the_same(tmp_path: Path, height: int, width: int, data: st.DataObject) -> None:
    size = height * width
    values = data.draw(st.lists(st.integers(0, 254), min_size=size, max_size=size))
    labels = np.array(values).reshape(height, width)
    write_mask(tmp_path / "m.png", labels)
    mask = read_mask(tmp_path / "m.png", size=(height, width))
    np.testing.assert_array_equal(mask.labels, labels)
    assert set(mask.ids) == set(values) - {0}


def test_writing_is_atomic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.png"
    write_mask(path, discs())
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", fail)
        with pytest.raises(StorageFullError, match="No space left"):
            write_mask(path, discs() * 2)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m.png"]
    for bad in (np.zeros((2, 2)), np.full((2, 2), 256), np.full((2, 2), -1), np.zeros(3, dtype=np.uint8)):
        with pytest.raises(ValueError, match="labels must be"):
            write_mask(path, bad)


def test_inputs_for_a_video(tmp_path: Path) -> None:
    folder = tmp_path / "masks"
    assert write_masks(folder, [("00002", discs()), ("10", discs()), ("0", discs() * 0)]) == 3
    (folder / ".hidden.png").write_bytes(b"x")
    (folder / "notes.txt").write_text("x")
    inputs = read_mask_inputs(folder, num_frames=11, names=None, size=(120, 160))
    assert [frame for frame, _ in inputs] == [0, 2, 10]
    assert [mask.ids for _, mask in inputs] == [(), (1, 2), (1, 2)]
    single = read_mask_inputs(folder / "10.png", num_frames=3, names=None, size=None)
    assert [frame for frame, _ in single] == [0]
    with pytest.raises(MaskError, match=r"10\.png: frame 10 is out of range, the video has frames 0\.\.9"):
        read_mask_inputs(folder, num_frames=10, names=None, size=None)
    write_mask(folder / f"{'9' * 40}.png", discs())
    with pytest.raises(MaskError, match="out of range"):
        read_mask_inputs(folder, num_frames=11, names=None, size=None)
    (folder / f"{'9' * 40}.png").unlink()
    write_mask(folder / "2.png", discs())
    with pytest.raises(MaskError, match="frame 2 has a second mask"):
        read_mask_inputs(folder, num_frames=11, names=None, size=None)
    (folder / "2.png").rename(folder / "first.png")
    with pytest.raises(MaskError, match=r"first\.png: the name is not a frame number"):
        read_mask_inputs(folder, num_frames=11, names=None, size=None)


def test_inputs_for_an_image_folder(tmp_path: Path) -> None:
    folder = tmp_path / "masks"
    write_masks(folder, [("b", discs())])
    names = ["a", "b", "c"]
    assert [f for f, _ in iter_mask_inputs(folder, num_frames=3, names=names, size=None)] == [1]
    write_masks(folder, [("x", discs())])
    with pytest.raises(MaskError, match=r"no frame named 'x' \(the frames are a\.\.c\)"):
        read_mask_inputs(folder, num_frames=3, names=names, size=None)


def test_inputs_without_masks_or_objects(tmp_path: Path) -> None:
    with pytest.raises(MaskError, match="no PNG files"):
        read_mask_inputs(tmp_path, num_frames=3, names=None, size=None)
    write_mask(tmp_path / "0.png", discs() * 0)
    with pytest.raises(MaskError, match="shows no object"):
        read_mask_inputs(tmp_path, num_frames=3, names=None, size=None)
    with pytest.raises(MaskError, match="no such file"):
        read_mask_inputs(tmp_path / "none", num_frames=3, names=None, size=None)


def test_a_colour_keeps_its_object_over_files(tmp_path: Path) -> None:
    red = np.zeros((40, 40, 3), dtype=np.uint8)
    red[:20] = (255, 0, 0)
    green = red[..., [1, 0, 2]].copy()
    both = red + green[::-1]
    for name, image in (("0", red), ("1", green), ("2", both)):
        save(tmp_path / f"{name}.png", image)
    inputs = read_mask_inputs(tmp_path, num_frames=3, names=None, size=None, snap=True)
    assert [mask.ids for _, mask in inputs] == [(1,), (2,), (1, 2)]
    assert inputs[2][1].labels[0, 0] == 1
    dark = red // 2 + red % 2  # (128, 0, 0) is object 1 by the DAVIS palette, but pure red has taken it
    save(tmp_path / "3.png", dark)
    with pytest.raises(MaskError, match="#800000 is object 1"):
        read_mask_inputs(tmp_path, num_frames=4, names=None, size=None, snap=True)


def test_module_lists_its_names() -> None:
    assert all(hasattr(masks, name) for name in masks.__all__)
