"""Finetuner: the public face of finetuning, on the same loop as pretraining."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from patchit_hf.common.draws import Draws
from patchit_hf.common.files import save_weights
from patchit_hf.common.layout import CHECKPOINTS
from patchit_hf.data.ahead import crops_on
from patchit_hf.downstream.augment import Geometry, centre, vary
from patchit_hf.downstream.base import DownstreamTask
from patchit_hf.finetune.arguments import FinetuningArguments
from patchit_hf.finetune.follow import Follower
from patchit_hf.finetune.labelled import Labelled
from patchit_hf.finetune.predict import predict
from patchit_hf.finetune.setup import (
    STATISTICS_CROPS,
    augmentation_of,
    crop_statistics,
    freeze_unused,
    sampled,
    try_once,
)
from patchit_hf.models.backbone import has_batch_norm
from patchit_hf.models.features import reestimate_batch_norm
from patchit_hf.models.finetuned_model import FinetunedModel
from patchit_hf.models.initial_weights import Initial, reinitialize_last_stage
from patchit_hf.publish.finetuned import export_finetuned
from patchit_hf.training import loop as engine
from patchit_hf.training.accelerator import create_accelerator, use_all_cores
from patchit_hf.training.arguments import in_steps
from patchit_hf.training.checkpoint import load_checkpoint, save_checkpoint
from patchit_hf.training.optim import create_optimizer, schedule
from patchit_hf.training.run_folder import RunFolder
from patchit_hf.training.share import Share, count_steps, steps_per_epoch

logger = logging.getLogger(__name__)

BEST_FILE = "best.safetensors"  # among the checkpoints: the weights that did best so far


class Finetuner:
    """Train a backbone and a head on labelled crops.

    Args:
        initial: the backbone with its initial weights.
        task: the downstream task.
        args: how to train.
        train: labelled training crops.
        validation: labelled held-out crops, or None.
        geometry: from crops to inputs.
        run: the run's folder.
        data_info: what the records say about the data.

    Raises:
        InputError: for a configuration that cannot work.
    """

    def __init__(
        self,
        initial: Initial,
        task: DownstreamTask,
        args: FinetuningArguments,
        train: Labelled,
        validation: Labelled | None,
        geometry: Geometry,
        run: RunFolder,
        data_info: dict[str, Any] | None = None,
    ) -> None:
        self.initial, self.task, self.args, self.run = initial, task, args, run
        self.data, self.validation, self.geometry = train, validation, geometry
        known = {"name": "dataset", "split": None, "rendered": False}
        known["validated_on"] = "crops of the caller's choice"
        self.data_info = {**known, **(data_info or {})}
        self.accelerator = create_accelerator(args, run.path)
        use_all_cores(self.accelerator)
        self.augmentation = augmentation_of(task, args)
        self.task = task.fit(train.targets).with_input_size(geometry.size)
        self.share = Share.of(args, self.accelerator.process_index, self.accelerator.num_processes)
        self.max_steps = count_steps(args, len(train), self.share)
        per_epoch = steps_per_epoch(len(train), self.share)
        self.lr_at = schedule(args, self.max_steps, per_epoch)
        self.model = self._build()
        optimizer = create_optimizer(
            self.model.parameter_groups(args.weight_decay, args.layer_decay),
            args.optim, args.learning_rate, args.weight_decay, **args.optim_args,
        )  # fmt: skip
        self.prepared, self.optimizer = self.accelerator.prepare(self.model, optimizer)
        self.follower: Follower | None = None
        self.seconds = 0.0

    @property
    def is_main(self) -> bool:
        """Whether this process writes and speaks."""
        return bool(self.accelerator.is_main_process)

    def train(self) -> dict[str, Any]:
        """Train to the end, from the newest checkpoint if there is one, and export.

        Returns:
            The results, as in ``patchit.json``.

        Raises:
            FloatingPointError: if the loss stops being finite; checkpoints stay.
        """
        start = self._resume()
        if self.is_main:
            self.run.start()
        self.accelerator.wait_for_everyone()
        self.follower = follower = Follower(self, start)
        if start == 0 and self.args.reestimate_batch_norm:
            self._reestimate()
        began = time.perf_counter()
        try:
            engine.train(
                self.accelerator,
                self.prepared,
                self.optimizer,
                self._parts(start),
                self.task.loss,
                steps=range(start, start if follower.stopped else self.max_steps),
                accumulation=self.share.accumulation,
                lr=self.lr_at,
                max_grad_norm=self.args.max_grad_norm,
                seed=self.args.seed,
                replay=self.args.cuda_graphs,
                before_step=lambda step: None,
                after_step=self._after_step,
            )
        finally:
            follower.close()
            self.seconds += time.perf_counter() - began
        self._take_best()
        self.accelerator.wait_for_everyone()
        self.save_pretrained()
        return self.results()

    def evaluate(self) -> dict[str, float]:
        """Return the task's figures on the validation crops, empty without any."""
        if self.validation is None:
            return {}
        predictions, targets = predict(
            self.model, self.validation, self.task, self.geometry, self.accelerator
        )
        return self.task.measure(predictions, targets).summary

    def results(self) -> dict[str, Any]:
        """Return what the run measured of the weights that it kept."""
        return {} if self.follower is None else self.follower.results()

    def save_pretrained(self, folder: str | Path | None = None) -> Path:
        """Write the model, its record and its card; the run's own folder by default."""
        target = Path(folder or self.run.path)
        if self.is_main:
            export_finetuned(target, self)
        self.accelerator.wait_for_everyone()
        return target

    def _build(self) -> FinetunedModel:
        backbone: Any = self.initial.backbone
        if self.args.reinit_last_stage:
            reinitialize_last_stage(backbone, self.args.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.args.seed)
            head = self.task.head(int(backbone.num_features))
        model = FinetunedModel(backbone, head, frozen=self.args.freeze)
        mean, std = self.initial.statistics or crop_statistics(self.data, self.geometry)
        model.set_statistics(mean, std)
        try_once(model, self.geometry, self.initial.name)
        freeze_unused(model, self.geometry)
        return model.to(memory_format=torch.channels_last)

    def _reestimate(self) -> None:
        """Set batch statistics to those of whole crops; every process sees the same ones."""
        if not has_batch_norm(self.model.backbone):
            return
        device = self.accelerator.device

        def inputs() -> Iterator[Tensor]:
            rows = sampled(len(self.data), STATISTICS_CROPS)
            parts = self.data.select(rows)
            for crops, _ in parts.batches(max(2, -(-len(rows) // max(1, len(rows) // 64)))):
                if len(crops) > 1:
                    yield self.model.normalize(centre(crops.to(device), self.geometry)[0])

        reestimate_batch_norm(self.model.backbone, inputs())

    def _parts(self, start: int) -> Iterator[engine.Part]:
        device, seed = self.accelerator.device, self.args.seed
        plan = (
            (index, numbers, self.task.rows(seed, numbers, self.data.targets))
            for index, numbers in self.share.numbers(start)
        )
        # Planned twice, because the store reads ahead: the plan is a function, not a state.
        rows = (
            self.data.rows[self.task.rows(seed, numbers, self.data.targets)]
            for _, numbers in self.share.numbers(start)
        )
        batches = crops_on(self.data.store, rows, device)
        for (index, numbers, places), crops in zip(plan, batches, strict=False):
            draws = Draws(seed, numbers, device)
            x, view = vary(crops, self.geometry, self.augmentation, draws)
            targets = self.task.moved(self.data.targets[places].to(device), view)
            yield engine.Part(x.contiguous(memory_format=torch.channels_last), targets, index)

    def _after_step(self, step: int, means: engine.Means) -> bool:
        if self.follower is None:
            raise RuntimeError("a step without a run")
        done, follower = step + 1, self.follower
        last = done == self.max_steps
        evaluates = last or engine.due(done, in_steps(self.args.eval_steps, self.max_steps))
        follower.step(done, means, look=evaluates or engine.due(done, self.args.logging_steps))
        if evaluates and follower.record(self.evaluate()) and self.args.load_best_model_at_end:
            self._save_best()
        saves = engine.due(done, in_steps(self.args.save_steps, self.max_steps))
        if (saves or last or follower.stopped) and self.args.save_steps > 0:
            follower.flush()
            self._save(done)
        return follower.stopped is not None

    def _save_best(self) -> None:
        if self.is_main:
            folder = self.run.path / CHECKPOINTS
            folder.mkdir(exist_ok=True)
            save_weights(self.model, folder / BEST_FILE)
        self.accelerator.wait_for_everyone()

    def _take_best(self) -> None:
        file = self.run.path / CHECKPOINTS / BEST_FILE
        if self.args.load_best_model_at_end and file.exists():
            self.model.load_state_dict(load_file(file))

    def _config_with_data(self) -> dict[str, Any]:
        config = {**self.run.config, "data_fingerprint": self.data.store.fingerprint}
        return dict(json.loads(json.dumps(config)))

    def _save(self, done: int) -> None:
        if self.is_main and self.follower is not None:
            save_checkpoint(
                self.run.path / CHECKPOINTS,
                done,
                self._config_with_data(),
                self.model,
                self.optimizer,
                self.accelerator.scaler,
                {"seconds": self.follower.seconds},
                self.args.save_total_limit,
            )
        self.accelerator.wait_for_everyone()

    def _resume(self) -> int:
        folder = self.run.newest_checkpoint()
        if folder is None:
            return 0
        step, notes = load_checkpoint(
            folder, self._config_with_data(), self.model, self.optimizer, self.accelerator.scaler
        )
        self.seconds = float(notes["seconds"])
        if self.is_main:
            logger.info("continuing after step %d of %d from %s", step, self.max_steps, folder)
        return step
