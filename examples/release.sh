#!/usr/bin/env bash
# From openly licensed scenes to a published checkpoint: boxes -> crops -> pretraining -> card -> push.
#
#   SCENES=coco/val2017 BOXES=coco/annotations/instances_val2017.json bash examples/release.sh
#   REPO=org/name bash examples/release.sh      # the same variables again: now it is pushed, too
#
# Called again, it goes on where it stopped; what is finished is not done twice.
set -euo pipefail

SCENES=${SCENES:?a folder of pictures}
BOXES=${BOXES:?COCO JSON with the boxes, and with licences of the pictures}
# Licences that allow to publish what was learnt from the pictures, by their addresses: CC BY, CC BY-SA,
# CC0 and public domain. Whether that is so where you are is for you to decide.
OPEN=${OPEN:-'creativecommons.org/licenses/by/|creativecommons.org/licenses/by-sa/|creativecommons.org/publicdomain/|flickr.com/commons/usage|usa.gov/copyright'}
LICENCE=${LICENCE:-other} # of crops and weights, as the Hub spells it
ORIGIN=${ORIGIN:-$(basename "$BOXES")} # where the pictures come from, in words
WORK=${WORK:-release}                  # everything is written here
BACKBONE=${BACKBONE:-resnet18}
CROP_FLAGS=${CROP_FLAGS:---min-height 96 --max-overlap 0.5 --no-keep-cut}
TRAIN_FLAGS=${TRAIN_FLAGS:---epochs 100 --audit}
REPO=${REPO:-} # org/name; empty: stop before the push

CROPS=$WORK/crops RUN=$WORK/run CARD=$WORK/card
mkdir -p "$WORK"

# 1. Keep the pictures whose licence is open, and write down each one's licence and where it is from.
#    Needs: "licenses" in the JSON, and "license" in each of its "images"; without one: not kept.
if [ ! -f "$WORK/boxes.json" ]; then
  python - "$BOXES" "$OPEN" "$WORK" <<'PY'
import json
import re
import sys
from pathlib import Path

boxes, allowed, work = sys.argv[1], re.compile(sys.argv[2]), Path(sys.argv[3])
coco = json.loads(Path(boxes).read_text(encoding="utf-8"))
named = {entry["id"]: entry for entry in coco.get("licenses", [])}
open_ones = {i for i, entry in named.items() if allowed.search(entry.get("url", ""))}
images = [image for image in coco["images"] if image.get("license") in open_ones]
print(f"{len(images)} of {len(coco['images'])} pictures have an open licence")
if not images:
    sys.exit(f"error: {boxes}: no picture is left")
kept = {image["id"] for image in images}
coco["annotations"] = [one for one in coco["annotations"] if one["image_id"] in kept]
lines = []
for image in images:
    licence = named[image["license"]]
    address = image.get("flickr_url") or image.get("coco_url") or ""
    lines.append(
        {"file": image["file_name"], "license": licence.get("name", ""), "url": licence["url"],
         "from": address}
    )
text = "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines)
(work / "picture_licences.jsonl").write_text(text, encoding="utf-8")
draft = work / ".boxes.json"
draft.write_text(json.dumps({**coco, "images": images}), encoding="utf-8")
draft.rename(work / "boxes.json")
PY
fi

# 2. Boxes to crops, none of them padded, no picture on two sides of the split.
#    Needs: the pictures, and space for the crops (some 10 kB each). Look at its contact_sheet.png.
# shellcheck disable=SC2086  # flags are words
python -m patchit_hf.crops --detections "$WORK/boxes.json" --images "$SCENES" --output "$CROPS" \
  --license "$LICENCE" --pictures-from "$ORIGIN, openly licensed ones only" $CROP_FLAGS

# 3. Pretraining. Needs: a GPU for anything larger than a trial; several are used by themselves.
# shellcheck disable=SC2086
accelerate launch -m patchit_hf.pretrain --backbone "$BACKBONE" --dataset "$CROPS" \
  --output-dir "$RUN" $TRAIN_FLAGS

# 4. The card, with its pictures, to be read; and the licences of the pictures, to go along.
#    Needs: you. Is what it says about data, licence and limits true?
cp "$WORK/picture_licences.jsonl" "$RUN/"
python -m patchit_hf.publish.card "$RUN" --output "$CARD"

# 5. The push: one commit; pictures of single people stay here.
#    Needs: the name of a repository, and a token that may write to it (hf auth login, or HF_TOKEN).
if [ -z "$REPO" ]; then
  echo "read $CARD/README.md, then push with: REPO=org/name bash $0"
  exit 0
fi
python -m patchit_hf.publish.hub "$RUN" "$REPO"
