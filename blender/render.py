"""Sample scenes and have them rendered: `render_bl30k`, resumable, several renderer processes at a time.

::

    <out>/JPEGImages/<video>/00000.jpg ...     pictures
    <out>/Annotations/<video>/00000.png ...    palette PNGs of object ids, exact at pixel centres
    <out>/scenes/<video>.json                  what is in it, see `blender.scene`
    <out>/records/<video>.json                 written when a video is complete: its line of the manifest
    <out>/manifest.jsonl                       all records
    <out>/logs/<video>.log                     what Blender printed
    <out>/render.json                          the options that every video here was made with
    <out>/work/<video>/                        an unfinished video: it moves to its place when it is complete
    <out>/work/textures, skies/                embedded pictures
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from blender.assets import Assets, find_assets
from blender.environment import find_renderer
from blender.run import Run
from blender.scene import FRAMES, SIZE, Scene, sample_scene, video_name
from blender.scene_file import VERSION, read_scene, write_scene
from stores.errors import RenderError, SessionLockedError, UsageError
from stores.files import atomic_file, make_folder
from stores.locking import WriterLock

SAMPLES = 8
PATIENCE = 60.0  # seconds that a shard waits for others to prepare
MOST_VIDEOS = 100_000  # names have five digits


@dataclass(frozen=True)
class RenderOptions:
    """What to render; the defaults are those of BL30K but for the samples (64 there, at six times the cost).

    Attributes:
        videos: how many, from `start` on.
        frames: per video.
        size: (width, height) in pixels.
        samples: per pixel, before the denoiser.
        seed: of all that is random.
        start: index of the first video.
        workers: renderer processes of one core each; None: as many as there are cores.
        shard: (k, n): every n-th of these videos from the k-th on; other processes may render the others meanwhile.
        meshes: folders, none for the embedded set; textures and skies likewise.
    """

    videos: int = 1
    frames: int = FRAMES
    size: tuple[int, int] = SIZE
    samples: int = SAMPLES
    seed: int = 0
    start: int = 0
    workers: int | None = None
    shard: tuple[int, int] | None = None
    meshes: tuple[Path, ...] = ()
    textures: Path | None = None
    skies: Path | None = None

    @property
    def indices(self) -> list[int]:
        """Of the videos to render."""
        k, n = self.shard or (1, 1)
        return list(range(self.start, self.start + self.videos))[k - 1 :: n]

    def __post_init__(self) -> None:
        checks = (
            (self.videos >= 1 and self.start >= 0, "--videos must be at least 1 and --start at least 0"),
            (self.start + self.videos <= MOST_VIDEOS, f"video indices end at {MOST_VIDEOS - 1}"),
            (1 <= self.frames <= 9999, "--frames must be in 1..9999"),
            (all(16 <= side <= 8192 for side in self.size), "--size must be in 16x16..8192x8192"),
            (1 <= self.samples <= 65536, "--samples must be in 1..65536"),
            (0 <= self.seed < 2**63, "--seed must not be negative"),
            (self.workers is None or self.workers >= 1, "--workers must be at least 1"),
            (self.shard is None or 1 <= self.shard[0] <= self.shard[1], "--shard must be K/N with 1 <= K <= N"),
        )
        for fine, message in checks:
            if not fine:
                raise UsageError(message)


@dataclass(frozen=True)
class RenderReport:
    """What a run did: videos rendered now and before, frames rendered now, replaced files, seconds."""

    out: str
    rendered: int
    already_done: int
    frames: int
    replaced: list[dict[str, str]] = field(default_factory=list)
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain values for --json."""
        return asdict(self)


def render_bl30k(
    out: Path,
    options: RenderOptions,
    *,
    scenes_only: bool = False,
    blender: Path | None = None,
    environment: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    warn: Callable[[str], None] | None = None,
) -> RenderReport:
    """Render videos into `out`; run again to continue, with more videos if wanted.

    Args:
        out: the data set's folder, see above.
        options: what to render.
        scenes_only: write the scene files and stop.
        blender, environment: see `blender.environment.find_renderer`.
        progress: is called with (frames done, frames wanted), those of earlier runs included.
        warn: is called with a line for each file that could not be used and was replaced.

    Raises:
        UsageError: `out` was made with other options.
        DatasetError: a folder holds no meshes or images.
        RenderError: no renderer, it failed, or a scene file is damaged.
        StorageFullError: nothing can be written to `out`.
        SessionLockedError: another process renders into `out`.
    """
    began = time.monotonic()
    renderer = None if scenes_only else find_renderer(blender, environment)
    for folder in ("scenes", "records", "logs", "work"):
        make_folder(out / folder)
    with ExitStack() as alone:
        alone.enter_context(_writer(out, options))
        assets = find_assets(options.meshes, options.textures, options.skies, out / "work", options.seed)
        _check_options(out / "render.json", _signature(options, assets))
        scenes = [_scene(out, index, options, assets) for index in options.indices]
        if renderer is None or not scenes:
            return RenderReport(str(out), 0, 0, 0, seconds=time.monotonic() - began)
        if options.shard is not None:
            alone.close()  # from here on each video has a lock of its own
        run = Run(out, options.samples, assets, renderer, progress or _ignore, warn or _ignore)
        rendered = run.render(scenes, *_division(options, len(scenes)))
        seconds = time.monotonic() - began
        return RenderReport(str(out), rendered, len(scenes) - rendered, run.frames, run.replaced, seconds)


