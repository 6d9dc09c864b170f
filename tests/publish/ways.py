"""Execute every line of the table in ``docs/load.md``, against the Hub of the environment.

``python ways.py PAGE ARCHITECTURE...`` trains each architecture for two steps, pushes it, and
compares what each line gives with the network in memory. It prints a line for each comparison.
"""

import re
import sys
from pathlib import Path

import numpy as np
import timm
import torch
from huggingface_hub import HfApi

from patchit_hf import PatchTaskTrainer, TrainingArguments, create_task, load_people
from patchit_hf.models.backbone import feature_map, has_batch_norm
from patchit_hf.publish.upload import push_folder

PEOPLE = load_people(16)
PICTURE = PEOPLE[0]["image"].convert("RGB").resize((100, 200))
CROP = torch.from_numpy(np.array(PICTURE)).permute(2, 0, 1) / 255


class Trained:
    """What was trained, and what it answers."""

    def __init__(self, name: str, folder: str, seed: int) -> None:
        args = TrainingArguments(
            output_dir=folder,
            max_steps=2,
            train_batch_size=8,
            seed=seed,
            crop_cache_gb=0,
            figures=False,
        )
        trainer = PatchTaskTrainer(
            name, args, create_task("pt18"), PEOPLE, data_info={"name": "people"}
        )
        trainer.train()
        self.name, self.task = name, trainer.task
        self.model = trainer.model.cpu().eval().to(memory_format=torch.contiguous_format)
        self.net = self.model.backbone
        self.fixed = self.model.spec.fixed_size
        size = self.task.input_size if self.fixed else (192, 96)
        self.inputs = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))

    @property
    def seen(self) -> torch.Tensor:
        """The picture as the task shows it to the network, at the exported size."""
        mean, std = (
            torch.tensor(v)[:, None, None]
            for v in (self.task.transform.mean, self.task.transform.std)
        )
        return (CROP[:, 4:196, 2:98] - mean) / std


def same(found, wanted, tolerance=1e-5):
    assert found.shape == wanted.shape, (found.shape, wanted.shape)
    torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance)


def weights(net, trained):
    x = trained.inputs
    net.eval()
    same(net(x), trained.net(x))
    same(net.forward_features(x), trained.net.forward_features(x))
    assert net.num_classes == 0


def backbone(net, trained):
    weights(net, trained)
    settings = timm.data.resolve_data_config(model=net)
    transform(timm.data.create_transform(**settings), trained)


def classifier(net, trained):
    x = trained.inputs
    net.eval()
    assert net(x).shape == (2, 7)
    same(net.forward_features(x), trained.net.forward_features(x))
    same(net.forward_head(net.forward_features(x), pre_logits=True), trained.net(x))


def grey(net, trained):
    x = trained.inputs[:, :1]
    same(net.eval()(x), trained.net(x.expand(-1, 3, -1, -1)), 1e-4)


def stages(net, trained):
    maps = net.eval()(trained.inputs)
    wanted = trained.net.forward_intermediates(
        trained.inputs, indices=list(net.feature_info.out_indices), intermediates_only=True
    )
    assert len(maps) == len(wanted) > 1
    for found, map_ in zip(maps, wanted, strict=True):
        same(found, map_)


def other_size(net, trained):
    x = torch.randn(2, 3, 256, 128)
    same(net.eval()(x), trained.net(x))


def transform(compose, trained):
    same(compose(PICTURE), trained.seen)


def name(found, trained):
    assert found == f"patchit_{trained.name}.people"


def timm_name(found, trained):
    assert found == f"{trained.name}.patchit_people"


def listed(found, trained):
    assert f"patchit_{trained.name}.people" in found
    assert timm.list_models(f"{trained.name}.a1_in1k") in ([], [f"{trained.name}.a1_in1k"])


def config(found, trained):
    assert (found.model_type, found.architecture) == ("timm_wrapper", trained.name)
    assert found.num_labels == 0


def processor(found, trained):
    same(found(PICTURE)["pixel_values"][0], trained.seen)


def auto_model(found, trained):
    output = found.eval()(trained.inputs)
    same(output.pooler_output, trained.net(trained.inputs))
    same(output.last_hidden_state, trained.net.forward_features(trained.inputs))


def auto_classifier(found, trained):
    assert found.eval()(trained.inputs).logits.shape == (2, 7)
    classifier(found.timm_model, trained)


def features(found, trained):
    wanted = trained.net.forward_features(trained.seen[None])
    same(torch.tensor(found(PICTURE)), wanted, 1e-4)


