"""Where networks run: eager PyTorch on any device, or OpenVINO on the CPU.

PyTorch is the reference. OpenVINO compiles the same module for a fixed shape; before it is used its outputs are
compared with PyTorch's on random input (`TOLERANCE`), and the verdict is kept beside the compiled model in the user's
cache directory, so later starts only load a file. Only methods for which it is the faster one are compiled: the
trunks, not the thin decoders.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import os
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import platformdirs
import torch
from torch import Tensor, nn

from pipelines.allocator import keep_freed_memory
from pipelines.networks import nano, registry
from pipelines.networks.memory import MemoryRules
from stores.errors import ModelError, UsageError

TOLERANCE = 2e-3  # largest difference of any output, in units of that output's standard deviation
ENGINES = ("auto", "torch", "openvino")
log = logging.getLogger("mivos")


def pick_device(device: str | None = None) -> torch.device:
    """The named device, or the best there is: cuda, then mps, then cpu.

    Raises:
        UsageError: not a device name. ModelError: a device that this machine lacks.
    """
    if device in (None, "auto"):
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(str(device))
    except RuntimeError as error:
        raise UsageError(f"unknown device {device!r}", hint="choose auto, cpu, cuda or mps") from error
    lacking = {"cuda": not torch.cuda.is_available(), "mps": not torch.backends.mps.is_available()}
    if lacking.get(chosen.type, False):
        raise ModelError(f"device {device!r} is not available here", hint="use --device auto")
    return chosen


class _Part(nn.Module):
    """One method of a network as a module of its own, with flat tensors in and out."""

    def __init__(self, network: nn.Module, method: str) -> None:
        super().__init__()
        self.network, self.method = network, method

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        if self.method == "forward":
            return (self.network(*tensors),)
        if self.method == "encode_key":
            query = self.network.encode_key(*tensors)  # type: ignore[operator]
            return (query.key, *query.features)
        if self.method == "encode_value":
            image, masks, others, *rest = tensors
            return (self.network.encode_value(image, nano.Query(rest[0], tuple(rest[1:])), masks, others),)  # type: ignore[operator]
        readout, previous, *rest = tensors
        return (self.network.decode(readout, nano.Query(rest[0], tuple(rest[1:])), previous),)  # type: ignore[operator]


class _ChannelsLast(nn.Module):
    """A part with 4-D outputs as [N, H, W, C]: the compiled graph then writes the layout that PyTorch goes on in."""

    def __init__(self, part: _Part) -> None:
        super().__init__()
        self.part = part

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(out.permute(0, 2, 3, 1).contiguous() for out in self.part(*tensors))


class Runner:
    """Runs the methods of one network on one device with one engine. Inference mode throughout."""

    def __init__(
        self, network: nn.Module, digest: str, device: torch.device, engine: str, compiled: frozenset[str]
    ) -> None:
        """
        Args:
            digest: identifies the weights; compiled: methods that are worth compiling for the CPU, the others run in
                PyTorch whatever the engine.
        """
        self.device, self.digest, self.methods = device, digest, compiled
        self.network = network.to(device)
        if engine not in ENGINES:
            raise UsageError(f"unknown engine {engine!r}", hint=f"choose one of: {', '.join(ENGINES)}")
        if engine == "openvino" and device.type != "cpu":
            raise UsageError("the openvino engine runs on the CPU", hint="add --device cpu, or drop --engine")
        self._wanted = engine
        self._use_openvino = device.type == "cpu" and engine != "torch" and _openvino(engine == "openvino") is not None
        self._compiled: dict[tuple, Any] = {}

    @property
    def engine(self) -> str:
        """The engine in use: "openvino" or "torch"."""
        return "openvino" if self._use_openvino else "torch"

    def run(self, method: str, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Calls a method with float tensors on any device; returns tensors on this runner's device."""
        with torch.inference_mode():
            if self._use_openvino and method in self.methods:
                compiled = self._compile(method, tensors)
                if compiled is not None:
                    return compiled(tensors)
            moved = [t.to(self.device, non_blocking=True) for t in tensors]
            moved = [t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t for t in moved]
            return _Part(self.network, method)(*moved)

    def _compile(self, method: str, tensors: Sequence[Tensor]) -> Any:
        key = (method, tuple(tuple(t.shape) for t in tensors))
        if key not in self._compiled:
            try:
                self._compiled[key] = _OpenVinoCall(_Part(self.network, method), tensors, self.digest + repr(key))
            except Exception as error:
                if self._wanted == "openvino":
                    raise ModelError(f"OpenVINO cannot run {method}: {error}", hint="use --engine torch") from error
                log.warning("OpenVINO cannot run %s (%s); PyTorch is used instead", method, error)
                self._compiled[key] = None
        return self._compiled[key]


@lru_cache(maxsize=1)
def _openvino(required: bool = False) -> Any:
    """The OpenVINO core, or None where the package is missing."""
    os.environ.setdefault("OPENVINO_TELEMETRY_OPT_OUT", "1")
    try:
        import openvino
    except ImportError as error:
        if required:
            raise ModelError("the package openvino is not installed", hint="pip install openvino") from error
        return None
    core = openvino.Core()
    core.set_property({"CACHE_DIR": str(_cache_dir())})
    return core


