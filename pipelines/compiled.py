"""Networks compiled by OpenVINO for fixed shapes, cached on disk, and used only if they give what PyTorch gives.

A compiled graph is compared with PyTorch on random input (`TOLERANCE`) once; the verdict is kept beside the graph in
the user's cache directory, so later starts only load files.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import json
import os
import sys
import warnings
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import platformdirs
import torch
from torch import Tensor, nn

# largest difference of any output, in units of that output's standard deviation
TOLERANCE = {"float32": 2e-3, "bfloat16": 0.3}
HINTS = {"float32": "f32", "bfloat16": "bf16"}


@lru_cache(maxsize=1)
def available() -> bool:
    """Whether OpenVINO is installed."""
    return importlib.util.find_spec("openvino") is not None


@lru_cache(maxsize=1)
def has_bfloat16() -> bool:
    """Whether OpenVINO is there and this CPU computes in bfloat16 by itself."""
    return available() and "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@lru_cache(maxsize=1)
def _core() -> Any:
    os.environ.setdefault("OPENVINO_TELEMETRY_OPT_OUT", "1")
    import openvino

    core = openvino.Core()
    core.set_property({"CACHE_DIR": str(cache_dir())})
    return core


def cache_dir() -> Path:
    """Where compiled graphs are kept; made if missing."""
    path = Path(platformdirs.user_cache_dir("mivos")) / "compiled"
    path.mkdir(parents=True, exist_ok=True)
    return path


class _ChannelsLast(nn.Module):
    """A part with 4-D outputs as [N, H, W, C]: the compiled graph then writes the layout that PyTorch goes on in."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(out.permute(0, 2, 3, 1).contiguous() for out in self.part(*tensors))


class Call:
    """One method of a network, compiled for one set of shapes."""

    def __init__(self, part: nn.Module, tensors: Sequence[Tensor], identity: str, precision: str = "float32") -> None:
        """
        Args:
            part: flat tensors in and out, all outputs 4-D; tensors: for their shapes;
            identity: names weights, method and shapes.

        Raises:
            RuntimeError: the compiled graph differs too much from PyTorch. Others: OpenVINO cannot convert it.
        """
        import openvino

        name = identity + precision + _source(part) + openvino.__version__ + torch.__version__
        stem = hashlib.sha256(name.encode()).hexdigest()[:24]
        graph, verdict = cache_dir() / f"{stem}.xml", cache_dir() / f"{stem}.json"
        generator = torch.Generator().manual_seed(0)
        examples = tuple(torch.rand(t.shape, generator=generator) for t in tensors)
        if not (graph.is_file() and graph.with_suffix(".bin").is_file() and verdict.is_file()):
            self._inputs = _convert(part, examples, graph)
            self._load(graph, precision)
            error = _largest_difference(self(examples), part(*examples))
            if error > TOLERANCE[precision]:
                raise RuntimeError(f"its result differs from PyTorch's by {error:.2g}")
            verdict.write_text(json.dumps({"largest_difference": error, "inputs": self._inputs}))
        else:
            self._inputs = json.loads(verdict.read_text())["inputs"]
            self._load(graph, precision)

    def _load(self, graph: Path, precision: str) -> None:
        options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": HINTS[precision]}
        model = _core().compile_model(graph, "CPU", options)
        if len(model.inputs) != len(self._inputs):
            raise RuntimeError(f"the compiled graph takes {len(model.inputs)} of {len(self._inputs)} inputs")
        self._request = model.create_infer_request()

    def __call__(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        arrays = [tensors[i].detach().contiguous().numpy() for i in self._inputs]
        self._request.infer(arrays, share_inputs=True)
        outputs = (torch.from_numpy(port.data.copy()) for port in self._request.output_tensors)
        return tuple(out.permute(0, 3, 1, 2) for out in outputs)


def _convert(part: nn.Module, examples: tuple[Tensor, ...], graph: Path) -> list[int]:
    """Writes the graph and returns which inputs it takes: those that the outputs do not depend on are no part of it."""
    import openvino

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing is deprecated, but it is what the converter understands
        traced = torch.jit.trace(_ChannelsLast(part).eval(), examples, check_trace=False)
    used = [i for i, value in enumerate(list(traced.graph.inputs())[1:]) if value.uses()]
    model = openvino.convert_model(traced, example_input=examples, input=[list(t.shape) for t in examples])
    temporary = graph.with_name(f"{graph.stem}.{os.getpid()}.xml")
    openvino.save_model(model, temporary, compress_to_fp16=False)
    os.replace(temporary.with_suffix(".bin"), graph.with_suffix(".bin"))
    os.replace(temporary, graph)
    return used


def _source(network: nn.Module) -> str:
    """The code of a network and of this module: a graph compiled from other code is another graph."""
    modules = {type(module).__module__ for module in network.modules()}
    own = sorted(name for name in modules if name.startswith("pipelines."))
    return "".join(inspect.getsource(sys.modules[name]) for name in [*own, __name__])


def _largest_difference(got: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    worst = 0.0
    for a, b in zip(got, wanted, strict=True):
        worst = max(worst, float((a - b).abs().max() / (b.std() + 1e-6)))
    return worst