def timm_backbone(found, trained):
    (map_,) = found.eval()(trained.inputs).feature_maps
    wanted = trained.net.forward_intermediates(trained.inputs, indices=1, intermediates_only=True)
    same(map_, wanted[-1], 1e-4)


def forgets(found, trained):
    """Why the page says so of transformers 5.23. Where this fails, its advice can go."""
    state, wanted = found._backbone.state_dict(), trained.net.state_dict()
    means = [name for name in state if name.endswith("running_mean")]
    assert means
    assert all(wanted[name].any() and not state[name].any() for name in means)


def patch_task_model(found, trained):
    patches = torch.randn(4, 3, *trained.task.input_size)
    same(found(patches), trained.model(patches))
    assert found.task.kwargs == trained.task.kwargs
    assert found.task.canvas == trained.task.canvas
    assert found.task.transform == trained.task.transform
    same(feature_map(found.backbone, patches), feature_map(trained.net, patches))


CHECKS = {
    "the backbone": backbone,
    "the backbone, from a folder": backbone,
    "a branch, tag or commit": backbone,
    "a new classifier": classifier,
    "grey pictures": grey,
    "the maps of every stage": stages,
    "a vision transformer for another size": other_size,
    "the transform of the input": transform,
    "timm's network by its name": backbone,
    "the same, for vision transformers too": backbone,
    "timm's configuration, overlaid": backbone,
    "the weights alone (input settings stay timm's)": weights,
    "a name in timm": name,
    "the backbone by that name": backbone,
    "timm's list with it": listed,
    "a name beside timm's own checkpoints (needs private parts of timm)": timm_name,
    "the backbone by that name, beside timm's own": backbone,
    "transformers' configuration": config,
    "transformers' image processor": processor,
    "the backbone in transformers": auto_model,
    "a new classifier in transformers": auto_classifier,
    "a pipeline from picture to features": features,
    "a backbone for detectors, batch norms frozen": timm_backbone,
    "the same, for networks without batch norm": timm_backbone,
    "backbone, pretext head and task, to go on": patch_task_model,
}
NOT_FOR_VITS = {
    "timm's network by its name",
    "timm's configuration, overlaid",
    "the weights alone (input settings stay timm's)",
}
VITS_ONLY = {"a vision transformer for another size"}
WITHOUT_BATCH_NORM = {"the same, for networks without batch norm"}
ONCE = {
    "a name in timm",
    "a name beside timm's own checkpoints (needs private parts of timm)",
}  # from the folder, the name is taken by then


def read_table(page: Path) -> tuple[str, dict[str, str]]:
    """Return the imports and the lines of the page's table."""
    text = page.read_text(encoding="utf-8")
    imports = text.split("```python\n")[1].split("```")[0]
    return imports, dict(re.findall(r"^\| ([^|]+) \| `([^`]+)` \|$", text, re.M))


def main(page: str, *architectures: str) -> None:
    """Train, push, execute, compare."""
    imports, table = read_table(Path(page))
    assert list(table) == list(CHECKS), set(table) ^ set(CHECKS)
    scope: dict = {}
    exec(imports, scope)
    for architecture in architectures:
        repo, folder = f"org/{architecture}", f"runs/{architecture}"
        old = Trained(architecture, f"{folder}-old", seed=1)
        push_folder(f"{folder}-old", repo)
        HfApi().create_tag(repo, tag="v1")
        new = Trained(architecture, folder, seed=0)
        push_folder(folder, repo)
        is_vit = bool(new.model.spec.args)
        for label, line in table.items():
            if label in (NOT_FOR_VITS if is_vit else VITS_ONLY):
                continue
            if label in WITHOUT_BATCH_NORM and has_batch_norm(new.net):
                forgets(eval(line.replace("hf-hub:org/name", f"local-dir:{folder}"), scope), new)
                continue
            line = line.replace('"resnet18', f'"{architecture}')
            line = line.replace('"patchit_resnet18', f'"patchit_{architecture}')
            hub = line.replace("org/name", repo).replace("runs/mine", folder)
            local = line.replace("hf-hub:org/name", f"local-dir:{folder}")
            local = local.replace("org/name", folder).replace("runs/mine", folder)
            for code in [hub] if "@v1" in line or label in ONCE else dict.fromkeys((hub, local)):
                with torch.no_grad():
                    CHECKS[label](eval(code, scope), old if "@v1" in line else new)
                print(f"equal: {architecture}: {label}: {code}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