def _cache_dir() -> Path:
    path = Path(platformdirs.user_cache_dir("mivos")) / "compiled"
    path.mkdir(parents=True, exist_ok=True)
    return path


class _OpenVinoCall:
    """One compiled method for one set of shapes."""

    def __init__(self, part: _Part, tensors: Sequence[Tensor], identity: str) -> None:
        import openvino

        core = _openvino()
        stem = hashlib.sha256(
            (identity + _source(part.network) + openvino.__version__ + torch.__version__).encode()
        ).hexdigest()[:24]
        graph, verdict = _cache_dir() / f"{stem}.xml", _cache_dir() / f"{stem}.json"
        generator = torch.Generator().manual_seed(0)
        examples = tuple(torch.rand(t.shape, generator=generator) for t in tensors)
        if not (graph.is_file() and graph.with_suffix(".bin").is_file() and verdict.is_file()):
            graph_of = _ChannelsLast(part).eval()
            model = openvino.convert_model(graph_of, example_input=examples, input=[list(t.shape) for t in tensors])
            temporary = _cache_dir() / f"{stem}.{os.getpid()}.xml"
            openvino.save_model(model, temporary, compress_to_fp16=False)
            os.replace(temporary.with_suffix(".bin"), graph.with_suffix(".bin"))
            os.replace(temporary, graph)
        options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        self._model = core.compile_model(graph, "CPU", options)
        self._request = self._model.create_infer_request()
        if len(self._model.inputs) != len(tensors):
            raise RuntimeError(f"the compiled graph takes {len(self._model.inputs)} of {len(tensors)} inputs")
        if not verdict.is_file():
            error = _largest_difference(self(examples), part(*examples))
            if error > TOLERANCE:
                raise RuntimeError(f"its result differs from PyTorch's by {error:.2g}")
            verdict.write_text(json.dumps({"largest_difference": error}))

    def __call__(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        arrays = [tensor.detach().contiguous().numpy() for tensor in tensors]
        self._request.infer(arrays, share_inputs=True)
        outputs = (torch.from_numpy(port.data.copy()) for port in self._request.output_tensors)
        return tuple(out.permute(0, 3, 1, 2) for out in outputs)


def _source(network: nn.Module) -> str:
    """The code of a network and of this module: a graph compiled from other code is another graph."""
    return inspect.getsource(sys.modules[type(network).__module__]) + inspect.getsource(sys.modules[__name__])


def _largest_difference(got: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    worst = 0.0
    for a, b in zip(got, wanted, strict=True):
        worst = max(worst, float((a - b).abs().max() / (b.std() + 1e-6)))
    return worst


class Networks:
    """The three networks of a model, ready to run. Built once for each (model, device, engine)."""

    def __init__(self, model: str = "nano", device: str | None = None, engine: str = "auto") -> None:
        keep_freed_memory()
        self.spec = registry.model_spec(model)
        self.device = pick_device(device)
        self.rules: MemoryRules = self.spec.rules
        self._engine = engine
        self._runners: dict[str, Runner] = {}

    def runner(self, part: str) -> Runner:
        """The runner of "propagation", "s2m" or "fusion", loaded on first use."""
        if part not in self._runners:
            name = self.spec.name
            network = registry.load_network(name, part)
            digest = registry.weights_digest(name, part) + part
            methods = self.spec.compiled.get(part, frozenset())
            self._runners[part] = Runner(network, digest, self.device, self._engine, methods)
        return self._runners[part]

    # propagation
    def encode_key(self, image: Tensor) -> nano.Query:
        """[1, 3, h, w] normalised -> Query."""
        key, *features = self.runner("propagation").run("encode_key", image)
        return nano.Query(key, tuple(features))

    def encode_memory(self, image: Tensor, query: nano.Query, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Memory of a frame with masks [K, 1, h, w]: key [G, Ck, H, W] and value [K, Cv, H, W]."""
        others = masks.sum(0, keepdim=True) - masks
        (value,) = self.runner("propagation").run("encode_value", image, masks, others, query.key, *query.features)
        return query.key, value

    def decode(self, readout: Tensor, query: nano.Query, previous: Tensor) -> Tensor:
        """[K, Cv, H, W], previous masks [K, 1, h, w] -> probabilities [K, 1, h, w]."""
        (logits,) = self.runner("propagation").run("decode", readout, previous, query.key, *query.features)
        return torch.sigmoid(logits)

    # interaction and fusion
    def segment_strokes(self, planes: Tensor) -> Tensor:
        """[1, 6, h, w] (image, previous mask, positive, negative) -> probabilities [1, 1, h, w]."""
        (logits,) = self.runner("s2m").run("forward", planes)
        return torch.sigmoid(logits)

    def fuse(self, image: Tensor, old: Tensor, new: Tensor, attention: Tensor, time: Tensor) -> Tensor:
        """Fused probabilities [K, 1, h, w]; see `NanoFusion.forward`."""
        (logits,) = self.runner("fusion").run("forward", image, old, new, attention, time)
        return torch.sigmoid(logits)


@lru_cache(maxsize=2)
def networks(model: str = "nano", device: str | None = None, engine: str = "auto") -> Networks:
    """`Networks`, shared by calls with the same arguments."""
    return Networks(model, device, engine)
