"""Sound that accompanies a video being written: copied packet by packet where the container takes it."""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import av

from stores.ffmpeg import OPEN_OPTIONS

logger = logging.getLogger("mivos")


class SoundTrack:
    """The sound of a file on its way into another one, as far as time has come.

    Args:
        source: the opened input.
        target: the output container, header not yet written.
        copied: codec names that are copied; tracks of others are re-encoded.
        encoder: for those.
        origin: seconds of the input that are zero in the output.
        path: of the input, for messages.
    """

    def __init__(
        self, source: Any, target: Any, copied: frozenset[str], encoder: str, origin: Fraction, path: Path
    ) -> None:
        self.source, self.target, self.origin, self.path = source, target, origin, path
        self.outputs: dict[int, tuple[Any, bool]] = {}  # input stream index -> (output stream, copied)
        for stream in source.streams.audio:
            if stream.codec_context is None:
                logger.warning("%s: sound track %d has no decoder, left out", path, stream.index)
            elif stream.codec_context.name in copied:
                self.outputs[stream.index] = (target.add_stream_from_template(stream), True)
            elif (settings := _encoder_settings(encoder, stream)) is not None:
                rate, layout = settings
                output = target.add_stream(encoder, rate=rate)
                output.layout = layout
                self.outputs[stream.index] = (output, False)
            else:
                logger.warning("%s: sound track %d cannot be re-encoded, left out", path, stream.index)
        self.packets = source.demux([s for s in source.streams.audio if s.index in self.outputs])
        self.waiting: Any = None
        self.last: dict[int, int] = {}  # input stream index -> last time stamp passed on
        self.done = not self.outputs

    @classmethod
    def open(cls, path: Path, target: Any, copied: frozenset[str], encoder: str, origin: Fraction) -> Self | None:
        """None if there is no sound to be had; a warning says why if there should be."""
        try:
            return cls(av.open(str(path.absolute()), options=OPEN_OPTIONS), target, copied, encoder, origin, path)
        except (av.FFmpegError, OSError, ValueError) as error:
            logger.warning("%s: its sound cannot be read and is left out (%s)", path, error)
            return None

    def mux_until(self, seconds: Fraction | None) -> None:
        """Pass on everything before this output time; None = all that is left."""
        while not self.done:
            try:
                packet = self.waiting or next(self.packets)
            except StopIteration:
                self.done = True
                return
            except (av.FFmpegError, OSError, ValueError) as error:
                logger.warning("%s: its sound is damaged and ends early (%s)", self.path, error)
                self.done = True
                return
            time = packet.dts if packet.dts is not None else packet.pts
            if seconds is not None and time is not None and time * packet.time_base - self.origin > seconds:
                self.waiting = packet
                return
            self.waiting = None
            self._pass_on(packet)

    def _pass_on(self, packet: Any) -> None:
        output, copied = self.outputs[packet.stream.index]
        if not copied:
            try:
                frames = packet.decode()
            except (av.FFmpegError, ValueError):
                return  # one unreadable packet is a few milliseconds
            for frame in frames:
                if frame.pts is not None:
                    frame.pts -= round(self.origin / frame.time_base)
                self.target.mux(output.encode(frame))
            if packet.size == 0:  # the demuxer's end mark
                self.target.mux(output.encode(None))
        elif packet.size and packet.pts is not None:
            shift = round(self.origin / packet.time_base)
            time = packet.dts if packet.dts is not None else packet.pts
            if time <= self.last.get(packet.stream.index, time - 1):
                return  # no container takes a step back; the packet is damaged or double
            self.last[packet.stream.index] = time
            packet.dts, packet.pts = time - shift, packet.pts - shift
            packet.stream = output
            self.target.mux(packet)

    def close(self) -> None:
        self.source.close()


def _encoder_settings(encoder: str, stream: Any) -> tuple[int, str] | None:
    """(sample rate, channel layout) nearest to the stream's that the encoder takes."""
    channels = stream.layout.nb_channels
    usual = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}.get(channels, "stereo")
    # Old formats count channels without naming them, and some have more than an encoder knows.
    for layout in dict.fromkeys((stream.layout.name, usual, "stereo")):
        for rate in dict.fromkeys((stream.rate, 48000)):
            trial: Any = av.CodecContext.create(encoder, "w")
            trial.rate, trial.layout, trial.format = rate, layout, trial.codec.audio_formats[0]
            try:
                trial.open()
            except (av.FFmpegError, ValueError):
                continue
            return rate, layout
    return None
