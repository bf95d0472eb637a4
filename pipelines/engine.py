"""Where networks run: PyTorch on any device, with a fast convolution of ours or OpenVINO on the CPU.

Plain PyTorch ("torch") is the reference. "winograd" is PyTorch with our own 3 x 3 convolution for float32 on CPUs (see
`networks/winograd.py`); "openvino" compiles the network for fixed shapes (see `compiled.py`). What "auto" takes
depends on the model, the precision and the CPU.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from pipelines import compiled
from pipelines.allocator import keep_freed_memory
from pipelines.networks import registry, winograd
from pipelines.networks.protocol import Query
from pipelines.networks.reading import MemoryBudget, MemoryRules
from stores.errors import ModelError, UsageError

ENGINES = ("auto", "torch", "winograd", "openvino")
Fusion = Literal["full", "no-difference", "off"]
FUSIONS: tuple[str, ...] = get_args(Fusion)
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
log = logging.getLogger("mivos")


@dataclass(frozen=True)
class ModelChoice:
    """Which networks run, with which weights, where and how.

    Attributes:
        name: a model of `registry.MODELS`; device: "cpu", "cuda", "mps", or None for the best there is;
        engine: one of `ENGINES`; precision: one of `PRECISIONS`, of the networks (memory is read in float32);
        checkpoints: weight files to use instead of the model's own; which network each holds is recognised;
        fusion: how a later round joins the ones before. "full": as published; "no-difference": the fusion network
            sees empty attention maps; "off": what the round propagates replaces what was there. The last two are the
            ablations of MiVOS (section 5).
        memory: bound of the memory that propagation reads, None: the model's own rules.
    """

    name: str = "nano"
    device: str | None = None
    engine: str = "auto"
    precision: str = "float32"
    checkpoints: tuple[Path, ...] = ()
    fusion: Fusion = "full"
    memory: MemoryBudget | None = None

    @classmethod
    def of(cls, model: str | ModelChoice) -> ModelChoice:
        """A model's name alone means everything else by default."""
        return cls(model) if isinstance(model, str) else model


Model = str | ModelChoice  # a model by its name, or with weights, device, engine and precision chosen


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


class Method(nn.Module):
    """One method of a network as a module of its own, with flat tensors in and out."""

    def __init__(self, network: nn.Module, method: str) -> None:
        super().__init__()
        self.network, self.method = network, method

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        if self.method == "forward":
            return (self.network(*tensors),)
        if self.method == "features":
            return self.network.features(*tensors)  # type: ignore[operator]
        if self.method == "head":
            return (self.network.head(*tensors),)  # type: ignore[operator]
        if self.method == "encode_key":
            query = self.network.encode_key(*tensors)  # type: ignore[operator]
            return (query.key, *query.features)
        if self.method == "encode_memory":
            image, masks, others, *rest = tensors
            query = Query(rest[0], tuple(rest[1:]))
            key, value = self.network.encode_memory(image, query, masks, others)  # type: ignore[operator]
            return (value,) if key is query.key else (value, key)
        readout, previous, *rest = tensors
        return (self.network.decode(readout, Query(rest[0], tuple(rest[1:])), previous),)  # type: ignore[operator]


def choose_engine(wanted: str, device: torch.device, precision: str, preferred: str) -> str:
    """The engine that is used: "torch", "winograd" or "openvino".

    Args:
        wanted: what was asked for; preferred: the model's fastest one in float32 on a CPU.

    Raises:
        UsageError: the combination makes no sense. ModelError: a package for it is missing.
    """
    if wanted not in ENGINES:
        raise UsageError(f"unknown engine {wanted!r}", hint=f"choose one of: {', '.join(ENGINES)}")
    if precision not in PRECISIONS:
        raise UsageError(f"unknown precision {precision!r}", hint=f"choose one of: {', '.join(PRECISIONS)}")
    on_cpu = device.type == "cpu"
    if precision == "float16" and on_cpu:
        raise UsageError("float16 is for GPUs", hint="use --precision bfloat16 or float32 on the CPU")
    if wanted in ("winograd", "openvino") and not on_cpu:
        raise UsageError(f"the {wanted} engine runs on the CPU", hint="add --device cpu, or drop --engine")
    if wanted == "winograd" and precision != "float32":
        raise UsageError("the winograd engine computes in float32", hint="drop --engine or --precision")
    there = {"winograd": winograd.available, "openvino": compiled.available}
    if wanted in there and not there[wanted]():
        package = "numba" if wanted == "winograd" else "openvino"
        raise ModelError(f"the package {package} is not installed or does not work here", hint=f"pip install {package}")
    if wanted != "auto" or not on_cpu:
        return "torch" if wanted == "auto" else wanted
    if precision == "bfloat16":
        if not compiled.has_bfloat16():
            log.warning("this CPU has no bfloat16 instructions: float32 is much faster here")
            return "torch"
        return "openvino" if compiled.available() else "torch"
    return preferred if there[preferred]() else "torch"


