"""Faults of data sets: data that change under a run, and data that somebody else made."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fault_base import Case

from tests.conftest import make_crops
from tests.data.spoilt import bomb, saved

MODES = {"cached": [], "on the fly": ["--crop-cache-gb", "0"], "streamed": ["--streaming"]}
SKIP = ["--on-bad-image", "skip"]
HOSTILE = "\n# Heading\n<script>alert(1)</script> \x1b[31mred\x1b]0;title\x07"
SECRET = "hf_" + "qW3eR5tY7u" * 3


def cases() -> Iterator[Case]:
    """Yield all of them."""
    yield from _changed()
    yield from _pictures()
    yield from _folders()
    yield from _texts()


def images(folder: Path) -> Path:
    """Write 48 images in two splits."""
    for number, image in enumerate(make_crops(48, 50, 25)):
        file = folder / ("validation" if number % 6 == 0 else "train") / f"{number:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(saved(image))
    return folder


# -- data that change under a run ------------------------------------------------------------------


def _keeping_the_time(file: Path) -> None:
    """Put another image into a file, which keeps its time."""
    state = file.stat()
    file.write_bytes(saved(make_crops(1, 50, 25, seed=9)[0]))
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))


CHANGES: dict[str, Callable[[Path], None]] = {
    "a validation image changed": lambda f: _keeping_the_time(f / "validation" / "06.png"),
    "a training image changed, with its old time": lambda f: _keeping_the_time(
        f / "train" / "07.png"
    ),
    "an image was removed": lambda f: (f / "train" / "08.png").unlink(),
    "an image was added": lambda f: (f / "train" / "99.png").write_bytes(
        saved(make_crops(1, 50, 25, seed=9)[0])
    ),
}


def begin(scene: Any, mode: str) -> None:
    """Make a run on images of its own that ended after four of six steps."""
    scene.data = images(scene.work / "images")
    shutil.copytree(scene.data, scene.work / "whole-images")
    scene.words = [*scene.words, *MODES[mode]]
    scene.start()
    scene.whole = (scene.run / "model.safetensors").read_bytes()
    scene.unfinish()


def put_back(scene: Any) -> None:
    """Make the images what they were."""
    shutil.rmtree(scene.data)
    shutil.copytree(scene.work / "whole-images", scene.data)


def _changed() -> Iterator[Case]:
    for mode in MODES:
        for name, change in CHANGES.items():

            def provoke(scene: Any, stack: Any, mode: str = mode, change: Any = change) -> None:
                begin(scene, mode)
                change(scene.data)
                scene.start()

            yield Case("changed data", f"{name} ({mode})", provoke, 2, put_back)

        def touched(scene: Any, stack: Any, mode: str = mode) -> None:
            begin(scene, mode)
            for file in scene.data.rglob("*.png"):
                os.utime(file)
            scene.start()

        yield Case("changed data", f"the files were only touched ({mode})", touched)

    def allowed(scene: Any, stack: Any) -> None:
        begin(scene, "on the fly")
        CHANGES["a validation image changed"](scene.data)
        scene.words += ["--allow-changed-data"]
        scene.expected = "finished"
        scene.start()
        changes = json.loads((scene.run / "patchit.json").read_text())["training"]["changes"]
        scene.look("patchit.json says after which step", changes[0]["after_step"] == 4)

    yield Case("changed data", "the same, with --allow-changed-data", allowed)


# -- images and archives that somebody else made ---------------------------------------------------


def _pictures() -> Iterator[Case]:
    def postscript(scene: Any, stack: Any) -> None:
        scene.data, scene.expected = images(scene.work / "images"), "finished"
        (scene.data / "train" / "007.png").write_bytes(
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 25 50\nshowpage\n%%EOF\n"
        )
        started, programs = scene.work / "started", scene.work / "bin"
        programs.mkdir()
        (programs / "gs").write_text(f"#!/bin/sh\ntouch {started}\n")
        (programs / "gs").chmod(0o755)
        scene.how |= {"env": {"PATH": f"{programs}:{os.environ['PATH']}"}}
        scene.words += SKIP
        scene.start()
        scene.look("Ghostscript was not started", not started.exists())

    yield Case("hostile data", "PostScript in a file named 007.png", postscript)

    def huge(scene: Any, stack: Any) -> None:
        scene.data, scene.expected = images(scene.work / "images"), "finished"
        (scene.data / "train" / "huge.png").write_bytes(bomb(60_000, 60_000))
        scene.words += SKIP
        scene.start()

    yield Case("hostile data", "a PNG of 3.6 gigapixels", huge)

    for kind, streamed in (("pth", True), ("pth", False), ("npy", True)):

        def pickles(scene: Any, stack: Any, kind: str = kind, streamed: bool = streamed) -> None:
            ran = scene.work / "ran"
            scene.data, scene.expected = scene.work / "tars", "refused"
            write_tar(scene.data, kind, pickle.dumps(Runs(str(ran))))
            scene.words += MODES["streamed"] if streamed else []
            scene.start()
            scene.look("the pickle did not run", not ran.exists())

        name = f"pickles (.{kind}) in a tar" + ", streamed" * streamed
        yield Case("hostile data", name, pickles, 2)


class Runs:
    """What a hostile pickle holds: a command that is run when it is read."""

    def __init__(self, file: str) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.file}",)


def write_tar(folder: Path, kind: str, content: bytes) -> None:
    """Write an archive of 16 images, each with a file of this kind beside it."""
    folder.mkdir()
    with tarfile.open(folder / "train-00000.tar", "w") as archive:
        for number, image in enumerate(make_crops(16, 50, 25)):
            for ending, data in (("png", saved(image)), (kind, content)):
                info = tarfile.TarInfo(f"{number:04}.{ending}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))


def _folders() -> Iterator[Case]:
    ways = {
        "an absolute path": "{private}/photo.png",
        "a path outside of the folder": "{data}/../private/photo.png",
        "file://": "file://{private}/photo.png",
        "a URL": "http://127.0.0.1:1/photo.png",
        "an archive at a URL": "zip://photo.png::https://127.0.0.1:1/a.zip",
    }
    for name, way in ways.items():

        def named(scene: Any, stack: Any, way: str = way) -> None:
            scene.data, scene.expected = scene.work / "table", "refused"
            private = scene.work / "private"
            private.mkdir()
            (private / "photo.png").write_bytes(saved(make_crops(1, 50, 25)[0]))
            write_paths(scene.data, way.format(private=private, data=scene.data))
            scene.start()

        yield Case("hostile data", f"a row of Parquet names {name}", named, 2)

    def link(scene: Any, stack: Any) -> None:
        scene.data, scene.expected = images(scene.work / "images"), "refused"
        (scene.data / "train" / "all").symlink_to("/")
        scene.start(seconds=120)

    yield Case("hostile data", "a symbolic link to /", link, 2)

    def script(scene: Any, stack: Any) -> None:
        scene.data, scene.expected = images(scene.work / "images"), "refused"
        (scene.data / "images.py").write_text(f"open({str(scene.work / 'ran')!r}, 'w')\n")
        scene.start()
        scene.look("the script did not run", not (scene.work / "ran").exists())

    yield Case("hostile data", "a .py named like the folder", script, 2)


def write_paths(folder: Path, path: str) -> None:
    """Write a table of Parquet whose images are named by this path and not held."""
    import datasets
    import pyarrow
    import pyarrow.parquet

    folder.mkdir()
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    rows = pyarrow.array([{"bytes": None, "path": path}] * 16, kind)
    features = datasets.Features({"image": datasets.Image()}).to_dict()
    about = json.dumps({"info": {"features": features}})
    table = pyarrow.table({"image": rows}).replace_schema_metadata({"huggingface": about})
    pyarrow.parquet.write_table(table, folder / "train.parquet")


# -- text that somebody else wrote -----------------------------------------------------------------


def _texts() -> Iterator[Case]:
    def licence(scene: Any, stack: Any) -> None:
        scene.data = images(scene.work / "images <script>alert(1) \x1b]0;title\x07")
        header = json.dumps({"license": HOSTILE, "pretty_name": HOSTILE})
        (scene.data / "README.md").write_text(f"---\n{header}\n---\n")
        scene.expected = "finished"
        scene.start()
        card = (scene.run / "README.md").read_text()
        _, _, body = card.split("---\n", 2)
        body = re.sub(r"(?ms)^```.*?^```$|`[^`\n]+`", "", body)  # code is shown, and not obeyed
        scene.look("no <script> outside of code", "<script" not in body and "&lt;script" in body)
        scene.look("no heading of theirs", "\n# Heading" not in card)
        told = scene.log.read_bytes() + card.encode()
        escapes = b"\x1b[31m" in told or b"\x1b]0;" in told
        scene.look("no escape in card or on the terminal", not escapes)

    yield Case("hostile data", "a licence and a name with heading, script and escapes", licence)

    def columns(scene: Any, stack: Any) -> None:
        import datasets

        scene.data, scene.expected = scene.work / "table", "refused"
        scene.data.mkdir()
        rows = {f"person{HOSTILE}": [1] * 16, "image": ["no image"] * 16}
        datasets.Dataset.from_dict(rows).to_parquet(str(scene.data / "train.parquet"))
        scene.words += ["--image-column", "nothing"]
        scene.start()
        scene.look("no escape on the terminal", b"\x1b[31m" not in scene.log.read_bytes())

    yield Case("hostile data", "columns with script and escapes, one that is not there", columns, 2)

    def path(scene: Any, stack: Any) -> None:
        scene.data, scene.expected = images(scene.work / "somebody" / "crops"), "finished"
        scene.start()
        files = [scene.run / name for name in ("README.md", "config.json")]
        text = "".join(file.read_text() for file in files)
        scene.look("no local path in card and metadata", str(scene.work) not in text)

    yield Case("private", "the full path of the crops", path)

    def secret(scene: Any, stack: Any) -> None:
        address = f"https://me:pass-word@host/{SECRET}"
        scene.data, scene.expected = images(scene.work / f"crops-{SECRET}"), "finished"
        (scene.data / "README.md").write_text(f"---\nlicense: 'see {address}'\n---\n")
        (scene.data / "train" / "bad.png").write_bytes(b"no image")
        scene.words += SKIP
        scene.how |= {"argv": [f"--x={SECRET}", address], "env": {"HF_TOKEN": SECRET}}
        scene.start()
        files = [scene.log, *(file for file in scene.run.rglob("*") if file.is_file())]
        text = b"".join(file.read_bytes() for file in files)
        hidden = SECRET.encode() not in text and b"pass-word" not in text
        scene.look(f"none in {len(files)} files and the log", hidden)

    yield Case("private", "a token, and a URL with a password, in what is typed and named", secret)

    for name, text, code, mend in (
        ("its README.md is nested 100,000 deep", "a: " + "[" * 100_000, 2, without_card),
        ("its README.md has an alias bomb", alias_bomb(), 0, None),
    ):

        def nested(scene: Any, stack: Any, text: str = text) -> None:
            scene.data, scene.expected = images(scene.work / "images"), "finished"
            (scene.data / "README.md").write_text(f"---\n{text}\n---\n")
            scene.start(seconds=300)

        yield Case("hostile data", name, nested, code, mend)


def without_card(scene: Any) -> None:
    """Remove the data set's card."""
    (scene.data / "README.md").unlink()


def alias_bomb() -> str:
    """Return YAML that names a list of ten things ten times, and this ten times, and so on."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for i in range(1, 10):
        lines.append(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]")
    return "\n".join(lines)
