"""patchit_hf: self-supervised PatchTask pretraining of timm backbones on person crops.

The public names are loaded when they are first used, so that ``import patchit_hf`` itself imports
neither torch nor transformers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from patchit_hf.common.public import lazily

if TYPE_CHECKING:
    from patchit_hf.common.errors import InputError as InputError
    from patchit_hf.crops.detections.objects import from_supervision as from_supervision
    from patchit_hf.crops.make import make_crops as make_crops
    from patchit_hf.data.formats import open_image as open_image
    from patchit_hf.data.people import load_people as load_people
    from patchit_hf.data.people import render_person as render_person
    from patchit_hf.data.source import load_crops as load_crops
    from patchit_hf.finetune.arguments import FinetuningArguments as FinetuningArguments
    from patchit_hf.finetune.trainer import FinetuneTrainer as FinetuneTrainer
    from patchit_hf.models.backbone import build_backbone as build_backbone
    from patchit_hf.models.build import build_model as build_model
    from patchit_hf.models.exported import model_args as model_args
    from patchit_hf.models.exported import pretrained_cfg as pretrained_cfg
    from patchit_hf.models.finetuned_model import FinetunedModel as FinetunedModel
    from patchit_hf.models.patch_task_model import PatchTaskModel as PatchTaskModel
    from patchit_hf.patch_tasks import create_task as create_task
    from patchit_hf.patch_tasks import list_tasks as list_tasks
    from patchit_hf.pretrain.arguments import TrainingArguments as TrainingArguments
    from patchit_hf.pretrain.trainer import PatchTaskTrainer as PatchTaskTrainer
    from patchit_hf.publish.registry import register as register

__version__ = "0.1.0"

_PUBLIC = {
    "FinetuneTrainer": "patchit_hf.finetune.trainer",
    "FinetuningArguments": "patchit_hf.finetune.arguments",
    "FinetunedModel": "patchit_hf.models.finetuned_model",
    "InputError": "patchit_hf.common.errors",
    "PatchTaskModel": "patchit_hf.models.patch_task_model",
    "PatchTaskTrainer": "patchit_hf.pretrain.trainer",
    "TrainingArguments": "patchit_hf.pretrain.arguments",
    "build_backbone": "patchit_hf.models.backbone",
    "build_model": "patchit_hf.models.build",
    "create_task": "patchit_hf.patch_tasks",
    "from_supervision": "patchit_hf.crops.detections.objects",
    "list_tasks": "patchit_hf.patch_tasks",
    "load_crops": "patchit_hf.data.source",
    "load_people": "patchit_hf.data.people",
    "make_crops": "patchit_hf.crops.make",
    "model_args": "patchit_hf.models.exported",
    "open_image": "patchit_hf.data.formats",
    "pretrained_cfg": "patchit_hf.models.exported",
    "register": "patchit_hf.publish.registry",
    "render_person": "patchit_hf.data.people",
}

__all__ = [*_PUBLIC, "__version__"]
__getattr__, _ = lazily(__name__, _PUBLIC)


def __dir__() -> list[str]:
    return sorted(__all__)
