"""The commands of the campaign: what each starts from, and what tells whether its result is right."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from pipelines.stages.outputs import FORMATS
from stores.davis import write_davis_sequence
from stores.errors import MivosError
from stores.session import Session
from tests.chaos.forking import Forks

FRAMES, HEIGHT, WIDTH = 14, 96, 128
TIMED = frozenset({"log.jsonl"})  # files with seconds, which may be the same in two runs by chance
NETWORKS = ("--engine", "torch", "--device", "cpu")
MAN = (1, [[0.5, 0.3], [0.5, 0.6], [0.5, 0.9]])
SKY = (0, [[0.05, 0.05], [0.9, 0.05]])
State = tuple[int, int, str]  # frames, rounds, hash of all that they hold


@dataclass(frozen=True)
class Case:
    """One command that writes.

    Attributes:
        name: for the table; arguments: `{work}` and `{base}` stand for folders; template: what `work` begins as.
        session, out: folders in the work folder, where the command has them.
        again: whether the command may be repeated after it has done its work.
        visible: files that are not hidden are always whole.
    """

    name: str
    arguments: str
    template: str
    session: str | None = None
    out: str | None = None
    again: bool = True
    visible: bool = True
    environment: tuple[tuple[str, str], ...] = ()

    def command(self, base: Path, work: Path) -> list[str]:
        """The arguments of `mivos`."""
        return [part.format(work=work, base=base) for part in self.arguments.split()]


def all_cases() -> list[Case]:
    """Every command that writes, but the page's, which needs somebody who draws."""
    net = " ".join(NETWORKS)
    cases = [
        Case("segment", f"segment {{base}}/clip.mp4 --scribbles {{base}}/two.json -o {{work}}/out --force {net}",
             "empty", "out/session", "out"),
        Case("decode", "decode {base}/clip.mp4 {work}/session", "empty", "session"),
        Case("interact", f"interact {{work}}/session --scribbles {{base}}/two.json {net}", "one", "session"),
        Case("propagate", f"propagate {{work}}/session {net}", "interacted", "session"),
        Case("fuse", f"fuse {{work}}/session {net}", "propagated", "session"),
        Case("undo", "undo {work}/session", "two", "session", again=False),
        Case("redo", "redo {work}/session", "undone", "session", again=False),
        Case("session compact", "session compact {work}/session --now", "undone", "session"),
        Case("session repair", "session repair {work}/session", "damaged", "session"),
        Case("eval davis17", f"eval davis17 --root {{base}}/davis -o {{work}}/out --force {net}", "empty", out="out",
             visible=False),
        Case("gen-fusion", f"gen-fusion --data {{base}}/davis --separation 4 -o {{work}}/out {net}", "empty",
             out="out"),
        Case("train", "train s2m --data {base}/davis --iterations 6 --batch 2 --workers 0 --threads 1 --device cpu "
             "--resume --out {work}/out", "empty", out="out", visible=False),
        Case("models import", "models import {base}/propagation.pth --as stcn --force", "empty", out="models",
             environment=(("MIVOS_MODELS", "{work}/models"),)),
        Case("render-bl30k", "render-bl30k --out {work}/out --videos 3 --frames 12 --size 96x64 --scenes-only", "empty",
             out="out"),
    ]  # fmt: skip
    cases += [
        Case(
            f"encode {name}",
            f"encode {{work}}/session -o {{work}}/out --format {name} --force",
            "two",
            "session",
            "out",
        )
        for name in FORMATS
    ]
    return cases