class Runner:
    """Runs the methods of one network on one device with one engine. Inference mode throughout."""

    def __init__(
        self, network: nn.Module, identity: str, device: torch.device, engine: str, precision: str = "float32",
        methods: frozenset[str] = frozenset(), insist: bool = False,
    ) -> None:  # fmt: skip
        """
        Args:
            identity: names the weights; engine: as `choose_engine` gives it; methods: those that OpenVINO runs, the
                others stay in PyTorch; insist: an OpenVINO that cannot run them is an error, not a warning.
        """
        self.device, self.identity, self.methods, self.insist = device, identity, methods, insist
        self.engine, self.precision = engine, precision
        self.network = network.to(device)
        if engine == "winograd":
            winograd.attach(network)
        self._calls: dict[tuple, Any] = {}

    def run(self, method: str, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Calls a method with float tensors on any device; returns float32 tensors on this runner's device."""
        with torch.inference_mode():
            if self.engine == "openvino" and method in self.methods:
                call = self._compile(method, tensors)
                if call is not None:
                    return call(tensors)
            moved = [t.to(self.device, non_blocking=True) for t in tensors]
            moved = [t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t for t in moved]
            with self._mode():
                results = Method(self.network, method)(*moved)
            return tuple(result.float() for result in results)

    def _mode(self) -> AbstractContextManager:
        if self.engine == "winograd":
            return winograd.enabled()
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, PRECISIONS[self.precision])

    def _compile(self, method: str, tensors: Sequence[Tensor]) -> Any:
        key = (method, tuple(tuple(t.shape) for t in tensors))
        if key not in self._calls:
            try:
                part = Method(self.network, method)
                self._calls[key] = compiled.Call(part, tensors, self.identity + repr(key), self.precision)
            except Exception as error:
                reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
                if self.insist:
                    raise ModelError(f"OpenVINO cannot run {method}: {reason}", hint="use --engine torch") from error
                log.warning("OpenVINO cannot run %s (%s); PyTorch is used instead", method, reason)
                self._calls[key] = None
        return self._calls[key]


class Networks:
    """The three networks of a model, ready to run; each is loaded when it is first needed."""

    def __init__(self, choice: str | ModelChoice = "nano") -> None:
        keep_freed_memory()
        self.choice = ModelChoice.of(choice)
        if self.choice.fusion not in FUSIONS:
            raise UsageError(f"unknown fusion {self.choice.fusion!r}", hint=f"choose one of: {', '.join(FUSIONS)}")
        self.spec = registry.model_spec(self.choice.name)
        self.device = pick_device(self.choice.device)
        self.engine = choose_engine(self.choice.engine, self.device, self.choice.precision, self.spec.engine)
        self.rules: MemoryRules = replace(self.spec.rules, budget=self.choice.memory)
        self.given = registry.assign(self.choice.name, self.choice.checkpoints)
        self._runners: dict[str, Runner] = {}

    def check(self, *parts: str) -> None:
        """Makes sure, without loading them, that the weights of these parts are there.

        Raises:
            ModelError: they are not.
        """
        for part in parts:
            registry.weight_file(self.choice.name, part, self.given.get(part))

    def facts(self) -> dict[str, Any]:
        """What a round's log keeps: names, rules, weight digests, precision and the kind of fusion."""
        facts = registry.facts(self.choice.name, self.given)
        facts = {**facts, "precision": self.choice.precision, "fusion": self.choice.fusion}
        return facts if self.choice.memory is None else {**facts, "memory": str(self.choice.memory)}

    def runner(self, part: str) -> Runner:
        """The runner of "propagation", "s2m" or "fusion", loaded on first use."""
        if part not in self._runners:
            name, given = self.choice.name, self.given.get(part)
            # asked for by name, PyTorch is the reference: layer by layer as the checkpoint has them
            network = registry.load_network(name, part, given, fold=self.choice.engine != "torch")
            identity = registry.weights_digest(name, part, given) + part
            methods, insist = self.spec.part(part).compiled, self.choice.engine == "openvino"
            self._runners[part] = Runner(
                network, identity, self.device, self.engine, self.choice.precision, methods, insist
            )
        return self._runners[part]

    # propagation
    def encode_key(self, image: Tensor) -> Query:
        """[1, 3, h, w] normalised -> Query."""
        key, *features = self.runner("propagation").run("encode_key", image)
        return Query(key, tuple(features))

    def encode_memory(self, image: Tensor, query: Query, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Memory of a frame with masks [K, 1, h, w]: key [G, Ck, H, W] and value [K, Cv, H, W]."""
        others = masks.sum(0, keepdim=True) - masks
        propagation = self.runner("propagation")
        value, *own = propagation.run("encode_memory", image, masks, others, query.key, *query.features)
        return (own[0] if own else query.key), value

    def decode(self, readout: Tensor, query: Query, previous: Tensor) -> Tensor:
        """[K, Cv, H, W], previous masks [K, 1, h, w] -> probabilities [K, 1, h, w]."""
        (logits,) = self.runner("propagation").run("decode", readout, previous, query.key, *query.features)
        return torch.sigmoid(logits)

    # interaction and fusion
    def segment_strokes(self, planes: Tensor) -> Tensor:
        """[1, 6, h, w] (image, previous mask, positive, negative) -> probabilities [1, 1, h, w]."""
        (logits,) = self.runner("s2m").run("forward", planes)
        return torch.sigmoid(logits)

    def fuse(self, image: Tensor, old: Tensor, new: Tensor, attention: Tensor, time: Tensor) -> Tensor:
        """Fused probabilities [K, 1, h, w]; see `FusionNet.forward`."""
        (logits,) = self.runner("fusion").run("forward", image, old, new, attention, time)
        return torch.sigmoid(logits)


def networks(choice: str | ModelChoice = "nano") -> Networks:
    """`Networks`, shared by calls with the same choice."""
    return _networks(ModelChoice.of(choice))


@lru_cache(maxsize=2)
def _networks(choice: ModelChoice) -> Networks:
    return Networks(choice)
