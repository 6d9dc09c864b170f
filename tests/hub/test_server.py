"""The loopback Hub against the real, unpatched clients."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import Any

import huggingface_hub
import huggingface_hub.errors
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils.sha import git_hash

from .server import Hub

RemoteEntryNotFoundError = getattr(  # of version 1
    huggingface_hub.errors, "RemoteEntryNotFoundError", EntryNotFoundError
)
ID = "org/x"
WEIGHTS = bytes(range(256)) * 4096
FILES = {
    "README.md": b"---\nlicense: apache-2.0\n---\n# x\n",
    "config.json": b'{"architecture": "x"}\n',
    "model.safetensors": WEIGHTS,
    "sub folder/notes.txt": "Größe\n".encode(),
}


@pytest.fixture
def api(hub: Hub) -> HfApi:
    """A client of the Hub with the writing token."""
    return HfApi(endpoint=hub.endpoint, token=hub.token)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files above on disk."""
    for name, data in FILES.items():
        path = tmp_path / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "folder"


def push(api: HfApi, folder: Path, **options: Any) -> str:
    """Create the repository where needed and push the folder in one commit."""
    api.create_repo(ID, exist_ok=True)
    return str(api.upload_folder(repo_id=ID, folder_path=folder, **options).oid)


def tree(folder: str | Path) -> dict[str, bytes]:
    """Contents by path below a folder, without the Hub's and the client's own files."""
    found = {p.relative_to(folder).as_posix(): p for p in Path(folder).rglob("*") if p.is_file()}
    own = (".cache/", ".gitattributes")
    return {name: p.read_bytes() for name, p in found.items() if not name.startswith(own)}


def put_count(hub: Hub) -> int:
    return hub.count("PUT", "^/storage/", 200)


# Pushing.


def test_create_repo(hub: Hub, api: HfApi) -> None:
    url = api.create_repo(ID, private=True)
    assert (url.repo_id, url.repo_type, str(url)) == (ID, "model", f"{hub.endpoint}/{ID}")
    assert api.create_repo(ID, exist_ok=True).repo_id == ID
    with pytest.raises(HfHubHTTPError, match="already created") as caught:
        api.create_repo(ID)
    assert caught.value.response.status_code == 409
    assert hub.repo(ID).private
    assert api.list_repo_files(ID) == [".gitattributes"]
    assert api.create_repo("mine").repo_id == "tester/mine"
    assert api.whoami()["name"] == "tester"
    api.update_repo_settings(ID, private=False)
    assert not hub.repo(ID).private
    api.delete_repo(ID)
    assert not api.repo_exists(ID)


def test_push_in_one_commit_and_load_back(
    hub: Hub, api: HfApi, folder: Path, tmp_path: Path
) -> None:
    oid = push(api, folder, commit_message="First", commit_description="Text")
    assert hub.files(ID) == FILES
    assert hub.count("POST", "/commit/main$", 200) == 1
    assert put_count(hub) == hub.count("POST", "/verify$", 200) == 1
    commit = hub.repo(ID).commit_at()
    assert (commit.oid, commit.title, commit.message) == (oid, "First", "Text")
    assert commit.files["config.json"].oid == git_hash(FILES["config.json"])
    assert commit.files["model.safetensors"].sha256 == hashlib.sha256(WEIGHTS).hexdigest()

    for name, data in FILES.items():
        path = api.hf_hub_download(ID, name)
        assert Path(path).read_bytes() == data
        assert oid in path
    assert tree(api.snapshot_download(ID, cache_dir=tmp_path / "other")) == FILES
    assert tree(api.snapshot_download(ID, local_dir=tmp_path / "local")) == FILES
    stored = [request for request in hub.log if request.path.startswith("/storage/")]
    assert {request.method for request in stored} == {"GET", "PUT"}
    assert all("authorization" not in request.headers for request in stored)
    assert all(request.headers["host"].startswith("localhost:") for request in stored)


