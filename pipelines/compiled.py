"""Networks compiled by OpenVINO for fixed shapes, cached on disk, and used only if they give what PyTorch gives.

A compiled graph is compared with PyTorch on random input (`TOLERANCE`) once; the verdict is kept beside the graph in
the user's cache directory, so later starts only load files.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
import os
import threading
import warnings
from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import version
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
    """Whether this CPU has instructions for bfloat16; without them it is emulated, many times slower than float32."""
    found = torch.cpu.get_capabilities()
    return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16", "avx10_2", "bf16", "sve_bf16"))


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

        name = identity + precision + _source() + openvino.__version__ + torch.__version__ + version("timm")
        stem = hashlib.sha256(name.encode()).hexdigest()[:24]
        graph, verdict = cache_dir() / f"{stem}.xml", cache_dir() / f"{stem}.json"
        generator = torch.Generator().manual_seed(0)
        examples = tuple(torch.rand(t.shape, generator=generator) for t in tensors)
        if not (graph.is_file() and graph.with_suffix(".bin").is_file() and verdict.is_file()):
            self._inputs = _convert(part, examples, graph)
            self._load(graph, precision)
            error = _largest_difference(self(examples), part(*examples))
            temporary = verdict.with_name(f"{stem}.{os.getpid()}.json")
            temporary.write_text(json.dumps({"largest_difference": error, "inputs": self._inputs}))
            os.replace(temporary, verdict)
        else:
            kept = json.loads(verdict.read_text())
            self._inputs, error = kept["inputs"], kept["largest_difference"]
            if error <= TOLERANCE[precision]:
                self._load(graph, precision)
        if not error <= TOLERANCE[precision]:
            raise RuntimeError(f"its result differs from PyTorch's by {error:.2g}")

    def _load(self, graph: Path, precision: str) -> None:
        options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": HINTS[precision]}
        model = _core().compile_model(graph, "CPU", options)
        if len(model.inputs) != len(self._inputs):
            raise RuntimeError(f"the compiled graph takes {len(model.inputs)} of {len(self._inputs)} inputs")
        self._request = model.create_infer_request()
        self._lock = threading.Lock()  # a request serves one caller at a time

    def __call__(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        arrays = [tensors[i].detach().contiguous().numpy() for i in self._inputs]
        with self._lock:
            self._request.infer(arrays, share_inputs=True)
            outputs = [torch.from_numpy(port.data.copy()) for port in self._request.output_tensors]
        return tuple(out.permute(0, 3, 1, 2) for out in outputs)


def _convert(part: nn.Module, examples: tuple[Tensor, ...], graph: Path) -> list[int]:
    """Writes the graph and returns which inputs it takes: the converter may drop those that no output depends on."""
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
    return used if len(model.inputs) == len(used) else list(range(len(examples)))


@lru_cache(maxsize=1)
def _source() -> str:
    """The code of the networks and of this module: a graph compiled from other code is another graph."""
    files = sorted((Path(__file__).parent / "networks").glob("*.py"))
    return "".join(file.read_text(encoding="utf-8") for file in [*files, Path(__file__)])


def _largest_difference(got: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    worst = [float((a - b).abs().max() / (b.std() + 1e-6)) for a, b in zip(got, wanted, strict=True)]
    return max(worst) if all(math.isfinite(value) for value in worst) else math.inf
