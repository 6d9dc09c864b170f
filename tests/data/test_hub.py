"""A data set of the Hub, and what is done where only the cache has one of that name."""

import json

import datasets
import pytest
from huggingface_hub import HfApi
from PIL import Image

from patchit_hf import InputError, load_crops
from patchit_hf.common import hub_access
from patchit_hf.data import hub as hub_data
from patchit_hf.data.source import open_splits
from tests.conftest import make_crops
from tests.hub.server import Hub


@pytest.fixture
def made_elsewhere(tmp_path, monkeypatch):
    """A data set ``crops``, in the cache of ``datasets`` because a folder of this name was read."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "elsewhere" / "crops"
    folder.mkdir(parents=True)
    for number, image in enumerate(make_crops(4)):
        image.save(folder / f"{number}.png")
    assert len(datasets.load_dataset(str(folder))["train"]) == 4
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return "crops"


def test_a_word_that_is_no_folder_is_not_looked_for_in_the_cache(made_elsewhere):
    assert len(datasets.load_dataset(made_elsewhere)["train"]) == 4  # what datasets itself does
    message = r"^--dataset 'crops': no such folder, and the Hub is not asked \(HF_HUB_OFFLINE\)$"
    for read in (load_crops, open_splits):
        with pytest.raises(InputError, match=message):
            read(made_elsewhere)


def test_nor_where_the_hub_answers(made_elsewhere, hub: Hub, monkeypatch):
    with pytest.raises(InputError, match="no such folder, and the Hub has no data set of this"):
        load_crops(made_elsewhere)
    hub.fail(r"/api/datasets/crops", status=500, times=None)
    with pytest.raises(InputError, match=r"no such folder, and the Hub does not answer: .*500"):
        load_crops(made_elsewhere)
    hub.stop()
    with pytest.raises(InputError, match=r"no such folder, and 127\.0\.0\.1 cannot be reached"):
        load_crops(made_elsewhere)


def test_why_the_hub_does_not_deliver(hub: Hub):
    access = hub_access.HubAccess
    hub.create("datasets/org/crops", {"README.md": b"-"})
    hub.create("datasets/org/private", {"README.md": b"-"}, private=True)
    assert hub_data.not_delivered("org/crops", access()) is None
    assert hub_data.not_delivered("org/private", access(token=hub.token)) is None
    assert "or only a private one" in hub_data.not_delivered("org/private", access(token=False))
    assert "no revision 'v2'" in hub_data.not_delivered("org/crops", access(revision="v2"))


def test_a_folder_has_no_revision(crop_folder):
    with pytest.raises(InputError, match="is not on the Hub, so it has no revision 'v1'"):
        load_crops(str(crop_folder), revision="v1")
    with pytest.raises(InputError, match="'people': is not on the Hub, so it has no revision"):
        load_crops(revision="v1")


LOADS = """
    import json, sys
    from patchit_hf import load_crops
    crops = load_crops("org/crops", **json.loads(sys.argv[1]))
    greys = [image.getpixel((0, 0))[0] for image in crops.train["image"]]
    print(json.dumps([sorted(greys), crops.meta, crops.name]))
"""


@pytest.mark.slow
def test_revision_cache_dir_token_and_the_cached_copy(hub: Hub, tmp_path):
    def files_in(grey):
        folder = tmp_path / str(grey)
        for split, count in (("train", 3), ("validation", 1)):
            (folder / split).mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (10, 20), (grey,) * 3).save(folder / split / f"{number}.png")
        return folder

    def files(grey):
        folder = files_in(grey)
        return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.png")}

    def loaded(env=None, **how):
        token = how.get("token") and ""  # given to the loader alone
        done = hub.run(LOADS, args=[json.dumps(how)], env=env or {}, token=token)
        return json.loads(done.stdout.splitlines()[-1])

    hub.create("datasets/org/crops", files(10), private=True)
    HfApi().create_tag("org/crops", tag="v1", repo_type="dataset")
    upload = {"repo_id": "org/crops", "repo_type": "dataset"}
    HfApi().upload_folder(folder_path=files_in(20), **upload)
    kept = {"cache_dir": str(tmp_path / "kept"), "token": hub.token}
    greys, meta, name = loaded(**kept)
    assert (greys, name) == ([20] * 3, "org/crops")
    assert meta == {"rendered": False, "hub": True}
    assert list((tmp_path / "kept").glob("org___crops/**/*.arrow"))
    greys, meta, _ = loaded(revision="v1")
    assert (greys, meta["revision"]) == ([10] * 3, "v1")
    assert loaded()[0] == [20] * 3
    hub.stop()
    greys, meta, _ = loaded(env={"HF_HUB_OFFLINE": "1"})
    assert greys == [20] * 3
    assert meta["cached_copy"] == "the Hub is not asked (HF_HUB_OFFLINE)"
    greys, meta, _ = loaded()
    assert (greys, meta["cached_copy"][:28]) == ([20] * 3, "127.0.0.1 cannot be reached ")
    refused = hub.run(LOADS, args=[json.dumps({"revision": "v1"})], check=False).stderr
    assert "--dataset 'org/crops', revision 'v1': 127.0.0.1 cannot be reached" in refused
