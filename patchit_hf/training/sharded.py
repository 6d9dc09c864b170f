"""FSDP2: the weights that are trained, their gradients and the optimiser's states, in parts.

Accelerate's configuration asks for it and says how. The parts are torch's ``fully_shard``, on GPUs
and on CPU processes alike. Beside them each process keeps the whole network as it was before: it
evaluates, is saved and exported, and gets the trained weights when it is asked for. So checkpoints
are those of any other run, and a run may go on with or without FSDP2.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from patchit_hf.common.errors import InputError
from patchit_hf.training.optim import OPTIONS, create_optimizer

ASKED = "ACCELERATE_USE_FSDP"  # set by ``accelerate launch``, as those below
LAYERS = "Block,EvaBlock"  # of timm's vision transformers
OPTIMIZERS = ("adamw", "sgd")  # those that treat every number of a weight by itself, and were tried
_TRUE = ("true", "1", "yes", "y", "on", "t")


@dataclass(frozen=True)
class Sharding:
    """How a network is divided.

    Attributes:
        layers: names of the classes whose weights are gathered together, one layer at a time; none
            to gather the whole network at once.
        reshard: whether a layer's whole weights are let go of between forward and backward pass.
    """

    layers: tuple[str, ...] = tuple(LAYERS.split(","))
    reshard: bool = True


def sharding_of(environ: Mapping[str, str]) -> Sharding | None:
    """Return how Accelerate's configuration divides the network; None if it does not.

    Raises:
        InputError: for settings that are not supported.

    Example:
        >>> sharding_of({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"})
        Sharding(layers=('Block', 'EvaBlock'), reshard=True)
    """

    def on(name: str, default: str = "false") -> bool:
        return environ.get(name, default).lower() in _TRUE

    if not on(ASKED):
        return None
    version = environ.get("FSDP_VERSION", "1")
    if version != "2":
        raise InputError(
            f"FSDP_VERSION {version!r}: must be 2 (fsdp_version: 2 in accelerate's configuration)"
        )
    for name in ("FSDP_OFFLOAD_PARAMS", "FSDP_ACTIVATION_CHECKPOINTING"):
        if on(name):
            raise InputError(
                f"{name} {environ[name]!r}: is not supported; set {name.lower()}: false in "
                "accelerate's configuration"
            )
    policy = environ.get("FSDP_AUTO_WRAP_POLICY", "TRANSFORMER_BASED_WRAP")
    if policy not in ("TRANSFORMER_BASED_WRAP", "NO_WRAP"):
        raise InputError(
            f"FSDP_AUTO_WRAP_POLICY {policy!r}: must be TRANSFORMER_BASED_WRAP or NO_WRAP"
        )
    names = environ.get("FSDP_TRANSFORMER_CLS_TO_WRAP") or LAYERS
    layers = () if policy == "NO_WRAP" else tuple(name.strip() for name in names.split(","))
    return Sharding(layers, on("FSDP_RESHARD_AFTER_FORWARD", "true"))


@dataclass(frozen=True)
class Snapshot:
    """An optimiser's state, in the place of an optimiser that is saved."""

    state: dict[str, Any]

    def state_dict(self) -> dict[str, Any]:
        """Return the state."""
        return self.state


class Sharded:
    """A network in parts, beside the whole one.

    All methods are called by all processes together.

    Args:
        whole: the network; its parameters stay as they are.
        sharding: how it is divided.
        accelerator: the processes.

    Attributes:
        module: the network in parts, which is trained.

    Raises:
        InputError: for a network or a precision that is not supported.
    """

    def __init__(self, whole: nn.Module, sharding: Sharding, accelerator: Accelerator) -> None:
        _check(whole, accelerator)
        self.whole, self.sharding = whole.to(accelerator.device), sharding
        parts = copy.deepcopy(whole).to(memory_format=torch.contiguous_format)
        for parameter in parts.parameters():  # one in another layout cannot be divided
            parameter.data = parameter.data.contiguous()
        parts = accelerator.prepare_model(parts, evaluation_mode=True)  # device and precision
        self.module = self._divide(parts, accelerator)
        self.optimizer: Any = None
        self._fused: Any = None

    def _divide(self, module: nn.Module, accelerator: Accelerator) -> nn.Module:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
        wanted = self.sharding.layers
        layers = [m for m in module.modules() if type(m).__name__ in wanted and m is not module]
        if wanted and not layers:
            found = sorted({type(m).__name__ for m in module.modules() if [*m.children()]})
            raise InputError(
                f"FSDP_TRANSFORMER_CLS_TO_WRAP {','.join(wanted)!r}: the network has no such "
                f"layer; it has {', '.join(found)}"
            )
        for layer in layers:
            fully_shard(layer, mesh=mesh, reshard_after_forward=self.sharding.reshard)
        fully_shard(module, mesh=mesh)
        return module

    def create_optimizer(
        self, parameters: Any, name: str, learning_rate: float, weight_decay: float, **options: Any
    ) -> torch.optim.Optimizer:
        """Build an optimiser of the parts; see ``create_optimizer``.

        Args:
            parameters: the whole network, or groups of its parameters.
            name: timm's name of the optimiser.
            learning_rate: the peak learning rate.
            weight_decay: weight decay of all parameters that are not in a group with its own.
            **options: options of the optimiser.

        Raises:
            InputError: for an optimiser that needs a weight as a whole.
        """
        if name.lower() not in OPTIMIZERS:
            raise InputError(
                f"--optimizer {name!r}: with FSDP it must be one of {', '.join(OPTIMIZERS)}"
            )
        if isinstance(parameters, nn.Module):
            parameters = self.module
        else:
            names = {id(p): name for name, p in self.whole.named_parameters()}
            mine = dict(self.module.named_parameters())
            parameters = [
                {**group, "params": [mine[names[id(p)]] for p in group["params"]]}
                for group in parameters
            ]
        self._fused = {**OPTIONS.get(name.lower(), {}), **options}.get("fused")
        options |= {"fused": False}  # torch's fused SGD knows no parts
        return create_optimizer(parameters, name, learning_rate, weight_decay, **options)

    @torch.no_grad()
    def gather(self) -> None:
        """Give the whole network the trained weights."""
        for whole, part in self._pairs():
            whole.copy_(_whole(part))
        for name, buffer in self.module.named_buffers():
            self.whole.get_buffer(name).copy_(buffer)

    @torch.no_grad()
    def scatter(self) -> None:
        """Give the parts the weights of the whole network, which is that of the main process."""
        for whole, part in self._pairs():
            part.copy_(_like(whole.detach(), part))
        for name, buffer in self.module.named_buffers():  # the whole network may have more
            buffer.copy_(self.whole.get_buffer(name))

    @torch.no_grad()
    def gather_gradients(self) -> None:
        """Give the whole network the gradients of this step."""
        for whole, part in self._pairs():
            whole.grad = None if part.grad is None else _whole(part.grad).clone()

    def forget_gradients(self) -> None:
        """Take the whole network's gradients away."""
        for parameter in self.whole.parameters():
            parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Return the optimiser's state as that of a run without parts, on the CPU."""
        state, whole = self.optimizer.state_dict(), {id(part): p for p, part in self._pairs()}
        held = {
            key: _gathered(values, whole[id(part)])
            for (key, values), part in zip(state["state"].items(), self._parts(state), strict=True)
        }
        return {"state": held, "param_groups": _with(state["param_groups"], fused=self._fused)}

    def snapshot(self) -> Snapshot:
        """Return the optimiser's state, whole, for the one process that saves it."""
        return Snapshot(self.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the state of an optimiser of whole weights.

        Raises:
            ValueError: if it is that of other weights.
        """
        held = {
            key: {
                name: _like(value, part) if _is_divided(value, part) else value
                for name, value in values.items()
            }
            for (key, values), part in zip(state["state"].items(), self._parts(state), strict=True)
        }
        groups = _with(state["param_groups"], fused=False)
        self.optimizer.load_state_dict({"state": held, "param_groups": groups})

    def _parts(self, state: dict[str, Any]) -> list[nn.Parameter]:
        """Return the parameter that each entry of an optimiser's state is about."""
        parts = [p for group in self.optimizer.param_groups for p in group["params"]]
        return [parts[key] for key in state["state"]]

    def _pairs(self) -> Iterator[tuple[nn.Parameter, nn.Parameter]]:
        """Yield each parameter, of the whole network and of the parts."""
        yield from zip(self.whole.parameters(), self.module.parameters(), strict=True)


def _check(whole: nn.Module, accelerator: Accelerator) -> None:
    """Check that a network can be trained in parts.

    Raises:
        InputError: if not.
    """
    if any(name.endswith("running_mean") for name, _ in whole.named_buffers()):
        raise InputError(
            "FSDP: the network has batch normalisation, which is not supported; leave FSDP out of "
            "accelerate's configuration"
        )
    if accelerator.mixed_precision == "fp16":
        raise InputError("--mixed-precision 'fp16': must be no or bf16 with FSDP")
    if str(accelerator.state.dynamo_plugin.backend.value).upper() != "NO":
        raise InputError("FSDP: the network cannot be compiled, too; leave one of the two out")


def _whole(value: Tensor) -> Tensor:
    """Return a tensor whose parts the processes hold; any other as it is."""
    full: Callable[[], Tensor] | None = getattr(value, "full_tensor", None)
    return value if full is None else full()


def _like(value: Tensor, part: Tensor) -> Tensor:
    """Return this process's part of a whole tensor, divided as another one is."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(part, DTensor):
        return value
    whole = value.to(part.device).contiguous()
    return distribute_tensor(whole, part.device_mesh, part.placements)


def _with(groups: list[dict[str, Any]], **values: Any) -> list[dict[str, Any]]:
    return [{**group, **values} for group in groups]


def _is_divided(value: Any, part: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == part.shape and value.dim() > 0


def _gathered(held: dict[str, Any], whole: nn.Parameter) -> dict[str, Any]:
    """Return one parameter's state, whole and on the CPU, in the layout of the whole parameter.

    Fused optimisers take it for granted that a parameter and its state have one layout.
    """

    def gathered(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        value = _whole(value)
        same = value.shape == whole.shape
        return (
            torch.empty_like(whole, dtype=value.dtype).copy_(value).cpu() if same else value.cpu()
        )

    return {name: gathered(value) for name, value in held.items()}
