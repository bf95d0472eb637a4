"""The authors' published checkpoints: names, addresses, licences, and which model loads which.

Addresses are those of the authors' download scripts and READMEs. They publish neither sizes nor hashes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stores.errors import UsageError


@dataclass(frozen=True)
class KnownCheckpoint:
    """One published weight file.

    Attributes:
        name: what the commands call it; file: its name in the store and on a mirror.
        network: as `recognise` names it; empty: none that mivos has.
        used_by: the models that load it.
        url: direct address, None where only `page`, the address for a browser, is known.
        size, sha256: bytes and hexadecimal hash as published, None where unknown.
    """

    name: str
    file: str
    network: str
    used_by: tuple[str, ...]
    url: str | None
    page: str
    licence: str
    size: int | None = None
    sha256: str | None = None
    note: str = ""


def _drive(identity: str) -> dict[str, Any]:
    return {
        "url": f"https://drive.usercontent.google.com/download?id={identity}&export=download&confirm=t",
        "page": f"https://drive.google.com/file/d/{identity}/view",
    }


_STCN_PAGE = "https://github.com/hkchengrex/STCN/releases/tag/1.0"
_FBRS = "https://github.com/saic-vul/fbrs_interactive_segmentation"
_BOTH = ("mivos", "mivos-stcn")
_K = KnownCheckpoint

KNOWN: dict[str, KnownCheckpoint] = {
    entry.name: entry
    for entry in (
        _K("s2m", "s2m.pth", "s2m", _BOTH, **_drive("1HKwklVey3P2jmmdmrACFlkXtcvNxbKMM"), licence="MIT"),
        _K(
            "propagation",
            "propagation_model.pth",
            "propagation",
            ("mivos",),
            **_drive("19dfbVDndFkboGLHESi8DGtuxF1B21Nm8"),
            licence="MIT",
            note="stages 0, 1 (BL30K) and 2",
        ),
        _K("fusion", "fusion.pth", "fusion", ("mivos",), **_drive("1Lc1lI5-ix4WsCRdipACXgvS3G-o0lMoz"), licence="MIT"),
        _K(
            "stcn",
            "stcn.pth",
            "propagation-stcn",
            ("mivos-stcn",),
            **_drive("1mRrE0uCI2ktdWlUgapJI_KmgeIiF2eOm"),
            licence="MIT",
            note="stages 0, 1 (BL30K) and 2",
        ),
        _K(
            "fusion-stcn",
            "fusion_stcn.pth",
            "fusion",
            ("mivos-stcn",),
            **_drive("1MAbWHrOjlze9vPQdW-HxMnvjPpaZlfLv"),
            licence="GPL-3",
        ),
        _K(
            "propagation-s02",
            "propagation_s02.pth",
            "propagation",
            (),
            **_drive("12jw9b30o-mh23bXzsL0vp24UVhFko_Py"),
            licence="see the project",
            note="of Mask-Propagation, without BL30K",
        ),
        _K(
            "stcn-s03",
            "stcn_s03.pth",
            "propagation-stcn",
            (),
            **_drive("1JllXPJZola0G-g1aUQfXe9nLMBioj-aH"),
            licence="MIT",
            note="without BL30K",
        ),
        _K("stcn-s0", "stcn_s0.pth", "propagation-stcn", (), None, _STCN_PAGE, "MIT", note="stage 0, for training"),
        _K("stcn-s01", "stcn_s01.pth", "propagation-stcn", (), None, _STCN_PAGE, "MIT", note="stage 1, for training"),
        _K(
            "fbrs",
            "fbrs.pth",
            "",
            (),
            f"{_FBRS}/releases/download/v1.0/resnet50_dh128_lvis.pth",
            _FBRS,
            "MPL-2.0",
            note="clicks; not used by mivos; about 120 MB",
        ),
    )
}

# model -> part of it -> name of the checkpoint
PARTS: dict[str, dict[str, str]] = {
    "mivos": {"propagation": "propagation", "s2m": "s2m", "fusion": "fusion"},
    "mivos-stcn": {"propagation": "stcn", "s2m": "s2m", "fusion": "fusion-stcn"},
}


def known() -> tuple[KnownCheckpoint, ...]:
    """All published checkpoints that have a name here."""
    return tuple(KNOWN.values())


def needed(model: str) -> tuple[str, ...]:
    """Names of the checkpoints that a model loads.

    Raises:
        UsageError: no model that loads any.
    """
    if model not in PARTS:
        raise UsageError(f"model {model!r} needs no checkpoints", hint=f"those that do: {', '.join(PARTS)}")
    return tuple(PARTS[model].values())


def checkpoint(name: str) -> KnownCheckpoint:
    """The published checkpoint of this name.

    Raises:
        UsageError: no such checkpoint.
    """
    if name not in KNOWN:
        raise UsageError(f"unknown checkpoint {name!r}", hint=f"choose from: {', '.join(KNOWN)}")
    return KNOWN[name]