@contextmanager
def _writer(out: Path, options: RenderOptions) -> Iterator[None]:
    """Keeps others out of the folder; a shard waits a while for its turn."""
    lock, until = WriterLock(out), time.monotonic() + (PATIENCE if options.shard is not None else 0)
    while True:
        try:
            lock.acquire()
            break
        except SessionLockedError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
    try:
        yield
    finally:
        lock.release()


def render_video(
    out: str, options: dict[str, Any], index: int, blender: str | None, environment: str | None
) -> dict[str, Any]:
    """Task of an executor: one video, by one renderer with all cores of this process.

    Args:
        options: fields of `RenderOptions` as JSON; index: of the video.
    """
    folders = {key: options[key] and Path(options[key]) for key in ("textures", "skies")}
    meshes = tuple(Path(path) for path in options["meshes"])
    one = {"videos": 1, "start": index, "shard": (1, 1), "meshes": meshes, "size": tuple(options["size"])}
    warnings: list[str] = []
    report = render_bl30k(
        Path(out), RenderOptions(**{**options, **one, **folders}), blender=blender and Path(blender) or None,
        environment=environment and Path(environment) or None, warn=warnings.append,
    )  # fmt: skip
    return {**report.to_json(), "warnings": warnings[:100]}


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _division(options: RenderOptions, videos: int) -> tuple[int, int]:
    """(processes, threads in each). A count asked for is one of cores; else no core idles for want of videos."""
    if options.workers is not None:
        return options.workers, 1
    workers = min(cores(), videos)
    return workers, cores() // workers


def _ignore(*values: object) -> None:
    pass


def _signature(options: RenderOptions, assets: Assets) -> dict[str, Any]:
    """The options that decide what a video looks like."""

    def shelf(files: Mapping[str, str]) -> str:
        return f"{len(files)} files, {hashlib.sha256(chr(10).join(files).encode()).hexdigest()[:12]}"

    return {
        "scene_version": VERSION,
        "frames": options.frames,
        "size": "{}x{}".format(*options.size),
        "samples": options.samples,
        "seed": options.seed,
        "meshes": shelf(assets.meshes.files),
        "textures": shelf(assets.textures.files),
        "skies": shelf(assets.skies.files),
    }


def _check_options(path: Path, signature: Mapping[str, Any]) -> None:
    """Compare with the run that began here, or note that this one did."""
    try:
        before = json.loads(path.read_bytes())
    except FileNotFoundError:
        with atomic_file(path) as file:
            file.write((json.dumps(signature, indent=1) + "\n").encode())
        return
    except (OSError, ValueError, RecursionError) as error:
        raise RenderError(f"{path}: cannot be read ({error})", hint="choose another --out") from error
    for key, value in signature.items():
        if not isinstance(before, dict) or before.get(key) != value:
            had = before.get(key) if isinstance(before, dict) else None
            option = f"--{key}" if key != "scene_version" else "another version of mivos: scene version"
            raise UsageError(
                f"{path.parent} was begun with {option} {had}, not {value}",
                hint="use the same options to continue, or another --out",
            )


def _scene(out: Path, index: int, options: RenderOptions, assets: Assets) -> Scene:
    """The scene of a video: the file, if there is one, so that nothing changes between two runs."""
    path = out / "scenes" / f"{video_name(index)}.json"
    if not path.exists():
        write_scene(path, sample_scene(options.seed, index, assets, options.frames, options.size))
    scene = read_scene(path)
    if (scene.id, scene.frames, scene.size) != (video_name(index), options.frames, options.size):
        raise RenderError(f"{path}: is of another video, length or size", hint="delete it: it is sampled again")
    return scene