def test_info_and_listings(hub: Hub, api: HfApi, folder: Path) -> None:
    oid = push(api, folder)
    hub.page_size = 2
    assert set(api.list_repo_files(ID)) == {*FILES, ".gitattributes"}
    info = api.model_info(ID, files_metadata=True)
    assert (info.id, info.sha, info.private, info.author) == (ID, oid, False, "org")
    assert info.siblings is not None
    files = {sibling.rfilename: sibling for sibling in info.siblings}
    weights, config = files["model.safetensors"], files["config.json"]
    assert weights.lfs is not None
    assert weights.lfs.sha256 == hashlib.sha256(WEIGHTS).hexdigest()
    assert (weights.size, config.size) == (len(WEIGHTS), len(FILES["config.json"]))
    assert (config.blob_id, config.lfs) == (git_hash(FILES["config.json"]), None)
    top = {entry.path for entry in api.list_repo_tree(ID)}
    assert top == {"README.md", "config.json", "model.safetensors", "sub folder", ".gitattributes"}
    inner = list(api.list_repo_tree(ID, "sub folder", expand=True))
    assert [entry.path for entry in inner] == ["sub folder/notes.txt"]
    assert inner[0].last_commit is not None
    assert inner[0].last_commit.oid == oid
    paths = api.get_paths_info(ID, ["sub folder", "config.json", "absent"])
    assert [entry.path for entry in paths] == ["sub folder", "config.json"]
    assert api.file_exists(ID, "config.json")
    assert not api.file_exists(ID, "absent")


def test_unchanged_folder_is_not_uploaded_again(hub: Hub, api: HfApi, folder: Path) -> None:
    first, repo = push(api, folder), hub.repo(ID)
    uploads = list(repo.uploads)
    assert len(uploads) == len(FILES)
    assert push(api, folder) == first
    assert repo.uploads == uploads
    assert (put_count(hub), hub.count("POST", "/commit/")) == (1, 1)

    old = repo.commit_at().files
    (folder / "model.safetensors").write_bytes(WEIGHTS[::-1])
    second = push(api, folder)
    assert repo.uploads[len(uploads) :] == [hashlib.sha256(WEIGHTS[::-1]).hexdigest()]
    assert repo.commits[second].parent == first
    changed = {path for path, file in repo.commit_at().files.items() if file != old[path]}
    assert changed == {"model.safetensors"}

    (folder / "config.json").write_bytes(b"{}")
    third = push(api, folder)
    assert repo.uploads[len(uploads) + 1 :] == [git_hash(b"{}")]
    log = [commit.commit_id for commit in api.list_repo_commits(ID)]
    assert log[:3] == [third, second, first]
    assert api.list_repo_commits(ID)[3].title == "initial commit"


def test_modes_deletions_and_ignored_files(hub: Hub, api: HfApi, tmp_path: Path) -> None:
    api.create_repo(ID)
    added = {"image.png": b"\x89PNG\0", "empty.bin": b"", "a/b.txt": b"b", "a/c.txt": b"c"}
    operations = [CommitOperationAdd(path, data) for path, data in added.items()]
    api.create_commit(ID, operations, commit_message="add")
    files = hub.repo(ID).commit_at().files
    assert {path for path, file in files.items() if file.sha256} == {"image.png"}
    assert "image.png filter=lfs" in hub.repo(ID).read(".gitattributes").decode()
    api.create_commit(ID, [CommitOperationDelete("a/")], commit_message="delete")
    api.delete_file("empty.bin", ID)
    assert set(hub.files(ID)) == {"image.png"}
    with pytest.raises(EntryNotFoundError, match="doesn't exist"):
        api.delete_file("absent", ID)

    for name in (".gitignore", "kept.txt", "left.log", "left.bin"):
        (tmp_path / name).write_bytes(b"*.log\nleft.bin\n")
    api.upload_folder(repo_id=ID, folder_path=tmp_path, allow_patterns=[".git*", "*.*"])
    assert set(hub.files(ID)) == {"image.png", "kept.txt", ".gitignore"}


def test_model_card_checks(hub: Hub, api: HfApi, folder: Path) -> None:
    (folder / "README.md").write_text("# no metadata\n")
    with pytest.warns(UserWarning, match="empty or missing yaml"):
        push(api, folder)
    hub.yaml_errors = ["license is not known"]
    (folder / "README.md").write_bytes(FILES["README.md"])
    with pytest.raises(ValueError, match="license is not known"):
        push(api, folder)
    assert hub.count("POST", "/commit/") == 1


# Who may do what.


