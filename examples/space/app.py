"""A Space: drop in a crop of one person and see where the network puts its patches.

Example:
    python examples/space/app.py runs/resnet18-position-people    # a run's folder
    python examples/space/app.py org/name@v1                      # a checkpoint on the Hub

On a Space, the variable ``PATCHIT_CHECKPOINT`` names the checkpoint.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import gradio as gr
from matplotlib.figure import Figure

from patchit_hf import InputError, PatchTaskModel, open_image, render_person
from patchit_hf.figures import as_image, confusion_on_body, mean_crop, put_together

TITLE = "Where is this patch from?"
ROUNDS = 24  # how often a crop is cut, each time with other offsets
PEOPLE = (0, 4, 9, 15, 20, 24)  # rows of the embedded people; of this seed, nobody trains on them
PEOPLE_SEED = 20160
FORGET = 600  # seconds after which uploaded pictures are deleted
CSS = "#crop img { width: 100%; height: 100%; object-fit: contain; } footer { display: none; }"


class Checkpoint:
    """A published checkpoint that can be asked about single crops.

    Args:
        name: a folder, or ``org/name[@revision]`` on the Hub.

    Raises:
        InputError: if there is no such checkpoint, or its answers are no places on the body.
    """

    def __init__(self, name: str) -> None:
        self.model = PatchTaskModel.from_pretrained(name)
        if self.model.task.boxes is None:
            raise InputError(
                f"{name!r}: the {self.record['task']['name']} task's answers are no places on the "
                "body; this app shows position, people, scale and shuffle"
            )

    @property
    def record(self) -> dict[str, Any]:
        """What the checkpoint says of itself."""
        return self.model.record

    def __call__(self, file: str) -> tuple[str, Figure, Figure]:
        """Return what there is to say about an image, and two figures.

        Raises:
            InputError: if it is no image, or one too small to cut anything from.
        """
        # Bytes: an error would show the file's path here.
        asked = self.model.ask(Path(file).read_bytes(), rounds=ROUNDS)
        self.check_size(file)
        right, count = int((asked.truth[0] == asked.answered[0]).sum()), asked.truth.shape[1]
        said = (
            f"### {right} of {count} patches are put back where they were cut\n"
            f"Cut {ROUNDS} times, each time a few pixels off: {asked.accuracy:.0%} right. "
            f"Guessing gets {asked.chance:.0%}."
        )
        mean = mean_crop(asked.crop[None])
        heat = confusion_on_body(asked.confusion, asked.boxes, mean)
        return said + self.wide(file), put_together(asked), heat

    def check_size(self, file: str) -> None:
        """Refuse an image that has fewer pixels than a crop needs."""
        canvas = self.model.task.canvas
        least = (canvas[0] // 4, canvas[1] // 4)
        with open_image(file) as image:
            width, height = image.size
        if height < least[0] or width < least[1]:
            raise InputError(
                f"this picture has {width}x{height} px (width x height); there is nothing to see "
                f"in fewer than {least[1]}x{least[0]}"
            )

    def wide(self, file: str) -> str:
        """Return a remark on a picture that cannot be one person's, or nothing."""
        with open_image(file) as image:
            if image.width <= image.height:
                return ""
        return (
            "\n\n**This picture is wider than high**, and was squeezed. The network knows crops of "
            "one person, head to foot."
        )


def build(checkpoint: Checkpoint, people: list[str]) -> gr.Blocks:
    """Return the page.

    Args:
        checkpoint: what is asked.
        people: files of crops to begin with.
    """
    backbone, data = checkpoint.record["backbone"]["name"], checkpoint.record["data"]
    seen = "rendered people" if data.get("rendered") else f"`{Path(data['name']).name}`"

    def show(file: str | None) -> tuple[str, Any, Any]:
        if file is None:
            raise gr.Error("Drop a picture of one person in first.", title="No picture")
        try:
            words, *figures = checkpoint(file)
        except InputError as error:
            raise gr.Error(f"Sorry: {error}", title="Not shown", print_exception=False) from error
        return words, *(gr.Image(as_image(figure), visible=True) for figure in figures)

    with gr.Blocks(title=TITLE, delete_cache=(FORGET, FORGET)) as page:
        gr.Markdown(
            f"# {TITLE}\n"
            f"`{backbone}` was pretrained on {seen} without a label: shown small patches of a "
            "person, it had to say where each was cut. Drop in a crop of **one person, head to "
            "foot**, and see what it has learnt. Pictures stay on the machine that serves this "
            f"page, and are deleted after {FORGET // 60} minutes."
        )
        with gr.Row():
            with gr.Column(scale=1, min_width=240):
                crop = gr.Image(
                    type="filepath", image_mode=None, sources=["upload", "clipboard"], height=420,
                    label="A crop of one person", elem_id="crop", buttons=[],
                )  # fmt: skip
                button = gr.Button("Show where it puts the patches", variant="primary")
                examples = gr.Column()
            with gr.Column(scale=3, min_width=320):
                words = gr.Markdown(
                    "### Here you will see\n"
                    "- the crop, put together from its patches as the network puts them,\n"
                    "- and a heat map: for each cell, where it puts the patches cut there.",
                    elem_id="words",
                )
                options = {"format": "png", "interactive": False, "buttons": ["fullscreen"]}
                options |= {"show_label": False, "visible": False}
                place = gr.Image(elem_id="place", alt_text="The crop put together", **options)
                heat = gr.Image(elem_id="heat", alt_text="Heat map of each cell", **options)
        answer = [words, place, heat]
        with examples:
            gr.Examples(
                people, crop, answer, show, run_on_click=True, cache_examples=False,
                label="Or one of these (rendered, nobody real)",
            )  # fmt: skip
        button.click(show, crop, answer, api_name="show")
    return page


def main(argv: list[str] | None = None) -> int:
    """Serve the page; bad input is one line on stderr and exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "checkpoint",
        nargs="?",
        default=os.environ.get("PATCHIT_CHECKPOINT"),
        help="a run's folder, or org/name[@revision] on the Hub; $PATCHIT_CHECKPOINT by default",
    )
    parser.add_argument("--port", type=int, help="of 127.0.0.1; the first free one from 7860 on")
    args = parser.parse_args(argv)
    try:
        if not args.checkpoint:
            raise InputError("name a checkpoint, as an argument or in PATCHIT_CHECKPOINT")
        checkpoint = Checkpoint(args.checkpoint)
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # end as by Ctrl-C
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder  # uploads are gone with the app
        people = [str(Path(folder, f"{row}.png")) for row in PEOPLE]
        for row, file in zip(PEOPLE, people, strict=True):
            render_person(row, seed=PEOPLE_SEED)["image"].save(file)
        font = ["system-ui", "sans-serif"]
        look = gr.themes.Default(primary_hue="blue", font=font, font_mono="monospace")
        options = {"share": False, "ssr_mode": False, "footer_links": [], "css": CSS, "theme": look}
        try:
            build(checkpoint, people).launch(server_port=args.port, **options)
        except OSError as error:  # the port is taken
            sys.stderr.write(f"error: {error}\n")
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
