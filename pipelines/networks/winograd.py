"""Fast 3 x 3 convolution for CPUs without their own: Winograd's minimal filtering (Lavin & Gray, CVPR 2016).

A tile of t x t outputs is computed from (t + 2) x (t + 2) inputs as one product per transformed position instead of
nine per output: a fourth (t = 4) or a fifth (t = 6) of the multiplications. The products are matrix multiplications
over channels, which PyTorch does at the full speed of the machine; the transforms before and after are compiled
loops. Results differ from the direct convolution's by about 1e-5 (t = 4) and 5e-5 (t = 6) of their scale.

Transformed weights take 4 (t = 4) or 7 (t = 6) times the memory of the weights, and are made at first use.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor, nn

WORK_BYTES = 48 * 2**20  # transformed tiles are held for so many rows of tiles at once
MIN_CHANNELS = 128  # with fewer, moving the tiles costs more than the multiplications saved
LARGE = 300_000  # from so many weights per filter position on, tiles are small: the weights' own size then counts
BLOCK = 64  # channels come in multiples of this
FAST = "fast"  # name of the attribute that `attach` gives a convolution

# rows: transformed positions; columns: the three taps. The scale of a row is undone by the loops' own matrices.
_FILTER4 = ((2, 0, 0), (-2 / 3, -2 / 3, -2 / 3), (2 / 3, -2 / 3, 2 / 3), (2 / 15, 4 / 15, 8 / 15),
            (-32 / 15, 16 / 15, -8 / 15), (0, 0, 2))  # fmt: skip
_FILTER6 = ((-4, 0, 0), (-8 / 9, -8 / 9, -8 / 9), (-8 / 9, 8 / 9, -8 / 9), (4 / 45, 8 / 45, 16 / 45),
            (4 / 45, -8 / 45, 16 / 45), (128 / 45, 64 / 45, 32 / 45), (128 / 45, -64 / 45, 32 / 45),
            (0, 0, 4))  # fmt: skip
log = logging.getLogger("mivos")
_state = threading.local()
_lock = threading.Lock()  # not every threading layer of the compiled loops takes two callers at once


@lru_cache(maxsize=1)
def available() -> bool:
    """Whether the loops can be compiled here: the compiler is installed and has a folder to keep its work in."""
    try:
        from pipelines.networks import winograd_kernels  # noqa: F401
    except ImportError:
        return False
    except RuntimeError as error:  # neither the package's folder nor the user's cache is writable
        log.warning("fast convolutions are off: %s; set NUMBA_CACHE_DIR to a writable folder", error)
        return False
    return True


def _kernels() -> Any:
    import numba

    from pipelines.networks import winograd_kernels

    limit: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    numba.set_num_threads(max(1, min(torch.get_num_threads(), limit)))  # holds for the calling thread
    return winograd_kernels


def suits(module: nn.Conv2d) -> bool:
    """Whether a convolution gains from it: 3 x 3, stride 1, and enough channels in and out."""
    channels = (module.in_channels, module.out_channels)
    shape = (module.kernel_size, module.stride, module.dilation, module.padding, module.groups)
    return (
        shape == ((3, 3), (1, 1), (1, 1), (1, 1), 1)
        and min(channels) >= MIN_CHANNELS
        and all(count % BLOCK == 0 for count in channels)
    )


def attach(network: nn.Module) -> nn.Module:
    """Prepares every convolution of a network that gains from it; `network` itself. It changes only under `enabled`.

    Their weights must not change afterwards.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and suits(module) and FAST not in module.__dict__:
            module.__dict__[FAST] = Winograd(module.weight)
    return network


@contextmanager
def enabled() -> Iterator[None]:
    """Convolutions that `attach` prepared go the fast way inside the block, in this thread."""
    before = getattr(_state, "on", False)
    _state.on = True
    try:
        yield
    finally:
        _state.on = before


def applies(x: Tensor) -> bool:
    """Whether the fast way is taken for an input: enabled, float32 on the CPU, and no gradient or graph is wanted."""
    return (
        getattr(_state, "on", False)
        and x.dtype == torch.float32
        and x.device.type == "cpu"
        and not torch.is_grad_enabled()
        and not torch.jit.is_tracing()
    )


class Winograd:
    """One convolution with its weights in transformed form, which is made at the first call."""

    def __init__(self, weight: Tensor) -> None:
        """
        Args:
            weight: [C', C, 3, 3] float32 on the CPU.
        """
        outputs, inputs = weight.shape[:2]
        self.tile = 4 if outputs * inputs >= LARGE else 6
        self.original = weight.detach()

    @cached_property
    def weight(self) -> Tensor:
        """[(tile + 2)^2, C, C'] float32."""
        outputs, inputs = self.original.shape[:2]
        taps = torch.tensor(_FILTER4 if self.tile == 4 else _FILTER6, dtype=torch.float64)
        result = torch.empty(len(taps) ** 2, inputs, outputs)
        for first in range(0, outputs, BLOCK):  # the double-precision form of a whole large filter takes 1 GB
            part = self.original[first : first + BLOCK].double()
            result[:, :, first : first + BLOCK] = torch.einsum("ai,bj,ocij->abco", taps, taps, part).flatten(0, 1)
        return result

    def __call__(
        self, x: Tensor, bias: Tensor | None, inputs: slice | None = None, relu: bool = False, add: Tensor | None = None
    ) -> Tensor:
        """The convolution of `x`.

        Args:
            x: [B, C, h, w] float32; bias: [C'] or None; inputs: the input channels that `x` holds, all if None;
            relu: clips `x` below at zero first; add: [B, C', h, w] added to the result.

        Returns:
            [B, C', h, w] in channels-last layout.
        """
        kernels, tile = _kernels(), self.tile
        enter, leave = (kernels.enter4, kernels.leave4) if tile == 4 else (kernels.enter6, kernels.leave6)
        weight = self.weight if inputs is None else self.weight[:, inputs]
        images, channels, height, width = x.shape
        outputs = weight.shape[2]
        out = x.new_empty(images, height, width, outputs)
        source = x.permute(0, 2, 3, 1).contiguous().numpy()
        shift = (x.new_zeros(outputs) if bias is None else bias.detach()).numpy()
        added = (x.new_empty(0, 1, 1, outputs) if add is None else add.permute(0, 2, 3, 1).contiguous()).numpy()
        if not images:
            return out.permute(0, 3, 1, 2)
        down, across = -(-height // tile), -(-width // tile)
        per_row = 4 * (tile + 2) ** 2 * images * across * max(channels, outputs)
        step = max(1, min(down, WORK_BYTES // per_row))
        for top in range(0, down, step):
            rows = min(step, down - top)
            tiles = x.new_empty((tile + 2) ** 2, images * rows * across, channels)
            with _lock:
                enter(source, tiles.numpy(), top, rows, relu)
            products = torch.bmm(tiles, weight)
            with _lock:
                leave(products.numpy(), shift, added, out.numpy(), top, rows)
        return out.permute(0, 3, 1, 2)
