"""Pushing and fetching by Xet, the client's own way where `hf_xet` is installed."""

import pytest

from tests.hub import xet
from tests.hub.server import Hub
from tests.publish.folders import EXPORT, make_export, save

pytest.importorskip("hf_xet")

CODE = """
    import filecmp, sys
    from pathlib import Path
    from patchit_hf.publish.fetch import fetch_checkpoint
    from patchit_hf.publish.hub import main

    export, run = sys.argv[1:]
    assert main([export, "org/export"]) == 0
    assert main([export, "org/export"]) == 0
    assert main([run, "org/run"]) == 0
    folder = fetch_checkpoint("hub:org/run")
    there = Path(run) / "checkpoints" / "step-00000004"
    names = ["model.safetensors", "optimizer.pt", "state.json"]
    assert filecmp.cmpfiles(folder, there, names, shallow=False)[0] == names
    assert main([export, "org/refused"]) == 2
    assert main([export, "org/wrong"]) == 2
"""


@pytest.mark.e2e
def test_pushes_and_fetches_go_by_xet(tmp_path, hub: Hub):
    export = make_export(tmp_path / "an export")
    save(tmp_path / "run", 4)
    hub.fail("/org/refused/xet-write-token/", status=403, times=None)
    hub.fail("/org/wrong/xet-write-token/", status=401, times=None)
    done = hub.run(CODE, args=[str(export), str(tmp_path / "run")], env=xet.CLIENT)
    assert hub.files("org/export") == {name: (export / name).read_bytes() for name in EXPORT}
    assert len(hub.repo("org/export").xet) == 3
    assert len(hub.repo("org/export").log()) == len(hub.repo("org/run").log()) == 2
    assert hub.count("PUT", "^/storage/") == hub.count("GET", "^/storage/") == 0
    assert hub.count("GET", "/xet-read-token/") == 1
    refused, wrong = done.stderr.splitlines()[-2:]
    assert "'org/refused': not pushed: the token has no right to do that (403)." in refused
    assert "'org/wrong': not pushed: the Hub does not accept the token (401); log in" in wrong
    assert f"The export is safe in '{export}'; push it later with: patchit push" in wrong
