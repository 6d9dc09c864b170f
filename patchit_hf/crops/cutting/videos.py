"""Read frames of videos with PyAV: in order, decoding each at most once, one in memory."""

from __future__ import annotations

import os
import re
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from patchit_hf.common.errors import InputError, one_line
from patchit_hf.common.names import Matches, files_below, image_endings
from patchit_hf.data.frame_names import VIDEOS, find_videos
from patchit_hf.data.pictures import BadPictureError, Picture

ORIENTATIONS = {0: 1, 90: 8, 180: 3, -180: 3, -90: 6, 270: 6}  # EXIF tag by degrees anticlockwise


class VideoFolder:
    """The frames of one video, or of all videos below a folder, as images: ``cam.mp4#17``.

    Args:
        root: a video or a folder.
        first: number of the first frame in the boxes, 0 or 1.

    Raises:
        InputError: if PyAV is not installed.
    """

    def __init__(self, root: str | Path, first: int = 0) -> None:
        path = Path(root).expanduser()
        self.root = path if path.is_dir() else path.parent
        self.files = video_files(path)
        self.first = first
        self._reader: FrameReader | None = None
        self._sizes: dict[tuple[str, bool], tuple[int, int] | None] = {}
        try:
            import av  # noqa: F401
        except ImportError as error:
            raise InputError(
                f"--images {str(root)!r}: videos need PyAV; pip install 'patchit_hf[video]'"
            ) from error

    def match(self, names: list[str]) -> Matches:
        """Return each name as ``video#number``, and why others mean no frame; see ``find_videos``.

        Frame 17 is ``cam.mp4#17``, ``cam/img1/000017.jpg``, ``cam_17`` or, if there is only one
        video, ``17``.
        """
        frames = {name: frame for name in names if (frame := _frame(name)) is not None}
        videos, no_video = find_videos([video for video, _ in frames.values()], self.files)
        files: list[str | None] = []
        why = {}
        for name in names:
            video, number = frames.get(name, ("", -1))
            there = videos.get(video) if name in frames else None
            if there is None:
                why[name] = no_video[video] if name in frames else "names no frame of a video"
            elif number < self.first:
                there, why[name] = None, f"no frame {number}; the first is 1 (--first-frame)"
            files.append(None if there is None else f"{there}#{number}")
        return Matches(files, why)

    def number(self, file: str) -> int:
        """Return the index of a frame in its video, from 0."""
        return int(file.rpartition("#")[2]) - self.first

    def size(self, file: str, *, stored: bool) -> tuple[int, int] | None:
        """Return width and height of a video, as stored or as shown; None if it cannot be read."""
        video = file.rpartition("#")[0]
        if (video, stored) not in self._sizes:
            try:
                with FrameReader(self.root / video) as reader:
                    size = reader.size if stored else reader.picture(0).pixels.size
                    self._sizes[video, stored] = size
            except BadPictureError:
                self._sizes[video, stored] = None
        return self._sizes[video, stored]

    def picture(self, file: str, max_pixels: int) -> Picture:
        """Return a frame. If frames are asked for in order, each is decoded only once.

        Raises:
            BadPictureError: if the video or the frame cannot be read.
        """
        path = self.root / file.rpartition("#")[0]
        if self._reader is None or self._reader.path != path:
            self.close()
            self._reader = FrameReader(path)
        width, height = self._reader.size
        if width * height > max_pixels:
            raise BadPictureError(f"{width}x{height} pixels, more than --max-pixels {max_pixels}")
        return self._reader.picture(self.number(file))

    def close(self) -> None:
        """Close the video that is open."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def frames(self, every: int = 1) -> Iterator[tuple[str, Picture | str]]:
        """Yield the name of every k-th frame of all videos, and the frame or why it is bad."""
        for video in self.files:
            try:
                with FrameReader(self.root / video) as reader:
                    for number in range(0, reader.count, every):
                        yield f"{video}#{number + self.first}", reader.picture(number)
            except BadPictureError as error:
                yield f"{video}#{self.first}", str(error)


class FrameReader:
    """Reads the frames of one video.

    The packets tell first which frames there are and which are keyframes, so that a jump to a
    distant frame decodes only what it needs.

    Args:
        path: the file.

    Attributes:
        size: width and height as stored, in pixels.
        count: number of frames.
        decoded: number of frames decoded so far.

    Raises:
        BadPictureError: if the file is not a video, or holds no frame.
    """

    def __init__(self, path: Path) -> None:
        import av

        self.path, self.decoded = path, 0
        self._errors = (av.FFmpegError, EOFError, OSError, ValueError)
        self._container: Any = None
        self._jumps = self._jumped = False
        self._open()
        self.size = (getattr(self._stream, "width", 0), getattr(self._stream, "height", 0))
        if not all(self.size):
            self.close()
            raise BadPictureError("the video has a codec that cannot be decoded")
        self._times, self._keys = self._index()
        self.count = len(self._times)
        if not self.count:
            self.close()
            raise BadPictureError("the video has no frame")
        container: Any = self._container
        self._jumps = not container.format.name.startswith("mpeg")  # these have no index
        self._open()

    def picture(self, number: int) -> Picture:
        """Return a frame by its index from 0; going forward decodes no frame twice.

        Raises:
            BadPictureError: if there is no such frame, or it is damaged.
        """
        if number >= self.count:
            stated = self._stream.frames
            whole = f" of the {stated} that it should have, so it is cut off" * (
                stated > self.count
            )
            raise BadPictureError(f"frame {number}: the video has {self.count} frames{whole}")
        try:
            frame = self._frame(self._times[number])
        except self._errors as error:
            raise BadPictureError(f"frame {number}: damaged: {_words(error)}") from error
        if frame is None:
            raise BadPictureError(f"frame {number}: damaged: it cannot be decoded")
        pixels = frame.to_ndarray(format="rgb24")
        turn = int(getattr(frame, "rotation", 0) or 0)
        orientation = ORIENTATIONS.get(turn, 1)
        shown = np.ascontiguousarray(np.rot90(pixels, turn // 90)) if orientation != 1 else pixels
        notes = ("turned as the video says",) if orientation != 1 else ()
        stored = (pixels.shape[1], pixels.shape[0])
        return Picture(Image.fromarray(shown), None, stored, orientation, notes)

    def close(self) -> None:
        """Close the file."""
        if self._container is not None:
            self._container.close()

    def __enter__(self) -> FrameReader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _open(self) -> None:
        """Open the file at its beginning."""
        import av

        self.close()
        try:
            self._container = av.open(str(self.path), metadata_errors="replace")
        except self._errors as error:
            raise BadPictureError(f"not a readable video: {_words(error)}") from error
        if not self._container.streams.video:
            self.close()
            raise BadPictureError("the file has no video stream")
        self._stream: Any = self._container.streams.video[0]
        # With logging on (old torchvision switches it on), PyAV's decoding threads wait for the
        # interpreter to write their lines, and freeing a decoder waits for them: forever.
        self._stream.thread_type = "AUTO" if av.logging.get_level() is None else "NONE"
        self._frames: Any = self._container.decode(self._stream)
        self._position: int | None = None
        self._ahead: Any = None

    def _index(self) -> tuple[array[int], array[int]]:
        """Return the sorted times of all frames and of the keyframes."""
        times, keys = array("q"), array("q")
        try:
            for packet in self._container.demux(self._stream):
                time = packet.dts if packet.pts is None else packet.pts
                if time is None or packet.is_discard:
                    continue
                times.append(time)
                if packet.is_keyframe:
                    keys.append(time)
        except self._errors:  # frames after the damage do not count
            pass
        return array("q", sorted(times)), array("q", sorted(keys))

    def _frame(self, time: int) -> Any:
        """Decode up to a time; None if the video turns out to lack that frame."""
        self._go_to(time)
        while self._ahead is None or self._ahead.pts < time:
            frame = next(self._frames, None)
            if frame is None:
                return None
            self.decoded += 1
            if frame.pts is None:
                frame.pts = frame.dts
            self._position, self._ahead = frame.pts, frame
            if self._jumps and self._jumped and frame.pts > time:  # the jump went too far
                self._jumps = False
                self._open()
            self._jumped = False
        return self._ahead if self._ahead.pts == time else None

    def _go_to(self, time: int) -> None:
        """Jump to the last keyframe before a time, if it lies ahead of the current position."""
        self._jumped = False
        if self._position is not None and self._position > time:
            self._open()
        index = bisect_right(self._keys, time) - 1
        ahead = self._position is None or self._keys[max(index, 0)] > self._position
        if self._jumps and index > 0 and ahead:
            self._container.seek(self._keys[index], stream=self._stream)
            self._frames, self._ahead = self._container.decode(self._stream), None
            self._jumped = True


def video_files(path: Path) -> list[str]:
    """Return the videos at or below a path, relative to the folder and sorted."""
    if path.is_file():
        return [path.name] if path.suffix.lower() in VIDEOS else []
    return sorted(files_below(path, VIDEOS))


def _frame(name: str) -> tuple[str, int] | None:
    """Return the video and the number that the name of a frame holds; None if it holds none."""
    where, mark, number = name.rpartition("#")
    if mark and number.isdecimal():
        return where, int(number)
    folder, _, last = name.rpartition("/")
    stem, ending = os.path.splitext(last)
    match = re.fullmatch(r"(.*?)(\d+)", stem if ending.lower() in image_endings() else last)
    if match is None:
        return None
    return f"{folder}/{match[1].rstrip('_-. ')}".strip("/"), int(match[2])


def _words(error: Exception) -> str:
    return one_line(getattr(error, "strerror", None) or error)
