"""A timm network as it was asked for, and as weights that have to be its own allow."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
from huggingface_hub.errors import HTTPError
from torch import nn

from patchit_hf.common.errors import InputError, one_line
from patchit_hf.common.hub_access import USUAL, HubAccess
from patchit_hf.models.backbone import check_name, constructor_parameters, model_traits
from patchit_hf.models.bounds import check_size
from patchit_hf.models.weights_fit import Shapes, check_fit, misfit, tensor_shapes


@dataclass(frozen=True)
class Request:
    """A network with initial weights, as it was asked for.

    Attributes:
        source: what the weights are, as ``--init`` says it.
        backbone: timm's architecture name; None where the source brings its own.
        num_classes: outputs of the classifier, 0 for none.
        size: height and width of the inputs, for networks of a fixed size.
        kwargs: further arguments of the timm model.
        network_args: returns the arguments that every network of this name is built with.
        access: how the Hub is read.
    """

    source: str
    backbone: str | None
    num_classes: int
    size: tuple[int, int] | None
    kwargs: dict[str, Any]
    network_args: Callable[[str], dict[str, Any]]
    access: HubAccess = USUAL

    def named(self) -> str:
        """Return the name of the network, which has to be given."""
        if self.backbone is None:
            raise InputError(f"--init {self.source!r}: needs --backbone, such as resnet18")
        check_name(self.backbone)
        return self.backbone

    def args(self, name: str) -> dict[str, Any]:
        """Return the arguments that the network is built with, beyond those of its weights."""
        return {**self.network_args(name), **self.kwargs}

    def create(
        self, name: str, args: dict[str, Any], full_name: str | None = None, **weights: Any
    ) -> nn.Module:
        """Build the network with timm; one of a fixed size is built for the given input size."""
        args = self.sized(name, args)
        try:
            model: nn.Module = timm.create_model(
                full_name or name, num_classes=self.num_classes, **weights, **args
            )
        except (RuntimeError, ValueError, TypeError, OSError, KeyError, HTTPError) as error:
            text = one_line(error)
            raise InputError(
                f"--init {self.source!r}: cannot be loaded into {name}: {text}"
            ) from error
        return model

    def sized(self, name: str, args: dict[str, Any]) -> dict[str, Any]:
        """Return a copy of the arguments, with the input size for networks of a fixed size."""
        args = copy.deepcopy(args)
        if self.size is not None and _takes_size(name):
            args["img_size"] = list(self.size)
        return args

    def create_from(
        self, there: Shapes, name: str, args: dict[str, Any], **weights: Any
    ) -> nn.Module:
        """Build the network with weights of these shapes, which have to be this network's."""
        try:
            return self.create(name, args, pretrained=True, **weights)
        except InputError as error:
            raise misfit(there, name, self.source, self.plain(name, args)) or error from error

    def create_from_file(
        self, file: Path, name: str, args: dict[str, Any], **weights: Any
    ) -> nn.Module:
        """Build the network with the weights of a file, which have to be this network's."""
        shapes = tensor_shapes(file, f"--init {self.source!r}:")
        sized = self.plain(name, args)
        check_size(
            lambda: timm.create_model(name, num_classes=self.num_classes, **sized),
            shapes,
            f"--init {self.source!r}",
        )
        model = self.create_from(shapes, name, args, **weights)
        check_fit(model, file, name, self.source, self.plain(name, args))
        return model

    def plain(self, name: str, args: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of the network itself."""
        sized = self.sized(name, args)
        sized.pop("pretrained_model_args", None)
        return sized


def _takes_size(name: str) -> bool:
    """Return whether the network has a fixed input size that can be set by ``img_size``."""
    model_class, fixed = model_traits(name)
    return fixed and "img_size" in constructor_parameters(model_class)
