"""A token, or an address with a password, is in no file that a run leaves or pushes."""

import sys

import pytest

from patchit_hf.pretrain import main
from tests.conftest import make_crops
from tests.data.spoilt import saved
from tests.hub.server import Hub


@pytest.mark.e2e
def test_no_secret_is_in_a_folder_or_on_the_hub(tmp_path, monkeypatch, capfd, hub: Hub):
    other = "hf_" + "qW3eR5tY7u" * 3
    folder = tmp_path / f"crops-{other}"
    folder.mkdir()
    for number, image in enumerate(make_crops(24)):
        (folder / f"{number}.png").write_bytes(saved(image))
    (folder / "bad.png").write_bytes(b"no image")
    (folder / "README.md").write_text(
        f"---\nlicense: 'see https://me:pass-word@host/{other}'\n---\n"
    )
    words = [
        "--backbone", "test_resnet", "--canvas", "50x25", "--batch-size", "8", "--max-steps", "2",
        "--task-kwargs", "rows=3", "cols=2", "patch_size=8", "--no-figures", "--no-audit",
        "--save-every", "1", "--on-bad-image", "skip", "--dataset", str(folder), "--output-dir",
        str(tmp_path / "run"), "--push-to-hub", "--hub-model-id", "org/patchit",
    ]  # fmt: skip
    typed = [*words, f"--x={hub.token}", "https://me:pass-word@host/?token=to-ken"]
    monkeypatch.setattr(sys, "argv", ["patchit", *typed])
    assert main(words) == 0
    said = capfd.readouterr()
    left = {
        str(file.relative_to(tmp_path)): file.read_bytes()
        for file in (tmp_path / "run").rglob("*")
        if file.is_file()
    }
    pushed = {f"hub/{name}": content for name, content in hub.files("org/patchit").items()}
    assert {"run/patchit.json", "run/README.md", "run/run.json", "run/bad_images.jsonl"} <= set(
        left
    )
    assert {"hub/patchit.json", "hub/README.md"} <= set(pushed)
    told = {"stdout": said.out.encode(), "stderr": said.err.encode()}
    for name, content in {**left, **pushed, **told}.items():
        for secret in (other, hub.token, "pass-word", "to-ken"):
            assert secret.encode() not in content, (name, secret)
    assert b"--x=*** " in left["run/patchit.json"]
    assert b"***@host" in left["run/README.md"].replace(b"\\*", b"*")
    assert str(tmp_path).encode() not in left["run/README.md"]