def test_private_repo(hub: Hub, api: HfApi, tmp_path: Path) -> None:
    hub.create(ID, FILES, private=True)
    name = "config.json"
    assert Path(api.hf_hub_download(ID, name)).read_bytes() == FILES[name]
    reader = HfApi(endpoint=hub.endpoint, token=hub.read_token)
    assert set(reader.list_repo_files(ID)) == {*FILES, ".gitattributes"}
    stranger = hub.add_user("stranger")
    for token, status in ((False, 401), (stranger, 404)):
        with pytest.raises(RepositoryNotFoundError) as caught:
            api.model_info(ID, token=token)
        assert caught.value.response.status_code == status
        with pytest.raises(RepositoryNotFoundError):
            api.hf_hub_download(ID, name, token=token, cache_dir=tmp_path / "other")
    with pytest.raises(HfHubHTTPError, match="Invalid credentials") as bad:
        api.model_info(ID, token="hf_wrong")
    assert bad.value.response.status_code == 401
    assert not isinstance(bad.value, RepositoryNotFoundError)


def test_writing_needs_a_writing_token(hub: Hub, api: HfApi, folder: Path) -> None:
    hub.create(ID)
    for token in (hub.read_token, hub.add_user("stranger")):
        other = HfApi(endpoint=hub.endpoint, token=token)
        with pytest.raises(HfHubHTTPError, match="403 Forbidden"):
            other.upload_folder(repo_id=ID, folder_path=folder)
        with pytest.raises(HfHubHTTPError, match="403 Forbidden"):
            other.create_repo("org/new")
        assert other.create_repo(ID, exist_ok=True) == f"{hub.endpoint}/{ID}"
    with pytest.raises(RepositoryNotFoundError, match="401"):
        api.upload_folder(repo_id=ID, folder_path=folder, token=False)
    with pytest.raises(HfHubHTTPError, match="401"):
        api.create_repo("org/new", token=False)
    assert (hub.files(ID), list(hub.repos)) == ({}, [ID])


def test_not_found(hub: Hub, api: HfApi) -> None:
    repo = hub.create(ID, FILES)
    with pytest.raises(RepositoryNotFoundError):
        api.hf_hub_download("org/absent", "config.json")
    with pytest.raises(RevisionNotFoundError):
        api.hf_hub_download(ID, "config.json", revision="absent")
    with pytest.raises(RevisionNotFoundError):
        api.snapshot_download(ID, revision="absent")
    with pytest.raises(RemoteEntryNotFoundError) as caught:
        api.hf_hub_download(ID, "absent.json")
    assert caught.value.response.headers["X-Repo-Commit"] == repo.head()


# Revisions.


def test_branches_tags_and_old_commits(hub: Hub, api: HfApi, folder: Path) -> None:
    first = push(api, folder)
    api.create_tag(ID, tag="v1", tag_message="one")
    api.create_branch(ID, branch="dev/a", revision="v1")
    api.create_branch(ID, branch="dev/a", exist_ok=True)
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_tag(ID, tag="v1")
    (folder / "config.json").write_bytes(b"{}")
    second = push(api, folder, revision="dev/a")
    refs = api.list_repo_refs(ID)
    assert {ref.name: ref.target_commit for ref in refs.branches} == {
        "main": first,
        "dev/a": second,
    }
    assert [(ref.ref, ref.target_commit) for ref in refs.tags] == [("refs/tags/v1", first)]
    wanted = {
        "main": FILES["config.json"],
        "v1": FILES["config.json"],
        "dev/a": b"{}",
        second: b"{}",
    }
    for revision, data in wanted.items():
        path = api.hf_hub_download(ID, "config.json", revision=revision)
        assert Path(path).read_bytes() == data
        assert (
            Path(api.snapshot_download(ID, revision=revision), "config.json").read_bytes() == data
        )
        assert api.model_info(ID, revision=revision).sha == hub.repo(ID).head(revision)
    for revision in ("v1", "absent"):
        with pytest.raises(RevisionNotFoundError):
            push(api, folder.joinpath("sub folder"), revision=revision)
    api.delete_tag(ID, tag="v1")
    api.delete_branch(ID, branch="dev/a")
    assert (hub.repo(ID).tags, list(hub.repo(ID).branches)) == ({}, ["main"])


def test_pull_request(hub: Hub, api: HfApi, folder: Path) -> None:
    hub.create(ID)
    info = api.upload_folder(repo_id=ID, folder_path=folder, create_pr=True)
    assert (info.pr_num, info.pr_revision) == (1, "refs/pr/1")
    assert (hub.files(ID), hub.files(ID, "refs/pr/1")) == ({}, FILES)
    assert tree(api.snapshot_download(ID, revision="refs/pr/1")) == FILES