def prepare(base: Path, forks: Forks) -> None:
    """Video, data set and the sessions that cases begin with, below `base`."""
    _video(base / "clip.mp4")
    for name, rounds in (("one", 1), ("two", 2)):
        strokes: list[list[dict[str, object]]] = [[] for _ in range(FRAMES)]
        for number, frame in list(enumerate((0, 9)))[:rounds]:
            strokes[frame] = [{"path": path, "object_id": i, "round": number} for i, path in (MAN, SKY)]
        (base / f"{name}.json").write_text(json.dumps({"sequence": "clip", "scribbles": strokes}))
    pairs = []
    for index in range(8):
        image = cv2.resize(_image(index), (114, 64))
        labels = np.zeros((64, 114), np.uint8)
        cv2.circle(labels, (40 + 3 * index, 34), 14, 1, -1)
        pairs.append((image, labels))
    for split in ("train", "val"):
        write_davis_sequence(base / "davis", "ball", pairs, split=split)
    net = list(NETWORKS)
    folder = base / "templates"
    for name in ("empty", "one", "interacted", "propagated", "two", "undone", "damaged"):
        (folder / name).mkdir(parents=True, exist_ok=True)

    def run(*arguments: str) -> None:
        code = forks.run(list(arguments), base / "prepare")
        assert code == 0, (arguments, (base / "prepare.err").read_text())

    def step(name: str, before: str, *arguments: str) -> None:
        shutil.copytree(folder / before, folder / name, dirs_exist_ok=True)
        run(arguments[0], str(folder / name / "session"), *arguments[1:])

    one = folder / "one" / "session"
    run("segment", str(base / "clip.mp4"), "--scribbles", str(base / "one.json"), "-o", str(base / "first"),
        "--session", str(one), *net)  # fmt: skip
    step("interacted", "one", "interact", "--scribbles", str(base / "two.json"), *net)
    step("propagated", "interacted", "propagate", *net)
    step("two", "propagated", "fuse", *net)
    step("undone", "two", "undo")
    shutil.copytree(folder / "two", folder / "damaged", dirs_exist_ok=True)
    _damage(folder / "damaged" / "session")
    _weights(base / "propagation.pth")


def _image(index: int) -> np.ndarray:
    """uint8 [H, W, 3]: a ball in front of stripes."""
    across = np.arange(WIDTH)[None, :, None] + np.zeros((HEIGHT, 1, 3))
    image = (96 + 60 * np.sin(across / 9 + np.array([0, 1, 2]))).astype(np.uint8)
    cv2.ellipse(image, (WIDTH // 2 + index, HEIGHT // 2 + 6), (18, 34), 0, 0, 360, (210, 60, 40), -1)
    return np.ascontiguousarray(image)


def _video(path: Path) -> None:
    with av.open(str(path), "w") as writer:
        stream = writer.add_stream("libx264", rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(_image(index), format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            writer.mux(stream.encode(frame))
        writer.mux(stream.encode())


def _damage(session: Path) -> None:
    """One picture and one branch."""
    chunks = sorted((session / "session.icechunk" / "chunks").iterdir(), key=lambda file: file.stat().st_size)
    chunks[-1].write_bytes(chunks[-1].read_bytes()[:100])
    (session / "session.icechunk" / "refs" / "branch.main" / "ref.json").write_bytes(b"")


def _weights(path: Path) -> None:
    import torch

    from pipelines.networks.stcn import STCN

    torch.manual_seed(0)
    torch.save(STCN().state_dict(), path)


def state(path: Path, commit: str | None = None) -> State | None:
    """What a session holds at a commit of `main`, the last one if none is given; None without a session."""
    if not Session.exists(path):
        return None
    with Session.open(path) as session:
        if commit is not None:
            session.refresh(commit)
        total = hashlib.sha256(repr([(r.kind, r.frame, r.objects) for r in session.rounds]).encode())
        for index in range(session.num_frames):
            total.update(session.frame(index))
            for values in (session.mask(index), session.probs(index)):
                total.update(b"-" if values is None else np.ascontiguousarray(values))
        return session.num_frames, len(session.rounds), total.hexdigest()


def states(path: Path) -> list[State | None]:
    """What a session held at each of its commits."""
    if not Session.exists(path):
        return [None]
    with Session.open(path) as session:
        commits = [entry.id for entry in session.history()]
    found: list[State | None] = []
    for commit in commits:
        try:
            found.append(state(path, commit))
        except MivosError:
            found.append(None)
    return found


def outputs(folder: Path | None, hidden: bool = False) -> dict[str, str]:
    """Relative path -> hash of the content, the session left out."""
    if folder is None or not folder.exists():
        return {}
    found = {}
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if (
            path.is_file()
            and path.name not in TIMED
            and parts[0] != "session"
            and (hidden or not any(part.startswith(".") for part in parts))
        ):
            found["/".join(parts)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found
