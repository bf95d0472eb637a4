"""What the evaluations return: frozen rows, their means, a JSON form. The command line prints them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.evaluation.course import CoursePoint


@dataclass(frozen=True)
class SequenceScore:
    """One method on one sequence.

    Attributes:
        method: "mivos <model>" or a name of `baselines.BASELINES`.
        objects: objects of the ground truth; `j` and `f` are means over them.
        frames: frames of the sequence, the given one included.
        j: region similarity (IoU), 0..100.
        f: boundary accuracy, 0..100.
        seconds: wall time from reading the first frame to the last mask written.
    """

    method: str
    sequence: str
    objects: int
    frames: int
    j: float
    f: float
    seconds: float

    @property
    def jf(self) -> float:
        """Mean of J and F, 0..100."""
        return (self.j + self.f) / 2


@dataclass(frozen=True)
class MethodMean:
    """One method on all sequences: means over all objects (as the field's scorer does), 0..100."""

    method: str
    j: float
    f: float
    jf: float
    frames_per_second: float


@dataclass(frozen=True)
class DevSplitReport:
    """Semi-supervised scores: the first frame's true mask is given.

    Attributes:
        scorer: package, version and which frames it leaves out.
        rows: by method, then sequence.
        seconds: wall time of everything, scoring included.
    """

    split: str
    scorer: str
    rows: tuple[SequenceScore, ...]
    seconds: float

    @property
    def methods(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(row.method for row in self.rows))

    @property
    def sequences(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(row.sequence for row in self.rows))

    def mean(self, method: str) -> MethodMean:
        """Means of one method.

        Raises:
            KeyError: the report has no such method.
        """
        rows = [row for row in self.rows if row.method == method]
        if not rows:
            raise KeyError(method)
        objects = sum(row.objects for row in rows)
        j = sum(row.j * row.objects for row in rows) / objects
        f = sum(row.f * row.objects for row in rows) / objects
        seconds = sum(row.seconds for row in rows)
        return MethodMean(method, j, f, (j + f) / 2, sum(row.frames for row in rows) / max(seconds, 1e-9))

    def to_json(self) -> dict[str, Any]:
        """Everything, means included, as plain JSON values."""
        return {
            "split": self.split,
            "scorer": self.scorer,
            "seconds": self.seconds,
            "means": [asdict(self.mean(method)) for method in self.methods],
            "rows": [{**asdict(row), "jf": row.jf} for row in self.rows],
        }


@dataclass(frozen=True)
class S2MScore:
    """One robot scribble file turned into a mask.

    Attributes:
        file: name of the scribble file, such as 001.json.
        frame: the interacted frame.
        j: IoU on that frame, 0..1, mean over its objects.
        seconds: wall time of the interaction.
    """

    sequence: str
    file: str
    frame: int
    objects: int
    j: float
    seconds: float


@dataclass(frozen=True)
class S2MReport:
    """First-interaction scores of the scribble network, nothing segmented before."""

    model: str
    rows: tuple[S2MScore, ...]
    seconds: float

    @property
    def mean(self) -> float:
        """Mean J over the scribble files, 0..1."""
        return sum(row.j for row in self.rows) / len(self.rows)

    def to_json(self) -> dict[str, Any]:
        """Everything, the mean included, as plain JSON values."""
        rows = [asdict(row) for row in self.rows]
        return {"model": self.model, "mean": self.mean, "seconds": self.seconds, "rows": rows}


@dataclass(frozen=True)
class SpeedRow:
    """One run of the pipeline.

    Attributes:
        frames: frames in the session.
        stages: wall seconds by stage, everything loaded and compiled before (see `startup`).
        startup: seconds of a short run before it with the same shapes: loading, compiling, caches.
        peak_rss_mb: highest resident memory of the process until the end of this run, 2**20 bytes.
        course: time and memory along the way; session_mb: the session on disk afterwards, 1e6 bytes.
    """

    objects: int
    frames: int
    stages: dict[str, float]
    startup: float
    peak_rss_mb: float
    course: tuple[CoursePoint, ...] = ()
    session_mb: float = 0.0

    @property
    def seconds(self) -> float:
        """From decoded frames in the session to masks in the session: all stages but decode and encode."""
        return sum(seconds for stage, seconds in self.stages.items() if stage not in ("decode", "encode"))

    @property
    def frames_per_second(self) -> float:
        """Frames by `seconds`."""
        return self.frames / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class SpeedReport:
    """Speed of this machine, beside what its processor can do.

    Attributes:
        source: name of the video.
        height: working size in pixels.
        matmul_gflops: measured float32 matrix product rate of torch on the CPU, 1e9 operations per second.
        copy_gb_s: measured rate of a large copy, read and written, 1e9 bytes per second.
        gflop: number of objects -> operations of the propagation network per frame, 1e9; over `matmul_gflops` it is the
            floor under the seconds per frame.
        threads: threads torch uses.
    """

    model: str
    engine: str
    device: str
    source: str
    height: int
    width: int
    threads: int
    matmul_gflops: float
    copy_gb_s: float
    gflop: dict[int, float]
    rows: tuple[SpeedRow, ...]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Everything, rates included, as plain JSON values."""
        rates = [{**asdict(row), "frames_per_second": row.frames_per_second} for row in self.rows]
        return {**asdict(self), "rows": rates}
