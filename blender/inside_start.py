"""Starts blenderproc in a Python that has the `bpy` wheel, or in Blender's own. Loaded by `blender.inside` only."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from types import SimpleNamespace
from typing import Any

import bpy  # before blenderproc
import numpy as np


class Over:
    """An object with some attributes replaced."""

    def __init__(self, target: Any, **replaced: Any) -> None:
        self.__dict__.update(_target=target, _replaced=replaced)

    def __getattr__(self, name: str) -> Any:
        return self._replaced[name] if name in self._replaced else getattr(self._target, name)


def start_blenderproc(work: str) -> Any:
    """Import blenderproc without letting it download or install anything; returns the module."""
    os.environ["USE_EXTERNAL_BPY_MODULE"] = "1"  # honoured by versions after 2.8
    if not hasattr(np, "string_"):
        setattr(np, "string_", np.bytes_)  # noqa: B010
    os.environ["OUTSIDE_OF_THE_INTERNAL_BLENDER_PYTHON_ENVIRONMENT_BUT_IN_RUN_SCRIPT"] = "1"
    spec = importlib.util.find_spec("blenderproc")
    if spec is None or spec.origin is None:
        raise RuntimeError("blenderproc is not installed in the Python of this Blender")
    # blenderproc's __init__ removes the first occurrence of this folder from the path
    packages = os.path.dirname(os.path.dirname(os.path.abspath(spec.origin)))
    sys.path.insert(0, packages)
    import blenderproc
    from blenderproc.python.utility import SetupUtility as setup_module

    setup = setup_module.SetupUtility
    if not hasattr(setup_module, "is_using_external_bpy_module"):
        setup.setup = staticmethod(lambda *args, **kwargs: sys.argv)
        os.environ["INSIDE_OF_THE_INTERNAL_BLENDER_PYTHON_ENVIRONMENT"] = "1"
        sys.path.insert(0, packages)
        importlib.reload(blenderproc)
        setup.setup_utility_paths(work)
    from blenderproc.python.utility import Initializer as init_module

    # the wheel has no languages, and init sets one
    english = SimpleNamespace(view=SimpleNamespace(language="en_US"))
    init_module.bpy = Over(bpy, context=Over(bpy.context, preferences=english))
    blenderproc.init()
    return blenderproc
