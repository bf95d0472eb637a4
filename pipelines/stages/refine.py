"""Clicks: disks for the interaction network, and refinement until all of them hold.

Refinement is f-BRS (Sofiiuk et al., CVPR 2020): the channels of a late feature map are scaled and shifted so that the
network says at every click what the person said. Only what follows that map is computed again, and only in a window
around each click; the whole mask is computed once, at the end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from pipelines.engine import Networks
from pipelines.networks.protocol import StrokeNetwork
from stores.errors import UsageError

RADIUS, MIN_RADIUS = 0.0104, 4  # of a click's disk: share of the shorter side, and pixels
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class RefineRules:
    """How clicks are refined.

    Attributes:
        first: clicks from which on it is done; evaluations: of the loss, at the most.
        certainty: probability at which a click holds well enough.
        pull: weight of the squared distance from scale 1 and shift 0, beside squared logits that clicks lack.
    """

    first: int = 2
    evaluations: int = 20
    certainty: float = 0.8
    pull: float = 1e-2


def click_plane(points: Points, height: int, width: int) -> np.ndarray:
    """Disks around clicks, as `Networks.segment_strokes` takes them.

    Args:
        points: (x, y) in pixels; height, width: of the padded frame.

    Returns:
        uint8 0/1 [height, width].

    Raises:
        UsageError: a point lies outside.
    """
    plane = np.zeros((height, width), np.uint8)
    radius = max(MIN_RADIUS, round(RADIUS * min(height, width)))
    for x, y in _pixels(points, height, width):
        cv2.circle(plane, (x, y), radius, 1, -1)
    return plane


def _pixels(points: Points, height: int, width: int) -> list[tuple[int, int]]:
    pixels = []
    for x, y in points:
        if not (0 <= x < width and 0 <= y < height):  # not a number fails, too
            raise UsageError(
                f"the click at ({x:g}, {y:g}) lies outside of the frame of {width}x{height}",
                hint="give x and y in pixels from the top left corner",
            )
        pixels.append((int(x), int(y)))
    return pixels


@dataclass(frozen=True)
class Clicks:
    """Clicks of one object.

    Attributes:
        xs, ys: long [N] pixels; signs: float [N], 1 where positive, -1 where negative.
    """

    xs: Tensor
    ys: Tensor
    signs: Tensor

    @classmethod
    def of(cls, positive: Points, negative: Points, size: tuple[int, int]) -> Clicks:
        pixels = torch.tensor(_pixels([*positive, *negative], *size), dtype=torch.long).reshape(-1, 2)
        return cls(pixels[:, 0], pixels[:, 1], torch.tensor([1.0] * len(positive) + [-1.0] * len(negative)))

    def support(self, prob: Tensor) -> Tensor:
        """[1, 1, h, w] -> probability [N] of what each click says."""
        at = prob[0, 0].cpu()[self.ys, self.xs]
        return torch.where(self.signs > 0, at, 1 - at)

    def broken(self, prob: Tensor) -> int:
        """How many clicks a mask contradicts."""
        at = prob[0, 0].cpu()[self.ys, self.xs]
        return int(((at > 0.5) != (self.signs > 0)).sum())


@torch.inference_mode(mode=False)  # tensors made in it, network weights included, take part in no gradient
def refine_clicks(
    networks: Networks, planes: Tensor, positive: Points, negative: Points, rules: RefineRules = RefineRules()
) -> Tensor:  # fmt: skip
    """A mask on which clicks hold where the network can be brought to it.

    Args:
        planes: float32 [1, 6, h, w] with the clicks in them, as for `Networks.segment_strokes`;
        positive, negative: (x, y) in pixels at the size of `planes`.

    Returns:
        Probabilities [1, 1, h, w], which contradict no more clicks than the network's own. Those themselves where
        clicks are few or all hold already.

    Raises:
        UsageError: a point lies outside.
    """
    size = (int(planes.shape[-2]), int(planes.shape[-1]))
    clicks = Clicks.of(positive, negative, size)
    plain = networks.segment_strokes(planes)
    if len(clicks.signs) < rules.first or bool((clicks.support(plain) >= rules.certainty).all()):
        return plain
    runner = networks.runner("s2m")
    features = runner.run("features", planes)
    with torch.enable_grad():
        windows = Windows.around(runner.network, features, clicks, size)  # type: ignore[arg-type]
        scale, shift = _search(windows, rules)
    (logits,) = runner.run("head", features[0] * scale + shift, *features[1:])
    refined = torch.sigmoid(runner.network.enlarge(logits, size))  # type: ignore[operator]
    return refined if clicks.broken(refined) <= clicks.broken(plain) else plain


@dataclass(frozen=True)
class Windows:
    """The features around each click and what the head makes of them there: exactly the logit at the click.

    Attributes:
        features: maps [N, C_i, h_i, w_i], one window per click;
        weights: [N, h', w'], what the head's logits count in the logit at the click's pixel; signs: [N].
    """

    network: StrokeNetwork
    features: tuple[Tensor, ...]
    weights: Tensor
    signs: Tensor

    @classmethod
    def around(
        cls, network: StrokeNetwork, features: Sequence[Tensor], clicks: Clicks, size: tuple[int, int]
    ) -> Windows:  # fmt: skip
        cells = tuple(features[0].shape[-2:])
        finer = max(f.shape[-2] for f in features) // cells[0]  # logits are as fine as the finest map
        spans = [min(2 * network.reach + 1, count) for count in cells]
        shares = [_pixel_weights(network, finer * count, side) for count, side in zip(cells, size, strict=True)]
        cut: list[list[Tensor]] = [[] for _ in features]
        weights = []
        for pixel in zip(clicks.ys.tolist(), clicks.xs.tolist(), strict=True):
            # the click's cell in the middle, but for the edge of the image, which must stay an edge
            starts = [
                min(max(int((at + 0.5) / side * count) - span // 2, 0), count - span)
                for at, side, count, span in zip(pixel, size, cells, spans, strict=True)
            ]
            for windows, f in zip(cut, features, strict=True):
                windows.append(f[0][:, *_region(starts, spans, f.shape[-2] // cells[0])])
            row, column = (
                share[at][place] for share, at, place in zip(shares, pixel, _region(starts, spans, finer), strict=True)
            )
            weights.append(row[:, None] * column)
        device = features[0].device
        stacked = tuple(torch.stack(windows) for windows in cut)
        return cls(network, stacked, torch.stack(weights).to(device), clicks.signs.to(device))

    def support(self, scale: Tensor, shift: Tensor) -> Tensor:
        """Logits [N] for what the clicks say, with channels scaled and shifted by [C, 1, 1]."""
        logits = self.network.head(self.features[0] * scale + shift, *self.features[1:])
        return (logits[:, 0] * self.weights).sum(dim=(1, 2)) * self.signs


def _pixel_weights(network: StrokeNetwork, cells: int, pixels: int) -> Tensor:
    """[pixels, cells]: how the cells of a row of logits make up its pixels."""
    return network.enlarge(torch.eye(cells)[:, None, :, None], (pixels, 1))[:, 0, :, 0].T


def _region(starts: Sequence[int], spans: Sequence[int], finer: int) -> tuple[slice, ...]:
    """Rows and columns of a window in a map so many times as fine."""
    return tuple(slice(start * finer, (start + span) * finer) for start, span in zip(starts, spans, strict=True))


def _search(windows: Windows, rules: RefineRules) -> tuple[Tensor, Tensor]:
    """Scale and shift [C, 1, 1] under which clicks hold."""
    channels = windows.features[0].shape[1]
    margin = float(np.log(rules.certainty / (1 - rules.certainty)))

    def objective(values: Tensor) -> tuple[Tensor, Tensor, bool]:
        free = values.clone().requires_grad_()
        change = free.view(2, channels, 1, 1)
        support = windows.support(1 + change[0], change[1])
        loss = _loss(support, windows.signs, margin) + rules.pull * free.square().sum()
        (slope,) = torch.autograd.grad(loss, free)
        return loss.detach(), slope, bool((support >= margin).all())

    start = torch.zeros(2 * channels, device=windows.signs.device)
    change = minimise(objective, start, rules.evaluations).view(2, channels, 1, 1)
    return 1 + change[0], change[1]


def _loss(support: Tensor, signs: Tensor, margin: float) -> Tensor:
    """What clicks lack: squared, mean of the positive ones plus mean of the negative ones."""
    lack = (margin - support).clamp(min=0).square()
    return sum((lack[side].mean() for side in (signs > 0, signs < 0) if side.any()), lack.new_zeros(()))


def minimise(
    objective: Callable[[Tensor], tuple[Tensor, Tensor, bool]], start: Tensor, evaluations: int, memory: int = 20
) -> Tensor:  # fmt: skip
    """L-BFGS with backtracking (Nocedal & Wright, algorithms 7.4 and 3.1).

    Args:
        objective: [n] to its value, its gradient [n], and whether that is good enough to stop.
        evaluations: of the objective, at the most; memory: steps remembered.

    Returns:
        [n]: the first place that is good enough, else the lowest one.
    """
    place, pairs = start, deque[tuple[Tensor, Tensor]](maxlen=memory)
    value, slope, done = objective(place)
    left = evaluations - 1
    while left > 0 and not done:
        direction = -_inverse_times(pairs, slope)
        fall = float(slope @ direction)
        if not fall < 0:
            break
        length = 1.0 if pairs else min(1.0, 1 / float(slope.abs().sum()))
        while left > 0:
            there = place + length * direction
            new_value, new_slope, done = objective(there)
            left -= 1
            if done or new_value <= value + 1e-4 * length * fall:
                break
            # the lowest point of the parabola through what is known, but neither too near nor too far
            bend = float(new_value - value) - length * fall
            length *= min(max(-0.5 * length * fall / bend, 0.1), 0.5)
        else:
            break
        if not done and not new_value <= value:
            break
        step, change = there - place, new_slope - slope
        if float(step @ change) > 1e-10:
            pairs.append((step, change))
        place, value, slope = there, new_value, new_slope
    return place


def _inverse_times(pairs: Sequence[tuple[Tensor, Tensor]], slope: Tensor) -> Tensor:
    """The approximate inverse of the Hessian times a gradient, from the latest (step, change of gradient)."""
    result, shares = slope.clone(), []
    for step, change in reversed(pairs):
        share = (step @ result) / (step @ change)
        result -= share * change
        shares.append(share)
    if pairs:
        step, change = pairs[-1]
        result *= (step @ change) / (change @ change)
    for (step, change), share in zip(pairs, reversed(shares), strict=True):
        result += step * (share - (change @ result) / (step @ change))
    return result
