"""Interaction to mask: strokes, or a given mask, to a soft mask of one frame."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch

from pipelines.engine import Networks
from pipelines.networks.aggregate import aggregate_wbg
from pipelines.stages.refine import Points, refine_clicks
from pipelines.stages.tensors import Padding, image_tensor
from stores.scribbles import Stroke, rasterise

Clicks = tuple[Points, Points]


def interact_strokes(
    networks: Networks, image: np.ndarray, strokes: Sequence[Stroke], previous: np.ndarray | None, num_objects: int, *,
    padded_raster: bool = False,
) -> np.ndarray:  # fmt: skip
    """Masks of all objects on a frame after strokes were drawn on it (MiVOS, section 3.1).

    For each object its own strokes are positive and all others, background included, negative; drawn one pixel wide
    and dilated 3 x 3 as the DAVIS evaluation does. With a careful model an object that was neither drawn here nor
    present before stays empty: without a stroke the network could only guess.

    Args:
        image: uint8 [H, W, 3] RGB;
        previous: uint8 labels shown to the person when drawing, [H, W] or with the border [h, w], or None;
        padded_raster: draw strokes on the padded canvas, as the authors' DAVIS evaluation does: up to 5 pixels off at
            the left and right edges of 480p frames, and needed for their published scores.

    Returns:
        float32 [K + 1, h, w] at the padded size, background first, nearly one-hot.
    """
    padding = Padding.of(*image.shape[:2])
    frame = image_tensor(image)
    size = tuple(frame.shape[-2:])
    raster = rasterise(strokes, *(size if padded_raster else image.shape[:2]))
    labels = np.zeros(size, np.uint8) if previous is None else previous
    kernel = np.ones((3, 3), np.uint8)
    probs = torch.zeros(num_objects, 1, *size)
    for k in range(1, num_objects + 1):
        positive = cv2.dilate((raster == k).astype(np.uint8), kernel)
        negative = cv2.dilate(((raster != k) & (raster != -1)).astype(np.uint8), kernel)
        planes = torch.cat([_plane(plane, size, padding) for plane in (labels == k, positive, negative)], dim=1)
        found = segment_object(networks, torch.cat([frame, planes], dim=1))
        if found is not None:
            probs[k - 1] = found
    return aggregate_wbg(probs, hard=True)[:, 0].numpy()


def segment_object(networks: Networks, planes: torch.Tensor, clicks: Clicks | None = None) -> torch.Tensor | None:
    """One object from strokes and its previous mask.

    Args:
        planes: float32 [1, 6, h, w]: normalised image, previous mask, positive and negative strokes.
        clicks: positive and negative points that must hold (f-BRS), (x, y) pixels; None: the plain result.

    Returns:
        float32 [1, h, w] on the CPU, probabilities; None where a careful model sees nothing to start from.
    """
    careful = networks.spec.careful
    if careful and not planes[:, 3:5].any():
        return None
    if clicks is None:
        prob = networks.segment_strokes(planes)[0].cpu()
    else:
        prob = refine_clicks(networks, planes, *clicks)[0].cpu()
    if careful:
        drop_far_parts(prob[0].numpy(), planes[0, 3:5].amax(0).numpy() > 0)
    return prob


def _plane(values: np.ndarray, size: tuple[int, ...], padding: Padding) -> torch.Tensor:
    """[H, W] or already [h, w] -> float32 [1, 1, h, w]."""
    plane = torch.from_numpy(values.astype(np.float32))[None, None]
    return plane if values.shape == size else padding.add(plane)


def drop_far_parts(prob: np.ndarray, marked: np.ndarray) -> None:
    """Clears, in place, connected parts of an object that lie far from everything that was marked.

    A small network also finds look-alikes elsewhere in the image. A part stays if it touches a stroke or the previous
    mask, or is closer to such parts than half of their size (the square root of their area), as when something thin
    passes in front of the object.

    Args:
        prob: float32 [h, w]; marked: bool [h, w], positive strokes and previous mask.
    """
    count, parts, stats, _ = cv2.connectedComponentsWithStats((prob > 0.5).astype(np.uint8), connectivity=8)
    touched = np.unique(parts[marked & (parts > 0)])
    if count <= 2 or not len(touched):
        return
    table = np.zeros(count, bool)
    table[touched] = True
    near = table[parts]
    limit = 0.5 * float(np.sqrt(stats[touched, cv2.CC_STAT_AREA].sum()))
    distance = cv2.distanceTransform((~near).astype(np.uint8), cv2.DIST_L2, 3)
    for part in range(1, count):
        inside = parts == part
        if not table[part] and distance[inside].min() > limit:
            prob[inside] = 0


def interact_mask(labels: np.ndarray, predicted: np.ndarray | None, known: int, num_objects: int) -> np.ndarray:
    """A soft mask from a given label map.

    A map that brings no new object is the whole truth of its frame. One that does is read as YouTube-VOS masks are:
    the objects in it are set, earlier objects that it leaves out keep their prediction outside its labels.

    Args:
        labels: uint8 [H, W]; predicted: float32 [K' + 1, H, W] the frame's present result, or None;
        known: objects that existed before; num_objects: objects now.

    Returns:
        float32 [K + 1, H, W], background first.
    """
    objects = np.stack([labels == k for k in range(1, num_objects + 1)]).astype(np.float32)
    given = set(np.unique(labels).tolist()) - {0}
    if predicted is not None and any(k > known for k in given):
        outside = labels == 0
        for k in range(1, min(known, len(predicted) - 1) + 1):
            if k not in given:
                objects[k - 1] = predicted[k] * outside
    return np.concatenate([np.clip(1 - objects.sum(0, keepdims=True), 0, 1), objects])
