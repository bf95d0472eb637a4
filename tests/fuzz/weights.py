"""Strategies: weight files. Archives, pickles and safetensors headers that lie, and damage to sound ones."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from functools import cache
from typing import Any

from hypothesis import strategies as st

from tests.fuzz.damage import damaged, edited, hostile_text

NAMES = [
    "../../x",
    "/etc/x",
    "archive/data/0",
    "archive/data.pkl",
    "archive/version",
    "a\nb",
    "archive/data/" + "9" * 30,
]
SHAPES = [(2, 3), (), (0,), (2**40,), (2**31, 2**31), (-1,), (1,) * 70, (2**63 - 1,)]
# What unpickling may name: a few that are allowed, and many that would do something.
GLOBALS = [
    "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter", "torch FloatStorage", "torch HalfStorage",
    "collections OrderedDict", "torch Size", "torch._utils _rebuild_sparse_tensor", "torch._utils _rebuild_qtensor",
    "torch._utils _rebuild_meta_tensor_no_storage", "torch._utils _rebuild_device_tensor_from_numpy", "torch device",
    "builtins eval", "builtins exec", "os system", "posix system", "subprocess Popen", "builtins getattr",
    "torch load", "torch.hub load", "torch.jit.unsupported_tensor_ops execWrapper", "numpy fromfile",
    "builtins bytearray",
]  # fmt: skip


@cache
def seeds() -> tuple[bytes, ...]:
    """Sound weight files of every kind."""
    import torch
    from safetensors.torch import save

    state = {"conv.weight": torch.arange(24.0).reshape(2, 3, 2, 2), "bn.num_batches_tracked": torch.tensor(3)}
    half = {"module.a": torch.ones(3).half(), "module.b": torch.zeros(2, dtype=torch.bfloat16)}
    found = [save(state), save(half)]
    for content in (state, half, {"it": 1, "network": state, "optimizer": {"state": {0: torch.zeros(2)}}}):
        for zipped in (True, False):
            file = io.BytesIO()
            torch.save(content, file, _use_new_zipfile_serialization=zipped)
            found.append(file.getvalue())
    return tuple(found)


@st.composite
def safetensors(draw: Callable[..., Any]) -> bytes:
    """A safetensors file whose header was edited."""
    head = {"a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}, "__metadata__": {"format": "pt"}}
    head["a"]["shape"] = list(draw(st.sampled_from([(2, 2), (4,), *SHAPES])))
    head["a"]["dtype"] = draw(st.sampled_from(["F32", "F16", "BF16", "I64", "BOOL", "F8_E4M3", "C64", "X"]))
    text = json.dumps(draw(edited(head))).encode()
    length = len(text) if draw(st.integers(0, 9)) < 9 else draw(st.sampled_from([0, 2**20, 2**32, 2**63, 2**64 - 1]))
    return struct.pack("<Q", length) + text + bytes(draw(st.sampled_from([0, 15, 16, 100])))


@st.composite
def archives(draw: Callable[..., Any]) -> bytes:
    """A sound archive taken apart and put together otherwise."""
    with zipfile.ZipFile(io.BytesIO(draw(st.sampled_from(seeds()[2::2])))) as sound:
        members = [(name, sound.read(name)) for name in sound.namelist()]
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", draw(st.sampled_from([0, 0, 0, 8, 12, 14]))) as archive:
        for name, data in members:
            kind = 11 - draw(st.integers(0, 11))
            if kind == 0:
                continue
            if kind == 1:
                name = draw(st.one_of(st.sampled_from(NAMES), st.text(max_size=5)))
            if kind == 2:
                data = bytes(draw(st.sampled_from([0, 1, 10**6, 3 * 10**7])))
            if kind <= 6 and data and name.endswith("pkl"):
                data = draw(st.one_of(damaged(data), pickles()))
            archive.writestr(name.encode(errors="replace").decode() or "empty", data)
    return file.getvalue()


@st.composite
def pickles(draw: Callable[..., Any]) -> bytes:
    """A pickle assembled from opcodes: calls, storages and shapes that nobody would save."""
    module, name = draw(st.sampled_from(GLOBALS)).split()
    size = draw(st.sampled_from(SHAPES))
    stride = draw(st.sampled_from([(0,) * len(size), (1,) * len(size), size]))
    storage = ("storage", "@", draw(st.sampled_from("0 1 x".split())), "cpu", draw(st.sampled_from([1, 24, 2**40])))
    kind = draw(st.integers(0, 3))
    if kind == 0:  # {"a": module.name(*arguments)}
        arguments = draw(st.sampled_from([("touch owned",), (), (1, 2, 3), ([], {}), (b"x", size)]))
        call = f"c{module}\n{name}\n".encode() + _bare(arguments) + b"R"
        return b"\x80\x02}" + _bare("a") + call + b"s."
    if kind == 1:  # a tensor on a storage of the archive
        kept = _bare(storage).replace(
            _bare("@"), b"ctorch\n" + draw(st.sampled_from([b"Float", b"Half"])) + b"Storage\n"
        )
        parts = kept + b"Q" + _bare(draw(st.sampled_from([0, 1, -1, 2**40]))) + _bare(size) + _bare(stride)
        call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + parts + b"\x89ccollections\nOrderedDict\n)RtR"
        return b"\x80\x02}" + _bare("a") + call + b"s."
    if kind == 2:  # nesting and long things
        return draw(
            st.sampled_from(
                [b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b".", b"\x80\x02\x8a\xff" + b"\xff" * 255 + b"."]
            )
        )
    return pickle.dumps(draw(st.dictionaries(hostile_text, st.lists(st.integers(), max_size=2), max_size=2)), 2)


def _bare(value: Any) -> bytes:
    """The opcodes that make a value, without frame and end."""
    return pickle.dumps(value, 2)[2:-1]


@st.composite
def dented(draw: Callable[..., Any]) -> bytes:
    """A sound file with damaged bytes."""
    return draw(damaged(draw(st.sampled_from(seeds())), ends=True))


weight_files = st.one_of(
    safetensors(), archives(), archives().flatmap(damaged), dented(), pickles(), st.binary(max_size=80)
)
