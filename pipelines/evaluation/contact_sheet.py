"""A picture of the frames with the lowest J: image, ground truth and prediction side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipelines.evaluation.eval_report import FrameScore, SequenceScores
from pipelines.evaluation.scoring import Pair, Reading
from stores.errors import DatasetError
from stores.files import atomic_file
from stores.mask_colours import tint

PANEL_WIDTH = 400
LINE_HEIGHT = 18
GAP = 4
NEAR = 5  # frames of one sequence closer than this look alike; only the worst of them is shown
TITLES = ("image", "ground truth", "prediction")

Scored = Mapping[str, tuple[Sequence[Pair], Reading, SequenceScores]]


def worst_frames(sequences: Iterable[SequenceScores], count: int) -> list[FrameScore]:
    """The `count` frames of lowest J, lowest first; none nearer than `NEAR` scored frames to another of its sequence.

    Frames without any error (J = 100) are left out.
    """
    numbered = [(frame, index) for scores in sequences for index, frame in enumerate(scores.frames) if frame.j < 100]
    chosen: list[tuple[FrameScore, int]] = []
    for frame, index in sorted(numbered, key=lambda item: item[0].j):
        if len(chosen) == count:
            break
        if all(other.sequence != frame.sequence or abs(at - index) >= NEAR for other, at in chosen):
            chosen.append((frame, index))
    return [frame for frame, _ in chosen]


def write_worst(path: Path, scored: Scored, count: int) -> dict[str, str]:
    """Writes the picture of the worst frames as PNG.

    Args:
        scored: sequence -> its frames, how their masks are read, and their scores.

    Returns:
        {"worst.png": path}, or nothing where no frame has an error; an older picture is then removed.

    Raises:
        DatasetError: an image cannot be read. StorageFullError: the picture cannot be written.
    """
    frames = worst_frames([scores for _, _, scores in scored.values()], count)
    if not frames:
        path.unlink(missing_ok=True)
        return {}
    strips = []
    for frame in frames:
        pairs, reading, _ = scored[frame.sequence]
        pair = next(pair for pair in pairs if pair.stem == frame.frame)
        strips.append(_strip(f"{frame.sequence}, frame {frame.frame}: J {frame.j:.1f}", pair, reading))
    width = len(TITLES) * (PANEL_WIDTH + GAP) + GAP
    sheet = Image.new("RGB", (width, sum(strip.height for strip in strips) + LINE_HEIGHT), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default()
    for column, title in enumerate(TITLES):
        draw.text((GAP + column * (PANEL_WIDTH + GAP), 3), title, fill="black", font=font)
    top = LINE_HEIGHT
    for strip in strips:
        sheet.paste(strip, (0, top))
        top += strip.height
    with atomic_file(path) as file:
        sheet.save(file, format="PNG")
    return {path.name: str(path)}


def _strip(title: str, pair: Pair, reading: Reading) -> Image.Image:
    """A line of text above the three panels of one frame."""
    truth = reading.truth(pair)
    predicted = reading.predicted(pair, truth.shape)  # type: ignore[arg-type]
    height, width = truth.shape
    image = np.zeros((height, width, 3), np.uint8) if pair.image is None else _read(pair.image, (width, height))
    panel = (PANEL_WIDTH, max(1, round(height * PANEL_WIDTH / width)))
    strip = Image.new("RGB", (len(TITLES) * (PANEL_WIDTH + GAP) + GAP, panel[1] + LINE_HEIGHT + GAP), "white")
    ImageDraw.Draw(strip).text((GAP, 3), title, fill="black", font=ImageFont.load_default())
    for column, pixels in enumerate((image, tint(image, truth, 2), tint(image, predicted, 2))):
        shown = Image.fromarray(pixels).resize(panel, Image.Resampling.BILINEAR)
        strip.paste(shown, (GAP + column * (PANEL_WIDTH + GAP), LINE_HEIGHT))
    return strip


def _read(path: Path, size: tuple[int, int]) -> np.ndarray:
    """uint8 [H, W, 3] RGB at `size` = (width, height)."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB").resize(size, Image.Resampling.BILINEAR))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DatasetError(f"{path}: is no readable image") from error
