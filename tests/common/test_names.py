"""Names in labels find their files where nothing else could be meant, and else nothing."""

import os
import unicodedata

import pytest

from patchit_hf.common.names import files_below, match_names


def match(names, files):
    found = match_names(names, files)
    return dict(zip(names, found.files, strict=True))


def test_names_as_tools_write_them():
    files = ["cam1/0001.jpg", "cam1/0002.PNG", "x/a b.jpg", "x/000139.jpg", "x/caf\u00e9.jpg"]
    names = {
        "cam1/0001.jpg": "cam1/0001.jpg",
        "./cam1//0002": "cam1/0002.PNG",
        "/home/old/a%20b.jpg": "x/a b.jpg",
        "139": "x/000139.jpg",
        "X/" + unicodedata.normalize("NFD", "CAF\u00c9.JPG"): "x/caf\u00e9.jpg",
        "none.jpg": None,
    }
    assert match(list(names), files) == names


def test_as_much_of_a_path_as_possible():
    files = [f"{c}/img/{i}.jpg" for c in "ab" for i in range(3)] + ["c/0.jpg"]
    names = [f"/data/old/{c}/img/{i}.jpg" for c in "ab" for i in range(3)]
    assert match(names, files) == {name: name.removeprefix("/data/old/") for name in names}
    assert match(["train/b/1.jpg"], files) == {"train/b/1.jpg": "b/img/1.jpg"}


def test_folders_of_labels_and_of_images():
    files = ["train/images/a.jpg", "valid/images/a.jpg", "train/images/b.jpg"]
    names = ["train/labels/a", "valid/labels/a", "train/labels/b"]
    assert match(names, files) == dict(zip(names, files, strict=True))


@pytest.mark.parametrize("end", ["", ".jpg"])
def test_a_sequence_without_its_folder_gets_no_frame_of_another(end):
    """The kind of fault that cuts one camera's boxes out of another camera's frames."""
    names = [f"{c}/img1/{i:06d}{end}" for c in ("s2", "s4") for i in (1, 2, 3, 4)]
    files = [f"s2/img1/{i:06d}.jpg" for i in (1, 2, 3)]
    found = match_names(names, files)
    assert found.files == [*files, None, None, None, None, None]
    assert found.why[names[4]] == f"no such file; {files[0]} is another image's, {names[0]}"
    assert found.why[names[3]] == "no such file"


def test_a_folder_of_files_is_of_one_folder_of_names_or_of_none():
    """3 is unique, but its folder could be that of other names: it is left out as they are."""
    names = ["s2/1.jpg", "s2/2.jpg", "s4/2.jpg", "s4/3.jpg"]
    found = match_names(names, ["1.jpg", "2.jpg", "3.jpg"])
    assert found.files == [None] * 4
    assert found.why["s4/2.jpg"] == "no such file; 2.jpg could be s4/2.jpg or s2/2.jpg"
    assert found.why["s4/3.jpg"] == "no such file; the folder . could be s4 or s2"
    # Folders that share no name may have been put into one.
    assert match(["s2/1.jpg", "s4/2.jpg"], ["1.jpg", "2.jpg"]) == {
        "s2/1.jpg": "1.jpg", "s4/2.jpg": "2.jpg",
    }  # fmt: skip


def test_several_files_are_named():
    found = match_names(["1.jpg"], ["a/1.jpg", "b/1.jpg", "c/1.jpg"])
    assert found.why == {"1.jpg": "several files could be it: a/1.jpg, b/1.jpg"}


@pytest.mark.parametrize("pair", [("a.jpg", "a.png"), ("A.jpg", "a.jpg"), ("12.jpg", "012.jpg")])
def test_no_two_names_share_a_file(pair):
    found = match_names(list(pair), [pair[1]])
    assert found.files == [None, pair[1]]
    assert found.why == {pair[0]: f"no such file; {pair[1]} is another image's, {pair[1]}"}


def test_no_two_names_share_a_file_by_different_ways():
    assert match(["c/a.png", "z/a.jpg"], ["y/c/a.jpg"]) == {
        "c/a.png": "y/c/a.jpg", "z/a.jpg": None,
    }  # fmt: skip


def test_what_was_found_elsewhere_is_told():
    found = match_names(["/old/p/a.jpg", "q/b.jpg", "c.jpg"], ["new/a.jpg", "q/b.jpg", "z/c.jpg"])
    assert found.moved == {"/old/p/a.jpg": "new/a.jpg"}


def test_the_endings_of_videos():
    found = match_names(["cam", "b/x"], ["v/cam.mp4", "b/x.jpg"], (".mp4",))
    assert found.files == ["v/cam.mp4", None]


def test_files_below(tmp_path):
    for name in ("a/1.txt", "a/.old/1.txt", "__MACOSX/a/1.txt", "a/._1.txt", "a/Thumbs.db", "2.TXT",
                 "a.b/3.txt", "c/4.xml"):  # fmt: skip
        (tmp_path / "r" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "r" / name).touch()
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/5.txt").touch()
    os.symlink(tmp_path / "linked", tmp_path / "r/l")
    os.symlink(tmp_path / "r", tmp_path / "r/a/round")
    os.symlink(tmp_path / "r/a", tmp_path / "linked/back")
    os.symlink(tmp_path / "r", tmp_path / "linked/up")  # a circle of two links
    assert files_below(tmp_path / "r", (".txt",)) == [
        "2.TXT", "a/1.txt", "a.b/3.txt", "l/5.txt", "l/back/1.txt",
    ]  # fmt: skip
    assert "c/4.xml" in files_below(tmp_path / "r")
