"""Dense correspondences: where every position of a target image comes from in a source image.

A propagation network's memory key of the source, with no object on it, is compared with the target's query key
(Mask-Propagation's demonstration). Any map on the source grid can then be carried to the target. The authors' networks
have one position for 16 x 16 pixels of the padded image; the grid of others can be a little coarser.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.engine import Networks
from pipelines.networks.protocol import PropagationNetwork, Query
from pipelines.networks.reading import BLOCK_BYTES, MemoryRules, affinity, read_top_k
from pipelines.stages.tensors import Padding, image_tensor, mask_tensor
from stores.errors import InputError, UsageError

DETAIL = 4  # of masks: measured on real sequences, 1 rounds them to the grid and 16 shows the grid's seams


@dataclass(frozen=True, eq=False)
class Correspondence:
    """Similarity of two images of one size.

    Attributes:
        source, target: float [H * W, Ck] keys, rows of the grid one after another.
        grid: (H, W); size: (height, width) of the images in pixels; rules: of the network's memory.
    """

    source: Tensor
    target: Tensor
    grid: tuple[int, int]
    size: tuple[int, int]
    rules: MemoryRules

    @property
    def padded(self) -> tuple[int, int]:
        """(height, width) of the padded image, which the grid covers."""
        padding = Padding.of(*self.size)
        return self.size[0] + padding.top + padding.bottom, self.size[1] + padding.left + padding.right

    @property
    def cell(self) -> tuple[float, float]:
        """(height, width) of a grid position in pixels."""
        return self.padded[0] / self.grid[0], self.padded[1] / self.grid[1]

    def weights(self) -> np.ndarray:
        """float32 [H * W of the source, H * W of the target], every column sums to 1. Large: use `transfer`."""
        return torch.softmax(affinity(self.source, self.target, self.rules), dim=1).T.cpu().numpy()

    def transfer(self, values: np.ndarray, top_k: int | None = None) -> np.ndarray:
        """Carries maps from source to target, at most `BLOCK_BYTES` of weights at a time.

        Args:
            values: float [C, H, W] on the source grid.
            top_k: source positions that each target position reads, as in memory; None: all, as in the original.

        Returns:
            float32 [C, H, W] on the target grid.

        Raises:
            InputError: the maps are not on the grid.
        """
        if values.ndim != 3 or values.shape[1:] != self.grid:
            got = f"the maps to transfer have shape {list(values.shape)}"
            raise InputError(f"{got}, the grid is {list(self.grid)}", hint="give [channels, rows, columns]")
        rows = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).flatten(1).T.to(self.source.device)
        out = rows.new_empty(len(self.target), rows.shape[1])
        block = max(1, BLOCK_BYTES // (4 * len(self.source)))
        with torch.inference_mode():
            for at in range(0, len(self.target), block):
                similarity = affinity(self.source, self.target[at : at + block], self.rules)
                out[at : at + block] = read_top_k(similarity, rows, top_k)
        return out.T.reshape(-1, *self.grid).cpu().numpy()

    def transfer_masks(self, masks: np.ndarray, top_k: int | None = None) -> np.ndarray:
        """Carries soft or hard masks, in patches of `DETAIL` x `DETAIL` values for each position.

        A patch keeps where in its position an edge runs, so that a mask is not rounded to the grid.

        Args:
            masks: float [K, height, width], at the images' resolution; top_k: as in `transfer`.

        Returns:
            float32 [K, height, width].

        Raises:
            InputError: the masks have another size than the images.
        """
        if masks.ndim != 3 or masks.shape[1:] != self.size:
            got = f"the masks to transfer have shape {list(masks.shape)}"
            raise InputError(f"{got}, the images {list(self.size)}", hint="resize the masks")
        padding, fine = Padding.of(*self.size), (self.grid[0] * DETAIL, self.grid[1] * DETAIL)
        patches = F.pixel_unshuffle(F.interpolate(mask_tensor(masks, padding), size=fine, mode="area"), DETAIL)
        carried = torch.from_numpy(self.transfer(patches.flatten(0, 1).numpy(), top_k)).unflatten(0, (-1, DETAIL**2))
        maps = F.pixel_shuffle(carried, DETAIL).transpose(0, 1)
        maps = F.interpolate(maps, size=self.padded, mode="bilinear", align_corners=False)
        return np.ascontiguousarray(padding.remove(maps)[0].numpy())

    def mark(self, x: int, y: int, *, offset: bool = False) -> np.ndarray:
        """The cell at a pixel of the source image as a map: float32 [1, H, W], one 1.

        Args:
            offset: take the padding's offset into account, which is half a cell at most. The original does not.

        Raises:
            UsageError: the pixel is outside the image.
        """
        height, width = self.size
        if not (0 <= x < width and 0 <= y < height):
            hint = f"x is 0..{width - 1}, y is 0..{height - 1}"
            raise UsageError(f"the point ({x}, {y}) is outside the {width}x{height} source image", hint=hint)
        if offset:
            padding = Padding.of(*self.size)
            x, y = x + padding.left, y + padding.top
        cell = np.zeros((1, *self.grid), np.float32)
        cell[0, y * self.grid[0] // self.padded[0], x * self.grid[1] // self.padded[1]] = 1
        return cell

    def at_pixels(self, values: np.ndarray) -> np.ndarray:
        """Maps at the images' resolution: float [C, H, W] -> float32 [C, height, width], bilinear."""
        maps = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))[None]
        maps = F.interpolate(maps, size=self.padded, mode="bilinear", align_corners=False)
        return Padding.of(*self.size).remove(maps)[0].numpy()


