"""Weight files of networks: PyTorch's own (.pth, .pt) and safetensors, read without ever running code from them.

A file is known by its first bytes, not by its name. What training scripts wrap around the weights is taken off:
a dictionary with the state under a name such as "network", and the "module." that DataParallel puts before each key.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stores.errors import ModelError
from stores.files import open_regular

if TYPE_CHECKING:
    from torch import Tensor

# Under which names training scripts keep a network's state, in the order in which they are tried.
WRAPPERS = ("network", "state_dict", "model_state_dict", "model", "net", "weights")
PARALLEL = "module."
HTML_STARTS = (b"<!doctype html", b"<html", b"<head", b"<?xml")
DAMAGED = "download or copy it again; it may be cut short"
HOSTILE = "get the weights from their authors"
MAX_FILE_BYTES = 4 * 2**30
MAX_PACKED_BYTES = 2**29  # of a compressed archive, unpacked
MAX_ENTRIES = 100_000  # of an archive, and keys of a state
MAX_NUMBERS = 2**28  # of all tensors together: 1 GB as float32, four times the largest network known here


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The state dict in a weight file, on CPU, floating tensors as float32.

    Tensors of an uncompressed PyTorch file are mapped from disk: keep the file as long as they are in use.

    Raises:
        ModelError: missing, empty, cut short, no weight file, or one that holds objects other than plain data
            (pickled code is refused and never run).
    """
    head = _head(path)
    if head.startswith(b"PK\x03\x04"):
        content = _load_zip(path)
    elif head.startswith(b"\x80"):  # pickle, as PyTorch before 1.6 wrote it
        content = _load_pickle(path, mmap=False)
    elif head[8:9] == b"{":
        content = _load_safetensors(path)
    else:
        raise ModelError(
            f"{path}: is neither a PyTorch weight file nor safetensors", hint="give a .pth or .safetensors file"
        )
    state = _unwrapped(content, path)
    _check_tensors(state, path)
    return {key: value.float() if value.is_floating_point() else value for key, value in state.items()}


def sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal; the file is streamed.

    Raises:
        ModelError: it cannot be read.
    """
    with open_regular(path, ModelError) as file:
        try:
            return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise _unreadable(path, error) from error


def looks_like_html(head: bytes) -> bool:
    """Whether the first bytes of a file or answer are those of a web page."""
    return head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(HTML_STARTS)


def _head(path: Path) -> bytes:
    with open_regular(path, ModelError) as file:
        try:
            head, size = file.read(512), os.fstat(file.fileno()).st_size
        except OSError as error:
            raise _unreadable(path, error) from error
    if size > MAX_FILE_BYTES:
        raise ModelError(
            f"{path}: has {size} bytes, {MAX_FILE_BYTES} are the most",
            hint="get the weights alone, as saved by torch.save(network.state_dict(), FILE)",
        )
    if not head:
        raise ModelError(f"{path}: is empty", hint=DAMAGED)
    if looks_like_html(head):
        raise ModelError(
            f"{path}: is a web page, not a weight file",
            hint="a download page was saved in its place; open the address in a browser and save the file itself",
        )
    return head


def _load_zip(path: Path) -> object:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, NotImplementedError, LookupError, struct.error) as error:
        raise ModelError(f"{path}: is damaged: {_line(error)}", hint=DAMAGED) from error
    if len(entries) > MAX_ENTRIES:
        raise ModelError(f"{path}: has {len(entries)} entries, {MAX_ENTRIES} are the most", hint=HOSTILE)
    stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
    total, most = sum(entry.file_size for entry in entries), path.stat().st_size if stored else MAX_PACKED_BYTES
    if total > most:
        raise ModelError(f"{path}: would be {total} bytes unpacked, {most} are the most", hint=HOSTILE)
    # PyTorch maps whatever lies at a tensor's place, also the compressed bytes of a re-packed archive.
    return _load_pickle(path, mmap=stored)


def _load_pickle(path: Path, *, mmap: bool) -> object:
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        name = _refused(error)
        what = (
            f"Python objects besides tensors ({name})" if name else "something else than plain tensors, or is damaged"
        )
        raise ModelError(
            f"{path}: refused unread, it holds {what}; such files can run any code",
            hint="get the weights alone, as saved by torch.save(network.state_dict(), FILE)",
        ) from error
    except MemoryError as error:
        raise ModelError(f"{path}: needs more memory than there is", hint=HOSTILE) from error
    except Exception as error:  # a damaged pickle can fail in any way
        if "TorchScript" in str(error):
            raise ModelError(
                f"{path}: is a TorchScript program, not weights", hint="export its state_dict()"
            ) from error
        raise ModelError(f"{path}: cannot be read as a PyTorch file: {_line(error)}", hint=DAMAGED) from error


def _load_safetensors(path: Path) -> object:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except MemoryError as error:
        raise ModelError(f"{path}: needs more memory than there is", hint=HOSTILE) from error
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise ModelError(f"{path}: cannot be read as safetensors: {_line(error)}", hint=DAMAGED) from error


def _unwrapped(content: object, path: Path) -> dict[str, Tensor]:
    import torch

    while isinstance(content, Mapping):
        if content and all(isinstance(value, torch.Tensor) for value in content.values()):
            break
        inner = next((content[name] for name in WRAPPERS if isinstance(content.get(name), Mapping)), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, Mapping) or not content:
        raise ModelError(f"{path}: holds no weights but {_kind(content)}", hint=f"looked for {', '.join(WRAPPERS)}")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise ModelError(
                f"{path}: holds no state dict: {key!r:.60} is {_kind(value)}, not a tensor",
                hint=f"a training checkpoint has it under one of: {', '.join(WRAPPERS)}",
            )
    state = dict(content)
    while all(key.startswith(PARALLEL) for key in state):
        state = {key.removeprefix(PARALLEL): value for key, value in state.items()}
    return state


def _check_tensors(state: Mapping[str, Tensor], path: Path) -> None:
    """Refuse tensors that a network cannot take, or that stand for more numbers than the file holds."""
    import torch

    if len(state) > MAX_ENTRIES:
        raise ModelError(f"{path}: has {len(state)} tensors, {MAX_ENTRIES} are the most", hint=HOSTILE)
    total = 0
    for key, value in state.items():
        plain = value.layout == torch.strided and value.device.type == "cpu"
        if not plain or value.is_quantized or value.is_complex() or value.is_nested:
            raise ModelError(
                f"{path}: {key!r:.60} is no plain tensor of numbers",
                hint="save weights as float32, float16 or bfloat16",
            )
        total += value.numel()  # as the shape says: steps of 0 make a few numbers look like very many
    if total > MAX_NUMBERS:
        raise ModelError(f"{path}: holds {total} numbers, {MAX_NUMBERS} are the most", hint=HOSTILE)


def _kind(value: Any) -> str:
    return "nothing" if value is None or value == {} else f"a {type(value).__name__}"


def _refused(error: Exception) -> str | None:
    """The name of the function or class that PyTorch refused, from its long message."""
    found = re.search(r"GLOBAL ([\w.]*\w)", str(error))
    return found[1] if found else None


def _line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0].strip().rstrip(".")[:160] if lines else type(error).__name__


def _unreadable(path: Path, error: OSError) -> ModelError:
    return ModelError(f"{path}: cannot be read: {error.strerror or error}", hint="give the path of a weight file")
