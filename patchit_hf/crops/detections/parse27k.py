"""``annotations.sqlite3`` of PARSE-27k (Sudowe, Spitzer and Leibe, 2015)."""

from __future__ import annotations

from pathlib import Path

from patchit_hf.crops.detections.format import Format, Look
from patchit_hf.crops.detections.table import Builder, Detections, four
from patchit_hf.data.parse27k_database import SPLITS, read_rows

QUERY = """
SELECT Pedestrian.pedestrianID, Sequence.sequenceID, Sequence.directory, Image.filename,
       Pedestrian.box_min_x, Pedestrian.box_min_y, Pedestrian.box_max_x, Pedestrian.box_max_y
FROM Pedestrian JOIN Image USING (imageID) JOIN Sequence USING (sequenceID)
ORDER BY Pedestrian.pedestrianID
"""


def read_parse27k(path: Path) -> Detections:
    """Read the boxes, with the data set's own splits, which are by sequence.

    An image is named ``sequences/<directory>/<filename>``; a box's row is its pedestrian id.

    Raises:
        InputError: if the file is not the PARSE-27k database.
    """
    builder = Builder("parse27k")
    for person, sequence, directory, filename, *box in read_rows(path, QUERY):
        image = builder.picture(
            f"sequences/{directory}/{filename}",
            source=str(directory),
            split=SPLITS.get(sequence, "train"),
        )
        where = f"{path.name}, pedestrian {person}"
        builder.box(image, four(box, where), file=path.name, row=person, label="person")
    return builder.done()


def _looks(look: Look) -> Path | None:
    files = [] if look.is_folder else look.files
    return next((file for file in files if look.start(file).startswith("SQLite format 3\0")), None)


FORMAT = Format("parse27k", "PARSE-27k's database", _looks, read_parse27k)
