"""Growth of time and memory: the fit, the plot, and real points in processes of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.engine import ModelChoice
from pipelines.evaluation import growth
from pipelines.evaluation.growth import Fit, GrowthPoint, GrowthReport, copy_bandwidth, fit, measure_growth, plot
from stores.errors import UsageError


def points(*values: tuple[int, float, float]) -> list[GrowthPoint]:
    return [GrowthPoint(20, objects, 240, 427, seconds, peak) for objects, seconds, peak in values]


def test_a_line_is_found_exactly() -> None:
    line = points((1, 0.5, 600), (2, 0.75, 700), (4, 1.25, 900))
    found = fit("objects", "seconds", line)
    assert (found.slope, found.intercept, found.points) == (pytest.approx(0.25), pytest.approx(0.25), 3)
    assert found.residual < 1e-12
    assert fit("objects", "peak_mb", line).slope == pytest.approx(100)


def test_what_no_line_explains_is_the_residual() -> None:
    bent = points((1, 1.0, 0), (2, 3.0, 0), (3, 1.0, 0))
    found = fit("objects", "seconds", bent)
    assert found.slope == pytest.approx(0) and found.residual == pytest.approx(np.std([1, 3, 1]))


@pytest.fixture
def report() -> GrowthReport:
    line = points((1, 0.5, 600), (2, 0.75, 700))
    fits: tuple[Fit, ...] = (fit("objects", "seconds", line), fit("objects", "peak_mb", line))
    return GrowthReport("nano", "torch", "cpu", 2, 100.0, 9.0, tuple(line), {"objects": (0, 1)}, fits, 3.0)


def test_plots(report: GrowthReport, tmp_path: Path) -> None:
    plot(report, tmp_path / "growth.png")
    with Image.open(tmp_path / "growth.png") as image:
        assert image.size[0] >= 300 and len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 10
    plot(report, tmp_path / "growth.svg")
    assert b"<svg" in (tmp_path / "growth.svg").read_bytes()
    with pytest.raises(UsageError, match="neither .png nor .svg"):
        plot(report, tmp_path / "growth.pdf")


def test_record_of_growth(report: GrowthReport, bikes_video: Path) -> None:
    run = growth.to_record(report, ModelChoice("nano", engine="torch"), bikes_video)
    assert run.scores["20 frames, 2 objects, 427x240"] == {"seconds per frame": 0.75, "peak memory (MB)": 700}
    assert run.means["slope of peak memory (MB) over objects"] == pytest.approx(100)
    assert run.data is not None and list(run.data.parts) == ["bikes.mp4"]


def test_copying_is_measured() -> None:
    assert 0.1 < copy_bandwidth(16, 2) < 10_000


def test_points_are_measured_apart_from_this_process() -> None:
    ballast = np.ones(2**27)  # 1 GB here must not show there
    seen: list[int] = []
    found = measure_growth(
        model=ModelChoice("nano", device="cpu", engine="torch"),
        frames=(3,), objects=(2, 1), sizes=(64,), progress=lambda item: seen.append(item.done),
    )  # fmt: skip
    assert ballast[-1] and seen == [1, 2]
    assert [point.objects for point in found.points] == [1, 2]  # measured by growing value
    assert all(point.height == 64 and point.seconds > 0 and 50 < point.peak_mb < 1400 for point in found.points)
    assert found.axes == {"objects": (0, 1)} and {line.axis for line in found.fits} == {"objects"}
    assert found.matmul_gflops > 0 and found.copy_gb_s > 0


def test_errors_of_the_other_process_arrive(tmp_path: Path) -> None:
    for index in range(2):
        Image.new("RGB", (48, 32), (40 * index, 99, 0)).save(tmp_path / f"{index}.png")
    with pytest.raises(UsageError, match="has only 2 of 3 frames"):
        measure_growth(model=ModelChoice("nano", engine="torch"), frames=(3,), sizes=(32, 48), source=tmp_path)
    with pytest.raises(UsageError, match="unknown model 'giant'"):
        measure_growth(model="giant", objects=(1, 2))


def test_something_must_vary() -> None:
    with pytest.raises(UsageError, match="nothing to vary"):
        measure_growth(frames=(5,), objects=(1, 1), sizes=(64,))
