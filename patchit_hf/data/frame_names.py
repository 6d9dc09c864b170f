"""Frames of a video, by their numbers, in a folder of images: ``cam.mp4#17``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import PurePosixPath

from patchit_hf.common.names import KINDS, Matches, match_names

VIDEOS = (
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts",
    ".wmv", ".flv", ".ogv", ".3gp",
)  # fmt: skip
Frames = dict[int, list[str]]


def match_frames(
    found: Matches, names: list[str], files: list[str], first: int | None = None
) -> Matches:
    """Find the files of those names that are frames of a video and have no file yet.

    The part before ``#`` is the video, whose frames lie in a folder of its name, or begin with it;
    it may be missing where there is one folder of frames. The number is that of the file's name.

    Args:
        found: the files found so far.
        names: all names.
        files: all files.
        first: number of the first frame; the files of a video are counted from it if given.

    Example:
        >>> names = ["cam.mp4#7", "cam.mp4#8"]
        >>> found = match_frames(Matches([None, None]), names, ["cam/00007.jpg", "b/00007.jpg"])
        >>> found.files, found.why
        (['cam/00007.jpg', None], {'cam.mp4#8': 'no frame 8; the frames of cam are 7 to 7'})
    """
    wanted = {
        name: (match[1], int(match[2]))
        for name, file in zip(names, found.files, strict=True)
        if file is None and (match := re.fullmatch(r"(.*)#(\d+)", name))
    }
    if not wanted:
        return found
    videos = _videos(files)
    which, no_video = find_videos([video for video, _ in wanted.values()], list(videos))
    taken, why = dict(zip(names, found.files, strict=True)), dict(found.why)
    for name, (video, number) in wanted.items():
        there = which[video]
        if there is None:
            why[name] = no_video[video]
            continue
        frames = videos[there]
        order = sorted(frames)
        if first is not None:
            number = order[number - first] if 0 <= number - first < len(order) else -1
        here = frames.get(number, [])
        if len(here) == 1:
            taken[name] = here[0]
            why.pop(name, None)
        elif here:
            why[name] = f"several files could be it: {here[0]}, {here[1]}"
        else:
            why[name] = _no_frame(name, there, order, first)
    return replace(found, files=[taken[name] for name in names], why=why)


def find_videos(
    names: Iterable[str], videos: list[str]
) -> tuple[dict[str, str | None], dict[str, str]]:
    """Find the video that each name means; see ``match_names``.

    A name that contains a folder called like a video means that video. If there is one video, and
    one name for which nothing else is found, they belong together. No two names get one video.

    Args:
        names: videos, or folders of frames, as detections name them; empty if they name none.
        videos: the videos, relative to their folder.

    Returns:
        The video of each name, or None; and why a name has none.

    Example:
        >>> find_videos(["", ""], ["a.mp4"])[0]
        {'': 'a.mp4'}
        >>> find_videos(["a", "b"], ["a.mp4"])
        ({'a': 'a.mp4', 'b': None}, {'b': 'no such video; a.mp4 is a'})
    """
    called = {name: _of_video(name) for name in names}
    every = list(dict.fromkeys(called.values()))
    matches = match_names(every, videos, VIDEOS)
    found = dict(zip(every, matches.files, strict=True))
    owner = {video: name for name, video in found.items() if video}
    why: dict[str, str] = {}
    missing = [name for name, video in found.items() if video is None]
    for name in missing:
        parts = set(PurePosixPath(name).parts)
        among = [video for video in videos if PurePosixPath(video).stem in parts]
        if not among and (not name or len(videos) == len(missing) == 1):
            among = videos
        if len(among) > 1:
            why[name] = f"several videos could be it: {among[0]}, {among[1]}"
        elif among and among[0] in owner:
            why[name] = f"no such video; {among[0]} is {owner[among[0]] or 'taken'}"
        elif among and (name or len(missing) == 1):
            found[name] = among[0]
            owner[among[0]] = name
        elif len(videos) == 1 and len(missing) > 1:
            other = next(one for one in missing if one != name)
            why[name] = f"no such video; {videos[0]} could be {name or '?'} or {other or '?'}"
        else:
            why[name] = "no such video"
    return (
        {name: found[word] for name, word in called.items()},
        {name: why[word] for name, word in called.items() if word in why},
    )


def _videos(files: list[str]) -> dict[str, Frames]:
    """Return folders of frames, named like their video: its frames by number."""
    groups: dict[tuple[str, str], Frames] = {}
    for file in files:
        folder, _, last = file.rpartition("/")
        match = re.fullmatch(r"(.*?)(\d+)", os.path.splitext(last)[0])
        if match:
            frames = groups.setdefault((folder, match[1].rstrip("_-. ")), {})
            frames.setdefault(int(match[2]), []).append(file)
    alone = {folder: sum(1 for other, _ in groups if other == folder) == 1 for folder, _ in groups}
    named: dict[str, Frames] = {}
    for (folder, prefix), frames in groups.items():
        whole = f"{folder}/{prefix}".strip("/")
        label = (_of_video(folder) or whole) if alone[folder] else whole
        for number, several in frames.items():
            named.setdefault(label, {}).setdefault(number, []).extend(several)
    return named


def _of_video(name: str) -> str:
    """Return a folder's path without ``img1`` and the like at its end; empty for the root."""
    parts = [part for part in PurePosixPath(name).parts if part != "."]
    while parts and parts[-1].lower() in KINDS:
        parts.pop()
    return "/".join(parts)


def _no_frame(name: str, video: str, order: list[int], first: int | None) -> str:
    number = int(name.rpartition("#")[2])
    if first is not None:
        return f"no frame {number}; {video} has {len(order)} frames from {first} (--first-frame)"
    text = f"no frame {number}; the frames of {video} are {order[0]} to {order[-1]}"
    return text + "; if the boxes count from 0, give --first-frame 0" * (number < order[0])
