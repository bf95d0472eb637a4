"""The folder that keeps the authors' checkpoints: download, import, verify, look up.

A file is kept with the bytes it came with. Beside it lies `<file>.sha256` in the form of `sha256sum`: the authors
publish no hashes, so what is recorded is the hash at the first arrival, and `verify` finds later damage.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.known_checkpoints import KNOWN, PARTS, KnownCheckpoint, checkpoint, known, needed
from stores.checkpoints import read_checkpoint, sha256
from stores.downloads import Patience
from stores.downloads import download as fetch
from stores.errors import ModelError, OutputExistsError, UsageError
from stores.files import atomic_file, make_folder, remove_abandoned

__all__ = [
    "Arrival",
    "KnownCheckpoint",
    "Status",
    "Verified",
    "download",
    "import_file",
    "installed",
    "known",
    "needed",
    "path",
    "status",
    "store_dir",
    "verify",
]

FOLDER_VARIABLE = "MIVOS_MODELS"
MIRROR_VARIABLE = "MIVOS_MODELS_URL"
Report = Callable[[str, int, int | None], None]  # name, bytes so far, bytes in all (None: unknown)


@dataclass(frozen=True)
class Status:
    """One known checkpoint in the store; `state` is "installed", "partial" (a broken download) or "missing"."""

    checkpoint: KnownCheckpoint
    state: str
    path: str | None
    bytes: int
    recorded_sha256: str | None


@dataclass(frozen=True)
class Arrival:
    """A file that was downloaded or imported; `fresh` is False if it was there already."""

    name: str
    path: str
    sha256: str
    fresh: bool


@dataclass(frozen=True)
class Verified:
    """What a check found; `problem` is None for a sound file."""

    name: str
    path: str
    sha256: str
    problem: str | None


def store_dir() -> Path:
    """The folder of the checkpoints: $MIVOS_MODELS, else `models` in the user's cache folder; it may not exist."""
    import platformdirs

    chosen = os.environ.get(FOLDER_VARIABLE)
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("mivos")) / "models"


def status() -> tuple[Status, ...]:
    """What is there of each known checkpoint; nothing is read or hashed."""
    found = []
    for entry in known():
        path = _installed(entry)
        part = store_dir() / f"{entry.file}.part"
        state = "installed" if path else "partial" if part.is_file() else "missing"
        size = path.stat().st_size if path else part.stat().st_size if part.is_file() else 0
        found.append(Status(entry, state, str(path) if path else None, size, _recorded(path) if path else None))
    return tuple(found)


def installed(model: str, part: str) -> Path | None:
    """The file of one part ("propagation", "s2m", "fusion") of "mivos" or "mivos-stcn", None if it is not there."""
    name = PARTS.get(model, {}).get(part)
    return _installed(KNOWN[name]) if name else None


def path(name: str) -> Path:
    """The file of an installed checkpoint.

    Raises:
        UsageError: unknown name. ModelError: it is not installed.
    """
    found = _installed(checkpoint(name))
    if found is None:
        raise ModelError(f"{name} is not installed in {store_dir()}", hint=f"mivos models download {name}")
    return found


def download(
    names: Sequence[str],
    *,
    base_url: str | None = None,
    force: bool = False,
    progress: Report | None = None,
    patience: Patience = Patience(),  # noqa: B008  frozen
) -> tuple[Arrival, ...]:
    """Download checkpoints into the store; those already there are left alone without `force`.

    A file takes its name only after its weights were found to be those of the network it should hold.

    Args:
        base_url: a mirror, to which the file name is added; $MIVOS_MODELS_URL when None, else the authors' address.

    Raises:
        UsageError: unknown name. ModelError: see `stores.downloads.download`; also if no address is known.
        StorageFullError: the store cannot be written.
    """
    mirror = base_url or os.environ.get(MIRROR_VARIABLE)
    entries = [checkpoint(name) for name in dict.fromkeys(names)]
    arrivals = []
    for entry in entries:
        there = _installed(entry)
        if there is not None and not force:
            arrivals.append(Arrival(entry.name, str(there), _recorded(there) or _record(there, sha256(there)), False))
            continue
        url = f"{mirror.rstrip('/')}/{entry.file}" if mirror else entry.url
        if url is None:
            raise ModelError(
                f"no direct address of {entry.name} is known",
                hint=f"get it from {entry.page}, then: mivos models import FILE --as {entry.name}",
            )

        def report(done: int, total: int | None, name: str = entry.name) -> None:
            if progress:
                progress(name, done, total)

        def check(file: Path, entry: KnownCheckpoint = entry, url: str = url) -> None:
            _check_network(file, entry, url)

        target = store_dir() / entry.file
        digest = fetch(
            url,
            target,
            sha256=entry.sha256,
            size=entry.size,
            progress=report,
            check=check,
            page=url if mirror else entry.page,
            patience=patience,
        )
        _settle(entry, target, digest)
        arrivals.append(Arrival(entry.name, str(target), digest, True))
    return tuple(arrivals)


