"""Which frames of a file of annotations become rounds.

Each round carries its masks through the whole video, so a round for every frame of a dense export would cost much and
bring nothing. By default a few frames are taken: the first one of each object, because nothing else says where it
begins, and others spread evenly over those that a person annotated.
"""

from __future__ import annotations

from stores.errors import UsageError
from stores.exchange.annotations import Annotations

DEFAULT = "10"
MAX_FRAMES = 1_000_000


def check_rule(rule: str) -> str:
    """`rule` if it is "all", "keyframes" or a number of frames from 1 on; UsageError if not."""
    if rule in ("all", "keyframes") or (rule.isascii() and rule.isdecimal() and 1 <= int(rule[:7]) <= MAX_FRAMES):
        return rule
    raise UsageError(f"{rule!r} is no choice of frames", hint="--import-frames all, keyframes or a number")


def keyframes(annotations: Annotations) -> list[int]:
    """Frames that a person annotated, in order; all with annotations if the file does not tell. None before the first
    object is seen."""
    frames = sorted(annotations.frames)
    seen = next(index for index, frame in enumerate(frames) if annotations.frames[frame])
    frames = frames[seen:]
    drawn = [
        frame
        for frame in frames
        if not annotations.frames[frame] or any(region.keyframe for region in annotations.frames[frame])
    ]
    return drawn if any(annotations.frames[frame] for frame in drawn) else frames


def select(annotations: Annotations, rule: str = DEFAULT) -> list[int]:
    """The frames to take, in order.

    Args:
        rule: "all" annotated frames, "keyframes", or at most this many keyframes (more if more objects begin).
    """
    check_rule(rule)
    if rule == "all":
        frames = sorted(annotations.frames)
        return frames[next(index for index, frame in enumerate(frames) if annotations.frames[frame]) :]
    drawn = keyframes(annotations)
    if rule == "keyframes" or len(drawn) <= int(rule):
        return drawn
    first: dict[object, int] = {}
    for frame in drawn:
        for region in annotations.frames[frame]:
            first.setdefault(annotations.ids[region.thing], frame)
    chosen = set(first.values())
    rest = [frame for frame in drawn if frame not in chosen]
    more = max(0, int(rule) - len(chosen))
    # the last of `more` equal parts of what is left each give their last frame
    chosen.update(rest[(number + 1) * len(rest) // more - 1] for number in range(more))
    return sorted(chosen)
