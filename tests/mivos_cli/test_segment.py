"""`mivos segment` for real: processes on a real clip, bad input, interruption, kill -9 in each stage."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from mivos_cli.app import app
from tests.mivos_cli.conftest import (
    CYCLIST,
    FRAMES,
    HEIGHT,
    WIDTH,
    Clip,
    make_video,
    run_mivos,
    run_until,
    scribble_json,
    start_mivos,
)


def read_masks(folder: Path) -> np.ndarray:
    """uint8 [T, H, W] from a folder of palette PNGs."""
    files = sorted(folder.glob("*.png"))
    return np.stack([np.asarray(Image.open(file)) for file in files])


def left_behind(out: Path) -> list[Path]:
    """Everything in an output folder that is not the session: what a failed command must not leave."""
    return [path for path in out.glob("*") if path.name != "session"] if out.is_dir() else []


@pytest.fixture(scope="session")
def finished(clip: Clip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output of an uninterrupted run with two rounds."""
    out = tmp_path_factory.mktemp("finished") / "out"
    done = run_mivos("segment", clip.video, "--scribbles", clip.two_rounds, "-o", out)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return out


def test_masks_and_overlay(finished: Path) -> None:
    masks = read_masks(finished / "masks")
    assert masks.shape == (FRAMES, HEIGHT, WIDTH)
    assert (finished / "masks" / "00000.png").exists()
    assert Image.open(finished / "masks" / "00000.png").mode == "P"
    with av.open(str(finished / "overlay.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == FRAMES and frames[0].shape == (HEIGHT, WIDTH, 3)


def test_the_objects_are_where_they_were_drawn(finished: Path) -> None:
    masks = read_masks(finished / "masks")
    assert set(np.unique(masks)) == {0, 1, 2}
    rider, taxi = masks == 1, masks == 2
    for frame in range(FRAMES):
        # Centres in fractions of the frame, read off the picture with a margin.
        assert 0.55 < np.nonzero(rider[frame])[1].mean() / WIDTH < 0.75
        assert 0.10 < np.nonzero(taxi[frame])[1].mean() / WIDTH < 0.40
        assert 0.02 < rider[frame].mean() < 0.25
        assert 0.15 < taxi[frame].mean() < 0.50


def test_json_and_every_format(clip: Clip, finished: Path, tmp_path: Path) -> None:
    formats = ("png", "overlay", "binary", "webm", "prores", "coco")
    options = [option for name in formats for option in ("--format", name)]
    done = run_mivos("encode", finished / "session", "-o", tmp_path, *options, "--json")
    assert done.returncode == 0, done.stderr
    outputs = json.loads(done.stdout)["outputs"]
    assert set(outputs) == set(formats)
    assert all(Path(path).exists() for path in outputs.values())
    assert len(list((tmp_path / "binary" / "1").glob("*.png"))) == FRAMES
    assert np.array_equal(read_masks(tmp_path / "masks"), read_masks(finished / "masks"))


def test_one_stage_after_the_other_gives_the_same_masks(clip: Clip, finished: Path, tmp_path: Path) -> None:
    session = tmp_path / "session"
    second = tmp_path / "second.json"
    rounds = json.loads(clip.two_rounds.read_text())
    rounds["scribbles"][0] = []
    second.write_text(json.dumps(rounds))
    for arguments in (
        ("decode", clip.video, session),
        ("interact", session, "--scribbles", clip.one_round),
        ("propagate", session),
        ("fuse", session),
        ("interact", session, "--scribbles", second),
        ("propagate", session),
        ("fuse", session),
        ("encode", session, "-o", tmp_path / "out", "--format", "png"),
    ):
        done = run_mivos(*arguments)
        assert done.returncode == 0, f"{arguments[0]}: {done.stderr}"
    assert np.array_equal(read_masks(tmp_path / "out" / "masks"), read_masks(finished / "masks"))


def test_given_masks_as_the_first_frame(clip: Clip, finished: Path, tmp_path: Path) -> None:
    first = finished / "masks" / "00000.png"
    done = run_mivos("segment", clip.video, "--masks", first, "-o", tmp_path / "out", "--format", "png", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["frames"], report["objects"], report["rounds"]) == (FRAMES, 2, 1)
    given, masks = np.asarray(Image.open(first)), read_masks(tmp_path / "out" / "masks")
    assert (masks[0] == given).mean() > 0.99
    assert set(np.unique(masks[-1])) == {0, 1, 2}


def test_an_image_folder_keeps_its_names(clip: Clip, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    with av.open(str(clip.video)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            frame.to_image().save(folder / f"shot{index + 7}.png")
    out = tmp_path / "out"
    done = run_mivos("segment", folder, "--scribbles", clip.one_round, "-o", out, "--format", "png")
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (out / "masks").glob("*")}
    assert names == {f"shot{index + 7}.png" for index in range(FRAMES)}


def test_info_undo_redo(finished: Path, tmp_path: Path) -> None:
    session = tmp_path / "session"
    shutil.copytree(finished / "session", session)
    info = json.loads(run_mivos("info", session, "--json").stdout)
    assert (info["frames"], info["height"], info["width"], info["objects"]) == (FRAMES, HEIGHT, WIDTH, 2)
    assert [record["frame"] for record in info["rounds"]] == [0, 5]
    assert info["history"][-1]["state"] == "current" and info["disk_bytes"] > 0

    assert run_mivos("undo", session).returncode == 0
    undone = json.loads(run_mivos("info", session, "--json").stdout)
    assert len(undone["rounds"]) == 1
    assert [entry["state"] for entry in undone["history"]][-2:] == ["current", "undone"]
    text = run_mivos("info", session).stdout
    assert "(undone)" in text and str(FRAMES) in text

    assert run_mivos("redo", session).returncode == 0
    assert len(json.loads(run_mivos("info", session, "--json").stdout)["rounds"]) == 2
    refused = run_mivos("redo", session)
    assert refused.returncode == 2 and refused.stderr.startswith("error: ")


def test_existing_output_needs_force(clip: Clip, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    marked = out / "masks" / "00003.png"
    marked.write_bytes(b"mine")
    command = ("segment", clip.video, "--scribbles", clip.two_rounds, "-o", out)
    refused = run_mivos(*command)
    assert refused.returncode == 2 and "--force" in refused.stderr
    assert marked.read_bytes() == b"mine"
    done = run_mivos(*command, "--force")
    assert done.returncode == 0, done.stderr
    assert np.array_equal(read_masks(out / "masks"), read_masks(finished / "masks"))


# --- bad input -------------------------------------------------------------------------------------------


def empty_file(clip: Clip, folder: Path) -> Path:
    (folder / "empty.mp4").touch()
    return folder / "empty.mp4"


def truncated(clip: Clip, folder: Path) -> Path:
    # The index of an MP4 is at its end, so half of a file has none.
    data = clip.video.read_bytes()
    (folder / "half.mp4").write_bytes(data[: len(data) // 2])
    return folder / "half.mp4"


def not_a_video(clip: Clip, folder: Path) -> Path:
    (folder / "notes.mp4").write_text("Shopping: milk, bread.\n" * 100)
    return folder / "notes.mp4"


def only_sound(clip: Clip, folder: Path) -> Path:
    path = folder / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        assert isinstance(stream, av.AudioStream)
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def no_frames(clip: Clip, folder: Path) -> Path:
    path = folder / "header_only.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
        container.start_encoding()
    return path


def no_images(clip: Clip, folder: Path) -> Path:
    (folder / "folder").mkdir()
    return folder / "folder"


def missing(clip: Clip, folder: Path) -> Path:
    return folder / "missing.mp4"


SOURCES = (missing, empty_file, truncated, not_a_video, only_sound, no_frames, no_images)


def here(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The real command inside this process: bad input has many cases, and a new process loads torch each time."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return subprocess.CompletedProcess([], result.exit_code, result.stdout, result.stderr)


def check_refused(done: subprocess.CompletedProcess[str], code: int, out: Path, *words: str) -> None:
    """One error line (and at most a hint) that has all `words`, the right code, nothing left behind."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1 and len(lines) <= 2, done.stderr
    assert "unexpected" not in errors[0]
    for word in words:
        assert word in errors[0], f"{word!r} is missing in: {errors[0]}"
    assert left_behind(out) == []


@pytest.mark.parametrize("make", SOURCES, ids=lambda make: make.__name__)
def test_bad_videos(make: Callable[[Clip, Path], Path], clip: Clip, tmp_path: Path) -> None:
    out = tmp_path / "out"
    source = make(clip, tmp_path)
    done = here("segment", source, "--scribbles", clip.one_round, "-o", out)
    check_refused(done, 1, out, str(source))


def test_a_process_that_fails_says_so_to_its_caller(clip: Clip, tmp_path: Path) -> None:
    out = tmp_path / "out"
    source = truncated(clip, tmp_path)
    check_refused(run_mivos("segment", source, "--scribbles", clip.one_round, "-o", out), 1, out, "half.mp4")


def test_a_header_that_lies_about_the_frame_count(clip: Clip, bikes_video: Path, tmp_path: Path) -> None:
    video = make_video(bikes_video, tmp_path / "lie.avi", codec="mjpeg")
    data = bytearray(video.read_bytes())
    # AVI: dwTotalFrames is the fifth field of the main header, dwLength the ninth of the stream header.
    for chunk, offset in ((b"avih", 8 + 16), (b"strh", 8 + 32)):
        place = data.index(chunk) + offset
        assert int.from_bytes(data[place : place + 4], "little") == FRAMES
        data[place : place + 4] = (1000).to_bytes(4, "little")
    video.write_bytes(data)
    out = tmp_path / "out"
    done = run_mivos("segment", video, "--scribbles", clip.one_round, "-o", out, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["frames"] == FRAMES
    assert len(read_masks(out / "masks")) == FRAMES


def _scribbles(**stroke: object) -> str:
    data = scribble_json((0, [CYCLIST]))
    data["scribbles"][0][0].update(stroke)
    return json.dumps(data)


SCRIBBLES = {
    "not JSON": ("{'sequence': ", ()),
    "a list of numbers": ("[1, 2]", ()),
    "no scribbles field": ('{"sequence": "clip"}', ("scribbles",)),
    "a wrong length": (json.dumps(scribble_json((0, [CYCLIST]), frames=5)), ("5", "8")),
    "no strokes": (json.dumps(scribble_json()), ("stroke",)),
    "coordinates outside": (_scribbles(path=[[0.2, 0.2], [1.5, 0.3]]), ("frame 0", "path", "1.5")),
    "coordinates as text": (_scribbles(path=[["left", 0.2]]), ("frame 0", "path")),
    "an empty stroke": (_scribbles(path=[]), ("frame 0", "path")),
    "a negative object": (_scribbles(object_id=-1), ("frame 0", "object_id", "-1")),
    "an object number too large": (_scribbles(object_id=300), ("frame 0", "object_id", "300")),
    "an object by name": (_scribbles(object_id="dog"), ("frame 0", "object_id", "dog")),
}


@pytest.mark.parametrize("case", SCRIBBLES)
def test_bad_scribbles(case: str, clip: Clip, tmp_path: Path) -> None:
    text, words = SCRIBBLES[case]
    file, out = tmp_path / "bad.json", tmp_path / "out"
    file.write_text(text)
    check_refused(here("segment", clip.video, "--scribbles", file, "-o", out), 1, out, "bad.json", *words)


def test_missing_scribbles(clip: Clip, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = here("segment", clip.video, "--scribbles", tmp_path / "none.json", "-o", out)
    check_refused(done, 1, out, "none.json")


def _blurred() -> Image.Image:
    """A disk with soft edges, as a paint program saves it."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    distance = np.hypot(x - 200, y - 70)
    grey = (255 * np.clip((40 - distance) / 8 + 0.5, 0, 1)).astype(np.uint8)
    return Image.fromarray(np.stack([grey, grey // 2, grey // 3], -1))


MASKS: dict[str, tuple[Callable[[], Image.Image], tuple[str, ...]]] = {
    "the wrong size": (lambda: Image.new("P", (64, 64), 1), ("64x64", f"{WIDTH}x{HEIGHT}")),
    "RGB of odd colours": (
        lambda: Image.effect_noise((WIDTH, HEIGHT), 80).convert("RGB"),
        ("RGB", "colours"),
    ),
    "soft edges": (_blurred, ("colours",)),
    "no object": (lambda: Image.new("P", (WIDTH, HEIGHT), 0), ("no object",)),
}


@pytest.mark.parametrize("case", MASKS)
def test_bad_masks(case: str, clip: Clip, tmp_path: Path) -> None:
    make, words = MASKS[case]
    file, out = tmp_path / "bad.png", tmp_path / "out"
    make().save(file)
    check_refused(here("segment", clip.video, "--masks", file, "-o", out), 1, out, "bad.png", *words)


def test_soft_edges_can_be_snapped(clip: Clip, tmp_path: Path) -> None:
    file, out = tmp_path / "soft.png", tmp_path / "out"
    _blurred().save(file)
    done = run_mivos("segment", clip.video, "--masks", file, "--snap", "-o", out, "--format", "png")
    assert done.returncode == 0, done.stderr
    assert len(read_masks(out / "masks")) == FRAMES


def test_a_mask_for_a_frame_that_is_not_there(clip: Clip, tmp_path: Path) -> None:
    folder, out = tmp_path / "masks", tmp_path / "out"
    folder.mkdir()
    Image.new("P", (WIDTH, HEIGHT), 1).save(folder / "00099.png")
    check_refused(here("segment", clip.video, "--masks", folder, "-o", out), 1, out, "00099.png", "99")


def test_neither_scribbles_nor_masks(clip: Clip, tmp_path: Path) -> None:
    out = tmp_path / "out"
    check_refused(here("segment", clip.video, "-o", out), 2, out, "--scribbles", "--masks")


def test_an_unknown_model(clip: Clip, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = here("segment", clip.video, "--scribbles", clip.one_round, "-o", out, "--model", "huge")
    assert done.returncode in (1, 2)
    check_refused(done, done.returncode, out, "huge")


def test_an_output_that_cannot_be_made(clip: Clip, tmp_path: Path) -> None:
    # A folder below a file can be made by nobody, not even root.
    (tmp_path / "file").write_text("in the way")
    out = tmp_path / "file" / "out"
    done = here("segment", clip.video, "--scribbles", clip.one_round, "-o", out)
    check_refused(done, 1, out, str(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 256 kB, unmounted afterwards."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount a small tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("session", ["on the full disk", "elsewhere"])
def test_a_full_disk(session: str, clip: Clip, finished: Path, small_disk: Path, tmp_path: Path) -> None:
    out = small_disk / "out"
    command = ["segment", clip.video, "--scribbles", clip.two_rounds, "-o", out]
    if session == "elsewhere":
        # Leaves less room than the outputs need: encode is what fails.
        (small_disk / "ballast").write_bytes(bytes(236 * 1024))
        command += ["--session", tmp_path / "session"]
        shutil.copytree(finished / "session", tmp_path / "session")
    check_refused(run_mivos(*command), 1, out, str(small_disk))


# --- interruption ----------------------------------------------------------------------------------------


def test_ctrl_c(clip: Clip, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ("segment", clip.video, "--scribbles", clip.two_rounds, "-o", out)
    code, error = run_until("propagate", lambda process: process.send_signal(signal.SIGINT), *command)
    assert code == 130
    assert error.count("interrupted") == 1 and "Traceback" not in error
    assert left_behind(out) == []
    assert run_mivos(*command).returncode == 0
    assert np.array_equal(read_masks(out / "masks"), read_masks(finished / "masks"))


@pytest.mark.parametrize("stage", ["decode", "interact", "propagate", "encode"])
def test_kill_and_run_again(stage: str, clip: Clip, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ("segment", clip.video, "--scribbles", clip.two_rounds, "-o", out)
    code, error = run_until(stage, subprocess.Popen.kill, *command)
    assert code == -signal.SIGKILL, error
    assert not (out / "overlay.mp4").exists()
    done = run_mivos(*command)
    assert done.returncode == 0, done.stderr
    assert np.array_equal(read_masks(out / "masks"), read_masks(finished / "masks"))
    # What the killed process was writing is gone, too.
    assert {path.name for path in out.iterdir()} == {"session", "masks", "overlay.mp4"}


@pytest.mark.parametrize("stage", ["propagate", "fuse"])
def test_kill_a_single_stage_and_run_it_again(stage: str, clip: Clip, finished: Path, tmp_path: Path) -> None:
    session = tmp_path / "session"
    shutil.copytree(finished / "session", session)
    stages: tuple[tuple[str | Path, ...], ...] = (
        ("undo", session),
        ("interact", session, "--scribbles", clip.two_rounds),
        ("propagate", session),
        ("fuse", session),
        ("encode", session, "-o", tmp_path / "out", "--format", "png"),
    )
    for arguments in stages:
        if arguments[0] == stage:
            code, error = run_until(stage, subprocess.Popen.kill, *arguments)
            assert code == -signal.SIGKILL, error
        done = run_mivos(*arguments)
        assert done.returncode == 0, f"{arguments[0]}: {done.stderr}"
    assert np.array_equal(read_masks(tmp_path / "out" / "masks"), read_masks(finished / "masks"))


# --- memory ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_memory_does_not_grow_with_the_video(carphone_video: Path, tmp_path: Path) -> None:
    def peak(frames: int) -> float:
        video = tmp_path / f"{frames}.mp4"
        with av.open(str(carphone_video)) as reader, av.open(str(video), "w") as writer:
            images = [frame.reformat(96, 80, "yuv420p") for frame in reader.decode(video=0)]
            stream = writer.add_stream("libx264", rate=30)
            assert isinstance(stream, av.VideoStream)
            stream.width, stream.height, stream.pix_fmt = 96, 80, "yuv420p"
            for index in range(frames):
                there, back = divmod(index, len(images))
                image = images[back if there % 2 == 0 else -1 - back]
                image.pts, image.pict_type, image.time_base = index, 0, Fraction(1, 30)
                writer.mux(stream.encode(image))
            writer.mux(stream.encode())
        scribbles = tmp_path / f"{frames}.json"
        man = (1, [[0.5, 0.3], [0.5, 0.6], [0.5, 0.9]])
        scribbles.write_text(json.dumps(scribble_json((0, [man]), frames=frames)))
        command = ["segment", str(video), "--scribbles", str(scribbles), "-o", str(tmp_path / f"out{frames}")]
        return _peak_memory(command)

    short, long = peak(100), peak(1000)
    assert long < short + 40, f"{short:.0f} MB for 100 frames, {long:.0f} MB for 1,000"


def _peak_memory(command: list[str]) -> float:
    """Highest resident memory of a `mivos` process, MB."""
    process = start_mivos(*command)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_maxrss / 1024
