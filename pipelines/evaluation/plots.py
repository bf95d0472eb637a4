"""Pictures of what the evaluations measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stores.errors import ModelError
from stores.files import atomic_file


@dataclass(frozen=True)
class Published:
    """A result as its authors published it: AUC and J&F at 60 s, 0..100, DAVIS 2017 val, on their GPU."""

    name: str
    auc: float
    at_60: float
    gpu: str = "RTX 2080 Ti"


PUBLISHED = (Published("MiVOS", 87.9, 88.5), Published("MiVOS-STCN", 88.4, 88.8))
THRESHOLD = 60.0  # seconds at which the benchmark reads the curve


def plot_interactive(
    folder: Path, seconds: Sequence[float], quality: Sequence[float], *, name: str, title: str
) -> dict[str, Path]:
    """Write curve.png and curve.svg: J&F over seconds and over interactions, beside the published figures.

    Args:
        seconds, quality: the official curve, starting at (0, 0) and ending with the time limit; quality 0..1.
        name: of the model, for the legend; title: what was measured, for the head.

    Raises:
        ModelError: matplotlib is not installed. StorageFullError: a file cannot be written.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ModelError("plots need the package matplotlib", hint='pip install "mivos[bench]"') from error
    percent = [100 * value for value in quality]
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    figure.suptitle(title)
    over_time, over_count = figure.subplots(1, 2, sharey=True)
    # the last point only repeats the one before at the time limit, far to the right of everything else
    over_time.plot(seconds[:-1], percent[:-1], "o-", label=name)
    over_time.plot(seconds[-2:], percent[-2:], ":", color="C0")
    over_time.axvline(THRESHOLD, color="0.8", zorder=0)
    over_time.set_xlim(0, max(1.25 * seconds[-2], 1.25 * THRESHOLD))
    over_time.set_xlabel("seconds of the model, mean over samples")
    over_time.set_ylabel("J&F")
    over_count.plot(range(len(percent) - 1), percent[:-1], "o-", label=name)
    over_count.set_xlabel("interactions")
    over_count.xaxis.get_major_locator().set_params(integer=True)
    # the two nearly coincide: one is drawn around the other
    for item, colour, marker, size, line in zip(PUBLISHED, "kr", "sx", (11, 6), "-:", strict=True):
        label = f"{item.name}: AUC {item.auc}, J&F@60s {item.at_60} (published: {item.gpu}, DAVIS 2017 val)"
        over_time.plot([THRESHOLD], [item.at_60], colour + marker, markersize=size, fillstyle="none", label=label)
        label = f"{item.name}: J&F@60s (published: {item.gpu}, DAVIS 2017 val)"
        over_count.axhline(item.at_60, linestyle=line, linewidth=1, color=colour, label=label)
    for axes in (over_time, over_count):
        axes.set_ylim(0, 100)
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right", fontsize=8)
    written = {}
    # fixed names inside the SVG and no date: the same curve gives the same file
    with matplotlib.rc_context({"svg.hashsalt": "mivos"}):
        for suffix in ("png", "svg"):
            path = folder / f"curve.{suffix}"
            with atomic_file(path) as file:
                figure.savefig(file, format=suffix, dpi=120, metadata={"Date": None} if suffix == "svg" else None)
            written[suffix] = path
    return written