def test_stale_parent_is_refused(hub: Hub, api: HfApi, folder: Path) -> None:
    first = push(api, folder)
    newer = hub.advance(ID)
    (folder / "config.json").write_bytes(b"{}")
    with pytest.raises(HfHubHTTPError, match="A commit has happened since") as caught:
        push(api, folder, parent_commit=first)
    assert caught.value.response.status_code == 412
    assert hub.repo(ID).head() == newer

    (folder / "config.json").write_bytes(b"[]")
    hub.on("/preupload/", lambda request: hub.advance(ID))
    with pytest.raises(HfHubHTTPError, match="412"):
        push(api, folder, parent_commit=newer)
    assert hub.files(ID)["config.json"] == FILES["config.json"]
    push(api, folder, parent_commit=hub.repo(ID).head()[:7])
    assert hub.files(ID)["config.json"] == b"[]"
    assert "other.txt" in hub.files(ID)


# Disturbances.


def test_503_is_tried_again_except_for_the_commit(hub: Hub, api: HfApi, folder: Path) -> None:
    hub.fail("/preupload/", method="POST", status=503, headers={"Retry-After": "0"})
    hub.fail("^/storage/", method="PUT", status=500)
    push(api, folder)
    assert hub.files(ID) == FILES
    assert [s for _, path, s in hub.requests if "/preupload/" in path] == [503, 200]
    assert [s for _, path, s in hub.requests if path.startswith("/storage/")] == [500, 200]

    hub.fail("/commit/", times=None)
    (folder / "config.json").write_bytes(b"{}")
    with pytest.raises(HfHubHTTPError, match="Injected failure") as caught:
        push(api, folder)
    assert caught.value.response.status_code == 503
    assert hub.count("POST", "/commit/", 503) == 1
    hub.heal()
    push(api, folder)
    assert hub.files(ID)["config.json"] == b"{}"


def test_cut_download_is_resumed(hub: Hub, api: HfApi, monkeypatch: pytest.MonkeyPatch) -> None:
    # The client keeps whole chunks only: with its 10 MiB, these files would start from scratch.
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 1 << 14)
    hub.create(ID, FILES)
    hub.cut("^/storage/", 100_000, method="GET")
    path = api.hf_hub_download(ID, "model.safetensors")
    assert Path(path).read_bytes() == WEIGHTS
    ranges = [r.headers.get("range") for r in hub.log if r.path.startswith("/storage/")]
    statuses = [s for _, route, s in hub.requests if route.startswith("/storage/")]
    assert statuses == [200, 206]
    assert ranges[0] is None
    assert ranges[1] is not None
    assert 0 < int(ranges[1].removeprefix("bytes=").removesuffix("-")) <= 100_000


def test_cut_upload_and_lost_commit_answer(hub: Hub, api: HfApi, folder: Path) -> None:
    hub.cut("^/storage/", 1000, method="PUT", upload=True)
    hub.cut("/commit/", None)
    with pytest.raises(Exception, match="disconnected"):
        push(api, folder)
    assert [s for _, route, s in hub.requests if route.startswith("/storage/")] == [0, 200]
    assert hub.files(ID) == FILES
    assert push(api, folder) == hub.repo(ID).head()
    assert hub.count("POST", "/commit/") == 1


@pytest.mark.e2e
def test_delay_and_outage(hub: Hub, api: HfApi) -> None:
    hub.create(ID, FILES)
    hub.delay("/resolve/", 1.0, times=1)
    path = api.hf_hub_download(ID, "config.json")
    hub.delay("/resolve/", 0.5)
    assert api.hf_hub_download(ID, "config.json", etag_timeout=0.1) == path
    hub.stop()
    assert api.hf_hub_download(ID, "config.json") == path
    with pytest.raises(LocalEntryNotFoundError):
        api.hf_hub_download(ID, "config.json", local_files_only=True, cache_dir=Path(path).parent)
    hub.heal()
    hub.start()
    assert api.model_info(ID).sha == hub.repo(ID).head()


def test_parallel_pushes_keep_every_file(hub: Hub, api: HfApi) -> None:
    hub.create(ID)

    def one(number: int) -> None:
        api.upload_file(path_or_fileobj=b"%d" % number, path_in_repo=f"{number}.bin", repo_id=ID)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(hub.files(ID)) == 8
    assert len(hub.repo(ID).log()) == 8 + 1


