"""CVAT's XML of images and of a video."""

import pytest

from patchit_hf.common.errors import InputError
from patchit_hf.crops.detections import read_detections
from tests.crops.detections.scenes import BOTH, CAR, GREEN, RED, cut, paint

IMAGE = '<image id="{i}" name="{name}" {more} width="320" height="240">{shapes}</image>'


def box(values, label="person", more=""):
    edges = zip(("xtl", "ytl", "xbr", "ybr"), values, strict=True)
    words = " ".join(f'{edge}="{value:.2f}"' for edge, value in edges)
    return f'<box label="{label}" source="manual" occluded="0" {words} z_order="0" {more}></box>'


def document(body, meta="<task><name>square</name></task>"):
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n'
        f"  <meta>{meta}</meta>\n{body}\n</annotations>"
    )


def test_the_root_of_an_export_of_images(tmp_path):
    (x0, y0, x1, y1), subsets = GREEN, ("Train", "Validation")
    polygon = f'<polygon label="person" points="{x0},{y0};{x1},{y0 + 9};{x0 + 5},{y1}"></polygon>'
    shapes = box(RED) + polygon + box(CAR, "car") + '<tag label="night"></tag>'
    images = [
        IMAGE.format(i=i, name="a 1.jpg", more=f'subset="{s}" task_id="{i}"', shapes=shapes)
        for i, s in enumerate(subsets)
    ]
    for subset in subsets:
        paint(tmp_path / f"images/{subset}/a 1.jpg")
    (tmp_path / "annotations.xml").write_text(document("".join(images)))
    found = read_detections(tmp_path)
    assert found.kind == "cvat"
    assert found.splits == ["train", "validation"]
    assert found.sizes.tolist() == [[320, 240]] * 2
    crops, report = cut(found, tmp_path / "images", tmp_path / "out")
    assert crops == [
        (f"{subset}/a 1.jpg", colour, place) for subset in subsets for colour, place in BOTH
    ]
    assert report["boxes"]["classes"] == {"car": 2}


SHAPES = [
    (box((40, 40, 80, 140), more='rotation="90.00"'), (10, 70, 110, 110)),
    ('<ellipse label="person" cx="60" cy="90" rx="20" ry="50"></ellipse>', RED),
    ('<mask label="person" rle="1" left="40" top="40" width="40" height="100"></mask>', RED),
    ('<points label="person" points="40,40;80,140"></points>', RED),
    (
        '<skeleton label="person"><points label="1" points="40.0,140.0"/>'
        '<points label="2" points="80.0,40.0"/></skeleton>',
        RED,
    ),
    (
        '<cuboid label="person" xtl1="40" ytl1="50" xbl1="40" ybl1="140" xtr1="70" ytr1="50" '
        'xbr1="70" ybr1="140" xtl2="50" ytl2="40" xbl2="50" ybl2="130" xtr2="80" ytr2="40" '
        'xbr2="80" ybr2="130"></cuboid>',
        RED,
    ),
]


@pytest.mark.parametrize(("shape", "expected"), SHAPES, ids=lambda s: str(s).split()[0])
def test_every_shape_has_a_box(tmp_path, shape, expected):
    text = document(IMAGE.format(i=0, name="a.jpg", more="", shapes=shape))
    (tmp_path / "annotations.xml").write_text(text)
    found = read_detections(tmp_path / "annotations.xml")
    assert found.boxes[0].round(9).tolist() == list(expected)
    assert found.labels == ["person"]


def test_a_shape_without_points_is_counted(tmp_path):
    shapes = box(RED) + '<polygon label="person" points=""></polygon>'
    paint(tmp_path / "images/a.jpg")
    text = document(IMAGE.format(i=0, name="a.jpg", more="", shapes=shapes))
    (tmp_path / "annotations.xml").write_text(text)
    crops, report = cut(read_detections(tmp_path), tmp_path / "images", tmp_path / "out")
    assert crops == [("a.jpg", "red", RED)]
    assert report["boxes"]["reasons"] == {"not finite": 1}


def test_tracks_of_a_video(tmp_path):
    av = pytest.importorskip("av")
    import numpy as np
    from PIL import Image

    paint(tmp_path / "scene.png")
    picture = np.asarray(Image.open(tmp_path / "scene.png").convert("RGB"))
    (tmp_path / "videos").mkdir()
    with av.open(str(tmp_path / "videos/cam.mkv"), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "bgr0"
        for shown in (picture * 0 + 90, picture, picture):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")))
        out.mux(stream.encode())
    boxes = {
        n: "".join(
            box(place, more=f'frame="{frame}" outside="{int(frame == 2)}" keyframe="1"')
            for frame in (1, 2)
        )
        for n, (_, place) in enumerate(BOTH)
    }
    tracks = "".join(f'<track id="{n}" label="person">{text}</track>' for n, text in boxes.items())
    meta = "<task><original_size><width>320</width><height>240</height></original_size></task>"
    (tmp_path / "annotations.xml").write_text(document(tracks, f"{meta}<source>cam.mkv</source>"))
    found = read_detections(tmp_path)
    assert found.images == ["cam.mkv#1", "cam.mkv#2"]
    assert found.tracks == ["cam.mkv/0", "cam.mkv/1"]
    assert found.sizes.tolist() == [[320, 240]] * 2
    crops, report = cut(found, tmp_path / "videos", tmp_path / "out")
    assert crops == [("cam.mkv#1", colour, place) for colour, place in BOTH]
    assert report["boxes"]["classes"] == {"outside": 2}


BAD = [
    ("<annotations><image", "b.xml: is damaged: "),
    (document('<image id="0"></image>'), "b.xml: an <image> has no name"),
    (
        document(IMAGE.format(i=0, name="a", more="", shapes=box(RED).replace("40.00", "left"))),
        "b.xml, shape 1: xtl 'left': must be a number",
    ),
    (
        document(IMAGE.format(i=0, name="a", more="", shapes='<polygon points="1;2"/>')),
        "b.xml, shape 1: points '1;2': must be x,y;x,y;...",
    ),
    (
        document(IMAGE.format(i=0, name="a", more="", shapes="<box/>")),
        "b.xml, shape 1: xtl None: must be a number",
    ),
    (
        document('<track id="0" task_id="1"/><track id="0" task_id="2"/>'),
        "b.xml: holds the tracks of several tasks; export each task by itself",
    ),
    (
        document(IMAGE.format(i=0, name="a.jpg", more='task_id="1"', shapes=box(RED)) * 2),
        "b.xml: two images are called a.jpg; export each task by itself, so that it is clear whose",
    ),
    (document(""), "--detections 'b.xml': holds no box (read as cvat)"),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_damaged_files(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b.xml").write_text(text)
    with pytest.raises(InputError) as error:
        read_detections("b.xml")
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_a_damaged_shape_is_left_out_and_reported(tmp_path):
    shapes = box(RED) + "<box label='person'/>" + box(GREEN)
    text = document(IMAGE.format(i=0, name="a.jpg", more="", shapes=shapes))
    (tmp_path / "b.xml").write_text(text)
    found = read_detections(tmp_path / "b.xml")
    why = "b.xml, shape 2: xtl None: must be a number"
    assert found.notes == (f"1 box cannot be read and is left out: {why}",)
    assert found.row.tolist() == [1, 2, 3]