def verify(names: Sequence[str] = ()) -> tuple[Verified, ...]:
    """Check hash and content of checkpoints, all installed ones when `names` is empty.

    A file that somebody put into the store by hand has no recorded hash; a sound one gets it now.

    Raises:
        UsageError: unknown name. ModelError: a named one is not installed. Damage is reported, not raised.
    """
    paths = {name: path(name) for name in names} if names else {}
    if not names:
        paths = {entry.name: found for entry in known() if (found := _installed(entry))}
    results = []
    for name, file in paths.items():
        entry, problem = KNOWN[name], None
        digest, wanted = sha256(file), KNOWN[name].sha256 or _recorded(file)
        try:
            _check_network(file, entry, file)
        except ModelError as error:
            problem = str(error)
        if wanted is not None and digest != wanted:
            problem = f"SHA-256 is {digest[:16]}..., not {wanted[:16]}...: the file has changed"
        if problem is None and _recorded(file) is None:
            _record(file, digest)
        results.append(Verified(name, str(file), digest, problem))
    return tuple(results)


def import_file(file: Path, name: str | None = None, *, force: bool = False) -> Arrival:
    """Copy a weight file into the store, byte by byte, under the checkpoint that it is.

    Without `name` the network in the file decides. Where several checkpoints have this network, the file's own name
    does, and else the one that a model loads.

    Raises:
        ModelError: not a weight file of a known network, or not of `name`'s.
        UsageError: unknown `name`, or the file could be several checkpoints.
        OutputExistsError: another file is installed there and `force` is not set.
    """
    entry = checkpoint(name) if name else _identify(file)
    if name:
        _check_network(file, entry, file)
    digest = sha256(file)
    there = _installed(entry)
    if there is not None and sha256(there) == digest:
        return Arrival(entry.name, str(there), _record(there, digest), False)
    if there is not None and not force:
        raise OutputExistsError(f"{entry.name} is already installed, with other content", hint="--force replaces it")
    with open(file, "rb") as source:
        suffix = ".safetensors" if source.read(9)[8:] == b"{" else Path(entry.file).suffix
        source.seek(0)
        target = (store_dir() / entry.file).with_suffix(suffix)
        make_folder(target.parent)
        remove_abandoned(target.parent)
        with atomic_file(target) as copy:
            shutil.copyfileobj(source, copy, 2**20)
    _settle(entry, target, digest)
    return Arrival(entry.name, str(target), digest, True)


def _installed(entry: KnownCheckpoint) -> Path | None:
    file = store_dir() / entry.file
    return next((path for path in (file, file.with_suffix(".safetensors")) if path.is_file()), None)


def _identify(file: Path) -> KnownCheckpoint:
    from pipelines.networks.recognise import recognise

    network = recognise(read_checkpoint(file), file)
    fitting = [entry for entry in known() if entry.network == network]
    if not fitting:
        raise UsageError(f"{file}: holds {network}, a network of the embedded model", hint="it is built in already")
    same_name = [entry for entry in fitting if Path(entry.file).stem == file.stem]
    candidates = same_name or [entry for entry in fitting if entry.used_by]
    if len(candidates) > 1:
        names = " or ".join(entry.name for entry in candidates)
        raise UsageError(f"{file}: holds a {network} network, which can be {names}", hint=f"say which: --as {names}")
    return candidates[0]


def _check_network(file: Path, entry: KnownCheckpoint, source: object) -> None:
    """Read the weights and compare them with the network they should be of."""
    state = read_checkpoint(file)
    if not entry.network:
        return
    from pipelines.networks.recognise import recognise

    network = recognise(state, source)
    if network != entry.network:
        raise ModelError(
            f"{source}: holds a {network} network, but {entry.name} is {entry.network}",
            hint="leave --as away, or give the right file",
        )


def _settle(entry: KnownCheckpoint, target: Path, digest: str) -> None:
    """Record the hash of a new file, and drop an older one in the other format."""
    _record(target, digest)
    for suffix in {Path(entry.file).suffix, ".safetensors"} - {target.suffix}:
        other = target.with_suffix(suffix)
        other.unlink(missing_ok=True)
        _record_path(other).unlink(missing_ok=True)


def _record_path(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _record(path: Path, digest: str) -> str:
    with atomic_file(_record_path(path)) as file:
        file.write(f"{digest}  {path.name}\n".encode())
    return digest


def _recorded(path: Path) -> str | None:
    try:
        digest = _record_path(path).read_text(encoding="utf-8").split()[0]
    except (OSError, ValueError, IndexError):
        return None
    return digest if len(digest) == 64 else None