def correspond(
    network: PropagationNetwork, rules: MemoryRules, source: np.ndarray, target: np.ndarray, device: str = "cpu"
) -> Correspondence:
    """Compares two images.

    Args:
        network: in eval mode and on `device`; STM is what this was made for. rules: similarity and scale of its keys,
            and whether they belong to frames; then they come from the image alone and no mask is encoded.
        source, target: uint8 [height, width, 3] RGB.

    Raises:
        InputError: the images differ in size.
    """
    if source.shape != target.shape:
        (height, width), (other_height, other_width) = source.shape[:2], target.shape[:2]
        raise InputError(
            f"the source image is {width}x{height}, the target image {other_width}x{other_height}",
            hint="resize one of them so that both have the same size",
        )
    size = (source.shape[0], source.shape[1])
    with torch.inference_mode():
        first, second = (image_tensor(image).to(device) for image in (source, target))
        own = network.encode_key(first)
        if rules.shared_keys:
            key = own.key
        else:
            nothing = torch.zeros_like(first[:, :1])
            key, _ = network.encode_memory(first, own, nothing, nothing)
        query = network.encode_key(second).key
        rows = [x[0].flatten(1).T.contiguous() for x in (key, query)]
    return Correspondence(rows[0], rows[1], (query.shape[-2], query.shape[-1]), size, rules)


class _Running:
    """Ready networks under the interface of a single one."""

    def __init__(self, networks: Networks) -> None:
        self.networks = networks

    def encode_key(self, image: Tensor) -> Query:
        return self.networks.encode_key(image)

    def encode_memory(self, image: Tensor, query: Query, masks: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        return self.networks.encode_memory(image, query, masks)  # a single mask: there are no others

    def decode(self, readout: Tensor, query: Query, previous: Tensor) -> Tensor:
        return self.networks.decode(readout, query, previous)


def correspond_with(networks: Networks, source: np.ndarray, target: np.ndarray) -> Correspondence:
    """`correspond` with the networks of a chosen model, engine and precision.

    Raises:
        InputError: the images differ in size. ModelError: the weights are missing.
    """
    return correspond(_Running(networks), networks.rules, source, target, str(networks.device))


def relative(values: np.ndarray) -> np.ndarray:
    """Divides maps by their largest value, for display."""
    return values / (values.max() + 1e-6)


def overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Shows a map in red over an image.

    Args:
        image: uint8 [height, width, 3] RGB; heat: float [height, width], full from 0.5 on.

    Returns:
        uint8 [height, width, 3].
    """
    strength = np.minimum(2 * heat, 1)[..., None]
    red = np.array([255.0, 0.0, 0.0])
    mixed = image * (1 - strength) * 0.7 + image * strength * 0.3 + red * strength * 0.7
    return mixed.clip(0, 255).astype(np.uint8)