def test_cut_small_file_and_dead_storage(hub: Hub, api: HfApi, tmp_path: Path) -> None:
    hub.create(ID, FILES)
    hub.cut("/resolve/main/config.json", 5, method="GET")
    assert Path(api.hf_hub_download(ID, "config.json")).read_bytes() == FILES["config.json"]
    assert hub.count("GET", "/resolve/main/config.json") == 2
    hub.fail("^/storage/", status=404, times=None)
    with pytest.raises(HfHubHTTPError, match="404"):
        api.snapshot_download(ID, cache_dir=tmp_path / "other")
    assert not list((tmp_path / "other").rglob("snapshots/*/model.safetensors"))


# Data sets, and other processes.


def test_dataset_repo(hub: Hub, api: HfApi, folder: Path) -> None:
    api.create_repo("org/d", repo_type="dataset")
    oid = api.upload_folder(repo_id="org/d", folder_path=folder, repo_type="dataset").oid
    assert hub.files("datasets/org/d") == FILES
    assert api.dataset_info("org/d").sha == oid
    assert tree(api.snapshot_download("org/d", repo_type="dataset")) == FILES
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("org/d")


@pytest.mark.e2e
def test_datasets_pushes_and_loads(hub: Hub) -> None:
    code = """
        from datasets import Dataset, load_dataset
        Dataset.from_dict({"y": [1, 2, 3]}).push_to_hub("org/d", private=True)
        for streaming in (False, True):
            rows = load_dataset("org/d", split="train", streaming=streaming)
            assert [row["y"] for row in rows] == [1, 2, 3]
    """
    hub.run(code)
    assert hub.repo("datasets/org/d").private
    assert any(name.endswith(".parquet") for name in hub.files("datasets/org/d"))


@pytest.mark.e2e
def test_run_reports_and_isolates(hub: Hub) -> None:
    hub.create(ID, FILES, private=True)
    code = f"""
        from huggingface_hub import hf_hub_download
        print(open(hf_hub_download("{ID}", "config.json")).read())
    """
    assert hub.run(code).stdout.strip().encode() == FILES["config.json"].strip()
    assert hub.run(code, env={"HF_HUB_OFFLINE": "1"}).returncode == 0
    here = huggingface_hub.hf_hub_download(ID, "config.json")
    assert Path(here).read_bytes() == FILES["config.json"]
    assert hub.home is not None
    other = hub.run(code, hub.home / "other", token="", check=False)
    assert "RepositoryNotFoundError" in other.stderr
    with pytest.raises(AssertionError, match="exit 3"):
        hub.run("raise SystemExit(3)")


@pytest.mark.e2e
def test_timm_loads_what_was_pushed(hub: Hub, folder: Path) -> None:
    code = """
        import json, sys
        from pathlib import Path
        import timm, torch
        from huggingface_hub import create_tag, upload_folder, create_repo
        from safetensors.torch import save_file

        torch.manual_seed(0)
        model = timm.create_model("test_resnet", num_classes=0).eval()
        folder = Path(sys.argv[1])
        save_file(model.state_dict(), folder / "model.safetensors")
        config = dict(architecture="test_resnet", num_classes=0, num_features=model.num_features)
        config["pretrained_cfg"] = dict(
            num_classes=0, input_size=[3, 64, 64], first_conv="conv1.0", classifier="fc"
        )
        (folder / "config.json").write_text(json.dumps(config))
        create_repo("org/x")
        upload_folder(repo_id="org/x", folder_path=folder)
        create_tag("org/x", tag="v1")
        image = torch.rand(2, 3, 64, 64)
        for name in ("hf-hub:org/x", "hf-hub:org/x@v1"):
            loaded = timm.create_model(name, pretrained=True).eval()
            with torch.no_grad():
                assert torch.equal(model(image), loaded(image))
        head = timm.create_model("hf-hub:org/x", pretrained=True, num_classes=3).eval()
        assert head(image).shape == (2, 3)
        print("equal")
    """
    assert hub.run(code, args=[str(folder)]).stdout.strip().endswith("equal")
    assert put_count(hub) == 1
    assert hub.repo(ID).head("v1") == hub.repo(ID).head()
